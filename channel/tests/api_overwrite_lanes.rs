//! Channels that drop their oldest messages, with several senders.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests may panic, with small numbers"
)]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tidewire::shm::Segment;
use tidewire::{
    OpenError, Options, Overflow, Receiver, RecvError, RecvTimeoutError, Select, Sender, TryRecvError,
};

const LONG: Duration = Duration::from_secs(20);
/// Who sent it, and which one of its messages it is.
type Numbered = [u64; 2];

fn options() -> Options {
    Options::new().overflow(Overflow::DropOldest).capacity(64).senders(5)
}

fn in_a_directory() -> (tempfile::TempDir, Options) {
    let place = tempfile::tempdir().unwrap();
    let options = options().directory(place.path().join("segments"));
    (place, options)
}

/// A channel whose memory stays whoever comes and goes.
struct Lasting {
    options: Options,
    memory: Segment,
}

impl Lasting {
    fn new(options: Options) -> Self {
        let memory = options.memory::<Numbered>().unwrap();
        Self { options, memory }
    }

    fn segment(&self) -> Segment {
        Segment::from_fd(self.memory.try_clone_fd().unwrap()).unwrap()
    }

    fn receiver(&self) -> Receiver<Numbered> {
        self.options.receiver_on(self.segment()).unwrap()
    }

    fn sender(&self) -> Sender<Numbered> {
        self.options.sender_on(self.segment()).unwrap()
    }
}

/// What was received of each sender: how many, and which one would be next.
#[derive(Default)]
struct Tally {
    of: [(u64, u64); 5],
}

impl Tally {
    fn add(&mut self, [who, number]: Numbered) {
        let (received, next) = &mut self.of[who as usize];
        assert!(number >= *next, "{number} of {who} behind {next}");
        (*received, *next) = (*received + 1, number + 1);
    }

    fn received(&self) -> u64 {
        self.of.iter().map(|(received, _)| received).sum()
    }

    fn known(&self) -> u64 {
        self.of.iter().map(|(_, next)| next).sum()
    }
}

fn dropped(rx: &mut Receiver<Numbered>, number: u32) -> u64 {
    rx.senders().iter().find(|sender| sender.number == number).unwrap().dropped
}

#[test]
fn the_oldest_of_each_sender_go_and_are_counted_exactly() {
    let (tx, mut rx) = options().channel::<Numbered>().unwrap();
    let mut senders = [tx.try_clone().unwrap(), tx.try_clone().unwrap(), tx];
    let sent = [1000, 30, 65];
    for (who, tx) in senders.iter_mut().enumerate() {
        (0..sent[who]).for_each(|i| tx.send([who as u64, i]).unwrap());
    }
    let mut tally = Tally::default();
    rx.drain().for_each(|message| tally.add(message));
    let mut missed = 0;
    for (who, tx) in senders.iter().enumerate() {
        let (received, next) = tally.of[who];
        assert_eq!(next, sent[who], "the last ones are never dropped");
        assert_eq!(received + dropped(&mut rx, tx.number()), sent[who], "of {who}");
        assert_eq!(tx.dropped(), sent[who] - received, "told when nothing was left");
        assert!(received >= sent[who].min(48));
        assert_eq!((tx.len(), tx.capacity()), (0, 64));
        missed += sent[who] - received;
    }
    assert_eq!(senders[1].dropped(), 0);
    assert_eq!(rx.missed(), missed);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    senders[1].send([1, 30]).unwrap();
    let number = senders[1].number();
    let full = |(lane, depth): &(u32, usize)| *depth == usize::from(*lane == number);
    assert!(senders[0].depths().iter().all(full));
    assert_eq!(senders[0].depths().len(), 5);
    assert_eq!(rx.senders().iter().map(|sender| sender.queued).sum::<usize>(), 1);
    assert_eq!((senders[1].len(), rx.recv()), (1, Ok([1, 30])));
}

