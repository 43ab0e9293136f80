//! Models of bells in fence mode, as shipped: no wake-up is lost, whoever is killed wherever.
#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, with small numbers"
)]

mod loom_bell_futex;

use loom::thread;
use loom_bell_futex::{Futex, Shown, at_every_step, model, word};
use tidewire_shm::bell::{
    Bell, BellForm, BellMode, Deadline, Ringer, SleepOptions, Sleeper, Spin, Waiters, Woken,
};
use tidewire_shm::sync::{AtomicU64, Ordering, Shared, hook};
use tidewire_shm::{Region, Trusted};

/// Where things lie.
const TAIL: usize = 0;
const OTHER_TAIL: usize = 8;
const ENTRY: usize = 16;
const BELL: usize = 128;

const AT_ONCE: SleepOptions = SleepOptions::new().spin(Spin::Rounds(0)).yields(0);

struct World {
    region: Region<Trusted>,
    bell: Bell,
    futex: Futex,
}

impl World {
    fn new(form: BellForm) -> Self {
        let region = Region::heap(256).unwrap();
        // Loom wants every object to exist before threads race for it.
        let _tails = (word(&region, TAIL), word(&region, OTHER_TAIL));
        // SAFETY: used as a bell only; the world keeps the region.
        let bell = unsafe { Bell::create(&region, BELL, BellMode::Fence, form).unwrap() };
        let futex = Futex::new(&region, ENTRY);
        Self { region, bell, futex }
    }

    fn tail(&self) -> Shared<AtomicU64> {
        word(&self.region, TAIL)
    }

    fn ringer(&self) -> Ringer<Futex> {
        match self.bell.form() {
            BellForm::Word => self.bell.ringer(self.futex.clone()),
            _ => self.bell.ringer_on(self.tail(), self.futex.clone()),
        }
        .unwrap()
    }

    fn sleeper(&self) -> Sleeper<Futex> {
        match self.bell.form() {
            BellForm::Word => self.bell.sleeper(self.futex.clone(), &AT_ONCE),
            _ => self.bell.sleeper_on(self.tail(), self.futex.clone(), &AT_ONCE),
        }
        .unwrap()
    }
}

fn publish(tail: &Shared<AtomicU64>, ringer: &mut Ringer<Futex>, value: u64) {
    tail.store(value, Ordering::Release);
    ringer.ring();
}

fn await_tail(sleeper: &mut Sleeper<Futex>, tail: &Shared<AtomicU64>, value: u64) {
    let woken = sleeper.wait(|| tail.load(Ordering::Acquire) >= value, Deadline::NEVER);
    assert_eq!(woken, Woken::Ready);
}

/// Two messages, waited for one by one, or both together: then the look after the first finds a position that has
/// changed although there is nothing to do.
fn one_ringer_one_sleeper(form: BellForm, one_by_one: bool) {
    let (slept, woke) = (Shown::default(), Shown::default());
    model({
        let (slept, woke) = (slept.clone(), woke.clone());
        move || {
            let world = World::new(form);
            let (tail, mut ringer) = (world.tail(), world.ringer());
            let ringing = thread::spawn(move || {
                publish(&tail, &mut ringer, 1);
                publish(&tail, &mut ringer, 2);
                ringer.tally().wakes
            });
            let (tail, mut sleeper) = (world.tail(), world.sleeper());
            if one_by_one {
                await_tail(&mut sleeper, &tail, 1);
            }
            await_tail(&mut sleeper, &tail, 2);
            slept.note_if(sleeper.tally().naps > 0);
            woke.note_if(ringing.join().unwrap() > 0);
        }
    });
    assert!(slept.happened() && woke.happened(), "nobody slept, or nobody was woken");
}

#[test]
fn no_wake_up_is_lost_in_word_form() {
    one_ringer_one_sleeper(BellForm::Word, true);
}

#[test]
fn no_wake_up_is_lost_in_word_form_when_one_message_is_not_enough() {
    one_ringer_one_sleeper(BellForm::Word, false);
}

#[test]
fn no_wake_up_is_lost_in_position_form() {
    one_ringer_one_sleeper(BellForm::Position, true);
}

#[test]
fn no_wake_up_is_lost_in_position_form_when_one_message_is_not_enough() {
    one_ringer_one_sleeper(BellForm::Position, false);
}

#[test]
fn two_ringers_wake_one_sleeper() {
    let both = Shown::default();
    model({
        let both = both.clone();
        move || {
            let world = World::new(BellForm::Word);
            let ring = |offset| {
                let (tail, mut ringer) = (word(&world.region, offset), world.ringer());
                move || {
                    publish(&tail, &mut ringer, 1);
                    ringer.tally().wakes
                }
            };
            let threads = [thread::spawn(ring(TAIL)), thread::spawn(ring(OTHER_TAIL))];
            let tails = [word(&world.region, TAIL), word(&world.region, OTHER_TAIL)];
            let mut sleeper = world.sleeper();
            let ready = || tails.iter().all(|tail| tail.load(Ordering::Acquire) == 1);
            assert_eq!(sleeper.wait(ready, Deadline::NEVER), Woken::Ready);
            let wakes: Vec<u64> = threads.map(|thread| thread.join().unwrap()).into();
            both.note_if(wakes == [1, 1]);
        }
    });
    assert!(both.happened(), "the two never woke the sleeper both");
}

