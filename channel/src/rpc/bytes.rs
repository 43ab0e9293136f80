//! Services of bytes: questions and answers of any length up to a longest one.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use tidewire_shm::Segment;

use super::client_end::ClientEnd;
use super::desk::Duty;
use super::record::CallNumber;
use super::server_end::{Asked, ServerEnd};
use super::typed::CallId;
use crate::error::{CallError, Corrupt, OpenError, RecvError, RecvTimeoutError, ReplyError, TryRecvError};
use crate::ground::Ground;
use crate::options::{Options, Wait};
use crate::rest::Until;
use crate::typed::Leaving;

/// The end of a service of bytes that asks. `Send`, not `Sync`. Each answer is a buffer of its own.
///
/// The guarantees are those of a [`Client`](crate::Client).
///
/// ```
/// let (client, mut server) = tidewire::Options::new().bytes_service(64)?;
/// let pending = client.start(b"ping")?;
/// let request = server.recv()?;
/// assert_eq!(&*request, b"ping");
/// request.reply(b"pong")?;
/// assert_eq!(pending.wait()?, b"pong");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BytesClient {
    pub(super) end: RefCell<ClientEnd<Vec<u8>>>,
    memory: Segment,
    _leaving: Leaving,
    options: Options,
}

impl BytesClient {
    pub(super) fn on(ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let leaving = Leaving::of(&ground, options);
        let (end, memory) = ClientEnd::new(ground, options.wait)?;
        Ok(Self { end: RefCell::new(end), memory, _leaving: leaving, options: options.clone() })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// As [`Client::call`](crate::Client::call), and [`CallError::TooLong`].
    pub fn call(&self, question: &[u8]) -> Result<Vec<u8>, CallError> {
        let mut end = self.end.borrow_mut();
        let id = end.start_until(question, Until::NEVER)?;
        end.wait(id, Until::NEVER)
    }

    /// As [`call`](Self::call), but does not wait longer than `time`. Then the call is cancelled.
    ///
    /// # Errors
    /// As [`call`](Self::call), and [`CallError::Timeout`].
    pub fn call_timeout(&self, question: &[u8], time: Duration) -> Result<Vec<u8>, CallError> {
        let mut end = self.end.borrow_mut();
        let until = Until::after(time);
        let id = end.start_until(question, until)?;
        let answer = end.wait(id, until);
        if matches!(answer, Err(CallError::Timeout)) {
            end.abandon(id);
        }
        answer
    }

    /// Asks, and does not wait.
    ///
    /// # Errors
    /// As [`Client::start`](crate::Client::start), and [`CallError::TooLong`].
    pub fn start(&self, question: &[u8]) -> Result<BytesPending<'_>, CallError> {
        let id = self.end.borrow_mut().start(question)?;
        Ok(BytesPending { client: self, id, is_open: true })
    }

    /// The call that was [kept](BytesPending::into_id) under this number; `None` if this client has none (any more).
    pub fn pending(&self, id: CallId) -> Option<BytesPending<'_>> {
        let known = self.end.borrow_mut().knows(id.0);
        known.then_some(BytesPending { client: self, id: id.0, is_open: true })
    }

    /// Another end of the same service, for another thread.
    ///
    /// # Errors
    /// As [`Options::bytes_client`].
    pub fn try_clone(&self) -> Result<Self, OpenError> {
        match self.memory.name() {
            Some(name) => self.options.bytes_client(name.as_str()),
            None => {
                let fd = self.memory.try_clone_fd()?;
                self.options.bytes_client_on(Segment::from_fd_with(fd, &self.options.segment_options())?)
            }
        }
    }

    /// Whether somebody is there to answer.
    pub fn is_connected(&self) -> bool {
        self.end.borrow_mut().is_connected()
    }

    /// Bytes of the longest question.
    pub fn max(&self) -> usize {
        self.end.borrow().longest()
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

impl fmt::Debug for BytesClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BytesClient").field("memory", &self.memory).finish_non_exhaustive()
    }
}

/// A call in flight; as [`Pending`](crate::Pending).
#[must_use = "dropping it cancels the call"]
pub struct BytesPending<'c> {
    pub(super) client: &'c BytesClient,
    pub(super) id: CallNumber,
    /// Whether the answer was not taken.
    pub(super) is_open: bool,
}