#[test]
fn whatever_the_pace_received_and_missed_is_all_of_each() {
    const EACH: u64 = 20_000;
    let (tx, mut rx) = options().channel::<Numbered>().unwrap();
    let mut senders: Vec<_> = (0..3).map(|_| tx.try_clone().unwrap()).collect();
    senders.push(tx);
    let numbers: Vec<_> = senders.iter().map(Sender::number).collect();
    let (done, all_done) = mpsc::channel();
    let mut threads = Vec::new();
    for (who, mut tx) in senders.into_iter().enumerate() {
        // Ends with this test, also if that fails.
        let (done, (leave, may_leave)) = (done.clone(), mpsc::channel::<()>());
        let thread = thread::spawn(move || {
            for i in 0..EACH {
                tx.send([who as u64, i]).unwrap();
                if i % 4000 == 0 {
                    thread::sleep(Duration::from_micros(500));
                }
            }
            done.send(()).unwrap();
            let _told = may_leave.recv();
            tx.dropped()
        });
        threads.push((leave, thread));
    }
    let mut tally = Tally::default();
    let mut looks = 0;
    while tally.known() < 4 * EACH {
        let message @ [who, _] = rx.recv_timeout(LONG).unwrap();
        tally.add(message);
        looks += 1;
        if looks % 500 == 0 {
            // It has not looked at this sender's since.
            let (received, next) = tally.of[who as usize];
            assert_eq!(received + dropped(&mut rx, numbers[who as usize]), next);
        }
    }
    assert_eq!(all_done.iter().take(4).count(), 4);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    for (who, number) in numbers.iter().enumerate() {
        assert_eq!(tally.of[who].0 + dropped(&mut rx, *number), EACH, "of {who}");
    }
    assert_eq!(tally.received() + rx.missed(), 4 * EACH);
    for (who, (leave, thread)) in threads.into_iter().enumerate() {
        leave.send(()).unwrap();
        assert_eq!(tally.of[who].0 + thread.join().unwrap(), EACH, "{who} knows it, too");
    }
    assert_eq!(rx.recv(), Err(RecvError::Disconnected));
}

#[test]
fn one_that_floods_keeps_nobody_waiting() {
    let (mut flood, mut rx) = options().capacity(4096).channel::<Numbered>().unwrap();
    let mut rare = flood.try_clone().unwrap();
    (0..3000).for_each(|i| flood.send([0, i]).unwrap());
    rare.send([1, 0]).unwrap();
    let before = rx.iter().position(|[who, _]| who == 1).unwrap();
    assert!(before <= 64, "{before} of the other first");
    assert_eq!(rx.drain().count() + before, 3000);
}

#[test]
fn the_next_sender_of_a_lane_has_an_account_of_its_own() {
    let channel = Lasting::new(options().senders(1));
    let mut rx = channel.receiver();
    let mut first = channel.sender();
    (0..100).for_each(|i| first.send([0, i]).unwrap());
    drop(first);
    let mut second = channel.sender();
    assert_eq!((second.number(), second.dropped()), (0, 0));
    (0..40).for_each(|i| second.send([1, i]).unwrap());
    let mut tally = Tally::default();
    rx.drain().for_each(|message| tally.add(message));
    assert_eq!((tally.of[0].1, tally.of[1]), (100, (40, 40)), "those of both are kept");
    assert_eq!(tally.received() + rx.missed(), 140);
    assert_eq!((dropped(&mut rx, 0), second.dropped()), (0, 0), "it lost none");
    (40..200).for_each(|i| second.send([1, i]).unwrap());
    rx.drain().for_each(|message| tally.add(message));
    assert_eq!(tally.received() + rx.missed(), 300);
    assert_eq!(tally.of[1].0 + dropped(&mut rx, 0), 200);
    assert_eq!(tally.of[1].0 + second.dropped(), 200);
}

#[test]
fn what_a_sender_left_is_received_before_its_lane_is_overwritten() {
    let channel = Lasting::new(options().senders(2));
    let mut rx = channel.receiver();
    let mut gone = channel.sender();
    (0..60).for_each(|i| gone.send([0, i]).unwrap());
    let lane = gone.number();
    drop(gone);
    let mut other = channel.sender();
    assert_ne!(other.number(), lane, "that one is not empty");
    (0..200).for_each(|i| other.send([1, i]).unwrap());
    let mut tally = Tally::default();
    rx.drain().for_each(|message| tally.add(message));
    assert_eq!(tally.of[0], (60, 60));
    assert_eq!(tally.received() + rx.missed(), 260);
    let third = channel.sender();
    assert_eq!(third.number(), lane, "now it is");
    assert!(matches!(
        channel.options.sender_on::<Numbered>(channel.segment()),
        Err(OpenError::Exhausted { most: 2 })
    ));
}

