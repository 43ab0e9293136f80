//! Levers on the model: weaken one ordering, stop a thread at one step, make a compare-exchange fail.
//!
//! Only under `--cfg loom`. The environment selects a mutation for a whole run, so that one test binary serves
//! every mutant:
//!
//! | variable | effect |
//! |---|---|
//! | `TIDEWIRE_ORD_RECORD=path` | appends each ordering site once, as `file:line:column kind ordering` |
//! | `TIDEWIRE_ORD_MUTANT=file:line:column kind ordering` | uses that ordering at that site (`None` removes a fence) |
//! | `TIDEWIRE_STALE_CAS=1` | a compare-exchange may fail with any value that a plain load could return |
#![allow(clippy::std_instead_of_alloc, reason = "a model has std, and must stop where it is wrong")]

use core::fmt;
use core::panic::Location;
use core::sync::atomic::Ordering;
use std::collections::HashSet;
use std::io::Write;
use std::string::String;
use std::sync::{Mutex, OnceLock};
use std::{boxed::Box, env, format, panic};

/// What an atomic site does; part of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A load.
    Load,
    /// A store.
    Store,
    /// The success ordering of a read-modify-write.
    Rmw,
    /// The failure ordering of a compare-exchange.
    CasFail,
    /// A fence.
    Fence,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Load, Self::Store, Self::Rmw, Self::CasFail, Self::Fence];

    fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Store => "store",
            Self::Rmw => "rmw",
            Self::CasFail => "casfail",
            Self::Fence => "fence",
        }
    }
}

/// A call site of an atomic operation: cheap to compare, in the order in which sites differ soonest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Site {
    line: u32,
    column: u32,
    kind: Kind,
    file: &'static str,
}

impl Site {
    fn new(at: &'static Location<'static>, kind: Kind) -> Self {
        Self { line: at.line(), column: at.column(), kind, file: at.file() }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{} {}", self.file, self.line, self.column, self.kind.name())
    }
}

struct Mutant {
    site: Site,
    to: Option<Ordering>,
}

fn parse_mutant(text: &'static str) -> Option<Mutant> {
    let mut words = text.split(' ');
    let (at, kind, to) = (words.next()?, words.next()?, words.next()?);
    let (at, column) = at.rsplit_once(':')?;
    let (file, line) = at.rsplit_once(':')?;
    let to = match to {
        "Relaxed" => Some(Ordering::Relaxed),
        "Acquire" => Some(Ordering::Acquire),
        "Release" => Some(Ordering::Release),
        "AcqRel" => Some(Ordering::AcqRel),
        "SeqCst" => Some(Ordering::SeqCst),
        "None" if kind == Kind::Fence.name() => None,
        _ => return None,
    };
    let kind = Kind::ALL.into_iter().find(|k| k.name() == kind)?;
    let site = Site { line: line.parse().ok()?, column: column.parse().ok()?, kind, file };
    words.next().is_none().then_some(Mutant { site, to })
}

fn mutant() -> Option<&'static Mutant> {
    static MUTANT: OnceLock<Option<Mutant>> = OnceLock::new();
    MUTANT
        .get_or_init(|| {
            let text = env::var("TIDEWIRE_ORD_MUTANT").ok()?;
            let mutant = parse_mutant(text.clone().leak());
            Some(mutant.unwrap_or_else(|| {
                panic!("TIDEWIRE_ORD_MUTANT: expected `file:line:column kind ordering`, found `{text}`")
            }))
        })
        .as_ref()
}

fn record(site: Site, order: Ordering) {
    static PATH: OnceLock<Option<String>> = OnceLock::new();
    static SEEN: OnceLock<Mutex<HashSet<(Site, Ordering)>>> = OnceLock::new();
    let Some(path) = PATH.get_or_init(|| env::var("TIDEWIRE_ORD_RECORD").ok()) else { return };
    let mut seen = SEEN.get_or_init(Mutex::default).lock().expect("no model panics while it holds this lock");
    if !seen.insert((site, order)) {
        return;
    }
    let mut file =
        std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the record opens");
    file.write_all(format!("{site} {order:?}\n").as_bytes()).expect("the record is written");
}

/// The ordering to use at a site; `None` only for a fence that the mutant removes.
pub(crate) fn ordering(at: &'static Location<'static>, kind: Kind, order: Ordering) -> Option<Ordering> {
    let site = Site::new(at, kind);
    record(site, order);
    match mutant() {
        Some(m) if m.site == site => m.to,
        _ => Some(order),
    }
}

/// Whether a failing compare-exchange may return a stale value here.
pub(crate) fn stale_cas() -> bool {
    static EVERYWHERE: OnceLock<bool> = OnceLock::new();
    *EVERYWHERE.get_or_init(|| env::var_os("TIDEWIRE_STALE_CAS").is_some())
        || STALE.with(core::cell::Cell::get)
}

loom::thread_local! {
    static STEPS_LEFT: core::cell::Cell<Option<u64>> = core::cell::Cell::new(None);
    static DEAD: core::cell::Cell<bool> = core::cell::Cell::new(false);
    static SPURIOUS: core::cell::Cell<u32> = core::cell::Cell::new(0);
    static STALE: core::cell::Cell<bool> = core::cell::Cell::new(false);
}

struct Killed;

/// Called before each access to shared memory; false if the thread is dead and the access must not happen.
pub(crate) fn step() -> bool {
    if DEAD.with(core::cell::Cell::get) {
        return false;
    }
    match STEPS_LEFT.with(core::cell::Cell::get) {
        None => true,
        Some(0) => {
            DEAD.with(|dead| dead.set(true));
            panic::resume_unwind(Box::new(Killed));
        }
        Some(left) => {
            STEPS_LEFT.with(|steps| steps.set(Some(left - 1)));
            true
        }
    }
}

/// Whether this compare-exchange-weak must fail spuriously.
pub(crate) fn spurious_failure() -> bool {
    SPURIOUS.with(|left| match left.get() {
        0 => false,
        n => {
            left.set(n - 1);
            true
        }
    })
}

/// Makes the next `n` weak compare-exchanges of this model thread fail spuriously.
pub fn fail_weak_cas(n: u32) {
    SPURIOUS.with(|left| left.set(n));
}

/// Lets the compare-exchanges of this model thread fail with any value that a plain load could return, as
/// `TIDEWIRE_STALE_CAS=1` does for all threads.
pub fn fail_stale_cas(on: bool) {
    STALE.with(|stale| stale.set(on));
}

/// Runs `body` and kills this model thread before its access number `steps + 1` to shared memory.
///
/// From then on the thread changes nothing, not even while its handles are dropped: what the others find is
/// what a process leaves behind that was killed there. Returns the result of `body`, or `None` if it was killed.
pub fn killed_after<R>(steps: u64, body: impl FnOnce() -> R) -> Option<R> {
    STEPS_LEFT.with(|left| left.set(Some(steps)));
    let outcome = panic::catch_unwind(panic::AssertUnwindSafe(body));
    STEPS_LEFT.with(|left| left.set(None));
    match outcome {
        Ok(value) => Some(value),
        Err(payload) if payload.is::<Killed>() => None,
        Err(payload) => panic::resume_unwind(payload),
    }
}

/// Kills this model thread here: nothing that it drops later reaches shared memory.
pub fn die() {
    DEAD.with(|dead| dead.set(true));
}
