//! What an attach compares: one field at a time is made wrong, in the file, and another process says what it finds.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use tidewire_shm::{Incompatible, MAGIC, Segment, Unleased};

use crate::peers::{Peer, Place, alone, at, hear, open, role, say};
use crate::queues::{Kind, Lanes, Message, Ordered, Ring, message, whole};
use crate::values::{self, Latest, Value};

/// What lies in the segments, in this order.
const NAMES: [&str; 4] = ["ring", "lanes", "ordered", values::NAME];

fn create(place: &Path) -> [Segment; 4] {
    let [ring, lanes, ordered] = Kind::ALL.map(|kind| kind.create(place, 1));
    [ring, lanes, ordered, values::create(place)]
}

/// Why a structure was not opened; `Ok` if it was.
trait Refusal {
    fn incompatible(self) -> Result<(), Incompatible>;
}

macro_rules! refusal {
    ($name:ident) => {
        impl<S> Refusal for Result<S, $name::AttachError> {
            fn incompatible(self) -> Result<(), Incompatible> {
                self.map(drop).map_err(|error| match error {
                    $name::AttachError::Incompatible(incompatible) => incompatible,
                    other => panic!("{other}"),
                })
            }
        }
    };
}

refusal!(tidewire_ring);
refusal!(tidewire_mpsc);
refusal!(tidewire_seqlock);

fn line(opened: Result<(), Incompatible>) -> String {
    match opened {
        Ok(()) => "opened".to_owned(),
        Err(error) => format!("{:?} {} {}: {error}", error.field, error.expected, error.found),
    }
}

/// Opens everything as it should be, whenever it is told to, and says what it found.
fn open_when_told(place: &Path) -> ! {
    loop {
        hear();
        let [ring, lanes, ordered, value] = NAMES.map(|name| open(place, name).region());
        say(line(Ring::open(ring, 0).incompatible()));
        say(line(Lanes::open(lanes, 0).incompatible()));
        say(line(Ordered::open(ordered, 0).incompatible()));
        say(line(Latest::open(value, 0).incompatible()));
    }
}

/// A file of a segment, and what lay in it.
struct Patched {
    name: &'static str,
    file: File,
    before: Vec<u8>,
}

impl Patched {
    fn open(place: &Path, name: &'static str) -> Self {
        let path = place.join(name);
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        Self { name, file, before: fs::read(path).unwrap() }
    }

    fn number(&self, offset: usize, len: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(&self.before[offset..offset + len]);
        u64::from_le_bytes(bytes)
    }

    /// Whether there is nothing in it but what lay there and the number.
    fn holds(&self, offset: usize, len: usize, number: u64) -> bool {
        let mut expected = self.before.clone();
        expected[offset..offset + len].copy_from_slice(&number.to_le_bytes()[..len]);
        let mut found = vec![0; expected.len()];
        self.file.read_exact_at(&mut found, 0).unwrap();
        found == expected
    }

    fn write(&self, offset: usize, len: usize, number: u64) {
        self.file.write_all_at(&number.to_le_bytes()[..len], offset as u64).unwrap();
    }
}

