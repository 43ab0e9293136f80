//! Channels of several senders that drop their oldest, when whoever has an end is killed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests may panic, with small numbers"
)]

mod peer;

use std::path::Path;
use std::time::{Duration, Instant};

use peer::{Peer, listen, role, say};
use tidewire::{Options, Overflow, Receiver, RecvTimeoutError, SendError};

const LONG: Duration = Duration::from_secs(20);
const CAPACITY: u64 = 64;
/// What a killed receiver may have received of each sender without having told it.
const UNTOLD: u64 = CAPACITY / 8 + 2;
const SENDERS: usize = 3;
/// Who sent it, and in all other words which one of its messages it is.
type Numbered = [u64; 8];

fn options(place: &Path) -> Options {
    Options::new()
        .directory(place.join("segments"))
        .capacity(CAPACITY as usize)
        .overflow(Overflow::DropOldest)
        .senders(SENDERS as u32 + 1)
}

fn numbered(who: u64, number: u64) -> Numbered {
    let mut message = [number; 8];
    message[0] = who;
    message
}

fn whole(message: &Numbered) -> (usize, u64) {
    assert!(message[1..].iter().all(|word| *word == message[1]), "torn: {message:?}");
    (message[0] as usize, message[1])
}

fn words(line: &str) -> Vec<u64> {
    line.split(' ').map_while(|word| word.parse().ok()).collect()
}

/// Kills a peer, and says what it still had to say.
fn last_words(peer: &mut Peer) -> Vec<String> {
    peer.kill();
    std::iter::from_fn(|| peer.hear()).collect()
}

/// What a line of a gatherer says, unless it was cut.
fn gathered(line: &str) -> Option<[u64; 4]> {
    words(line.strip_suffix(" .")?).try_into().ok()
}

fn dropped(rx: &mut Receiver<Numbered>, number: u64) -> Option<u64> {
    rx.senders().iter().find(|sender| u64::from(sender.number) == number).map(|sender| sender.dropped)
}

/// What a peer does.
#[test]
fn peer() {
    let Some((role, place)) = role() else { return };
    let options = options(Path::new(&place));
    match role.as_str() {
        // Sends numbers from the one it hears, and says what it has sent now and then, until it is killed.
        "flood" => {
            let heard = words(&listen());
            let [who, first] = heard[..] else { panic!("{heard:?}") };
            let mut tx = options.sender_in::<Numbered>("test", LONG).unwrap();
            say(tx.number());
            for i in first.. {
                if tx.send(numbered(who, i)).is_err() {
                    break;
                }
                if i % 50 == 0 {
                    say(i);
                }
            }
        }
        // Receives, and says what, and how many of that sender it received, and how many receivers missed.
        "gather" => {
            let mut rx = options.receiver_in::<Numbered>("test", LONG).unwrap();
            say("there");
            let mut received = [0; SENDERS];
            while let Ok(message) = rx.recv() {
                let (who, value) = whole(&message);
                received[who] += 1;
                let missed = dropped(&mut rx, who as u64).expect("its sender is there");
                say(format!("{who} {value} {} {missed} .", received[who]));
            }
        }
        other => panic!("no such role: {other}"),
    }
}

/// What is known of one of several senders, over all its lives.
#[derive(Clone, Copy, Default)]
struct Life {
    /// Its lane, and where this life began.
    number: u64,
    first: u64,
    /// Received in this life.
    received: u64,
    /// Which message would be next.
    next: u64,
}

fn take(message: &Numbered, lives: &mut [Life; SENDERS]) -> usize {
    let (who, value) = whole(message);
    let life = &mut lives[who];
    assert!(value >= life.next, "{value} of {who} behind {}", life.next);
    (life.received, life.next) = (life.received + 1, value + 1);
    who
}

#[test]
fn senders_are_killed_anywhere_and_no_account_has_a_gap() {
    let place = tempfile::tempdir().unwrap();
    let mut rx = options(place.path()).receiver::<Numbered>("test").unwrap();
    let mut lives = [Life::default(); SENDERS];
    let mut all_received = 0;
    for round in 0..8_usize {
        let mut floods: Vec<Peer> = Vec::new();
        for (who, life) in lives.iter_mut().enumerate() {
            let mut flood = Peer::start("flood", place.path());
            flood.tell(&format!("{who} {}", life.next));
            let number = flood.hear().expect("it found a lane").parse().unwrap();
            *life = Life { number, first: life.next, received: 0, next: life.next };
            floods.push(flood);
        }
        let mut said = [None; SENDERS];
        for victim in 0..SENDERS {
            for look in 0..40 * (round + 1) {
                // One that was killed already, and slept in its wake, is told by the others.
                let Ok(message) = rx.recv_timeout(LONG) else { panic!("two are alive") };
                let who = take(&message, &mut lives);
                all_received += 1;
                // A dead one is no sender any more.
                if look % 20 == 0
                    && let Some(dropped) = dropped(&mut rx, lives[who].number)
                {
                    let Life { first, received, next, .. } = lives[who];
                    assert_eq!(first + received + dropped, next, "of {who} in round {round}");
                }
            }
            let victim = (victim + round) % SENDERS;
            floods[victim].kill();
            while let Some(more) = floods[victim].hear() {
                said[victim] = more.parse::<u64>().ok().or(said[victim]);
            }
        }
        let killed = Instant::now();
        loop {
            match rx.recv_timeout(LONG) {
                Ok(message) => {
                    take(&message, &mut lives);
                    all_received += 1;
                }
                Err(error) => {
                    assert_eq!(error, RecvTimeoutError::Disconnected);
                    break;
                }
            }
        }
        assert!(killed.elapsed() < LONG, "told of the last death");
        let all_sent: u64 = lives.iter().map(|life| life.next).sum();
        assert_eq!(all_received + rx.missed(), all_sent, "in round {round}");
        for (life, said) in lives.iter().zip(said) {
            assert!(said.is_none_or(|said| life.next > said), "{said:?} was sent, {} is next", life.next);
        }
    }
}

