//! The cells of all kinds behind one face, so that whatever is done to them is one table. All of it works without
//! allocating, since the explorer steps it.

use tidewire_seqlock::{
    AttachError, BytesReadError, Cell, Options, Owner, ReadError, Reader, WriteError, Writer, bytes, classic,
    shared, table,
};
use tidewire_shm::{Region, SegmentLease, SegmentLeases, Untrusted};

use super::{MOST, record, record_tag, tag, value};

/// What a reader found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A whole value: its tag and its version.
    Value(u64, u64),
    /// A value that nobody wrote.
    Torn,
    /// Nothing, for now.
    Busy,
    /// Nothing, since the writer died.
    Died,
    Corrupt,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is this version.
    Version(u64),
    /// It found a value that nobody wrote.
    Torn,
    Busy,
    /// There is no whole value to change.
    Damaged,
    Corrupt,
}

/// A cell of one kind, and what its handles can do.
///
/// Handles are untrusted ones, leases are the kernel's.
pub(crate) trait Rig: 'static {
    type Cell;
    type Writer: 'static;
    type Reader: 'static;

    const STRUCTURE: &'static str;
    /// Writes after which all that was kept is written over.
    const LAP: u64;
    /// Words that a value takes in the cell.
    const WORDS: usize;
    /// Whether a value can be changed in place.
    const UPDATES: bool = true;
    /// Whether readers may have to wait for the writer.
    const WAITS: bool = false;
    /// Whether there may be many writers.
    const SHARED: bool = false;
    /// Offset of the word that names the writer.
    const OWNER: usize = 384;
    /// Offset of the word that names the latest version.
    const LATEST: usize = 512;

    fn bytes() -> usize;
    /// Creates a cell with a first value of tag 0.
    fn create(region: Region<Untrusted>) -> Result<Self::Cell, String>;
    fn open(region: Region<Untrusted>) -> Result<Self::Cell, AttachError>;
    fn writer(cell: &Self::Cell, leases: &SegmentLeases) -> Result<Self::Writer, AttachError>;
    fn reader(cell: &Self::Cell) -> Self::Reader;
    fn owner(cell: &Self::Cell) -> Option<Owner>;
    fn write(writer: &mut Self::Writer, leases: &SegmentLeases, tag: u64) -> Written;
    fn update(writer: &mut Self::Writer, leases: &SegmentLeases, tag: u64) -> Written;
    /// Writes the value whose tag is one more than that of the latest one, with `salt` in its upper bits; only where there
    /// are many writers, none of which knows what the next version will be.
    fn follow(_writer: &mut Self::Writer, _leases: &SegmentLeases, _salt: u64) -> Written {
        Written::Damaged
    }
    fn read(reader: &mut Self::Reader, leases: &SegmentLeases) -> Found;
    /// The latest version, by the cheapest look at it; `None` if there is none.
    fn version(reader: &mut Self::Reader) -> Option<u64>;
    fn retries(reader: &Self::Reader) -> u64;
    /// Which of several writers this is.
    fn number(writer: &Self::Writer) -> u64;
    /// Offsets of words that a reader of version `version` believes.
    fn believed(version: u64) -> Vec<usize>;
    /// Whether what lies beside the cell is as it was.
    fn beside_is_whole(_cell: &Self::Cell) -> bool {
        true
    }
}

/// Slots of all cells that have some.
const SLOTS: u32 = 4;

