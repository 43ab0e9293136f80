//! A peer that writes over everything.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use tidewire_seqlock::ReadError;
use tidewire_shm::{HEADER_BYTES, Segment};

use crate::peers::{LONG, Peer, Place, alone, hear, open, role, say};
use crate::queues::{CAPACITY, Kind, No, message};
use crate::values::{self, Latest};

const NAMES: [&str; 4] = ["ring", "lanes", "ordered", values::NAME];
/// How long each structure is worked on; while it is scribbled over, until that was noticed, but not for ever.
const WORK: Duration = Duration::from_millis(300);
const MOST_WORK: Duration = Duration::from_secs(4);

/// Pseudo-random numbers; the seed is printed.
struct Dice(u64);

impl Dice {
    fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }
}

/// A file that is scribbled over: where its control words end, and its length.
struct Target {
    file: File,
    control: u64,
    len: u64,
}

impl Target {
    fn new(path: &Path) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut data_offset = [0; 8];
        file.read_exact_at(&mut data_offset, 80).unwrap();
        let len = file.metadata().unwrap().len();
        // The words of the first lane, or the first version, lie behind that.
        let control = (u64::from_le_bytes(data_offset) + 512).clamp(HEADER_BYTES as u64 + 8, len);
        Self { file, control, len }
    }

    /// A value that might be believed, somewhere behind the header.
    fn scribble(&self, dice: &mut Dice) {
        let header = HEADER_BYTES as u64;
        let end = if dice.below(3) == 0 { self.len } else { self.control };
        let offset = header + 8 * dice.below((end - header) / 8);
        let mut old = [0; 8];
        self.file.read_exact_at(&mut old, offset).unwrap();
        let old = u64::from_le_bytes(old);
        let value = match dice.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => old.wrapping_add(1),
            3 => old.wrapping_sub(1),
            4 => old.wrapping_add(CAPACITY as u64),
            5 => old.wrapping_add(CAPACITY as u64 + 1),
            6 => dice.below(2 * CAPACITY as u64),
            _ => dice.word(),
        };
        self.file.write_all_at(&value.to_le_bytes(), offset).unwrap();
    }
}

/// Writes over everything behind the headers until it is killed.
fn scribble_for_ever(place: &Path, seed: u64) -> ! {
    let targets = NAMES.map(|name| Target::new(&place.join(name)));
    let mut dice = Dice(seed);
    say("scribbling");
    let started = Instant::now();
    while started.elapsed() < 4 * LONG {
        for target in &targets {
            for _ in 0..64 {
                target.scribble(&mut dice);
            }
        }
    }
    panic!("nobody killed this process");
}

/// What came of the operations on one structure.
#[derive(Debug, Default)]
struct Tally {
    /// What was put in.
    right: u64,
    /// Anything else.
    other: u64,
    corrupt: u64,
    refused: u64,
}

impl Tally {
    fn is_enough(&self, started: Instant, scribbled: bool) -> bool {
        started.elapsed() > if scribbled && self.corrupt == 0 { MOST_WORK } else { WORK }
    }
}

/// Works on a queue for a while, which is laid out anew whenever it is found corrupt.
fn work_on(kind: Kind, segment: &Segment, untouched: &Segment, scribbled: bool) -> Tally {
    let mut tally = Tally::default();
    let mut beside = (kind.producer(untouched).unwrap(), kind.consumer(untouched).unwrap());
    let started = Instant::now();
    let mut number = 0;
    while !tally.is_enough(started, scribbled) {
        kind.lay_out(segment.region(), 1).unwrap();
        let (Ok(mut producer), Ok(mut consumer)) = (kind.producer(segment), kind.consumer(segment)) else {
            tally.refused += 1;
            continue;
        };
        'until_corrupt: for _ in 0..200 {
            for _ in 0..16 {
                number += 1;
                if let Err(No::Corrupt(said)) = producer.push(message(0, number)) {
                    tally.corrupt += 1;
                    // For good.
                    assert_eq!(producer.push(message(0, 0)), Err(No::Corrupt(said)));
                    break 'until_corrupt;
                }
            }
            for _ in 0..17 {
                match consumer.pop() {
                    Ok(found) if found == message(0, found[1]) => tally.right += 1,
                    Ok(_) => tally.other += 1,
                    Err(No::Yet) => break,
                    Err(No::Corrupt(said)) => {
                        tally.corrupt += 1;
                        if kind == Kind::Ring {
                            assert_eq!(consumer.pop(), Err(No::Corrupt(said)));
                        }
                        break 'until_corrupt;
                    }
                }
            }
        }
        // Nothing happens to anything else.
        beside.0.push(message(1, number)).unwrap();
        assert_eq!(beside.1.pop().unwrap(), message(1, number));
    }
    tally
}

