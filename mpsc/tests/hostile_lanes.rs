//! Memory that a hostile peer writes: the lane that lies is taken out of use, and the others lose nothing.
#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

#[path = "../../ring/tests/hostile_memory/mod.rs"]
mod hostile_memory;
mod lanes;

use hostile_memory::Memory;
use lanes::{Empty, Kind, Leases, Records, Slots};
use tidewire_mpsc::{AttachError, Delivery, LaneState, Options};
use tidewire_ring::CorruptWord;
use tidewire_shm::{Field, RoleStride, Unleased};

const CAPACITY: usize = 512;
const LANES: u32 = 3;
/// The lane of the hostile peer.
const LIAR: usize = 1;

/// Where the words of a queue lie, written down here a second time: the layout is an interface.
#[derive(Clone, Copy, Debug)]
struct Places {
    consumer: usize,
    quarantined: usize,
    attached: usize,
    registry: usize,
    lanes: usize,
    lane_bytes: usize,
    /// Of lane [`LIAR`], from its start.
    tail: usize,
    head: usize,
    data: usize,
}

const LINE: Places = Places {
    consumer: 256,
    quarantined: 384,
    attached: 512,
    registry: 640,
    lanes: 1024,
    lane_bytes: 0,
    tail: 0,
    head: 128,
    data: 256,
};
const PAGE: Places = Places {
    consumer: 4096,
    quarantined: 4224,
    attached: 8192,
    registry: 12288,
    lanes: 16384,
    lane_bytes: 0,
    tail: 256,
    head: 4096 + 384,
    data: 8192,
};

struct World<K: Kind> {
    memory: Memory,
    stride: RoleStride,
    delivery: Delivery,
    places: Places,
    queue: K::Queue,
    producers: Vec<K::Producer>,
    consumer: K::Consumer,
    pushed: [u64; LANES as usize],
    got: [u64; LANES as usize],
}

fn options(stride: RoleStride, delivery: Delivery) -> Options {
    Options::new().lanes(LANES).role_stride(stride).delivery(delivery)
}

impl<K: Kind> World<K> {
    fn new(stride: RoleStride, delivery: Delivery) -> Self {
        let options = options(stride, delivery);
        let memory = Memory::new(K::bytes(CAPACITY, &options).unwrap());
        let places = if stride == RoleStride::Line { LINE } else { PAGE };
        let lane_bytes = (memory.len() - places.lanes) / LANES as usize;
        let queue = K::create(memory.region(), CAPACITY, &options);
        let producers = (0..LANES).map(|_| K::producer(&queue, &Unleased).unwrap()).collect();
        let consumer = K::consumer(&queue, &Unleased).unwrap();
        let places = Places { lane_bytes, ..places };
        Self { memory, stride, delivery, places, queue, producers, consumer, pushed: [0; 3], got: [0; 3] }
    }

    /// The words of the liar's lane, and all words that no process should trust.
    fn words(&self) -> Vec<usize> {
        let lane = self.places.lanes + LIAR * self.places.lane_bytes;
        let maps = (0..4).flat_map(|i| [self.places.attached + 8 * i, self.places.quarantined + 8 * i]);
        let owner = self.places.registry + 128 * LIAR;
        let mut words = vec![owner, lane + self.places.tail, lane + self.places.head];
        words.extend((0..4).map(|i| lane + self.places.data + 8 * i));
        words.extend(maps);
        words
    }

    /// Pushes to the honest lanes what fits, at most `n` each, and to the liar's one message.
    fn push(&mut self, n: u64) {
        for (lane, producer) in self.producers.iter_mut().enumerate() {
            for _ in 0..if lane == LIAR { 1 } else { n } {
                let number = (lane as u64) << 32 | self.pushed[lane];
                self.pushed[lane] += u64::from(K::push(producer, number));
            }
        }
    }

    /// Pops until the queue is empty, in a bounded number of calls: messages of honest lanes in order and once.
    fn pop(&mut self) {
        let mut calls = 0;
        while let Ok((number, whole)) = K::pop_any(&mut self.consumer) {
            calls += 1;
            assert!(calls < 4 * CAPACITY, "it never ends");
            let lane = K::last_lane(&self.consumer).unwrap() as usize;
            if lane != LIAR {
                assert!(whole, "lane {lane}: torn");
                assert_eq!(number, (lane as u64) << 32 | self.got[lane], "lane {lane}");
                self.got[lane] += 1;
            }
        }
        K::rescan(&mut self.consumer);
        assert!(calls < 4 * CAPACITY);
        self.memory.assert_guards();
    }

    fn honest_are_complete(&mut self) {
        self.pop();
        self.pop();
        for lane in [0, 2] {
            assert_eq!(self.got[lane], self.pushed[lane], "lane {lane}");
            assert!(self.pushed[lane] >= 20, "lane {lane} was stopped");
        }
    }
}