fn options() -> Options {
    Options::new().slots(SLOTS).writers(2).liveness::<SegmentLeases>()
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn found<const N: usize>(read: Result<([u64; N], u64), ReadError>) -> Found {
    match read {
        Ok((value, version)) => tag(&value).map_or(Found::Torn, |tag| Found::Value(tag, version)),
        Err(ReadError::Lapped) => Found::Busy,
        Err(ReadError::Corrupt(_)) => Found::Corrupt,
    }
}

/// Changes a value to that of another tag; whether it was whole.
fn change<const N: usize>(old: &mut [u64; N], to: u64, whole: &mut bool) {
    *whole = tag(old).is_some();
    *old = value(to);
}

/// The words of a slot of so many words, and of the copy behind `latest`, that a reader of a version believes.
fn believed(words: usize, latest: usize, version: u64) -> Vec<usize> {
    let index = usize::try_from(version % u64::from(SLOTS)).unwrap_or(0);
    let slot = latest + 128 + index * slot_bytes(words);
    match words {
        0..=1 => vec![latest, latest + 8 + 8 * index],
        2..=7 => vec![latest, latest + 8, slot, slot + 8 * words],
        _ => vec![latest, slot, slot + 8 * words],
    }
}

/// Bytes of a slot of so many words: the stamp is the word behind them.
pub(crate) fn slot_bytes(words: usize) -> usize {
    8 * (words + 1).next_multiple_of(8)
}

/// A cell of `N` words, with `S` slots.
pub(crate) struct Plain<const N: usize, const S: u32 = SLOTS>;

impl<const N: usize, const S: u32> Rig for Plain<N, S> {
    type Cell = Cell<[u64; N], Untrusted>;
    type Writer = Writer<[u64; N], Untrusted, SegmentLease>;
    type Reader = Reader<[u64; N], Untrusted>;

    const STRUCTURE: &'static str = match N {
        1 => "cell-8",
        7 => "cell-56",
        32 => "cell-256",
        _ => "cell-4096",
    };
    const LAP: u64 = S as u64;
    const WORDS: usize = N;

    fn bytes() -> usize {
        Self::Cell::bytes(&options().slots(S)).unwrap_or(0)
    }

    fn create(region: Region<Untrusted>) -> Result<Self::Cell, String> {
        Self::Cell::create(region, &value(0), &options().slots(S)).map_err(text)
    }

    fn open(region: Region<Untrusted>) -> Result<Self::Cell, AttachError> {
        Self::Cell::open(region, 0)
    }

    fn writer(cell: &Self::Cell, leases: &SegmentLeases) -> Result<Self::Writer, AttachError> {
        cell.writer(leases)
    }

    fn reader(cell: &Self::Cell) -> Self::Reader {
        cell.reader()
    }

    fn owner(cell: &Self::Cell) -> Option<Owner> {
        cell.writer_owner()
    }

    fn write(writer: &mut Self::Writer, _leases: &SegmentLeases, tag: u64) -> Written {
        Written::Version(writer.write(&value(tag)))
    }

    fn update(writer: &mut Self::Writer, _leases: &SegmentLeases, tag: u64) -> Written {
        let mut whole = false;
        let version = writer.update(|old| change(old, tag, &mut whole));
        if whole { Written::Version(version) } else { Written::Torn }
    }

    fn read(reader: &mut Self::Reader, _leases: &SegmentLeases) -> Found {
        found(reader.read())
    }

    fn version(reader: &mut Self::Reader) -> Option<u64> {
        reader.version().ok()
    }

    fn retries(reader: &Self::Reader) -> u64 {
        reader.retries()
    }

    fn number(_writer: &Self::Writer) -> u64 {
        0
    }

    fn believed(version: u64) -> Vec<usize> {
        believed(Self::WORDS, Self::LATEST, version)
    }
}

/// A cell of bytes; long ones, so that they rotate.
pub(crate) struct Bytes;

impl Rig for Bytes {
    type Cell = bytes::Cell<Untrusted>;
    type Writer = bytes::Writer<Untrusted, SegmentLease>;
    type Reader = bytes::Reader<Untrusted>;

    const STRUCTURE: &'static str = "cell-bytes";
    const WORDS: usize = MOST.div_ceil(8) + 1;
    const LAP: u64 = SLOTS as u64;
    const UPDATES: bool = false;

    fn bytes() -> usize {
        Self::Cell::bytes(MOST, &options()).unwrap_or(0)
    }

    fn create(region: Region<Untrusted>) -> Result<Self::Cell, String> {
        Self::Cell::create(region, MOST, record(0, &mut [0; MOST]), &options()).map_err(text)
    }

    fn open(region: Region<Untrusted>) -> Result<Self::Cell, AttachError> {
        Self::Cell::open(region, MOST, 0)
    }

    fn writer(cell: &Self::Cell, leases: &SegmentLeases) -> Result<Self::Writer, AttachError> {
        cell.writer(leases)
    }

    fn reader(cell: &Self::Cell) -> Self::Reader {
        cell.reader()
    }

    fn owner(cell: &Self::Cell) -> Option<Owner> {
        cell.writer_owner()
    }

    fn write(writer: &mut Self::Writer, _leases: &SegmentLeases, tag: u64) -> Written {
        writer.write(record(tag, &mut [0; MOST])).map_or(Written::Corrupt, Written::Version)
    }

    fn update(_writer: &mut Self::Writer, _leases: &SegmentLeases, _tag: u64) -> Written {
        Written::Damaged
    }

    fn read(reader: &mut Self::Reader, _leases: &SegmentLeases) -> Found {
        match reader.read(&mut [0; MOST]) {
            Ok((value, version)) => record_tag(value).map_or(Found::Torn, |tag| Found::Value(tag, version)),
            Err(BytesReadError::Lapped) => Found::Busy,
            Err(BytesReadError::BufferTooSmall { .. }) => Found::Torn,
            Err(BytesReadError::Corrupt(_)) => Found::Corrupt,
        }
    }

