//! Bells under total store order, with stores that wait in buffers: an exhaustive search of all schedules.
//!
//! The model checker for weak memory cannot express `membarrier`, so membarrier mode is checked here, on the memory
//! model of x86: every processor has a first-in first-out buffer of stores that it reads from first, and that drains
//! at any time; a fence, a locked instruction and a barrier of the kernel drain it. Each actor is a small program; the
//! search visits every state that any schedule reaches, and a state in which a sleeper sleeps for ever is a lost
//! wake-up.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests, which may panic and print"
)]

use std::collections::HashSet;

const RINGERS: usize = 2;
/// Words: a tail per ringer, and the flag.
const FLAG: usize = RINGERS;
const WORDS: usize = RINGERS + 1;

/// Flag: 0 awake, else announcement * 4 + 1 asleep or 3 rung, as in the shipped bell.
const STATE: u8 = 3;
const ASLEEP: u8 = 1;
const RUNG: u8 = 3;

/// A store that others do not see yet.
type Buffer = Vec<(usize, u8)>;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    // The ringer.
    Publish,
    RingerFence,
    Look,
    Mark(u8),
    Wake(u8),
    // The sleeper.
    Check,
    Raise,
    SleeperFence,
    /// The kernel interrupts the ringers one by one; those from here on are still to be.
    Barrier(usize),
    Again,
    Sleep,
    Asleep,
    Lower,
    // Both.
    Done,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Ringer {
    at: At,
    sent: u8,
    /// The announcement that it has woken for; 0: none.
    done: u8,
    buffer: Buffer,
    dead: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    memory: [u8; WORDS],
    ringers: [Ringer; RINGERS],
    sleeper: At,
    buffer: Buffer,
    announcements: u8,
    seen: [u8; RINGERS],
}

/// What the actors do; `MEMBARRIER` and `FENCES` are right.
#[derive(Clone, Copy, Debug)]
struct Ways {
    ringers: usize,
    /// The first ringer may be killed anywhere; then only the messages of the others count.
    killer: bool,
    ringer_fence: bool,
    sleeper_fence: bool,
    barrier: bool,
    /// The barrier comes before the flag is raised.
    barrier_early: bool,
    /// How many ringers are registered for the barrier.
    registered: usize,
    look_again: bool,
    mark: bool,
    /// A ringer wakes once per announcement.
    once: bool,
    ringer_lowers: bool,
}

const MEMBARRIER: Ways = Ways {
    ringers: 1,
    killer: false,
    ringer_fence: false,
    sleeper_fence: false,
    barrier: true,
    barrier_early: false,
    registered: RINGERS,
    look_again: true,
    mark: true,
    once: true,
    ringer_lowers: false,
};

const FENCES: Ways = Ways { ringer_fence: true, sleeper_fence: true, barrier: false, ..MEMBARRIER };

fn load(memory: &[u8; WORDS], buffer: &Buffer, word: usize) -> u8 {
    buffer.iter().rev().find(|(at, _)| *at == word).map_or(memory[word], |(_, value)| *value)
}

fn drain(memory: &mut [u8; WORDS], buffer: &mut Buffer) {
    for (word, value) in buffer.drain(..) {
        memory[word] = value;
    }
}

impl State {
    fn new(ways: Ways) -> Self {
        let ringer = |index| Ringer {
            at: if index < ways.ringers { At::Publish } else { At::Done },
            sent: 0,
            done: 0,
            buffer: Buffer::new(),
            dead: false,
        };
        Self {
            memory: [0; WORDS],
            ringers: std::array::from_fn(ringer),
            sleeper: At::Check,
            buffer: Buffer::new(),
            announcements: 0,
            seen: [0; RINGERS],
        }
    }

    /// How many messages a ringer has: two, but of two ringers the first has one, or the states are too many.
    fn messages(ways: Ways, ringer: usize) -> u8 {
        if ways.ringers == RINGERS && ringer == 0 { 1 } else { 2 }
    }

    /// What the sleeper waits for: whatever it has not seen, of those that cannot die.
    fn expects(ways: Ways, ringer: usize) -> bool {
        ringer < ways.ringers && !(ways.killer && ringer == 0)
    }

    fn finished(&self, ways: Ways) -> bool {
        (0..RINGERS)
            .all(|ringer| !Self::expects(ways, ringer) || self.seen[ringer] == Self::messages(ways, ringer))
    }

