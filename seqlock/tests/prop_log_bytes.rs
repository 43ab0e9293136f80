//! Any sequence of operations on a log of bytes, against a model that is the list of all that was written.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests: a missing value shall fail the test"
)]

mod common;

use common::Memory;
use proptest::prelude::*;
use tidewire_seqlock::log::bytes::{self, GatedReader, Reader};
use tidewire_seqlock::log::{BytesNextError, NextError, Options, Start, TryWriteError};
use tidewire_shm::{Unleased, Untrusted};

const MAX: usize = 40;

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<u8>),
    TryWrite(Vec<u8>),
    Join(u64),
    JoinGate(u64),
    Leave(usize),
    Next(usize, usize),
    NextInto(usize),
    Release(usize),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = || proptest::collection::vec(any::<u8>(), 0..MAX + 4);
    let step = prop_oneof![
        3 => value().prop_map(Step::Write),
        8 => value().prop_map(Step::TryWrite),
        1 => (0_u64..50).prop_map(Step::Join),
        1 => (0_u64..50).prop_map(Step::JoinGate),
        1 => any::<usize>().prop_map(Step::Leave),
        6 => (any::<usize>(), 0..MAX + 4).prop_map(|(reader, room)| Step::Next(reader, room)),
        6 => any::<usize>().prop_map(Step::NextInto),
        1 => any::<usize>().prop_map(Step::Release),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..150)
}

enum Handle {
    Lossy(Reader<Untrusted>),
    Gated(GatedReader<Untrusted>),
}

struct Member {
    handle: Handle,
    start: u64,
    received: u64,
    missed: u64,
    /// What it missed by writes that did not ask, at most.
    forced: bool,
}

impl Member {
    fn at(&self) -> u64 {
        match &self.handle {
            Handle::Lossy(reader) => reader.position(),
            Handle::Gated(reader) => reader.position(),
        }
    }

    fn new(handle: Handle) -> Self {
        let mut member = Self { handle, start: 0, received: 0, missed: 0, forced: false };
        member.start = member.at();
        member
    }

    fn next<'b>(&mut self, to: &'b mut [u8]) -> Result<Option<(&'b [u8], u64)>, BytesNextError> {
        match &mut self.handle {
            Handle::Lossy(reader) => reader.next_bytes(to),
            Handle::Gated(reader) => reader.next_bytes(to),
        }
    }

    fn next_into(&mut self, to: &mut Vec<u8>) -> Result<Option<u64>, NextError> {
        match &mut self.handle {
            Handle::Lossy(reader) => reader.next_bytes_into(to),
            Handle::Gated(reader) => reader.next_bytes_into(to),
        }
    }

    /// What a read answered, as the model has it.
    fn check(&mut self, found: Result<Option<(&[u8], u64)>, BytesNextError>, room: usize, all: &[Vec<u8>]) {
        let next = self.start + self.received + self.missed;
        let expected = all.get(next as usize - 1);
        match found {
            Ok(Some((value, version))) => {
                assert_eq!((value, version), (&**expected.unwrap(), next));
                assert!(value.len() <= room);
                self.received += 1;
            }
            Ok(None) => assert_eq!(next, all.len() as u64 + 1, "nothing is there, and nothing was missed"),
            Err(BytesNextError::Overtaken { missed }) => {
                assert!(missed > 0 && next + missed <= all.len() as u64 + 1);
                assert!(matches!(self.handle, Handle::Lossy(_)) || self.forced, "a gate holds");
                self.missed += missed;
            }
            Err(BytesNextError::BufferTooSmall { needed }) => {
                assert_eq!(needed, expected.unwrap().len());
                assert!(needed > room);
            }
            Err(BytesNextError::Corrupt(corrupt)) => panic!("{corrupt}"),
        }
        assert_eq!(self.at(), self.start + self.received + self.missed);
    }
}

