//! A process under stress: takes a role, does random things with it, and writes down what it did.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tidewire_shm::Segment;
use tidewire_shm::sync::spin_hint;

use super::book::Book;
use super::desk::{PopDesk, PushDesk};
use super::history::{Clock, Run};
use super::plan::{BUDGET, Numbers, Role};
use super::subject::{Pop, Push, Receiver, Refusal, Sender, Shape, table};

/// The variables that tell a child where its segments are.
pub(crate) const STRUCTURE: &str = "TIDEWIRE_STRESS_STRUCTURE";
pub(crate) const BOOK: &str = "TIDEWIRE_STRESS_BOOK";

/// Fruitless tries, with a pause each, before the processor is given away.
const SPINS: u32 = 64;
/// Fruitless tries before a producer gives a push up and does something else.
const PATIENCE: u64 = 4096;

/// What a child is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// Its role.
    pub(crate) role: Role,
    /// The structure: its place in the table.
    pub(crate) subject: usize,
    /// Size and laziness.
    pub(crate) shape: Shape,
    /// Its number among the producers, or among the consumers.
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
    let region = Segment::inherited(STRUCTURE)?.region();
    let book = Book::open(&Segment::inherited(BOOK)?)?;
    let numbers =
        Numbers::new(orders.seed, u64::from(orders.number) << 1 | u64::from(orders.role == Role::Consumer));
    match orders.role {
        Role::Producer => {
            // SAFETY: the parent starts a successor only after it waited for the end of the one before.
            let sender = unsafe { subject.sender(region) }.context("cannot take the producer's role")?;
            let most = subject.batch(&orders.shape);
            produce(sender, PushDesk::new(book, orders.clock), numbers, orders.number, most)
        }
        Role::Consumer => {
            // SAFETY: as above.
            let receiver = unsafe { subject.receiver(region, &orders.shape) };
            let receiver = receiver.context("cannot take the consumer's role")?;
            let most = subject.batch(&orders.shape);
            consume(receiver, PopDesk::new(book, orders.clock), numbers, most)
        }
    }?;
    Ok(true)
}

/// Waits a moment; gives the processor away when that happens again and again.
#[inline(always)]
fn wait(tries: u64) {
    if tries % u64::from(SPINS + 1) < u64::from(SPINS) { spin_hint() } else { rustix::thread::sched_yield() }
}

/// Now and then a side falls behind, so that the other meets the end of the room or of the messages.
#[inline(always)]
fn dawdle(numbers: &mut Numbers) {
    if numbers.once_in(2048) {
        let until = Instant::now() + Duration::from_micros(numbers.below(60));
        while Instant::now() < until {
            spin_hint();
        }
    }
}

fn produce(
    mut sender: Box<dyn Sender>,
    mut desk: PushDesk,
    mut numbers: Numbers,
    producer: u32,
    most: u32,
) -> Result<()> {
    let mut seq = 0;
    while !desk.book().stopped() && desk.book().pushed() < BUDGET && desk.has_room() {
        dawdle(&mut numbers);
        let mut how = Push::any(&mut numbers, most);
        if let Push::Abort(_) = how {
            match sender.send(how, producer, seq) {
                Ok(()) | Err(Refusal::NotNow) => continue,
                Err(Refusal::Broken(text)) => bail!("abort at {seq}: {text}"),
            }
        }
        // Byte records are committed one by one.
        let mut n = how.messages();
        if let Push::Commit { .. } = how
            && sender.units(producer, seq, 1) != 1
        {
            (how, n) = (Push::Commit { reserved: 1, kept: 1 }, 1);
        }
        desk.start(Run { producer, seq, n, units: sender.units(producer, seq, n) });
        let mut tries = 0;
        loop {
            match sender.send(how, producer, seq) {
                Ok(()) => {
                    desk.done();
                    seq += u64::from(n);
                    break;
                }
                Err(Refusal::NotNow) => desk.refused(),
                Err(Refusal::Broken(text)) => bail!("{how:?} at {seq}: {text}"),
            }
            tries += 1;
            if desk.book().stopped() || tries > PATIENCE {
                desk.withdraw();
                break;
            }
            wait(tries);
            desk.again();
        }
        if desk.overflow {
            bail!("the producer's journal is full");
        }
    }
    Ok(())
}

fn consume(
    mut receiver: Box<dyn Receiver>,
    mut desk: PopDesk,
    mut numbers: Numbers,
    most: u32,
) -> Result<()> {
    let mut tries = 0;
    loop {
        dawdle(&mut numbers);
        // Read before the look: what is not there afterwards will not come any more.
        let last = desk.book().draining();
        let how = Pop::any(&mut numbers, most);
        match receiver.receive(how, &mut desk) {
            Ok(()) => tries = 0,
            Err(Refusal::NotNow) => {
                desk.empty();
                if last {
                    return Ok(());
                }
                tries += 1;
                wait(tries);
            }
            Err(Refusal::Broken(text)) => bail!("{how:?}: {text}"),
        }
        if desk.overflow {
            bail!("the consumer's journal is full");
        }
        if desk.is_short() {
            desk.book().stop();
        }
    }
}
