//! Channels of whatever serde can write and read: strings, vectors, enums, maps.
//!
//! Messages are written in [postcard](https://docs.rs/postcard)'s format, each as one message of a channel of bytes. The
//! format has neither names nor types in it: both sides must agree on the type. [`Options::content`] lets them compare a
//! name for it.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidewire_shm::{Field, Header, Incompatible, Segment};

use crate::bytes::{BytesReceiver, BytesSender};
use crate::bytes_publish::{BytesPublisher, BytesSubscriber};
use crate::error::{
    OpenError, RecvError, RecvTimeoutError, SendError, SendTimeoutError, SubscribeError, TryRecvError,
    TrySendError,
};
use crate::options::Options;

/// Why a message was not sent. `E` is what the channel says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError<E> {
    /// The channel did not take it.
    Channel(E),
    /// It could not be written as bytes; nothing was sent.
    Encode(postcard::Error),
}

/// Why no message was received. `E` is what the channel says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError<E> {
    /// The channel has none to give.
    Channel(E),
    /// A message came that is no `T`. It is taken; the next call gives the next one.
    Decode(postcard::Error),
    /// A message came that begins as a `T` does and goes on. It is taken; the next call gives the next one.
    TooLong {
        /// Bytes behind the `T`.
        left: usize,
    },
}

impl<E: fmt::Display> fmt::Display for EncodeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(error) => error.fmt(f),
            Self::Encode(_) => {
                f.write_str("expected a message that can be written as bytes, found one that cannot")
            }
        }
    }
}

impl<E: fmt::Display> fmt::Display for DecodeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(error) => error.fmt(f),
            Self::Decode(_) => f.write_str("expected a message of the receiver's type, found other bytes"),
            Self::TooLong { left } => {
                write!(f, "expected a message of the receiver's type, found {left} bytes behind one")
            }
        }
    }
}

impl<E: Error + 'static> Error for EncodeError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Channel(error) => error.source(),
            Self::Encode(error) => Some(error),
        }
    }
}

impl<E: Error + 'static> Error for DecodeError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Channel(error) => error.source(),
            Self::Decode(error) => Some(error),
            Self::TooLong { .. } => None,
        }
    }
}

/// Opens the receiving end of a channel of `T`; else as [`receiver`](crate::receiver()).
///
/// # Errors
/// As [`receiver`](crate::receiver()).
///
/// # Examples
/// ```no_run
/// for words in tidewire::serde_receiver::<Vec<String>>("words")?.iter() {
///     println!("{}", words?.join(" "));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn serde_receiver<T: DeserializeOwned>(name: &str) -> Result<SerdeReceiver<T>, OpenError> {
    Options::new().serde_receiver(name)
}

/// Opens a sending end of a channel of `T`; else as [`sender`](crate::sender()).
///
/// # Errors
/// As [`sender`](crate::sender()).
///
/// # Examples
/// ```no_run
/// tidewire::serde_sender::<Vec<String>>("words")?.send(&vec!["high".into(), "water".into()])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn serde_sender<T: Serialize>(name: &str) -> Result<SerdeSender<T>, OpenError> {
    Options::new().serde_sender(name)
}

/// Opens the publishing end of a publication of `T`; else as [`publisher`](crate::publisher()).
///
/// # Errors
/// As [`publisher`](crate::publisher()).
///
/// # Examples
/// ```no_run
/// tidewire::serde_publisher::<Vec<String>>("words")?.publish(&vec!["high".into(), "water".into()])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn serde_publisher<T: Serialize>(name: &str) -> Result<SerdePublisher<T>, OpenError> {
    Options::new().serde_publisher(name)
}

/// Subscribes to a publication of `T`, from now on; else as [`subscriber`](crate::subscriber()).
///
/// # Errors
/// As [`subscriber`](crate::subscriber()).
///
/// # Examples
/// ```no_run
/// for words in tidewire::serde_subscriber::<Vec<String>>("words")?.iter() {
///     println!("{}", words?.join(" "));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn serde_subscriber<T: DeserializeOwned>(name: &str) -> Result<SerdeSubscriber<T>, OpenError> {
    Options::new().serde_subscriber(name)
}

