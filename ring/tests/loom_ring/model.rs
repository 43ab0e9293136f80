//! How models are run.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The preemption bound that the models are written for.
const BOUND: usize = 3;

/// Explores `body` completely within the preemption bound, and returns that.
pub(crate) fn model(body: impl Fn() + Send + Sync + 'static) -> usize {
    let mut builder = loom::model::Builder::new();
    let bound = *builder.preemption_bound.get_or_insert(BOUND);
    let cut = builder.max_duration.is_some() || builder.max_permutations.is_some();
    assert!(!cut, "a model that is cut by time or by a number of runs ends as passed: unset these bounds");
    builder.check(body);
    bound
}

/// What happened in some schedule of a model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown(Arc<Mutex<BTreeSet<&'static str>>>);

impl Shown {
    /// Notes that something happened.
    pub(crate) fn note(&self, what: &'static str) {
        self.0.lock().unwrap().insert(what);
    }

    /// Whether it happened.
    pub(crate) fn has(&self, what: &'static str) -> bool {
        self.0.lock().unwrap().contains(what)
    }

    /// Notes it if it did.
    pub(crate) fn note_if(&self, happened: bool, what: &'static str) {
        if happened {
            self.note(what);
        }
    }
}

/// As [`model`], and demands that each of `expected` happened in some schedule: a model that never comes to the case
/// that it was written for proves nothing. A smaller bound than the usual one may show less.
pub(crate) fn model_that_shows(expected: &[&'static str], body: impl Fn(&Shown) + Send + Sync + 'static) {
    let shown = Shown::default();
    let inside = shown.clone();
    let bound = model(move || body(&inside));
    let (shown, expected) = (shown.0.lock().unwrap().clone(), expected.iter().copied().collect());
    let missing: Vec<_> = BTreeSet::difference(&expected, &shown).collect();
    assert!(missing.is_empty() || bound < BOUND, "no schedule showed {missing:?}");
    assert!(shown.is_subset(&expected), "expected {expected:?}, shown {shown:?}");
}

/// A word of which two threads use an end each, so that loom tries both orders: it switches threads only where they
/// access the same object.
pub(crate) fn gate() -> (Arc<loom::sync::atomic::AtomicU64>, impl Fn()) {
    let gate = Arc::new(loom::sync::atomic::AtomicU64::new(0));
    let other = Arc::clone(&gate);
    (gate, move || {
        other.load(Ordering::Relaxed);
    })
}

/// One model for each step at which the victim may be killed: `body(k)` kills it before its access number `k + 1`
/// and says whether it was; ends with the first `k` that no schedule reaches.
pub(crate) fn at_every_step(body: impl Fn(u64) -> bool + Send + Sync + 'static) {
    let body = Arc::new(body);
    for step in 0.. {
        let reached = Arc::new(AtomicBool::new(false));
        model({
            let (body, reached) = (Arc::clone(&body), Arc::clone(&reached));
            move || {
                if body(step) {
                    reached.store(true, Ordering::Relaxed);
                }
            }
        });
        if !reached.load(Ordering::Relaxed) {
            assert!(step > 1, "the victim made no steps");
            return;
        }
        assert!(step < 100, "the victim never ends");
    }
}
