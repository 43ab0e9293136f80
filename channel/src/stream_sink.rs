//! Streams and sinks, for the combinators of the `futures` world (the feature `futures`).

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_sink::Sink;

use crate::bytes::{BytesReceiver, BytesSender};
use crate::bytes_publish::BytesSubscriber;
use crate::error::{RecvError, SendError, SubscribeError};
use crate::message::Message;
use crate::publish::Subscriber;
use crate::select::sealed::Sealed;
use crate::typed::{Receiver, Sender};

/// The messages of a channel as they come: see [`Receiver::stream`].
#[must_use = "a stream does nothing unless it is polled"]
pub struct Messages<'r, T: Message> {
    receiver: &'r mut Receiver<T>,
}

/// What is published, as it comes: see [`Subscriber::stream`].
#[must_use = "a stream does nothing unless it is polled"]
pub struct Published<'s, T: Message> {
    subscriber: &'s mut Subscriber<T>,
}

/// Messages to be sent: see [`Sender::sink`].
#[must_use = "a sink does nothing unless it is polled"]
pub struct Outgoing<'s, T: Message> {
    sender: &'s mut Sender<T>,
    /// What was taken and is not sent yet.
    held: Option<T>,
}

impl<T: Message> Stream for Messages<'_, T> {
    type Item = Result<T, RecvError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx).map(|received| match received {
            Err(RecvError::Disconnected) => None,
            other => Some(other),
        })
    }
}

impl<T: Message> Stream for Published<'_, T> {
    type Item = Result<T, SubscribeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.subscriber.poll_recv(cx).map(|received| match received {
            Err(SubscribeError::Disconnected) => None,
            other => Some(other),
        })
    }
}

// It holds no pointers into itself.
impl<T: Message> Unpin for Outgoing<'_, T> {}

impl<T: Message> Outgoing<'_, T> {
    /// Sends what is held.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError<T>>> {
        let Some(value) = self.held else { return Poll::Ready(Ok(())) };
        let sent = self.sender.poll_send(cx, value);
        if sent.is_ready() {
            self.held = None;
        }
        sent
    }
}

impl<T: Message> Sink<T> for Outgoing<'_, T> {
    type Error = SendError<T>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError<T>>> {
        self.poll_held(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, value: T) -> Result<(), SendError<T>> {
        if let Some(held) = self.held.replace(value) {
            // Against the protocol: nothing is lost, and the caller is told.
            self.held = Some(held);
            return Err(SendError::Full(value));
        }
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError<T>>> {
        self.poll_held(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError<T>>> {
        self.poll_held(cx)
    }
}

impl<T: Message> Drop for Messages<'_, T> {
    fn drop(&mut self) {
        self.receiver.end.disarm();
    }
}

impl<T: Message> Drop for Published<'_, T> {
    fn drop(&mut self) {
        Sealed::disarm(self.subscriber);
    }
}

impl<T: Message> Drop for Outgoing<'_, T> {
    fn drop(&mut self) {
        self.sender.end.disarm();
    }
}

impl<T: Message> fmt::Debug for Messages<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Messages(..)")
    }
}

impl<T: Message> fmt::Debug for Published<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Published(..)")
    }
}

impl<T: Message> fmt::Debug for Outgoing<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("holds", &self.held.is_some()).finish_non_exhaustive()
    }
}

impl<T: Message> Receiver<T> {
    /// The messages as a stream, which ends when all senders are gone; that something is wrong is an item of it.
    pub fn stream(&mut self) -> Messages<'_, T> {
        Messages { receiver: self }
    }
}

impl<T: Message> Subscriber<T> {
    /// What is published, as a stream, which ends when nobody publishes any more; what was [missed](Self::missed) is counted
    /// as ever.
    pub fn stream(&mut self) -> Published<'_, T> {
        Published { subscriber: self }
    }
}

impl<T: Message> Sender<T> {
    /// A sink that sends what it is given, and waits for room. One message may be held until the sink is flushed; dropped
    /// before, that one is not sent.
    pub fn sink(&mut self) -> Outgoing<'_, T> {
        Outgoing { sender: self, held: None }
    }
}

/// The messages of a channel of bytes as they come: see [`BytesReceiver::stream`].
#[must_use = "a stream does nothing unless it is polled"]
pub struct BytesMessages<'r> {
    receiver: &'r mut BytesReceiver,
}

/// Messages of bytes to be sent: see [`BytesSender::sink`].
#[must_use = "a sink does nothing unless it is polled"]
pub struct OutgoingBytes<'s> {
    sender: &'s mut BytesSender,
    /// What was taken and is not sent yet.
    held: Option<Vec<u8>>,
}

impl Stream for BytesMessages<'_> {
    type Item = Result<Vec<u8>, RecvError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx).map(|received| match received {
            Err(RecvError::Disconnected) => None,
            other => Some(other),
        })
    }
}

impl OutgoingBytes<'_> {
    /// Sends what is held.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError<()>>> {
        let Some(message) = &self.held else { return Poll::Ready(Ok(())) };
        let sent = self.sender.poll_send(cx, message);
        if sent.is_ready() {
            self.held = None;
        }
        sent
    }
}

impl Sink<Vec<u8>> for OutgoingBytes<'_> {
    type Error = SendError<()>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError<()>>> {
        self.poll_held(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Vec<u8>) -> Result<(), SendError<()>> {
        if self.held.is_some() {
            // Against the protocol: what is held is not lost.
            return Err(SendError::Full(()));
        }
        self.held = Some(message);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError<()>>> {
        self.poll_held(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError<()>>> {
        self.poll_held(cx)
    }
}

impl Drop for BytesMessages<'_> {
    fn drop(&mut self) {
        self.receiver.end.disarm();
    }
}

impl Drop for OutgoingBytes<'_> {
    fn drop(&mut self) {
        self.sender.end.disarm();
    }
}

impl fmt::Debug for BytesMessages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BytesMessages(..)")
    }
}

impl fmt::Debug for OutgoingBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingBytes").field("holds", &self.held.is_some()).finish_non_exhaustive()
    }
}

impl BytesReceiver {
    /// The messages as a stream, which ends when all senders are gone; that something is wrong is an item of it.
    pub fn stream(&mut self) -> BytesMessages<'_> {
        BytesMessages { receiver: self }
    }
}

impl BytesSender {
    /// A sink that sends what it is given, and waits for room. One message may be held until the sink is flushed; dropped
    /// before, that one is not sent.
    pub fn sink(&mut self) -> OutgoingBytes<'_> {
        OutgoingBytes { sender: self, held: None }
    }
}

/// What is published as bytes, as it comes: see [`BytesSubscriber::stream`].
#[must_use = "a stream does nothing unless it is polled"]
pub struct PublishedBytes<'s> {
    subscriber: &'s mut BytesSubscriber,
}

impl Stream for PublishedBytes<'_> {
    type Item = Result<Vec<u8>, SubscribeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.subscriber.poll_recv(cx).map(|received| match received {
            Err(SubscribeError::Disconnected) => None,
            other => Some(other),
        })
    }
}

impl Drop for PublishedBytes<'_> {
    fn drop(&mut self) {
        Sealed::disarm(self.subscriber);
    }
}

impl fmt::Debug for PublishedBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublishedBytes(..)")
    }
}

impl BytesSubscriber {
    /// What is published, as a stream, which ends when nobody publishes any more; what was [missed](Self::missed) is counted
    /// as ever.
    pub fn stream(&mut self) -> PublishedBytes<'_> {
        PublishedBytes { subscriber: self }
    }
}
