//! The ends of each pattern, as a row sees them: one that gives messages, and one that takes and looks at them.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tidewire::{
    BytesReceiver, BytesSender, CallError, Client, DecodeError, EncodeError, Publisher, Reader, Receiver,
    RecvError, RecvTimeoutError, SendError, Sender, SerdeReceiver, SerdeSender, Server, SubscribeError,
    Subscriber, WaitError, Writer,
};

use crate::run::message::{self, WORD, first_word, is, name, name_of, parts};
use crate::run::oracle::Oracle;

/// Words of a message of a plain type.
pub(super) const WORDS: usize = 8;
/// Words of the longest message of bytes.
const MOST: usize = 16;
/// Added to a producer's number for answers: no question can be taken for one.
const ANSWER: u8 = 0x80;
/// How long a server waits before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(2);
/// The longest call that is told apart from longer ones.
const LONGEST_NS: u64 = 1 << 36;

pub(super) type Message = [u64; WORDS];

/// What became of a message that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    Done,
    /// Whoever takes is gone: this end was told.
    Gone,
}

/// What became of a look for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// One with so many bytes, and the oracle has seen it.
    Got(u64),
    Nothing,
    /// Whoever gives is gone: this end was told.
    Gone,
}

/// An end that gives.
pub(super) trait Give {
    /// Gives the message of this name, or a torn one; once this returns it is acknowledged.
    fn give(&mut self, name: u64, torn: bool) -> Result<Given>;

    /// Waits until that many take, if that is for this end to do.
    fn meet(&mut self, _takers: usize, _patience: Duration) -> bool {
        true
    }

    /// Answers that were not what was asked for.
    fn wrong_answers(&self) -> u64 {
        0
    }

    /// Quantiles of the calls, if it makes any.
    fn quantiles(&self) -> Option<[u64; 3]> {
        None
    }
}

/// An end that takes.
pub(super) trait Take {
    /// Takes a message and shows it to the oracle.
    fn take(&mut self, oracle: &mut Oracle) -> Result<Taken>;

    /// Waits until that many give, if that is for this end to do.
    fn meet(&mut self, _givers: usize, _patience: Duration) -> bool {
        true
    }

    /// Messages that it was told it missed.
    fn missed(&self) -> u64 {
        0
    }
}

pub(super) fn make(name: u64, torn: bool) -> Message {
    let mut words = message::make(name);
    if torn {
        message::tear(&mut words, name);
    }
    words
}

pub(super) fn see(oracle: &mut Oracle, words: &Message) -> Taken {
    let [first, ..] = words;
    oracle.see_as(*first, |name| is(words, name));
    Taken::Got(size_of::<Message>() as u64)
}

impl Give for Sender<Message> {
    fn give(&mut self, name: u64, torn: bool) -> Result<Given> {
        match self.send(make(name, torn)) {
            Ok(()) => Ok(Given::Done),
            Err(SendError::Disconnected(_)) => Ok(Given::Gone),
            Err(error) => bail!("sending: {error}"),
        }
    }
}

impl Take for Receiver<Message> {
    fn take(&mut self, oracle: &mut Oracle) -> Result<Taken> {
        match self.recv() {
            Ok(words) => Ok(see(oracle, &words)),
            Err(RecvError::Disconnected) => Ok(Taken::Gone),
            Err(error) => bail!("receiving: {error}"),
        }
    }

    fn meet(&mut self, givers: usize, patience: Duration) -> bool {
        self.wait_senders(givers, patience)
    }
}

/// Words of the message of bytes of this name.
fn length(name: u64) -> usize {
    1 + usize::from(first_word(name).to_le_bytes()[0]) % MOST
}

/// A sender of bytes, and where it makes them.
pub(super) struct BytesGiver(pub(super) BytesSender);

impl Give for BytesGiver {
    fn give(&mut self, name: u64, torn: bool) -> Result<Given> {
        let mut words = [0; MOST];
        let words = words.get_mut(..length(name)).unwrap_or_default();
        message::fill(words, name);
        if torn {
            message::tear(words, name);
        }
        match self.0.send(bytemuck::cast_slice(words)) {
            Ok(()) => Ok(Given::Done),
            Err(SendError::Disconnected(())) => Ok(Given::Gone),
            Err(error) => bail!("sending: {error}"),
        }
    }
}

