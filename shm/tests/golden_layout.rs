//! The header's bytes, written down: other versions and other languages read them.
//!
//! If a test here fails, programs that are already out there would misread the memory. Either the change was an
//! accident, or it needs a new `ABI_MAJOR` (an older program would misread) or `ABI_MINOR` (it would not), and the
//! numbers below change with it.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

use std::fmt::Write;
use std::mem::offset_of;

use tidewire_shm::sync::{AtomicU32, AtomicU64};
use tidewire_shm::{
    ABI_MAJOR, ABI_MINOR, CACHE_LINE_BYTES, HEADER_BYTES, Header, LINE_BYTES, Line, MAGIC, Origin, Region,
    RoleStride, Trusted,
};

const BUMP: &str = "the layout changed: bump ABI (see the top of this file)";

#[test]
fn constants() {
    assert_eq!((ABI_MAJOR, ABI_MINOR), (1, 0), "{BUMP}");
    assert_eq!(MAGIC.to_le_bytes(), *b"TIDEWIRE", "{BUMP}");
    assert_eq!((HEADER_BYTES, LINE_BYTES, CACHE_LINE_BYTES), (128, 128, 64), "{BUMP}");
    assert_eq!((RoleStride::Line.bytes(), RoleStride::Page.bytes()), (128, 4096), "{BUMP}");
    assert_eq!(RoleStride::default(), RoleStride::Line);
    assert_eq!((size_of::<AtomicU64>(), align_of::<AtomicU64>()), (8, 8), "{BUMP}");
    assert_eq!((size_of::<AtomicU32>(), align_of::<AtomicU32>()), (4, 4), "{BUMP}");
}

#[test]
fn lines() {
    #[repr(C)]
    struct Two {
        first: Line<u8>,
        second: Line<[u8; 129]>,
        third: Line<u64>,
    }
    assert_eq!((size_of::<Line<u8>>(), align_of::<Line<u8>>()), (128, 128), "{BUMP}");
    let offsets = [offset_of!(Two, first), offset_of!(Two, second), offset_of!(Two, third)];
    assert_eq!((offsets, size_of::<Two>()), ([0, 128, 384], 512), "{BUMP}");
}

/// Eight words to a row, byte by byte as they lie in memory.
fn dump(region: &Region<Trusted>, len: usize) -> String {
    let mut text = String::new();
    let mut bytes = vec![0; len];
    // SAFETY: nothing but this test uses the region, and no control word is in use any more.
    let payload = unsafe { region.payload(0, len) };
    // SAFETY: in bounds; private memory of the same length.
    unsafe { payload.read_bytes(0, bytes.as_mut_ptr(), len) };
    for (i, row) in bytes.chunks(16).enumerate() {
        write!(text, "{:04x} ", i * 16).unwrap();
        for byte in row {
            write!(text, " {byte:02x}").unwrap();
        }
        text.push('\n');
    }
    text
}

fn header(role_stride: RoleStride) -> Header {
    Header {
        kind: 0xA1A2_A3A4,
        total_bytes: 0x0000_0000_0000_0200,
        capacity: 0xC1C2_C3C4_C5C6_C7C8,
        element_bytes: 0xD1D2_D3D4_D5D6_D7D8,
        element_align: 0xE1E2_E3E4_E5E6_E7E8,
        type_fingerprint: 0xF1F2_F3F4_F5F6_F7F8,
        role_stride,
        data_offset: 0x0102_0304_0506_0708,
        origin: Origin { nonce: 0x1112_1314_1516_1718_191A_1B1C_1D1E_1F20, boot_id: 0x2122_2324_2526_2728 },
    }
}

#[cfg(target_endian = "little")]
#[test]
fn the_header_byte_by_byte() {
    // One row: magic | major minor endianness; header size, line size, kind, flags; total, capacity; element size,
    // alignment; fingerprint, stride; data offset, boot; nonce; reserved.
    const WITH_LINES: &str = "\
0000  54 49 44 45 57 49 52 45 01 00 00 00 04 03 02 01
0010  80 00 00 00 80 00 00 00 a4 a3 a2 a1 00 00 00 00
0020  00 02 00 00 00 00 00 00 c8 c7 c6 c5 c4 c3 c2 c1
0030  d8 d7 d6 d5 d4 d3 d2 d1 e8 e7 e6 e5 e4 e3 e2 e1
0040  f8 f7 f6 f5 f4 f3 f2 f1 80 00 00 00 00 00 00 00
0050  08 07 06 05 04 03 02 01 28 27 26 25 24 23 22 21
0060  20 1f 1e 1d 1c 1b 1a 19 18 17 16 15 14 13 12 11
0070  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
";
    let region = Region::heap(512).unwrap();
    header(RoleStride::Line).write(&region).unwrap();
    assert_eq!(dump(&region, HEADER_BYTES), WITH_LINES, "{BUMP}");
    let with_pages = WITH_LINES.replace("f2 f1 80 00", "f2 f1 00 10");
    header(RoleStride::Page).write(&region).unwrap();
    assert_eq!(dump(&region, HEADER_BYTES), with_pages, "{BUMP}");
}

#[cfg(target_endian = "little")]
#[test]
fn a_header_writes_its_line_and_nothing_else() {
    let region = Region::heap(512).unwrap();
    // SAFETY: nothing but this test uses the region.
    let payload = unsafe { region.payload(0, 512) };
    // SAFETY: in bounds; private memory of the same length.
    unsafe { payload.write_bytes(0, [0xEE; 512].as_ptr(), 512) };
    let before = dump(&region, 512);
    header(RoleStride::Line).write(&region).unwrap();
    let after = dump(&region, 512);
    let rest = |text: &str| text.lines().skip(8).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(rest(&before), rest(&after));
    assert!(!after.lines().take(8).any(|line| line.contains("ee ee")), "a part of the header was left out");
}
