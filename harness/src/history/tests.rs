//! The checker is checked: right histories pass, and each kind of wrong one is caught as what it is.

use std::time::Duration;

use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};

use super::{Event, Promise, Room, Run, Span, Verdict, check};

const CAPACITY: u64 = 16;
const PERIOD: u64 = 4;
const CHUNK: u64 = 8;

fn promise() -> Promise {
    Promise {
        ordered: true,
        clock: true,
        settle: 0,
        again: PERIOD + CHUNK,
        room: Some(Room { capacity: CAPACITY, lazy: PERIOD + CHUNK }),
        drained: true,
    }
}

/// A small generator of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A correct history, recorded by playing a queue: lines of producers, kills of both sides, a lazy consumer.
#[derive(Clone, Debug)]
struct History {
    lines: Vec<Vec<Event>>,
    consumer: Vec<Event>,
}

impl History {
    fn check(&self) -> Verdict {
        check(&promise(), &self.lines, &self.consumer)
    }
}

struct Player {
    numbers: Numbers,
    now: u64,
    history: History,
    /// Per line: its producer's number and its next message.
    producers: Vec<(u32, u64)>,
    next_producer: u32,
    /// All published messages in order, per line its own order; (line, producer, seq).
    queue: Vec<(usize, u32, u64)>,
    head: usize,
    released: usize,
}

impl Player {
    fn tick(&mut self) -> u64 {
        self.now += 1 + self.numbers.below(5);
        self.now
    }

    fn push(&mut self, kills: bool) {
        let number = usize::try_from(self.numbers.below(self.producers.len() as u64)).unwrap();
        let n = 1 + self.numbers.below(4);
        let (producer, seq) = self.producers[number];
        let run = Run { producer, seq, n: u32::try_from(n).unwrap(), units: u32::try_from(n).unwrap() };
        let t0 = self.tick();
        let held = self.queue[self.released..].iter().filter(|(line, ..)| *line == number).count() as u64;
        let line = &mut self.history.lines[number];
        if held + n > CAPACITY {
            line.push(Event::Full(run, Span { t0, t1: t0 }));
            return;
        }
        let dies = kills && self.numbers.below(40) == 0;
        let published = !dies || self.numbers.below(2) == 0;
        if published {
            self.queue.extend((0..n).map(|i| (number, producer, seq + i)));
        }
        let t1 = if dies { Span::NEVER } else { self.tick() };
        self.history.lines[number].push(Event::Push(run, Span { t0, t1 }));
        self.producers[number].1 += n;
        if dies {
            self.producers[number] = (self.next_producer, 0);
            self.next_producer += 1;
        }
    }

    fn pop(&mut self, kills: bool) {
        let t0 = self.tick();
        if self.head == self.queue.len() {
            self.released = self.head;
            self.history.consumer.push(Event::Empty(Span { t0, t1: t0 }));
            return;
        }
        if kills && self.numbers.below(40) == 0 {
            return self.die();
        }
        let most = (self.queue.len() - self.head).min(usize::try_from(CHUNK).unwrap());
        let n = 1 + usize::try_from(self.numbers.below(most as u64)).unwrap();
        let runs = runs(&self.queue[self.head..self.head + n]);
        let t1 = self.tick();
        self.history.consumer.extend(runs.into_iter().map(|run| Event::Got(run, Span { t0, t1 })));
        self.head += n;
        if (self.head - self.released) as u64 >= PERIOD {
            self.released = self.head;
        }
    }

    /// The consumer dies: with something in its hand, released or not, or with nothing.
    fn die(&mut self) {
        if self.numbers.below(2) == 0 {
            let most = (self.queue.len() - self.head).min(usize::try_from(CHUNK).unwrap());
            let n = 1 + usize::try_from(self.numbers.below(most as u64)).unwrap();
            let held = runs(&self.queue[self.head..self.head + n]);
            self.history.consumer.extend(held.into_iter().map(Event::Hand));
            if self.numbers.below(2) == 0 {
                self.released = self.head + n;
            }
        }
        self.history.consumer.push(Event::TakeOver);
        self.head = self.released;
    }
}

fn runs(messages: &[(usize, u32, u64)]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (_, producer, seq) in messages {
        match runs.last_mut() {
            Some(run) if run.producer == *producer && run.seq + u64::from(run.n) == *seq => {
                run.n += 1;
                run.units += 1;
            }
            _ => runs.push(Run { producer: *producer, seq: *seq, n: 1, units: 1 }),
        }
    }
    runs
}

