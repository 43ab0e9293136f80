//! Ends whose tasks are woken by the reactor of their own runtime (the features `tokio` and `smol`).

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_sink::Sink;

use crate::bytes::{BytesReceiver, BytesSender};
use crate::bytes_publish::BytesSubscriber;
use crate::error::{CallError, RecvError, SubscribeError};
use crate::futures::{Receiving, ReceivingBytes, Sending, SendingBytes, Subscribing, SubscribingBytes};
use crate::host::Host;
use crate::message::Message;
use crate::publish::Subscriber;
use crate::rpc::{
    BytesClient, BytesPending, BytesServer, Calling, CallingBytes, Client, Pending, Server, Serving,
    ServingBytes,
};
use crate::select::sealed::Sealed;
use crate::stream_sink::{Outgoing, OutgoingBytes};
use crate::typed::{Receiver, Sender};

pub(crate) mod disarming {
    /// What a runtime can wake for.
    pub trait Disarm {
        /// Ends a wait of a stream that was polled and is not polled any more.
        fn disarm(&mut self);
    }
}

use disarming::Disarm;

impl<T: Message> Disarm for Receiver<T> {
    fn disarm(&mut self) {
        self.end.disarm();
    }
}

impl Disarm for BytesReceiver {
    fn disarm(&mut self) {
        self.end.disarm();
    }
}

impl<T: Message> Disarm for Sender<T> {
    fn disarm(&mut self) {
        self.end.disarm();
    }
}

impl Disarm for BytesSender {
    fn disarm(&mut self) {
        self.end.disarm();
    }
}

impl<T: Message> Disarm for Subscriber<T> {
    fn disarm(&mut self) {
        Sealed::disarm(self);
    }
}

impl Disarm for BytesSubscriber {
    fn disarm(&mut self) {
        Sealed::disarm(self);
    }
}

impl<Q: Message, R: Message> Disarm for Client<Q, R> {
    // Each of its futures does so for itself.
    fn disarm(&mut self) {}
}

impl Disarm for BytesClient {
    fn disarm(&mut self) {}
}

impl<Q: Message, R: Message> Disarm for Server<Q, R> {
    fn disarm(&mut self) {
        Sealed::disarm(self);
    }
}

impl Disarm for BytesServer {
    fn disarm(&mut self) {
        Sealed::disarm(self);
    }
}

/// An end in a runtime, whose reactor wakes its tasks: no thread lies between a peer that rings and a task that waits.
///
/// It has the calls that wait as async ones, under the same names, and derefs to the end for all others. Those that receive
/// are streams; [`sink`](Hosted::<Sender<u64>>::sink) is a sink.
///
/// # Guarantees
/// - Cancel-safe: a future that is dropped before it is ready has taken nothing, and sent nothing.
/// - The death of a peer ends the same await.
/// - As long as there is something to do: no system call, and nothing of the runtime's is touched.
/// - Where it is polled without that runtime, the thread of this crate watches in its place.
pub struct Hosted<E> {
    end: E,
    host: Host,
}

impl<E> Hosted<E> {
    pub(crate) fn new(end: E, host: Host) -> Self {
        Self { end, host }
    }
}

impl<E: Disarm> Hosted<E> {
    /// The end, without the runtime.
    pub fn into_inner(mut self) -> E {
        self.end.disarm();
        self.end
    }
}

impl<E> Deref for Hosted<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.end
    }
}

impl<E: Disarm> DerefMut for Hosted<E> {
    fn deref_mut(&mut self) -> &mut E {
        self.end.disarm();
        &mut self.end
    }
}

impl<E: fmt::Debug> fmt::Debug for Hosted<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosted").field("end", &self.end).field("host", &self.host).finish()
    }
}

/// A future, or a sink, of an end in a runtime.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Hosting<F> {
    inner: F,
    host: Host,
}

impl<F: Future + Unpin> Future for Hosting<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { inner, host } = self.get_mut();
        host.polling(|| Pin::new(inner).poll(cx))
    }
}

impl<F: Sink<V> + Unpin, V> Sink<V> for Hosting<F> {
    type Error = F::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), F::Error>> {
        let Self { inner, host } = self.get_mut();
        host.polling(|| Pin::new(inner).poll_ready(cx))
    }

    fn start_send(self: Pin<&mut Self>, value: V) -> Result<(), F::Error> {
        Pin::new(&mut self.get_mut().inner).start_send(value)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), F::Error>> {
        let Self { inner, host } = self.get_mut();
        host.polling(|| Pin::new(inner).poll_flush(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), F::Error>> {
        let Self { inner, host } = self.get_mut();
        host.polling(|| Pin::new(inner).poll_close(cx))
    }
}

impl<F> fmt::Debug for Hosting<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosting").field("host", &self.host).finish_non_exhaustive()
    }
}

impl<T: Message> Hosted<Receiver<T>> {
    /// Waits for a message: [`Receiver::recv_async`].
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    pub fn recv(&mut self) -> Hosting<Receiving<'_, T>> {
        Hosting { inner: self.end.recv_async(), host: self.host }
    }
}

impl Hosted<BytesReceiver> {
    /// Waits for a message: [`BytesReceiver::recv_async`].
    ///
    /// # Errors
    /// As [`BytesReceiver::recv`].
    pub fn recv(&mut self) -> Hosting<ReceivingBytes<'_>> {
        Hosting { inner: self.end.recv_async(), host: self.host }
    }
}

