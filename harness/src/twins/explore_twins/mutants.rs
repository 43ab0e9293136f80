//! Operations of the rings, each with one thing left out or in the wrong order: the judges of `step`, with the right
//! ring in the survivors' hands, must find every one of them.
//!
//! A mutant borrows a right operation of the table (what is prepared, who judges) and replaces the victim's part by a
//! copy of it on the bare words of the region.

use std::sync::Arc;

use tidewire_ring::{Options, fixed::Ring};
use tidewire_shm::sync::Ordering;
use tidewire_shm::{Origin, Region, Trusted, Untrusted};

use super::Case;
use crate::explore::{Act, Mode, Operation, Outcome, Role, Seen, Stage};
use crate::ops::{self, Bytes, Rig as _, record_of};
use crate::scribble::{DATA, HEAD, TAIL};

/// Where the words of the records' ring lie, which has page stride.
const PAGE_TAIL: usize = 4096;
const PAGE_DATA: usize = 12288;
/// The kind of a frame that holds a message.
const MESSAGE: u64 = 1 << 32;

/// Results of acts.
const DONE: u64 = 1;
const REFUSED: u64 = 2;

type Breaks = fn(&Stage) -> Result<Act<'_>, String>;

pub(super) fn cases() -> Vec<Case> {
    let case = |name, structure, operation, breaks, verdict| {
        let right =
            ops::all().into_iter().find(|right| right.structure() == structure && right.name() == operation);
        Case { operation: Box::new(Mutant { name, right, breaks }), mode: Mode::Kill, verdict }
    };
    vec![
        case(
            "ring: head never stored",
            "ring-fixed",
            "pop",
            keep_head,
            "expected to go on at one of [3], found 2",
        ),
        case(
            "ring: drop never frees the role",
            "ring-fixed",
            "detach a producer",
            keep_role,
            "DetachProducer was done, but the owner is Some(",
        ),
        case(
            "ring: padding frame omitted",
            "ring-bytes",
            "push over the wrap",
            no_padding,
            "found the ring corrupt",
        ),
        case(
            "ring: magic stored first",
            "ring-fixed",
            "create",
            magic_first,
            "expected a ring or no magic: incompatible endianness mark",
        ),
        case("ring: push always full", "ring-fixed", "push", always_full, "expected the answer 1, found 2"),
    ]
}

/// A right operation whose victim does something else.
struct Mutant {
    name: &'static str,
    right: Option<Box<dyn Operation>>,
    breaks: Breaks,
}

impl Mutant {
    fn right(&self) -> Result<&dyn Operation, String> {
        self.right
            .as_deref()
            .ok_or_else(|| format!("{} is made from an operation that is not there", self.name))
    }
}

impl Operation for Mutant {
    fn structure(&self) -> &'static str {
        self.name
    }

    fn name(&self) -> &'static str {
        self.right.as_ref().map_or("", |right| right.name())
    }

    fn bytes(&self) -> usize {
        self.right.as_ref().map_or(1, |right| right.bytes())
    }

    fn modes(&self) -> &'static [Mode] {
        &[Mode::Kill]
    }

    fn names(&self) -> Vec<usize> {
        self.right.as_ref().map(|right| right.names()).unwrap_or_default()
    }

    fn prepare(&self, stage: &Stage) -> Result<(), String> {
        self.right()?.prepare(stage)
    }

    fn victim<'a>(&'a self, stage: &'a Stage) -> Result<Act<'a>, String> {
        (self.breaks)(stage)
    }

    fn judge(&self, stage: &Stage, seen: Seen) -> Result<Outcome, String> {
        self.right()?.judge(stage, seen)
    }
}

fn region(stage: &Stage) -> Result<Region<Untrusted>, String> {
    // SAFETY: the segment is mapped as long as the process; the explorer accesses it only while this process is
    // stopped or dead.
    unsafe { Region::from_raw_parts(stage.segment(), stage.bytes(), Origin::default(), Arc::new(())) }
        .map_err(|error| error.to_string())
}

