//! A producer that is killed at any access: what it had published is whole and in place, nobody waits for it, and its
//! lane ends where its last published message ends, whatever the tail says.

use loom::thread;
use tidewire_mpsc::{AttachError, Delivery};
use tidewire_shm::sync::hook;

use crate::model::at_every_step;
use crate::{Gate, Seen, of, pop, queue, rest};

/// Killed while it pushes a message and a batch, beside another producer and the consumer; then its lane goes to the
/// next one.
#[test]
fn a_push_killed_anywhere_is_whole_or_nothing() {
    let shown = Seen::default();
    let inside = shown.clone();
    at_every_step(move |step| {
        let (queue, leases) = queue(2, 4, Delivery::AtLeastOnce);
        let (mut victim, mut other) = (queue.producer(&leases).unwrap(), queue.producer(&leases).unwrap());
        let mut consumer = queue.consumer(&leases).unwrap();
        let lane = victim.lane();
        let gate = Gate::new();
        let dying = thread::spawn({
            let gate = gate.clone();
            move || {
                hook::killed_after(step, || {
                    victim.push(10).unwrap();
                    gate.pass();
                    victim.push_slice(&[11, 12]).unwrap();
                })
                .is_none()
            }
        });
        gate.open();
        other.push(20).unwrap();
        let mut got: Vec<u64> = pop(&mut consumer).into_iter().collect();
        let died = dying.join().unwrap();
        leases.bury();
        assert_eq!(consumer.reclaim(&leases).unwrap(), u32::from(died));
        let mut next = queue.producer(&leases).unwrap();
        assert_eq!(next.lane(), lane, "the lane of the dead is the only free one");
        next.push(13).unwrap();
        other.push(21).unwrap();
        got.extend(rest(&mut consumer));
        let of_victim = of(&got, 10);
        let published = of_victim.len() - 1;
        assert!([0, 1, 3].contains(&published), "{of_victim:?}");
        assert_eq!(of_victim[..published], [10, 11, 12][..published]);
        assert_eq!((of_victim[published], of(&got, 20)), (13, vec![20, 21]));
        assert!(died || published == 3);
        if died {
            inside.note(["nothing", "one", "", "all"][published]);
        }
        died
    });
    shown.assert(&["nothing", "one", "all"]);
}

/// Killed while it leaves: the lane is free, or the consumer frees it; either way it goes on behind the last message.
#[test]
fn a_detach_killed_anywhere_leaves_the_end_of_the_lane() {
    at_every_step(|step| {
        let (queue, leases) = queue(1, 2, Delivery::AtLeastOnce);
        let mut victim = queue.producer(&leases).unwrap();
        let mut consumer = queue.consumer(&leases).unwrap();
        let dying = thread::spawn(move || {
            hook::killed_after(step, move || {
                victim.push(10).unwrap();
                drop(victim);
            })
            .is_none()
        });
        let mut got: Vec<u64> = pop(&mut consumer).into_iter().collect();
        let died = dying.join().unwrap();
        leases.bury();
        let mut next = match queue.producer(&leases) {
            Ok(next) => next,
            Err(AttachError::LanesExhausted { .. }) => {
                assert_eq!(consumer.reclaim(&leases).unwrap(), 1);
                queue.producer(&leases).unwrap()
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(consumer.reclaim(&leases).unwrap(), 0);
        next.push(11).unwrap();
        got.extend(rest(&mut consumer));
        assert!(got == [10, 11] || got == [11], "{got:?}");
        assert!(died || got == [10, 11]);
        died
    });
}

/// Killed while it attaches: the lane is as new, or has a dead owner.
#[test]
fn an_attach_killed_anywhere_leaves_a_lane_for_the_next() {
    at_every_step(|step| {
        let (queue, leases) = queue(1, 2, Delivery::AtLeastOnce);
        let mut consumer = queue.consumer(&leases).unwrap();
        let dying = thread::spawn({
            let (queue, leases) = (queue.clone(), leases.clone());
            move || {
                hook::killed_after(step, move || std::mem::forget(queue.producer(&leases).unwrap())).is_none()
            }
        });
        assert_eq!(pop(&mut consumer), None);
        let died = dying.join().unwrap();
        if !died {
            // Forgotten, not dropped: it lives.
            assert_eq!(consumer.reclaim(&leases).unwrap(), 0);
            return false;
        }
        leases.bury();
        consumer.reclaim(&leases).unwrap();
        let mut next = queue.producer(&leases).unwrap();
        next.push(11).unwrap();
        assert_eq!(rest(&mut consumer), [11]);
        died
    });
}
