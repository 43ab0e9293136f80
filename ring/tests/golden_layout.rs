//! Small rings byte by byte, after a fixed sequence of operations: other versions and other languages read them.
//!
//! If a test here fails, programs that are already out there would misread the memory. Either the change was an
//! accident, or it needs a new `ABI_MAJOR` in `tidewire-shm` (an older program would misread) or `ABI_MINOR` (it
//! would not), and the texts below change with it.
#![cfg(all(feature = "std", not(loom), target_endian = "little"))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

mod hostile_memory;

use std::fmt::Write;

use hostile_memory::{Memory, PAGE, STRIDES};
use tidewire_ring::{KIND_BYTES, KIND_FIXED, Options, Tuning, bytes, fixed};
use tidewire_shm::{ABI_MAJOR, ABI_MINOR, KERNEL_LEASES, RoleStride, SegmentLeases};

const BUMP: &str = "the layout changed: bump ABI (see the top of this file)";

/// The rows that are not zero.
fn dump(memory: &Memory) -> String {
    let mut text = String::new();
    for (i, row) in memory.bytes().chunks(16).enumerate() {
        if row.iter().any(|byte| *byte != 0) {
            write!(text, "{:04x} ", i * 16).unwrap();
            for byte in row {
                write!(text, " {byte:02x}").unwrap();
            }
            text.push('\n');
        }
    }
    text
}

fn options(stride: RoleStride) -> Options {
    Options::new().role_stride(stride).type_fingerprint(0xF1F2_F3F4_F5F6_F7F8)
}

/// Nine messages through four slots; two stay.
fn slots(stride: RoleStride) -> Memory {
    let memory = Memory::new(fixed::Ring::<u64>::bytes(4, &options(stride)).unwrap());
    let ring = fixed::Ring::create(memory.region(), 4, &options(stride)).unwrap();
    let (mut producer, mut consumer) = ring.split().unwrap();
    for i in 0..7_u64 {
        producer.push(0xA0 + i).unwrap();
        consumer.pop().unwrap();
    }
    consumer.pop().unwrap_err();
    producer.push_slice(&[0x1111_2222_3333_4444, 0x5555_6666_7777_8888]).unwrap();
    memory
}

/// Records of 5, 16 and 20 bytes through 64: the third one lies behind padding.
fn records(stride: RoleStride) -> Memory {
    let memory = Memory::new(bytes::Ring::<tidewire_shm::Trusted>::bytes(64, &options(stride)).unwrap());
    let ring = bytes::Ring::create(memory.region(), 64, &options(stride)).unwrap();
    let (mut producer, mut consumer) = ring.split().unwrap();
    consumer.tune(Tuning::default().release_every(1));
    producer.push(b"first").unwrap();
    producer.push(b"the second one..").unwrap();
    assert_eq!(consumer.pop_into(&mut [0; 16]), Ok(5));
    assert_eq!(consumer.pop_into(&mut [0; 16]), Ok(16));
    producer.push(b"xxxxxxxxxxxxxxxxxxxx").unwrap();
    producer.push(b"").unwrap();
    memory
}

#[test]
fn constants() {
    assert_eq!((ABI_MAJOR, ABI_MINOR), (1, 0), "{BUMP}");
    assert_eq!((KIND_FIXED, KIND_BYTES), (0x0001_0001, 0x0001_0002), "{BUMP}");
    for (stride, offsets) in STRIDES {
        let options = Options::new().role_stride(stride);
        assert_eq!(fixed::Ring::<u64>::bytes(16, &options), Ok(offsets.data + 128), "{BUMP}");
        assert_eq!(fixed::Ring::<[u8; 3]>::bytes(16, &options), Ok(offsets.data + 48), "{BUMP}");
        assert_eq!(
            bytes::Ring::<tidewire_shm::Trusted>::bytes(64, &options),
            Ok(offsets.data + 64),
            "{BUMP}"
        );
    }
}

