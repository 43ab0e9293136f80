//! Small ordered queues word by word, after a fixed sequence of operations: other versions and other languages read them.
//!
//! If a test here fails, programs that are already out there would misread the memory. Either the change was an
//! accident, or it needs a new `ABI_MAJOR` in `tidewire-shm` (an older program would misread) or `ABI_MINOR` (it
//! would not), and the numbers below change with it.
#![cfg(all(feature = "std", not(loom), target_endian = "little"))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

#[path = "../../ring/tests/hostile_memory/mod.rs"]
mod hostile_memory;
mod lanes;
mod ordered;

use hostile_memory::Memory;
use ordered::{Kind, Records, Slots};
use tidewire_mpsc::{Delivery, KIND_ORDERED_BYTES, KIND_ORDERED_FIXED, Options};
use tidewire_shm::{RoleStride, Unleased};

/// Three lanes of four: one message and a batch of two are popped one by one, then a batch of three stays.
fn queue<K: Kind>(stride: RoleStride) -> Memory {
    let options = Options::new().lanes(3).role_stride(stride).delivery(Delivery::AtMostOnce);
    let memory = Memory::new(K::bytes(4, &options).unwrap());
    let queue = K::create(memory.region(), 4, &options);
    let mut consumer = K::consumer(&queue, &Unleased).unwrap();
    let (mut a, mut b) = (K::producer(&queue, &Unleased).unwrap(), K::producer(&queue, &Unleased).unwrap());
    assert!(K::push(&mut a, &[5]).unwrap() && K::push(&mut b, &[10, 15]).unwrap());
    assert_eq!((K::pop(&mut consumer), K::pop(&mut consumer)), (Ok(Some(5)), Ok(Some(10))));
    assert!(K::push(&mut a, &[20, 25, 30]).unwrap());
    memory
}

/// The words from `offset` on that are not zero, as distances and values.
fn words(memory: &Memory, offset: usize, end: usize) -> Vec<(usize, u64)> {
    (offset..end).step_by(8).map(|at| (at - offset, memory.word(at))).filter(|(_, word)| *word != 0).collect()
}

/// Words of the header and the shape: kind; lanes, delivery, liveness, form; bytes of a lane and of the rest.
fn shape(memory: &Memory) -> [u64; 5] {
    [memory.word(24) & 0xFFFF_FFFF, memory.word(128), memory.word(136), memory.word(144), memory.word(152)]
}

const RUN: [u64; 3] = [1 << 18, 1 << 18 | 1 << 8 | 1, 1 << 18 | 2 << 8];

#[test]
fn slots_lie_as_written_down() {
    for (stride, extra, hint) in [(RoleStride::Line, 1024, 1024 + 384), (RoleStride::Page, 16384, 20480)] {
        let memory = queue::<Slots>(stride);
        let unit = if stride == RoleStride::Line { 128 } else { 4096 };
        let (order, lane) = (hint + unit, 2 * unit + unit);
        assert_eq!(
            shape(&memory),
            [KIND_ORDERED_FIXED.into(), 2 << 32 | 3, 2 << 32, lane as u64, 8192 + 8192],
        );
        // Version 2; block 1 after the first message, block 0 after the second: order head, taken, heads of the lanes.
        assert_eq!(
            words(&memory, extra, hint),
            [(0, 2), (128, 1), (136, 1), (144, 1), (152, 1), (256, 1), (272, 1)]
        );
        assert_eq!(words(&memory, hint, order), []);
        let end = extra + 8192 + 8192;
        assert_eq!(words(&memory, order, end), [(0, RUN[0]), (8, RUN[1]), (16, RUN[2])]);
    }
}

#[test]
fn records_lie_as_written_down() {
    let memory = queue::<Records>(RoleStride::Line);
    // 1024 order words, as many as for slots: 3 lanes of 128 bytes have at most 48 records.
    assert_eq!(shape(&memory), [KIND_ORDERED_BYTES.into(), 2 << 32 | 3, 2 << 32, 384, 16384]);
    assert_eq!(
        words(&memory, 1024, 1024 + 384),
        [(0, 2), (128, 1), (136, 1), (144, 16), (152, 16), (256, 1), (272, 16)]
    );
    assert_eq!(words(&memory, 1024 + 512, 1024 + 16384), [(0, RUN[0]), (8, RUN[1]), (16, RUN[2])]);
    // Lane 0: tail, head; a frame and a number each, as in a ring.
    let lane = 1024 + 16384;
    assert_eq!(words(&memory, lane, lane + 256), [(0, 64), (128, 16)]);
    let message = 1_u64 << 32 | 8;
    assert_eq!(
        words(&memory, lane + 256, lane + 384),
        [(0, message), (8, 5), (16, message), (24, 20), (32, message), (40, 25), (48, message), (56, 30)]
    );
}

/// The ring of order words has one for each message of all lanes, at least 1024.
#[test]
fn order_words_are_enough_for_all_lanes() {
    for (lanes, capacity, words) in [(1, 1, 1024), (3, 1024, 4096), (4, 1024, 4096), (256, 64, 16384)] {
        let bytes = Slots::bytes(capacity, &Options::new().lanes(lanes)).unwrap();
        let front = 640 + 128 * lanes as usize;
        let block = (8 * (2 + lanes as usize)).next_multiple_of(128);
        let extra = (128 + 2 * block).next_multiple_of(4096) + 4096 + 8 * words;
        assert_eq!(bytes, front + extra + lanes as usize * (256 + (8 * capacity).next_multiple_of(128)));
    }
}
