//! Many writers: the lock, and what becomes of it when its holder dies.

use std::sync::Arc;

use loom::thread;
use tidewire_seqlock::shared::{Cell, Writer};
use tidewire_seqlock::{Options, WriteError};
use tidewire_shm::sync::hook;
use tidewire_shm::{Liveness, Region, Trusted, Unleased};

use crate::leases::Leases;
use crate::model::{Shown, at_every_step, model_that_shows};

/// A value of one word counts the updates; so do the versions.
fn cell<V: Liveness>() -> Cell<u64> {
    let options = Options::new().slots(2).writers(2).liveness::<V>();
    let region = Region::heap(Cell::<u64>::bytes(&options).unwrap()).unwrap();
    Cell::create(region, &0, &options).unwrap()
}

/// What one that dies adds, so that its updates can be told from those of the living.
const DYING: u64 = 100;

/// Adds one; 1 if that was done.
fn add<V: Liveness>(writer: &mut Writer<u64, Trusted, V::Lease>, leases: &V, shown: &Shown) -> u64 {
    add_some(writer, leases, shown, 1)
}

fn add_some<V: Liveness>(
    writer: &mut Writer<u64, Trusted, V::Lease>,
    leases: &V,
    shown: &Shown,
    some: u64,
) -> u64 {
    match writer.update(leases, |value| *value += some) {
        Ok(version) => {
            shown.note_if(version == 1, "first");
            1
        }
        Err(WriteError::Busy { .. }) => 0,
        Err(WriteError::Corrupt(corrupt)) => panic!("{corrupt}"),
    }
}

/// Nothing but the lock orders two writers: no update is lost, and versions count them.
#[test]
fn no_update_is_lost() {
    for stale in [false, true] {
        model_that_shows(&["first"], move |shown| {
            let cell = Arc::new(cell::<Unleased>());
            let (mut first, mut second) = (cell.writer(&Unleased).unwrap(), cell.writer(&Unleased).unwrap());
            let other = thread::spawn({
                let shown = shown.clone();
                move || {
                    hook::fail_stale_cas(stale);
                    add(&mut first, &Unleased, &shown) + add(&mut first, &Unleased, &shown)
                }
            });
            hook::fail_stale_cas(stale);
            let mine = add(&mut second, &Unleased, shown);
            let total = mine + other.join().unwrap();
            assert_eq!(cell.reader().try_read(), Ok((total, total)));
            assert_eq!(cell.lock_holder(), None);
        });
    }
}

/// Killed at any step, a writer's lock is taken from it by whoever wants to write, and its update is there or not.
#[test]
fn a_lock_whose_holder_was_killed_is_taken() {
    at_every_step(|step| {
        let shown = Shown::default();
        let leases = Leases::new();
        let cell = Arc::new(cell::<Leases>());
        let (first, mut second) = (cell.writer(&leases).unwrap(), cell.writer(&leases).unwrap());
        let dying = thread::spawn({
            let (leases, shown) = (leases.clone(), shown.clone());
            move || {
                let mut done = 0;
                let outcome = hook::killed_after(step, || {
                    let mut first = first;
                    done = add_some(&mut first, &leases, &shown, DYING);
                });
                (done, outcome.is_none())
            }
        });
        // While the other one may live or die, and again when it is dead.
        let early = add(&mut second, &leases, &shown);
        let (done, killed) = dying.join().unwrap();
        let late = add(&mut second, &leases, &shown);
        assert_eq!(late, 1, "the lock of a dead writer was not taken");
        let (value, version) = cell.reader().try_read().unwrap();
        assert_eq!((value % DYING, value / DYING + value % DYING), (early + late, version));
        assert!(value / DYING >= done && (killed || value / DYING == done), "{value}, {done} done");
        killed
    });
}

/// Whoever takes the number of a dead holder frees its lock, and with it hands over what the dead one wrote.
#[test]
fn a_lock_that_a_successor_frees_hands_over_what_was_written() {
    at_every_step(|step| {
        let shown = Shown::default();
        let leases = Leases::new();
        let cell = Arc::new(cell::<Leases>());
        let (first, mut second) = (cell.writer(&leases).unwrap(), cell.writer(&leases).unwrap());
        let dying = thread::spawn({
            let (leases, shown) = (leases.clone(), shown.clone());
            move || {
                let mut done = 0;
                let outcome = hook::killed_after(step, || {
                    let mut first = first;
                    done = add_some(&mut first, &leases, &shown, DYING);
                });
                (done, outcome.is_none())
            }
        });
        let following = thread::spawn({
            let (cell, leases) = (Arc::clone(&cell), leases.clone());
            move || {
                let (done, killed) = dying.join().unwrap();
                drop(cell.writer(&leases).unwrap());
                // What the dead one published, whether it came to know that or not.
                let seen = cell.reader().try_read().map_or(0, |(value, _)| value / DYING);
                (done.max(seen), killed)
            }
        });
        let early = add(&mut second, &leases, &shown);
        let (done, killed) = following.join().unwrap();
        let late = add(&mut second, &leases, &shown);
        assert_eq!((late, cell.lock_holder()), (1, None));
        let (value, version) = cell.reader().try_read().unwrap();
        assert_eq!((value % DYING, value / DYING + value % DYING), (early + late, version));
        assert!(value / DYING >= done, "{value}: an update that was published is lost");
        killed
    });
}
