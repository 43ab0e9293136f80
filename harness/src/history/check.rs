//! The checker: one pass over the consumer's records, with one cursor per line.

use std::collections::HashMap;

use super::line::{Line, Push, Refusal, astray, pass_over, refusals};
use super::{Event, Promise, Run, Span, Verdict};

/// Where a producer's messages stand in its line.
#[derive(Clone, Copy, Debug)]
struct Place {
    line: usize,
    start: u64,
    n: u64,
}

/// Judges a history: one slice of records per line of producers, and those of the consumer.
///
/// O(n), but for faults and take-overs, which cost a search each.
pub(crate) fn check(promise: &Promise, lines: &[Vec<Event>], consumer: &[Event]) -> Verdict {
    let mut checker = Checker::new(promise);
    for (number, events) in lines.iter().enumerate() {
        checker.enter(number, events);
    }
    for event in consumer {
        checker.follow(event);
    }
    checker.finish()
}

struct Checker<'p> {
    promise: &'p Promise,
    lines: Vec<Line>,
    places: HashMap<u32, Place>,
    last: Option<(u32, Place)>,
    /// The latest beginning of a push that came.
    max_start: u64,
    /// The end of the operation that is being looked at.
    now: u64,
    verdict: Verdict,
}

impl<'p> Checker<'p> {
    fn new(promise: &'p Promise) -> Self {
        Self {
            promise,
            lines: Vec::new(),
            places: HashMap::new(),
            last: None,
            max_start: 0,
            now: 0,
            verdict: Verdict::default(),
        }
    }

    /// Enters what a line of producers did.
    fn enter(&mut self, number: usize, events: &[Event]) {
        let mut line = Line::default();
        let mut total = 0;
        for event in events {
            match *event {
                Event::Push(run, span) => {
                    let n = u64::from(run.n);
                    let place =
                        self.places.entry(run.producer).or_insert(Place { line: number, start: total, n: 0 });
                    if place.line != number || place.start + place.n != total || run.seq != place.n {
                        let expected = place.n;
                        self.verdict.invented += n;
                        self.verdict.find(|| {
                            format!(
                                "producer {} recorded message {} where {expected} was next",
                                run.producer, run.seq
                            )
                        });
                        continue;
                    }
                    place.n += n;
                    let units = u64::from(run.units);
                    line.pushes.push(Push { start: total, n, units, span, absent: false });
                    total += n;
                }
                Event::Full(run, span) => {
                    let units = u64::from(run.units);
                    line.refusals.push(Refusal { pushes: line.pushes.len(), units, t0: span.t0 });
                }
                _ => {}
            }
        }
        self.lines.push(line);
    }

    fn follow(&mut self, event: &Event) {
        match *event {
            Event::Got(run, span) => {
                self.now = span.t1;
                self.got(run, Some(span));
            }
            Event::Empty(span) => self.empty(span),
            Event::Torn(span) => {
                self.verdict.torn += 1;
                self.verdict.find(|| format!("a damaged message was received at {}", span.t0));
            }
            Event::Hand(run) => self.hand(run),
            Event::TakeOver => {
                for line in &mut self.lines {
                    line.open = true;
                    line.gathering = false;
                    line.again = 0;
                }
            }
            Event::Push(..) | Event::Full(..) | Event::Taking(..) | Event::Nothing => {}
        }
    }

    /// Where a run stands in its line, and how many of its messages were pushed at all.
    fn locate(&mut self, run: Run) -> Option<(usize, u64, u64)> {
        let place = match self.last {
            Some((producer, place)) if producer == run.producer => place,
            _ => {
                let place = *self.places.get(&run.producer)?;
                self.last = Some((run.producer, place));
                place
            }
        };
        let known = place.n.checked_sub(run.seq)?.min(u64::from(run.n));
        (known > 0).then_some((place.line, place.start + run.seq, known))
    }

    /// Messages came; `span` is `None` for those that lay in a dead consumer's hand.
    fn got(&mut self, run: Run, span: Option<Span>) {
        let located = self.locate(run);
        let known = located.map_or(0, |(_, _, known)| known);
        let invented = u64::from(run.n) - known;
        if invented > 0 {
            self.verdict.invented += invented;
            self.verdict.find(|| {
                format!("producer {} never pushed messages {} + {known}..{}", run.producer, run.seq, run.n)
            });
        }
        if let Some((line, first, known)) = located {
            self.settle(line, first);
            self.deliver(line, first, known, run, span);
        }
    }

    /// After a take-over: what comes next tells what the dead consumer had released.
    fn settle(&mut self, number: usize, first: u64) {
        let Some(line) = self.lines.get_mut(number) else { return };
        if !line.open {
            return;
        }
        if line.hand_end.is_some_and(|end| first >= end) {
            self.take_hand(number);
        }
        let Some(line) = self.lines.get_mut(number) else { return };
        line.drop_hand();
        if line.open {
            line.open = false;
            let from = if line.is_missing(first) { line.cursor } else { first.min(line.cursor) };
            line.go_to(from);
        }
    }

    /// What a dead consumer held was released: it had received it.
    fn take_hand(&mut self, number: usize) {
        let Some(line) = self.lines.get_mut(number) else { return };
        for run in line.drop_hand() {
            self.got(run, None);
        }
    }

