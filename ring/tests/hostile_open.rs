//! Opening bytes that are not the ring that was asked for: each field wrong, each bit flipped, each length.
#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

mod hostile_memory;

use hostile_memory::{Memory, STRIDES, assert_same};
use proptest::prelude::*;
use tidewire_ring::{AttachError, KIND_BYTES, KIND_FIXED, Options, bytes, fixed};
use tidewire_shm::{Field, Incompatible, Origin, Region, RoleStride, Untrusted};

const CAPACITY: usize = 64;
const FINGERPRINT: u64 = 0xF00D;

/// The two kinds of ring behind one face.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Fixed,
    Bytes,
}

const KINDS: [Kind; 2] = [Kind::Fixed, Kind::Bytes];

impl Kind {
    fn create(self, options: &Options) -> Memory {
        match self {
            Self::Fixed => {
                let memory = Memory::new(fixed::Ring::<u64, Untrusted>::bytes(CAPACITY, options).unwrap());
                fixed::Ring::<u64, Untrusted>::create(memory.region(), CAPACITY, options).unwrap();
                memory
            }
            Self::Bytes => {
                let memory = Memory::new(bytes::Ring::<Untrusted>::bytes(CAPACITY, options).unwrap());
                bytes::Ring::create(memory.region(), CAPACITY, options).unwrap();
                memory
            }
        }
    }

    /// Opens the ring and, if it opens, moves a message through it.
    fn open(self, region: Region<Untrusted>) -> Result<usize, AttachError> {
        match self {
            Self::Fixed => {
                let ring = fixed::Ring::<u64, Untrusted>::open(region, FINGERPRINT)?;
                let capacity = ring.capacity();
                let (mut producer, mut consumer) = ring.split()?;
                producer.push(5).unwrap();
                assert_eq!(consumer.pop(), Ok(5));
                Ok(capacity)
            }
            Self::Bytes => {
                let ring = bytes::Ring::open(region, FINGERPRINT)?;
                let capacity = ring.capacity();
                let (mut producer, mut consumer) = ring.split()?;
                producer.push(&[5]).unwrap();
                assert_eq!(consumer.pop_into(&mut [0; 8]), Ok(1));
                Ok(capacity)
            }
        }
    }
}

fn incompatible(result: Result<usize, AttachError>) -> Incompatible {
    match result {
        Err(AttachError::Incompatible(error)) => error,
        other => panic!("expected an incompatible header, found {other:?}"),
    }
}

fn all() -> impl Iterator<Item = (Kind, RoleStride, Memory)> {
    KINDS.into_iter().flat_map(|kind| {
        STRIDES.into_iter().map(move |(stride, _)| {
            let options = Options::new().role_stride(stride).type_fingerprint(FINGERPRINT);
            (kind, stride, kind.create(&options))
        })
    })
}

#[test]
fn what_was_created_opens() {
    for (kind, _, memory) in all() {
        for _ in 0..3 {
            assert_eq!(kind.open(memory.region()), Ok(CAPACITY));
        }
        memory.assert_guards();
    }
}

/// Of the whole header only the nonce may differ: it names the creation, and nobody was asked for a certain one.
#[test]
fn every_flipped_bit_is_refused() {
    for (kind, _, memory) in all() {
        for offset in 0..128 {
            let right = memory.byte(offset);
            for bit in 0..8 {
                memory.set_byte(offset, right ^ 1 << bit);
                let before = memory.bytes();
                let result = kind.open(memory.region());
                if (96..112).contains(&offset) {
                    assert_eq!(result, Ok(CAPACITY));
                } else {
                    let error = incompatible(result);
                    assert_eq!(error.field, field_at(offset, error.field), "offset {offset}: {error}");
                    assert_same(&before, &memory.bytes());
                }
            }
            memory.set_byte(offset, right);
        }
        assert_eq!(kind.open(memory.region()), Ok(CAPACITY));
        memory.assert_guards();
    }
}