fn play(seed: u64, lines: usize, steps: usize, kills: bool) -> History {
    let mut player = Player {
        numbers: Numbers(seed),
        now: 100,
        history: History { lines: vec![Vec::new(); lines], consumer: Vec::new() },
        producers: (0..lines).map(|line| (u32::try_from(line).unwrap(), 0)).collect(),
        next_producer: u32::try_from(lines).unwrap(),
        queue: Vec::new(),
        head: 0,
        released: 0,
    };
    for _ in 0..steps {
        if player.numbers.below(2) == 0 { player.push(kills) } else { player.pop(kills) }
    }
    while player.head < player.queue.len() {
        player.pop(false);
    }
    player.pop(false);
    player.history
}

/// A history without kills in which every `Got` is of one message, for injections at exact places.
fn plain(seed: u64) -> History {
    let mut history = play(seed, 1, 400, false);
    let split = |event: &Event| match *event {
        Event::Got(run, span) => (0..run.n)
            .map(|i| Event::Got(Run { seq: run.seq + u64::from(i), n: 1, units: 1, ..run }, span))
            .collect(),
        other => vec![other],
    };
    history.consumer = history.consumer.iter().flat_map(split).collect();
    history
}

/// Places of the `Got` records, the last one left out.
fn gots(history: &History) -> Vec<usize> {
    let is_got = |(place, event): (usize, &Event)| matches!(event, Event::Got(..)).then_some(place);
    let mut places: Vec<usize> = history.consumer.iter().enumerate().filter_map(is_got).collect();
    places.pop();
    places
}

fn some_got(history: &History, pick: u64) -> usize {
    let places = gots(history);
    places[usize::try_from(pick % places.len() as u64).unwrap()]
}

