//! Headers that no creator of this version writes: each field wrong, each bit flipped, each length too short.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use proptest::prelude::*;
use tidewire_shm::{
    Field, HEADER_BYTES, Header, Incompatible, LINE_BYTES, Line, Origin, Region, RoleStride, Untrusted,
};

const LINES: usize = 8;
const BYTES: usize = LINES * LINE_BYTES;

/// Bytes that the test writes as a peer would.
#[derive(Clone)]
struct Memory {
    bytes: Arc<[Line<[AtomicU8; LINE_BYTES]>; LINES]>,
}

impl Memory {
    fn new() -> Self {
        let line = || Line::new(std::array::from_fn(|_| AtomicU8::new(0)));
        Self { bytes: Arc::new(std::array::from_fn(|_| line())) }
    }

    fn region(&self, len: usize, origin: Origin) -> Region<Untrusted> {
        assert!(len <= BYTES);
        let base = NonNull::from(&*self.bytes).cast::<u8>();
        let keep = self.bytes.clone();
        // SAFETY: aligned lines of initialised atomic bytes, alive with `keep`; this test is the other process.
        unsafe { Region::from_raw_parts(base, len, origin, keep) }.unwrap()
    }

    fn byte(&self, offset: usize) -> &AtomicU8 {
        &self.bytes[offset / LINE_BYTES][offset % LINE_BYTES]
    }

    fn get(&self, offset: usize, len: usize) -> Vec<u8> {
        (offset..offset + len).map(|i| self.byte(i).load(Ordering::Relaxed)).collect()
    }

    fn set(&self, offset: usize, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            self.byte(offset + i).store(*byte, Ordering::Relaxed);
        }
    }
}

const ORIGIN: Origin = Origin { nonce: 0x0123_4567_89AB_CDEF_0011_2233_4455_6677, boot_id: 0xB007 };

fn header() -> Header {
    Header {
        kind: 0x77,
        total_bytes: BYTES as u64,
        capacity: 48,
        element_bytes: 8,
        element_align: 8,
        type_fingerprint: 0xF00D,
        role_stride: RoleStride::Line,
        data_offset: 640,
        origin: ORIGIN,
    }
}

fn written() -> Memory {
    let memory = Memory::new();
    header().write(&memory.region(BYTES, ORIGIN)).unwrap();
    memory
}

fn read(memory: &Memory) -> Result<Header, Incompatible> {
    Header::read(&memory.region(BYTES, ORIGIN))
}

/// The fields of the header: where, how long, and which one a wrong value is reported as (none: the value is the
/// structure's to judge).
const FIELDS: [(usize, usize, Option<Field>); 18] = [
    (0, 8, Some(Field::Magic)),
    (8, 2, Some(Field::AbiMajor)),
    (10, 2, Some(Field::AbiMinor)),
    (12, 4, Some(Field::Endianness)),
    (16, 4, Some(Field::HeaderBytes)),
    (20, 4, Some(Field::LineBytes)),
    (24, 4, None),
    (28, 4, Some(Field::Flags)),
    (32, 8, Some(Field::TotalBytes)),
    (40, 8, None),
    (48, 8, None),
    (56, 8, None),
    (64, 8, None),
    (72, 8, Some(Field::RoleStride)),
    (80, 8, None),
    (88, 8, Some(Field::BootId)),
    (96, 16, None),
    (112, 16, Some(Field::Reserved)),
];

fn number(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    let n = bytes.len().min(8);
    word[..n].copy_from_slice(&bytes[..n]);
    u64::from_le_bytes(word)
}

/// What a header with these bytes in one field must give.
fn judge(memory: &Memory, offset: usize, len: usize, field: Option<Field>) {
    let found = memory.get(offset, len);
    let result = read(memory);
    let Some(field) = field else {
        let header = result.unwrap();
        let seen = match offset {
            24 => u64::from(header.kind),
            40 => header.capacity,
            48 => header.element_bytes,
            56 => header.element_align,
            64 => header.type_fingerprint,
            80 => header.data_offset,
            _ => {
                assert_eq!(header.origin.nonce.to_le_bytes().as_slice(), found);
                return;
            }
        };
        assert_eq!(seen, number(&found), "offset {offset}");
        return;
    };
    let value = number(&found);
    let allowed = match field {
        // Smaller than the region is allowed: the structure compares it with what it needs.
        Field::TotalBytes => value <= BYTES as u64,
        Field::RoleStride => [128, 4096].contains(&value),
        _ => false,
    };
    if allowed {
        assert!(result.is_ok(), "{field} {value}: {result:?}");
        return;
    }
    let error = result.expect_err("accepted");
    assert_eq!(error.field, field, "{error}");
    if field != Field::Reserved {
        assert_eq!(error.found, value, "{error}");
    }
    assert_ne!(error.expected, error.found, "{error}");
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("incompatible {field}: expected ")) && text.contains(", found "),
        "{text}"
    );
}

#[test]
fn fields_cover_the_header() {
    let mut next = 0;
    for (offset, len, _) in FIELDS {
        assert_eq!(offset, next);
        next += len;
    }
    assert_eq!(next, HEADER_BYTES);
    assert_eq!(read(&written()), Ok(header()));
}

#[test]
fn every_flipped_bit_is_reported_as_its_field() {
    let memory = written();
    for (offset, len, field) in FIELDS {
        let right = memory.get(offset, len);
        for bit in 0..len * 8 {
            let mut wrong = right.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            memory.set(offset, &wrong);
            judge(&memory, offset, len, field);
            memory.set(offset, &right);
        }
    }
    assert_eq!(read(&memory), Ok(header()));
}