/// A receiver of bytes, and where it puts them.
pub(super) struct BytesTaker {
    pub(super) end: BytesReceiver,
    pub(super) buffer: Vec<u8>,
}

impl Take for BytesTaker {
    fn take(&mut self, oracle: &mut Oracle) -> Result<Taken> {
        match self.end.recv_to(&mut self.buffer) {
            Ok(_) => {}
            Err(RecvError::Disconnected) => return Ok(Taken::Gone),
            Err(error) => bail!("receiving: {error}"),
        }
        let bytes = self.buffer.as_slice();
        let mut words = [0_u64; MOST];
        for (to, from) in words.iter_mut().zip(bytes.chunks(WORD)) {
            *to = from.first_chunk::<WORD>().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        }
        let [first, ..] = words;
        oracle.see_as(first, |name| {
            let found = words.get(..length(name)).unwrap_or_default();
            bytes.len() == size_of_val(found) && is(found, name)
        });
        Ok(Taken::Got(bytes.len() as u64))
    }

    fn meet(&mut self, givers: usize, patience: Duration) -> bool {
        self.end.wait_senders(givers, patience)
    }
}

/// A message that is no plain type: the words of a message, in one form or the other.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Letter {
    Plain(Vec<u64>),
    Signed { by: String, words: Vec<u64>, copies: Option<(u8, i64)> },
}

impl Letter {
    fn of(name: u64, torn: bool) -> Self {
        let mut words = vec![0; length(name)];
        message::fill(&mut words, name);
        if torn {
            message::tear(&mut words, name);
        }
        let (giver, sequence) = parts(name);
        match sequence % 3 {
            0 => Self::Plain(words),
            1 => Self::Signed { by: format!("giver {giver}, its {sequence}th"), words, copies: None },
            _ => Self::Signed { by: String::new(), words, copies: Some((giver, -1)) },
        }
    }

    fn words(&self) -> &[u64] {
        match self {
            Self::Plain(words) | Self::Signed { words, .. } => words,
        }
    }
}

impl Give for SerdeSender<Letter> {
    fn give(&mut self, name: u64, torn: bool) -> Result<Given> {
        match self.send(&Letter::of(name, torn)) {
            Ok(()) => Ok(Given::Done),
            Err(EncodeError::Channel(SendError::Disconnected(()))) => Ok(Given::Gone),
            Err(error) => bail!("sending: {error}"),
        }
    }
}

/// A receiver of letters. It cannot wait for its senders: the channel of bytes below can.
pub(super) struct SerdeTaker(Option<BytesReceiver>, Option<SerdeReceiver<Letter>>);

impl SerdeTaker {
    pub(super) fn new(receiver: SerdeReceiver<Letter>) -> Self {
        Self(Some(receiver.into_inner()), None)
    }
}

impl Take for SerdeTaker {
    fn take(&mut self, oracle: &mut Oracle) -> Result<Taken> {
        let Some(receiver) = &mut self.1 else { bail!("expected to have met the givers") };
        let letter = match receiver.recv() {
            Ok(letter) => letter,
            Err(DecodeError::Channel(RecvError::Disconnected)) => return Ok(Taken::Gone),
            Err(error) => bail!("receiving: {error}"),
        };
        let words = letter.words();
        oracle.see_as(words.first().copied().unwrap_or(0), |name| letter == Letter::of(name, false));
        Ok(Taken::Got(size_of_val(words) as u64))
    }

    fn meet(&mut self, givers: usize, patience: Duration) -> bool {
        let met = self.0.as_mut().is_none_or(|receiver| receiver.wait_senders(givers, patience));
        self.1 = self.0.take().map(SerdeReceiver::new);
        met
    }
}

impl Give for Writer<Message> {
    fn give(&mut self, name: u64, torn: bool) -> Result<Given> {
        match self.store(make(name, torn)) {
            Ok(_) => Ok(Given::Done),
            Err(error) => bail!("storing: {error}"),
        }
    }
}

