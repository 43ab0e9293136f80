//! Small queues byte by byte, after a fixed sequence of operations: other versions and other languages read them.
//!
//! If a test here fails, programs that are already out there would misread the memory. Either the change was an
//! accident, or it needs a new `ABI_MAJOR` in `tidewire-shm` (an older program would misread) or `ABI_MINOR` (it
//! would not), and the texts below change with it.
#![cfg(all(feature = "std", not(loom), target_endian = "little"))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

#[path = "../../ring/tests/hostile_memory/mod.rs"]
mod hostile_memory;
mod lanes;

use std::fmt::Write;
use std::mem::ManuallyDrop;

use hostile_memory::Memory;
use lanes::{Kind, Leases, Records, Slots};
use tidewire_mpsc::{Delivery, KIND_LANES_BYTES, KIND_LANES_FIXED, MAX_LANES, Options, Tuning};
use tidewire_shm::{RoleStride, Unleased};

const BUMP: &str = "the layout changed: bump ABI (see the top of this file)";

/// The rows that are not zero; the ids of this process are shown as 77.
fn dump(memory: &Memory) -> String {
    let mut text = String::new();
    let id = u64::from(std::process::id());
    for (i, row) in memory.bytes().chunks(16).enumerate() {
        if row.iter().any(|byte| *byte != 0) {
            write!(text, "{:05x} ", i * 16).unwrap();
            for word in row.chunks(8) {
                let word = u64::from_le_bytes(word.try_into().unwrap());
                let shown = if word & u64::from(u32::MAX) == id { word - id + 0x77 } else { word };
                for byte in shown.to_le_bytes() {
                    write!(text, " {byte:02x}").unwrap();
                }
            }
            text.push('\n');
        }
    }
    text
}

/// Two lanes of three; the second one freed once and full of its second owner's messages.
fn slots(stride: RoleStride) -> Memory {
    let options = Options::new()
        .lanes(3)
        .role_stride(stride)
        .delivery(Delivery::AtMostOnce)
        .type_fingerprint(0)
        .liveness::<Leases>();
    let memory = Memory::new(Slots::bytes(2, &options).unwrap());
    let queue = Slots::create(memory.region(), 2, &options);
    let leases = Leases::default();
    let mut consumer = Slots::consumer(&queue, &leases).unwrap();
    let first = Slots::producer(&queue, &leases).unwrap();
    let mut second = Slots::producer(&queue, &leases).unwrap();
    assert!(Slots::push(&mut second, 0xA0));
    assert_eq!(Slots::pop(&mut consumer), Ok(0xA0));
    drop(second);
    let mut again = Slots::producer(&queue, &leases).unwrap();
    assert!(Slots::push(&mut again, 0xA1) && Slots::push(&mut again, 0xA2));
    let _killed = ManuallyDrop::new((first, again, consumer));
    memory
}

fn records() -> Memory {
    let options = Options::new().lanes(1);
    let memory = Memory::new(Records::bytes(64, &options).unwrap());
    let queue = Records::create(memory.region(), 64, &options);
    let mut producer = Records::producer(&queue, &Unleased).unwrap();
    let mut consumer = Records::consumer(&queue, &Unleased).unwrap();
    Records::tune(&mut consumer, Tuning::default().release_every(1));
    assert!(Records::push(&mut producer, 17));
    assert_eq!(Records::pop(&mut consumer), Ok(17));
    drop(producer);
    memory
}

#[test]
fn constants() {
    assert_eq!((KIND_LANES_FIXED, KIND_LANES_BYTES, MAX_LANES), (0x0002_0001, 0x0002_0002, 256), "{BUMP}");
    for (stride, small, large) in [
        (RoleStride::Line, 640 + 128 + 256 + 128, 256 * 128 + 256 * (8192 + 256) + 640),
        (RoleStride::Page, 28672, 0xB000 + 256 * 16384),
    ] {
        let options = Options::new().role_stride(stride);
        assert_eq!(Slots::bytes(16, &options.lanes(1)), Ok(small), "{BUMP}");
        assert_eq!(Slots::bytes(1024, &options.lanes(256)), Ok(large), "{BUMP}");
    }
}

const SLOTS_WITH_LINES: &str = "\
00000  54 49 44 45 57 49 52 45 01 00 00 00 04 03 02 01
00010  80 00 00 00 80 00 00 00 01 00 02 00 00 00 00 00
00020  80 08 00 00 00 00 00 00 02 00 00 00 00 00 00 00
00030  08 00 00 00 00 00 00 00 08 00 00 00 00 00 00 00
00040  00 00 00 00 00 00 00 00 80 00 00 00 00 00 00 00
00050  00 04 00 00 00 00 00 00 00 00 00 00 00 00 00 00
00080  03 00 00 00 02 00 00 00 00 00 00 80 01 00 00 00
00090  80 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00
00100  77 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
00200  03 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
00280  77 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
00300  77 00 00 00 02 00 00 00 00 00 00 00 00 00 00 00
00580  03 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
00600  01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
00680  a2 00 00 00 00 00 00 00 a1 00 00 00 00 00 00 00
";
const SLOTS_WITH_PAGES: &str = "\
00000  54 49 44 45 57 49 52 45 01 00 00 00 04 03 02 01
00010  80 00 00 00 80 00 00 00 01 00 02 00 00 00 00 00
00020  00 d0 00 00 00 00 00 00 02 00 00 00 00 00 00 00
00030  08 00 00 00 00 00 00 00 08 00 00 00 00 00 00 00
00040  00 00 00 00 00 00 00 00 00 10 00 00 00 00 00 00
00050  00 40 00 00 00 00 00 00 00 00 00 00 00 00 00 00
00080  03 00 00 00 02 00 00 00 00 00 00 80 01 00 00 00
00090  00 30 00 00 00 00 00 00 00 00 00 00 00 00 00 00
01000  77 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
02000  03 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
03000  77 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
03080  77 00 00 00 02 00 00 00 00 00 00 00 00 00 00 00
07100  03 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
08180  01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
09000  a2 00 00 00 00 00 00 00 a1 00 00 00 00 00 00 00
";
const RECORDS: &str = "\
00000  54 49 44 45 57 49 52 45 01 00 00 00 04 03 02 01
00010  80 00 00 00 80 00 00 00 02 00 02 00 00 00 00 00
00020  80 04 00 00 00 00 00 00 40 00 00 00 00 00 00 00
00030  01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00
00040  00 00 00 00 00 00 00 00 80 00 00 00 00 00 00 00
00050  00 03 00 00 00 00 00 00 00 00 00 00 00 00 00 00
00080  01 00 00 00 01 00 00 00 00 00 00 00 01 00 00 00
00090  80 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00
00100  00 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
00200  01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
00280  00 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
00300  10 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
00380  10 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
00400  08 00 00 00 01 00 00 00 11 00 00 00 00 00 00 00
";

#[test]
fn slots_lie_as_they_always_did() {
    let lines = dump(&slots(RoleStride::Line));
    assert_eq!(lines, SLOTS_WITH_LINES, "{BUMP}\n{lines}");
    let pages = dump(&slots(RoleStride::Page));
    assert_eq!(pages, SLOTS_WITH_PAGES, "{BUMP}\n{pages}");
}

#[test]
fn records_lie_as_they_always_did() {
    let found = dump(&records());
    assert_eq!(found, RECORDS, "{BUMP}\n{found}");
}