/// The field that a byte of the header belongs to. A capacity or a stride that is possible is only found wrong by
/// what follows from it.
fn field_at(offset: usize, reported: Field) -> Field {
    let follows = [Field::DataOffset, Field::TotalBytes].contains(&reported);
    match offset {
        0..8 => Field::Magic,
        8..10 => Field::AbiMajor,
        10..12 => Field::AbiMinor,
        12..16 => Field::Endianness,
        16..20 => Field::HeaderBytes,
        20..24 => Field::LineBytes,
        24..28 => Field::Kind,
        28..32 => Field::Flags,
        32..40 => Field::TotalBytes,
        40..48 if !follows => Field::Capacity,
        48..56 => Field::ElementBytes,
        56..64 => Field::ElementAlign,
        64..72 => Field::TypeFingerprint,
        72..80 if !follows => Field::RoleStride,
        40..48 | 72..80 => reported,
        80..88 => Field::DataOffset,
        88..96 => Field::BootId,
        _ => Field::Reserved,
    }
}

/// Sets one word of the header and says how the ring then fails to open.
fn with_word(memory: &Memory, kind: Kind, offset: usize, value: u64) -> Incompatible {
    let right = memory.word(offset);
    memory.set_word(offset, value);
    let error = incompatible(kind.open(memory.region()));
    memory.set_word(offset, right);
    error
}

#[test]
fn capacities_that_cannot_be_are_refused() {
    for (kind, _, memory) in all() {
        let (min, max) = if kind == Kind::Fixed { (1, 1 << 57) } else { (64, 1 << 32) };
        for capacity in [0, 3, 63, 65, 96, 2 * max, 1 << 63, u64::MAX, max + 64, max - 1] {
            let error = with_word(&memory, kind, 40, capacity);
            assert_eq!(error, Incompatible::new(Field::Capacity, min, capacity));
        }
        // Possible, but not in this many bytes.
        for capacity in [128, 1 << 20, max] {
            let error = with_word(&memory, kind, 40, capacity);
            assert_eq!((error.field, error.found), (Field::TotalBytes, memory.word(32)));
            assert!(error.expected > error.found);
        }
    }
}

#[test]
fn every_number_must_be_what_the_layout_gives() {
    for (kind, stride, memory) in all() {
        let (total, data, element) = (memory.word(32), memory.word(80), memory.word(48));
        for value in [0, 1, data - 128, data - 8, data + 8, data + 128, total, u64::MAX] {
            assert_eq!(
                with_word(&memory, kind, 80, value),
                Incompatible::new(Field::DataOffset, data, value)
            );
        }
        for value in [0, 128, total - 1] {
            assert_eq!(
                with_word(&memory, kind, 32, value),
                Incompatible::new(Field::TotalBytes, total, value)
            );
        }
        for value in [total + 1, u64::MAX] {
            assert_eq!(
                with_word(&memory, kind, 32, value),
                Incompatible::new(Field::TotalBytes, total, value)
            );
        }
        for value in [0, element + 1, element * 2, u64::MAX] {
            assert_eq!(
                with_word(&memory, kind, 48, value),
                Incompatible::new(Field::ElementBytes, element, value)
            );
            assert_eq!(
                with_word(&memory, kind, 56, value),
                Incompatible::new(Field::ElementAlign, element, value)
            );
        }
        let other = if stride == RoleStride::Line { 4096 } else { 128 };
        assert_eq!(with_word(&memory, kind, 72, other).field, Field::DataOffset);
        for value in [0, 64, 127, 8192, u64::MAX] {
            assert_eq!(with_word(&memory, kind, 72, value), Incompatible::new(Field::RoleStride, 128, value));
        }
        for value in [0, 1, u64::MAX] {
            let error = with_word(&memory, kind, 64, value);
            assert_eq!(error, Incompatible::new(Field::TypeFingerprint, FINGERPRINT, value));
        }
        memory.assert_guards();
    }
}

