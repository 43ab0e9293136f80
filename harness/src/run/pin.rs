//! Which processors the two sides run on.

use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::subject::Role;

/// A processor for each side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cores {
    /// The producers' processors, taken in turn.
    pub(crate) producers: Vec<usize>,
    pub(crate) consumer: usize,
}

impl Cores {
    /// Processors that this process may use: the first one for the first producer, one on another core for the
    /// consumer where there is one, all but the consumer's for the producers; the same one for all if there is only
    /// one. `None` if the system does not say.
    pub(crate) fn choose() -> Option<Self> {
        let allowed = sched_getaffinity(None).ok()?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
        let &producer = allowed.first()?;
        let others = || allowed.iter().copied().filter(|&cpu| cpu != producer);
        let apart = others().find(|&cpu| core(cpu).is_some_and(|core_of| Some(core_of) != core(producer)));
        let consumer = apart.or_else(|| others().next()).unwrap_or(producer);
        let rest = others().filter(|&cpu| cpu != consumer);
        Some(Self { producers: [producer].into_iter().chain(rest).collect(), consumer })
    }

    /// The processor of a role.
    pub(crate) fn of(&self, role: Role) -> usize {
        let producer = |number: u8| usize::from(number) % self.producers.len().max(1);
        match role {
            Role::Producer(number) => self.producers.get(producer(number)).copied(),
            Role::Consumer => None,
        }
        .unwrap_or(self.consumer)
    }

    /// Whether a role of a row with this many producers shares its processor, so that waiting means giving way.
    pub(crate) fn shared(&self, role: Role, producers: u8) -> bool {
        Role::all(producers).any(|other| other != role && self.of(other) == self.of(role))
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
        assert!(Role::all(16).all(|role| allowed.is_set(cores.of(role))));
        assert_eq!(cores.shared(Role::Consumer, 1), allowed.count() == 1);
        assert_eq!(cores.shared(Role::Producer(0), 1), allowed.count() == 1);
    }

    #[test]
    fn producers_take_processors_in_turn_and_leave_the_consumer_its_own() {
        let cores = Cores { producers: vec![0, 3], consumer: 1 };
        assert_eq!(Role::all(3).map(|role| cores.of(role)).collect::<Vec<_>>(), [0, 3, 0, 1]);
        assert!(cores.shared(Role::Producer(2), 3) && !cores.shared(Role::Producer(0), 2));
        assert!(!cores.shared(Role::Consumer, 16));
    }
}
