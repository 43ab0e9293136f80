//! Services of questions and answers of one type each.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use tidewire_shm::Segment;

use super::client_end::ClientEnd;
use super::desk::Duty;
use super::record::CallNumber;
use super::server_end::{Asked, ServerEnd};
use crate::error::{CallError, Corrupt, OpenError, RecvError, RecvTimeoutError, ReplyError, TryRecvError};
use crate::ground::Ground;
use crate::message::Message;
use crate::options::{Options, Wait};
use crate::rest::Until;
use crate::typed::Leaving;

/// The end of a service that asks. `Send`, not `Sync`; for another thread [open another one](Self::try_clone).
///
/// # Guarantees
/// - Every call ends, with its answer or an error that says why there is none: within a millisecond when the server is gone or
///   dead. A server that is only stopped is waited for, unless a time was given.
/// - A call is begun by one server at most: what ended as [`CallError::Disconnected`] is not asked again by itself, and not
///   answered by a server that comes later. Whether the server that went had begun it is not known.
/// - An answer is only ever given to the call that asked, whatever died or came late.
/// - While the server is awake, no system call, no allocation and no lock.
/// - A peer may write anything anywhere: a call gives what the peer made up, or an error, or waits; not longer than it was to.
///
/// # Examples
/// Many calls in flight, answered in any order:
/// ```
/// # let (client, mut server) = tidewire::service::<u64, u64>()?;
/// let (first, second) = (client.start(1)?, client.start(2)?);
/// let requests = [server.recv()?, server.recv()?];
/// for request in requests.into_iter().rev() {
///     let answer = 10 * *request;
///     request.reply(answer)?;
/// }
/// assert_eq!((first.wait()?, second.wait()?), (10, 20));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Client<Q: Message, R: Message> {
    pub(super) end: RefCell<ClientEnd<R>>,
    memory: Segment,
    _leaving: Leaving,
    options: Options,
    _asks: PhantomData<fn(Q)>,
}

impl<Q: Message, R: Message> Client<Q, R> {
    pub(super) fn on(ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let leaving = Leaving::of(&ground, options);
        let (end, memory) = ClientEnd::new(ground, options.wait)?;
        let end = RefCell::new(end);
        Ok(Self { end, memory, _leaving: leaving, options: options.clone(), _asks: PhantomData })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`CallError::Disconnected`] if no server is there, or it goes; [`CallError::Dropped`] if it has no answer;
    /// [`CallError::Full`] if all calls that there can be are in flight, and some of them are still wanted.
    #[inline]
    pub fn call(&self, question: Q) -> Result<R, CallError> {
        let mut end = self.end.borrow_mut();
        let id = end.start_until(bytemuck::bytes_of(&question), Until::NEVER)?;
        end.wait(id, Until::NEVER)
    }

    /// As [`call`](Self::call), but does not wait longer than `time`. Then the call is cancelled.
    ///
    /// # Errors
    /// As [`call`](Self::call), and [`CallError::Timeout`].
    pub fn call_timeout(&self, question: Q, time: Duration) -> Result<R, CallError> {
        let mut end = self.end.borrow_mut();
        let until = Until::after(time);
        let id = end.start_until(bytemuck::bytes_of(&question), until)?;
        let answer = end.wait(id, until);
        if matches!(answer, Err(CallError::Timeout)) {
            end.abandon(id);
        }
        answer
    }

