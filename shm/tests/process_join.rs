//! Who is first: of several that join one segment at the same time exactly one creates or adopts it, also when some are
//! killed on the way.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod process_segment_peer;

use std::fs::{self, File, Permissions};
use std::hint::spin_loop;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use process_segment_peer::{peer, report, role, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tidewire_shm::sync::{AtomicU64, Ordering, Shared};
use tidewire_shm::{
    Arrival, CleanMode, Header, JoinError, Region, RoleStride, Segment, SegmentError, SegmentOptions,
    StalePolicy, Untrusted, Verdict,
};

const NAME: &str = "ticks";
const LEN: usize = 8192;
const CONTROL: &str = "TIDEWIRE_TEST_CONTROL";
const PATIENCE: Duration = Duration::from_secs(50);

fn private_place() -> TempDir {
    let private = Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(private).tempdir_in("/dev/shm").unwrap()
}

fn options(place: &Path) -> SegmentOptions {
    SegmentOptions::new().directory(place)
}

fn init(region: Region<Untrusted>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let header = Header {
        kind: 0x7e57,
        total_bytes: LEN as u64,
        capacity: 0,
        element_bytes: 1,
        element_align: 1,
        type_fingerprint: 0,
        role_stride: RoleStride::Line,
        data_offset: 128,
        origin: region.origin(),
    };
    Ok(header.write(&region)?)
}

/// Nobody can ever be present in a segment that nobody may adopt, however many look at it at the same time.
#[test]
fn whoever_only_decides_is_not_taken_for_a_user() {
    let place = private_place();
    let options = options(place.path());
    drop(Segment::create_with(NAME, LEN, &options, |_| Ok(())).unwrap());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..1500 {
                    let answer = Segment::join_with(NAME, LEN, StalePolicy::Adopt, &options, init);
                    match answer {
                        Err(JoinError::NotAdoptable { .. }) => {}
                        other => panic!("round {round}: {other:?}"),
                    }
                }
            });
        }
    });
}

/// The words that the racers and their starter share, each with a line of its own.
struct Control(Region<Untrusted>);

const ROUND: usize = 0;
const LEAVE: usize = 128;
const FIRST_RACER: usize = 256;
const RACER_BYTES: usize = 128;
const MOST_RACERS: usize = 8;
const CONTROL_BYTES: usize = FIRST_RACER + MOST_RACERS * RACER_BYTES;

impl Control {
    fn word(&self, offset: usize) -> Shared<AtomicU64> {
        // SAFETY: the region lives as long as the process, and has nothing but such words.
        unsafe { self.0.atomic_u64(offset) }
    }

    /// 0: what the racer answered: round << 2 | arrival; 8: the inode; 16: the last round that it left; 24: it is ready.
    fn racer(&self, index: usize, field: usize) -> Shared<AtomicU64> {
        self.word(FIRST_RACER + index * RACER_BYTES + 8 * field)
    }
}

const ANSWER: usize = 0;
const INODE: usize = 1;
const LEFT: usize = 2;
const READY: usize = 3;

const OPENED: u64 = 1;
const FIRST: u64 = 2;

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        thread::yield_now();
    }
}

/// Rounds in which there is a stale segment, to be recreated, adopted, or either, or none.
fn policy(round: u64, index: usize) -> StalePolicy {
    let either = [StalePolicy::Adopt, StalePolicy::Recreate];
    match round % 4 {
        0 => StalePolicy::Recreate,
        1 | 2 => StalePolicy::Adopt,
        _ => either[index % 2],
    }
}

fn has_no_name(round: u64) -> bool {
    round % 4 == 2
}

/// Joins once a round, and stays until all may leave.
fn race(role: &str, place: &str) {
    let control = Control(Segment::inherited(CONTROL).unwrap().region());
    let index: usize = role.parse().unwrap();
    let options = options(Path::new(place)).named_temporary(index % 2 == 1);
    let mut last = control.word(ROUND).load(Ordering::SeqCst);
    control.racer(index, READY).store(1, Ordering::SeqCst);
    loop {
        wait_until("nobody begins a round", || control.word(ROUND).load(Ordering::SeqCst) > last);
        last = control.word(ROUND).load(Ordering::SeqCst);
        let joined = Segment::join_with(NAME, LEN, policy(last, index), &options, init).unwrap();
        let arrival = match joined.arrival {
            Arrival::Opened => OPENED,
            _ => FIRST,
        };
        let inode = rustix::fs::fstat(&joined.segment).unwrap().st_ino;
        control.racer(index, INODE).store(inode, Ordering::SeqCst);
        control.racer(index, ANSWER).store(last << 2 | arrival, Ordering::SeqCst);
        wait_until("nobody ends a round", || control.word(LEAVE).load(Ordering::SeqCst) >= last);
        drop(joined);
        control.racer(index, LEFT).store(last, Ordering::SeqCst);
    }
}