    fn version(reader: &mut Self::Reader) -> Option<u64> {
        reader.version().ok()
    }

    fn retries(reader: &Self::Reader) -> u64 {
        reader.retries()
    }

    fn number(_writer: &Self::Writer) -> u64 {
        0
    }

    fn believed(version: u64) -> Vec<usize> {
        believed(Self::WORDS, Self::LATEST, version)
    }
}

/// A table of three cells, of which the middle one is used.
pub(crate) struct Table;

const CELLS: u32 = 3;
const MIDDLE: u32 = 1;

impl Rig for Table {
    type Cell = table::Table<[u64; 4], Untrusted>;
    type Writer = Writer<[u64; 4], Untrusted, SegmentLease>;
    type Reader = Reader<[u64; 4], Untrusted>;

    const STRUCTURE: &'static str = "cell-table";
    const WORDS: usize = 4;
    const LAP: u64 = SLOTS as u64;
    /// A cell of this kind has three lines of 128 bytes and four slots of 64.
    const OWNER: usize = 384 + 512;
    const LATEST: usize = Self::OWNER + 128;

    fn bytes() -> usize {
        Self::Cell::bytes(CELLS, &options()).unwrap_or(0)
    }

    fn create(region: Region<Untrusted>) -> Result<Self::Cell, String> {
        Self::Cell::create(region, CELLS, |_| value(0), &options()).map_err(text)
    }

    fn open(region: Region<Untrusted>) -> Result<Self::Cell, AttachError> {
        Self::Cell::open(region, 0)
    }

    fn writer(cell: &Self::Cell, leases: &SegmentLeases) -> Result<Self::Writer, AttachError> {
        cell.writer(MIDDLE, leases)
    }

    #[expect(clippy::expect_used, reason = "there are three cells")]
    fn reader(cell: &Self::Cell) -> Self::Reader {
        cell.reader(MIDDLE).expect("a cell of the table")
    }

    fn owner(cell: &Self::Cell) -> Option<Owner> {
        cell.writer_owner(MIDDLE)
    }

    fn write(writer: &mut Self::Writer, leases: &SegmentLeases, tag: u64) -> Written {
        Plain::<4>::write(writer, leases, tag)
    }

    fn update(writer: &mut Self::Writer, leases: &SegmentLeases, tag: u64) -> Written {
        Plain::<4>::update(writer, leases, tag)
    }

    fn read(reader: &mut Self::Reader, leases: &SegmentLeases) -> Found {
        Plain::<4>::read(reader, leases)
    }

    fn version(reader: &mut Self::Reader) -> Option<u64> {
        Plain::<4>::version(reader)
    }

    fn retries(reader: &Self::Reader) -> u64 {
        reader.retries()
    }

    fn number(_writer: &Self::Writer) -> u64 {
        0
    }

    fn believed(version: u64) -> Vec<usize> {
        believed(Self::WORDS, Self::LATEST, version)
    }

    fn beside_is_whole(cell: &Self::Cell) -> bool {
        let first = |index| cell.reader(index).map(|mut reader| found(reader.read()));
        [0, 2]
            .into_iter()
            .all(|index| first(index) == Ok(Found::Value(0, 0)) && cell.writer_owner(index).is_none())
    }
}

/// A classic seqlock: one slot, in which a write may be cut in two.
pub(crate) struct Classic;

impl Rig for Classic {
    type Cell = classic::Cell<[u64; 12], Untrusted>;
    type Writer = classic::Writer<[u64; 12], Untrusted, SegmentLease>;
    type Reader = classic::Reader<[u64; 12], Untrusted>;

    const STRUCTURE: &'static str = "cell-classic";
    const WORDS: usize = 12;
    const LAP: u64 = 1;
    const WAITS: bool = true;

    fn bytes() -> usize {
        Self::Cell::bytes(&options()).unwrap_or(0)
    }

    fn create(region: Region<Untrusted>) -> Result<Self::Cell, String> {
        Self::Cell::create(region, &value(0), &options()).map_err(text)
    }

    fn open(region: Region<Untrusted>) -> Result<Self::Cell, AttachError> {
        Self::Cell::open(region, 0)
    }

    fn writer(cell: &Self::Cell, leases: &SegmentLeases) -> Result<Self::Writer, AttachError> {
        cell.writer(leases)
    }

