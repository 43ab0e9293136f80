//! Calls and requests in async code, and as ends of a [`Select`](crate::Select).

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::event::PollFd;

use super::bytes::{BytesClient, BytesPending, BytesRequest, BytesServer};
use super::client_end::ClientEnd;
use super::record::{CallNumber, Cargo};
use super::typed::{Client, Pending, Request, Server};
use crate::error::{CallError, RecvError, TryRecvError};
use crate::message::Message;
use crate::select::{Endpoint, sealed};

/// How far a call is.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Asking,
    Asked(CallNumber),
    Over,
}

impl Stage {
    fn poll<A: Cargo>(
        &mut self,
        end: &mut ClientEnd<A>,
        question: &[u8],
        cx: &Context<'_>,
    ) -> Poll<Result<A, CallError>> {
        loop {
            match *self {
                Self::Asking => match end.start(question) {
                    Ok(id) => {
                        end.leave_board(None);
                        *self = Self::Asked(id);
                    }
                    Err(CallError::Full(most)) => match end.poll_room(most, cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => return self.over(end, Err(error)),
                        Poll::Pending => return Poll::Pending,
                    },
                    Err(error) => return self.over(end, Err(error)),
                },
                Self::Asked(id) => {
                    return match end.poll_take(id, cx) {
                        Poll::Ready(answer) => self.over(end, answer),
                        Poll::Pending => Poll::Pending,
                    };
                }
                Self::Over => return Poll::Ready(Err(CallError::Taken)),
            }
        }
    }

    fn over<A: Cargo>(
        &mut self,
        end: &mut ClientEnd<A>,
        answer: Result<A, CallError>,
    ) -> Poll<Result<A, CallError>> {
        if matches!(self, Self::Asking) {
            end.leave_board(None);
        }
        *self = Self::Over;
        Poll::Ready(answer)
    }

    fn cancel<A: Cargo>(self, end: &mut ClientEnd<A>) {
        match self {
            Self::Asking => end.leave_board(None),
            Self::Asked(id) => end.abandon(id),
            Self::Over => {}
        }
    }
}

/// A call: see [`Client::call_async`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Calling<'c, Q: Message, R: Message> {
    client: &'c mut Client<Q, R>,
    question: Q,
    stage: Stage,
}

// It holds no pointers into itself.
impl<Q: Message, R: Message> Unpin for Calling<'_, Q, R> {}

impl<Q: Message, R: Message> Future for Calling<'_, Q, R> {
    type Output = Result<R, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { client, question, stage } = self.get_mut();
        stage.poll(client.end.get_mut(), bytemuck::bytes_of(question), cx)
    }
}

impl<Q: Message, R: Message> Drop for Calling<'_, Q, R> {
    fn drop(&mut self) {
        self.stage.cancel(self.client.end.get_mut());
    }
}

impl<Q: Message, R: Message> fmt::Debug for Calling<'_, Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calling").field("stage", &self.stage).finish_non_exhaustive()
    }
}

/// A call of bytes: see [`BytesClient::call_async`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct CallingBytes<'c, 'q> {
    client: &'c mut BytesClient,
    question: &'q [u8],
    stage: Stage,
}

impl Future for CallingBytes<'_, '_> {
    type Output = Result<Vec<u8>, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { client, question, stage } = self.get_mut();
        stage.poll(client.end.get_mut(), question, cx)
    }
}

impl Drop for CallingBytes<'_, '_> {
    fn drop(&mut self) {
        self.stage.cancel(self.client.end.get_mut());
    }
}