struct Racers {
    test: &'static str,
    place: TempDir,
    segment: Segment,
    control: Control,
    all: Vec<Child>,
}

impl Racers {
    fn start(test: &'static str, count: usize) -> Self {
        let segment = Segment::anonymous(CONTROL_BYTES).unwrap();
        let control = Control(segment.region());
        let mut racers = Self { test, place: private_place(), segment, control, all: Vec::new() };
        for index in 0..count {
            let child = racers.spawn(index);
            racers.all.push(child);
        }
        (0..count).for_each(|index| racers.wait_for(index));
        racers
    }

    fn spawn(&self, index: usize) -> Child {
        self.control.racer(index, READY).store(0, Ordering::SeqCst);
        self.control.racer(index, ANSWER).store(0, Ordering::SeqCst);
        let mut command = peer(self.test, &index.to_string(), self.place.path());
        self.segment.inherit(&mut command, CONTROL).unwrap();
        command.spawn().unwrap()
    }

    fn wait_for(&self, index: usize) {
        wait_until("a racer does not start", || self.control.racer(index, READY).load(Ordering::SeqCst) == 1);
    }

    /// `None`: it has not answered in this round.
    fn answer(&self, index: usize, round: u64) -> Option<u64> {
        let word = self.control.racer(index, ANSWER).load(Ordering::SeqCst);
        (word >> 2 == round).then_some(word & 3)
    }