/// The error of a channel of bytes that says what differs.
fn told(error: OpenError, options: &Options, name: &str) -> OpenError {
    let OpenError::Types { .. } = &error else { return error };
    let found = Segment::open_read_only_with(name, &options.segment_options())
        .ok()
        .and_then(|segment| Header::inspect(&segment.region()).ok());
    match found {
        Some(found) => {
            Incompatible::new(Field::TypeFingerprint, options.bytes_of, found.type_fingerprint).into()
        }
        None => error,
    }
}

impl Options {
    /// Names what the bytes of a channel are, such as `"orders, version 3"`; all ends of it must give the same name, or none.
    /// A hash of the name is compared, 64 bits long; of the type itself nothing is known to the channel.
    ///
    /// ```
    /// # let place = tempfile::tempdir()?;
    /// # let options = tidewire::Options::new().directory(place.path().join("segments"));
    /// let rx = options.clone().content("orders, version 3").serde_receiver::<Vec<u64>>("orders")?;
    /// assert!(options.content("orders, version 2").serde_sender::<Vec<u32>>("orders").is_err());
    /// # drop(rx);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn content(mut self, name: &str) -> Self {
        // FNV-1a; 0 means that nothing was named.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        self.bytes_of = name.bytes().fold(0xcbf2_9ce4_8422_2325, step).max(1);
        self
    }

    /// As [`serde_receiver`](crate::serde_receiver()), with these options. The capacity is in bytes.
    ///
    /// # Errors
    /// As [`receiver`](Self::receiver); [`OpenError::Incompatible`] with [`Field::TypeFingerprint`] if senders are there that
    /// send another [content](Self::content).
    pub fn serde_receiver<T: DeserializeOwned>(&self, name: &str) -> Result<SerdeReceiver<T>, OpenError> {
        self.bytes_receiver(name).map(SerdeReceiver::new).map_err(|error| told(error, self, name))
    }

    /// As [`serde_receiver`](Self::serde_receiver), and where somebody receives already, waits as long for it to go.
    ///
    /// # Errors
    /// [`OpenError::Taken`] if somebody received all that time, else as [`serde_receiver`](Self::serde_receiver).
    pub fn serde_receiver_in<T: DeserializeOwned>(
        &self,
        name: &str,
        time: Duration,
    ) -> Result<SerdeReceiver<T>, OpenError> {
        self.bytes_receiver_in(name, time).map(SerdeReceiver::new).map_err(|error| told(error, self, name))
    }

    /// As [`serde_sender`](crate::serde_sender()), with these options.
    ///
    /// # Errors
    /// As [`sender`](Self::sender); [`OpenError::Incompatible`] with [`Field::TypeFingerprint`] if another
    /// [content](Self::content) is received.
    pub fn serde_sender<T: Serialize>(&self, name: &str) -> Result<SerdeSender<T>, OpenError> {
        self.bytes_sender(name).map(SerdeSender::new).map_err(|error| told(error, self, name))
    }

    /// As [`serde_sender`](Self::serde_sender), and waits as long for somebody who receives.
    ///
    /// # Errors
    /// [`OpenError::TimedOut`] if nobody came, else as [`serde_sender`](Self::serde_sender).
    pub fn serde_sender_in<T: Serialize>(
        &self,
        name: &str,
        time: Duration,
    ) -> Result<SerdeSender<T>, OpenError> {
        self.bytes_sender_in(name, time).map(SerdeSender::new).map_err(|error| told(error, self, name))
    }

    /// A channel without a name; else as [`channel`](Self::channel).
    ///
    /// # Errors
    /// As [`channel`](Self::channel).
    ///
    /// # Examples
    /// ```
    /// let (mut tx, mut rx) = tidewire::Options::new().serde_channel::<(u8, String)>()?;
    /// tx.send(&(9, "buoys".to_owned()))?;
    /// assert_eq!(rx.recv()?, (9, "buoys".to_owned()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn serde_channel<T: Serialize + DeserializeOwned>(
        &self,
    ) -> Result<(SerdeSender<T>, SerdeReceiver<T>), OpenError> {
        let (sender, receiver) = self.bytes_channel()?;
        Ok((SerdeSender::new(sender), SerdeReceiver::new(receiver)))
    }

    /// As [`serde_publisher`](crate::serde_publisher()), with these options, of which [`max_message`](Self::max_message) says how
    /// many bytes a message may become.
    ///
    /// # Errors
    /// As [`publisher`](Self::publisher); [`OpenError::Incompatible`] with [`Field::TypeFingerprint`] if subscribers are there
    /// that expect another [content](Self::content).
    pub fn serde_publisher<T: Serialize>(&self, name: &str) -> Result<SerdePublisher<T>, OpenError> {
        self.bytes_publisher(name).map(SerdePublisher::new).map_err(|error| told(error, self, name))
    }

    /// As [`serde_subscriber`](crate::serde_subscriber()), with these options.
    ///
    /// # Errors
    /// As [`subscriber`](Self::subscriber); [`OpenError::Incompatible`] with [`Field::TypeFingerprint`] if another
    /// [content](Self::content) is published.
    pub fn serde_subscriber<T: DeserializeOwned>(&self, name: &str) -> Result<SerdeSubscriber<T>, OpenError> {
        self.bytes_subscriber(name).map(SerdeSubscriber::new).map_err(|error| told(error, self, name))
    }

    /// As [`serde_subscriber`](Self::serde_subscriber), and waits as long for somebody who publishes.
    ///
    /// # Errors
    /// [`OpenError::TimedOut`] if nobody came, else as [`serde_subscriber`](Self::serde_subscriber).
    pub fn serde_subscriber_in<T: DeserializeOwned>(
        &self,
        name: &str,
        time: Duration,
    ) -> Result<SerdeSubscriber<T>, OpenError> {
        let opened = self.bytes_subscriber_in(name, time).map(SerdeSubscriber::new);
        opened.map_err(|error| told(error, self, name))
    }

    /// A publisher and a subscriber without a name; else as [`publish`](Self::publish).
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    ///
    /// # Examples
    /// ```
    /// let (mut publisher, mut first) = tidewire::Options::new().serde_publish::<(u8, String)>()?;
    /// publisher.publish(&(9, "buoys".to_owned()))?;
    /// assert_eq!(first.recv()?, (9, "buoys".to_owned()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn serde_publish<T: Serialize + DeserializeOwned>(
        &self,
    ) -> Result<(SerdePublisher<T>, SerdeSubscriber<T>), OpenError> {
        let (publisher, subscriber) = self.bytes_publish()?;
        Ok((SerdePublisher::new(publisher), SerdeSubscriber::new(subscriber)))
    }
}

