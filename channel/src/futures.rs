//! Futures: the same ends in async code, in any runtime.
//!
//! What wakes a task is a pipe that its peers write to when it waits, or the end of a peer's process; one thread of this
//! crate sleeps on all of them ([`reactor`](crate::reactor)). As long as there is something to do, none of that is touched.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::byte_queue::ByteSink;
use crate::bytes::{BytesReceiver, BytesSender};
use crate::bytes_publish::BytesSubscriber;
use crate::error::{RecvError, SendError, SubscribeError, TryRecvError, TrySendError};
use crate::message::Message;
use crate::options::Overflow;
use crate::publish::Subscriber;
use crate::queue::{Sink, Source};
use crate::select::sealed::Sealed;
use crate::typed::{Receiver, Sender};

/// What a future says in place of that there is nothing now.
fn waited<R>(result: Result<R, TryRecvError>) -> Result<R, RecvError> {
    result.map_err(|error| match error {
        TryRecvError::Empty | TryRecvError::Disconnected => RecvError::Disconnected,
        TryRecvError::Corrupt(corrupt) => RecvError::Corrupt(corrupt),
        TryRecvError::ForkedChild => RecvError::ForkedChild,
        TryRecvError::BufferTooSmall { needed } => RecvError::BufferTooSmall { needed },
    })
}

/// A message to come: see [`Receiver::recv_async`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Receiving<'r, T: Message> {
    receiver: &'r mut Receiver<T>,
}

impl<T: Message> Future for Receiving<'_, T> {
    type Output = Result<T, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.receiver.end.poll_take(cx, Source::pop).map(waited)
    }
}

impl<T: Message> Drop for Receiving<'_, T> {
    fn drop(&mut self) {
        self.receiver.end.disarm();
    }
}

impl<T: Message> fmt::Debug for Receiving<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiving(..)")
    }
}

/// Bytes to come: see [`BytesReceiver::recv_async`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct ReceivingBytes<'r> {
    receiver: &'r mut BytesReceiver,
}

impl Future for ReceivingBytes<'_> {
    type Output = Result<Vec<u8>, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.receiver.poll_recv(cx)
    }
}

impl Drop for ReceivingBytes<'_> {
    fn drop(&mut self) {
        self.receiver.end.disarm();
    }
}

impl fmt::Debug for ReceivingBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceivingBytes(..)")
    }
}

/// A message that waits for room: see [`Sender::send_async`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Sending<'s, T: Message> {
    sender: &'s mut Sender<T>,
    value: T,
}

// It holds no pointers into itself.
impl<T: Message> Unpin for Sending<'_, T> {}

impl<T: Message> Future for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { sender, value } = self.get_mut();
        sender.poll_send(cx, *value)
    }
}

impl<T: Message> Drop for Sending<'_, T> {
    fn drop(&mut self) {
        self.sender.end.disarm();
    }
}

impl<T: Message> fmt::Debug for Sending<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sending(..)")
    }
}

/// Bytes that wait for room: see [`BytesSender::send_async`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct SendingBytes<'s, 'm> {
    sender: &'s mut BytesSender,
    message: &'m [u8],
}

impl Future for SendingBytes<'_, '_> {
    type Output = Result<(), SendError<()>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { sender, message } = self.get_mut();
        sender.poll_send(cx, message)
    }
}

impl Drop for SendingBytes<'_, '_> {
    fn drop(&mut self) {
        self.sender.end.disarm();
    }
}

impl fmt::Debug for SendingBytes<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendingBytes(..)")
    }
}

/// A message to come: see [`Subscriber::recv_async`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Subscribing<'s, T: Message> {
    pub(crate) subscriber: &'s mut Subscriber<T>,
}

impl<T: Message> Future for Subscribing<'_, T> {
    type Output = Result<T, SubscribeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.subscriber.poll_recv(cx)
    }
}

impl<T: Message> Drop for Subscribing<'_, T> {
    fn drop(&mut self) {
        Sealed::disarm(self.subscriber);
    }
}

impl<T: Message> fmt::Debug for Subscribing<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscribing(..)")
    }
}

/// Bytes to come: see [`BytesSubscriber::recv_async`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct SubscribingBytes<'s> {
    pub(crate) subscriber: &'s mut BytesSubscriber,
}

impl Future for SubscribingBytes<'_> {
    type Output = Result<Vec<u8>, SubscribeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.subscriber.poll_recv(cx)
    }
}

impl Drop for SubscribingBytes<'_> {
    fn drop(&mut self) {
        Sealed::disarm(self.subscriber);
    }
}

impl fmt::Debug for SubscribingBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubscribingBytes(..)")
    }
}

impl<T: Message> Receiver<T> {
    /// As [`recv`](Self::recv), for async code in any runtime. The death of the last sender ends the same await.
    ///
    /// # Guarantees
    /// Cancel-safe: dropped before it is ready, it has taken no message.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_async(&mut self) -> Receiving<'_, T> {
        Receiving { receiver: self }
    }

    /// One poll of [`recv_async`](Self::recv_async), for futures and streams by hand.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, RecvError>> {
        self.end.poll_take(cx, Source::pop).map(waited)
    }
}

impl<T: Message> Sender<T> {
    /// One poll of [`send_async`](Self::send_async), for futures and sinks by hand.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn poll_send(&mut self, cx: &mut Context<'_>, value: T) -> Poll<Result<(), SendError<T>>> {
        if self.end.overflow != Overflow::Block {
            return Poll::Ready(self.send(value));
        }
        let sent = self.end.poll_send(cx, &mut |sink: &mut Sink<T>| sink.push(&value));
        sent.map_err(|error: TrySendError<()>| error.map(|()| value).into())
    }

    /// As [`send`](Self::send), for async code in any runtime. The death of the receiver ends the same await.
    ///
    /// # Guarantees
    /// Cancel-safe: dropped before it is ready, it has not sent the message.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_async(&mut self, value: T) -> Sending<'_, T> {
        Sending { sender: self, value }
    }
}

impl BytesReceiver {
    /// One poll of [`recv_async`](Self::recv_async), for futures and streams by hand.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, RecvError>> {
        let mut to = Vec::new();
        self.end.poll_take(cx, |source| source.pop_to(&mut to)).map(waited).map_ok(|_| to)
    }

    /// As [`recv`](Self::recv), for async code in any runtime; cancel-safe.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_async(&mut self) -> ReceivingBytes<'_> {
        ReceivingBytes { receiver: self }
    }
}

impl BytesSender {
    /// One poll of [`send_async`](Self::send_async), for futures and sinks by hand.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn poll_send(&mut self, cx: &mut Context<'_>, message: &[u8]) -> Poll<Result<(), SendError<()>>> {
        if self.end.overflow != Overflow::Block {
            return Poll::Ready(self.send(message));
        }
        let sent = self.end.poll_send(cx, &mut |sink: &mut ByteSink| sink.push(message));
        sent.map_err(SendError::from)
    }

    /// As [`send`](Self::send), for async code in any runtime; cancel-safe.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_async<'s, 'm>(&'s mut self, message: &'m [u8]) -> SendingBytes<'s, 'm> {
        SendingBytes { sender: self, message }
    }
}