impl BytesPending<'_> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// As [`BytesClient::call`].
    pub fn wait(mut self) -> Result<Vec<u8>, CallError> {
        if !self.is_open {
            return Err(CallError::Taken);
        }
        self.is_open = false;
        self.client.end.borrow_mut().wait(self.id, Until::NEVER)
    }

    /// Waits for the answer, but not longer than `time`; then the call goes on, and can be waited for again.
    ///
    /// # Errors
    /// As [`Pending::wait_timeout`](crate::Pending::wait_timeout).
    pub fn wait_timeout(&mut self, time: Duration) -> Result<Vec<u8>, CallError> {
        if !self.is_open {
            return Err(CallError::Taken);
        }
        let answer = self.client.end.borrow_mut().wait(self.id, Until::after(time));
        self.is_open = matches!(answer, Err(CallError::Timeout));
        answer
    }

    /// The answer, or the error, if it is there; `None` if it is not there yet, or was taken before.
    pub fn try_take(&mut self) -> Option<Result<Vec<u8>, CallError>> {
        if !self.is_open {
            return None;
        }
        let answer = self.client.end.borrow_mut().try_take(self.id);
        self.is_open = answer.is_none();
        answer
    }

    /// Keeps the call in flight without borrowing the client: [`BytesClient::pending`] finds it again.
    pub fn into_id(mut self) -> CallId {
        self.is_open = false;
        self.client.end.borrow_mut().leave_board(Some(self.id));
        CallId(self.id)
    }
}

impl Drop for BytesPending<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.client.end.borrow_mut().abandon(self.id);
        }
    }
}

impl fmt::Debug for BytesPending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BytesPending").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The end of a service of bytes that answers. `Send`, not `Sync`, not `Clone`. Each question is a buffer of its own.
///
/// The guarantees are those of a [`Server`](crate::Server).
pub struct BytesServer {
    /// What a look found, for the next call.
    pub(super) came: Option<BytesRequest>,
    pub(super) end: ServerEnd,
    _leaving: Leaving,
}

impl BytesServer {
    pub(super) fn on(ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let leaving = Leaving::of(&ground, options);
        Ok(Self { came: None, end: ServerEnd::new(ground, options.wait)?, _leaving: leaving })
    }

    /// Takes a request if there is one.
    ///
    /// # Errors
    /// As [`Server::try_recv`](crate::Server::try_recv).
    pub fn try_recv(&mut self) -> Result<BytesRequest, TryRecvError> {
        match self.came.take() {
            Some(request) => Ok(request),
            None => Ok(BytesRequest::new(self.end.try_take()?)),
        }
    }

    /// Waits for a request.
    ///
    /// # Errors
    /// As [`Server::recv`](crate::Server::recv).
    pub fn recv(&mut self) -> Result<BytesRequest, RecvError> {
        match self.came.take() {
            Some(request) => Ok(request),
            None => Ok(BytesRequest::new(self.end.take(Until::NEVER)?)),
        }
    }

    /// Waits for a request, but not longer than `time`.
    ///
    /// # Errors
    /// As [`Server::recv_timeout`](crate::Server::recv_timeout).
    pub fn recv_timeout(&mut self, time: Duration) -> Result<BytesRequest, RecvTimeoutError> {
        match self.came.take() {
            Some(request) => Ok(request),
            None => Ok(BytesRequest::new(self.end.take(Until::after(time))?)),
        }
    }

    /// The requests that come.
    pub fn iter(&mut self) -> impl Iterator<Item = BytesRequest> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// As [`Server::take_corrupt`](crate::Server::take_corrupt).
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

impl fmt::Debug for BytesServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BytesServer").field("memory", &self.end.segment).finish_non_exhaustive()
    }
}

/// A question of bytes that waits for its answer; as [`Request`](crate::Request).
#[must_use = "dropping it says that there is no answer"]
pub struct BytesRequest {
    question: Vec<u8>,
    duty: Duty,
}

impl BytesRequest {
    pub(super) fn new((question, duty): Asked<Vec<u8>>) -> Self {
        Self { question, duty }
    }

    /// Answers.
    ///
    /// # Errors
    /// As [`Request::reply`](crate::Request::reply), and [`ReplyError::TooLong`].
    pub fn reply(self, answer: &[u8]) -> Result<(), ReplyError> {
        self.duty.reply(answer)
    }

    /// As [`Request::is_cancelled`](crate::Request::is_cancelled).
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.duty.is_cancelled()
    }

    /// As [`Request::client`](crate::Request::client).
    #[must_use]
    pub fn client(&self) -> u32 {
        self.duty.lane
    }
}

impl Deref for BytesRequest {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.question
    }
}

impl fmt::Debug for BytesRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BytesRequest").field("client", &self.client()).finish_non_exhaustive()
    }
}
