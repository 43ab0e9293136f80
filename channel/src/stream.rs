//! Channels of bytes as streams: what is written comes out in order, cut anywhere.

use std::fmt;
use std::io::{self, BufRead, Read, Write};

use tidewire_shm::{DeathWatch, NoticeAddress};

use crate::byte_queue::ByteSink;
use crate::bytes::{BytesReceiver, BytesSender};
use crate::error::{RecvError, TryRecvError, TrySendError};
use crate::rest::Until;

/// The most bytes of a message that a stream makes: what `io::copy` reads and writes at a time, so that it goes straight from
/// its buffer into the channel, and from the channel into its buffer.
const CHUNK_BYTES: usize = 8 << 10;

/// The kind of an error that says the same.
fn kind(error: &TrySendError<()>) -> io::ErrorKind {
    match error {
        TrySendError::Full(()) => io::ErrorKind::WouldBlock,
        TrySendError::Disconnected(()) => io::ErrorKind::BrokenPipe,
        TrySendError::Corrupt(..) => io::ErrorKind::InvalidData,
        TrySendError::TooLong(..) => io::ErrorKind::InvalidInput,
        TrySendError::ForkedChild(()) => io::ErrorKind::Unsupported,
    }
}

impl BytesSender {
    /// The sending end as a stream of bytes. With several senders, each is in order for itself, and their bytes come out
    /// mixed.
    ///
    /// # Examples
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// let (tx, rx) = tidewire::Options::new().bytes_channel()?;
    /// let (mut to, mut from) = (tx.into_stream(), rx.into_stream());
    /// write!(to, "{} bottles", 99)?;
    /// drop(to);
    /// let mut text = String::new();
    /// from.read_to_string(&mut text)?;
    /// assert_eq!(text, "99 bottles");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn into_stream(self) -> StreamWriter {
        // So that one is written while another is read.
        let chunk = (self.max_message() / 4).clamp(1, CHUNK_BYTES);
        StreamWriter { sender: self, buffer: Vec::with_capacity(chunk), chunk }
    }
}

impl BytesReceiver {
    /// The receiving end as a stream of bytes. See [`StreamReader`] for how it ends.
    ///
    /// # Examples
    /// See [`BytesSender::into_stream`].
    #[must_use]
    pub fn into_stream(self) -> StreamReader {
        StreamReader { receiver: self, buffer: Vec::new(), at: 0 }
    }
}

/// The sending end of a channel as a stream. Small writes are gathered until there are 8 KiB, or as many as make a message
/// that fits well; [`flush`](Write::flush) sends what there is.
///
/// # Guarantees
/// - Where there is no room it waits for it, whatever was [chosen](crate::Overflow) for the channel: a stream loses nothing
///   on the way.
/// - What was flushed without an error arrives, also if this process is killed right after. What was only written may be
///   lost with it.
///
/// # Errors
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe) when the receiver is gone or dead,
/// [`InvalidData`](io::ErrorKind::InvalidData) if it published what cannot be,
/// [`Unsupported`](io::ErrorKind::Unsupported) in a fork child of the process that opened the channel. The
/// [`TrySendError`] is the inner error.
///
/// Dropping it sends what is left, which may wait, and cannot say what went wrong; [`finish`](Self::finish) can.
pub struct StreamWriter {
    sender: BytesSender,
    buffer: Vec<u8>,
    chunk: usize,
}

impl StreamWriter {
    /// Sends what is left, and leaves.
    ///
    /// # Errors
    /// As [the stream](Self); what could not be sent is gone.
    pub fn finish(mut self) -> io::Result<()> {
        let sent = self.publish();
        // Tried once; not again when this is dropped.
        self.buffer.clear();
        sent
    }