/// Writes a message into the buffer.
fn encode<T: Serialize, E>(value: &T, to: &mut Vec<u8>) -> Result<(), EncodeError<E>> {
    let mut buffer = mem::take(to);
    buffer.clear();
    *to = postcard::to_extend(value, buffer).map_err(EncodeError::Encode)?;
    Ok(())
}

/// Reads the message in the buffer.
fn decode<T: DeserializeOwned, E>(buffer: &[u8]) -> Result<T, DecodeError<E>> {
    match postcard::take_from_bytes(buffer) {
        Ok((value, [])) => Ok(value),
        Ok((_, left)) => Err(DecodeError::TooLong { left: left.len() }),
        Err(error) => Err(DecodeError::Decode(error)),
    }
}

/// A sending end of a channel of `T`. `Send`, not `Sync`; for another thread [open another one](Self::try_clone).
///
/// The guarantees are those of a [`Sender`](crate::Sender), but that a message is written as bytes first, into a buffer that is
/// used again.
pub struct SerdeSender<T> {
    sender: BytesSender,
    buffer: Vec<u8>,
    message: PhantomData<fn(T)>,
}

impl<T: Serialize> SerdeSender<T> {
    /// Over any channel of bytes, such as one in memory that was handed over.
    #[must_use]
    pub fn new(sender: BytesSender) -> Self {
        Self { sender, buffer: Vec::new(), message: PhantomData }
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    /// As [`BytesSender::try_send`], and [`EncodeError::Encode`].
    pub fn try_send(&mut self, value: &T) -> Result<(), EncodeError<TrySendError<()>>> {
        encode(value, &mut self.buffer)?;
        self.sender.try_send(&self.buffer).map_err(EncodeError::Channel)
    }

    /// Sends a message; what happens if there is no room was [chosen](crate::Overflow) for the channel.
    ///
    /// # Errors
    /// As [`BytesSender::send`], and [`EncodeError::Encode`].
    pub fn send(&mut self, value: &T) -> Result<(), EncodeError<SendError<()>>> {
        encode(value, &mut self.buffer)?;
        self.sender.send(&self.buffer).map_err(EncodeError::Channel)
    }

    /// Sends a message, and waits for room, but not longer than `time`.
    ///
    /// # Errors
    /// As [`BytesSender::send_timeout`], and [`EncodeError::Encode`].
    pub fn send_timeout(
        &mut self,
        value: &T,
        time: Duration,
    ) -> Result<(), EncodeError<SendTimeoutError<()>>> {
        encode(value, &mut self.buffer)?;
        self.sender.send_timeout(&self.buffer, time).map_err(EncodeError::Channel)
    }

    /// Another sending end of the same channel, for another thread.
    ///
    /// # Errors
    /// As [`BytesSender::try_clone`].
    pub fn try_clone(&self) -> Result<Self, OpenError> {
        self.sender.try_clone().map(Self::new)
    }

    /// The channel of bytes below.
    #[must_use]
    pub fn into_inner(self) -> BytesSender {
        self.sender
    }
}

impl<T> fmt::Debug for SerdeSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerdeSender").field("sender", &self.sender).finish_non_exhaustive()
    }
}