impl fmt::Debug for CallingBytes<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallingBytes").field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl<Q: Message, R: Message> Client<Q, R> {
    /// As [`call`](Self::call), for async code in any runtime. The death of the server ends the same await. The future can go
    /// to another thread with its client; for many calls in flight await what [`start`](Self::start) returns.
    ///
    /// # Guarantees
    /// Dropping it cancels the call: the server can [see that](Request::is_cancelled), and what it answers is thrown away.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// # Examples
    /// ```
    /// # futures_lite::future::block_on(async {
    /// let (mut client, mut server) = tidewire::service::<u64, u64>()?;
    /// let answering = std::thread::spawn(move || {
    ///     server.iter().take(3).for_each(|request| {
    ///         let answer = *request * 2;
    ///         let _sent = request.reply(answer);
    ///     });
    /// });
    /// assert_eq!(client.call_async(21).await?, 42);
    /// let (first, second) = (client.start(1)?, client.start(2)?);
    /// assert_eq!((second.await?, first.await?), (4, 2));
    /// # answering.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn call_async(&mut self, question: Q) -> Calling<'_, Q, R> {
        Calling { client: self, question, stage: Stage::Asking }
    }

    /// A call that is over and was [kept](Pending::into_id), if there is one: [`pending`](Self::pending) gives its answer.
    /// With a [`Select`](crate::Select), for which a client is ready when this says so.
    pub fn answered(&self) -> Option<super::CallId> {
        self.end.borrow_mut().answered().map(super::typed::CallId)
    }
}

impl BytesClient {
    /// As [`call`](Self::call), for async code in any runtime; else as [`Client::call_async`].
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_async<'c, 'q>(&'c mut self, question: &'q [u8]) -> CallingBytes<'c, 'q> {
        CallingBytes { client: self, question, stage: Stage::Asking }
    }

    /// As [`Client::answered`].
    pub fn answered(&self) -> Option<super::CallId> {
        self.end.borrow_mut().answered().map(super::typed::CallId)
    }
}

impl<Q: Message, R: Message> Future for Pending<'_, Q, R> {
    type Output = Result<R, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.is_open {
            return Poll::Ready(Err(CallError::Taken));
        }
        let polled = self.client.end.borrow_mut().poll_take(self.id, cx);
        self.is_open = polled.is_pending();
        polled
    }
}

impl Future for BytesPending<'_> {
    type Output = Result<Vec<u8>, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.is_open {
            return Poll::Ready(Err(CallError::Taken));
        }
        let polled = self.client.end.borrow_mut().poll_take(self.id, cx);
        self.is_open = polled.is_pending();
        polled
    }
}

/// A request to come: see [`Server::recv_async`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Serving<'s, Q: Message, R: Message> {
    server: &'s mut Server<Q, R>,
}

impl<Q: Message, R: Message> Future for Serving<'_, Q, R> {
    type Output = Result<Request<Q, R>, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(request) = self.server.came.take() {
            return Poll::Ready(Ok(request));
        }
        self.server.end.poll_take(cx).map(|asked| asked.map(Request::new).map_err(never_empty))
    }
}

impl<Q: Message, R: Message> Drop for Serving<'_, Q, R> {
    fn drop(&mut self) {
        self.server.end.disarm();
    }
}

impl<Q: Message, R: Message> fmt::Debug for Serving<'_, Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Serving(..)")
    }
}

/// A request of bytes to come: see [`BytesServer::recv_async`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct ServingBytes<'s> {
    server: &'s mut BytesServer,
}

impl Future for ServingBytes<'_> {
    type Output = Result<BytesRequest, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(request) = self.server.came.take() {
            return Poll::Ready(Ok(request));
        }
        self.server.end.poll_take(cx).map(|asked| asked.map(BytesRequest::new).map_err(never_empty))
    }
}

impl Drop for ServingBytes<'_> {
    fn drop(&mut self) {
        self.server.end.disarm();
    }
}

impl fmt::Debug for ServingBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServingBytes(..)")
    }
}

/// What a future says in place of that there is nothing now.
fn never_empty(error: TryRecvError) -> RecvError {
    match error {
        TryRecvError::Empty | TryRecvError::Disconnected => RecvError::Disconnected,
        TryRecvError::Corrupt(corrupt) => RecvError::Corrupt(corrupt),
        TryRecvError::ForkedChild => RecvError::ForkedChild,
        TryRecvError::BufferTooSmall { needed } => RecvError::BufferTooSmall { needed },
    }
}