    /// Looks at all tails; whether there was anything new.
    fn take(&mut self, ways: Ways) -> bool {
        let mut any = false;
        for ringer in 0..ways.ringers {
            let tail = load(&self.memory, &self.buffer, ringer);
            // A message of one that may die is taken like any other, but nobody waits for it.
            any |= tail != self.seen[ringer];
            self.seen[ringer] = tail;
        }
        any
    }

    fn step_ringer(&self, ways: Ways, index: usize) -> Option<Self> {
        let mut next = self.clone();
        let State { memory, ringers, sleeper, .. } = &mut next;
        let me = &mut ringers[index];
        if me.dead {
            return None;
        }
        let after = if me.sent < Self::messages(ways, index) { At::Publish } else { At::Done };
        me.at = match me.at {
            At::Publish => {
                me.sent += 1;
                me.buffer.push((index, me.sent));
                if ways.ringer_fence { At::RingerFence } else { At::Look }
            }
            At::RingerFence => {
                drain(memory, &mut me.buffer);
                At::Look
            }
            At::Look => {
                let flag = load(memory, &me.buffer, FLAG);
                if flag & STATE == 0 || (ways.once && flag | RUNG == me.done) {
                    after
                } else if ways.mark && flag & STATE == ASLEEP {
                    At::Mark(flag)
                } else {
                    At::Wake(flag | RUNG)
                }
            }
            At::Mark(flag) => {
                // Locked: what is in the buffer goes first.
                drain(memory, &mut me.buffer);
                if memory[FLAG] == flag {
                    memory[FLAG] = if ways.ringer_lowers { flag & !STATE } else { flag | RUNG };
                    At::Wake(flag | RUNG)
                } else if memory[FLAG] == flag | RUNG {
                    At::Wake(flag | RUNG)
                } else {
                    after
                }
            }
            At::Wake(announcement) => {
                // A system call that takes a lock.
                drain(memory, &mut me.buffer);
                if *sleeper == At::Asleep {
                    *sleeper = At::Lower;
                }
                me.done = announcement;
                after
            }
            _ => return None,
        };
        Some(next)
    }

    fn step_sleeper(&self, ways: Ways) -> Option<Self> {
        let mut next = self.clone();
        let fence = match () {
            () if ways.sleeper_fence => At::SleeperFence,
            () if ways.barrier && !ways.barrier_early => At::Barrier(0),
            () => At::Again,
        };
        let after_fence = |early: bool| if early { At::Raise } else { At::Again };
        next.sleeper = match self.sleeper {
            At::Check => {
                next.take(ways);
                match () {
                    () if next.finished(ways) => At::Done,
                    () if ways.barrier && ways.barrier_early => At::Barrier(0),
                    () => At::Raise,
                }
            }
            At::Raise => {
                next.announcements += 1;
                next.buffer.push((FLAG, next.announcements * 4 + ASLEEP));
                fence
            }
            At::SleeperFence => {
                drain(&mut next.memory, &mut next.buffer);
                At::Again
            }
            At::Barrier(from) if from < RINGERS => {
                // Its own fence is executed before the first, and one on each processor in its turn.
                drain(&mut next.memory, &mut next.buffer);
                if from < ways.registered {
                    drain(&mut next.memory, &mut next.ringers[from].buffer);
                }
                At::Barrier(from + 1)
            }
            At::Barrier(_) => after_fence(ways.barrier_early),
            At::Again if ways.look_again && next.take(ways) => At::Lower,
            At::Again => At::Sleep,
            At::Sleep => {
                // A system call: compares and sleeps in one step.
                drain(&mut next.memory, &mut next.buffer);
                let same = next.memory[FLAG] == next.announcements * 4 + ASLEEP;
                if same { At::Asleep } else { At::Lower }
            }
            At::Lower => {
                next.buffer.push((FLAG, next.announcements * 4));
                At::Check
            }
            _ => return None,
        };
        Some(next)
    }

