//! Small structures byte by byte, after a fixed sequence of operations: other versions and other languages read them.
//!
//! If a test here fails, programs that are already out there would misread the memory. Either the change was an
//! accident, or it needs a new `ABI_MAJOR` in `tidewire-shm` (an older program would misread) or `ABI_MINOR` (it
//! would not), and the texts below change with it.
#![cfg(all(feature = "std", not(loom), target_endian = "little"))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

mod common;

use std::fmt::Write;

use common::Memory;
use tidewire_seqlock::table::Table;
use tidewire_seqlock::{
    Cell, KIND_BYTES, KIND_CELL, KIND_CLASSIC, KIND_SHARED, KIND_TABLE, Options, Wake, bytes, classic, shared,
};
use tidewire_shm::bell::BellMode;
use tidewire_shm::{ABI_MAJOR, ABI_MINOR, RoleStride, Unleased, Untrusted};

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

const OPTIONS: Options = Options::new().slots(4).type_fingerprint(0xF1F2_F3F4_F5F6_F7F8);

/// Six versions of a value, by an owner that is gone.
fn cell<T: bytemuck::Pod>(options: &Options, value: impl Fn(u64) -> T) -> String {
    let memory = Memory::new(Cell::<T>::bytes(options).unwrap());
    let cell = Cell::create(memory.region(), &value(0), options).unwrap();
    let mut writer = cell.writer(&Unleased).unwrap();
    for version in 1..=5 {
        writer.write(&value(version));
    }
    drop(writer);
    dump(&memory)
}

#[test]
fn constants() {
    assert_eq!((ABI_MAJOR, ABI_MINOR), (1, 0), "{BUMP}");
    let kinds = [KIND_CELL, KIND_BYTES, KIND_TABLE, KIND_CLASSIC, KIND_SHARED];
    assert_eq!(kinds, [0x0003_0001, 0x0003_0002, 0x0003_0003, 0x0003_0004, 0x0003_0005], "{BUMP}");
    let line = Options::new();
    let page = line.role_stride(RoleStride::Page);
    assert_eq!(Cell::<u64>::bytes(&line), Ok(384 + 256), "{BUMP}");
    assert_eq!(Cell::<u64>::bytes(&page), Ok(8192 + 256), "{BUMP}");
    assert_eq!(Cell::<[u64; 7]>::bytes(&line), Ok(384 + 256 + 8 * 64), "{BUMP}");
    assert_eq!(Cell::<[u64; 8]>::bytes(&line), Ok(384 + 256 + 8 * 128), "{BUMP}");
    assert_eq!(Table::<u64>::bytes(10, &line), Ok(384 + 10 * 256), "{BUMP}");
    assert_eq!(shared::Cell::<u64>::bytes(&line), Ok(384 + 3 * 128), "{BUMP}");
    assert_eq!(classic::Cell::<[u64; 7]>::bytes(&line), Ok(384 + 256), "{BUMP}");
    assert_eq!(classic::Cell::<[u64; 9]>::bytes(&line), Ok(384 + 128 + 256), "{BUMP}");
    assert_eq!(bytes::Cell::<Untrusted>::bytes(48, &line), Ok(384 + 256 + 8 * 64), "{BUMP}");
}

#[test]
fn a_cell_of_words() {
    let found = cell(&OPTIONS.role_stride(RoleStride::Page), |version| 0x1111_2222_3333_4440 + version);
    assert_eq!(found, WORDS, "{BUMP}\n{found}");
}

#[test]
fn an_inline_cell() {
    let found = cell(&OPTIONS, |version| [0xA0 + version, 0xB0 + version]);
    assert_eq!(found, INLINE, "{BUMP}\n{found}");
}

#[test]
fn a_rotating_cell() {
    let found = cell(&OPTIONS, |version| [0xA0 + version; 8]);
    assert_eq!(found, ROTATING, "{BUMP}\n{found}");
}

