//! Named segments, stopped at the entry and the exit of every system call.
//!
//! What others can see of a segment is files: names in a directory, and what lies behind them. Only system calls
//! change those, but for the contents of memory that nobody else can open yet; so an operation that is stopped at
//! each of them shows every state that it can leave.
//!
//! Whatever happens to the victim, the survivors must find no segment or a whole one, of the length and with the
//! structure that its creator gave it; the next creation must succeed; and what a creation leaves beside the segment,
//! the next one must have removed.

use std::cell::OnceCell;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use tempfile::TempDir;
use tidewire_ring::{Options, fixed::Ring};
use tidewire_shm::{Region, Segment, SegmentError, SegmentOptions, Untrusted};

use crate::explore::{Act, Mode, Operation, Outcome, Role, Seen, Stage, Stride};

mod joining;

/// Memory file systems have unnamed files, and keep them out of the way.
const MEMORY: &str = "/dev/shm";
/// The name of the segment.
pub(crate) const NAME: &str = "ticks";
/// What the survivors create to see that they can.
const NEXT: &str = "next";
const CAPACITY: usize = 64;
/// The length of the segment: room for the ring, in whole pages.
pub(crate) const BYTES: usize = 4096;

type Slots = Ring<[u64; 4], Untrusted>;
type Verdict<T> = Result<T, String>;

/// Results of acts.
const CREATED: u64 = 1;
const OPENED: u64 = 2;
const TAKEN: u64 = 3;
const GONE: u64 = 4;
const WITHDRAWN: u64 = 5;
const FAILED: u64 = 6;

const MODES: &[Mode] = &[Mode::Kill, Mode::Freeze, Mode::Double];

/// Makes the named segment in a directory that is there; tells how it went by one of the results.
pub(crate) type Make = fn(&Path) -> u64;

/// What the victim does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Create,
    OpenOrCreate,
    Withdraw,
}

/// One row of the table.
pub(crate) struct SegmentOperation {
    structure: &'static str,
    name: &'static str,
    deed: Deed,
    /// By way of a named temporary file.
    named_temporary: bool,
    /// There is a segment before.
    there: bool,
    /// There is a directory before.
    directory: bool,
    /// A creation that is not the library's.
    make: Option<Make>,
    modes: &'static [Mode],
    /// Made when it is first needed, removed at the end.
    home: OnceCell<TempDir>,
}

/// The operations of named segments.
pub(super) fn operations() -> Vec<Box<dyn Operation>> {
    let renamed = |row| SegmentOperation { named_temporary: true, ..row };
    let alone = |row| SegmentOperation { directory: false, ..row };
    let there = |row| SegmentOperation { there: true, ..row };
    let rows = [
        row("segment-create", Deed::Create),
        alone(row("segment-create, no directory", Deed::Create)),
        row("segment-open-or-create", Deed::OpenOrCreate),
        renamed(row("segment-create, rename", Deed::Create)),
        renamed(alone(row("segment-create, rename, no dir.", Deed::Create))),
        renamed(row("segment-open-or-create, rename", Deed::OpenOrCreate)),
        there(row("segment-open", Deed::OpenOrCreate)),
        there(row("segment-withdraw", Deed::Withdraw)),
    ];
    let rows = rows.into_iter().map(|row| Box::new(row) as Box<dyn Operation>);
    rows.chain(joining::operations()).collect()
}

fn row(name: &'static str, deed: Deed) -> SegmentOperation {
    SegmentOperation {
        structure: "segment",
        name,
        deed,
        named_temporary: false,
        there: false,
        directory: true,
        make: None,
        modes: MODES,
        home: OnceCell::new(),
    }
}

/// Fills a new segment.
pub(crate) fn init(region: Region<Untrusted>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    Slots::create(region, CAPACITY, &Options::new())?;
    Ok(())
}

fn result(made: Result<Segment, SegmentError>, kept: &mut Option<Segment>) -> u64 {
    match made {
        Ok(segment) => {
            let created = segment.is_created();
            *kept = Some(segment);
            if created { CREATED } else { OPENED }
        }
        Err(SegmentError::AlreadyExists { .. }) => TAKEN,
        Err(_) => FAILED,
    }
}

impl SegmentOperation {
    /// A creation that is not the library's, killed at every call.
    pub(crate) fn broken(structure: &'static str, make: Make) -> Self {
        Self { structure, make: Some(make), modes: &[Mode::Kill], ..row("create", Deed::Create) }
    }

    fn place(&self) -> Verdict<PathBuf> {
        if let Some(home) = self.home.get() {
            return Ok(home.path().join("segments"));
        }
        let made = tempfile::Builder::new().prefix("tidewire-step-").tempdir_in(MEMORY);
        let made = made.map_err(|error| format!("making a directory in {MEMORY}: {error}"))?;
        Ok(self.home.get_or_init(|| made).path().join("segments"))
    }

