//! Operations on a ring of fixed slots, against a queue.

use std::collections::VecDeque;

use bytemuck::Pod;
use tidewire_ring::fixed::{Consumer, Producer, Ring};
use tidewire_ring::{Options, PopError, PushError, Tuning};
use tidewire_shm::{RoleStride, Untrusted};

use crate::MOST_OPERATIONS;
use crate::memory::Memory;
use crate::tape::Tape;

/// Drives a ring and a queue with the same operations and compares every answer.
pub fn fixed_ops(input: &[u8]) {
    let mut tape = Tape::new(input);
    match tape.byte() % 4 {
        0 => Pair::<u64>::new(&mut tape, |n| n).run(&mut tape),
        1 => Pair::<[u64; 8]>::new(&mut tape, |n| [n, !n, n, n ^ 1, n, n + 1, n, n]).run(&mut tape),
        2 => Pair::<[u8; 3]>::new(&mut tape, |n| [n as u8, (n >> 8) as u8, !n as u8]).run(&mut tape),
        _ => Pair::<u16>::new(&mut tape, |n| n as u16).run(&mut tape),
    }
}

/// A ring and what it must behave like.
struct Pair<T: Pod> {
    memory: Memory,
    producer: Option<Producer<T, Untrusted>>,
    consumer: Option<Consumer<T, Untrusted>>,
    capacity: usize,
    make: fn(u64) -> T,
    next: u64,
    /// Pushed and not consumed.
    queue: VecDeque<T>,
    /// Consumed since the head is known to be released, oldest first.
    consumed: VecDeque<T>,
    /// How many consumed messages may be unreleased.
    period: usize,
}

impl<T: Pod + PartialEq + core::fmt::Debug> Pair<T> {
    fn new(tape: &mut Tape<'_>, make: fn(u64) -> T) -> Self {
        let capacity = 1 << (tape.byte() % 7);
        let stride = if tape.byte() & 1 == 0 { RoleStride::Line } else { RoleStride::Page };
        let options = Options::new().role_stride(stride).type_fingerprint(tape.byte().into());
        let memory = Memory::new(Ring::<T, Untrusted>::bytes(capacity, &options).expect("a capacity"), &[]);
        let ring = Ring::create(memory.region(), capacity, &options).expect("the memory is long enough");
        let (producer, consumer) = ring.split().expect("both roles are free");
        Self {
            memory,
            producer: Some(producer),
            consumer: Some(consumer),
            capacity,
            make,
            next: 0,
            queue: VecDeque::new(),
            consumed: VecDeque::new(),
            period: (capacity / 8).max(1),
        }
    }

    fn run(mut self, tape: &mut Tape<'_>) {
        for _ in 0..MOST_OPERATIONS {
            let Some(operation) = tape.next() else { break };
            match operation % 14 {
                0 | 1 => self.push(),
                2 => self.push_slice(tape.below(self.capacity + 3)),
                3 => self.reserve(tape),
                4 | 5 => self.pop(),
                6 => self.pop_into(tape.below(self.capacity + 3)),
                7 => self.chunk(tape),
                8 => self.peek(),
                9 => self.release(),
                10 => self.tune(tape),
                11 => self.drain(),
                12 => self.crash(),
                _ => self.reattach(tape.byte()),
            }
            self.compare_lengths();
        }
        self.drain();
    }

    fn producer(&mut self) -> &mut Producer<T, Untrusted> {
        self.producer.as_mut().expect("always there between operations")
    }

    fn consumer(&mut self) -> &mut Consumer<T, Untrusted> {
        self.consumer.as_mut().expect("always there between operations")
    }

    fn messages(&mut self, n: usize) -> Vec<T> {
        let first = self.next;
        self.next += n as u64;
        (first..self.next).map(self.make).collect()
    }

    /// Whether `Full` is an allowed answer, and whether success is.
    fn expect_room(&self, n: usize, answer: Result<(), PushError>) -> bool {
        let unreleased = self.consumed.len().min(self.period);
        match answer {
            Ok(()) => assert!(self.queue.len() + n <= self.capacity, "more messages than capacity"),
            Err(PushError::Full) => {
                assert!(self.queue.len() + unreleased + n > self.capacity, "a false full");
            }
            Err(PushError::Corrupt(corrupt)) => panic!("{corrupt} without a hostile peer"),
        }
        answer.is_ok()
    }

    fn push(&mut self) {
        let message = self.messages(1)[0];
        let answer = self.producer().push(message);
        if self.expect_room(1, answer) {
            self.queue.push_back(message);
        }
    }

    fn push_slice(&mut self, n: usize) {
        let messages = self.messages(n);
        let answer = self.producer().push_slice(&messages);
        if self.expect_room(n, answer) {
            self.queue.extend(messages);
        }
    }

    fn reserve(&mut self, tape: &mut Tape<'_>) {
        let n = tape.below(self.capacity + 2);
        let commit = tape.below(n + 2);
        let cut = tape.below(n + 1);
        let messages = self.messages(n);
        let answer = match self.producer().reserve(n) {
            Err(error) => Err(error),
            Ok(mut reservation) => {
                // The later part first, then the earlier.
                assert_eq!(reservation.set(cut, &messages[cut..]), Ok(()));
                assert_eq!(reservation.set(0, &messages[..cut]), Ok(()));
                assert_eq!(reservation.commit(commit).is_ok(), commit <= n);
                Ok(())
            }
        };
        if self.expect_room(n, answer) && commit <= n {
            self.queue.extend(&messages[..commit]);
        }
    }

