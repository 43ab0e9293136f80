//! One side of a row, in its own process: how it meets the other, waits, counts and ends.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::thread::sched_yield;
use serde::{Deserialize, Serialize};
use tidewire_shm::Region;
use tidewire_shm::sync::spin_hint;

use super::clock::Clock;
use super::control::Control;
use super::oracle::{Oracle, Tally};
use super::plan::{Fault, Limit, Plan};
use super::probe;
use crate::subject::Role;

/// How often a side looks in vain, with a pause each time, before it gives the processor away.
const SPINS: u32 = 2000;
/// How often a waiting consumer looks in vain before it asks whether the producers have ended.
const LOOKS: u32 = 64;

/// The steps at which all sides meet: messages are measured from here on, ...
pub(crate) const MEASURED: u64 = 2;
/// ... and recorded from here on, ...
pub(crate) const RECORDED: u64 = 3;
/// ... and no more come from who is here.
pub(crate) const OVER: u64 = 4;

/// What a side has to say at its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Where the segments are mapped: the structure's first, then the control words.
    pub(crate) addresses: Vec<usize>,
    /// Messages that the side sent, if it sends.
    pub(crate) sent: u64,
    /// What it received.
    pub(crate) tally: Tally,
    /// Payload bytes received.
    pub(crate) bytes: u64,
    /// From the common start to the last message.
    pub(crate) seconds: f64,
    /// The raw round trip before the row, where this side measured it.
    pub(crate) raw_rtt_ns: Option<f64>,
    /// The round trips of the row, where this side measured them.
    pub(crate) rtt: Option<Rtt>,
}

/// Quantiles of round trips.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rtt {
    pub(crate) p50_ns: f64,
    pub(crate) p99_ns: f64,
    pub(crate) p999_ns: f64,
}

/// One side of a row.
#[derive(Debug)]
pub(crate) struct Side<'p> {
    pub(crate) plan: &'p Plan,
    pub(crate) role: Role,
    pub(crate) clock: Clock,
    control: Control,
    spins: u32,
    began: Option<Instant>,
    raw_rtt_ns: Option<f64>,
}

impl<'p> Side<'p> {
    /// A side that has its control words and has not yet met the other.
    pub(crate) fn new(plan: &'p Plan, role: Role, control: Control) -> Self {
        let shared = plan.cores.as_ref().is_some_and(|cores| cores.shared(role, plan.producers));
        let spins = if shared { 0 } else { SPINS };
        Self { plan, role, clock: Clock::new(), control, spins, began: None, raw_rtt_ns: None }
    }

    /// This producer's number; 0 for a consumer.
    #[inline(always)]
    pub(crate) fn number(&self) -> u8 {
        match self.role {
            Role::Producer(number) => number,
            Role::Consumer => 0,
        }
    }