    /// All states that one step of anybody leads to.
    fn successors(&self, ways: Ways) -> Vec<Self> {
        let mut all = Vec::new();
        all.extend(self.step_sleeper(ways));
        for index in 0..ways.ringers {
            all.extend(self.step_ringer(ways, index));
            if !self.ringers[index].buffer.is_empty() {
                let mut next = self.clone();
                let (word, value) = next.ringers[index].buffer.remove(0);
                next.memory[word] = value;
                all.push(next);
            }
        }
        if !self.buffer.is_empty() {
            let mut next = self.clone();
            let (word, value) = next.buffer.remove(0);
            next.memory[word] = value;
            all.push(next);
        }
        let first = &self.ringers[0];
        if ways.killer && !first.dead && first.at != At::Done {
            // What it has stored reaches memory all the same.
            let mut next = self.clone();
            next.ringers[0].dead = true;
            all.push(next);
        }
        all
    }
}

/// Visits every state: how many there are, how many of them sleep, and whether one of them sleeps for ever.
fn explore(ways: Ways) -> (usize, usize, bool) {
    let mut seen = HashSet::new();
    let mut open = vec![State::new(ways)];
    let (mut asleep, mut lost) = (0, false);
    seen.insert(open[0].clone());
    while let Some(state) = open.pop() {
        let next = state.successors(ways);
        asleep += usize::from(state.sleeper == At::Asleep);
        // Nobody can do anything any more, and the sleeper has not seen what it waits for.
        lost |= next.is_empty() && state.sleeper != At::Done;
        for state in next {
            assert!(state.announcements < 60, "an announcement more than a byte holds");
            if seen.insert(state.clone()) {
                open.push(state);
            }
        }
    }
    assert!(seen.iter().any(|state| state.sleeper == At::Done), "no schedule ends well");
    (seen.len(), asleep, lost)
}

fn assert_right(ways: Ways) {
    let (states, asleep, lost) = explore(ways);
    println!("{states} states, asleep in {asleep}: {ways:?}");
    assert!(!lost, "a wake-up is lost: {ways:?}");
    assert!(asleep > 0, "nobody ever sleeps: {ways:?}");
}

fn assert_lost(ways: Ways) {
    let (states, _, lost) = explore(ways);
    assert!(lost, "no wake-up is lost in {states} states: {ways:?}");
}

#[test]
fn no_wake_up_is_lost_with_a_barrier_or_with_fences() {
    for ways in [MEMBARRIER, FENCES] {
        for once in [true, false] {
            assert_right(Ways { once, ..ways });
            assert_right(Ways { ringers: 2, once, ..ways });
        }
    }
}

#[test]
fn a_killed_ringer_does_not_silence_the_other() {
    for ways in [MEMBARRIER, FENCES] {
        assert_right(Ways { ringers: 2, killer: true, ..ways });
    }
}

#[test]
fn without_a_barrier_or_a_fence_a_wake_up_is_lost() {
    assert_lost(Ways { barrier: false, ..MEMBARRIER });
    assert_lost(Ways { barrier: false, sleeper_fence: true, ..MEMBARRIER });
    assert_lost(Ways { ringer_fence: false, ..FENCES });
    assert_lost(Ways { sleeper_fence: false, ..FENCES });
}

#[test]
fn a_ringer_that_is_not_registered_loses_a_wake_up() {
    assert_lost(Ways { registered: 0, ..MEMBARRIER });
    assert_lost(Ways { ringers: 2, registered: 1, ..MEMBARRIER });
}

#[test]
fn a_barrier_before_the_flag_is_raised_loses_a_wake_up() {
    assert_lost(Ways { barrier_early: true, ..MEMBARRIER });
}

#[test]
fn without_a_second_look_a_wake_up_is_lost() {
    assert_lost(Ways { look_again: false, ..MEMBARRIER });
    assert_lost(Ways { look_again: false, ..FENCES });
}

#[test]
fn a_ringer_that_does_not_mark_loses_a_wake_up() {
    assert_lost(Ways { mark: false, ..MEMBARRIER });
    assert_lost(Ways { mark: false, ..FENCES });
}

#[test]
fn a_ringer_that_lowers_the_flag_and_dies_silences_the_other() {
    let lowers = Ways { ringers: 2, ringer_lowers: true, once: false, ..MEMBARRIER };
    assert_right(lowers);
    assert_lost(Ways { killer: true, ..lowers });
    assert_lost(Ways { killer: true, ringer_fence: true, sleeper_fence: true, barrier: false, ..lowers });
}
