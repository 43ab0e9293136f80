//! The lives of the processes of a row: one gives messages until it is told to stop, one takes them until nobody gives
//! any more.

use std::thread::{sleep, yield_now};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tidewire::{Kind, Options, Overflow, Receiver};
use tidewire_shm::sync::spin_hint;

use super::awaited::Awaited;
use super::board::{Board, Seat, Word};
use super::ends::{
    Asking, BytesGiver, BytesTaker, Give, Given, Latest, Letter, Message, SerdeTaker, Take, Taken,
};
use crate::report::complain;
use crate::run::message::{MAX_SEQUENCE, name};
use crate::run::oracle::Oracle;
use crate::run::pin::{Cores, pin};
use crate::run::plan::Fault;

/// Messages between two looks at the orders, and between two counts of a taker.
const LOOK: u64 = 64;
/// A broken giver does wrong once in so many messages, the first time at this one; before that it does not end.
const WRONG: (u64, u64) = (1000, 20);
/// How often a giver whose taker is gone looks for the one that follows.
const PAUSE: Duration = Duration::from_micros(50);
/// A receiver that will be followed works on some messages, so many of twice as many, for so long: it is killed with
/// messages in its hand, and while it waits for them.
const WORK: (u64, Duration) = (256, Duration::from_micros(4));
/// So many messages are forgotten by a receiver that is to forget some: more than it may get again.
const FORGOTTEN: u64 = 200;
/// A slow subscriber naps once in so many messages, for so long.
const NAP: (u64, Duration) = (8192, Duration::from_millis(1));

/// How the messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// Of a plain type, over a lane for each sender.
    Channel,
    /// In one order over all senders.
    Ordered,
    /// Over nothing but a ring.
    Single,
    /// As `Channel`, with futures.
    Async,
    Bytes,
    /// As `Bytes`, of what serde writes and reads.
    Serde,
    /// The publisher waits for the slowest.
    Publish,
    /// The publisher waits for nobody, and the second subscriber is slow.
    PublishLossy,
    /// One value: readers see some of them.
    Latest,
    Request,
}

/// All that the processes of a row must know.
pub(super) struct Job {
    pub(super) pattern: Pattern,
    pub(super) givers: usize,
    pub(super) takers: usize,
    /// Whether the second taker waits for the end of the first, and goes on in its place.
    pub(super) followed: bool,
    pub(super) options: Options,
    pub(super) board: Board,
    /// The clock of all of them.
    pub(super) began: Instant,
    pub(super) fault: Option<Fault>,
    pub(super) patience: Duration,
    pub(super) cores: Option<Cores>,
}

/// One of the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Giver(usize),
    Taker(usize),
}

/// What all processes of a row open; each row has a directory of its own.
const NAME: &str = "row";

impl Pattern {
    /// Whether the only giver, or the only taker, creates what the others join, and cannot be done without.
    pub(super) fn owner(self) -> Who {
        match self {
            Self::Publish | Self::PublishLossy | Self::Latest => Who::Giver(0),
            Self::Channel
            | Self::Ordered
            | Self::Single
            | Self::Async
            | Self::Bytes
            | Self::Serde
            | Self::Request => Who::Taker(0),
        }
    }

    /// Whether takers do not get all, and are told how much they miss.
    pub(super) fn is_lossy(self) -> bool {
        matches!(self, Self::PublishLossy | Self::Latest)
    }

    /// What a channel of this kind holds for each sender where one receiver follows another: little, so that senders wait for
    /// the second one.
    pub(super) fn small(self) -> usize {
        if self.counts_bytes() { 4096 } else { 64 }
    }

    pub(super) fn counts_bytes(self) -> bool {
        matches!(self, Self::Bytes | Self::Serde)
    }
}

