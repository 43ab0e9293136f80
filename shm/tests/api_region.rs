//! Regions: where their bytes come from, what is refused, how long they live, and what handles reach.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

use std::error::Error;
use std::panic::{self, AssertUnwindSafe};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use proptest::prelude::*;
use tidewire_shm::sync::{Ordering, Payload};
use tidewire_shm::{
    Field, Incompatible, LINE_BYTES, Line, Origin, Region, RegionError, Trust, Trusted, Untrusted,
};

type Bytes = Line<[u8; LINE_BYTES]>;

/// Lines that note when they are dropped.
struct Kept {
    lines: Box<[Bytes]>,
    gone: Arc<AtomicBool>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::SeqCst);
    }
}

fn kept(lines: usize) -> (Arc<Kept>, NonNull<u8>, Arc<AtomicBool>) {
    let gone = Arc::new(AtomicBool::new(false));
    let mut lines = vec![Line::new([0; LINE_BYTES]); lines].into_boxed_slice();
    let base = NonNull::new(lines.as_mut_ptr()).unwrap().cast::<u8>();
    (Arc::new(Kept { lines, gone: gone.clone() }), base, gone)
}

fn all<L: Trust>(region: &Region<L>) -> Payload {
    // SAFETY: the tests use no control word while they use this.
    unsafe { region.payload(0, region.len()) }
}

fn read(payload: &Payload) -> Vec<u8> {
    let mut bytes = vec![0xEE; payload.len()];
    // SAFETY: in bounds; private memory of the same length; the region is alive in every test that calls this.
    unsafe { payload.read_bytes(0, bytes.as_mut_ptr(), bytes.len()) };
    bytes
}

#[test]
fn a_heap_region_is_zeroed_aligned_and_as_long_as_asked() {
    for len in [1, 7, 127, 128, 129, 4096, 100_000] {
        let region = Region::heap(len).unwrap();
        assert_eq!((region.len(), region.is_empty(), region.origin()), (len, false, Origin::default()));
        assert_eq!(read(&all(&region)), vec![0; len]);
        if len >= 8 {
            // SAFETY: nothing else uses the word.
            let word = unsafe { region.atomic_u64(0) };
            assert!(word.as_ptr().addr().is_multiple_of(LINE_BYTES));
        }
    }
}

#[test]
fn a_heap_region_of_no_length_or_too_much_is_refused() {
    assert_eq!(Region::heap(0).err(), Some(RegionError::Length { found: 0 }));
    for found in [usize::MAX, usize::MAX - LINE_BYTES + 2, isize::MAX.unsigned_abs() + 1] {
        assert_eq!(Region::heap(found).err(), Some(RegionError::Length { found }));
    }
    let bytes = 1 << 62;
    assert_eq!(Region::heap(bytes).err(), Some(RegionError::OutOfMemory { bytes }));
}

#[test]
fn a_static_region_is_the_static() {
    let lines: &'static mut [Bytes] = Box::leak(vec![Line::new([7; LINE_BYTES]); 3].into_boxed_slice());
    let base = lines.as_ptr().addr();
    let region = Region::from_static(lines);
    assert_eq!((region.len(), region.is_empty()), (3 * LINE_BYTES, false));
    assert_eq!(read(&all(&region)), [7; 3 * LINE_BYTES]);
    // SAFETY: nothing else uses the word.
    let word = unsafe { region.atomic_u64(128) };
    assert_eq!(word.as_ptr().addr(), base + 128);
}

/// The only region that may be empty; nothing can be made in it.
#[test]
fn an_empty_static_region_says_so() {
    let region = Region::from_static(&mut []);
    assert_eq!((region.len(), region.is_empty()), (0, true));
    assert!(tidewire_shm::Header::read(&region).is_err());
}