#[test]
fn every_wrong_value_is_reported_as_its_field() {
    let memory = written();
    for (offset, len, field) in FIELDS {
        let right = memory.get(offset, len);
        let right_number = number(&right);
        let near =
            [right_number.wrapping_add(1), right_number.wrapping_sub(1), right_number << 1, !right_number];
        let far = [0, 1, 64, 129, 4095, 4097, BYTES as u64 + 1, 1 << 31, 1 << 63, u64::MAX];
        for value in near.into_iter().chain(far) {
            let mut wrong = vec![0; len];
            let n = len.min(8);
            wrong[..n].copy_from_slice(&value.to_le_bytes()[..n]);
            if wrong == right || (field == Some(Field::Reserved) && wrong.iter().all(|b| *b == 0)) {
                continue;
            }
            memory.set(offset, &wrong);
            judge(&memory, offset, len, field);
            memory.set(offset, &right);
        }
    }
    assert_eq!(read(&memory), Ok(header()));
}

/// Each reserved word counts alone, and what is found is not zero.
#[test]
fn reserved_bytes_are_all_checked() {
    for offset in 112..128 {
        let memory = written();
        memory.set(offset, &[1]);
        let error = read(&memory).unwrap_err();
        assert_eq!((error.field, error.expected), (Field::Reserved, 0));
        assert_ne!(error.found, 0);
    }
}

/// A minor version below ours would be fine; ours is zero, so only the newer ones can be tested.
#[test]
fn a_newer_minor_version_is_refused_and_says_so() {
    for minor in [1_u16, 2, 255, u16::MAX] {
        let memory = written();
        memory.set(10, &minor.to_le_bytes());
        let expected = u64::from(tidewire_shm::ABI_MINOR);
        assert_eq!(read(&memory), Err(Incompatible::new(Field::AbiMinor, expected, u64::from(minor))));
    }
}

/// "All numbers are in the byte order of the machine that wrote them; the mark tells."
#[test]
fn a_header_of_the_other_byte_order_is_reported_as_such() {
    let memory = written();
    for (offset, len, _) in FIELDS {
        for word in (offset..offset + len).step_by(len.min(8)) {
            let mut bytes = memory.get(word, len.min(8));
            bytes.reverse();
            memory.set(word, &bytes);
        }
    }
    let error = read(&memory).unwrap_err();
    assert_eq!(
        (error.field, error.expected, error.found),
        (Field::Endianness, 0x0102_0304, 0x0403_0201),
        "{error}"
    );
}

#[test]
fn regions_that_are_too_short_are_refused() {
    let memory = written();
    for len in [1, 7, 8, 64, HEADER_BYTES - 1] {
        let error = Header::read(&memory.region(len, ORIGIN)).unwrap_err();
        assert_eq!(error, Incompatible::new(Field::TotalBytes, HEADER_BYTES as u64, len as u64));
    }
    for len in [HEADER_BYTES, HEADER_BYTES + 1, BYTES - 1] {
        let error = Header::read(&memory.region(len, ORIGIN)).unwrap_err();
        assert_eq!(error, Incompatible::new(Field::TotalBytes, len as u64, BYTES as u64));
    }
}

#[test]
fn a_header_does_not_go_into_a_region_that_is_too_short() {
    let memory = Memory::new();
    for (total, len) in [(BYTES, BYTES - 1), (64, 64), (0, 127), (usize::MAX, BYTES)] {
        let header = Header { total_bytes: total as u64, ..header() };
        let error = header.write(&memory.region(len, ORIGIN)).unwrap_err();
        assert_eq!(error, Incompatible::new(Field::TotalBytes, total as u64, len as u64));
    }
    assert!(memory.get(0, BYTES).iter().all(|b| *b == 0), "a refused header was written");
}

/// A file that survived a reboot is not a live segment; a nonce alone is nobody's business.
#[test]
fn the_boot_must_be_ours_and_the_nonce_is_handed_on() {
    let memory = written();
    let other = Origin { boot_id: 1, ..ORIGIN };
    let error = Header::read(&memory.region(BYTES, other)).unwrap_err();
    assert_eq!(error, Incompatible::new(Field::BootId, 1, ORIGIN.boot_id));
    let other = Origin { nonce: 1, ..ORIGIN };
    assert_eq!(Header::read(&memory.region(BYTES, other)), Ok(header()));
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn any_header_goes_in_and_comes_out(
        kind: u32,
        numbers: [u64; 5],
        total in 0..=BYTES as u64,
        page: bool,
        nonce: u128,
        boot_id: u64,
    ) {
        let [capacity, element_bytes, element_align, type_fingerprint, data_offset] = numbers;
        let role_stride = if page { RoleStride::Page } else { RoleStride::Line };
        let origin = Origin { nonce, boot_id };
        let header = Header {
            kind, total_bytes: total, capacity, element_bytes, element_align, type_fingerprint, role_stride,
            data_offset, origin,
        };
        let region = Memory::new().region(BYTES, origin);
        header.write(&region).unwrap();
        prop_assert_eq!(Header::read(&region), Ok(header));
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes: [u8; HEADER_BYTES / 4], at in 0..=96_usize, magic: bool) {
        let memory = written();
        memory.set(at, &bytes);
        if magic {
            memory.set(0, b"TIDEWIRE");
        }
        if let Ok(header) = read(&memory) {
            prop_assert!(header.total_bytes <= BYTES as u64);
        }
    }
}
