//! Any sequence of operations, against a model that is a list of values and positions in it.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests: a missing value shall fail the test"
)]

mod common;

use std::collections::VecDeque;

use common::{Memory, Value};
use proptest::prelude::*;
use tidewire_seqlock::log::{GatedReader, Log, LogFull, NextError, Options, Reader, Start, Writer};
use tidewire_shm::{Unleased, Untrusted};

#[derive(Clone, Debug)]
enum Step {
    Write,
    TryWrite,
    WriteSlice(usize),
    TryWriteSlice(usize),
    Join(Start),
    JoinGate(Start),
    Leave(usize),
    Next(usize),
    Batch(usize, usize),
    Release(usize),
    Reopen,
}

fn starts() -> impl Strategy<Value = Start> {
    prop_oneof![Just(Start::Next), Just(Start::Oldest), (0_u64..80).prop_map(Start::History)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Write),
        6 => Just(Step::TryWrite),
        1 => (0_usize..90).prop_map(Step::WriteSlice),
        4 => (0_usize..90).prop_map(Step::TryWriteSlice),
        1 => starts().prop_map(Step::Join),
        1 => starts().prop_map(Step::JoinGate),
        1 => any::<usize>().prop_map(Step::Leave),
        8 => any::<usize>().prop_map(Step::Next),
        4 => (any::<usize>(), 0_usize..90).prop_map(|(reader, count)| Step::Batch(reader, count)),
        1 => any::<usize>().prop_map(Step::Release),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..200)
}

enum Handle<const N: usize>
where
    [u64; N]: bytemuck::Pod,
{
    Lossy(Reader<[u64; N], Untrusted>),
    Gated(GatedReader<[u64; N], Untrusted>),
}

struct Member<const N: usize>
where
    [u64; N]: bytemuck::Pod,
{
    handle: Handle<N>,
    start: u64,
    next: u64,
    received: u64,
    missed: u64,
    /// What stands in the gate.
    head: u64,
}

/// The log as a list: the latest values that are kept, oldest first, and how many there were before them.
struct Model {
    values: VecDeque<u64>,
    dropped: u64,
    capacity: u64,
    group: u64,
    seed: u64,
}

impl Model {
    fn published(&self) -> u64 {
        self.dropped + self.values.len() as u64
    }

    fn base(&self, version: u64) -> u64 {
        version - version % self.group
    }

    fn push(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        self.values.push_back(self.seed);
        // As a group is entered, what it held is gone: with it all that is older.
        let first_kept = (self.base(self.published()) + self.group).saturating_sub(self.capacity);
        while self.dropped + 1 < first_kept {
            self.values.pop_front();
            self.dropped += 1;
        }
        self.seed
    }

    fn value(&self, version: u64) -> Option<u64> {
        self.values.get(version.checked_sub(self.dropped + 1)? as usize).copied()
    }

    /// How many more values the gates allow.
    fn room<const N: usize>(&self, members: &[Member<N>]) -> (u64, Option<u32>)
    where
        [u64; N]: bytemuck::Pod,
    {
        let heads = members.iter().filter_map(|member| match &member.handle {
            Handle::Gated(reader) => Some((member.head, reader.gate())),
            Handle::Lossy(_) => None,
        });
        match heads.min() {
            Some((head, gate)) => {
                ((self.base(head) + self.capacity).saturating_sub(self.published() + 1), Some(gate))
            }
            None => (u64::MAX, None),
        }
    }
}