    /// Asks, and does not wait: many calls can be in flight, and be answered in any order.
    ///
    /// # Errors
    /// As [`call`](Self::call), and [`CallError::Full`] also if there is no room now.
    #[inline]
    pub fn start(&self, question: Q) -> Result<Pending<'_, Q, R>, CallError> {
        let id = self.end.borrow_mut().start(bytemuck::bytes_of(&question))?;
        Ok(Pending { client: self, id, is_open: true })
    }

    /// The call that was [kept](Pending::into_id) under this number; `None` if this client has none (any more).
    pub fn pending(&self, id: CallId) -> Option<Pending<'_, Q, R>> {
        let known = self.end.borrow_mut().knows(id.0);
        known.then_some(Pending { client: self, id: id.0, is_open: true })
    }

    /// Another end of the same service, for another thread.
    ///
    /// # Errors
    /// As [`Options::client`].
    pub fn try_clone(&self) -> Result<Self, OpenError> {
        match self.memory.name() {
            Some(name) => self.options.client(name.as_str()),
            None => {
                let fd = self.memory.try_clone_fd()?;
                self.options.client_on(Segment::from_fd_with(fd, &self.options.segment_options())?)
            }
        }
    }

    /// Whether somebody is there to answer.
    pub fn is_connected(&self) -> bool {
        self.end.borrow_mut().is_connected()
    }

    /// Calls that were not answered yet, those included that nobody waits for any more.
    pub fn in_flight(&self) -> usize {
        self.end.borrow().in_flight().0
    }

    /// Calls that can be in flight.
    pub fn capacity(&self) -> usize {
        self.end.borrow().in_flight().1
    }

    /// Chooses how to wait from now on.
    pub fn set_wait(&mut self, wait: Wait) {
        self.end.get_mut().set_wait(wait);
    }

    /// The memory of the service, to hand it to other processes.
    pub fn memory(&self) -> &Segment {
        &self.memory
    }
}

impl<Q: Message, R: Message> fmt::Debug for Client<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

/// The number of a call that was kept for later: see [`Pending::into_id`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "it is the only way to the answer"]
pub struct CallId(pub(super) CallNumber);

/// A call in flight. Dropping it cancels the call: the server can [see that](Request::is_cancelled), and what it answers is
/// thrown away.
#[must_use = "dropping it cancels the call"]
pub struct Pending<'c, Q: Message, R: Message> {
    pub(super) client: &'c Client<Q, R>,
    pub(super) id: CallNumber,
    /// Whether the answer was not taken.
    pub(super) is_open: bool,
}

impl<Q: Message, R: Message> Pending<'_, Q, R> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// As [`Client::call`].
    #[inline]
    pub fn wait(mut self) -> Result<R, CallError> {
        if !self.is_open {
            return Err(CallError::Taken);
        }
        self.is_open = false;
        self.client.end.borrow_mut().wait(self.id, Until::NEVER)
    }

    /// Waits for the answer, but not longer than `time`; then the call goes on, and can be waited for again.
    ///
    /// # Errors
    /// As [`Client::call`], and [`CallError::Timeout`]; [`CallError::Taken`] if it was taken before.
    pub fn wait_timeout(&mut self, time: Duration) -> Result<R, CallError> {
        if !self.is_open {
            return Err(CallError::Taken);
        }
        let answer = self.client.end.borrow_mut().wait(self.id, Until::after(time));
        self.is_open = matches!(answer, Err(CallError::Timeout));
        answer
    }

    /// The answer, or the error, if it is there; `None` if it is not there yet, or was taken before.
    pub fn try_take(&mut self) -> Option<Result<R, CallError>> {
        if !self.is_open {
            return None;
        }
        let answer = self.client.end.borrow_mut().try_take(self.id);
        self.is_open = answer.is_none();
        answer
    }

    /// Keeps the call in flight without borrowing the client: [`Client::pending`] finds it again. If nobody asks, its place
    /// among the calls in flight is never free again.
    pub fn into_id(mut self) -> CallId {
        self.is_open = false;
        self.client.end.borrow_mut().leave_board(Some(self.id));
        CallId(self.id)
    }
}

impl<Q: Message, R: Message> Drop for Pending<'_, Q, R> {
    #[inline]
    fn drop(&mut self) {
        if self.is_open {
            self.client.end.borrow_mut().abandon(self.id);
        }
    }
}

impl<Q: Message, R: Message> fmt::Debug for Pending<'_, Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The end of a service that answers. `Send`, not `Sync`, not `Clone`.
///
/// # Guarantees
/// - No client can delay it: not by its death, by being stopped, or by asking and never looking for the answer.
/// - Requests of one client come in the order in which it asked, if it wants: it may ask many at a time, and they may be
///   answered in any order, also from other threads.
/// - While requests are there, no system call, and for messages no allocation; a lock, private to this process, for each answer.
/// - A peer may write anything anywhere: this end returns what the peer made up, or passes over it.
pub struct Server<Q: Message, R: Message> {
    /// What a look found, for the next call.
    pub(super) came: Option<Request<Q, R>>,
    pub(super) end: ServerEnd,
    _leaving: Leaving,
    _answers: PhantomData<fn(Q) -> R>,
}