    fn options(&self) -> Verdict<SegmentOptions> {
        Ok(SegmentOptions::new().directory(self.place()?).named_temporary(self.named_temporary))
    }

    /// The names in the directory; none where there is no directory.
    fn entries(&self) -> Verdict<Vec<String>> {
        let entries = match fs::read_dir(self.place()?) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries,
        };
        let named =
            |entry: std::io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        let names: std::io::Result<Vec<String>> = entries.and_then(|entries| entries.map(named).collect());
        let mut names = names.map_err(|error| format!("reading the directory: {error}"))?;
        names.sort();
        Ok(names)
    }

    /// The segment, checked to be whole; `None` if there is none.
    fn look(&self) -> Verdict<Option<Slots>> {
        let segment = match Segment::open_with(NAME, &self.options()?) {
            Ok(segment) => segment,
            Err(SegmentError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(format!("expected a whole segment or none: {error}")),
        };
        if segment.len() != BYTES {
            return Err(format!("expected a segment of {BYTES} bytes, found {}", segment.len()));
        }
        let ring = Slots::open(segment.region(), 0)
            .map_err(|error| format!("expected a segment with a ring: {error}"))?;
        let owners = [ring.producer_owner(), ring.consumer_owner()];
        if ring.capacity() != CAPACITY || owners != [None; 2] {
            return Err(format!("expected a new ring of {CAPACITY} slots, found {ring:?} with {owners:?}"));
        }
        Ok(Some(ring))
    }

    /// Moves messages through the ring of a segment.
    fn use_it(ring: &Slots) -> Verdict<()> {
        let taken = |error| format!("taking a role: {error}");
        let mut producer = ring.producer().map_err(taken)?;
        let mut consumer = ring.consumer().map_err(taken)?;
        for id in 0..3 * CAPACITY as u64 {
            producer.push([id; 4]).map_err(|error| format!("pushing {id}: {error}"))?;
            match consumer.pop() {
                Ok(found) if found == [id; 4] => {}
                found => return Err(format!("expected message {id}, found {found:?}")),
            }
        }
        Ok(())
    }

    fn make_again(&self) -> Verdict<Segment> {
        let made = Segment::open_or_create_with(NAME, BYTES, &self.options()?, init);
        made.map_err(|error| format!("expected that the segment can be opened or created: {error}"))
    }

    /// Whether the answers and what is there go together; `recovery` if somebody else was about to make it again.
    fn check_answers(&self, seen: Seen, there: bool, recovery: bool) -> Verdict<()> {
        let legal = match (self.deed, seen.first) {
            (_, None) => true,
            (Deed::Create, Some(answer)) => answer == CREATED && there,
            (Deed::OpenOrCreate, Some(answer)) => {
                answer == if self.there { OPENED } else { CREATED } && there
            }
            (Deed::Withdraw, Some(answer)) => answer == WITHDRAWN && (recovery || !there),
        };
        let recovered = seen.second.is_none_or(|answer| [CREATED, OPENED].contains(&answer) && there);
        if legal && recovered {
            return Ok(());
        }
        let found = if there { "there is a segment" } else { "there is none" };
        Err(format!("{:?} answered {:?}, the next one {:?}, but {found}", self.deed, seen.first, seen.second))
    }

    /// What the others find, and that they can go on.
    fn settle(&self) -> Verdict<bool> {
        let there = self.look()?;
        if self.there && there.is_none() && self.deed != Deed::Withdraw {
            return Err("expected the segment that was there, found none".to_owned());
        }
        let again = Segment::create_with(NAME, BYTES, &self.options()?, init);
        match (again, &there) {
            (Ok(_), None) | (Err(SegmentError::AlreadyExists { .. }), Some(_)) => {}
            (Ok(_), Some(_)) => return Err("a segment was created where one was".to_owned()),
            (Err(error), _) => return Err(format!("the next creation: {error}")),
        }
        Segment::create_with(NEXT, BYTES, &self.options()?, init)
            .map_err(|error| format!("the creation of another segment: {error}"))?;
        let entries = self.entries()?;
        if entries != [NEXT, NAME] {
            return Err(format!("expected {NEXT} and {NAME} alone, found {entries:?}"));
        }
        let ring = self.look()?.ok_or("expected the segment, found none")?;
        Self::use_it(&ring)?;
        Ok(there.is_some())
    }

    /// What tells two states of the directory apart for those who look at it.
    fn fingerprint(&self) -> Verdict<u64> {
        let mut state = DefaultHasher::new();
        for name in self.entries()? {
            // Temporary names are drawn.
            let shown = if name == NAME { NAME } else { name.get(..1).unwrap_or_default() };
            shown.hash(&mut state);
            let path = self.place()?.join(&name);
            let metadata = fs::metadata(&path).map_err(|error| format!("{name}: {error}"))?;
            (metadata.len(), metadata.blocks(), metadata.mode(), metadata.nlink()).hash(&mut state);
            let mut bytes = fs::read(&path).map_err(|error| format!("{name}: {error}"))?;
            if let Some(nonce) = bytes.get_mut(NONCE) {
                let drawn = nonce.iter().any(|byte| *byte != 0);
                nonce.fill(u8::from(drawn));
            }
            bytes.hash(&mut state);
        }
        Ok(state.finish())
    }
}