impl<const N: usize> Member<N>
where
    [u64; N]: bytemuck::Pod,
{
    fn new(handle: Handle<N>) -> Self {
        let start = match &handle {
            Handle::Lossy(reader) => reader.position(),
            Handle::Gated(reader) => reader.position(),
        };
        Self { handle, start, next: start, received: 0, missed: 0, head: start }
    }

    fn batch(&mut self, count: usize, model: &Model) {
        let mut found = vec![<[u64; N]>::of(0); count];
        let got = match &mut self.handle {
            Handle::Lossy(reader) if count == 1 => single(reader.next(), &mut found[0], self.next),
            Handle::Gated(reader) if count == 1 => single(reader.next(), &mut found[0], self.next),
            Handle::Lossy(reader) => reader.next_batch(&mut found),
            Handle::Gated(reader) => reader.next_batch(&mut found),
        };
        let available = model.published() + 1 - self.next;
        let expected = available.min(count as u64).min(model.capacity);
        if expected == 0 {
            assert_eq!(got, Ok(0));
        } else if model.value(self.next).is_none() {
            let next = (model.base(self.next) + model.group).max(model.published() + 1 - model.capacity / 2);
            assert_eq!(got, Err(NextError::Overtaken { missed: next - self.next }));
            self.missed += next - self.next;
            self.next = next;
        } else {
            assert_eq!(got, Ok(expected as usize));
            for value in &found[..expected as usize] {
                assert_eq!(*value, <[u64; N]>::of(model.value(self.next).unwrap()));
                self.next += 1;
                self.received += 1;
            }
        }
        let (base, period) = (model.base(self.next), (model.capacity / 8).max(model.group));
        if base >= self.head + period || !matches!(got, Ok(1..)) {
            self.head = self.head.max(base);
        }
        let (position, missed, lag) = match &mut self.handle {
            Handle::Lossy(reader) => (reader.position(), reader.missed(), reader.lag()),
            Handle::Gated(reader) => (reader.position(), reader.missed(), reader.lag()),
        };
        assert_eq!((position, missed, lag), (self.next, self.missed, Ok(model.published() + 1 - self.next)));
        assert_eq!(self.received + self.missed, self.next - self.start);
    }
}

fn single<T>(
    next: Result<Option<(T, u64)>, NextError>,
    to: &mut T,
    expected: u64,
) -> Result<usize, NextError> {
    Ok(match next? {
        Some((value, version)) => {
            assert_eq!(version, expected);
            *to = value;
            1
        }
        None => 0,
    })
}

