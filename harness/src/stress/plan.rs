//! What happens in a round: a function of the seed and the number of the round, and of nothing else.

use serde::{Deserialize, Serialize};

use crate::subject::{Numbers, Role, Shape, Subject};

/// Messages of a round at the most.
pub(crate) const BUDGET: u64 = 1 << 19;

/// Where the processes may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Pins {
    /// Wherever the kernel puts them.
    Free,
    /// Each on a processor of its own, if there are two.
    Apart,
    /// Both on one.
    OneCore,
}

/// What the parent does to its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Act {
    /// SIGKILL; a successor takes the role over.
    Kill(Role),
    /// SIGSTOP, and SIGCONT after this many microseconds.
    Stop(Role, u64),
    /// Another place to run.
    Pin(Pins),
    /// Other priorities: the producer's and the consumer's.
    Nice(i32, i32),
}

/// An act and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Planned {
    /// Microseconds after the start of the round.
    pub(crate) at_us: u64,
    /// What is done then.
    pub(crate) act: Act,
}

/// What may be planned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Everything runs on one processor.
    pub(crate) one_core: bool,
    /// Every round runs with extreme priorities.
    pub(crate) nice: bool,
    /// Length of a round.
    pub(crate) round_ms: u64,
}

/// A round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Round {
    /// Its number.
    pub(crate) number: u64,
    /// What its processes derive their own choices from.
    pub(crate) seed: u64,
    /// The number of the row that it belongs to.
    pub(crate) cell: usize,
    /// Size and laziness of the structure.
    pub(crate) shape: Shape,
    /// Everything runs on one processor.
    pub(crate) one_core: bool,
    /// Where the processes begin.
    pub(crate) pins: Pins,
    /// Their first priorities: the producer's and the consumer's.
    pub(crate) nice: (i32, i32),
    /// What is done to them, in order.
    pub(crate) acts: Vec<Planned>,
    /// When it ends at the latest.
    pub(crate) ms: u64,
}

impl Round {
    /// Where the processes end: where they all may run, unless everything runs on one processor.
    pub(crate) fn last_pins(&self) -> Pins {
        if self.one_core { Pins::OneCore } else { Pins::Free }
    }
}

/// What a plan must know of the structure of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    /// The smallest and the largest capacity.
    pub(crate) capacities: (usize, usize),
    /// How many producers there are.
    pub(crate) producers: u8,
}

impl Cell {
    /// The cell of a structure.
    pub(crate) fn of(subject: &dyn Subject) -> Self {
        Self { capacities: subject.capacities(), producers: subject.producers() }
    }
}

/// Plans round `number` of these rows.
pub(crate) fn round(seed: u64, number: u64, limits: &Limits, cells: &[Cell]) -> Round {
    let mut numbers = Numbers::new(seed, number);
    let cell = usize::try_from(number % (cells.len() as u64).max(1)).unwrap_or(0);
    let smallest = Cell { capacities: (8, 8), producers: 1 };
    let Cell { capacities: (least, most), producers } = cells.get(cell).copied().unwrap_or(smallest);
    let doublings = u64::from(most.ilog2() - least.ilog2());
    let capacity = least << numbers.below(doublings + 1);
    let release_every = match numbers.below(4) {
        0 => 1,
        1 => capacity as u64,
        _ => capacity as u64 / 8,
    };
    let pins = pins(&mut numbers, limits);
    let extreme = limits.nice | numbers.once_in(4);
    let nice = nice(&mut numbers, extreme);
    let mut acts = Vec::new();
    let mut at_us = 0;
    // Some rounds are calm, most are not; the mean distance of two acts says how much.
    let pace = match numbers.below(4) {
        0 => 2_000,
        1 => 4_000,
        2 => 8_000,
        _ => 40_000,
    };
    loop {
        at_us += numbers.between(100, 2 * pace);
        if at_us >= limits.round_ms * 1_000 {
            break;
        }
        acts.push(Planned { at_us, act: act(&mut numbers, limits, producers) });
    }
    let shape = Shape { capacity, release_every: release_every.max(1) };
    let one_core = limits.one_core;
    Round { number, seed: numbers.next(), cell, shape, one_core, pins, nice, acts, ms: limits.round_ms }
}

