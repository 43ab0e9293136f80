//! Claims, drops and take-overs of the writer's role.

use std::sync::Arc;

use loom::sync::atomic::Ordering;
use loom::thread;
use tidewire_seqlock::{AttachError, Cell, Options};
use tidewire_shm::sync::hook;
use tidewire_shm::{Region, Unleased};

use crate::cells::value;
use crate::leases::Leases;
use crate::model::{at_every_step, gate, model, model_that_shows};

/// Of one word: behind the store that publishes a version there is no fence that could stand in for that of the role.
fn cell(liveness: u32) -> Arc<Cell<[u64; 1]>> {
    let mut options = Options::new().slots(2);
    options.liveness = liveness;
    let region = Region::heap(Cell::<[u64; 1]>::bytes(&options).unwrap()).unwrap();
    Arc::new(Cell::create(region, &value(0), &options).unwrap())
}

fn two_claims(stale: bool, leases: Option<Leases>) {
    model(move || {
        // Each schedule starts with nobody holding anything.
        let leases = leases.as_ref().map(|_| Leases::new());
        let cell = cell(if leases.is_some() { 1 << 31 } else { 0 });
        let claim = move |cell: &Cell<[u64; 1]>, leases: &Option<Leases>| {
            hook::fail_stale_cas(stale);
            match leases {
                Some(leases) => cell.writer(leases).map(|writer| (writer.owner(), Some(writer), None)),
                None => cell.writer(&Unleased).map(|writer| (writer.owner(), None, Some(writer))),
            }
        };
        let other = thread::spawn({
            let (cell, leases) = (Arc::clone(&cell), leases.clone());
            move || claim(&cell, &leases)
        });
        let results = [claim(&cell, &leases), other.join().unwrap()];
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        let refused = results.iter().find_map(|result| result.as_ref().err()).unwrap();
        assert!(matches!(refused, AttachError::RoleTaken(_) | AttachError::Lease(_)), "{refused}");
        let held = results.iter().find_map(|result| result.as_ref().ok()).unwrap().0;
        assert_eq!(cell.writer_owner(), Some(held));
    });
}

/// Of two that claim a free role one wins, and the other is told that it is taken; also where a compare-exchange
/// fails with a stale value.
#[test]
fn of_two_claims_one_wins() {
    two_claims(false, None);
    two_claims(true, None);
}

/// The role goes from hand to hand by drop and claim, with nothing but the word to order it.
#[test]
fn a_claim_after_a_drop_sees_everything_written() {
    for stale in [false, true] {
        model_that_shows(&["claimed", "not claimed"], move |shown| {
            let cell = cell(0);
            let mut first = cell.writer(&Unleased).unwrap();
            let (gate, look) = gate();
            let dropping = thread::spawn(move || {
                assert_eq!(first.write(&value(1)), 1);
                drop(first);
                gate.store(1, Ordering::Relaxed);
            });
            hook::fail_stale_cas(stale);
            if let Some(mut second) = (0..2).inspect(|_| look()).find_map(|_| cell.writer(&Unleased).ok()) {
                assert_eq!((second.version(), second.value()), (1, value(1)), "the former holder wrote one");
                assert_eq!(second.write(&value(2)), 2);
                shown.note("claimed");
            } else {
                shown.note("not claimed");
            }
            dropping.join().unwrap();
        });
    }
}

/// Killed at any step between the claim and the end of the drop, a holder leaves a role that the next one with the
/// lease takes.
#[test]
fn a_holder_killed_at_any_step_from_claim_to_drop_is_followed() {
    at_every_step(|step| {
        let leases = Leases::new();
        let cell = cell(1 << 31);
        let dying = thread::spawn({
            let (cell, leases) = (Arc::clone(&cell), leases.clone());
            move || {
                let mut written = 0;
                let outcome = hook::killed_after(step, || written = write_next(&cell, &leases));
                (written, outcome.is_none())
            }
        });
        // Also while the other one still lives.
        let early = write_next(&cell, &leases);
        let (written, killed) = dying.join().unwrap();
        assert!(early != written || early == 0, "one version written twice");
        let last = write_next(&cell, &leases);
        assert!(last > written.max(early), "{last} after {written} and {early}");
        assert_eq!(cell.reader().try_read(), Ok((value(last), last)));
        killed
    });
}

/// Takes the role, writes the next version and says which; 0 if the role is taken.
fn write_next(cell: &Cell<[u64; 1]>, leases: &Leases) -> u64 {
    let Ok(mut writer) = cell.writer(leases) else { return 0 };
    assert_eq!(writer.value(), value(writer.version()), "torn");
    writer.write(&value(writer.version() + 1))
}
