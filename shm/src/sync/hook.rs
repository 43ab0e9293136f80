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

use core::panic::Location;
use core::sync::atomic::Ordering;
use std::collections::HashSet;
use std::io::Write;
use std::string::{String, ToString};
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

struct Mutant {
    site: String,
    kind: String,
    to: Option<Ordering>,
}

fn parse_ordering(name: &str) -> Option<Ordering> {
    match name {
        "Relaxed" => Some(Ordering::Relaxed),
        "Acquire" => Some(Ordering::Acquire),
        "Release" => Some(Ordering::Release),
        "AcqRel" => Some(Ordering::AcqRel),
        "SeqCst" => Some(Ordering::SeqCst),
        "None" => None,
        other => panic!("TIDEWIRE_ORD_MUTANT names an unknown ordering: {other}"),
    }
}

fn mutant() -> Option<&'static Mutant> {
    static MUTANT: OnceLock<Option<Mutant>> = OnceLock::new();
    MUTANT
        .get_or_init(|| {
            let text = env::var("TIDEWIRE_ORD_MUTANT").ok()?;
            let mut words = text.split(' ');
            let (site, kind, to) = (words.next()?, words.next()?, words.next()?);
            Some(Mutant { site: site.to_string(), kind: kind.to_string(), to: parse_ordering(to) })
        })
        .as_ref()
}

fn record(site: &str, kind: Kind, order: Ordering) {
    static PATH: OnceLock<Option<String>> = OnceLock::new();
    static SEEN: OnceLock<Mutex<HashSet<String>>> = OnceLock::new();
    let Some(path) = PATH.get_or_init(|| env::var("TIDEWIRE_ORD_RECORD").ok()) else { return };
    let line = format!("{site} {} {order:?}\n", kind.name());
    let mut seen = SEEN.get_or_init(Mutex::default).lock().expect("no model panics while it holds this lock");
    if seen.contains(&line) {
        return;
    }
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the record opens");
    file.write_all(line.as_bytes()).expect("the record is written");
    seen.insert(line);
}

/// The ordering to use at a site; `None` only for a fence that the mutant removes.
pub(crate) fn ordering(at: &Location<'_>, kind: Kind, order: Ordering) -> Option<Ordering> {
    let site = format!("{}:{}:{}", at.file(), at.line(), at.column());
    record(&site, kind, order);
    match mutant() {
        Some(m) if m.site == site && m.kind == kind.name() => m.to,
        _ => Some(order),
    }
}

/// Whether a failing compare-exchange may return a stale value in this run.
pub(crate) fn stale_cas() -> bool {
    static STALE: OnceLock<bool> = OnceLock::new();
    *STALE.get_or_init(|| env::var_os("TIDEWIRE_STALE_CAS").is_some())
}

loom::thread_local! {
    static STEPS_LEFT: core::cell::Cell<Option<u64>> = core::cell::Cell::new(None);
    static DEAD: core::cell::Cell<bool> = core::cell::Cell::new(false);
    static SPURIOUS: core::cell::Cell<u32> = core::cell::Cell::new(0);
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

/// Runs `body` and then kills the thread: nothing that it drops later reaches shared memory.
pub fn die() {
    DEAD.with(|dead| dead.set(true));
}
