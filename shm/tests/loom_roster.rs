//! Models of rosters: who comes is seen with all that it said, who goes with all that it did, and whoever waits with a
//! raised hand is woken by whoever looks for hands.
#![cfg(loom)]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod loom_bell_futex;

use std::sync::Arc;

use loom::thread;
use loom_bell_futex::{Futex, Shown, at_every_step, model, reported, word};
use tidewire_shm::bell::{BellMode, Deadline, Roster, SleepOptions, Spin, Woken, roster_bytes};
use tidewire_shm::sync::{AtomicU64, Ordering, Shared, hook};
use tidewire_shm::{Region, Trusted};

const AT_ONCE: SleepOptions = SleepOptions::new().spin(Spin::Rounds(0)).yields(0);

struct World {
    roster: Roster<Trusted>,
    beside: Region<Trusted>,
    futex: Futex,
}

impl World {
    fn new(entries: u32) -> Arc<Self> {
        let beside = Region::heap(128).unwrap();
        // Loom wants every object to exist before threads race for it.
        let _tail = word(&beside, 0);
        let futex = Futex::new(&beside, 8);
        let roster =
            Roster::create(Region::heap(roster_bytes(entries)).unwrap(), entries, BellMode::Fence).unwrap();
        Arc::new(Self { roster, beside, futex })
    }

    fn tail(&self) -> Shared<AtomicU64> {
        word(&self.beside, 0)
    }
}

#[test]
fn who_is_there_is_seen_with_its_notice_and_who_left_with_its_work() {
    let (here, left) = (Shown::default(), Shown::default());
    model({
        let (here, left) = (here.clone(), left.clone());
        move || {
            let world = World::new(1);
            let other = Arc::clone(&world);
            let one = thread::spawn(move || {
                let one = other.roster.attend(0, [7, 8], other.futex.clone(), &AT_ONCE).unwrap();
                other.tail().store(5, Ordering::Relaxed);
                drop(one);
            });
            let (here, left) = (here.clone(), left.clone());
            // In a thread of its own, behind the other: loom then goes back over each store of that one.
            let observer = thread::spawn(move || {
                let entry = world.roster.entry(0);
                if entry.generation == 1 && entry.present {
                    here.note_if(true);
                    assert_eq!(entry.notice, [7, 8]);
                }
                if entry.generation == 1 && !entry.present {
                    left.note_if(true);
                    assert_eq!(world.tail().load(Ordering::Relaxed), 5);
                }
            });
            one.join().unwrap();
            observer.join().unwrap();
        }
    });
    assert!(here.happened(), "nobody was seen there");
    assert!(left.happened(), "nobody was seen to have left");
}

#[test]
fn who_counts_changes_finds_them_in_the_entries() {
    let (came, went) = (Shown::default(), Shown::default());
    model({
        let (came, went) = (came.clone(), went.clone());
        move || {
            let world = World::new(1);
            let other = Arc::clone(&world);
            let one = thread::spawn(move || {
                drop(other.roster.attend(0, [7, 8], other.futex.clone(), &AT_ONCE).unwrap());
            });
            let (came, went) = (came.clone(), went.clone());
            let observer = thread::spawn(move || {
                let changes = world.roster.changes();
                let entry = world.roster.entry(0);
                came.note_if(changes == 1);
                went.note_if(changes == 2);
                assert!(changes == 0 || entry.generation == 1);
                assert!(changes < 2 || !entry.present);
            });
            one.join().unwrap();
            observer.join().unwrap();
        }
    });
    assert!(came.happened() && went.happened());
}

/// One publishes for all and rings only those whose hand it sees.
fn publish_and_look(world: &World, look: impl FnOnce(&World) -> bool) {
    world.tail().store(1, Ordering::Release);
    if look(world) {
        let hands = world.roster.hands(&world.futex).unwrap();
        for entry in hands.raised() {
            let _rung = world.roster.caller(entry, world.futex.clone()).unwrap().ring();
        }
    }
}

fn one_sleeps(look: fn(&World) -> bool, slept: &Shown) {
    let world = World::new(2);
    let other = Arc::clone(&world);
    let mut sleeper = world.roster.attend(1, [0; 2], world.futex.clone(), &AT_ONCE).unwrap();
    let publisher = thread::spawn(move || publish_and_look(&other, look));
    let tail = world.tail();
    let woken = sleeper.wait(|| tail.load(Ordering::Acquire) == 1, Deadline::NEVER);
    assert_eq!(woken, Woken::Ready);
    slept.note_if(sleeper.tally().naps > 0);
    publisher.join().unwrap();
}

#[test]
fn a_raised_hand_is_never_overlooked() {
    let slept = Shown::default();
    model({
        let slept = slept.clone();
        move || one_sleeps(|world| world.roster.hands(&world.futex).unwrap().any(), &slept)
    });
    assert!(slept.happened());
}

/// The broken twin: it looks at the hands without the fence.
#[test]
fn a_look_without_a_fence_is_caught() {
    assert!(reported(|| one_sleeps(
        |world| world.roster.hands(&world.futex).unwrap().raised().next().is_some(),
        &Shown::default()
    )));
}

/// Killed asleep or anywhere else, a holder leaves its hand up or down; the next holder of its entry sleeps and is woken.
#[test]
fn a_holder_that_is_killed_leaves_an_entry_that_works() {
    at_every_step(|step| {
        let world = World::new(1);
        let (other, publisher) = (Arc::clone(&world), Arc::clone(&world));
        let ringing = thread::spawn(move || {
            publish_and_look(&publisher, |world| world.roster.hands(&world.futex).unwrap().any())
        });
        let dying = thread::spawn(move || {
            hook::killed_after(step, || {
                let mut one = other.roster.attend(0, [0; 2], other.futex.clone(), &AT_ONCE).unwrap();
                let tail = other.tail();
                let _woken = one.wait(|| tail.load(Ordering::Acquire) == 1, Deadline::NEVER);
            })
            .is_none()
        });
        let killed = dying.join().unwrap();
        let mut next = world.roster.attend(0, [0; 2], world.futex.clone(), &AT_ONCE).unwrap();
        let tail = world.tail();
        assert_eq!(next.wait(|| tail.load(Ordering::Acquire) == 1, Deadline::NEVER), Woken::Ready);
        ringing.join().unwrap();
        killed
    });
}

/// Whoever takes away the hand of one who died sees the generation of the next holder, if that had raised it already:
/// then it rings.
#[test]
fn a_hand_that_is_taken_away_too_late_is_known_by_its_generation() {
    let taken = Shown::default();
    model({
        let taken = taken.clone();
        move || {
            let world = World::new(1);
            let (other, taken) = (Arc::clone(&world), taken.clone());
            let next = thread::spawn(move || {
                let mut next = other.roster.attend(0, [0; 2], other.futex.clone(), &AT_ONCE).unwrap();
                let mut looks = 0;
                let ready = || {
                    looks += 1;
                    looks > 1
                };
                assert_eq!(next.wait(ready, Deadline::NEVER), Woken::Ready);
                core::mem::forget(next);
            });
            let prover = thread::spawn(move || {
                let raised = world.roster.hands(&world.futex).unwrap().raised().next().is_some();
                world.roster.lower(0);
                if raised {
                    taken.note_if(true);
                    assert_eq!(world.roster.entry(0).generation, 1);
                }
            });
            next.join().unwrap();
            prover.join().unwrap();
        }
    });
    assert!(taken.happened(), "no hand was up");
}