fn run<const N: usize>(steps: &[Step], capacity: u32)
where
    [u64; N]: bytemuck::Pod,
{
    const GATES: u32 = 2;
    let options = Options::new(capacity).gates(GATES);
    let memory = Memory::new(Log::<[u64; N]>::bytes(&options).unwrap());
    let mut log = Log::create(memory.region(), &options).unwrap();
    let mut writer: Writer<[u64; N], Untrusted> = log.writer(&Unleased).unwrap();
    let group = u64::from(capacity / 16).clamp(1, 64);
    let mut model = Model { values: VecDeque::new(), dropped: 0, capacity: capacity.into(), group, seed: 1 };
    let mut members: Vec<Member<N>> = Vec::new();
    let kept = log.kept();
    for step in steps {
        let (room, gate) = model.room(&members);
        let gates = members.iter().filter(|member| matches!(member.handle, Handle::Gated(_))).count();
        let full = LogFull { gate: gate.unwrap_or(u32::MAX) };
        match step {
            Step::Write => {
                let value = Value::of(model.push());
                assert_eq!(writer.write(&value), model.published());
            }
            // In the middle of a group there is room, whoever was overtaken.
            Step::TryWrite if room == 0 && (model.published() + 1).is_multiple_of(group) => {
                assert_eq!(writer.try_write(&Value::of(0)), Err(full));
            }
            Step::TryWrite => {
                let value = Value::of(model.push());
                assert_eq!(writer.try_write(&value), Ok(model.published()));
            }
            Step::WriteSlice(count) => {
                let values: Vec<_> = (0..*count).map(|_| Value::of(model.push())).collect();
                assert_eq!(writer.write_slice(&values), model.published());
            }
            Step::TryWriteSlice(count) => {
                let next = model.published() + 1;
                let in_group = model.base(next) + group - next;
                let in_group = if next.is_multiple_of(group) { 0 } else { in_group };
                let allowed = room.max(in_group).min(*count as u64) as usize;
                // What does not fit has no value in the model.
                let mut values: Vec<_> = (0..allowed).map(|_| Value::of(model.push())).collect();
                values.resize(*count, Value::of(0));
                let expected = if *count > 0 && allowed == 0 { Err(full) } else { Ok(allowed) };
                assert_eq!(writer.try_write_slice(&values), expected);
            }
            Step::Join(start) => {
                let member = Member::new(Handle::Lossy(log.reader(*start).unwrap()));
                let oldest = model.dropped + 1;
                let wanted = match start {
                    Start::History(values) => (model.published() + 1).saturating_sub(*values),
                    Start::Oldest => 0,
                    _ => model.published() + 1,
                };
                assert_eq!(member.start, wanted.max(oldest));
                members.push(member);
            }
            Step::JoinGate(start) if gates < GATES as usize => {
                let member = Member::new(Handle::Gated(log.gated_reader(*start, &Unleased).unwrap()));
                let wanted = match start {
                    Start::History(values) => *values,
                    Start::Oldest => u64::MAX,
                    _ => 0,
                };
                let oldest = (model.published() + 1).saturating_sub(wanted.min(kept)).max(1);
                assert_eq!(member.start, oldest);
                members.push(member);
            }
            Step::JoinGate(start) => assert!(log.gated_reader(*start, &Unleased).is_err()),
            Step::Leave(member) if !members.is_empty() => {
                drop(members.swap_remove(member % members.len()));
            }
            Step::Next(member) if !members.is_empty() => {
                let member = member % members.len();
                members[member].batch(1, &model);
            }
            Step::Batch(member, count) if !members.is_empty() => {
                let member = member % members.len();
                members[member].batch(*count, &model);
            }
            Step::Release(member) if !members.is_empty() => {
                let member = member % members.len();
                let member = &mut members[member];
                if let Handle::Gated(reader) = &mut member.handle {
                    reader.release();
                    member.head = member.head.max(model.base(member.next));
                    assert_eq!(reader.head(), member.head);
                }
            }
            Step::Leave(_) | Step::Next(_) | Step::Batch(..) | Step::Release(_) => {}
            Step::Reopen => {
                drop(writer);
                log = Log::<[u64; N], Untrusted>::open(memory.region(), 0).unwrap();
                writer = log.writer(&Unleased).unwrap();
            }
        }
        assert_eq!(writer.version(), model.published());
        let (room, _) = model.room(&members);
        assert_eq!(writer.room(), room.min(model.capacity));
    }
    memory.check_guards();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_a_list_and_positions(steps in steps(), capacity in proptest::sample::select(vec![4, 8, 16, 32, 64])) {
        run::<1>(&steps, capacity);
        run::<3>(&steps, capacity);
        run::<8>(&steps, capacity);
    }

    /// Without a write that does not ask nobody with a gate misses anything.
    #[test]
    fn who_has_a_gate_misses_nothing(steps in steps(), capacity in proptest::sample::select(vec![4, 32, 64])) {
        let asking: Vec<_> = steps.iter().map(|step| match step {
            Step::Write => Step::TryWrite,
            Step::WriteSlice(count) => Step::TryWriteSlice(*count),
            step => step.clone(),
        }).collect();
        let log = Log::<u64>::create(
            tidewire_shm::Region::heap(Log::<u64>::bytes(&Options::new(capacity).gates(2)).unwrap()).unwrap(),
            &Options::new(capacity).gates(2),
        ).unwrap();
        let mut writer = log.writer(&Unleased).unwrap();
        let mut readers = Vec::new();
        for step in &asking {
            match step {
                Step::TryWrite => {
                    let _done_or_full = writer.try_write(&(writer.version() + 1));
                }
                Step::TryWriteSlice(count) => {
                    let values: Vec<_> = (1..=*count as u64).map(|i| writer.version() + i).collect();
                    let _done_or_full = writer.try_write_slice(&values);
                }
                Step::JoinGate(start) => readers.extend(log.gated_reader(*start, &Unleased).ok()),
                Step::Leave(reader) if !readers.is_empty() => drop(readers.swap_remove(reader % readers.len())),
                Step::Next(reader) if !readers.is_empty() => {
                    let reader = reader % readers.len();
                    let position = readers[reader].position();
                    let found = readers[reader].next();
                    let expected = (position <= writer.version()).then_some((position, position));
                    prop_assert_eq!(found, Ok(expected));
                }
                _ => {}
            }
        }
        prop_assert!(readers.iter().all(|reader| reader.missed() == 0));
    }
}