#[test]
fn a_ring_of_another_kind_or_element_is_refused() {
    let options = Options::new().type_fingerprint(FINGERPRINT);
    let slots = Kind::Fixed.create(&options);
    let records = Kind::Bytes.create(&options);
    let kinds = (u64::from(KIND_FIXED), u64::from(KIND_BYTES));
    let error = incompatible(Kind::Fixed.open(records.region()));
    assert_eq!(error, Incompatible::new(Field::Kind, kinds.0, kinds.1));
    let error = incompatible(Kind::Bytes.open(slots.region()));
    assert_eq!(error, Incompatible::new(Field::Kind, kinds.1, kinds.0));

    let open = |result: Result<(), AttachError>| incompatible(result.map(|()| 0));
    let error = open(fixed::Ring::<u32, Untrusted>::open(slots.region(), FINGERPRINT).map(drop));
    assert_eq!(error, Incompatible::new(Field::ElementBytes, 4, 8));
    let error = open(fixed::Ring::<[u32; 2], Untrusted>::open(slots.region(), FINGERPRINT).map(drop));
    assert_eq!(error, Incompatible::new(Field::ElementAlign, 4, 8));
    let error = open(fixed::Ring::<u64, Untrusted>::open(slots.region(), 0).map(drop));
    assert_eq!(error, Incompatible::new(Field::TypeFingerprint, 0, FINGERPRINT));
    let error = open(fixed::Ring::<[u64; 0], Untrusted>::open(slots.region(), FINGERPRINT).map(drop));
    assert_eq!(error, Incompatible::new(Field::ElementBytes, 0, 8));
}

/// A type that no ring takes does not get one from a header that agrees with it.
#[test]
fn an_empty_element_is_refused_even_if_the_header_agrees() {
    let memory = Kind::Fixed.create(&Options::new());
    memory.set_word(48, 0);
    let error = fixed::Ring::<[u64; 0], Untrusted>::open(memory.region(), 0).unwrap_err();
    assert!(matches!(error, AttachError::Incompatible(_)), "{error}");
}

#[test]
fn every_truncation_is_refused() {
    for (kind, _, memory) in all() {
        let total = memory.len();
        let lens = (1..700).chain(total - 600..total);
        for len in lens.filter(|len| *len < total) {
            let error = incompatible(kind.open(memory.region_of(len, Origin::default())));
            let wanted = if len < 128 { (128, len) } else { (len, total) };
            assert_eq!(error, Incompatible::new(Field::TotalBytes, wanted.0 as u64, wanted.1 as u64));
        }
        assert_eq!(kind.open(memory.region_of(total, Origin::default())), Ok(CAPACITY));
    }
}

#[test]
fn a_ring_of_another_boot_is_refused() {
    for (kind, _, memory) in all() {
        let here = Origin { nonce: 0, boot_id: 3 };
        let error = incompatible(kind.open(memory.region_of(memory.len(), here)));
        assert_eq!(error, Incompatible::new(Field::BootId, 3, 0));
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(1500))]

    /// Whatever the header says: an error, or a ring that works within its memory.
    #[test]
    fn any_words_in_the_header_do_no_harm(
        bytes_kind: bool,
        page: bool,
        words in proptest::collection::vec((1..16_usize, prop_oneof![
            any::<u64>(), 0..10_000_u64, (0..64_u32).prop_map(|n| 1 << n)
        ]), 1..4),
    ) {
        let kind = if bytes_kind { Kind::Bytes } else { Kind::Fixed };
        let stride = if page { RoleStride::Page } else { RoleStride::Line };
        let memory = kind.create(&Options::new().role_stride(stride).type_fingerprint(FINGERPRINT));
        let right = memory.bytes();
        for (i, value) in words {
            memory.set_word(i * 8, value);
        }
        let wrong = memory.bytes();
        let harmless = wrong[..96] == right[..96] && wrong[112..] == right[112..];
        prop_assert_eq!(kind.open(memory.region()).is_ok(), harmless);
        memory.assert_guards();
    }
}