/// The receiving end of a channel of `T`. `Send`, not `Sync`, not `Clone`.
///
/// The guarantees are those of a [`Receiver`](crate::Receiver), but that messages are read from bytes: a sender that lies may
/// have any `T` made of them, or an [error](DecodeError). How much memory and stack that takes is the affair of `T`: a type
/// that contains itself has no bound on how deep it is.
pub struct SerdeReceiver<T> {
    receiver: BytesReceiver,
    buffer: Vec<u8>,
    message: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> SerdeReceiver<T> {
    /// Over any channel of bytes, such as one in memory that was handed over.
    #[must_use]
    pub fn new(receiver: BytesReceiver) -> Self {
        Self { receiver, buffer: Vec::new(), message: PhantomData }
    }

    /// Takes a message if there is one.
    ///
    /// # Errors
    /// As [`BytesReceiver::try_recv`]; [`DecodeError::Decode`] and [`DecodeError::TooLong`] if it is no `T`.
    pub fn try_recv(&mut self) -> Result<T, DecodeError<TryRecvError>> {
        self.receiver.try_recv_to(&mut self.buffer).map_err(DecodeError::Channel)?;
        decode(&self.buffer)
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// As [`BytesReceiver::recv`]; [`DecodeError::Decode`] and [`DecodeError::TooLong`] if it is no `T`.
    pub fn recv(&mut self) -> Result<T, DecodeError<RecvError>> {
        self.receiver.recv_to(&mut self.buffer).map_err(DecodeError::Channel)?;
        decode(&self.buffer)
    }

    /// Waits for a message, but not longer than `time`.
    ///
    /// # Errors
    /// As [`BytesReceiver::recv_timeout`]; [`DecodeError::Decode`] and [`DecodeError::TooLong`] if it is no `T`.
    pub fn recv_timeout(&mut self, time: Duration) -> Result<T, DecodeError<RecvTimeoutError>> {
        self.receiver.recv_to_timeout(&mut self.buffer, time).map_err(DecodeError::Channel)?;
        decode(&self.buffer)
    }

    /// The messages that come, and what came that is none, until the channel has no more to give:
    /// [`try_recv`](Self::try_recv) tells why.
    pub fn iter(&mut self) -> impl Iterator<Item = Result<T, DecodeError<RecvError>>> + '_ {
        std::iter::from_fn(|| match self.recv() {
            Err(DecodeError::Channel(_)) => None,
            received => Some(received),
        })
    }

    /// The channel of bytes below.
    #[must_use]
    pub fn into_inner(self) -> BytesReceiver {
        self.receiver
    }
}

impl<T> fmt::Debug for SerdeReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerdeReceiver").field("receiver", &self.receiver).finish_non_exhaustive()
    }
}

/// The publishing end of a publication of `T`. `Send`, not `Sync`, not `Clone`.
///
/// The guarantees are those of a [`Publisher`](crate::Publisher), but that a message is written as bytes first, into a buffer
/// that is used again.
pub struct SerdePublisher<T> {
    publisher: BytesPublisher,
    buffer: Vec<u8>,
    message: PhantomData<fn(T)>,
}

impl<T: Serialize> SerdePublisher<T> {
    /// Over any publication of bytes, such as one in memory that was handed over.
    #[must_use]
    pub fn new(publisher: BytesPublisher) -> Self {
        Self { publisher, buffer: Vec::new(), message: PhantomData }
    }

