//! Mistakes with leases, which must be reported: a model that cannot fail proves nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use loom::thread;
use tidewire_ring::embed::fixed::{PopEnd, PushEnd};
use tidewire_ring::embed::{Parts, Role};
use tidewire_ring::{PopError, Tuning};
use tidewire_shm::sync::hook;
use tidewire_shm::{Liveness, Region, RoleId, Trusted};

use crate::lease::{pop, ring};
use crate::leases::{Lease, Leases, Liar};
use crate::model::{model, model_that_shows};

/// What a model reports; empty if it passes.
fn report(body: impl FnOnce()) -> String {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(()) => String::new(),
        Err(panic) => match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => (*panic.downcast::<&str>().expect("a panic with a text")).to_owned(),
        },
    }
}

#[track_caller]
fn assert_reported(wanted: &str, body: impl FnOnce()) {
    let found = report(body);
    assert!(found.contains(wanted), "expected a report of {wanted:?}, found {found:?}");
}

const PARTS: Parts = Parts { tail_offset: 128, head_offset: 256, data_offset: 640, capacity: 2 };
const OWNER: usize = 512;

/// What a consumer's handle does when it is dropped, one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// Stores the head.
    Release,
    /// Frees the owner word.
    Free,
    /// Hands the lease back.
    HandBack,
}

use End::{Free, HandBack, Release};

/// A consumer that ends as it is told.
struct Twin {
    end: PopEnd<u64, Trusted>,
    role: Option<Role>,
    lease: Option<Lease>,
    order: [End; 3],
}

impl Twin {
    /// Takes the role as the shipped handle does; `None` if somebody has the lease.
    fn take(region: &Region<Trusted>, leases: &Leases, order: [End; 3]) -> Option<Self> {
        let lease = leases.acquire(RoleId::CONSUMER).ok()?;
        // SAFETY: the owner word, nowhere used as payload; the end keeps the region.
        let word = unsafe { region.atomic_u64(OWNER) };
        let role = match Role::owner_of(&word) {
            Some(dead) => Role::replace(word, dead),
            None => Role::claim(word),
        };
        let role = role.expect("whoever has the lease gets the role");
        // SAFETY: the parts of this ring; whether we are the only one is what the model finds out.
        let mut end = unsafe { PopEnd::attach(region, &PARTS) }.unwrap();
        end.tune(Tuning::default().release_every(2));
        Some(Self { end, role: Some(role), lease: Some(lease), order })
    }

    fn pop(&mut self) -> Option<u64> {
        match self.end.pop() {
            Ok(message) => Some(message),
            Err(PopError::Empty) => None,
            Err(PopError::Corrupt(corrupt)) => panic!("{corrupt}"),
        }
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        for step in self.order {
            match step {
                Release => self.end.release(),
                Free => drop(self.role.take()),
                HandBack => drop(self.lease.take()),
            }
        }
    }
}

/// One consumer after the other, each ending in this order: nothing lost, nothing twice, and a lease is enough.
fn handing_over(order: [End; 3]) {
    model_that_shows(&["followed", "refused"], move |shown| {
        let (region, leases) = (Region::heap(1024).unwrap(), Leases::new());
        // SAFETY: the parts of this ring, and its only producer.
        let mut producer = unsafe { PushEnd::<u64, Trusted>::attach(&region, &PARTS) }.unwrap();
        producer.push_slice(&[1, 2]).unwrap();
        let region = Arc::new(region);
        let mut first = Twin::take(&region, &leases, order).unwrap();
        let ending = thread::spawn(move || first.pop());
        let following = thread::spawn({
            let (region, leases) = (Arc::clone(&region), leases.clone());
            move || {
                let mut second = (0..2).find_map(|_| Twin::take(&region, &leases, order))?;
                second.pop()
            }
        });
        let mut got: Vec<u64> = ending.join().unwrap().into_iter().collect();
        let followed = following.join().unwrap();
        shown.note(if followed.is_some() { "followed" } else { "refused" });
        got.extend(followed);
        let mut last = Twin::take(&region, &leases, order).unwrap();
        got.extend(last.pop());
        assert_eq!(got, [1, 2], "each message once");
        assert_eq!(last.end.position(), 2);
    });
}

#[test]
fn the_order_of_the_shipped_handles_passes() {
    handing_over([Release, Free, HandBack]);
}

/// The next one has the lease, and the word changes under it: it is refused what nobody holds.
#[test]
fn a_lease_that_is_handed_back_before_the_word_is_freed_is_reported() {
    assert_reported("whoever has the lease gets the role", || handing_over([Release, HandBack, Free]));
}

/// The next one starts at an old head: it sees again what was popped, though nobody died.
#[test]
fn a_role_that_is_given_up_before_the_head_is_released_is_reported() {
    assert_reported("each message once", || handing_over([Free, HandBack, Release]));
}

/// A producer dies, and the next one takes its role by leases of this kind.
fn taking_over(leases: impl Fn() -> Leases + Send + Sync + 'static) {
    model_that_shows(&["followed", "refused"], move |shown| {
        let (ring, leases) = (ring::<Leases>(), leases());
        let mut consumer = ring.consumer_with(&leases).unwrap();
        let mut victim = ring.producer_with(&leases).unwrap();
        let dying = thread::spawn(move || {
            victim.push(1).unwrap();
            hook::die();
        });
        let mut followed = 0;
        if let Some(mut next) = (0..2).find_map(|_| ring.producer_with(&leases).ok()) {
            next.push(2).unwrap();
            followed = 1;
        }
        shown.note(["refused", "followed"][followed]);
        dying.join().unwrap();
        assert_eq!(consumer.drain().collect::<Vec<_>>(), [1, 2][..1 + followed]);
    });
}

/// The proof of a death hands over what the dead one wrote: its position, and its messages by that.
#[test]
fn leases_whose_end_orders_nothing_are_reported() {
    taking_over(Leases::new);
    assert_reported("Causality violation", || taking_over(Leases::that_order_nothing));
}

/// A lease of a role whose holder is alive.
#[test]
fn taking_over_from_the_living_is_reported() {
    assert_reported("Causality violation", || {
        model(|| {
            let ring = ring::<Liar>();
            let mut consumer = ring.consumer_with(&Liar).unwrap();
            let mut victim = ring.producer_with(&Liar).unwrap();
            let alive = thread::spawn(move || victim.push(1).unwrap());
            let mut thief = ring.producer_with(&Liar).unwrap();
            thief.push(2).unwrap();
            alive.join().unwrap();
            let mut got: Vec<u64> = std::iter::from_fn(|| pop(&mut consumer)).collect();
            got.sort_unstable();
            assert_eq!(got, [1, 2]);
        });
    });
}