/// Pops a message and tells nobody.
fn keep_head(stage: &Stage) -> Result<Act<'_>, String> {
    const SLOT: usize = 32;
    const SLOTS: u64 = 4;
    let region = region(stage)?;
    // SAFETY: a position word of a ring with line stride, used as this atomic only; kept with the region.
    let tail = unsafe { region.atomic_u64(TAIL) };
    // SAFETY: as above.
    let head = unsafe { region.atomic_u64(HEAD) };
    // SAFETY: the data of that ring, which has four slots of four words; kept with the region.
    let data = unsafe { region.payload(DATA, SLOT * 4) };
    Ok(Box::new(move || {
        let _kept = &region;
        // ORD own: Relaxed, the head is the victim's.
        let position = head.load(Ordering::Relaxed);
        // ORD ring.publish: Acquire <- `TailCursor::publish`; slots below the tail are filled.
        if tail.load(Ordering::Acquire) == position {
            return REFUSED;
        }
        let place = usize::try_from(position % SLOTS).unwrap_or(0) * SLOT;
        // SAFETY: within the data, aligned, published; any bytes are a message.
        let message: [u64; 4] = unsafe { data.load(place) };
        let [id, ..] = message;
        let [count, first, ..] = stage.output(Role::First);
        // ORD stage: Relaxed, read after this process has ended.
        first.store(id, Ordering::Relaxed);
        // ORD stage: Relaxed, as above.
        count.store(1, Ordering::Relaxed);
        DONE
    }))
}

/// Ends without a word about the role.
fn keep_role(_stage: &Stage) -> Result<Act<'_>, String> {
    Ok(Box::new(|| DONE))
}

/// Puts a record behind the wrap and leaves the rest before it as it was.
fn no_padding(stage: &Stage) -> Result<Act<'_>, String> {
    let region = region(stage)?;
    // SAFETY: the tail of a ring with page stride, used as this atomic only; kept with the region.
    let tail = unsafe { region.atomic_u64(PAGE_TAIL) };
    let capacity = Bytes::CAPACITY;
    let room = usize::try_from(capacity).map_err(|error| error.to_string())?;
    // SAFETY: the data of that ring; kept with the region.
    let data = unsafe { region.payload(PAGE_DATA, room) };
    Ok(Box::new(move || {
        let _kept = &region;
        // ORD own: Relaxed, the tail is the victim's.
        let position = tail.load(Ordering::Relaxed);
        let (padding, size) = Bytes::elements(position, Bytes::WRAPS);
        let mut buffer = [0; 20];
        let record = record_of(Bytes::WRAPS, &mut buffer);
        // SAFETY: a frame at the start of the data, behind the wrap.
        unsafe { data.store(0, &(MESSAGE | record.len() as u64)) };
        // SAFETY: 20 bytes at most, within 128.
        unsafe { data.write_bytes(8, record.as_ptr(), record.len()) };
        // ORD ring.publish: Release -> `HeadCursor::look`; hands over the record, and the rest before it.
        tail.store(position + padding + size, Ordering::Release);
        DONE
    }))
}

/// Copies a new ring into the segment from its first word on, which is the magic.
fn magic_first(stage: &Stage) -> Result<Act<'_>, String> {
    type New = Ring<[u64; 4], Trusted>;
    let error = |error: &dyn std::fmt::Display| error.to_string();
    let made = Region::heap(stage.bytes()).map_err(|found| error(&found))?;
    // SAFETY: for a look at its words after the ring is made and dropped.
    let look = unsafe { made.alias() };
    drop(New::create(made, 4, &Options::new()).map_err(|found| error(&found))?);
    let words: Vec<u64> = (0..stage.bytes() / 8)
        // SAFETY: a word of the region, which lives; nobody else uses it any more.
        .map(|word| unsafe { look.atomic_u64(word * 8) }.load(Ordering::Relaxed))
        .collect();
    let region = region(stage)?;
    // SAFETY: words of the segment; kept with the region.
    let to: Vec<_> = (0..words.len()).map(|word| unsafe { region.atomic_u64(word * 8) }).collect();
    Ok(Box::new(move || {
        let _kept = &region;
        for (to, word) in to.iter().zip(&words) {
            // ORD header.publish: Release -> `Header::read`; far too early for the magic.
            to.store(*word, Ordering::Release);
        }
        DONE
    }))
}

/// Refuses whatever comes.
fn always_full(_stage: &Stage) -> Result<Act<'_>, String> {
    Ok(Box::new(|| REFUSED))
}
