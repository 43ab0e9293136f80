//! Looks at cells and logs without their types.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

use tidewire_seqlock::log::{Log, Options as LogOptions, Start};
use tidewire_seqlock::{
    AttachError, Cell, CorruptWord, KIND_BYTES, KIND_CELL, KIND_CLASSIC, KIND_SHARED, KIND_TABLE, Options,
    View, bytes, classic, log, shared, table,
};
use tidewire_shm::sync::Ordering;
use tidewire_shm::{Field, Region, RoleStride, Segment, Unleased, Untrusted};

const STRIDES: [RoleStride; 2] = [RoleStride::Line, RoleStride::Page];

/// A cell of a value of so many bytes after so many writes.
fn cell<const BYTES: usize>(options: &Options, writes: u64) -> Segment {
    let segment = Segment::anonymous(Cell::<[u8; BYTES]>::bytes(options).unwrap()).unwrap();
    let cell = Cell::<[u8; BYTES], Untrusted>::create(segment.region(), &[0; BYTES], options).unwrap();
    let mut writer = cell.writer(&Unleased).unwrap();
    for version in 1..=writes {
        assert_eq!(writer.write(&[1; BYTES]), version);
    }
    segment
}

fn of_bytes(options: &Options, writes: u64) -> Segment {
    let segment = Segment::anonymous(bytes::Cell::<Untrusted>::bytes(21, options).unwrap()).unwrap();
    let cell = bytes::Cell::<Untrusted>::create(segment.region(), 21, b"first", options).unwrap();
    let mut writer = cell.writer(&Unleased).unwrap();
    for _ in 0..writes {
        writer.write(b"next").unwrap();
    }
    segment
}

fn of_many_writers(options: &Options, writes: u64) -> Segment {
    let segment = Segment::anonymous(shared::Cell::<[u64; 3]>::bytes(options).unwrap()).unwrap();
    let cell = shared::Cell::<[u64; 3], Untrusted>::create(segment.region(), &[0; 3], options).unwrap();
    let mut writer = cell.writer(&Unleased).unwrap();
    for _ in 0..writes {
        writer.write(&Unleased, &[1; 3]).unwrap();
    }
    segment
}

fn of_one_slot(options: &Options, writes: u64) -> Segment {
    let segment = Segment::anonymous(classic::Cell::<[u64; 3]>::bytes(options).unwrap()).unwrap();
    let cell = classic::Cell::<[u64; 3], Untrusted>::create(segment.region(), &[0; 3], options).unwrap();
    let mut writer = cell.writer(&Unleased).unwrap();
    for _ in 0..writes {
        writer.write(&[1; 3]);
    }
    segment
}

type Written = fn(&Options, u64) -> Segment;

/// What makes it, its kind, bytes of a value.
const CELLS: [(Written, u32, usize); 6] = [
    (cell::<5>, KIND_CELL, 5),
    (cell::<56>, KIND_CELL, 56),
    (cell::<57>, KIND_CELL, 57),
    (of_bytes, KIND_BYTES, 21),
    (of_many_writers, KIND_SHARED, 24),
    (of_one_slot, KIND_CLASSIC, 24),
];

#[test]
fn a_view_says_the_version_of_any_cell() {
    for stride in STRIDES {
        let options = Options::new().role_stride(stride).type_fingerprint(77);
        for (written, kind, element_bytes) in CELLS {
            for writes in [0, 1, 20] {
                let segment = written(&options, writes);
                let view = View::open(segment.region().read_only()).unwrap();
                assert_eq!((view.kind(), view.element_bytes()), (kind, element_bytes));
                assert_eq!(view.versions().collect::<Vec<_>>(), [Ok(writes)], "{view:?}");
                assert_eq!(view.owners().collect::<Vec<_>>(), [None], "the writer is dropped");
            }
        }
    }
}

#[test]
fn a_view_tells_each_cell_of_a_table_and_who_writes_it() {
    let options = Options::new();
    let segment = Segment::anonymous(table::Table::<[u64; 9]>::bytes(3, &options).unwrap()).unwrap();
    let table =
        table::Table::<[u64; 9], Untrusted>::create(segment.region(), 3, |_| [0; 9], &options).unwrap();
    let mut writer = table.writer(1, &Unleased).unwrap();
    writer.write(&[1; 9]);
    writer.write(&[2; 9]);
    let view = View::open(segment.region().read_only()).unwrap();
    assert_eq!((view.kind(), view.element_bytes()), (KIND_TABLE, 72));
    assert_eq!(view.versions().collect::<Vec<_>>(), [Ok(0), Ok(2), Ok(0)]);
    assert_eq!(view.owners().collect::<Vec<_>>(), [None, Some(writer.owner()), None]);
}

fn filled_log(options: &LogOptions) -> (Segment, Log<[u8; 12], Untrusted>) {
    let segment = Segment::anonymous(Log::<[u8; 12]>::bytes(options).unwrap()).unwrap();
    let log = Log::create(segment.region(), options).unwrap();
    (segment, log)
}

