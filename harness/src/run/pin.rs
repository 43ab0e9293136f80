//! Which processors the two sides run on.

use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

/// One processor for each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cores {
    pub(crate) producer: usize,
    pub(crate) consumer: usize,
}

impl Cores {
    /// Two processors that this process may use, on different cores where there are some; the same one twice if
    /// there is only one. `None` if the system does not say.
    pub(crate) fn choose() -> Option<Self> {
        let allowed = sched_getaffinity(None).ok()?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
        let &producer = allowed.first()?;
        let others = || allowed.iter().copied().filter(|&cpu| cpu != producer);
        let apart = others().find(|&cpu| core(cpu).is_some_and(|core_of| Some(core_of) != core(producer)));
        let consumer = apart.or_else(|| others().next()).unwrap_or(producer);
        Some(Self { producer, consumer })
    }

    /// Whether both sides share one processor, so that waiting means giving way.
    pub(crate) fn shared(&self) -> bool {
        self.producer == self.consumer
    }
}

/// Package and core of a processor.
fn core(cpu: usize) -> Option<(i64, i64)> {
    let read = |what: &str| -> Option<i64> {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/{what}");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    Some((read("physical_package_id")?, read("core_id")?))
}

/// Keeps this thread on one processor.
pub(crate) fn pin(cpu: usize) -> rustix::io::Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_processors_are_allowed_and_differ_if_they_can() {
        let allowed = sched_getaffinity(None).unwrap();
        let cores = Cores::choose().unwrap();
        assert!(allowed.is_set(cores.producer) && allowed.is_set(cores.consumer));
        assert_eq!(cores.shared(), allowed.count() == 1);
    }
}