/// Killed anywhere between its publication and its wake, the first is heard no more; the second wakes the sleeper all
/// the same.
#[test]
fn a_ringer_that_is_killed_does_not_silence_the_next() {
    at_every_step(|step| {
        let world = World::new(BellForm::Word);
        let (tail, mut ringer) = (world.tail(), world.ringer());
        let dying =
            thread::spawn(move || hook::killed_after(step, || publish(&tail, &mut ringer, 1)).is_none());
        let (tail, mut ringer) = (word(&world.region, OTHER_TAIL), world.ringer());
        let living = thread::spawn(move || publish(&tail, &mut ringer, 1));
        let mut sleeper = world.sleeper();
        await_tail(&mut sleeper, &word(&world.region, OTHER_TAIL), 1);
        living.join().unwrap();
        dying.join().unwrap()
    });
}

/// The same in position form, where the next is whoever takes the position over.
#[test]
fn a_ringer_that_is_killed_does_not_silence_its_successor() {
    at_every_step(|step| {
        let world = World::new(BellForm::Position);
        let (tail, mut ringer) = (world.tail(), world.ringer());
        let (next_tail, mut next_ringer) = (world.tail(), world.ringer());
        let ringing = thread::spawn(move || {
            let dying =
                thread::spawn(move || hook::killed_after(step, || publish(&tail, &mut ringer, 1)).is_none());
            let killed = dying.join().unwrap();
            publish(&next_tail, &mut next_ringer, 2);
            killed
        });
        let mut sleeper = world.sleeper();
        await_tail(&mut sleeper, &world.tail(), 2);
        ringing.join().unwrap()
    });
}

fn a_killed_sleeper(form: BellForm) {
    at_every_step(move |step| {
        let world = World::new(form);
        let (tail, mut ringer) = (world.tail(), world.ringer());
        let ringing = thread::spawn(move || {
            publish(&tail, &mut ringer, 1);
            publish(&tail, &mut ringer, 2);
        });
        let (tail, mut sleeper) = (world.tail(), world.sleeper());
        let dying =
            thread::spawn(move || hook::killed_after(step, || await_tail(&mut sleeper, &tail, 1)).is_none());
        let killed = dying.join().unwrap();
        await_tail(&mut world.sleeper(), &world.tail(), 2);
        ringing.join().unwrap();
        killed
    });
}

#[test]
fn the_successor_of_a_killed_sleeper_is_woken_in_word_form() {
    a_killed_sleeper(BellForm::Word);
}

#[test]
fn the_successor_of_a_killed_sleeper_is_woken_in_position_form() {
    a_killed_sleeper(BellForm::Position);
}

struct Desk {
    region: Region<Trusted>,
    waiters: Waiters,
    futex: Futex,
}

impl Desk {
    fn new() -> Self {
        let region = Region::heap(256).unwrap();
        let _tail = word(&region, TAIL);
        // SAFETY: used as a doorbell only; the desk keeps the region.
        let waiters = unsafe { Waiters::create(&region, BELL, BellMode::Fence).unwrap() };
        let futex = Futex::new(&region, ENTRY);
        Self { region, waiters, futex }
    }

    /// Waits until the position is 1.
    fn wait(&self) -> impl FnOnce() -> bool + Send + 'static {
        let tail = word(&self.region, TAIL);
        let mut waiter = self.waiters.waiter(tail.clone(), self.futex.clone(), &AT_ONCE).unwrap();
        move || {
            let woken = waiter.wait(|| tail.load(Ordering::Acquire) == 1, Deadline::NEVER);
            assert_eq!(woken, Woken::Ready);
            waiter.tally().naps > 0
        }
    }

    fn publish(&self) {
        let tail = word(&self.region, TAIL);
        let mut ringer = self.waiters.ringer(tail.clone(), self.futex.clone()).unwrap();
        tail.store(1, Ordering::Release);
        ringer.ring();
    }
}

#[test]
fn every_waiter_is_woken() {
    let slept = Shown::default();
    model({
        let slept = slept.clone();
        move || {
            let desk = Desk::new();
            let waiting = [thread::spawn(desk.wait()), thread::spawn(desk.wait())];
            desk.publish();
            let naps = waiting.map(|waiter| waiter.join().unwrap());
            slept.note_if(naps == [true, true]);
        }
    });
    assert!(slept.happened(), "the two never slept both");
}

#[test]
fn a_waiter_that_is_killed_does_not_silence_the_ringer() {
    at_every_step(|step| {
        let desk = Desk::new();
        let wait = desk.wait();
        let dying = thread::spawn(move || hook::killed_after(step, wait).is_none());
        let living = thread::spawn(desk.wait());
        desk.publish();
        living.join().unwrap();
        dying.join().unwrap()
    });
}