/// What is chosen for readers that wait is one number in the shape, and nothing else.
#[test]
fn cells_whose_writers_wake_readers() {
    let fence = Wake::Waiters(BellMode::Fence);
    for (wake, code) in [(Wake::Never, "00"), (Wake::Always, "01"), (fence, "02")] {
        let found = cell(&OPTIONS.wake(wake), |version| [0xA0 + version, 0xB0 + version]);
        let shape = "0090  01 00 00 00 00 00 00 00";
        let expected = INLINE.replace(shape, &format!("0090  01 00 00 00 {code} 00 00 00"));
        assert_eq!(found, expected, "{BUMP}\n{found}");
    }
}

/// Five values of 20 to 60 bytes, which leave older bytes behind them.
#[test]
fn a_cell_of_bytes() {
    let memory = Memory::new(bytes::Cell::<Untrusted>::bytes(60, &OPTIONS).unwrap());
    let cell = bytes::Cell::create(memory.region(), 60, b"initial", &OPTIONS).unwrap();
    let mut writer = cell.writer(&Unleased).unwrap();
    for (version, len) in (1..).zip([60, 3, 0, 13]) {
        assert_eq!(writer.write(&vec![0xC0 + u8::try_from(version).unwrap(); len]), Ok(version));
    }
    drop(writer);
    let found = dump(&memory);
    assert_eq!(found, BYTES, "{BUMP}\n{found}");
}

#[test]
fn a_table() {
    let memory = Memory::new(Table::<u32>::bytes(2, &OPTIONS).unwrap());
    let table = Table::create(memory.region(), 2, |index| 0xE0 + index, &OPTIONS).unwrap();
    table.writer(1, &Unleased).unwrap().write(&0xEE);
    let found = dump(&memory);
    assert_eq!(found, TABLE, "{BUMP}\n{found}");
}

#[test]
fn a_cell_with_many_writers() {
    let options = OPTIONS.writers(3);
    let memory = Memory::new(shared::Cell::<u64>::bytes(&options).unwrap());
    let cell = shared::Cell::create(memory.region(), &1, &options).unwrap();
    let mut writers: Vec<_> = (0..3).map(|_| cell.writer(&Unleased).unwrap()).collect();
    for (writer, value) in writers.iter_mut().zip(0xD0..) {
        writer.write(&Unleased, &value).unwrap();
    }
    drop(writers);
    let found = dump(&memory);
    assert_eq!(found, SHARED, "{BUMP}\n{found}");
}

#[test]
fn a_classic_cell() {
    let memory = Memory::new(classic::Cell::<[u64; 9]>::bytes(&OPTIONS).unwrap());
    let cell = classic::Cell::create(memory.region(), &[1_u64; 9], &OPTIONS).unwrap();
    cell.writer(&Unleased).unwrap().write(&[0xF1; 9]);
    let found = dump(&memory);
    assert_eq!(found, CLASSIC, "{BUMP}\n{found}");
}

const WORDS: &str = "\
0000  54 49 44 45 57 49 52 45 01 00 00 00 04 03 02 01
0010  80 00 00 00 80 00 00 00 01 00 03 00 00 00 00 00
0020  00 21 00 00 00 00 00 00 01 00 00 00 00 00 00 00
0030  08 00 00 00 00 00 00 00 08 00 00 00 00 00 00 00
0040  f8 f7 f6 f5 f4 f3 f2 f1 00 10 00 00 00 00 00 00
0050  00 20 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0080  01 00 00 00 04 00 00 00 00 00 00 00 01 00 00 00
0090  01 00 00 00 00 00 00 00 00 01 00 00 00 00 00 00
2000  00 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
2080  05 00 00 00 00 00 00 00 44 44 33 33 22 22 11 11
2090  45 44 33 33 22 22 11 11 42 44 33 33 22 22 11 11
20a0  43 44 33 33 22 22 11 11 00 00 00 00 00 00 00 00
";