    /// Compares what was popped with the front of the queue.
    fn took(&mut self, messages: &[T]) {
        for message in messages {
            let expected = self.queue.pop_front().expect("a message that was pushed");
            assert_eq!(*message, expected);
            self.consumed.push_back(expected);
        }
    }

    fn empty(&mut self, error: PopError) {
        assert_eq!(error, PopError::Empty);
        assert!(self.queue.is_empty(), "a false empty");
        self.released();
    }

    /// Everything consumed is known to be released.
    fn released(&mut self) {
        self.consumed.clear();
    }

    fn pop(&mut self) {
        match self.consumer().pop() {
            Ok(message) => self.took(&[message]),
            Err(error) => self.empty(error),
        }
    }

    fn pop_into(&mut self, n: usize) {
        let mut buffer = vec![T::zeroed(); n];
        let wanted = n.min(self.queue.len());
        match self.consumer().pop_into(&mut buffer) {
            Ok(count) => {
                #[cfg(feature = "planted")]
                if count == 3
                    && self.consumer().position() % self.capacity as u64 == 1
                    && bytemuck::bytes_of(&buffer[1]) != bytemuck::bytes_of(&buffer[0])
                {
                    crate::planted::strikes();
                    buffer[1] = buffer[0];
                }
                assert!(count <= wanted && (count > 0 || n == 0));
                self.took(&buffer[..count]);
            }
            Err(error) => self.empty(error),
        }
    }

    fn chunk(&mut self, tape: &mut Tape<'_>) {
        let max = tape.below(self.capacity + 2);
        let mut buffer = vec![T::zeroed(); max];
        let (release, first) = (tape.below(max + 2), tape.below(max + 1));
        let count = match self.consumer().read_chunk(max) {
            Err(error) => return self.empty(error),
            Ok(chunk) => {
                let n = chunk.len();
                let first = first.min(n);
                assert_eq!(chunk.get(first, &mut buffer[first..n]), Ok(()));
                assert_eq!(chunk.get(0, &mut buffer[..first]), Ok(()));
                assert!(chunk.get(n, &mut [T::zeroed()]).is_err());
                assert_eq!(chunk.release(release).is_ok(), release <= n);
                n
            }
        };
        assert!(count <= max.min(self.queue.len()));
        let seen: Vec<T> = self.queue.iter().take(count).copied().collect();
        assert_eq!(seen, buffer[..count]);
        if release <= count {
            self.took(&seen[..release]);
        }
    }

    fn peek(&mut self) {
        match self.consumer().peek() {
            Ok(message) => assert_eq!(Some(&message), self.queue.front()),
            Err(error) => self.empty(error),
        }
    }

    fn release(&mut self) {
        self.consumer().release();
        self.released();
    }

    fn tune(&mut self, tape: &mut Tape<'_>) {
        let every = u64::from(tape.byte());
        let tuning = Tuning::default().pauses(0).touch(tape.byte() & 1 == 0).release_every(every);
        self.release();
        self.consumer().tune(tuning);
        self.period = usize::from(every as u8).clamp(1, self.capacity);
    }

    fn drain(&mut self) {
        let messages: Vec<T> = self.consumer().drain().collect();
        assert_eq!(messages.len(), self.queue.len());
        self.took(&messages);
        self.released();
    }

    /// Hands are dropped and taken again.
    fn reattach(&mut self, which: u8) {
        let fingerprint = self.fingerprint();
        let ring = Ring::<T, Untrusted>::open(self.memory.region(), fingerprint).expect("a valid ring");
        assert!(ring.producer().is_err() && ring.consumer().is_err(), "a role given twice");
        if which & 1 == 0 {
            self.producer = None;
            self.producer = Some(ring.producer().expect("just freed"));
        }
        if which & 2 == 0 {
            self.consumer = None;
            self.consumer = Some(ring.consumer().expect("just freed"));
            self.period = (self.capacity / 8).max(1);
            self.released();
        }
    }

    fn fingerprint(&self) -> u64 {
        tidewire_shm::Header::read(&self.memory.region()).expect("a valid header").type_fingerprint
    }

    /// Both processes die here; others take over from what is in memory.
    fn crash(&mut self) {
        let image = self.memory.image();
        self.producer = None;
        self.consumer = None;
        self.memory = image;
        let ring =
            Ring::<T, Untrusted>::open(self.memory.region(), self.fingerprint()).expect("a valid ring");
        let dead = (ring.producer_owner().expect("held"), ring.consumer_owner().expect("held"));
        // SAFETY: the former handles worked on other memory and are gone.
        let consumer = unsafe { ring.replace_consumer(dead.1) }.expect("the owner is dead");
        // SAFETY: as above.
        let producer = unsafe { ring.replace_producer(dead.0) }.expect("the owner is dead");
        let published = usize::try_from(producer.position().wrapping_sub(consumer.position())).expect("few");
        let again = published.checked_sub(self.queue.len()).expect("a published message was lost");
        assert!(again <= self.consumed.len().min(self.period), "seen again: {again}");
        for _ in 0..again {
            self.queue.push_front(self.consumed.pop_back().expect("just counted"));
        }
        self.released();
        self.period = (self.capacity / 8).max(1);
        (self.producer, self.consumer) = (Some(producer), Some(consumer));
    }

    fn compare_lengths(&mut self) {
        let (len, unreleased) = (self.queue.len(), self.consumed.len().min(self.period));
        assert_eq!(self.consumer().len(), len);
        let seen = self.producer().len();
        assert!((len..=len + unreleased).contains(&seen), "{seen} of {len} + {unreleased}");
    }
}