#[test]
fn the_next_receiver_goes_on_with_each_account() {
    let channel = Lasting::new(options());
    let mut rx = channel.receiver();
    let mut senders = [channel.sender(), channel.sender()];
    let mut tally = Tally::default();
    let (mut sent, mut missed) = ([0; 2], 0);
    for round in 0..6_u64 {
        // The senders do not notice that there is another receiver.
        for (who, tx) in senders.iter_mut().enumerate() {
            for _ in 0..[30, 100][who] {
                tx.send([who as u64, sent[who]]).unwrap();
                sent[who] += 1;
            }
        }
        (0..10 * round).for_each(|_| tally.add(rx.recv().unwrap()));
        missed += rx.missed();
        drop(rx);
        rx = channel.receiver();
    }
    rx.drain().for_each(|message| tally.add(message));
    missed += rx.missed();
    assert_eq!((tally.of[0].1, tally.of[1].1), (sent[0], sent[1]));
    assert_eq!(tally.received() + missed, sent[0] + sent[1]);
    for (who, tx) in senders.iter().enumerate() {
        assert_eq!(tally.of[who].0 + tx.dropped(), sent[who], "of all receivers");
        assert_eq!(tx.dropped(), dropped(&mut rx, tx.number()));
    }
}

#[test]
fn slices_and_places_go_through_it() {
    let (mut tx, mut rx) = options().channel::<u64>().unwrap();
    let mut other = tx.try_clone().unwrap();
    assert_eq!(tx.send_slice(&(0..200).collect::<Vec<_>>()), Ok(200));
    let mut some = [0; 7];
    let (mut received, mut last) = (0, 0);
    while let Ok(count) = rx.try_recv_slice(&mut some) {
        assert!(count > 0);
        received += count as u64;
        last = some[count - 1];
    }
    assert_eq!((last, received + rx.missed()), (199, 200));
    let mut place = other.reserve().unwrap();
    *place.as_mut().unwrap() = 200;
    place.commit().unwrap();
    let mut chunk = rx.read_chunk(8).unwrap();
    assert_eq!(chunk.as_slices().unwrap().0, [200]);
    chunk.release(1).unwrap();
    let mut to = 0;
    tx.send_from(&201).unwrap();
    rx.recv_to(&mut to).unwrap();
    assert_eq!(to, 201);
    assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
}

#[test]
fn a_receiver_that_sleeps_is_woken_by_each_and_told_when_all_left() {
    let (tx, mut rx) = options().channel::<u64>().unwrap();
    let senders: Vec<_> = (0..3).map(|_| tx.try_clone().unwrap()).collect();
    drop(tx);
    let threads: Vec<_> = (0..)
        .zip(senders)
        .map(|(who, mut tx)| {
            thread::spawn(move || {
                for _ in 0..10 {
                    thread::sleep(Duration::from_millis(1 + who));
                    tx.send(1).unwrap();
                }
            })
        })
        .collect();
    assert_eq!(rx.iter().sum::<u64>() + rx.missed(), 30);
    assert_eq!(rx.recv(), Err(RecvError::Disconnected));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn senders_that_come_and_go_are_all_heard() {
    let channel = Lasting::new(options().senders(3));
    let mut rx = channel.receiver();
    let mut tally = Tally::default();
    for round in 0..40 {
        // Between two looks of the receiver, too.
        for who in 0..=round % 3 {
            let mut tx = channel.sender();
            tx.send([who, round]).unwrap();
        }
        while let Ok(message) = rx.try_recv() {
            tally.add(message);
        }
    }
    assert_eq!((tally.received(), rx.missed()), (13 * 6 + 1, 0));
    assert_eq!(rx.recv(), Err(RecvError::Disconnected));
}

#[test]
fn a_select_wakes_for_it() {
    let (tx, mut rx) = options().channel::<u64>().unwrap();
    let mut late = tx.try_clone().unwrap();
    let sender = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        late.send(7).unwrap();
        late
    });
    assert_eq!(Select::new().wait_timeout(&mut [&mut rx], LONG).unwrap(), Some(0));
    assert_eq!(rx.recv(), Ok(7));
    drop(sender.join().unwrap());
}