/// Where the header says at which draw it was made.
const NONCE: std::ops::Range<usize> = 96..112;

impl Operation for SegmentOperation {
    fn structure(&self) -> &'static str {
        self.structure
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn bytes(&self) -> usize {
        1
    }

    fn modes(&self) -> &'static [Mode] {
        self.modes
    }

    fn stride(&self) -> Stride {
        Stride::Call
    }

    fn prepare(&self, _stage: &Stage) -> Verdict<()> {
        let place = self.place()?;
        match fs::remove_dir_all(&place) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("emptying {}: {error}", place.display()));
            }
            _ => {}
        }
        if self.directory {
            let private = fs::Permissions::from_mode(0o700);
            fs::create_dir(&place)
                .and_then(|()| fs::set_permissions(&place, private))
                .map_err(|error| format!("making {}: {error}", place.display()))?;
        }
        if self.there {
            self.make_again()?;
        }
        Ok(())
    }

    fn victim<'a>(&'a self, _stage: &'a Stage) -> Verdict<Act<'a>> {
        let (place, options, mut kept) = (self.place()?, self.options()?, None);
        if let Some(make) = self.make {
            return Ok(Box::new(move || make(&place)));
        }
        Ok(match self.deed {
            Deed::Create => {
                Box::new(move || result(Segment::create_with(NAME, BYTES, &options, init), &mut kept))
            }
            Deed::OpenOrCreate => {
                Box::new(move || result(Segment::open_or_create_with(NAME, BYTES, &options, init), &mut kept))
            }
            Deed::Withdraw => {
                let segment = self.make_again()?;
                Box::new(move || match segment.withdraw() {
                    Ok(()) => WITHDRAWN,
                    Err(SegmentError::NotFound { .. }) => GONE,
                    Err(_) => FAILED,
                })
            }
        })
    }

    fn judge(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        let there = self.look()?.is_some();
        let [mark, ..] = stage.output(Role::Second);
        // ORD stage: Relaxed, the act's process has ended.
        self.check_answers(seen, there, mark.load(Ordering::Relaxed) != 0)?;
        let there = self.settle()?;
        let happened = if self.deed == Deed::Withdraw { !there } else { there };
        Ok(if happened { Outcome::Present } else { Outcome::Absent })
    }

    fn interfere(&self, stage: &Stage) -> Verdict<()> {
        let made = self.make_again()?;
        let [note, ..] = stage.notes();
        // ORD stage: Relaxed, read after this process has ended.
        note.store(if made.is_created() { CREATED } else { OPENED }, Ordering::Relaxed);
        // The next creation sweeps, the victim's file too if that is not locked yet.
        Segment::create_with(NEXT, BYTES, &self.options()?, init)
            .and_then(|next| next.withdraw())
            .map_err(|error| format!("creating and withdrawing another segment: {error}"))
    }

    fn judge_frozen(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        let [note, ..] = stage.notes();
        // ORD stage: Relaxed, the others have ended.
        let others = note.load(Ordering::Relaxed);
        let legal: &[(u64, u64)] = match self.deed {
            Deed::Create => &[(CREATED, OPENED), (TAKEN, CREATED)],
            Deed::OpenOrCreate if self.there => &[(OPENED, OPENED)],
            Deed::OpenOrCreate => &[(CREATED, OPENED), (OPENED, CREATED)],
            // Behind the victim's back it is made again, or it was never gone.
            Deed::Withdraw => &[(WITHDRAWN, OPENED), (WITHDRAWN, CREATED)],
        };
        let first = seen.first.ok_or("the victim resumed but did not come to an end")?;
        if !legal.contains(&(first, others)) {
            return Err(format!("expected one of the answers {legal:?}, found {first} and {others}"));
        }
        let there = self.settle()?;
        if there == (self.deed == Deed::Withdraw && others == OPENED) {
            return Err(format!("answered {first} and {others}: there is a segment: {there}"));
        }
        let happened = [CREATED, WITHDRAWN].contains(&first);
        Ok(if happened { Outcome::Present } else { Outcome::Absent })
    }

    fn recover<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        let [mark, ..] = stage.output(Role::Second);
        // ORD stage: Relaxed, read after this process has ended.
        mark.store(1, Ordering::Relaxed);
        let (options, mut kept) = (self.options()?, None);
        Ok(Box::new(move || result(Segment::open_or_create_with(NAME, BYTES, &options, init), &mut kept)))
    }

    fn outside(&self) -> u64 {
        // What cannot be read is a state of its own; the survivors will say what is wrong with it.
        self.fingerprint().unwrap_or(0)
    }
}