#[test]
fn a_receiver_is_killed_and_the_next_goes_on_with_each_account() {
    let place = tempfile::tempdir().unwrap();
    let mut gatherer = Peer::start("gather", place.path());
    assert_eq!(gatherer.hear().as_deref(), Some("there"));
    let open = || options(place.path()).sender_in::<Numbered>("test", LONG).unwrap();
    let mut senders: [_; SENDERS] = std::array::from_fn(|_| open());
    let mut sent = [0_u64; SENDERS];
    // What was received of each, as told by receivers that are gone, and as it was.
    let mut received = [0_u64; SENDERS];
    let mut last = [None::<u64>; SENDERS];
    for round in 0..7_u64 {
        for burst in 0..20 * (round + 1) {
            for (who, tx) in senders.iter_mut().enumerate() {
                assert_eq!(u64::from(tx.number()), who as u64);
                for _ in 0..=burst % (who as u64 + 1) {
                    tx.send(numbered(who as u64, sent[who])).unwrap();
                    sent[who] += 1;
                }
            }
            if burst % 7 == 0 {
                std::thread::sleep(Duration::from_micros(300));
            }
        }
        let heard = gatherer.hear().expect("something was received");
        let mut lines = vec![heard];
        lines.extend(last_words(&mut gatherer));
        let mut bases = [None; SENDERS];
        let mut now = [(0, None); SENDERS];
        for [who, value, count, missed] in lines.iter().filter_map(|line| gathered(line)) {
            let who = who as usize;
            let base = (value + 1).checked_sub(count + missed).expect("no more than was sent");
            assert_eq!(*bases[who].get_or_insert(base), base, "received and missed is all, of {who}");
            now[who] = (count, Some(value));
        }
        for who in 0..SENDERS {
            let Some(base) = bases[who] else { continue };
            // What was told is at most what was received, and little less. The last one may not have been said.
            assert!(base <= received[who] + 1, "{base} told of {} of {who}", received[who]);
            assert!(base + UNTOLD >= received[who], "{base} told of {} of {who}", received[who]);
            let (count, value) = now[who];
            if let (Some(value), Some(last)) = (value, last[who]) {
                assert!(value + UNTOLD > last, "{value} behind {last}");
            }
            (received[who], last[who]) = (base + count, value);
        }
        // Senders find out by themselves.
        let lonely = Instant::now();
        for (who, tx) in senders.iter_mut().enumerate() {
            let mut more = 0;
            while tx.send(numbered(who as u64, sent[who])).is_ok() {
                sent[who] += 1;
                more += 1;
                assert!(more <= 2 * CAPACITY && lonely.elapsed() < LONG);
            }
        }
        gatherer = Peer::start("gather", place.path());
        assert_eq!(gatherer.hear().as_deref(), Some("there"));
        for (who, tx) in senders.iter_mut().enumerate() {
            assert!(tx.is_connected());
            let full = matches!(tx.send(numbered(who as u64, sent[who])), Err(SendError::Full(_)));
            assert!(!full);
            sent[who] += 1;
        }
    }
    // The last one reads all that is left.
    for [who, _, count, missed] in last_words(&mut gatherer).iter().filter_map(|line| gathered(line)) {
        assert!(count + missed <= sent[who as usize]);
        received[who as usize] += 1;
    }
    let mut rx = options(place.path()).receiver_in::<Numbered>("test", LONG).unwrap();
    let mut count = [0_u64; SENDERS];
    while let Ok(message) = rx.try_recv() {
        let (who, value) = whole(&message);
        (count[who], last[who]) = (count[who] + 1, Some(value));
    }
    for (who, tx) in senders.iter().enumerate() {
        assert_eq!(last[who], Some(sent[who] - 1), "the last ones are never dropped");
        let missed = dropped(&mut rx, who as u64).unwrap();
        assert_eq!(tx.dropped(), missed);
        let told = sent[who].checked_sub(missed + count[who]).expect("no more than was sent");
        assert!((told..=told + 2 * UNTOLD).contains(&received[who]) || told == received[who] + 1);
    }
}