/// Header; tail 9, head 7; both roles free after one generation; positions 8, 5, 6, 7.
const SLOTS_WITH_LINES: &str = "\
0000  54 49 44 45 57 49 52 45 01 00 00 00 04 03 02 01
0010  80 00 00 00 80 00 00 00 01 00 01 00 00 00 00 00
0020  a0 02 00 00 00 00 00 00 04 00 00 00 00 00 00 00
0030  08 00 00 00 00 00 00 00 08 00 00 00 00 00 00 00
0040  f8 f7 f6 f5 f4 f3 f2 f1 80 00 00 00 00 00 00 00
0050  80 02 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0080  09 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0100  07 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0180  00 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
0200  00 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
0280  88 88 77 77 66 66 55 55 a5 00 00 00 00 00 00 00
0290  a6 00 00 00 00 00 00 00 44 44 33 33 22 22 11 11
";

/// Header; tail 104, head 40; both roles free; 20 bytes and four old ones, an empty record, padding of 16 bytes.
const RECORDS_WITH_LINES: &str = "\
0000  54 49 44 45 57 49 52 45 01 00 00 00 04 03 02 01
0010  80 00 00 00 80 00 00 00 02 00 01 00 00 00 00 00
0020  c0 02 00 00 00 00 00 00 40 00 00 00 00 00 00 00
0030  01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00
0040  f8 f7 f6 f5 f4 f3 f2 f1 80 00 00 00 00 00 00 00
0050  80 02 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0080  68 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0100  28 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0180  00 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
0200  00 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
0280  14 00 00 00 01 00 00 00 78 78 78 78 78 78 78 78
0290  78 78 78 78 78 78 78 78 78 78 78 78 73 65 63 6f
02a0  00 00 00 00 01 00 00 00 10 00 00 00 02 00 00 00
";

/// What stands at a line offset stands at the page offset; the header says which, and how much there is.
fn with_pages(text: &str, total: &str) -> String {
    text.lines()
        .map(|line| {
            let (offset, row) = line.split_once("  ").unwrap();
            let offset = usize::from_str_radix(offset, 16).unwrap();
            let (moved, row) = match offset {
                0x20 => (0x20, format!("{total}{}", row.get(5..).unwrap())),
                0x40 => (0x40, row.replace("f2 f1 80 00", "f2 f1 00 10")),
                0x50 => (0x50, row.replace("80 02 00", "00 30 00")),
                0x80 => (PAGE.tail, row.to_owned()),
                0x100 => (PAGE.head, row.to_owned()),
                0x180 => (PAGE.producer, row.to_owned()),
                0x200 => (PAGE.consumer, row.to_owned()),
                data if data >= 0x280 => (data - 0x280 + PAGE.data, row.to_owned()),
                same => (same, row.to_owned()),
            };
            (moved, row)
        })
        .collect::<std::collections::BTreeMap<_, _>>()
        .into_iter()
        .fold(String::new(), |mut text, (offset, row)| {
            writeln!(text, "{offset:04x}  {row}").unwrap();
            text
        })
}

#[test]
fn slots_byte_by_byte() {
    assert_eq!(dump(&slots(RoleStride::Line)), SLOTS_WITH_LINES, "{BUMP}");
    assert_eq!(dump(&slots(RoleStride::Page)), with_pages(SLOTS_WITH_LINES, "20 30"), "{BUMP}");
}

#[test]
fn records_byte_by_byte() {
    assert_eq!(dump(&records(RoleStride::Line)), RECORDS_WITH_LINES, "{BUMP}");
    assert_eq!(dump(&records(RoleStride::Page)), with_pages(RECORDS_WITH_LINES, "40 30"), "{BUMP}");
}

/// A ring that was made for leases says so in one word, and is as any other beside that.
#[test]
fn the_kind_of_leases_byte_by_byte() {
    assert_eq!(KERNEL_LEASES, 1, "{BUMP}");
    for (stride, offsets) in STRIDES {
        let plain = options(stride);
        let leased = plain.liveness::<SegmentLeases>();
        let len = fixed::Ring::<u64>::bytes(4, &plain).unwrap();
        assert_eq!(fixed::Ring::<u64>::bytes(4, &leased), Ok(len), "{BUMP}");
        let created = |options| {
            let memory = Memory::new(len);
            fixed::Ring::<u64, _>::create(memory.region(), 4, options).unwrap();
            memory
        };
        let (with, without) = (created(&leased), created(&plain));
        let liveness = if matches!(stride, RoleStride::Line) { offsets.producer + 16 } else { 128 };
        assert_eq!(without.word(liveness), 0, "{BUMP}");
        without.set_bytes(liveness, &[1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(dump(&with), dump(&without), "{BUMP}");
    }
}