    /// Publishes a message; says which it is: they are counted from 1.
    ///
    /// # Errors
    /// As [`BytesPublisher::publish`], and [`EncodeError::Encode`].
    pub fn publish(&mut self, value: &T) -> Result<u64, EncodeError<SendError<()>>> {
        encode(value, &mut self.buffer)?;
        self.publisher.publish(&self.buffer).map_err(EncodeError::Channel)
    }

    /// Publishes a message, and waits for the slowest subscriber, but not longer than `time`.
    ///
    /// # Errors
    /// As [`BytesPublisher::publish_timeout`], and [`EncodeError::Encode`].
    pub fn publish_timeout(
        &mut self,
        value: &T,
        time: Duration,
    ) -> Result<u64, EncodeError<SendTimeoutError<()>>> {
        encode(value, &mut self.buffer)?;
        self.publisher.publish_timeout(&self.buffer, time).map_err(EncodeError::Channel)
    }

    /// Waits until that many subscribers are there that may write; whether they were in time.
    pub fn wait_subscribers(&mut self, count: usize, time: Duration) -> bool {
        self.publisher.wait_subscribers(count, time)
    }

    /// The publication of bytes below.
    #[must_use]
    pub fn into_inner(self) -> BytesPublisher {
        self.publisher
    }
}

impl<T> fmt::Debug for SerdePublisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerdePublisher").field("publisher", &self.publisher).finish_non_exhaustive()
    }
}

/// A subscriber to a publication of `T`. `Send`, not `Sync`, not `Clone`.
///
/// The guarantees are those of a [`Subscriber`](crate::Subscriber), but that messages are read from bytes, as those of a
/// [`SerdeReceiver`] are.
pub struct SerdeSubscriber<T> {
    subscriber: BytesSubscriber,
    buffer: Vec<u8>,
    message: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> SerdeSubscriber<T> {
    /// Over any subscriber to bytes, such as an [observer](Options::bytes_observer).
    #[must_use]
    pub fn new(subscriber: BytesSubscriber) -> Self {
        Self { subscriber, buffer: Vec::new(), message: PhantomData }
    }

    /// Takes a message if there is one.
    ///
    /// # Errors
    /// As [`BytesSubscriber::try_recv`]; [`DecodeError::Decode`] and [`DecodeError::TooLong`] if it is no `T`.
    pub fn try_recv(&mut self) -> Result<T, DecodeError<SubscribeError>> {
        self.subscriber.try_recv_to(&mut self.buffer).map_err(DecodeError::Channel)?;
        decode(&self.buffer)
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// As [`BytesSubscriber::recv`]; [`DecodeError::Decode`] and [`DecodeError::TooLong`] if it is no `T`.
    pub fn recv(&mut self) -> Result<T, DecodeError<SubscribeError>> {
        self.subscriber.recv_to(&mut self.buffer).map_err(DecodeError::Channel)?;
        decode(&self.buffer)
    }

    /// Waits for a message, but not longer than `time`.
    ///
    /// # Errors
    /// As [`BytesSubscriber::recv_timeout`]; [`DecodeError::Decode`] and [`DecodeError::TooLong`] if it is no `T`.
    pub fn recv_timeout(&mut self, time: Duration) -> Result<T, DecodeError<SubscribeError>> {
        self.subscriber.recv_to_timeout(&mut self.buffer, time).map_err(DecodeError::Channel)?;
        decode(&self.buffer)
    }

    /// The messages that come, and what came that is none, until nobody publishes any more:
    /// [`try_recv`](Self::try_recv) tells why.
    pub fn iter(&mut self) -> impl Iterator<Item = Result<T, DecodeError<SubscribeError>>> + '_ {
        std::iter::from_fn(|| match self.recv() {
            Err(DecodeError::Channel(_)) => None,
            received => Some(received),
        })
    }

    /// Messages that were overwritten before this subscriber could read them, so far.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.subscriber.missed()
    }

    /// Messages that are published and not received yet.
    pub fn lag(&mut self) -> u64 {
        self.subscriber.lag()
    }

    /// The subscriber to bytes below.
    #[must_use]
    pub fn into_inner(self) -> BytesSubscriber {
        self.subscriber
    }
}

impl<T> fmt::Debug for SerdeSubscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerdeSubscriber").field("subscriber", &self.subscriber).finish_non_exhaustive()
    }
}