impl<Q: Message, R: Message> Server<Q, R> {
    /// As [`recv`](Self::recv), for async code in any runtime; cancel-safe.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_async(&mut self) -> Serving<'_, Q, R> {
        Serving { server: self }
    }
}

impl BytesServer {
    /// As [`recv`](Self::recv), for async code in any runtime; cancel-safe.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_async(&mut self) -> ServingBytes<'_> {
        ServingBytes { server: self }
    }
}

/// What a [`Select`](crate::Select) does with a client: ready when a call that was kept is over.
fn client_is_ready<A: Cargo>(end: &mut ClientEnd<A>) -> bool {
    end.is_forked_child() || end.answered().is_some()
}

impl<Q: Message, R: Message> sealed::Sealed for Client<Q, R> {
    fn is_ready(&mut self) -> bool {
        client_is_ready(self.end.get_mut())
    }

    fn arm(&mut self) -> io::Result<bool> {
        self.end.get_mut().arm()
    }

    fn disarm(&mut self) {
        self.end.get_mut().disarm();
    }

    fn descriptors<'a>(&'a mut self, to: &mut Vec<PollFd<'a>>) -> bool {
        self.end.get_mut().descriptors(to)
    }
}

impl<Q: Message, R: Message> Endpoint for Client<Q, R> {}

impl sealed::Sealed for BytesClient {
    fn is_ready(&mut self) -> bool {
        client_is_ready(self.end.get_mut())
    }

    fn arm(&mut self) -> io::Result<bool> {
        self.end.get_mut().arm()
    }

    fn disarm(&mut self) {
        self.end.get_mut().disarm();
    }

    fn descriptors<'a>(&'a mut self, to: &mut Vec<PollFd<'a>>) -> bool {
        self.end.get_mut().descriptors(to)
    }
}

impl Endpoint for BytesClient {}

impl<Q: Message, R: Message> sealed::Sealed for Server<Q, R> {
    fn is_ready(&mut self) -> bool {
        if self.came.is_none() {
            match self.end.try_take() {
                Ok(asked) => self.came = Some(Request::new(asked)),
                Err(error) => return error != TryRecvError::Empty,
            }
        }
        true
    }

    fn arm(&mut self) -> io::Result<bool> {
        if sealed::Sealed::is_ready(self) {
            return Ok(true);
        }
        let mut got = None;
        let armed = self.end.arm(&mut got);
        self.came = got.map(Request::new);
        Ok(armed? || self.came.is_some())
    }

    fn disarm(&mut self) {
        self.end.disarm();
    }

    fn descriptors<'a>(&'a mut self, to: &mut Vec<PollFd<'a>>) -> bool {
        self.end.descriptors(to);
        true
    }
}

impl<Q: Message, R: Message> Endpoint for Server<Q, R> {}

impl sealed::Sealed for BytesServer {
    fn is_ready(&mut self) -> bool {
        if self.came.is_none() {
            match self.end.try_take() {
                Ok(asked) => self.came = Some(BytesRequest::new(asked)),
                Err(error) => return error != TryRecvError::Empty,
            }
        }
        true
    }

    fn arm(&mut self) -> io::Result<bool> {
        if sealed::Sealed::is_ready(self) {
            return Ok(true);
        }
        let mut got = None;
        let armed = self.end.arm(&mut got);
        self.came = got.map(BytesRequest::new);
        Ok(armed? || self.came.is_some())
    }

    fn disarm(&mut self) {
        self.end.disarm();
    }

    fn descriptors<'a>(&'a mut self, to: &mut Vec<PollFd<'a>>) -> bool {
        self.end.descriptors(to);
        true
    }
}

impl Endpoint for BytesServer {}
