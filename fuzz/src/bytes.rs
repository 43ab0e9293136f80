//! Operations on a ring of byte records, against a queue.

use std::collections::VecDeque;

use tidewire_ring::bytes::{Consumer, Producer, Ring};
use tidewire_ring::{Options, RecordPopError, RecordPushError, Tuning};
use tidewire_shm::{RoleStride, Untrusted};

use crate::MOST_OPERATIONS;
use crate::memory::Memory;
use crate::tape::Tape;

/// Drives a ring and a queue with the same operations and compares every answer.
pub fn bytes_ops(input: &[u8]) {
    let mut tape = Tape::new(input);
    Pair::new(&mut tape).run(&mut tape);
}

fn framed(len: usize) -> usize {
    8 + len.next_multiple_of(8)
}

/// A record, and where the bytes that it took end.
type Entry = (Vec<u8>, u64);

/// A ring and what it must behave like.
struct Pair {
    memory: Memory,
    producer: Option<Producer<Untrusted>>,
    consumer: Option<Consumer<Untrusted>>,
    capacity: usize,
    fill: u8,
    /// Pushed and not consumed.
    queue: VecDeque<Entry>,
    /// Consumed since the head is known to be released, oldest first.
    consumed: VecDeque<Entry>,
    /// Where the bytes of the newest record end.
    tail: u64,
    /// The head is known to be released at least up to here.
    floor: u64,
    /// How many consumed bytes may be unreleased.
    period: u64,
}

impl Pair {
    fn new(tape: &mut Tape<'_>) -> Self {
        let capacity = 64 << (tape.byte() % 6);
        let stride = if tape.byte() & 1 == 0 { RoleStride::Line } else { RoleStride::Page };
        let options = Options::new().role_stride(stride);
        let memory = Memory::new(Ring::<Untrusted>::bytes(capacity, &options).expect("a capacity"), &[]);
        let ring = Ring::create(memory.region(), capacity, &options).expect("the memory is long enough");
        let (producer, consumer) = ring.split().expect("both roles are free");
        Self {
            memory,
            producer: Some(producer),
            consumer: Some(consumer),
            capacity,
            fill: 0,
            queue: VecDeque::new(),
            consumed: VecDeque::new(),
            tail: 0,
            floor: 0,
            period: (capacity as u64 / 8).max(1),
        }
    }

    fn run(mut self, tape: &mut Tape<'_>) {
        for _ in 0..MOST_OPERATIONS {
            let Some(operation) = tape.next() else { break };
            match operation % 13 {
                0 | 1 => self.push(tape),
                2 => self.batch(tape),
                3 => self.reserve(tape),
                4 | 5 => self.pop_into(tape),
                6 => self.pop(tape),
                7 => self.peek(),
                8 => self.release(),
                9 => self.tune(tape),
                10 => self.crash(),
                11 => self.reattach(tape.byte()),
                _ => self.drain(),
            }
            self.compare_lengths();
        }
        self.drain();
    }

    fn producer(&mut self) -> &mut Producer<Untrusted> {
        self.producer.as_mut().expect("always there between operations")
    }

    fn consumer(&mut self) -> &mut Consumer<Untrusted> {
        self.consumer.as_mut().expect("always there between operations")
    }

    fn record(&mut self, tape: &mut Tape<'_>) -> Vec<u8> {
        let len = tape.below(self.capacity / 2 + 4);
        self.fill = self.fill.wrapping_add(7);
        let fill = self.fill;
        (0..len).map(|i| fill.wrapping_add(i as u8)).collect()
    }

    /// Where a record that starts looking for room at `from` ends: padding first if it would cross the wrap.
    fn end(&self, from: u64, len: usize) -> u64 {
        let rest = self.capacity - usize::try_from(from % self.capacity as u64).expect("below the capacity");
        let padding = if framed(len) > rest { rest } else { 0 };
        from + (padding + framed(len)) as u64
    }

    /// The last position that the head may be published at the least.
    fn head_floor(&mut self) -> u64 {
        let period = self.period;
        let head = self.consumer().position();
        self.floor.max(head.saturating_sub(period))
    }