const INLINE: &str = "\
0000  54 49 44 45 57 49 52 45 01 00 00 00 04 03 02 01
0010  80 00 00 00 80 00 00 00 01 00 03 00 00 00 00 00
0020  80 03 00 00 00 00 00 00 01 00 00 00 00 00 00 00
0030  10 00 00 00 00 00 00 00 08 00 00 00 00 00 00 00
0040  f8 f7 f6 f5 f4 f3 f2 f1 80 00 00 00 00 00 00 00
0050  80 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0080  02 00 00 00 04 00 00 00 00 00 00 00 01 00 00 00
0090  01 00 00 00 00 00 00 00 00 02 00 00 00 00 00 00
0180  00 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
0200  0a 00 00 00 00 00 00 00 a5 00 00 00 00 00 00 00
0210  b5 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0280  a4 00 00 00 00 00 00 00 b4 00 00 00 00 00 00 00
0290  04 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
02c0  a5 00 00 00 00 00 00 00 b5 00 00 00 00 00 00 00
02d0  05 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0300  a2 00 00 00 00 00 00 00 b2 00 00 00 00 00 00 00
0310  02 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0340  a3 00 00 00 00 00 00 00 b3 00 00 00 00 00 00 00
0350  03 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
";

const ROTATING: &str = "\
0000  54 49 44 45 57 49 52 45 01 00 00 00 04 03 02 01
0010  80 00 00 00 80 00 00 00 01 00 03 00 00 00 00 00
0020  80 04 00 00 00 00 00 00 01 00 00 00 00 00 00 00
0030  40 00 00 00 00 00 00 00 08 00 00 00 00 00 00 00
0040  f8 f7 f6 f5 f4 f3 f2 f1 80 00 00 00 00 00 00 00
0050  80 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0080  03 00 00 00 04 00 00 00 00 00 00 00 01 00 00 00
0090  01 00 00 00 00 00 00 00 00 03 00 00 00 00 00 00
0180  00 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
0200  05 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0280  a4 00 00 00 00 00 00 00 a4 00 00 00 00 00 00 00
0290  a4 00 00 00 00 00 00 00 a4 00 00 00 00 00 00 00
02a0  a4 00 00 00 00 00 00 00 a4 00 00 00 00 00 00 00
02b0  a4 00 00 00 00 00 00 00 a4 00 00 00 00 00 00 00
02c0  04 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0300  a5 00 00 00 00 00 00 00 a5 00 00 00 00 00 00 00
0310  a5 00 00 00 00 00 00 00 a5 00 00 00 00 00 00 00
0320  a5 00 00 00 00 00 00 00 a5 00 00 00 00 00 00 00
0330  a5 00 00 00 00 00 00 00 a5 00 00 00 00 00 00 00
0340  05 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0380  a2 00 00 00 00 00 00 00 a2 00 00 00 00 00 00 00
0390  a2 00 00 00 00 00 00 00 a2 00 00 00 00 00 00 00
03a0  a2 00 00 00 00 00 00 00 a2 00 00 00 00 00 00 00
03b0  a2 00 00 00 00 00 00 00 a2 00 00 00 00 00 00 00
03c0  02 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0400  a3 00 00 00 00 00 00 00 a3 00 00 00 00 00 00 00
0410  a3 00 00 00 00 00 00 00 a3 00 00 00 00 00 00 00
0420  a3 00 00 00 00 00 00 00 a3 00 00 00 00 00 00 00
0430  a3 00 00 00 00 00 00 00 a3 00 00 00 00 00 00 00
0440  03 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
";

