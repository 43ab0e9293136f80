//! The header: whoever finds the magic finds everything that the creator wrote before it.

use loom::thread;
use tidewire_ring::{AttachError, Options, bytes, fixed};
use tidewire_shm::sync::{Ordering, fence};
use tidewire_shm::{Field, Region, Trusted};

use crate::model::{Shown, model_that_shows};

/// A region whose control words hold what an earlier use left there; only the magic is gone.
fn used_region(len: usize) -> (Region<Trusted>, Region<Trusted>) {
    let region = Region::heap(len).unwrap();
    for offset in [128, 256, 384, 512] {
        // SAFETY: a control word of every ring with line stride; the region outlives it.
        let word = unsafe { region.atomic_u64(offset) };
        word.store(0xDEAD_0000_0001, Ordering::Relaxed);
    }
    // SAFETY: one alias creates, the other opens: they follow the protocol.
    let alias = unsafe { region.alias() };
    (region, alias)
}

fn not_yet(shown: &Shown, error: AttachError) {
    shown.note("not yet");
    let AttachError::Incompatible(error) = error else { panic!("{error}") };
    assert_eq!(error.field, Field::Magic, "{error}");
}

#[test]
fn a_fixed_ring_that_is_found_is_ready() {
    model_that_shows(&["found", "not yet"], |shown| {
        let len = fixed::Ring::<u64>::bytes(1, &Options::new()).unwrap();
        let (region, alias) = used_region(len);
        let creating = thread::spawn(move || fixed::Ring::<u64>::create(region, 1, &Options::new()).unwrap());
        let mut alias = Some(alias);
        for _ in 0..3 {
            // SAFETY: a second handle for another attempt, of the same structure.
            let next = alias.as_ref().map(|alias| unsafe { alias.alias() });
            match fixed::Ring::<u64>::open(alias.take().unwrap(), 0) {
                Ok(ring) => {
                    let (mut producer, mut consumer) = ring.split().unwrap();
                    producer.push(1).unwrap();
                    assert_eq!(consumer.pop(), Ok(1));
                    shown.note("found");
                    break;
                }
                Err(error) => not_yet(shown, error),
            }
            alias = next;
        }
        creating.join().unwrap();
    });
}

#[test]
fn a_ring_of_records_that_is_found_is_ready() {
    model_that_shows(&["found", "not yet"], |shown| {
        let len = bytes::Ring::<Trusted>::bytes(64, &Options::new()).unwrap();
        let (region, alias) = used_region(len);
        let creating = thread::spawn(move || bytes::Ring::create(region, 64, &Options::new()).unwrap());
        match bytes::Ring::open(alias, 0) {
            Ok(ring) => {
                let (mut producer, mut consumer) = ring.split().unwrap();
                producer.push(b"ready").unwrap();
                assert_eq!(&*consumer.pop().unwrap(), b"ready");
                shown.note("found");
            }
            Err(error) => not_yet(shown, error),
        }
        creating.join().unwrap();
    });
}

/// Creating over an old ring takes the old magic away first: whoever sees a word of the new one cannot open the old.
#[test]
fn an_old_ring_is_gone_before_a_new_one_begins() {
    const OLD: u64 = 7;
    model_that_shows(&["cleared", "untouched"], |shown| {
        let old = Options::new().type_fingerprint(OLD);
        let len = fixed::Ring::<u64>::bytes(1, &old).unwrap();
        let region = Region::heap(len).unwrap();
        // SAFETY: handles for the old ring, for its successor, and for who looks; they take turns or follow the
        // header's protocol.
        let (first, second) = unsafe { (region.alias(), region.alias()) };
        drop(fixed::Ring::<u64>::create(first, 1, &old).unwrap());
        // SAFETY: the tail of a ring with line stride; the region outlives it.
        let tail = unsafe { region.atomic_u64(128) };
        tail.store(3, Ordering::Relaxed);
        let creating =
            thread::spawn(move || drop(fixed::Ring::<u64>::create(second, 1, &Options::new()).unwrap()));
        if tail.load(Ordering::Relaxed) == 0 {
            shown.note("cleared");
            fence(Ordering::Acquire);
            match fixed::Ring::<u64>::open(region, OLD) {
                Ok(_) => panic!("the old ring was opened over the words of the new one"),
                Err(AttachError::Incompatible(error)) => {
                    assert!([Field::Magic, Field::TypeFingerprint].contains(&error.field), "{error}");
                }
                Err(error) => panic!("{error}"),
            }
        } else {
            shown.note("untouched");
        }
        creating.join().unwrap();
    });
}