fn run(capacity: u32, steps: Vec<Step>) {
    let options = Options::new(capacity).gates(3);
    let memory = Memory::new(bytes::region_bytes(MAX, &options).unwrap());
    let mut log = bytes::create(memory.region(), MAX, &options).unwrap();
    let mut writer = log.writer(&Unleased).unwrap();
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut members: Vec<Member> = Vec::new();
    for step in steps {
        let next = all.len() as u64 + 1;
        match step {
            Step::Write(value) => match writer.write_bytes(&value) {
                Ok(version) => {
                    assert_eq!(version, next);
                    all.push(value);
                    members.iter_mut().for_each(|member| member.forced = true);
                }
                Err(long) => assert_eq!((long.max, long.found > MAX), (MAX, value.len() == long.found)),
            },
            Step::TryWrite(value) => match writer.try_write_bytes(&value) {
                Ok(version) => {
                    assert_eq!(version, next);
                    all.push(value);
                }
                Err(TryWriteError::TooLong(long)) => assert_eq!((long.max, long.found), (MAX, value.len())),
                Err(TryWriteError::Full(full)) => {
                    let holds = |member: &&Member| match &member.handle {
                        Handle::Gated(reader) => reader.gate() == full.gate,
                        Handle::Lossy(_) => false,
                    };
                    // Its oldest group is needed still.
                    let group = u64::from(capacity / 16).max(1);
                    let head = members.iter().find(holds).map(|member| match &member.handle {
                        Handle::Gated(reader) => reader.head(),
                        Handle::Lossy(_) => 0,
                    });
                    assert!(head.is_some_and(|head| head / group * group + u64::from(capacity) <= next));
                }
            },
            Step::Join(history) => {
                let reader = log.reader(Start::History(history)).unwrap();
                members.push(Member::new(Handle::Lossy(reader)));
            }
            Step::JoinGate(history) => {
                if let Ok(reader) = log.gated_reader(Start::History(history.min(log.kept())), &Unleased) {
                    assert!(reader.position() >= next.saturating_sub(history));
                    members.push(Member::new(Handle::Gated(reader)));
                }
            }
            Step::Leave(index) if !members.is_empty() => {
                members.remove(index % members.len());
            }
            Step::Next(index, room) if !members.is_empty() => {
                let index = index % members.len();
                let mut buffer = [0xA5; MAX + 4];
                let found = members[index]
                    .next(&mut buffer[..room])
                    .map(|found| found.map(|(value, version)| (value.to_vec(), version)));
                let found =
                    found.as_ref().map(|found| found.as_ref().map(|(value, version)| (&value[..], *version)));
                members[index].check(found.map_err(|error| *error), room, &all);
                assert!(buffer[room..].iter().all(|byte| *byte == 0xA5));
            }
            Step::NextInto(index) if !members.is_empty() => {
                let index = index % members.len();
                let mut to = vec![1, 2, 3];
                let found = members[index].next_into(&mut to);
                let found = found.map(|version| version.map(|version| (&to[..], version)));
                members[index].check(found.map_err(BytesNextError::from), MAX, &all);
            }
            Step::Release(index) if !members.is_empty() => {
                let index = index % members.len();
                if let Handle::Gated(reader) = &mut members[index].handle {
                    reader.release();
                }
            }
            Step::Reopen => {
                drop(writer);
                log = bytes::open(memory.region(), 0).unwrap();
                writer = log.writer(&Unleased).unwrap();
                assert_eq!((writer.version(), writer.max()), (next - 1, MAX));
            }
            _ => {}
        }
    }
    for member in &mut members {
        let mut to = Vec::new();
        while member.at() <= all.len() as u64 {
            let found = member.next_into(&mut to);
            let found = found.map(|version| version.map(|version| (&to[..], version)));
            member.check(found.map_err(BytesNextError::from), MAX, &all);
        }
    }
    memory.check_guards();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 400 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_steps_are_those_of_a_list(log in 2_u32..7, steps in steps()) {
        run(1 << log, steps);
    }
}