    /// Compares the answer to a push of a record that would end at `end`.
    fn expect_room(&mut self, len: usize, end: u64, answer: Result<(), RecordPushError>) -> bool {
        let capacity = self.capacity as u64;
        let max = self.capacity / 2 - 8;
        let floor = self.head_floor();
        let head = self.consumer().position();
        match answer {
            Ok(()) => assert!(len <= max && end - head <= capacity, "more bytes than capacity"),
            Err(RecordPushError::TooLong { max: said }) => assert!(len > max && said as usize == max),
            Err(RecordPushError::Full) => assert!(len <= max && end - floor > capacity, "a false full"),
            Err(RecordPushError::Corrupt(corrupt)) => panic!("{corrupt} without a hostile peer"),
        }
        answer.is_ok()
    }

    /// Takes records over as pushed.
    fn pushed(&mut self, records: Vec<Entry>) {
        if let Some(&(_, end)) = records.last() {
            self.tail = end;
        }
        self.queue.extend(records);
        let tail = self.tail;
        assert_eq!(self.producer().position(), tail, "the tail moved by other than padding and frames");
    }

    fn push(&mut self, tape: &mut Tape<'_>) {
        let record = self.record(tape);
        let end = self.end(self.tail, record.len());
        let answer = self.producer().push(&record);
        if self.expect_room(record.len(), end, answer) {
            self.pushed(vec![(record, end)]);
        }
    }

    fn batch(&mut self, tape: &mut Tape<'_>) {
        let records: Vec<_> = (0..tape.byte() % 6).map(|_| self.record(tape)).collect();
        let commit = tape.byte() & 3 != 0;
        let mut producer = self.producer.take().expect("always there between operations");
        let mut batch = producer.batch();
        let mut added: Vec<Entry> = Vec::new();
        for record in records {
            let from = added.last().map_or(self.tail, |(_, end)| *end);
            let end = self.end(from, record.len());
            let answer = batch.push(&record);
            if self.expect_room(record.len(), end, answer) {
                added.push((record, end));
            }
            assert_eq!(batch.len(), added.len());
        }
        if commit {
            assert_eq!(batch.commit(), added.len());
        } else {
            // The batch is never committed: nothing of it may be seen.
            added.clear();
        }
        self.producer = Some(producer);
        self.pushed(added);
    }

    fn reserve(&mut self, tape: &mut Tape<'_>) {
        let mut record = self.record(tape);
        let cut = tape.below(record.len() + 1);
        let commit = tape.below(record.len() + 2);
        let from = self.tail;
        let place = self.end(from, record.len());
        let answer = match self.producer().reserve(record.len()) {
            Err(error) => Err(error),
            Ok(mut reservation) => {
                assert_eq!(reservation.set(cut, &record[cut..]), Ok(()));
                assert_eq!(reservation.set(0, &record[..cut]), Ok(()));
                assert!(reservation.set(record.len(), &[0]).is_err());
                assert_eq!(reservation.commit(commit).is_ok(), commit <= record.len());
                Ok(())
            }
        };
        if self.expect_room(record.len(), place, answer) && commit <= record.len() {
            // The place was chosen for the whole reservation, so padding stays although less is committed.
            let end = place - framed(record.len()) as u64 + framed(commit) as u64;
            record.truncate(commit);
            self.pushed(vec![(record, end)]);
        }
    }

    fn took(&mut self, record: &[u8]) {
        let entry = self.queue.pop_front().expect("a record that was pushed");
        assert_eq!(record, entry.0);
        assert_eq!(self.consumer().position(), entry.1, "the head moved by other than padding and frames");
        self.consumed.push_back(entry);
    }

    fn refused(&mut self, error: RecordPopError, room: usize) {
        match error {
            RecordPopError::Empty => {
                assert!(self.queue.is_empty(), "a false empty");
                self.released();
            }
            RecordPopError::BufferTooSmall { needed } => {
                let len = self.queue.front().map(|(record, _)| record.len());
                assert_eq!(len, Some(needed as usize));
                assert!(needed as usize > room);
            }
            RecordPopError::Corrupt(corrupt) => panic!("{corrupt} without a hostile peer"),
        }
    }

    /// Everything consumed is known to be released.
    fn released(&mut self) {
        self.consumed.clear();
        self.floor = self.consumer().position();
    }

    fn pop_into(&mut self, tape: &mut Tape<'_>) {
        let mut buffer = vec![0xEE; tape.below(self.capacity / 2 + 4)];
        match self.consumer().pop_into(&mut buffer) {
            Ok(n) => {
                assert!(buffer[n..].iter().all(|byte| *byte == 0xEE), "wrote beyond the record");
                self.took(&buffer[..n]);
            }
            Err(error) => {
                self.refused(error, buffer.len());
                assert!(buffer.iter().all(|byte| *byte == 0xEE), "wrote without a record");
            }
        }
    }

