//! Looks at queues without their types.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

use tidewire_mpsc::{
    AttachError, KIND_LANES_BYTES, KIND_LANES_FIXED, KIND_ORDERED_BYTES, KIND_ORDERED_FIXED, LaneStats,
    Options, View, bytes, fixed, ordered,
};
use tidewire_shm::sync::Ordering;
use tidewire_shm::{Field, Region, RoleStride, Segment, Unleased, Untrusted};

type Odd = [u8; 12];

const STRIDES: [RoleStride; 2] = [RoleStride::Line, RoleStride::Page];

fn options(stride: RoleStride) -> Options {
    // Whoever looks need not know the fingerprint.
    Options::new().lanes(3).role_stride(stride).type_fingerprint(77)
}

/// Makes a queue, sends so many messages over the first lane and one over the second, and says what it says of itself.
macro_rules! filled {
    ($queue:ty, $capacity:expr, $stride:expr, $message:expr, $most:expr) => {{
        let options = options($stride);
        let segment = Segment::anonymous(<$queue>::bytes($capacity, &options).unwrap()).unwrap();
        let queue = <$queue>::create(segment.region(), $capacity, &options).unwrap();
        let (mut first, mut second) =
            (queue.producer(&Unleased).unwrap(), queue.producer(&Unleased).unwrap());
        for _ in 0..$most {
            first.push($message).unwrap();
        }
        second.push($message).unwrap();
        drop(second);
        let lanes: Vec<LaneStats> = queue.lanes().collect();
        drop(first);
        (segment, lanes)
    }};
}

fn lanes_of_slots(stride: RoleStride, most: usize) -> (Segment, Vec<LaneStats>) {
    filled!(fixed::Queue<Odd, Untrusted>, 8, stride, [7; 12], most)
}

fn ordered_slots(stride: RoleStride, most: usize) -> (Segment, Vec<LaneStats>) {
    filled!(ordered::fixed::Queue<Odd, Untrusted>, 8, stride, [7; 12], most)
}

fn lanes_of_records(stride: RoleStride, most: usize) -> (Segment, Vec<LaneStats>) {
    filled!(bytes::Queue<Untrusted>, 256, stride, &[7; 20], most)
}

fn ordered_records(stride: RoleStride, most: usize) -> (Segment, Vec<LaneStats>) {
    filled!(ordered::bytes::Queue<Untrusted>, 256, stride, &[7; 20], most)
}

type Filled = fn(RoleStride, usize) -> (Segment, Vec<LaneStats>);

/// What makes it, its kind, bytes of an element, elements of a lane, elements of a message.
const ALL: [(Filled, u32, usize, usize, u64); 4] = [
    (lanes_of_slots, KIND_LANES_FIXED, 12, 8, 1),
    (ordered_slots, KIND_ORDERED_FIXED, 12, 8, 1),
    (lanes_of_records, KIND_LANES_BYTES, 1, 256, 32),
    (ordered_records, KIND_ORDERED_BYTES, 1, 256, 32),
];

#[test]
fn a_view_says_what_a_queue_says() {
    for stride in STRIDES {
        for (filled, kind, element_bytes, capacity, each) in ALL {
            for most in [0, 5, 7] {
                let (segment, lanes) = filled(stride, most);
                let view = View::open(segment.region().read_only()).unwrap();
                assert_eq!((view.kind(), view.element_bytes()), (kind, element_bytes));
                assert_eq!((view.lane_count(), view.lane_capacity()), (3, capacity));
                let seen: Vec<LaneStats> = view.lanes().collect();
                let depths: Vec<u64> = seen.iter().map(|lane| lane.depth).collect();
                assert_eq!(depths, [most as u64 * each, each, 0], "{view:?}");
                // The first lane's producer is gone since.
                for (mut now, then) in seen.into_iter().zip(lanes) {
                    (now.owner, now.state) = (then.owner, then.state);
                    assert_eq!(now, then);
                }
                assert_eq!(view.consumer_owner(), None);
            }
        }
    }
}

fn store(region: &Region<Untrusted>, offset: usize, value: u64) {
    // SAFETY: an aligned word of the region, which outlives the handle; whoever looks expects anything.
    unsafe { region.atomic_u64(offset) }.store(value, Ordering::Relaxed);
}

#[test]
fn what_is_no_queue_is_refused() {
    let cases = [
        (24, 0x0001_0001, Field::Kind),
        (48, 0, Field::ElementBytes),
        (48, 1 << 62, Field::ElementBytes),
        (56, 3, Field::ElementAlign),
        (56, 8, Field::ElementBytes),
        // Lanes: none.
        (128, 1 << 32, Field::Count),
    ];
    for (offset, value, field) in cases {
        let (segment, _) = lanes_of_slots(RoleStride::Line, 1);
        store(&segment.region(), offset, value);
        match View::open(segment.region()) {
            Err(AttachError::Incompatible(found)) => assert_eq!(found.field, field),
            found => panic!("expected {field:?} to be wrong, found {found:?}"),
        }
    }
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
    for round in 0..500 {
        for (filled, ..) in ALL {
            let segment = filled(RoleStride::Line, round % 8).0;
            let region = segment.region();
            let words = region.len() as u64 / 8;
            for _ in 0..4 {
                // Header and shape now and then, else anything.
                let word = if next() % 16 == 0 { next() % 32 } else { 32 + next() % (words - 32) };
                let value = if next() % 2 == 0 { next() } else { next() % 64 };
                store(&region, usize::try_from(word).unwrap() * 8, value);
            }
            match View::open(region.read_only()) {
                Ok(view) => {
                    opened += 1;
                    assert!(view.lanes().all(|lane| lane.depth <= view.lane_capacity() as u64), "{view:?}");
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(opened > 500 && refused > 100, "{opened} {refused}");
}