    fn hand(&mut self, run: Run) {
        let Some((number, first, known)) = self.locate(run) else {
            self.verdict.invented += u64::from(run.n);
            self.verdict.find(|| format!("a dead consumer held message {} of no producer", run.seq));
            return;
        };
        let Some(line) = self.lines.get(number) else { return };
        if !line.gathering {
            let before = line.open;
            self.settle_for_hand(number, first);
            let Some(line) = self.lines.get_mut(number) else { return };
            line.gathering = true;
            line.open = before;
        }
        let Some(line) = self.lines.get_mut(number) else { return };
        line.hand.push(run);
        line.hand_end = Some(first + known);
    }

    /// A second consumer died before it recorded anything: its hand tells what the first one had released.
    fn settle_for_hand(&mut self, number: usize, first: u64) {
        let Some(line) = self.lines.get_mut(number) else { return };
        if line.hand_end.is_some_and(|end| first >= end) {
            self.take_hand(number);
        }
        if let Some(line) = self.lines.get_mut(number) {
            line.drop_hand();
        }
    }

    fn deliver(&mut self, number: usize, first: u64, known: u64, run: Run, span: Option<Span>) {
        let Self { promise, lines, verdict, max_start, now, .. } = self;
        let Some(line) = lines.get_mut(number) else { return };
        let (mut message, end) = (first, first + known);
        let units_of = |k: u64| u64::from(run.units) * k / u64::from(run.n.max(1));
        while message < end {
            // Pushes that left nothing are no part of what comes again.
            while line.at < line.cursor {
                match line.pushes.get(line.at_push) {
                    Some(push) if push.absent => {
                        line.at = push.end();
                        line.at_push += 1;
                    }
                    _ => break,
                }
            }
            if message > line.at && line.at == line.cursor {
                pass_over(line, message, verdict, run.producer);
            }
            if message != line.at {
                message += 1;
                astray(line, message - 1, verdict, run.producer);
                continue;
            }
            let Some(push) = line.pushes.get(line.at_push) else { return };
            let mut k = (end - message).min(push.end() - message);
            if line.at < line.cursor {
                k = k.min(line.cursor - line.at);
                line.again += units_of(k);
                if line.again > promise.again {
                    verdict.duplicated += k;
                    let (found, most) = (line.again, promise.again);
                    verdict.find(|| {
                        format!("{found} units came again after a take-over, expected at most {most}")
                    });
                } else {
                    verdict.again += k;
                }
            } else {
                verdict.received += k;
                if span.is_none() {
                    verdict.in_hand += k;
                }
                line.consumed_units += units_of(k);
                line.cursor += k;
                // When a hand took its messages is not on record.
                if let Some(span) = span {
                    in_time(promise, push, span, *max_start, verdict, run.producer);
                    *max_start = (*max_start).max(push.span.t0);
                }
            }
            line.at += k;
            message += k;
            if line.at == push.end() {
                line.at_push += 1;
            }
        }
        if promise.clock && promise.room.is_some() {
            line.consumed.push((*now, line.consumed_units));
        }
    }

    fn empty(&mut self, span: Span) {
        let settle = self.promise.settle;
        for number in 0..self.lines.len() {
            let Some(line) = self.lines.get_mut(number) else { return };
            if line.open {
                // Nothing is left, so what the dead consumer held was released.
                self.now = span.t0;
                self.take_hand(number);
                let Some(line) = self.lines.get_mut(number) else { return };
                line.open = false;
                line.go_to(line.cursor);
            }
            let Some(line) = self.lines.get_mut(number) else { return };
            let wrong = line.at < line.cursor || (self.promise.clock && line.overdue(span.t0, settle));
            if wrong {
                let due = line.pushes.get(line.due);
                let (due, since) = due.map_or((line.at, span.t0), |push| (push.start, push.span.t1));
                self.verdict.false_empty += 1;
                self.verdict.find(|| {
                    let (at, ago) = (span.t0, span.t0.saturating_sub(since));
                    format!(
                        "Empty at {at} in line {number}, although message {due} was there: done {ago} ticks before"
                    )
                });
            }
        }
    }

    fn finish(mut self) -> Verdict {
        for number in 0..self.lines.len() {
            self.take_hand(number);
            let Self { promise, lines, verdict, .. } = &mut self;
            let Some(line) = lines.get_mut(number) else { break };
            if promise.drained {
                line.at = line.cursor;
                pass_over(line, line.total(), verdict, u32::MAX);
            }
            verdict.lost += line.missing.iter().map(|(start, end)| end - start).sum::<u64>();
            verdict.absent += line.pushes.iter().filter(|push| push.absent).count() as u64;
            let came = |push: &&Push| !push.absent && (push.span.done() || push.start < line.cursor);
            verdict.sent += line.pushes.iter().filter(came).map(|push| push.n).sum::<u64>();
            refusals(promise, line, number, verdict);
        }
        self.verdict
    }
}

/// Real time: a message comes after its push began, and not after one whose push began later than its own ended.
fn in_time(promise: &Promise, push: &Push, span: Span, max_start: u64, verdict: &mut Verdict, producer: u32) {
    if !promise.clock {
        return;
    }
    if span.t1.saturating_add(promise.settle) < push.span.t0 {
        verdict.untimely += 1;
        verdict.find(|| format!("message {} (producer {producer}) came before its push began", push.start));
    }
    if promise.ordered && push.span.done() && push.span.t1.saturating_add(promise.settle) < max_start {
        verdict.untimely += 1;
        verdict.find(|| {
            format!(
                "message {} (producer {producer}) was pushed by {}, but came after one whose push began at {max_start}",
                push.start, push.span.t1
            )
        });
    }
}
