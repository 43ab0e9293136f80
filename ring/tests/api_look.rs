//! Looks at rings without their types.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

use tidewire_ring::{AttachError, KIND_BYTES, KIND_FIXED, Options, View, bytes, fixed};
use tidewire_shm::sync::Ordering;
use tidewire_shm::{Field, Region, RoleStride, Segment, Untrusted};

type Odd = [u8; 12];

const STRIDES: [RoleStride; 2] = [RoleStride::Line, RoleStride::Page];

fn options(stride: RoleStride) -> Options {
    // Whoever looks need not know it.
    Options::new().role_stride(stride).type_fingerprint(77)
}

fn slots(stride: RoleStride) -> (Segment, fixed::Ring<Odd, Untrusted>) {
    let options = options(stride);
    let segment = Segment::anonymous(fixed::Ring::<Odd, Untrusted>::bytes(8, &options).unwrap()).unwrap();
    let ring = fixed::Ring::create(segment.region(), 8, &options).unwrap();
    (segment, ring)
}

fn records(stride: RoleStride) -> (Segment, bytes::Ring<Untrusted>) {
    let options = options(stride);
    let segment = Segment::anonymous(bytes::Ring::<Untrusted>::bytes(256, &options).unwrap()).unwrap();
    let ring = bytes::Ring::create(segment.region(), 256, &options).unwrap();
    (segment, ring)
}

fn look(segment: &Segment) -> View<Untrusted> {
    View::open(segment.region().read_only()).unwrap()
}

#[test]
fn a_view_says_what_a_ring_says() {
    for stride in STRIDES {
        let (segment, ring) = slots(stride);
        let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        let view = look(&segment);
        assert_eq!((view.kind(), view.element_bytes(), view.capacity()), (KIND_FIXED, 12, 8));
        assert_eq!(
            (view.producer_owner(), view.consumer_owner()),
            (ring.producer_owner(), ring.consumer_owner())
        );
        assert!(view.producer_owner().is_some());
        for depth in 1..=5 {
            producer.push([7; 12]).unwrap();
            assert_eq!((view.stats(), view.stats().depth), (ring.stats(), depth));
        }
        while consumer.pop().is_ok() {}
        assert_eq!((view.stats().sent, view.stats().received, view.stats().depth), (5, 5, 0));
        drop((producer, consumer));
        assert_eq!((view.producer_owner(), view.consumer_owner()), (None, None));

        let (segment, ring) = records(stride);
        ring.producer().unwrap().push(&[7; 20]).unwrap();
        let view = look(&segment);
        assert_eq!((view.kind(), view.element_bytes(), view.capacity()), (KIND_BYTES, 1, 256));
        assert_eq!((view.stats(), view.stats().depth), (ring.stats(), 32));
    }
}

#[test]
fn what_is_no_ring_is_refused() {
    let expected = |segment: &Segment, field| match View::open(segment.region()) {
        Err(AttachError::Incompatible(found)) => assert_eq!(found.field, field),
        found => panic!("expected {field:?} to be wrong, found {found:?}"),
    };
    let store = |segment: &Segment, offset: usize, value: u64| store(&segment.region(), offset, value);
    let (segment, _ring) = slots(RoleStride::Line);
    // The alignment: none, none that a type has, more than there is, one that the size is no multiple of.
    for (align, field) in [
        (0, Field::ElementAlign),
        (3, Field::ElementAlign),
        (1 << 40, Field::ElementBytes),
        (8, Field::ElementBytes),
    ] {
        store(&segment, 56, align);
        expected(&segment, field);
    }
    let (segment, _ring) = slots(RoleStride::Line);
    for (bytes, field) in [(0, Field::ElementBytes), (1 << 62, Field::ElementBytes), (16, Field::TotalBytes)]
    {
        store(&segment, 48, bytes);
        expected(&segment, field);
    }
    let (segment, _ring) = slots(RoleStride::Line);
    store(&segment, 24, 0x0001_0003);
    expected(&segment, Field::Kind);
    expected(&Segment::anonymous(4096).unwrap(), Field::Magic);
}

fn store(region: &Region<Untrusted>, offset: usize, value: u64) {
    // SAFETY: an aligned word of the region, which outlives the handle; whoever looks expects anything.
    unsafe { region.atomic_u64(offset) }.store(value, Ordering::Relaxed);
}

#[test]
fn random_words_are_numbers_that_can_be() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let (mut opened, mut refused) = (0, 0);
    for round in 0..2000 {
        let segment = if round % 2 == 0 { slots(RoleStride::Line).0 } else { records(RoleStride::Line).0 };
        let region = segment.region();
        for _ in 0..2 {
            // The header now and then, else the words of the roles.
            let word = if next() % 8 == 0 { next() % 16 } else { 16 + next() % 64 };
            let value = if next() % 2 == 0 { next() } else { next() % 64 };
            store(&region, usize::try_from(word).unwrap() * 8, value);
        }
        match View::open(region.read_only()) {
            Ok(view) => {
                opened += 1;
                assert!(view.stats().depth <= view.capacity() as u64, "{view:?}");
                let _owners = (view.producer_owner(), view.consumer_owner());
            }
            Err(_) => refused += 1,
        }
    }
    assert!(opened > 500 && refused > 100, "{opened} {refused}");
}