impl<Q: Message, R: Message> Server<Q, R> {
    pub(super) fn on(ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let leaving = Leaving::of(&ground, options);
        Ok(Self {
            came: None,
            end: ServerEnd::new(ground, options.wait)?,
            _leaving: leaving,
            _answers: PhantomData,
        })
    }

    /// Takes a request if there is one.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] if there is none now; [`TryRecvError::ForkedChild`].
    #[inline]
    pub fn try_recv(&mut self) -> Result<Request<Q, R>, TryRecvError> {
        match self.came.take() {
            Some(request) => Ok(request),
            None => Ok(Request::new(self.end.try_take()?)),
        }
    }

    /// Waits for a request. That no client is there is no error: others may come.
    ///
    /// # Errors
    /// [`RecvError::ForkedChild`].
    #[inline]
    pub fn recv(&mut self) -> Result<Request<Q, R>, RecvError> {
        match self.came.take() {
            Some(request) => Ok(request),
            None => Ok(Request::new(self.end.take(Until::NEVER)?)),
        }
    }

    /// Waits for a request, but not longer than `time`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvTimeoutError::Timeout`].
    pub fn recv_timeout(&mut self, time: Duration) -> Result<Request<Q, R>, RecvTimeoutError> {
        match self.came.take() {
            Some(request) => Ok(request),
            None => Ok(Request::new(self.end.take(Until::after(time))?)),
        }
    }

    /// The requests that come.
    pub fn iter(&mut self) -> impl Iterator<Item = Request<Q, R>> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// What a client published that cannot be; each once. What such a client asks is not received any more, the others go on.
    pub fn take_corrupt(&mut self) -> Option<Corrupt> {
        self.end.take_corrupt()
    }

    /// Chooses how to wait from now on.
    pub fn set_wait(&mut self, wait: Wait) {
        self.end.set_wait(wait);
    }

    /// The memory of the service, to hand it to other processes.
    pub fn memory(&self) -> &Segment {
        &self.end.segment
    }
}

impl<Q: Message, R: Message> fmt::Debug for Server<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("memory", &self.end.segment).finish_non_exhaustive()
    }
}

/// A question that waits for its answer; derefs to the question. It can be kept while others are received, and be answered by
/// another thread. Dropping it tells whoever asked that there is no answer.
#[must_use = "dropping it says that there is no answer"]
pub struct Request<Q: Message, R: Message> {
    question: Q,
    duty: Duty,
    _answers: PhantomData<fn() -> R>,
}

impl<Q: Message, R: Message> Request<Q, R> {
    #[inline]
    pub(super) fn new((question, duty): Asked<Q>) -> Self {
        Self { question, duty, _answers: PhantomData }
    }

    /// The question.
    #[inline]
    #[must_use]
    pub fn value(&self) -> &Q {
        &self.question
    }

    /// Answers.
    ///
    /// # Errors
    /// [`ReplyError::Disconnected`] if whoever asked is gone, or the server was dropped. That a call was cancelled is no
    /// error.
    #[inline]
    pub fn reply(self, answer: R) -> Result<(), ReplyError> {
        self.duty.reply(bytemuck::bytes_of(&answer))
    }

    /// Whether nobody waits for the answer any more, as far as can be seen. Makes a system call.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.duty.is_cancelled()
    }

    /// Which client asked: a number from 0, that another one has when this one is gone.
    #[must_use]
    pub fn client(&self) -> u32 {
        self.duty.lane
    }
}

impl<Q: Message, R: Message> Deref for Request<Q, R> {
    type Target = Q;

    #[inline]
    fn deref(&self) -> &Q {
        &self.question
    }
}

impl<Q: Message, R: Message> fmt::Debug for Request<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("client", &self.client()).finish_non_exhaustive()
    }
}