/// A reader of a latest value, the version of the last one, and how many came between those that it saw.
pub(super) struct Latest {
    pub(super) reader: Reader<Message>,
    pub(super) version: u64,
    pub(super) missed: u64,
}

impl Take for Latest {
    fn take(&mut self, oracle: &mut Oracle) -> Result<Taken> {
        let found = match self.reader.wait_changed(LOOK) {
            Ok(found) => found,
            Err(WaitError::TimedOut | WaitError::Lapped) => return Ok(Taken::Nothing),
            Err(WaitError::WriterGone) => return Ok(Taken::Gone),
            Err(error) => bail!("waiting: {error}"),
        };
        if found.version == 0 {
            return Ok(Taken::Nothing);
        }
        let Some(missed) = found.version.checked_sub(self.version + 1) else {
            bail!("expected a version behind {}, found {}", self.version, found.version);
        };
        self.missed += missed;
        self.version = found.version;
        Ok(see(oracle, &found.value))
    }

    /// Until somebody writes; then nobody is told too early that nobody does.
    fn meet(&mut self, _givers: usize, patience: Duration) -> bool {
        self.reader.wait_writer(patience)
    }

    fn missed(&self) -> u64 {
        self.missed
    }
}

impl Give for Publisher<Message> {
    fn give(&mut self, name: u64, torn: bool) -> Result<Given> {
        match self.publish(make(name, torn)) {
            Ok(_) => Ok(Given::Done),
            Err(error) => bail!("publishing: {error}"),
        }
    }

    fn meet(&mut self, takers: usize, patience: Duration) -> bool {
        self.wait_subscribers(takers, patience)
    }
}

impl Take for Subscriber<Message> {
    fn take(&mut self, oracle: &mut Oracle) -> Result<Taken> {
        match self.recv() {
            Ok(words) => Ok(see(oracle, &words)),
            Err(SubscribeError::Disconnected) => Ok(Taken::Gone),
            Err(error) => bail!("receiving: {error}"),
        }
    }

    fn missed(&self) -> u64 {
        Self::missed(self)
    }
}

/// A client, how long its calls took, and what was wrong with the answers.
pub(super) struct Asking {
    client: Client<Message, Message>,
    times: Histogram<u64>,
    wrong: u64,
}

impl Asking {
    pub(super) fn new(client: Client<Message, Message>) -> Result<Self> {
        Ok(Self { client, times: Histogram::new_with_bounds(1, LONGEST_NS, 3)?, wrong: 0 })
    }
}

/// The answer to the question of this name.
fn answer_of(question: u64) -> Message {
    let (asker, sequence) = parts(question);
    message::make(name(asker | ANSWER, sequence))
}

impl Give for Asking {
    fn give(&mut self, name: u64, torn: bool) -> Result<Given> {
        let began = Instant::now();
        let answer = self.client.call(make(name, torn));
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        match answer {
            Ok(answer) => {
                self.times.saturating_record(took);
                self.wrong += u64::from(answer != answer_of(name));
                Ok(Given::Done)
            }
            Err(CallError::Disconnected) => Ok(Given::Gone),
            Err(error) => bail!("calling: {error}"),
        }
    }

    fn wrong_answers(&self) -> u64 {
        self.wrong
    }

    fn quantiles(&self) -> Option<[u64; 3]> {
        Some([0.5, 0.99, 0.999].map(|quantile| self.times.value_at_quantile(quantile)))
    }
}

impl Take for Server<Message, Message> {
    fn take(&mut self, oracle: &mut Oracle) -> Result<Taken> {
        match self.recv_timeout(LOOK) {
            Ok(request) => {
                let [first, ..] = *request.value();
                let taken = see(oracle, request.value());
                if let Some(question) = name_of(first) {
                    // Whoever asked may be gone.
                    let _told = request.reply(answer_of(question));
                }
                Ok(taken)
            }
            Err(RecvTimeoutError::Timeout) => Ok(Taken::Nothing),
            Err(error) => bail!("receiving: {error}"),
        }
    }
}