    fn pop(&mut self, tape: &mut Tape<'_>) {
        let cut = tape.u16();
        let mut buffer = vec![0; self.capacity];
        let popped = self.consumer().pop().map(|record| {
            let n = record.len();
            let cut = usize::from(cut) % (n + 1);
            assert_eq!(record.get(cut, &mut buffer[cut..n]), Ok(()));
            assert_eq!(record.get(0, &mut buffer[..cut]), Ok(()));
            assert!(record.get(n, &mut [0]).is_err());
            n
        });
        match popped {
            Ok(n) => self.took(&buffer[..n]),
            Err(error) => self.refused(error, usize::MAX),
        }
    }

    fn peek(&mut self) {
        #[cfg(feature = "planted")]
        let before = self.consumer().position();
        match self.consumer().peek_len() {
            Ok(n) => {
                #[cfg(feature = "planted")]
                let n = if self.consumer().position() - before == 24 {
                    crate::planted::strikes();
                    n + 1
                } else {
                    n
                };
                assert_eq!(Some(n), self.queue.front().map(|(record, _)| record.len()));
            }
            Err(error) => self.refused(error, usize::MAX),
        }
    }

    fn release(&mut self) {
        self.consumer().release();
        self.released();
    }

    fn tune(&mut self, tape: &mut Tape<'_>) {
        let every = u64::from(tape.u16());
        self.release();
        let touch = tape.byte() & 1 == 0;
        self.consumer().tune(Tuning::default().pauses(0).touch(touch).release_every(every));
        self.period = every.clamp(1, self.capacity as u64);
    }

    fn drain(&mut self) {
        let mut buffer = vec![0; self.capacity];
        while !self.queue.is_empty() {
            let n = self.consumer().pop_into(&mut buffer).expect("a record that was pushed");
            self.took(&buffer[..n]);
        }
        assert_eq!(self.consumer().pop_into(&mut buffer), Err(RecordPopError::Empty));
        self.released();
    }

    /// Hands are dropped and taken again.
    fn reattach(&mut self, which: u8) {
        let ring = Ring::<Untrusted>::open(self.memory.region(), 0).expect("a valid ring");
        assert!(ring.producer().is_err() && ring.consumer().is_err(), "a role given twice");
        if which & 1 == 0 {
            self.producer = None;
            self.producer = Some(ring.producer().expect("just freed"));
        }
        if which & 2 == 0 {
            self.consumer = None;
            self.consumer = Some(ring.consumer().expect("just freed"));
            self.period = (self.capacity as u64 / 8).max(1);
            self.released();
        }
    }

    /// Both processes die here; others take over from what is in memory.
    fn crash(&mut self) {
        let least = self.head_floor();
        let image = self.memory.image();
        self.producer = None;
        self.consumer = None;
        self.memory = image;
        let ring = Ring::<Untrusted>::open(self.memory.region(), 0).expect("a valid ring");
        let dead = (ring.producer_owner().expect("held"), ring.consumer_owner().expect("held"));
        // SAFETY: the former handles worked on other memory and are gone.
        let consumer = unsafe { ring.replace_consumer(dead.1) }.expect("the owner is dead");
        // SAFETY: as above.
        let producer = unsafe { ring.replace_producer(dead.0) }.expect("the owner is dead");
        assert_eq!(producer.position(), self.tail, "published records were lost or invented");
        assert!(consumer.position() >= least, "more than the promised bytes are seen again");
        while self.consumed.back().is_some_and(|(_, end)| *end > consumer.position()) {
            self.queue.push_front(self.consumed.pop_back().expect("just seen"));
        }
        (self.producer, self.consumer) = (Some(producer), Some(consumer));
        self.period = (self.capacity as u64 / 8).max(1);
        self.released();
    }

    fn compare_lengths(&mut self) {
        let (tail, floor) = (self.tail, self.head_floor());
        let head = self.consumer().position();
        assert_eq!(self.consumer().len() as u64, tail - head);
        let seen = self.producer().len() as u64;
        assert!((tail - head..=tail - floor).contains(&seen), "{seen} bytes in {floor}..{head}..{tail}");
    }
}