impl Job {
    /// The seat of a process.
    pub(super) fn seat(&self, who: Who) -> Seat<'_> {
        match who {
            Who::Giver(number) => self.board.giver(number),
            Who::Taker(number) => self.board.taker(number),
        }
    }

    /// All processes, the owner first.
    pub(super) fn all(&self) -> Vec<Who> {
        let givers = (0..self.givers).map(Who::Giver);
        let takers = (0..self.takers).map(Who::Taker);
        match self.pattern.owner() {
            Who::Giver(_) => givers.chain(takers).collect(),
            Who::Taker(_) => takers.chain(givers).collect(),
        }
    }

    /// Nanoseconds since the row began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The life of a process. What goes wrong is said on standard error and in its seat.
    pub(super) fn live(&self, who: Who) {
        if let (Some(cores), 1, 1) = (&self.cores, self.givers, self.takers) {
            let processor = match who {
                Who::Giver(_) => cores.producers.first().copied(),
                Who::Taker(_) => Some(cores.consumer),
            };
            // Where it is refused the row is only a slower one.
            let _refused = processor.map(pin);
        }
        let lived = match who {
            Who::Giver(number) => self.give(number),
            Who::Taker(number) => self.take(number),
        };
        if let Err(error) = lived {
            complain(&format!("{:?}, {who:?}: {error:#}", self.pattern));
            self.seat(who).say(Word::Trouble, 1);
        }
    }

    fn give(&self, number: usize) -> Result<()> {
        let Self { options, patience, .. } = self;
        match self.pattern {
            Pattern::Channel | Pattern::Ordered | Pattern::Single => {
                self.give_with(number, options.sender_in::<Message>(NAME, *patience)?)
            }
            Pattern::Async => self.give_with(number, Awaited(options.sender_in::<Message>(NAME, *patience)?)),
            Pattern::Bytes => self.give_with(number, BytesGiver(options.bytes_sender_in(NAME, *patience)?)),
            Pattern::Serde => self.give_with(number, options.serde_sender_in::<Letter>(NAME, *patience)?),
            Pattern::Latest => self.give_with(number, options.latest_writer::<Message>(NAME, [0; _])?),
            Pattern::Publish => {
                let options = options.clone().overflow(Overflow::Block);
                self.give_with(number, options.publisher::<Message>(NAME)?)
            }
            Pattern::PublishLossy => self.give_with(number, options.publisher::<Message>(NAME)?),
            Pattern::Request => {
                self.give_with(number, Asking::new(options.client_in::<Message, Message>(NAME, *patience)?)?)
            }
        }
    }

    /// The second of two takers, of which one follows the other, comes when all others are at work.
    fn stand_by(&self, number: usize) {
        if self.follows(number) {
            self.board.taker(number).say(Word::Begun, 1);
            self.await_go();
        }
    }

    fn follows(&self, number: usize) -> bool {
        self.followed && number > 0
    }

    fn take(&self, number: usize) -> Result<()> {
        let Self { options, patience, .. } = self;
        self.stand_by(number);
        match self.pattern {
            Pattern::Channel => self.take_with(number, self.receiver(Kind::Lanes)?),
            Pattern::Ordered => self.take_with(number, self.receiver(Kind::Ordered)?),
            Pattern::Single => self.take_with(number, self.receiver(Kind::Single)?),
            Pattern::Async => self.take_with(number, Awaited(self.receiver(Kind::Lanes)?)),
            Pattern::Bytes => {
                let end = options.bytes_receiver_in(NAME, *patience)?;
                self.take_with(number, BytesTaker { end, buffer: Vec::new() })
            }
            Pattern::Serde => {
                self.take_with(number, SerdeTaker::new(options.serde_receiver_in::<Letter>(NAME, *patience)?))
            }
            Pattern::Latest => {
                let reader = options.latest_reader_in::<Message>(NAME, *patience)?;
                self.take_with(number, Latest { reader, version: 0, missed: 0 })
            }
            Pattern::Publish | Pattern::PublishLossy => {
                self.take_with(number, options.subscriber_in::<Message>(NAME, *patience)?)
            }
            Pattern::Request => self.take_with(number, options.server::<Message, Message>(NAME)?),
        }
    }

    fn receiver(&self, kind: Kind) -> Result<Receiver<Message>> {
        Ok(self.options.clone().kind(kind).receiver_in(NAME, self.patience)?)
    }

    /// Says that this process is there, and waits for the order to begin.
    fn begin(&self, seat: Seat<'_>, met: bool) -> Result<Instant> {
        ensure!(met, "expected all peers within {:?}, found some missing", self.patience);
        seat.say(Word::Begun, 1);
        self.await_go();
        Ok(Instant::now())
    }

    fn await_go(&self) {
        while self.board.parent().said(Word::Go) == 0 {
            yield_now();
        }
    }

    /// Gives a message; where somebody follows whoever is gone, to that one.
    fn give_one<G: Give>(&self, giver: &mut G, name: u64, torn: bool) -> Result<Given> {
        let mut gone = None;
        loop {
            match giver.give(name, torn)? {
                Given::Gone if self.followed => {
                    let gone = gone.get_or_insert_with(Instant::now);
                    ensure!(gone.elapsed() < self.patience, "expected somebody to follow, found nobody");
                    sleep(PAUSE);
                }
                given => return Ok(given),
            }
        }
    }

    fn give_with<G: Give>(&self, number: usize, mut giver: G) -> Result<()> {
        let seat = self.board.giver(number);
        let met = giver.meet(self.takers, self.patience);
        let begun = self.begin(seat, met)?;
        let name = |sequence| name(u8::try_from(number).unwrap_or(u8::MAX), sequence);
        let mut next = 0;
        let mut told = false;
        while !told && next < MAX_SEQUENCE / 2 {
            // At least so many, on however slow a machine.
            if next > 0 && next.is_multiple_of(LOOK) && self.board.parent().said(Word::Stop) != 0 {
                break;
            }
            if let Some(fault) = self.fault.filter(|_| next % WRONG.0 == WRONG.1) {
                let (instead, go_on) = fault.instead(next);
                for (sequence, torn) in instead {
                    told |= self.give_one(&mut giver, name(sequence), torn)? == Given::Gone;
                }
                if go_on != next {
                    next = go_on;
                    seat.say(Word::Count, next);
                    continue;
                }
            }
            match self.give_one(&mut giver, name(next), false)? {
                Given::Done => {
                    next += 1;
                    seat.say(Word::Count, next);
                }
                Given::Gone => told = true,
            }
        }
        if told {
            seat.say(Word::Told, self.now());
        }
        seat.say(Word::Time, u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        seat.say(Word::Torn, giver.wrong_answers());
        for (word, value) in
            [Word::P50, Word::P99, Word::P999].into_iter().zip(giver.quantiles().into_iter().flatten())
        {
            seat.say(word, value);
        }
        if self.fault == Some(Fault::Stall) {
            sleep(Duration::MAX);
        }
        let lie = if self.fault == Some(Fault::Lie) { WRONG.0 } else { 0 };
        // Before it goes: whoever is told of that finds the total.
        seat.say(Word::Total, next + lie + 1);
        drop(giver);
        Ok(())
    }

    fn take_with<T: Take>(&self, number: usize, mut taker: T) -> Result<()> {
        let seat = self.board.taker(number);
        let met = taker.meet(self.givers, self.patience);
        let begun = self.begin(seat, met)?;
        if self.follows(number) {
            seat.say(Word::Told, self.now());
        }
        let slow = self.pattern == Pattern::PublishLossy && number > 0;
        let mut oracle = Oracle::new(u8::try_from(self.givers)?);
        let (mut received, mut bytes) = (0_u64, 0);
        let forgotten = if self.follows(number) && self.fault == Some(Fault::Forget) { FORGOTTEN } else { 0 };
        let mut nobody = Oracle::new(u8::try_from(self.givers)?);
        loop {
            let forgets = received < forgotten;
            match taker.take(if forgets { &mut nobody } else { &mut oracle })? {
                Taken::Got(length) => {
                    received += 1;
                    bytes += length;
                    if received.is_multiple_of(LOOK) {
                        seat.say(Word::Count, received);
                    }
                    if self.followed {
                        self.say_now(number, &oracle)?;
                        seat.say(Word::Bytes, bytes);
                        if number == 0 && received & WORK.0 != 0 {
                            work();
                        }
                    }
                    if slow && received.is_multiple_of(NAP.0) {
                        sleep(NAP.1);
                    }
                }
                Taken::Gone => {
                    if !self.followed {
                        seat.say(Word::Told, self.now());
                    }
                    break;
                }
                Taken::Nothing if self.board.parent().said(Word::Over) != 0 => break,
                Taken::Nothing => {}
            }
        }
        seat.say(Word::Time, u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        for giver in 0..self.givers {
            let from = self.board.giver(giver);
            // One that was killed has acknowledged messages and no total.
            let sent = from.said(Word::Total).checked_sub(1).unwrap_or_else(|| from.said(Word::Count));
            let next = oracle.next(u8::try_from(giver)?);
            seat.say_of(giver, Word::Next, next);
            oracle.finish(u8::try_from(giver)?, sent);
        }
        say_tally(seat, &oracle);
        for (word, value) in [(Word::Missed, taker.missed()), (Word::Bytes, bytes), (Word::Count, received)] {
            seat.say(word, value);
        }
        Ok(())
    }

    /// Says after each message what the end would say: it may come at any moment.
    fn say_now(&self, number: usize, oracle: &Oracle) -> Result<()> {
        let seat = self.board.taker(number);
        for giver in 0..self.givers {
            let next = oracle.next(u8::try_from(giver)?);
            if next > 0 && seat.said_of(giver, Word::First) == 0 {
                seat.say_of(giver, Word::First, next);
            }
            seat.say_of(giver, Word::Next, next);
        }
        say_tally(seat, oracle);
        Ok(())
    }
}

fn say_tally(seat: Seat<'_>, oracle: &Oracle) {
    let tally = oracle.tally();
    for (word, value) in [
        (Word::Received, tally.received),
        (Word::Lost, tally.lost),
        (Word::Duplicated, tally.duplicated),
        (Word::Reordered, tally.reordered),
        (Word::Torn, tally.torn),
    ] {
        seat.say(word, value);
    }
}

fn work() {
    let begun = Instant::now();
    while begun.elapsed() < WORK.1 {
        spin_hint();
    }
}