    /// One round, in which one of them is killed, or stopped, after a while, if so told.
    fn round(&mut self, round: u64, fault: Option<Fault>) {
        let options = options(self.place.path());
        if has_no_name(round) {
            match Segment::unlink_with(NAME, &options) {
                Ok(()) | Err(SegmentError::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        self.control.word(ROUND).store(round, Ordering::SeqCst);
        let killed = fault.and_then(|fault| self.strike(&fault));
        let living: Vec<usize> = (0..self.all.len()).filter(|&index| Some(index) != killed).collect();
        wait_until("a racer does not answer", || {
            living.iter().all(|&index| self.answer(index, round).is_some())
        });
        let firsts = living.iter().filter(|&&index| self.answer(index, round) == Some(FIRST)).count();
        // One that was killed may have been the first, before the others came or while they were there.
        let of_the_dead = killed.map(|index| self.answer(index, round));
        let least = usize::from(matches!(of_the_dead, None | Some(Some(OPENED))));
        assert!(
            (least..=1).contains(&firsts),
            "round {round}: {firsts} were first, the dead: {of_the_dead:?}"
        );
        let there = fs::metadata(self.place.path().join(NAME)).unwrap().ino();
        for &index in &living {
            let inode = self.control.racer(index, INODE).load(Ordering::SeqCst);
            assert_eq!(inode, there, "round {round}: racer {index} is in a segment without the name");
        }
        self.control.word(LEAVE).store(round, Ordering::SeqCst);
        wait_until("a racer does not leave", || {
            living.iter().all(|&index| self.control.racer(index, LEFT).load(Ordering::SeqCst) == round)
        });
        if let Some(index) = killed {
            self.all[index] = self.spawn(index);
            self.wait_for(index);
        }
    }
}

/// What befalls one of them.
struct Fault {
    index: usize,
    after: Duration,
    kills: bool,
}

impl Racers {
    /// The one that is dead now.
    fn strike(&mut self, fault: &Fault) -> Option<usize> {
        let (started, victim) = (Instant::now(), &mut self.all[fault.index]);
        while started.elapsed() < fault.after {
            spin_loop();
        }
        if fault.kills {
            victim.kill().unwrap();
            victim.wait().unwrap();
            return Some(fault.index);
        }
        let pid = Pid::from_child(victim);
        kill_process(pid, Signal::STOP).unwrap();
        thread::sleep(Duration::from_micros(700));
        kill_process(pid, Signal::CONT).unwrap();
        None
    }
}

impl Drop for Racers {
    fn drop(&mut self) {
        for racer in &mut self.all {
            // Dead, perhaps.
            let _killed = racer.kill();
            let _reaped = racer.wait();
        }
    }
}

/// A small generator of numbers that are not in order.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn exactly_one_is_first_however_many_race_and_die() {
    const TEST: &str = "exactly_one_is_first_however_many_race_and_die";
    if let Some((role, place)) = role() {
        return race(&role, &place);
    }
    let started = Instant::now();
    let mut state = u64::from(std::process::id()) << 32 | u64::from(started.elapsed().subsec_nanos()) | 1;
    println!("seed {state:#x}");
    for (count, rounds) in [(2, 1200), (3, 600), (5, 400), (8, 300)] {
        let mut racers = Racers::start(TEST, count);
        for round in 1..=rounds {
            let dice = next(&mut state) % 8;
            let fault = (dice < 4).then(|| Fault {
                index: usize::try_from(next(&mut state) % count as u64).unwrap(),
                after: Duration::from_nanos(next(&mut state) % 200_000),
                kills: dice == 0,
            });
            racers.round(round, fault);
        }
    }
    println!("took {:?}", started.elapsed());
}

/// Joins and leaves for ever, and sees that it is where the name is.
fn come_and_go(place: &Path) -> ! {
    let started = Instant::now();
    report("ready");
    loop {
        assert!(started.elapsed() < PATIENCE, "nobody kills this process");
        let joined = Segment::join_with(NAME, LEN, StalePolicy::Recreate, &options(place), init).unwrap();
        let inode = rustix::fs::fstat(&joined.segment).unwrap().st_ino;
        assert_eq!(inode, fs::metadata(place.join(NAME)).unwrap().ino(), "{:?}", joined.arrival);
    }
}

/// Stopped at any moment for as long as the others need to come and go, nobody returns with a segment that was replaced.
#[test]
fn nobody_who_was_stopped_on_the_way_is_left_behind() {
    const TEST: &str = "nobody_who_was_stopped_on_the_way_is_left_behind";
    if let Some((_, place)) = role() {
        come_and_go(Path::new(&place));
    }
    let mut racers = Racers::start(TEST, 0);
    for _ in 0..3 {
        let mut child = peer(TEST, "racer", racers.place.path()).spawn().unwrap();
        wait_for(&mut child, "ready");
        racers.all.push(child);
    }
    let (started, mut stops) = (Instant::now(), 0_usize);
    while started.elapsed() < Duration::from_secs(3) {
        let fault = Fault { index: stops % 3, after: Duration::ZERO, kills: false };
        assert_eq!(racers.strike(&fault), None);
        stops += 1;
        let ended = racers.all.iter_mut().any(|racer| racer.try_wait().unwrap().is_some());
        assert!(!ended, "after {stops} stops one found itself in a segment without the name");
    }
}

#[test]
fn whoever_holds_the_gate_is_waited_for_and_not_cleaned_away() {
    let place = private_place();
    let options = options(place.path());
    drop(Segment::create_with(NAME, LEN, &options, init).unwrap());
    let file = File::options().read(true).write(true).open(place.path().join(NAME)).unwrap();
    let (l_type, l_whence) = (libc::F_WRLCK.try_into().unwrap(), libc::SEEK_SET.try_into().unwrap());
    let gate = libc::flock { l_type, l_whence, l_start: 4, l_len: 1, l_pid: 0 };
    // SAFETY: the descriptor is open; reads one `flock`.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const gate) };
    assert_eq!(answer, 0);
    for mode in [CleanMode::DryRun, CleanMode::Remove] {
        let found = Segment::clean_with(mode, &options).unwrap();
        assert!(matches!(found[0].verdict, Verdict::InUse) && found[0].present && !found[0].more_held);
        assert_eq!(found[0].held, []);
    }
    thread::scope(|scope| {
        let join = || Segment::join_with(NAME, LEN, StalePolicy::Adopt, &options, init).unwrap().arrival;
        let waiting = scope.spawn(join);
        thread::sleep(Duration::from_millis(60));
        assert!(!waiting.is_finished());
        drop(file);
        assert_eq!(waiting.join().unwrap(), Arrival::Adopted);
    });
}