fn act(numbers: &mut Numbers, limits: &Limits, producers: u8) -> Act {
    let role = match numbers.once_in(2) {
        true if producers > 1 => Role::Producer(u8::try_from(numbers.below(producers.into())).unwrap_or(0)),
        true => Role::Producer(0),
        false => Role::Consumer,
    };
    match numbers.below(16) {
        0..=7 => Act::Kill(role),
        8..=12 => {
            // Mostly shorter than a time slice, sometimes much longer.
            let most = if numbers.once_in(8) { 30_000 } else { 3_000 };
            Act::Stop(role, numbers.between(10, most))
        }
        13..=14 => Act::Pin(pins(numbers, limits)),
        _ => {
            let extreme = limits.nice || numbers.once_in(2);
            let (producer, consumer) = nice(numbers, extreme);
            Act::Nice(producer, consumer)
        }
    }
}

fn pins(numbers: &mut Numbers, limits: &Limits) -> Pins {
    if limits.one_core {
        return Pins::OneCore;
    }
    match numbers.below(4) {
        0 => Pins::OneCore,
        1 => Pins::Apart,
        _ => Pins::Free,
    }
}

fn nice(numbers: &mut Numbers, extreme: bool) -> (i32, i32) {
    match (extreme, numbers.once_in(2)) {
        (false, _) => (0, 0),
        (true, true) => (-20, 19),
        (true, false) => (19, -20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { one_core: false, nice: false, round_ms: 400 };
    const CELLS: [Cell; 2] =
        [Cell { capacities: (8, 1024), producers: 1 }, Cell { capacities: (4096, 65536), producers: 1 }];

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_another() {
        for number in 0..50 {
            let one = round(7, number, &LIMITS, &CELLS);
            assert_eq!(one, round(7, number, &LIMITS, &CELLS));
            assert_ne!(one.acts, round(8, number, &LIMITS, &CELLS).acts);
            assert_ne!(one.acts, round(7, number + 2, &LIMITS, &CELLS).acts);
        }
    }

    #[test]
    fn plans_keep_their_limits_and_do_everything() {
        let mut kinds = [0; 4];
        let mut capacities = std::collections::BTreeSet::new();
        for number in 0..400 {
            let round = round(1, number, &LIMITS, &CELLS);
            let (least, most) = CELLS[round.cell].capacities;
            assert!(round.shape.capacity.is_power_of_two());
            assert!((least..=most).contains(&round.shape.capacity));
            assert!((1..=round.shape.capacity as u64).contains(&round.shape.release_every));
            assert!(round.acts.is_sorted_by_key(|planned| planned.at_us));
            assert!(round.acts.iter().all(|planned| planned.at_us < 400_000));
            capacities.insert(round.shape.capacity);
            for planned in &round.acts {
                kinds[match planned.act {
                    Act::Kill(_) => 0,
                    Act::Stop(..) => 1,
                    Act::Pin(_) => 2,
                    Act::Nice(..) => 3,
                }] += 1;
            }
        }
        assert!(kinds.iter().all(|&n| n > 100), "{kinds:?}");
        assert!(capacities.len() > 8, "{capacities:?}");
    }

    #[test]
    fn one_core_and_nice_hold_in_every_round() {
        let limits = Limits { one_core: true, nice: true, ..LIMITS };
        for number in 0..50 {
            let round = round(3, number, &limits, &CELLS);
            assert_eq!(round.pins, Pins::OneCore);
            assert!(matches!(round.nice, (-20, 19) | (19, -20)));
            for planned in round.acts {
                match planned.act {
                    Act::Pin(pins) => assert_eq!(pins, Pins::OneCore),
                    Act::Nice(one, other) => assert!(one != 0 && other != 0),
                    Act::Kill(_) | Act::Stop(..) => {}
                }
            }
        }
    }

    #[test]
    fn each_of_several_producers_has_its_share_of_the_acts() {
        let cells = [Cell { capacities: (64, 64), producers: 4 }];
        let mut kills = [0; 5];
        for number in 0..200 {
            for planned in round(5, number, &LIMITS, &cells).acts {
                if let Act::Kill(role) = planned.act {
                    kills[match role {
                        Role::Producer(number) => usize::from(number),
                        Role::Consumer => 4,
                    }] += 1;
                }
            }
        }
        assert!(kills.iter().all(|&n| n > 100) && kills[4] > 2 * kills[0], "{kills:?}");
    }
}
