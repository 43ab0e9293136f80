//! One line of producers, as the checker follows it.

use std::collections::BTreeMap;

use super::{Promise, Run, Span, Verdict};

/// A push on record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Push {
    /// Number of its first message in the line.
    pub(super) start: u64,
    pub(super) n: u64,
    pub(super) units: u64,
    pub(super) span: Span,
    /// Killed half-way, and later ones came without it.
    pub(super) absent: bool,
}

impl Push {
    pub(super) fn end(&self) -> u64 {
        self.start + self.n
    }
}

/// A refused push.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    /// Pushes of the line before it.
    pub(super) pushes: usize,
    pub(super) units: u64,
    pub(super) t0: u64,
}

/// What one role of producer pushed, and how much of it came.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) pushes: Vec<Push>,
    pub(super) refusals: Vec<Refusal>,
    /// The message that should come next.
    pub(super) at: u64,
    /// The push that holds it.
    pub(super) at_push: usize,
    /// Messages below came, or were given up. Above `at` only while messages come again.
    pub(super) cursor: u64,
    /// The first push that may be overdue.
    pub(super) due: usize,
    /// A take-over happened and nothing came since.
    pub(super) open: bool,
    /// What a dead consumer held, and whether more of it may follow.
    pub(super) hand: Vec<Run>,
    pub(super) hand_end: Option<u64>,
    pub(super) gathering: bool,
    /// Units that came again since the last take-over.
    pub(super) again: u64,
    /// Messages that were passed over: start and end.
    pub(super) missing: BTreeMap<u64, u64>,
    /// When how many units had been consumed.
    pub(super) consumed: Vec<(u64, u64)>,
    pub(super) consumed_units: u64,
}

impl Line {
    pub(super) fn total(&self) -> u64 {
        self.pushes.last().map_or(0, Push::end)
    }

    pub(super) fn push_of(&self, message: u64) -> usize {
        self.pushes.partition_point(|push| push.end() <= message)
    }

    pub(super) fn go_to(&mut self, message: u64) {
        self.at = message;
        self.at_push = self.push_of(message);
    }

    pub(super) fn drop_hand(&mut self) -> Vec<Run> {
        self.hand_end = None;
        core::mem::take(&mut self.hand)
    }

    pub(super) fn is_missing(&self, message: u64) -> bool {
        self.missing.range(..=message).next_back().is_some_and(|(_, end)| message < *end)
    }

    pub(super) fn take_missing(&mut self, message: u64) -> bool {
        let Some((&start, &end)) = self.missing.range(..=message).next_back() else { return false };
        if message >= end {
            return false;
        }
        self.missing.remove(&start);
        if start < message {
            self.missing.insert(start, message);
        }
        if message + 1 < end {
            self.missing.insert(message + 1, end);
        }
        true
    }

    /// Whether a push was done `settle` ticks before `t0` and has not come.
    pub(super) fn overdue(&mut self, t0: u64, settle: u64) -> bool {
        while let Some(push) = self.pushes.get(self.due) {
            if push.end() > self.cursor && push.span.done() {
                return push.span.t1.saturating_add(settle) < t0;
            }
            self.due += 1;
        }
        false
    }
}

/// Gives the messages between the cursor and `to` up: lost, unless they were pushes that were killed half-way.
pub(super) fn pass_over(line: &mut Line, to: u64, verdict: &mut Verdict, producer: u32) {
    let (mut from, mut number) = (line.cursor, line.push_of(line.cursor));
    while from < to {
        let Some(push) = line.pushes.get_mut(number) else { break };
        let until = to.min(push.end());
        if !push.span.done() && from == push.start && until == push.end() {
            push.absent = true;
        } else {
            if !push.span.done() {
                verdict.parted += 1;
            }
            line.missing.insert(from, until);
            verdict.find(|| match producer {
                u32::MAX => format!("messages {from}..{until} of the line never came"),
                _ => format!(
                    "messages {from}..{until} of the line did not come before {to} (producer {producer})"
                ),
            });
        }
        from = until;
        number += 1;
    }
    line.cursor = to;
    line.go_to(to);
}

/// A message that is not the next one and not beyond the cursor.
pub(super) fn astray(line: &mut Line, message: u64, verdict: &mut Verdict, producer: u32) {
    let absent = |line: &Line| line.pushes.get(line.push_of(message)).is_some_and(|push| push.absent);
    if message > line.at {
        verdict.reordered += 1;
        let expected = line.at;
        verdict.find(|| {
            format!(
                "message {message} came again before message {expected} of the line (producer {producer})"
            )
        });
        line.go_to(message + 1);
    } else if line.take_missing(message) {
        verdict.reordered += 1;
        verdict.received += 1;
        verdict.find(|| format!("message {message} of the line came late (producer {producer})"));
    } else if absent(line) {
        let number = line.push_of(message);
        if let Some(push) = line.pushes.get_mut(number) {
            push.absent = false;
            let (start, end) = (push.start, push.end());
            line.missing.insert(start, end);
            line.take_missing(message);
        }
        verdict.reordered += 1;
        verdict.received += 1;
        verdict.find(|| format!("message {message} of the line came late (producer {producer})"));
    } else {
        verdict.duplicated += 1;
        verdict.find(|| format!("message {message} of the line came twice (producer {producer})"));
    }
}

/// No false Full: what was published and surely not yet free left no room.
pub(super) fn refusals(promise: &Promise, line: &Line, number: usize, verdict: &mut Verdict) {
    let (true, Some(room)) = (promise.clock, promise.room) else { return };
    let mut pushes = line.pushes.iter();
    let (mut entered, mut published) = (0, 0);
    let mut consumed = line.consumed.iter().peekable();
    let mut gone = 0;
    for refusal in &line.refusals {
        while entered < refusal.pushes {
            let Some(push) = pushes.next() else { break };
            published += if push.absent { 0 } else { push.units };
            entered += 1;
        }
        while let Some((_, units)) =
            consumed.next_if(|(t1, _)| t1.saturating_add(promise.settle) < refusal.t0)
        {
            gone = *units;
        }
        let held = published.saturating_sub(gone);
        if held + room.lazy + refusal.units <= room.capacity {
            verdict.false_full += 1;
            verdict.find(|| {
                format!(
                    "Full at {} in line {number}, although at most {held} + {} of {} units were taken",
                    refusal.t0, room.lazy, room.capacity
                )
            });
        }
    }
}