#[test]
fn a_view_of_a_log_says_how_far_behind_its_readers_are() {
    for stride in STRIDES {
        let options = LogOptions::new(16).gates(3).role_stride(stride).type_fingerprint(77);
        let (segment, log) = filled_log(&options);
        let view = log::View::open(segment.region().read_only()).unwrap();
        assert_eq!((view.element_bytes(), view.capacity(), view.kept()), (12, 16, log.kept()));
        assert_eq!((view.version(), view.writer_owner()), (Ok(0), None));
        let mut writer = log.writer(&Unleased).unwrap();
        assert_eq!(view.writer_owner(), Some(writer.owner()));
        let mut quick = log.gated_reader(Start::Next, &Unleased).unwrap();
        writer.write_slice(&[[1; 12]; 5]);
        let slow = log.gated_reader(Start::Next, &Unleased).unwrap();
        writer.write_slice(&[[1; 12]; 7]);
        let lags = || view.gates().map(|gate| gate.lag).collect::<Vec<_>>();
        assert_eq!((view.version(), lags()), (Ok(12), vec![Some(12), Some(7), None]));
        for taken in 1..=12 {
            assert!(quick.next().unwrap().is_some());
            let lag = lags().first().copied().flatten().unwrap();
            // Not less than what it has not taken, and more by less than an eighth.
            assert!((12 - taken..12 - taken + 2).contains(&lag), "{taken} {lag}");
        }
        assert_eq!(quick.next().unwrap(), None);
        assert_eq!(lags(), [Some(0), Some(7), None]);
        let owners: Vec<_> = view.gates().map(|gate| gate.owner).collect();
        assert_eq!(owners, [Some(quick.owner()), Some(slow.owner()), None]);
        drop((quick, slow));
        assert_eq!(lags(), [None; 3]);
        // Overwritten, since it did not ask.
        let _slow = log.gated_reader(Start::Next, &Unleased).unwrap();
        writer.write_slice(&[[1; 12]; 40]);
        assert_eq!((view.version(), lags()), (Ok(52), vec![Some(40), None, None]));
    }
}

#[test]
fn a_view_of_a_log_of_bytes_is_one_of_a_log() {
    let options = LogOptions::new(16).gates(2).type_fingerprint(77);
    let segment = Segment::anonymous(log::bytes::region_bytes(21, &options).unwrap()).unwrap();
    let log = log::bytes::create(segment.region(), 21, &options).unwrap();
    let mut writer = log.writer(&Unleased).unwrap();
    let _slow = log.gated_reader(Start::Next, &Unleased).unwrap();
    for _ in 0..5 {
        writer.write_bytes(b"a line").unwrap();
    }
    let view = log::View::open(segment.region().read_only()).unwrap();
    assert_eq!((view.element_bytes(), view.capacity(), view.version()), (21, 16, Ok(5)));
    assert_eq!(view.gates().map(|gate| gate.lag).collect::<Vec<_>>(), [Some(5), None]);
}

fn store(region: &Region<Untrusted>, offset: usize, value: u64) {
    // SAFETY: an aligned word of the region, which outlives the handle; whoever looks expects anything.
    unsafe { region.atomic_u64(offset) }.store(value, Ordering::Relaxed);
}

#[test]
fn what_is_no_cell_is_refused() {
    let cases = [
        (24, 0x0003_0006, Field::Kind),
        (48, 0, Field::ElementBytes),
        (48, 1 << 62, Field::ElementBytes),
        (56, 3, Field::ElementAlign),
        (56, 8, Field::ElementBytes),
    ];
    let field = |error| match error {
        AttachError::Incompatible(found) => found.field,
        error => panic!("expected it to be incompatible, found {error:?}"),
    };
    for (offset, value, expected) in cases {
        let segment = cell::<57>(&Options::new(), 1);
        store(&segment.region(), offset, value);
        let found = field(View::open(segment.region()).unwrap_err());
        // How a cell keeps its value follows from the size.
        assert!(found == expected || found == Field::Form, "{expected:?} {found:?}");
        let (segment, _log) = filled_log(&LogOptions::new(16));
        let value = if expected == Field::Kind { KIND_CELL.into() } else { value };
        store(&segment.region(), offset, value);
        let found = field(log::View::open(segment.region()).unwrap_err());
        // A log is as large as its values are.
        assert!(found == expected || found == Field::Capacity, "{expected:?} {found:?}");
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
    let (mut opened, mut refused, mut lied) = (0, 0, 0);
    for round in 0..300 {
        for (at, (written, ..)) in CELLS.into_iter().enumerate() {
            let logged = at == 0;
            let segment = if logged {
                let (segment, log) = filled_log(&LogOptions::new(16).gates(3));
                log.writer(&Unleased).unwrap().write_slice(&[[1; 12]; 5]);
                segment
            } else {
                written(&Options::new(), round % 8)
            };
            let region = segment.region();
            let words = region.len() as u64 / 8;
            for _ in 0..4 {
                // Header and shape now and then, else what is on the lines behind.
                let word = if next() % 16 == 0 { next() % 32 } else { 32 + next() % (words.min(96) - 32) };
                let value = if next() % 2 == 0 { next() } else { next() % 64 };
                store(&region, usize::try_from(word).unwrap() * 8, value);
            }
            if logged {
                let Ok(view) = log::View::open(region.read_only()) else {
                    refused += 1;
                    continue;
                };
                opened += 1;
                let latest = view.version().unwrap_or(0);
                assert!(view.gates().all(|gate| gate.lag.is_none_or(|lag| lag <= latest)), "{view:?}");
            } else if let Ok(view) = View::open(region.read_only()) {
                opened += 1;
                for version in view.versions() {
                    match version {
                        Ok(version) => assert!(version < 1 << 62),
                        Err(corrupt) => {
                            assert_eq!(corrupt.what, CorruptWord::Version);
                            lied += 1;
                        }
                    }
                }
                assert_eq!(view.owners().count(), view.versions().count());
            } else {
                refused += 1;
            }
        }
    }
    assert!(opened > 500 && refused > 100 && lied > 5, "{opened} {refused} {lied}");
}