    fn publish(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            send(&mut self.sender, &self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// One message; waits for room.
fn send(sender: &mut BytesSender, bytes: &[u8]) -> io::Result<()> {
    sender
        .end
        .send_until(Until::NEVER, &mut |sink: &mut ByteSink| sink.push(bytes))
        .map_err(|error| io::Error::new(kind(&error), error))
}

impl Write for StreamWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= self.chunk {
            self.publish()?;
        }
        let room = self.chunk - self.buffer.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        if self.buffer.is_empty() && taken.len() == self.chunk {
            send(&mut self.sender, taken)?;
        } else {
            self.buffer.extend_from_slice(taken);
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.publish()
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _sent = self.publish();
    }
}

impl fmt::Debug for StreamWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamWriter")
            .field("gathered", &self.buffer.len())
            .field("sender", &self.sender)
            .finish_non_exhaustive()
    }
}

/// The receiving end of a channel as a stream.
///
/// # Guarantees
/// - It ends, with `Ok(0)`, when whoever had sent has left in order and all that they sent was read. That nobody has come yet
///   is no end. A sender that comes later goes on with the stream.
/// - If one of those that are gone was killed, or ended without dropping its end, the end is
///   [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) instead: all that it had flushed was read, and what it meant to write
///   after that is unknown. It is forgotten when another sender takes its place.
///
/// # Errors
/// [`InvalidData`](io::ErrorKind::InvalidData) if a sender published what cannot be,
/// [`Unsupported`](io::ErrorKind::Unsupported) in a fork child of the process that opened the channel. The
/// [`RecvError`] is the inner error.
pub struct StreamReader {
    receiver: BytesReceiver,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were read.
    at: usize,
}

impl StreamReader {
    /// The receiving end, and what of a message was received and not yet read.
    #[must_use]
    pub fn into_parts(mut self) -> (BytesReceiver, Vec<u8>) {
        self.buffer.drain(..self.at);
        (self.receiver, self.buffer)
    }

    /// What an error means to a stream: an end, or an error of it.
    fn end(&self, error: RecvError) -> io::Result<()> {
        let kind = match error {
            RecvError::Disconnected if self.someone_was_killed() => io::ErrorKind::UnexpectedEof,
            RecvError::Disconnected => return Ok(()),
            RecvError::Corrupt(_) => io::ErrorKind::InvalidData,
            RecvError::ForkedChild => io::ErrorKind::Unsupported,
            RecvError::BufferTooSmall { .. } => io::ErrorKind::Other,
        };
        Err(io::Error::new(kind, error))
    }

    /// Nobody is there to send, and yet somebody never said that it left, and is not one who came just now.
    fn someone_was_killed(&self) -> bool {
        let roster = &self.receiver.end.company.roster;
        let is_here = |notice| {
            DeathWatch::find(NoticeAddress::from_words(notice)).is_ok_and(|watch| !watch.state().is_gone())
        };
        (1..roster.entries())
            .map(|entry| roster.entry(entry))
            .any(|said| said.present && !is_here(said.notice))
    }
}

impl Read for StreamReader {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if to.is_empty() {
            return Ok(0);
        }
        if self.at == self.buffer.len() {
            // Without a copy in between, if it fits.
            match self.receiver.try_recv_into(to) {
                Ok(0) | Err(TryRecvError::Empty | TryRecvError::BufferTooSmall { .. }) => {}
                Ok(read) => return Ok(read),
                // Found again, and told, below.
                Err(TryRecvError::Disconnected | TryRecvError::ForkedChild) => {}
                Err(TryRecvError::Corrupt(corrupt)) => {
                    return self.end(RecvError::Corrupt(corrupt)).map(|()| 0);
                }
            }
        }
        let mut there = self.fill_buf()?;
        let read = there.read(to)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for StreamReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at >= self.buffer.len() {
            self.at = 0;
            self.buffer.clear();
            // A message without bytes is no end.
            if let Err(error) = self.receiver.recv_to(&mut self.buffer) {
                self.buffer.clear();
                self.end(error)?;
                break;
            }
        }
        Ok(self.buffer.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes).min(self.buffer.len());
    }
}

impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReader")
            .field("unread", &self.buffer.len().saturating_sub(self.at))
            .field("receiver", &self.receiver)
            .finish_non_exhaustive()
    }
}