fn worlds<K: Kind>(mut body: impl FnMut(World<K>)) {
    for stride in [RoleStride::Line, RoleStride::Page] {
        for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
            body(World::new(stride, delivery));
        }
    }
}

fn hostile(word: u64) -> [u64; 12] {
    [
        0,
        1,
        7,
        8,
        word.wrapping_add(1),
        word.wrapping_sub(1),
        word.wrapping_add(8),
        word.wrapping_add(CAPACITY as u64 + 8),
        word ^ 1 << 32,
        1 << 63,
        u64::MAX / 2,
        u64::MAX,
    ]
}

/// Every word that the liar can reach with an excuse, with every value, at two moments: the others go on.
fn one_lie<K: Kind>() {
    worlds::<K>(|world| {
        let words = world.words().len();
        for (word, value) in (0..words).flat_map(|word| (0..12).map(move |value| (word, value))) {
            for early in [false, true] {
                let mut world = World::<K>::new(world.stride, world.delivery);
                world.push(5);
                if early {
                    world.pop();
                }
                let offset = world.words()[word];
                let value = hostile(world.memory.word(offset))[value];
                world.memory.set_word(offset, value);
                for _ in 0..6 {
                    world.push(5);
                    world.pop();
                    world.memory.set_word(offset, value);
                }
                world.honest_are_complete();
            }
        }
    });
}

#[test]
fn one_lie_in_a_lane_of_slots() {
    one_lie::<Slots>();
}

#[test]
fn one_lie_in_a_lane_of_records() {
    one_lie::<Records>();
}

/// A tail that cannot be: the lane is out of use, counted, reported once, shown to everybody, and never used again.
fn quarantine<K: Kind>() {
    worlds::<K>(|mut world| {
        world.push(3);
        let tail = world.places.lanes + LIAR * world.places.lane_bytes + world.places.tail;
        world.memory.set_word(tail, 1 << 40);
        world.push(3);
        world.memory.set_word(tail, 1 << 40);
        world.pop();
        let found = K::take_corrupt(&mut world.consumer).expect("a report");
        assert_eq!(
            (found.lane as usize, found.corrupt.what, found.corrupt.found),
            (LIAR, CorruptWord::Tail, 1 << 40)
        );
        assert_eq!(K::take_corrupt(&mut world.consumer), None, "reported twice");
        let states: Vec<_> = K::stats(&world.queue).iter().map(|lane| lane.state).collect();
        assert_eq!(states, [LaneState::Owned, LaneState::Corrupt, LaneState::Owned]);
        assert_eq!(world.memory.word(world.places.quarantined), 1 << LIAR);
        // Nobody gets it again, not even when its owner leaves.
        drop(world.producers.remove(LIAR));
        let error = K::producer(&world.queue, &Unleased).err();
        assert_eq!(error, Some(AttachError::LanesExhausted { lanes: LANES, corrupt: 1 }));
        // A successor finds out by itself, whatever the bitmap says.
        drop(world.consumer);
        world.memory.set_word(world.places.quarantined, 0);
        let mut successor = K::consumer(&world.queue, &Unleased).unwrap();
        assert_eq!(K::pop(&mut successor), Err(Empty));
        K::rescan(&mut successor);
        let error = K::producer(&world.queue, &Unleased).err();
        assert_eq!(
            error,
            Some(AttachError::LanesExhausted { lanes: LANES, corrupt: 1 }),
            "its tail is still impossible"
        );
    });
}

#[test]
fn a_lane_of_slots_with_an_impossible_tail_is_out_of_use() {
    quarantine::<Slots>();
}

#[test]
fn a_lane_of_records_with_an_impossible_tail_is_out_of_use() {
    quarantine::<Records>();
}

/// A tail behind its head cannot be: there is no honest moment at which it is.
#[test]
fn a_tail_behind_the_head_is_seen_by_observers() {
    worlds::<Slots>(|mut world| {
        world.push(3);
        world.pop();
        let tail = world.places.lanes + LIAR * world.places.lane_bytes + world.places.tail;
        let stats = Slots::stats(&world.queue)[LIAR];
        assert_eq!((stats.state, stats.sent, stats.received, stats.depth), (LaneState::Owned, 1, 1, 0));
        world.memory.set_word(tail, 0);
        let stats = Slots::stats(&world.queue)[LIAR];
        assert_eq!((stats.state, stats.sent, stats.received, stats.depth), (LaneState::Corrupt, 0, 1, 0));
    });
}

/// A frame that cannot be takes out its lane only, in the middle of a call that finds something elsewhere.
#[test]
fn a_lane_with_an_impossible_frame_is_out_of_use() {
    worlds::<Records>(|mut world| {
        world.push(2);
        let frame = world.places.lanes + LIAR * world.places.lane_bytes + world.places.data;
        world.memory.set_word(frame, u64::MAX);
        world.pop();
        let found = Records::take_corrupt(&mut world.consumer).expect("a report");
        assert_eq!((found.lane as usize, found.corrupt.what), (LIAR, CorruptWord::Record));
        for _ in 0..10 {
            world.push(3);
            world.pop();
        }
        world.honest_are_complete();
    });
}

