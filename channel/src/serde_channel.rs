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
use crate::error::{
    OpenError, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
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

    /// Writes a message into the buffer.
    fn encode<E>(&mut self, value: &T) -> Result<(), EncodeError<E>> {
        let mut buffer = mem::take(&mut self.buffer);
        buffer.clear();
        self.buffer = postcard::to_extend(value, buffer).map_err(EncodeError::Encode)?;
        Ok(())
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    /// As [`BytesSender::try_send`], and [`EncodeError::Encode`].
    pub fn try_send(&mut self, value: &T) -> Result<(), EncodeError<TrySendError<()>>> {
        self.encode(value)?;
        self.sender.try_send(&self.buffer).map_err(EncodeError::Channel)
    }

    /// Sends a message; what happens if there is no room was [chosen](crate::Overflow) for the channel.
    ///
    /// # Errors
    /// As [`BytesSender::send`], and [`EncodeError::Encode`].
    pub fn send(&mut self, value: &T) -> Result<(), EncodeError<SendError<()>>> {
        self.encode(value)?;
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
        self.encode(value)?;
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

    /// Reads the message in the buffer.
    fn decode<E>(&self) -> Result<T, DecodeError<E>> {
        match postcard::take_from_bytes(&self.buffer) {
            Ok((value, [])) => Ok(value),
            Ok((_, left)) => Err(DecodeError::TooLong { left: left.len() }),
            Err(error) => Err(DecodeError::Decode(error)),
        }
    }

    /// Takes a message if there is one.
    ///
    /// # Errors
    /// As [`BytesReceiver::try_recv`]; [`DecodeError::Decode`] and [`DecodeError::TooLong`] if it is no `T`.
    pub fn try_recv(&mut self) -> Result<T, DecodeError<TryRecvError>> {
        self.receiver.try_recv_to(&mut self.buffer).map_err(DecodeError::Channel)?;
        self.decode()
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// As [`BytesReceiver::recv`]; [`DecodeError::Decode`] and [`DecodeError::TooLong`] if it is no `T`.
    pub fn recv(&mut self) -> Result<T, DecodeError<RecvError>> {
        self.receiver.recv_to(&mut self.buffer).map_err(DecodeError::Channel)?;
        self.decode()
    }

    /// Waits for a message, but not longer than `time`.
    ///
    /// # Errors
    /// As [`BytesReceiver::recv_timeout`]; [`DecodeError::Decode`] and [`DecodeError::TooLong`] if it is no `T`.
    pub fn recv_timeout(&mut self, time: Duration) -> Result<T, DecodeError<RecvTimeoutError>> {
        self.receiver.recv_to_timeout(&mut self.buffer, time).map_err(DecodeError::Channel)?;
        self.decode()
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