impl<T: Message> Hosted<Subscriber<T>> {
    /// Waits for a message: [`Subscriber::recv_async`].
    ///
    /// # Errors
    /// As [`Subscriber::recv`].
    pub fn recv(&mut self) -> Hosting<Subscribing<'_, T>> {
        Hosting { inner: self.end.recv_async(), host: self.host }
    }
}

impl Hosted<BytesSubscriber> {
    /// Waits for a message: [`BytesSubscriber::recv_async`].
    ///
    /// # Errors
    /// As [`BytesSubscriber::recv`].
    pub fn recv(&mut self) -> Hosting<SubscribingBytes<'_>> {
        Hosting { inner: self.end.recv_async(), host: self.host }
    }
}

impl<T: Message> Hosted<Sender<T>> {
    /// Sends a message, and waits for room: [`Sender::send_async`].
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn send(&mut self, value: T) -> Hosting<Sending<'_, T>> {
        Hosting { inner: self.end.send_async(value), host: self.host }
    }

    /// A sink that sends what it is given: [`Sender::sink`].
    pub fn sink(&mut self) -> Hosting<Outgoing<'_, T>> {
        Hosting { inner: self.end.sink(), host: self.host }
    }
}

impl Hosted<BytesSender> {
    /// Sends a message, and waits for room: [`BytesSender::send_async`].
    ///
    /// # Errors
    /// As [`BytesSender::send`].
    pub fn send<'s, 'm>(&'s mut self, message: &'m [u8]) -> Hosting<SendingBytes<'s, 'm>> {
        Hosting { inner: self.end.send_async(message), host: self.host }
    }

    /// A sink that sends what it is given: [`BytesSender::sink`].
    pub fn sink(&mut self) -> Hosting<OutgoingBytes<'_>> {
        Hosting { inner: self.end.sink(), host: self.host }
    }
}

impl<Q: Message, R: Message> Hosted<Client<Q, R>> {
    /// Asks, and waits for the answer: [`Client::call_async`].
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn call(&mut self, question: Q) -> Hosting<Calling<'_, Q, R>> {
        Hosting { inner: self.end.call_async(question), host: self.host }
    }

    /// Asks; the answer is what the future waits for: [`Client::start`].
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn start(&self, question: Q) -> Result<Hosting<Pending<'_, Q, R>>, CallError> {
        Ok(Hosting { inner: self.end.start(question)?, host: self.host })
    }
}

impl Hosted<BytesClient> {
    /// Asks, and waits for the answer: [`BytesClient::call_async`].
    ///
    /// # Errors
    /// As [`BytesClient::call`].
    pub fn call<'c, 'q>(&'c mut self, question: &'q [u8]) -> Hosting<CallingBytes<'c, 'q>> {
        Hosting { inner: self.end.call_async(question), host: self.host }
    }

    /// Asks; the answer is what the future waits for: [`BytesClient::start`].
    ///
    /// # Errors
    /// As [`BytesClient::start`].
    pub fn start(&self, question: &[u8]) -> Result<Hosting<BytesPending<'_>>, CallError> {
        Ok(Hosting { inner: self.end.start(question)?, host: self.host })
    }
}

impl<Q: Message, R: Message> Hosted<Server<Q, R>> {
    /// Waits for a request: [`Server::recv_async`].
    ///
    /// # Errors
    /// As [`Server::recv`].
    pub fn recv(&mut self) -> Hosting<Serving<'_, Q, R>> {
        Hosting { inner: self.end.recv_async(), host: self.host }
    }
}

impl Hosted<BytesServer> {
    /// Waits for a request: [`BytesServer::recv_async`].
    ///
    /// # Errors
    /// As [`BytesServer::recv`].
    pub fn recv(&mut self) -> Hosting<ServingBytes<'_>> {
        Hosting { inner: self.end.recv_async(), host: self.host }
    }
}

// None of the ends holds pointers into itself.
impl<E> Unpin for Hosted<E> {}

impl<T: Message> Stream for Hosted<Receiver<T>> {
    type Item = Result<T, RecvError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { end, host } = self.get_mut();
        host.polling(|| end.poll_recv(cx)).map(|received| match received {
            Err(RecvError::Disconnected) => None,
            other => Some(other),
        })
    }
}

impl Stream for Hosted<BytesReceiver> {
    type Item = Result<Vec<u8>, RecvError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { end, host } = self.get_mut();
        host.polling(|| end.poll_recv(cx)).map(|received| match received {
            Err(RecvError::Disconnected) => None,
            other => Some(other),
        })
    }
}

impl<T: Message> Stream for Hosted<Subscriber<T>> {
    type Item = Result<T, SubscribeError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { end, host } = self.get_mut();
        host.polling(|| end.poll_recv(cx)).map(|received| match received {
            Err(SubscribeError::Disconnected) => None,
            other => Some(other),
        })
    }
}

impl Stream for Hosted<BytesSubscriber> {
    type Item = Result<Vec<u8>, SubscribeError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { end, host } = self.get_mut();
        host.polling(|| end.poll_recv(cx)).map(|received| match received {
            Err(SubscribeError::Disconnected) => None,
            other => Some(other),
        })
    }
}