#[test]
fn names_go_when_all_was_received_and_stay_when_not() {
    let (place, options) = in_a_directory();
    let names = || std::fs::read_dir(place.path().join("segments")).unwrap().count();
    let mut rx = options.receiver::<u64>("test").unwrap();
    let mut first = options.sender::<u64>("test").unwrap();
    let second = options.sender::<u64>("test").unwrap();
    first.send(1).unwrap();
    drop((rx, first));
    // The last one to leave knows that of the others.
    drop(second);
    assert_eq!(names(), 1, "one message waits");
    rx = options.receiver::<u64>("test").unwrap();
    first = options.sender::<u64>("test").unwrap();
    assert_eq!(rx.recv(), Ok(1));
    drop(rx);
    drop(first);
    assert_eq!(names(), 0);
}

#[test]
fn what_is_asked_is_known_and_what_cannot_be_is_refused() {
    let (place, options) = in_a_directory();
    let mut rx = options.receiver::<u64>("test").unwrap();
    assert!(matches!(options.receiver::<u64>("test"), Err(OpenError::Taken { role: "receiver", .. })));
    let senders: Vec<_> = (0..5).map(|_| options.sender::<u64>("test").unwrap()).collect();
    assert!(matches!(options.sender::<u64>("test"), Err(OpenError::Exhausted { most: 5 })));
    assert_eq!(senders.iter().map(Sender::number).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(rx.senders().len(), 5);
    // The usual options know what their receiver chose.
    drop(senders);
    let mut tx = Options::new().directory(place.path().join("segments")).sender::<u64>("test").unwrap();
    (0..100).for_each(|i| tx.send(i).unwrap());
    assert_eq!(rx.drain().count() as u64 + rx.missed(), 100);
    let most = Options::new().overflow(Overflow::DropOldest).senders(255).capacity(4);
    let (mut tx, mut rx) = most.channel::<u8>().unwrap();
    tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
}

/// Numbers that seem to be random.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Any words anywhere behind the first page: every call returns, and what it returns is a message, an error or nothing.
#[test]
fn scribbled_words_neither_panic_nor_hang_nor_reach_out() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..150_u64 {
        let channel = Lasting::new(options().capacity(16).senders(3));
        let mut rx = channel.receiver();
        let mut senders = vec![channel.sender(), channel.sender()];
        let region = channel.memory.region();
        let words = region.len() / 8;
        // SAFETY: only ever used as atomic words; the memory outlives them.
        let all = unsafe { region.words(0, words) };
        for _ in 0..30 {
            for tx in &mut senders {
                (0..random.below(40)).for_each(|i| _ = tx.try_send([0, i]));
                let _numbers = (tx.len(), tx.dropped(), tx.depths());
            }
            for _ in 0..1 + random.below(1 + round % 60) {
                let at = 512 + random.below(words as u64 - 512) as usize;
                let word = match random.below(4) {
                    0 => random.next(),
                    1 => 0,
                    2 => u64::MAX,
                    _ => random.below(70),
                };
                // SAFETY: within the words.
                unsafe { all.word(at) }.store(word, std::sync::atomic::Ordering::Relaxed);
            }
            for _ in 0..random.below(100) {
                if let Err(TryRecvError::Empty | TryRecvError::Disconnected) = rx.try_recv() {
                    break;
                }
            }
            let _numbers = (rx.missed(), rx.senders(), rx.recv_timeout(Duration::from_micros(50)));
            match random.below(6) {
                0 => {
                    drop(rx);
                    let Ok(next) = channel.options.receiver_on(channel.segment()) else { break };
                    rx = next;
                }
                1 => {
                    senders.remove(0);
                    match channel.options.sender_on(channel.segment()) {
                        Ok(next) => senders.push(next),
                        Err(_) => break,
                    }
                }
                _ => {}
            }
            if senders.is_empty() {
                break;
            }
        }
    }
}