/// Where a field of the header lies, how long it is, its name, and what a wrong number in it is.
type Wrong = (usize, usize, &'static str, fn(u64) -> u64);

/// Makes a field wrong in every segment and asks the opener; then makes it right again.
fn refused(opener: &mut Peer, files: &[Patched; 4], &(offset, len, field, wrong): &Wrong) {
    for file in files {
        file.write(offset, len, wrong(file.number(offset, len)));
    }
    opener.tell();
    for file in files {
        let (right, wrong) = (file.number(offset, len), wrong(file.number(offset, len)));
        let said = opener.next();
        let mut words = said.split([' ', ':']);
        assert_eq!(words.next(), Some(field), "{}, {offset}: {said}", file.name);
        let [expected, found] =
            [words.next(), words.next()].map(|word| word.unwrap().parse::<u64>().unwrap());
        // The mark of the other byte order stands for a magic that was written in it.
        let reversed = u64::from(0x0102_0304_u32.swap_bytes());
        let shown = if field == "Endianness" { reversed } else { wrong };
        assert_eq!(found, shown, "{}: {said}", file.name);
        if !["Endianness", "TotalBytes"].contains(&field) {
            assert_eq!(expected, right, "{}: {said}", file.name);
        }
        assert!(said.contains("incompatible") && said.contains("expected"), "{said}");
        // A refusal writes nothing.
        assert!(file.holds(offset, len, wrong), "{}: {field} refused, and something written", file.name);
        file.write(offset, len, right);
    }
    opener.tell();
    for file in files {
        assert_eq!(opener.next(), "opened", "{} as it was", file.name);
    }
}

/// One field at a time, in a process of its own.
fn refused_one_by_one(test: &str, wrong: &[Wrong]) {
    let place = Place::new();
    let _segments = create(place.path());
    let files = NAMES.map(|name| Patched::open(place.path(), name));
    let mut opener = Peer::start(test, "opener", place.path());
    for field in wrong {
        refused(&mut opener, &files, field);
    }
}

#[test]
fn version_mismatch_is_refused_and_names_the_field() {
    if let Some((_, place)) = role() {
        open_when_told(Path::new(&place));
    }
    let _alone = alone();
    refused_one_by_one(
        "headers::version_mismatch_is_refused_and_names_the_field",
        &[
            (8, 2, "AbiMajor", |major| major + 1),
            (8, 2, "AbiMajor", |major| major - 1),
            (10, 2, "AbiMinor", |minor| minor + 1),
            (28, 4, "Flags", |_| 1),
            (112, 8, "Reserved", |_| 1),
            (120, 8, "Reserved", |_| 1 << 63),
        ],
    );
}

#[test]
fn layout_mismatch_is_refused_and_names_the_field() {
    if let Some((_, place)) = role() {
        open_when_told(Path::new(&place));
    }
    let _alone = alone();
    refused_one_by_one(
        "headers::layout_mismatch_is_refused_and_names_the_field",
        &[
            (0, 8, "Magic", |magic| magic ^ 1),
            (0, 8, "Magic", |_| 0),
            (16, 4, "HeaderBytes", |bytes| bytes * 2),
            (20, 4, "LineBytes", |bytes| bytes / 2),
            (24, 4, "Kind", |kind| kind + 1),
            (32, 8, "TotalBytes", |_| 1 << 40),
            (72, 8, "RoleStride", |stride| stride * 2),
            (80, 8, "DataOffset", |offset| offset + 128),
        ],
    );
}

#[test]
fn type_mismatch_is_refused_and_names_the_field() {
    if let Some((role, place)) = role() {
        if role == "opener" {
            open_when_told(Path::new(&place));
        }
        return open_as_other_types(Path::new(&place));
    }
    const TEST: &str = "headers::type_mismatch_is_refused_and_names_the_field";
    let _alone = alone();
    refused_one_by_one(
        TEST,
        &[
            (48, 8, "ElementBytes", |bytes| bytes + 8),
            (56, 8, "ElementAlign", |align| align * 2),
            (64, 8, "TypeFingerprint", |_| 7),
        ],
    );
    let place = Place::new();
    let _segments = create(place.path());
    let mut other = Peer::start(TEST, "other", place.path());
    assert_eq!(other.next(), "refused");
    other.end();
}

/// Opens what is there as what it is not.
fn open_as_other_types(place: &Path) {
    let region = |name| open(place, name).region();
    let field = |opened: Result<(), Incompatible>| format!("{:?}", opened.unwrap_err().field);
    type Longer = [u64; 9];
    // As long as a message, and aligned otherwise.
    type Looser = [u32; 16];
    for (named, found) in [
        (
            "ElementBytes",
            field(tidewire_ring::fixed::Ring::<Longer, _>::open(region("ring"), 0).incompatible()),
        ),
        (
            "ElementAlign",
            field(tidewire_ring::fixed::Ring::<Looser, _>::open(region("ring"), 0).incompatible()),
        ),
        ("TypeFingerprint", field(Ring::open(region("ring"), 7).incompatible())),
        ("Kind", field(Ring::open(region("lanes"), 0).incompatible())),
        ("Kind", field(tidewire_ring::bytes::Ring::open(region("ring"), 0).incompatible())),
        (
            "ElementBytes",
            field(tidewire_mpsc::fixed::Queue::<Longer, _>::open(region("lanes"), 0).incompatible()),
        ),
        (
            "ElementAlign",
            field(tidewire_mpsc::fixed::Queue::<Looser, _>::open(region("lanes"), 0).incompatible()),
        ),
        ("TypeFingerprint", field(Lanes::open(region("lanes"), 7).incompatible())),
        ("Kind", field(Lanes::open(region("ordered"), 0).incompatible())),
        ("Kind", field(Ordered::open(region("lanes"), 0).incompatible())),
        ("TypeFingerprint", field(Ordered::open(region("ordered"), 7).incompatible())),
        (
            "ElementBytes",
            field(tidewire_seqlock::Cell::<Message, _>::open(region(values::NAME), 0).incompatible()),
        ),
        ("TypeFingerprint", field(Latest::open(region(values::NAME), 7).incompatible())),
        (
            "Kind",
            field(tidewire_seqlock::classic::Cell::<Value, _>::open(region(values::NAME), 0).incompatible()),
        ),
        ("Kind", field(Latest::open(region("ring"), 0).incompatible())),
        ("Liveness", field(Lanes::open(region("lanes"), 0).unwrap().consumer(&Unleased).incompatible())),
        ("Liveness", field(Ordered::open(region("ordered"), 0).unwrap().producer(&Unleased).incompatible())),
        ("Liveness", field(Latest::open(region(values::NAME), 0).unwrap().writer(&Unleased).incompatible())),
        ("Liveness", field(Ring::open(region("ring"), 0).unwrap().consumer_with(&Unleased).incompatible())),
    ] {
        assert_eq!(found, named);
    }
    say("refused");
}

#[test]
fn endianness_mismatch_is_refused_and_names_the_field() {
    if let Some((_, place)) = role() {
        open_when_told(Path::new(&place));
    }
    let _alone = alone();
    refused_one_by_one(
        "headers::endianness_mismatch_is_refused_and_names_the_field",
        &[
            (12, 4, "Endianness", |_| u64::from(0x0102_0304_u32.swap_bytes())),
            // What a machine of the other byte order would have written.
            (0, 8, "Endianness", |_| MAGIC.swap_bytes()),
        ],
    );
}

#[test]
fn reboot_simulated_is_refused_and_begins_anew() {
    const TEST: &str = "headers::reboot_simulated_is_refused_and_begins_anew";
    if let Some((_, place)) = role() {
        open_when_told(Path::new(&place));
    }
    let _alone = alone();
    refused_one_by_one(TEST, &[(88, 8, "BootId", |boot| boot ^ 0x5555), (88, 8, "BootId", |_| 0)]);
    // What an older boot left is replaced by whoever finds it.
    let place = Place::new();
    drop(create(place.path()));
    let files = NAMES.map(|name| Patched::open(place.path(), name));
    for file in &files {
        let boot = file.number(88, 8);
        file.write(88, 8, boot + 1);
        assert_ne!(boot, 0);
    }
    let segment = open(place.path(), "ring");
    let refused = Kind::Ring.producer(&segment).err().unwrap();
    assert!(refused.contains("incompatible boot id"), "{refused}");
    for name in NAMES {
        Segment::unlink_with(name, &at(place.path())).unwrap();
    }
    let segments = create(place.path());
    for (kind, segment) in Kind::ALL.into_iter().zip(&segments) {
        kind.producer(segment).unwrap().push(message(0, 0)).unwrap();
        assert_eq!(whole(&kind.consumer(segment).unwrap().pop().unwrap()), (0, 0));
    }
}