/// The only faults are those that `expected` keeps.
fn only(verdict: &Verdict, expected: &[(&str, u64)]) {
    let all = [
        ("lost", verdict.lost),
        ("duplicated", verdict.duplicated),
        ("reordered", verdict.reordered),
        ("torn", verdict.torn),
        ("invented", verdict.invented),
        ("parted", verdict.parted),
        ("false_empty", verdict.false_empty),
        ("false_full", verdict.false_full),
        ("untimely", verdict.untimely),
    ];
    for (name, found) in all {
        let wanted = expected.iter().find(|(wanted, _)| *wanted == name).map_or(0, |(_, n)| *n);
        assert_eq!(found, wanted, "{name}: {verdict:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn right_histories_pass(seed: u64, kills: bool) {
        let verdict = play(seed, 1, 1_000, kills).check();
        prop_assert!(verdict.good(), "{verdict:?}");
        prop_assert_eq!(verdict.sent, verdict.received);
    }

    #[test]
    fn right_histories_of_many_lines_pass(seed: u64, lines in 2_usize..5, kills: bool) {
        // A queue that is one order for all lines; the dead of one line are replaced as above.
        let verdict = play(seed, lines, 1_000, kills).check();
        prop_assert!(verdict.good(), "{verdict:?}");
        prop_assert_eq!(verdict.sent, verdict.received);
    }

    #[test]
    fn a_swap_is_caught(seed: u64, pick: u64) {
        let mut history = plain(seed);
        let place = some_got(&history, pick);
        let next = place + 1 + history.consumer[place + 1..]
            .iter().position(|event| matches!(event, Event::Got(..))).unwrap();
        let (Event::Got(one, _), Event::Got(other, _)) = (history.consumer[place], history.consumer[next])
            else { unreachable!() };
        if let Event::Got(run, _) = &mut history.consumer[place] { *run = other; }
        if let Event::Got(run, _) = &mut history.consumer[next] { *run = one; }
        let verdict = history.check();
        prop_assert_eq!(verdict.reordered, 1, "{:?}", verdict);
        prop_assert_eq!((verdict.lost, verdict.duplicated, verdict.invented), (0, 0, 0), "{:?}", verdict);
    }

    #[test]
    fn a_drop_is_caught(seed: u64, pick: u64) {
        let mut history = plain(seed);
        let place = some_got(&history, pick);
        history.consumer.remove(place);
        let verdict = history.check();
        prop_assert_eq!(verdict.lost, 1, "{:?}", verdict);
        prop_assert_eq!(verdict.sent, verdict.received + 1);
        prop_assert_eq!((verdict.reordered, verdict.duplicated, verdict.invented), (0, 0, 0), "{:?}", verdict);
    }

    #[test]
    fn a_lost_end_is_caught(seed: u64, pick in 1_usize..8) {
        let mut history = plain(seed);
        let places = gots(&history);
        let from = places[places.len().saturating_sub(pick)];
        history.consumer.truncate(from);
        let verdict = history.check();
        prop_assert!(verdict.lost >= pick as u64, "{:?}", verdict);
    }

    #[test]
    fn a_duplicate_is_caught(seed: u64, pick: u64) {
        let mut history = plain(seed);
        let place = some_got(&history, pick);
        history.consumer.insert(place, history.consumer[place]);
        only(&history.check(), &[("duplicated", 1)]);
    }

    #[test]
    fn an_invention_is_caught(seed: u64, pick: u64, stranger: bool) {
        let mut history = plain(seed);
        let place = some_got(&history, pick);
        let Event::Got(run, span) = history.consumer[place] else { unreachable!() };
        let invented = if stranger { Run { producer: 99, ..run } } else { Run { seq: 1 << 40, ..run } };
        history.consumer.insert(place, Event::Got(invented, span));
        only(&history.check(), &[("invented", 1)]);
    }

    #[test]
    fn a_false_empty_is_caught(seed: u64, pick: u64) {
        let mut history = plain(seed);
        let place = some_got(&history, pick);
        let Event::Got(run, _) = history.consumer[place] else { unreachable!() };
        let covers = |event: &&Event| matches!(event, Event::Push(push, _)
            if push.seq <= run.seq && run.seq < push.seq + u64::from(push.n));
        let Some(Event::Push(_, push)) = history.lines[0].iter().find(covers) else { unreachable!() };
        let t0 = push.t1 + 1;
        history.consumer.insert(place, Event::Empty(Span { t0, t1: t0 }));
        only(&history.check(), &[("false_empty", 1)]);
    }

    #[test]
    fn a_false_full_is_caught(seed: u64) {
        let mut history = plain(seed);
        // After everything was received there is room, whatever is not yet released.
        let end = history.consumer.last().map_or(0, |event| match event {
            Event::Empty(span) => span.t1,
            _ => 0,
        });
        let run = Run { producer: 0, seq: 0, n: 1, units: 1 };
        history.lines[0].push(Event::Full(run, Span { t0: end + 1, t1: end + 1 }));
        only(&history.check(), &[("false_full", 1)]);
    }

    #[test]
    fn a_message_before_its_push_is_caught(seed: u64, pick: u64) {
        let mut history = plain(seed);
        let place = some_got(&history, pick);
        if let Event::Got(_, span) = &mut history.consumer[place] {
            *span = Span { t0: 0, t1: 1 };
        }
        let verdict = history.check();
        prop_assert_eq!(verdict.untimely, 1, "{:?}", verdict);
    }

    #[test]
    fn a_reorder_in_time_across_lines_is_caught(seed: u64) {
        // Two lines whose own orders are right; the later push comes first.
        let t = seed % 1_000_000 + 10;
        let run = |producer| Run { producer, seq: 0, n: 1, units: 1 };
        let lines = vec![
            vec![Event::Push(run(0), Span { t0: t, t1: t + 1 })],
            vec![Event::Push(run(1), Span { t0: t + 2, t1: t + 3 })],
        ];
        let got = |producer, t0| Event::Got(run(producer), Span { t0, t1: t0 + 1 });
        let consumer = vec![got(1, t + 4), got(0, t + 6)];
        only(&check(&promise(), &lines, &consumer), &[("untimely", 1)]);
        // Where only the order per producer is promised, that is right.
        let unordered = Promise { ordered: false, ..promise() };
        only(&check(&unordered, &lines, &consumer), &[]);
        // And without a clock nothing can be said.
        let blind = Promise { clock: false, ..promise() };
        only(&check(&blind, &lines, &consumer), &[]);
    }

    #[test]
    fn more_redelivery_than_promised_is_caught(seed: u64, extra in 1_u64..20) {
        let mut history = plain(seed);
        let places = gots(&history);
        let back = PERIOD + CHUNK + extra;
        let end = places.len();
        let start = end - usize::try_from(back).unwrap();
        let again: Vec<Event> = places[start..end].iter().map(|place| history.consumer[*place]).collect();
        let at = places[end - 1] + 1;
        history.consumer.splice(at..at, std::iter::once(Event::TakeOver).chain(again));
        let verdict = history.check();
        prop_assert_eq!(verdict.duplicated, extra, "{:?}", verdict);
        prop_assert_eq!(verdict.again, PERIOD + CHUNK);
    }

    #[test]
    fn a_loss_at_a_take_over_is_caught(seed: u64, pick: u64) {
        let mut history = plain(seed);
        let place = some_got(&history, pick);
        history.consumer[place] = Event::TakeOver;
        let verdict = history.check();
        prop_assert_eq!(verdict.lost, 1, "{:?}", verdict);
    }

    #[test]
    fn a_part_of_a_killed_batch_is_caught(n in 2_u32..20, part in 1_u32..20) {
        let part = part.min(n - 1);
        let run = |n| Run { producer: 0, seq: 0, n, units: n };
        let lines = vec![vec![Event::Push(run(n), Span { t0: 1, t1: Span::NEVER })]];
        let consumer = vec![Event::Got(run(part), Span { t0: 2, t1: 3 })];
        let verdict = check(&promise(), &lines, &consumer);
        prop_assert_eq!((verdict.parted, verdict.lost), (1, u64::from(n - part)), "{:?}", verdict);
    }
}

#[test]
fn a_killed_push_may_come_or_not_but_not_late() {
    let run = |producer, seq| Run { producer, seq, n: 1, units: 1 };
    let lines = vec![vec![
        Event::Push(run(0, 0), Span { t0: 1, t1: Span::NEVER }),
        Event::Push(run(1, 0), Span { t0: 5, t1: 6 }),
    ]];
    let got = |producer, t0| Event::Got(run(producer, 0), Span { t0, t1: t0 + 1 });
    only(&check(&promise(), &lines, &[got(0, 2), got(1, 7)]), &[]);
    let without = check(&promise(), &lines, &[got(1, 7)]);
    only(&without, &[]);
    assert_eq!((without.absent, without.sent, without.received), (1, 1, 1));
    only(&check(&promise(), &lines, &[got(1, 7), got(0, 9)]), &[("reordered", 1)]);
}

#[test]
fn what_a_dead_consumer_held_and_released_is_not_lost() {
    let run = |seq, n| Run { producer: 0, seq, n, units: n };
    let lines = vec![(0..10).map(|seq| Event::Push(run(seq, 1), Span { t0: 1, t1: 2 })).collect()];
    let got = |seq, n| Event::Got(run(seq, n), Span { t0: 5, t1: 6 });
    let released = [got(0, 3), Event::Hand(run(3, 4)), Event::TakeOver, got(7, 3)];
    let verdict = check(&promise(), &lines, &released);
    only(&verdict, &[]);
    assert_eq!((verdict.received, verdict.in_hand), (10, 4));
    let kept = [got(0, 3), Event::Hand(run(3, 4)), Event::TakeOver, got(1, 9)];
    let verdict = check(&promise(), &lines, &kept);
    only(&verdict, &[]);
    assert_eq!((verdict.received, verdict.in_hand, verdict.again), (10, 0, 2));
    let too_much = [got(0, 3), Event::Hand(run(3, 4)), Event::TakeOver, got(8, 2)];
    assert_eq!(check(&promise(), &lines, &too_much).lost, 1);
    // Two die in a row, the first after its release.
    let twice = [
        got(0, 3),
        Event::Hand(run(3, 4)),
        Event::TakeOver,
        Event::Hand(run(7, 2)),
        Event::TakeOver,
        got(9, 1),
    ];
    only(&check(&promise(), &lines, &twice), &[]);
}

/// A million events in less than a tenth of a second, where the build is optimised.
#[test]
fn a_million_events_take_little_time() {
    let events: u64 = 1_000_000;
    let run = |seq| Run { producer: 0, seq, n: 1, units: 1 };
    let lines = vec![
        (0..events / 2).map(|i| Event::Push(run(i), Span { t0: 4 * i, t1: 4 * i + 1 })).collect::<Vec<_>>(),
    ];
    let consumer: Vec<Event> =
        (0..events / 2).map(|i| Event::Got(run(i), Span { t0: 4 * i + 2, t1: 4 * i + 3 })).collect();
    // What other programs take of the processors meanwhile is not the checker's.
    let processor_time = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(u64::try_from(time.tv_sec).unwrap(), u32::try_from(time.tv_nsec).unwrap())
    };
    let took = (0..5)
        .map(|_| {
            let start = processor_time();
            let verdict = check(&promise(), &lines, &consumer);
            assert!(verdict.good() && verdict.received == events / 2, "{verdict:?}");
            processor_time() - start
        })
        .min()
        .unwrap();
    let limit_ms = if cfg!(debug_assertions) { 2_000 } else { 100 };
    assert!(took.as_millis() < limit_ms, "{took:?}");
}