    /// Meets the others, measures the raw round trip between the first producer and the consumer, and starts the
    /// row's clock.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.meet(1);
        let raw = match self.role {
            Role::Producer(0) => probe::ask(self, self.control.ping()),
            Role::Producer(_) => None,
            Role::Consumer => {
                probe::answer(self, self.control.ping());
                None
            }
        };
        self.raw_rtt_ns = raw;
        self.meet(MEASURED);
        self.began = Some(Instant::now());
        Ok(())
    }

    /// Says that this side has come to a step, and waits for the others.
    pub(crate) fn meet(&self, step: u64) {
        self.control.arrive(self.role, step);
        let mut fruitless = 0;
        while !self.control.others_at(self.role, step) {
            self.wait(&mut fruitless);
        }
    }

    /// Says that this side has come to a step.
    pub(crate) fn arrive(&self, step: u64) {
        self.control.arrive(self.role, step);
    }

    /// Whether all others have come to a step.
    pub(crate) fn others_at(&self, step: u64) -> bool {
        self.control.others_at(self.role, step)
    }

    /// Says how many operations this side has recorded.
    pub(crate) fn record(&self, operations: u64) {
        self.control.record(self.role, operations);
    }

    /// Waits a moment because there was no room, or no message, or no peer.
    #[inline(always)]
    pub(crate) fn wait(&self, fruitless: &mut u32) {
        *fruitless = fruitless.wrapping_add(1);
        if *fruitless < self.spins {
            spin_hint();
        } else {
            self.give_way();
        }
    }

    #[cold]
    #[inline(never)]
    fn give_way(&self) {
        self.control.beat(self.role);
        sched_yield();
    }

    /// Waits a moment because there was no message; says whether one can still come. Once it says no, what was
    /// published before that answer has been published for good: look once more, and end when there is nothing.
    #[inline(always)]
    pub(crate) fn wait_for_more(&self, fruitless: &mut u32) -> bool {
        self.wait(fruitless);
        !(fruitless.is_multiple_of(LOOKS) || *fruitless >= self.spins) || !self.control.all_ended()
    }

    /// Says how many messages this side has dealt with.
    #[inline]
    pub(crate) fn progress(&self, messages: u64) {
        self.control.progress(self.role, messages);
    }

    /// How many messages a producer claimed, once it ended.
    fn claimed(&self, number: u8) -> u64 {
        self.control.ended(Role::Producer(number)).unwrap_or_default()
    }

    /// What a consumer has to say at its end: the oracle is told how many messages each producer claims.
    pub(crate) fn judged(&self, mut oracle: Oracle, bytes: impl FnOnce(&Tally) -> u64) -> Outcome {
        let outcome = self.outcome();
        for number in 0..self.control.producers() {
            oracle.finish(number, self.claimed(number));
        }
        let tally = oracle.tally();
        self.progress(tally.received);
        Outcome { tally, bytes: bytes(&tally), ..outcome }
    }

    /// Ends the producer's part; returns how many messages it claims, which is what it sent unless it shall lie.
    pub(crate) fn end(&self, sent: u64) -> Result<u64> {
        self.progress(sent);
        let claimed = match self.plan.fault {
            Some(Fault::Lie) => sent + 1000,
            Some(Fault::Fail) => bail!("told to fail after {sent} messages"),
            Some(Fault::Stall) => loop {
                self.give_way();
            },
            _ => sent,
        };
        self.control.end(self.role, claimed);
        Ok(claimed)
    }

    /// When to stop: asked once per block.
    pub(crate) fn budget(&self, block: u64) -> Budget {
        let now = self.began.unwrap_or_else(Instant::now);
        let (deadline, messages) = match self.plan.limit {
            Limit::Seconds(seconds) => (Some(now + Duration::from_secs_f64(seconds)), u64::MAX),
            Limit::Messages(messages) => (None, share(messages, self.plan.producers, self.number())),
        };
        Budget { deadline, messages, block, first: self.plan.fault.is_some() }
    }

    /// What this side has to say, the time being up now.
    pub(crate) fn outcome(&self) -> Outcome {
        Outcome {
            addresses: Vec::new(),
            sent: 0,
            tally: Tally::default(),
            bytes: 0,
            seconds: self.began.map_or(0.0, |began| began.elapsed().as_secs_f64()),
            raw_rtt_ns: self.raw_rtt_ns,
            rtt: None,
        }
    }
}

/// The part of so many messages that falls to one of the producers.
pub(crate) fn share(messages: u64, producers: u8, number: u8) -> u64 {
    let (producers, number) = (u64::from(producers.max(1)), u64::from(number));
    messages / producers + u64::from(number < messages % producers)
}

/// How many messages a producer may still send.
#[derive(Debug)]
pub(crate) struct Budget {
    deadline: Option<Instant>,
    messages: u64,
    block: u64,
    first: bool,
}

impl Budget {
    /// How many messages to send before asking again; 0 when it is time to end.
    pub(crate) fn next(&mut self, sent: u64) -> u64 {
        let left = self.messages.saturating_sub(sent);
        if self.deadline.is_some_and(|deadline| sent > 0 && Instant::now() >= deadline) {
            return 0;
        }
        // A fault follows the first block, so that block must not be everything.
        if std::mem::take(&mut self.first) { self.block.min(left.div_ceil(2)) } else { self.block.min(left) }
    }
}

/// What a segment is mapped at in this process.
pub(crate) fn address(region: &Region) -> usize {
    // SAFETY: the first word of a region is one of a header, and this handle is used for its address alone.
    unsafe { region.atomic_u64(0) }.as_ptr().addr()
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_add_up() {
        for (messages, producers) in [(1, 1), (7, 4), (8, 4), (0, 3), (u64::MAX, 16)] {
            let sum: u64 = (0..producers).map(|number| share(messages, producers, number)).sum();
            assert_eq!(sum, messages);
        }
        assert_eq!([0, 1, 2, 3].map(|number| share(6, 4, number)), [2, 2, 1, 1]);
    }
}
