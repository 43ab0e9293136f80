//! A process under stress: takes a role, does random things with it, and writes down what it did.

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tidewire_shm::Segment;
use tidewire_shm::sync::spin_hint;

use super::plan::BUDGET;
use super::volume;
use crate::history::{Book, Clock, PopDesk, PushDesk};
use crate::subject::play::{Habits, consume, produce};
use crate::subject::{Numbers, Role, Shape, table};

/// The variables that tell a child where its segments are.
pub(crate) const STRUCTURE: &str = "TIDEWIRE_STRESS_STRUCTURE";
pub(crate) const BOOK: &str = "TIDEWIRE_STRESS_BOOK";

/// Fruitless tries, with a pause each, before the processor is given away.
const SPINS: u32 = 64;

/// What a child is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// Its role.
    pub(crate) role: Role,
    /// The structure: its place in the table.
    pub(crate) subject: usize,
    /// Size and laziness.
    pub(crate) shape: Shape,
    /// Its number among the processes that play this role, one after the other.
    pub(crate) number: u32,
    /// Where its choices come from.
    pub(crate) seed: u64,
    /// Where its stamps come from.
    pub(crate) clock: Clock,
    /// The parent: if it is another one, that one is dead.
    pub(crate) parent: u32,
}

/// Plays the role to its end.
///
/// # Errors
/// Whatever must not happen; the parent reports it.
pub(crate) fn main(orders: &str) -> Result<bool> {
    let orders: Orders = serde_json::from_str(orders).context("the orders of a child are no orders")?;
    if std::os::unix::process::parent_id() != orders.parent {
        bail!("the parent {} is gone", orders.parent);
    }
    let table = table();
    let subject = table.get(orders.subject).context("no such structure")?;
    let segment = Segment::inherited(STRUCTURE)?;
    let producers = subject.producers();
    let book = Book::open(&Segment::inherited(BOOK)?, volume(producers))?;
    let numbers = Numbers::new(orders.seed, stream(orders.role, orders.number));
    let most = subject.batch(&orders.shape);
    match orders.role {
        Role::Producer(role) => {
            // SAFETY: the parent starts a successor only after it waited for the end of the one before.
            let sender = unsafe { subject.sender_in(&segment, role) };
            let (mut sender, line) = sender.context("cannot take the producer's role")?;
            let mut desk = PushDesk::new(book, orders.clock, line);
            let budget = BUDGET / u64::from(producers);
            let habits = Habits { only: None, most, budget, dawdles: true, numbers };
            // Every process that ever pushes has a number of its own.
            let producer = orders.number * u32::from(producers) + u32::from(role);
            produce(sender.as_mut(), &mut desk, producer, habits, &mut wait)
        }
        Role::Consumer => {
            // SAFETY: as above.
            let receiver = unsafe { subject.receiver_in(&segment, &orders.shape) };
            let mut receiver = receiver.context("cannot take the consumer's role")?;
            let mut desk = PopDesk::new(book, orders.clock);
            let habits = Habits { only: None, most, budget: 0, dawdles: true, numbers };
            consume(receiver.as_mut(), &mut desk, habits, &Book::draining, &mut wait)
        }
    }?;
    Ok(true)
}

/// A stream of numbers for every process of a round: even ones for producers, odd ones for consumers.
fn stream(role: Role, number: u32) -> u64 {
    match role {
        Role::Producer(role) => u64::from(role) << 33 | u64::from(number) << 1,
        Role::Consumer => u64::from(number) << 1 | 1,
    }
}

/// Waits a moment; gives the processor away when that happens again and again.
#[inline(always)]
fn wait(tries: u64) {
    match tries % u64::from(SPINS + 1) {
        _ if tries == 0 => {}
        turn if turn < u64::from(SPINS) => spin_hint(),
        _ => rustix::thread::sched_yield(),
    }
}
