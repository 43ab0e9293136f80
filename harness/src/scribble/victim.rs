//! What a victim is: a row of the table says where the words of its structure lie and how a turn of it goes.

use std::fmt;
use std::sync::atomic::Ordering;

use anyhow::Result;
use tidewire_shm::Region;

use super::arena::{Arena, Progress};
use super::dice::Dice;
use super::hostile::Targets;

/// Operations of one turn, about: a turn is what the watchdog waits for.
pub(crate) const TURN: usize = 256;

/// One row of the table: a structure and what is done to it.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) structure: &'static str,
    /// Bytes of the structure.
    pub(crate) bytes: usize,
    /// Creates the structure.
    pub(crate) create: fn(Region) -> Result<()>,
    pub(crate) targets: Targets,
    /// Makes the victim, in its process.
    pub(crate) victim: fn(Arena) -> Box<dyn Victim>,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("structure", &self.structure).finish_non_exhaustive()
    }
}

/// Operations under test.
pub(crate) trait Victim {
    /// About [`TURN`] operations on whatever the memory holds; attaches where it has to.
    ///
    /// An error is a finding: an answer that no memory can justify.
    fn turn(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding>;
}

/// What must not be, whatever the memory holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finding(pub(crate) &'static str);

/// Fails the turn unless the claim holds.
#[inline(always)]
pub(crate) fn must(claim: bool, what: &'static str) -> Result<(), Finding> {
    if claim { Ok(()) } else { Err(Finding(what)) }
}

/// What the victim was doing; [`Act::name`] for people.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Act {
    Rest,
    Open,
    Attach,
    Push,
    PushMany,
    Reserve,
    Pop,
    PopMany,
    Peek,
    Chunk,
    Release,
    Length,
    Write,
    Update,
    Read,
}

impl Act {
    const NAMES: [&'static str; 15] = [
        "rest",
        "open",
        "attach",
        "push",
        "push of many",
        "reserve",
        "pop",
        "pop of many",
        "peek",
        "chunk",
        "release",
        "length",
        "write",
        "update",
        "read",
    ];

    /// The name of a stored act.
    pub(crate) fn name(number: u64) -> &'static str {
        usize::try_from(number).ok().and_then(|n| Self::NAMES.get(n)).copied().unwrap_or("unknown")
    }
}

/// Counts operations, and says in shared memory which one is under way.
#[derive(Debug)]
pub(crate) struct Tally<'p> {
    progress: &'p Progress,
    operations: u64,
    corrupt: u64,
}

impl<'p> Tally<'p> {
    pub(crate) fn new(progress: &'p Progress) -> Self {
        Self { progress, operations: 0, corrupt: 0 }
    }

    /// An operation begins.
    #[inline(always)]
    pub(crate) fn act(&mut self, act: Act) {
        self.operations += 1;
        self.progress.act.store(act as u64, Ordering::Relaxed);
    }

    /// Something was recognised as corrupt.
    #[inline(always)]
    pub(crate) fn corrupt(&mut self) {
        self.corrupt += 1;
    }

    /// A turn is over.
    pub(crate) fn beat(&mut self) {
        self.progress.operations.store(self.operations, Ordering::Relaxed);
        self.progress.corrupt.store(self.corrupt, Ordering::Relaxed);
        self.progress.act.store(Act::Rest as u64, Ordering::Relaxed);
        self.progress.beat.fetch_add(1, Ordering::Release);
    }
}

const CANARY: [u8; 64] = [0xC5; 64];

/// A buffer between two canaries.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Output<B> {
    before: [u8; 64],
    pub(crate) body: B,
    after: [u8; 64],
}

impl<B> Output<B> {
    pub(crate) fn new(body: B) -> Box<Self> {
        Box::new(Self { before: CANARY, body, after: CANARY })
    }

    /// Whether nothing was written around the body.
    pub(crate) fn is_whole(&self) -> bool {
        // The writes that this looks for are none that the compiler knows of.
        let this = std::hint::black_box(self);
        this.before == CANARY && this.after == CANARY
    }
}
