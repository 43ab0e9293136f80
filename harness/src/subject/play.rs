//! What the processes do at their desks: push, pop, and write down what they did.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tidewire_shm::sync::spin_hint;

use super::{Numbers, Pop, Push, Receiver, Refusal, Sender};
use crate::history::{Book, PopDesk, PushDesk, Run};

/// Fruitless tries before a producer that may push anything gives a push up and does something else.
const PATIENCE: u64 = 4096;

/// How a side behaves.
#[derive(Clone, Debug)]
pub(crate) struct Habits<How> {
    /// The only way in which it pushes or pops; any way otherwise.
    pub(crate) only: Option<How>,
    /// Messages of one operation at the most.
    pub(crate) most: u32,
    /// Messages that a producer pushes, its predecessors' included.
    pub(crate) budget: u64,
    /// Whether it falls behind now and then, so that the other meets the end of the room or of the messages.
    pub(crate) dawdles: bool,
    /// What its choices follow from.
    pub(crate) numbers: Numbers,
}

impl<How> Habits<How> {
    #[inline(always)]
    fn dawdle(&mut self) {
        if self.dawdles && self.numbers.once_in(2048) {
            let until = Instant::now() + Duration::from_micros(self.numbers.below(60));
            while Instant::now() < until {
                spin_hint();
            }
        }
    }
}

impl Habits<Push> {
    fn next(&mut self, left: u64) -> Push {
        match self.only {
            Some(Push::Batch(n)) => Push::Batch(n.min(u32::try_from(left).unwrap_or(u32::MAX))),
            Some(only) => only,
            None => Push::any(&mut self.numbers, self.most),
        }
    }
}

/// What a side does between two tries, told how many were fruitless since the last one that was not.
pub(crate) type Idle<'a> = dyn FnMut(u64) + 'a;

/// Pushes the messages of `producer`, its number at this desk, until its budget is used up or it is told to stop.
///
/// # Errors
/// What must not happen, as the structure says it; or a journal that is full.
pub(crate) fn produce(
    sender: &mut dyn Sender,
    desk: &mut PushDesk,
    producer: u32,
    mut habits: Habits<Push>,
    idle: &mut Idle<'_>,
) -> Result<()> {
    let mut seq = 0;
    while !desk.book().stopped() && desk.pushed() < habits.budget && desk.has_room() {
        habits.dawdle();
        let mut how = habits.next(habits.budget - desk.pushed());
        if let Push::Abort(_) = how {
            match sender.send(how, producer, seq) {
                Ok(()) | Err(Refusal::NotNow) => continue,
                Err(Refusal::Broken(text)) => bail!("abort at {seq}: {text}"),
            }
        }
        if let Push::Commit { .. } = how
            && sender.one_by_one()
        {
            how = Push::Commit { reserved: 1, kept: 1 };
        }
        let patience = if habits.only.is_some() { u64::MAX } else { PATIENCE };
        seq += push(sender, desk, how, producer, seq, patience, idle)?;
    }
    Ok(())
}

/// Pushes once, however often that takes up to `patience` tries; says how many messages were pushed: all, or none.
fn push(
    sender: &mut dyn Sender,
    desk: &mut PushDesk,
    how: Push,
    producer: u32,
    seq: u64,
    patience: u64,
    idle: &mut Idle<'_>,
) -> Result<u64> {
    let n = how.messages();
    desk.start(Run { producer, seq, n, units: sender.units(producer, seq, n) });
    let mut tries = 0;
    let pushed = loop {
        match sender.send(how, producer, seq) {
            Ok(()) => {
                desk.done();
                idle(0);
                break u64::from(n);
            }
            Err(Refusal::NotNow) => desk.refused(),
            Err(Refusal::Broken(text)) => bail!("{how:?} at {seq}: {text}"),
        }
        tries += 1;
        if desk.book().stopped() || tries > patience {
            desk.withdraw();
            break 0;
        }
        idle(tries);
        desk.again();
    };
    if desk.overflow {
        bail!("the producer's journal is full");
    }
    Ok(pushed)
}

/// Pops messages until `last` said that no more can come and none is left.
///
/// # Errors
/// What must not happen, as the structure says it; or a journal that is full.
pub(crate) fn consume(
    receiver: &mut dyn Receiver,
    desk: &mut PopDesk,
    mut habits: Habits<Pop>,
    last: &dyn Fn(&Book) -> bool,
    idle: &mut Idle<'_>,
) -> Result<()> {
    let mut tries = 0;
    loop {
        habits.dawdle();
        // Read before the look: what is not there afterwards will not come any more.
        let last = last(desk.book());
        let how = habits.only.unwrap_or_else(|| Pop::any(&mut habits.numbers, habits.most));
        if pop(receiver, desk, how)? {
            tries = 0;
        } else if last {
            return Ok(());
        } else {
            tries += 1;
        }
        idle(tries);
        if desk.is_short() {
            desk.book().stop();
        }
    }
}

/// Pops once; says whether there was anything.
fn pop(receiver: &mut dyn Receiver, desk: &mut PopDesk, how: Pop) -> Result<bool> {
    let found = match receiver.receive(how, desk) {
        Ok(()) => true,
        Err(Refusal::NotNow) => {
            desk.empty();
            false
        }
        Err(Refusal::Broken(text)) => bail!("{how:?}: {text}"),
    };
    if desk.overflow {
        bail!("the consumer's journal is full");
    }
    Ok(found)
}

/// Both ends of a side that takes part in round trips.
pub(crate) struct Trips<'a> {
    pub(crate) sender: &'a mut dyn Sender,
    pub(crate) pushes: &'a mut PushDesk,
    pub(crate) receiver: &'a mut dyn Receiver,
    pub(crate) pops: &'a mut PopDesk,
}

impl Trips<'_> {
    fn send(&mut self, seq: u64, idle: &mut Idle<'_>) -> Result<()> {
        push(self.sender, self.pushes, Push::One, 0, seq, u64::MAX, idle)?;
        Ok(())
    }

    /// Sends `trips` messages, each after the one before it came back.
    ///
    /// # Errors
    /// As [`produce`] and [`consume`].
    pub(crate) fn ask(&mut self, trips: u64, idle: &mut Idle<'_>) -> Result<()> {
        for seq in 0..trips {
            self.send(seq, idle)?;
            let mut tries = 0;
            while !pop(self.receiver, self.pops, Pop::One)? {
                tries += 1;
                idle(tries);
            }
        }
        Ok(())
    }

    /// Sends a message back for each that comes, until `last` said that no more can come and none is left.
    ///
    /// # Errors
    /// As [`produce`] and [`consume`].
    pub(crate) fn answer(&mut self, last: &dyn Fn(&Book) -> bool, idle: &mut Idle<'_>) -> Result<()> {
        let (mut seq, mut tries) = (0, 0);
        loop {
            let last = last(self.pops.book());
            if pop(self.receiver, self.pops, Pop::One)? {
                self.send(seq, idle)?;
                (seq, tries) = (seq + 1, 0);
            } else if last {
                return Ok(());
            } else {
                tries += 1;
                idle(tries);
            }
        }
    }
}