const BYTES: &str = "\
0000  54 49 44 45 57 49 52 45 01 00 00 00 04 03 02 01
0010  80 00 00 00 80 00 00 00 02 00 03 00 00 00 00 00
0020  80 04 00 00 00 00 00 00 01 00 00 00 00 00 00 00
0030  3c 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00
0040  f8 f7 f6 f5 f4 f3 f2 f1 80 00 00 00 00 00 00 00
0050  80 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0080  03 00 00 00 04 00 00 00 00 00 00 00 01 00 00 00
0090  01 00 00 00 00 00 00 00 00 03 00 00 00 00 00 00
0180  00 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
0200  04 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0280  c4 c4 c4 c4 c4 c4 c4 c4 c4 c4 c4 c4 c4 00 00 00
02c0  0d 00 00 00 00 00 00 00 04 00 00 00 00 00 00 00
0300  c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1
0310  c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1
0320  c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1
0330  c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 c1 00 00 00 00
0340  3c 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00
0380  c2 c2 c2 00 00 00 00 00 00 00 00 00 00 00 00 00
03c0  03 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00
0440  00 00 00 00 00 00 00 00 03 00 00 00 00 00 00 00
";

const TABLE: &str = "\
0000  54 49 44 45 57 49 52 45 01 00 00 00 04 03 02 01
0010  80 00 00 00 80 00 00 00 03 00 03 00 00 00 00 00
0020  80 03 00 00 00 00 00 00 02 00 00 00 00 00 00 00
0030  04 00 00 00 00 00 00 00 04 00 00 00 00 00 00 00
0040  f8 f7 f6 f5 f4 f3 f2 f1 80 00 00 00 00 00 00 00
0050  80 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0080  01 00 00 00 04 00 00 00 00 00 00 00 01 00 00 00
0090  02 00 00 00 00 00 00 00 00 01 00 00 00 00 00 00
0200  00 00 00 00 00 00 00 00 e0 00 00 00 00 00 00 00
0280  00 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
0300  01 00 00 00 00 00 00 00 e1 00 00 00 00 00 00 00
0310  ee 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
";

const SHARED: &str = "\
0000  54 49 44 45 57 49 52 45 01 00 00 00 04 03 02 01
0010  80 00 00 00 80 00 00 00 05 00 03 00 00 00 00 00
0020  00 03 00 00 00 00 00 00 01 00 00 00 00 00 00 00
0030  04 00 00 00 00 00 00 00 04 00 00 00 00 00 00 00
0040  f8 f7 f6 f5 f4 f3 f2 f1 80 00 00 00 00 00 00 00
0050  80 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0080  01 00 00 00 04 00 00 00 00 00 00 00 03 00 00 00
0090  01 00 00 00 00 00 00 00 80 01 00 00 00 00 00 00
0180  00 00 00 00 03 00 00 00 00 00 00 00 00 00 00 00
0200  00 00 00 00 01 00 00 00 00 00 00 00 01 00 00 00
0210  00 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
0280  03 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00
0290  d0 00 00 00 00 00 00 00 d1 00 00 00 00 00 00 00
02a0  d2 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
";

const CLASSIC: &str = "\
0000  54 49 44 45 57 49 52 45 01 00 00 00 04 03 02 01
0010  80 00 00 00 80 00 00 00 04 00 03 00 00 00 00 00
0020  00 03 00 00 00 00 00 00 01 00 00 00 00 00 00 00
0030  48 00 00 00 00 00 00 00 08 00 00 00 00 00 00 00
0040  f8 f7 f6 f5 f4 f3 f2 f1 80 00 00 00 00 00 00 00
0050  80 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0080  04 00 00 00 01 00 00 00 00 00 00 00 01 00 00 00
0090  01 00 00 00 00 00 00 00 80 01 00 00 00 00 00 00
0180  00 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
0200  02 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
0240  f1 00 00 00 00 00 00 00 f1 00 00 00 00 00 00 00
0250  f1 00 00 00 00 00 00 00 f1 00 00 00 00 00 00 00
0260  f1 00 00 00 00 00 00 00 f1 00 00 00 00 00 00 00
0270  f1 00 00 00 00 00 00 00 f1 00 00 00 00 00 00 00
0280  f1 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
";