    fn reader(cell: &Self::Cell) -> Self::Reader {
        cell.reader()
    }

    fn owner(cell: &Self::Cell) -> Option<Owner> {
        cell.writer_owner()
    }

    fn write(writer: &mut Self::Writer, _leases: &SegmentLeases, tag: u64) -> Written {
        Written::Version(writer.write(&value(tag)))
    }

    fn update(writer: &mut Self::Writer, _leases: &SegmentLeases, tag: u64) -> Written {
        let mut whole = false;
        match writer.update(|old| change(old, tag, &mut whole)) {
            Ok(version) if whole => Written::Version(version),
            Ok(_) => Written::Torn,
            Err(classic::Damaged) => Written::Damaged,
        }
    }

    fn read(reader: &mut Self::Reader, leases: &SegmentLeases) -> Found {
        match reader.read(leases) {
            Ok((value, version)) => tag(&value).map_or(Found::Torn, |tag| Found::Value(tag, version)),
            Err(classic::ReadError::Busy) => Found::Busy,
            Err(classic::ReadError::WriterDied) => Found::Died,
            Err(classic::ReadError::Corrupt(_)) => Found::Corrupt,
        }
    }

    fn version(_reader: &mut Self::Reader) -> Option<u64> {
        None
    }

    fn retries(reader: &Self::Reader) -> u64 {
        reader.retries()
    }

    fn number(_writer: &Self::Writer) -> u64 {
        0
    }

    fn believed(_version: u64) -> Vec<usize> {
        vec![Self::LATEST, Self::LATEST + 64]
    }
}

/// A cell with two writers.
pub(crate) struct Shared;

impl Rig for Shared {
    type Cell = shared::Cell<[u64; 9], Untrusted>;
    type Writer = shared::Writer<[u64; 9], Untrusted, SegmentLease>;
    type Reader = Reader<[u64; 9], Untrusted>;

    const STRUCTURE: &'static str = "cell-shared";
    const WORDS: usize = 9;
    const LAP: u64 = SLOTS as u64;
    const SHARED: bool = true;
    const OWNER: usize = 512;
    const LATEST: usize = 640;

    fn bytes() -> usize {
        Self::Cell::bytes(&options()).unwrap_or(0)
    }

    fn create(region: Region<Untrusted>) -> Result<Self::Cell, String> {
        Self::Cell::create(region, &value(0), &options()).map_err(text)
    }

    fn open(region: Region<Untrusted>) -> Result<Self::Cell, AttachError> {
        Self::Cell::open(region, 0)
    }

    fn writer(cell: &Self::Cell, leases: &SegmentLeases) -> Result<Self::Writer, AttachError> {
        cell.writer(leases)
    }

    fn reader(cell: &Self::Cell) -> Self::Reader {
        cell.reader()
    }

    fn owner(cell: &Self::Cell) -> Option<Owner> {
        cell.writer_owner(0)
    }

    fn write(writer: &mut Self::Writer, leases: &SegmentLeases, tag: u64) -> Written {
        written(writer.write(leases, &value(tag)))
    }

    fn update(writer: &mut Self::Writer, leases: &SegmentLeases, tag: u64) -> Written {
        let mut whole = false;
        match written(writer.update(leases, |old| change(old, tag, &mut whole))) {
            Written::Version(_) if !whole => Written::Torn,
            answer => answer,
        }
    }

    fn follow(writer: &mut Self::Writer, leases: &SegmentLeases, salt: u64) -> Written {
        let mut followed = None;
        let answer = written(writer.update(leases, |old| {
            followed = tag(old).map(|tag| (tag & ((1 << 40) - 1)) + 1);
            *old = value(salt | followed.unwrap_or(0));
        }));
        match answer {
            Written::Version(version) if followed != Some(version) => Written::Torn,
            answer => answer,
        }
    }

    fn read(reader: &mut Self::Reader, _leases: &SegmentLeases) -> Found {
        found(reader.read())
    }

    fn version(reader: &mut Self::Reader) -> Option<u64> {
        reader.version().ok()
    }

    fn retries(reader: &Self::Reader) -> u64 {
        reader.retries()
    }

    fn number(writer: &Self::Writer) -> u64 {
        writer.index().into()
    }

    fn believed(version: u64) -> Vec<usize> {
        believed(Self::WORDS, Self::LATEST, version)
    }
}

fn written(answer: Result<u64, WriteError>) -> Written {
    match answer {
        Ok(version) => Written::Version(version),
        Err(WriteError::Busy { .. }) => Written::Busy,
        Err(WriteError::Corrupt(_)) => Written::Corrupt,
    }
}