/// A lane whose positions are impossible when somebody attaches is passed over.
#[test]
fn an_impossible_lane_is_passed_over_by_attachers() {
    worlds::<Slots>(|mut world| {
        world.producers.clear();
        let lane = world.places.lanes + LIAR * world.places.lane_bytes;
        world.memory.set_word(lane + world.places.tail, 12345);
        let got: Vec<u32> =
            (0..2).map(|_| Slots::producer(&world.queue, &Unleased).unwrap()).map(|p| p.lane()).collect();
        assert_eq!(got, [0, 0], "lane 0 again, as the first one was dropped");
        let held: Vec<_> = (0..2).map(|_| Slots::producer(&world.queue, &Unleased).unwrap()).collect();
        assert_eq!(held.iter().map(|p| p.lane()).collect::<Vec<_>>(), [0, 2]);
        let error = Slots::producer(&world.queue, &Unleased).err();
        assert_eq!(error, Some(AttachError::LanesExhausted { lanes: LANES, corrupt: 1 }));
        assert_eq!(Slots::stats(&world.queue)[LIAR].owner, None, "given back");
    });
}

/// Owner words that say anything: claims and reclaims end, and what a living owner pushes arrives.
#[test]
fn scribbled_owner_words_cost_lanes_and_nothing_else() {
    for value in [0, 1, 77, 1 << 32, u64::from(u32::MAX) << 32, u64::MAX] {
        let options = options(RoleStride::Line, Delivery::AtLeastOnce).liveness::<Leases>();
        let memory = Memory::new(Slots::bytes(CAPACITY, &options).unwrap());
        let (queue, leases) = (Slots::create(memory.region(), CAPACITY, &options), Leases::default());
        let mut consumer = Slots::consumer(&queue, &leases).unwrap();
        let mut honest = Slots::producer(&queue, &leases).unwrap();
        for lane in [1, 2] {
            memory.set_word(LINE.registry + 128 * lane, value);
        }
        memory.set_word(LINE.consumer, value);
        let reclaimed = Slots::reclaim(&queue, &leases).unwrap();
        assert!(reclaimed <= 2);
        let mut more: Vec<_> = (0..3).filter_map(|_| Slots::producer(&queue, &leases).ok()).collect();
        assert_eq!(more.len(), 2, "{value:#x}: no lease stands behind those words");
        for i in 0..10 {
            assert!(Slots::push(&mut honest, i));
            assert!(more.iter_mut().all(|producer| Slots::push(producer, 100)));
            let mut got: Vec<u64> = (0..3).map(|_| Slots::pop(&mut consumer).unwrap()).collect();
            got.sort_unstable();
            assert_eq!(got, [i, 100, 100]);
        }
        assert_eq!(
            Slots::consumer(&queue, &leases)
                .err()
                .map(|error| matches!(error, AttachError::RoleTaken(_) | AttachError::Lease(_))),
            Some(true)
        );
        memory.assert_guards();
    }
}

/// Header and shape: each byte changed makes an error that names a field, or changes nothing that is compared.
#[test]
fn a_changed_header_or_shape_is_refused_by_name() {
    for stride in [RoleStride::Line, RoleStride::Page] {
        let options = options(stride, Delivery::AtLeastOnce);
        let memory = Memory::new(Slots::bytes(CAPACITY, &options).unwrap());
        drop(Slots::create(memory.region(), CAPACITY, &options));
        // The nonce in the header is compared by nobody; the kind of liveness is, at attach.
        for offset in (0..256).filter(|offset| !(96..112).contains(offset) && !(136..140).contains(offset)) {
            for change in [1, 0x80, 0xFF] {
                let was = memory.byte(offset);
                memory.set_byte(offset, was ^ change);
                match Slots::open(memory.region()) {
                    Err(AttachError::Incompatible(_)) => {}
                    Ok(queue) => {
                        assert!(offset == 132 && queue.delivery() == Delivery::AtMostOnce, "byte {offset}");
                    }
                    Err(error) => panic!("byte {offset}: {error}"),
                }
                memory.set_byte(offset, was);
            }
        }
        let queue = Slots::open(memory.region()).unwrap();
        let error = Slots::producer(&queue, &Leases::default()).err();
        let Some(AttachError::Incompatible(error)) = error else { panic!("{error:?}") };
        assert_eq!((error.field, error.expected, error.found), (Field::Liveness, 1 << 31, 0));
        for length in [0, 64, 128, 255, memory.len() - 1] {
            if length > 0 {
                let region = memory.region_of(length, tidewire_shm::Origin::default());
                assert!(matches!(Slots::open(region), Err(AttachError::Incompatible(_))));
            }
        }
        assert!(
            matches!(Records::open(memory.region()), Err(AttachError::Incompatible(e)) if e.field == Field::Kind)
        );
    }
}