/// As [`work_on`], on a latest value.
fn work_on_value(segment: &Segment, scribbled: bool) -> Tally {
    let mut tally = Tally::default();
    let leases = segment.leases().unwrap();
    let started = Instant::now();
    while !tally.is_enough(started, scribbled) {
        values::lay_out(segment.region()).unwrap();
        let opened =
            Latest::open(segment.region(), 0).and_then(|cell| Ok((cell.writer(&leases)?, cell.reader())));
        let Ok((mut writer, mut reader)) = opened else {
            tally.refused += 1;
            continue;
        };
        for round in 0..200 {
            // More is read than written: what is written hides what was scribbled.
            if round % 20 == 0 {
                writer.write(&values::value(writer.version().wrapping_add(1)));
            }
            match reader.read() {
                Ok((found, version)) if found == values::value(version) => tally.right += 1,
                Ok(_) => tally.other += 1,
                Err(ReadError::Lapped) => {}
                Err(corrupt) => {
                    tally.corrupt += 1;
                    assert_eq!(reader.read().map(|(_, version)| version), Err(corrupt));
                    break;
                }
            }
        }
    }
    tally
}

/// Works on all structures, before and while somebody scribbles over them.
fn be_scribbled_over(place: &Path) {
    // A turn that does not end is ended.
    // SAFETY: no memory is involved.
    unsafe { libc::alarm(20) };
    let elsewhere = Place::new();
    let untouched = Kind::ALL.map(|kind| kind.create(elsewhere.path(), 1));
    let segments = Kind::ALL.map(|kind| open(place, kind.name()));
    let value = open(place, values::NAME);
    for scribbled in [false, true] {
        if scribbled {
            say("ready");
            hear();
        }
        let of_queues =
            (0..3).map(|index| work_on(Kind::ALL[index], &segments[index], &untouched[index], scribbled));
        let tallies: Vec<_> = of_queues.chain([work_on_value(&value, scribbled)]).collect();
        for (name, tally) in NAMES.iter().zip(&tallies) {
            println!("{name}: {tally:?}");
            assert!(tally.right > 0, "{name}: {tally:?}");
            let faults = [tally.other, tally.corrupt, tally.refused];
            assert!(scribbled || faults == [0; 3], "{name}, left alone: {tally:?}");
            assert!(!scribbled || tally.corrupt > 0, "{name}, scribbled over: {tally:?}");
        }
    }
    say("came through");
}

#[test]
fn scribbled_words_are_corrupt_or_data_and_nothing_worse() {
    const TEST: &str = "hostile::scribbled_words_are_corrupt_or_data_and_nothing_worse";
    if let Some((role, argument)) = role() {
        let (place, seed) = argument.split_once(' ').unwrap();
        match role.as_str() {
            "hostile" => scribble_for_ever(Path::new(place), seed.parse().unwrap()),
            _ => return be_scribbled_over(Path::new(place)),
        }
    }
    let _alone = alone();
    let place = Place::new();
    let _segments = Kind::ALL.map(|kind| kind.create(place.path(), 1));
    let _value = values::create(place.path());
    let seed = u64::from(std::process::id()) << 20 | 1;
    println!("seed {seed}");
    let argument = format!("{} {seed}", place.path().display());
    let mut victim = Peer::start(TEST, "victim", &argument);
    assert_eq!(victim.next(), "ready");
    let mut hostile = Peer::start(TEST, "hostile", &argument);
    assert_eq!(hostile.next(), "scribbling");
    victim.tell();
    assert_eq!(victim.next(), "came through");
    victim.end();
    assert!(hostile.try_wait().unwrap().is_none(), "it scribbled to the end");
}