#[test]
fn raw_parts_are_checked() {
    let (keep, base, _gone) = kept(4);
    assert_eq!(keep.lines.len(), 4);
    let origin = Origin { nonce: 5, boot_id: 6 };
    // SAFETY: the lines are initialised and alive with `keep`.
    let region = unsafe { Region::from_raw_parts(base, 0, origin, keep.clone()) };
    assert_eq!(region.err(), Some(RegionError::Length { found: 0 }));
    for offset in [1, 8, 64, 127] {
        // SAFETY: within the lines.
        let base = unsafe { base.add(offset) };
        // SAFETY: as above; the region is shorter than what is left.
        let region = unsafe { Region::from_raw_parts(base, 128, origin, keep.clone()) };
        assert_eq!(region.err(), Some(RegionError::Alignment { found: base.addr().get() }));
    }
    // SAFETY: within the lines.
    let base = unsafe { base.add(LINE_BYTES) };
    // SAFETY: as above.
    let region = unsafe { Region::from_raw_parts(base, 100, origin, keep) }.unwrap();
    assert_eq!((region.len(), region.origin()), (100, origin));
}

#[test]
fn what_keeps_the_bytes_goes_with_the_last_region() {
    let (keep, base, gone) = kept(2);
    // SAFETY: the lines are initialised and alive with `keep`.
    let region = unsafe { Region::from_raw_parts(base, 256, Origin::default(), keep) }.unwrap();
    // SAFETY: both handles only look.
    let alias = unsafe { region.alias() };
    drop(region);
    assert!(!gone.load(Ordering::SeqCst), "dropped under an alias");
    // SAFETY: nobody writes the bytes.
    let trusted = unsafe { alias.assume_trusted() };
    let untrusted = trusted.distrust();
    assert!(!gone.load(Ordering::SeqCst), "dropped by a change of level");
    assert_eq!(read(&all(&untrusted)), [0; 256]);
    let there = thread::spawn(move || drop(untrusted));
    there.join().unwrap();
    assert!(gone.load(Ordering::SeqCst), "never dropped");
}

#[test]
fn a_refused_region_drops_what_keeps_its_bytes() {
    let (keep, base, gone) = kept(1);
    // SAFETY: the lines are initialised and alive with `keep`.
    assert!(unsafe { Region::from_raw_parts(base, 0, Origin::default(), keep) }.is_err());
    assert!(gone.load(Ordering::SeqCst));
}

#[test]
fn aliases_and_levels_see_the_same_bytes() {
    let region = Region::heap(256).unwrap();
    // SAFETY: this test is the only user and follows its own order.
    let alias = unsafe { region.alias() }.distrust();
    // SAFETY: nothing else uses the word as anything else.
    let (one, two) = (unsafe { region.atomic_u64(64) }, unsafe { alias.atomic_u64(64) });
    one.store(7, Ordering::Release);
    assert_eq!(two.load(Ordering::Acquire), 7);
    // SAFETY: nothing else uses the word as anything else.
    let (one, two) = (unsafe { region.atomic_u32(252) }, unsafe { alias.atomic_u32(252) });
    assert_eq!(two.swap(9, Ordering::AcqRel), 0);
    assert_eq!(one.load(Ordering::Acquire), 9);
    assert_eq!(format!("{region:?}"), "Region { bytes: 256, trusted: true, .. }");
    assert_eq!(format!("{alias:?}"), "Region { bytes: 256, trusted: false, .. }");
}

#[test]
fn the_levels_say_what_they_are() {
    const { assert!(Trusted::TRUSTED && !Untrusted::TRUSTED) };
    fn default_level(region: Region) -> Region<Untrusted> {
        region
    }
    assert_eq!(default_level(Region::heap(8).unwrap().distrust()).len(), 8);
}

fn panics<T>(call: impl FnOnce() -> T) -> bool {
    panic::catch_unwind(AssertUnwindSafe(call)).is_err()
}

/// Handles that would leave the region, or stand askew, are never made.
#[test]
fn handles_out_of_bounds_panic_when_made() {
    let region = Region::heap(256).unwrap();
    for (offset, fits) in
        [(0, true), (248, true), (249, false), (256, false), (4, false), (usize::MAX & !7, false)]
    {
        // SAFETY: never used.
        assert_eq!(panics(|| unsafe { region.atomic_u64(offset) }), !fits, "u64 at {offset}");
    }
    for (offset, fits) in
        [(0, true), (252, true), (253, false), (256, false), (2, false), (usize::MAX & !3, false)]
    {
        // SAFETY: never used.
        assert_eq!(panics(|| unsafe { region.atomic_u32(offset) }), !fits, "u32 at {offset}");
    }
    let most = usize::MAX;
    for (offset, len, fits) in [
        (0, 256, true),
        (1, 255, true),
        (256, 0, true),
        (0, 257, false),
        (257, 0, false),
        (1, most, false),
        (most, 1, false),
    ] {
        // SAFETY: never used.
        assert_eq!(panics(|| unsafe { region.payload(offset, len) }), !fits, "{len} bytes at {offset}");
    }
}

#[test]
fn regions_may_move_to_other_threads_and_be_looked_at_by_many() {
    fn is<T: Send + Sync + 'static>() {}
    is::<Region<Trusted>>();
    is::<Region<Untrusted>>();
    let region = Region::heap(64).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // SAFETY: nothing else uses the word as anything else.
                let word = unsafe { region.atomic_u64(0) };
                for _ in 0..1000 {
                    word.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    // SAFETY: nothing else uses the word as anything else.
    let word = unsafe { region.atomic_u64(0) };
    assert_eq!(word.load(Ordering::Relaxed), 4000);
}

#[test]
fn lines_hold_their_value() {
    let mut line = Line::new(5_u32);
    *line += 1;
    assert_eq!((*line, line.into_inner(), *Line::<u64>::default()), (6, 6, 0));
}

#[test]
fn errors_say_what_was_expected_and_found() {
    let texts: [(&dyn Error, &str); 6] = [
        (&RegionError::Length { found: 0 }, "a region cannot have 0 bytes"),
        (
            &RegionError::Alignment { found: 0x1008 },
            "a region must start at a multiple of 128, found address 0x1008",
        ),
        (&RegionError::OutOfMemory { bytes: 12 }, "no memory for a region of 12 bytes"),
        (&Incompatible::new(Field::Capacity, 8, 9), "incompatible capacity: expected 8, found 9"),
        (
            &Incompatible::new(Field::Kind, 0x10001, 0x10002),
            "incompatible kind of structure: expected 0x10001, found 0x10002",
        ),
        (&Incompatible::new(Field::BootId, 10, 11), "incompatible boot id: expected 0xa, found 0xb"),
    ];
    for (error, text) in texts {
        assert_eq!(error.to_string(), text);
        assert!(error.source().is_none());
    }
}

#[test]
fn every_field_has_a_name_of_its_own() {
    let fields = [
        Field::Magic,
        Field::AbiMajor,
        Field::AbiMinor,
        Field::Endianness,
        Field::HeaderBytes,
        Field::LineBytes,
        Field::Kind,
        Field::Flags,
        Field::TotalBytes,
        Field::Capacity,
        Field::ElementBytes,
        Field::ElementAlign,
        Field::TypeFingerprint,
        Field::RoleStride,
        Field::DataOffset,
        Field::BootId,
        Field::Nonce,
        Field::Reserved,
        Field::Access,
        Field::Liveness,
        Field::Form,
        Field::Count,
    ];
    let names: std::collections::BTreeSet<_> = fields.iter().map(ToString::to_string).collect();
    assert_eq!(names.len(), fields.len());
}

/// What is done to a run of bytes.
#[derive(Clone, Debug)]
enum Act {
    Write { at: usize, bytes: Vec<u8> },
    Read { at: usize, len: usize },
    Store { at: usize, value: u64 },
    Touch { at: usize, wide: bool },
    Prefetch { at: usize },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..512_usize, proptest::collection::vec(any::<u8>(), 0..300))
            .prop_map(|(at, bytes)| Act::Write { at, bytes }),
        (0..512_usize, 0..300_usize).prop_map(|(at, len)| Act::Read { at, len }),
        (0..64_usize, any::<u64>()).prop_map(|(at, value)| Act::Store { at: at * 8, value }),
        (0..64_usize, any::<bool>()).prop_map(|(at, wide)| Act::Touch { at: at * 8, wide }),
        (0..100_000_usize).prop_map(|at| Act::Prefetch { at }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Copies in and out, stores, touches and hints, against plain bytes.
    #[test]
    fn payload_agrees_with_plain_bytes(acts in proptest::collection::vec(act(), 1..40)) {
        let region = Region::heap(1024).unwrap();
        // SAFETY: no control word is in use.
        let payload = unsafe { region.payload(256, 512) };
        prop_assert_eq!((payload.len(), payload.is_empty()), (512, false));
        let mut model = vec![0_u8; 512];
        for act in acts {
            match act {
                Act::Write { at, bytes } => {
                    let len = bytes.len().min(512 - at);
                    // SAFETY: in bounds; private bytes.
                    unsafe { payload.write_bytes(at, bytes.as_ptr(), len) };
                    model.splice(at..at + len, bytes.into_iter().take(len));
                }
                Act::Read { at, len } => {
                    let len = len.min(512 - at);
                    let mut to = vec![0xEE; len + 2];
                    let inner = to.split_at_mut(1).1;
                    // SAFETY: in bounds; one byte of private memory is left on either side.
                    unsafe { payload.read_bytes(at, inner.as_mut_ptr(), len) };
                    let expected = [&[0xEE], model.get(at..at + len).unwrap(), &[0xEE]].concat();
                    prop_assert_eq!(to, expected);
                }
                Act::Store { at, value } => {
                    // SAFETY: in bounds and aligned.
                    unsafe { payload.store(at, &value) };
                    model.splice(at..at + 8, value.to_ne_bytes());
                    // SAFETY: in bounds and aligned; any bytes are a number.
                    prop_assert_eq!(unsafe { payload.load::<u64>(at) }, value);
                    let mut out = 0_u64;
                    // SAFETY: in bounds and aligned; any bytes are a number.
                    unsafe { payload.load_to(at, &mut out) };
                    prop_assert_eq!(out, value);
                }
                // SAFETY: in bounds and aligned; nobody else uses the bytes.
                Act::Touch { at, wide: true } => unsafe { payload.touch::<u64>(at) },
                // SAFETY: as above.
                Act::Touch { at, wide: false } => unsafe { payload.touch::<u8>(at) },
                Act::Prefetch { at } => payload.prefetch(at),
            }
            let whole = read(&all(&region));
            prop_assert_eq!(whole.get(256..768).unwrap(), model.as_slice());
            prop_assert!(whole.iter().take(256).chain(whole.iter().skip(768)).all(|byte| *byte == 0));
        }
        // SAFETY: in bounds; nobody writes while the view lives.
        prop_assert_eq!(&*unsafe { payload.span(0, 512) }, model.as_slice());
        // SAFETY: in bounds; nobody else uses the bytes while the view lives.
        let mut view = unsafe { payload.span_mut(8, 16) };
        view.fill(3);
        let bytes = read(&payload);
        prop_assert_eq!(bytes.get(8..24).unwrap(), [3; 16]);
    }
}

/// Everything in safe code that stores into a region asks it first.
#[test]
fn nothing_is_written_into_a_region_that_can_only_be_read() {
    use tidewire_shm::{Field, Header, Incompatible, RegionError, RoleStride};

    let region = Region::heap(4096).unwrap();
    // SAFETY: nothing is laid out in either but one header.
    let view = unsafe { region.alias() }.read_only();
    assert!(region.is_writable() && region.require_writable().is_ok() && !view.is_writable());
    let header = Header {
        kind: 7,
        total_bytes: 4096,
        capacity: 1,
        element_bytes: 1,
        element_align: 1,
        type_fingerprint: 0,
        role_stride: RoleStride::Line,
        data_offset: 128,
        origin: region.origin(),
    };
    let refused = Incompatible::new(Field::Access, 1, 0);
    assert_eq!(header.write(&view), Err(refused));
    header.write(&region).unwrap();
    assert_eq!((Header::invalidate(&view), Header::read(&view)), (Err(refused), Err(refused)));
    assert_eq!((Header::inspect(&view), Header::read(&region)), (Ok(header), Ok(header)));
    // The mark goes along with every handle that is made from the view.
    // SAFETY: as above.
    let again = unsafe { view.alias() };
    assert_eq!(again.distrust().require_writable(), Err(RegionError::ReadOnly));
}
