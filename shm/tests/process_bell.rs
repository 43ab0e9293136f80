//! Bells between processes: nothing is lost, nobody is silenced by a death, and nobody who is awake makes system
//! calls.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "helpers of tests, which may panic and print, with small numbers"
)]

mod process_segment_peer;

use std::fs;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use process_segment_peer::{peer, report, reports, role, wait_for};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Signal, getpid, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;
use tidewire_shm::bell::{
    Armed, Bell, BellForm, BellMode, Deadline, Kernel, Nap, Place, Ringer, Rung, SleepOptions, Sleeper, Spin,
    System, Waiters, Woken,
};
use tidewire_shm::sync::{AtomicU32, AtomicU64, Shared, Words};
use tidewire_shm::{Region, Segment, SegmentOptions, Untrusted};

/// Where things lie: a position and a bell for each direction, on lines of their own.
const TAILS: [usize; 2] = [0, 128];
const BELLS: [usize; 2] = [256, 384];
const DATA: usize = 512;
/// Where there is one processor for both sides, each of them sleeps once per ring: so the ring is not a small one.
const SLOTS: u64 = 1 << 16;
const LEN: usize = DATA + 8 * SLOTS as usize;

const AT_ONCE: SleepOptions = SleepOptions::new().spin(Spin::Rounds(0)).yields(0);
/// Spins for a time that is sometimes enough.
const A_LITTLE: SleepOptions = AT_ONCE.spin(Spin::Rounds(100)).slice(LONG);
/// So long that a wake that never came cannot be taken for one that came late.
const LONG: Duration = Duration::from_secs(10);

struct World {
    region: Region<Untrusted>,
    mode: BellMode,
    form: BellForm,
}

fn place() -> TempDir {
    let private = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(private).tempdir_in("/dev/shm").unwrap()
}

impl World {
    fn create(place: &Path, mode: BellMode, form: BellForm) -> Self {
        let options = SegmentOptions::new().directory(place);
        let segment = Segment::create_with("bells", LEN, &options, |region| {
            for offset in BELLS {
                // SAFETY: used as a bell only; each process keeps the region.
                unsafe { Bell::create(&region, offset, mode, form)? };
            }
            Ok(())
        });
        Self { region: segment.unwrap().region(), mode, form }
    }

    fn open(place: impl AsRef<Path>) -> Self {
        let options = SegmentOptions::new().directory(place.as_ref());
        let region = Segment::open_with("bells", &options).unwrap().region();
        // SAFETY: as in `create`.
        let bell = unsafe { Bell::open(&region, BELLS[0]).unwrap() };
        Self { region, mode: bell.mode(), form: bell.form() }
    }

    fn bell(&self, direction: usize) -> Bell {
        // SAFETY: as in `create`.
        unsafe { Bell::open(&self.region, BELLS[direction]).unwrap() }
    }

    fn tail(&self, direction: usize) -> Shared<AtomicU64> {
        // SAFETY: a control word, nowhere used as anything else; the world keeps the region.
        unsafe { self.region.atomic_u64(TAILS[direction]) }
    }

    fn flag(&self, direction: usize) -> Shared<AtomicU32> {
        // SAFETY: the flag of a bell, as a peer that breaks the rules sees it; the world keeps the region.
        unsafe { self.region.atomic_u32(BELLS[direction]) }
    }

    fn data(&self) -> Words {
        // SAFETY: nowhere used as anything else; the world keeps the region.
        unsafe { self.region.words(DATA, SLOTS as usize) }
    }

    fn ringer<K: Kernel>(&self, direction: usize, kernel: K) -> Ringer<K> {
        match self.form {
            BellForm::Word => self.bell(direction).ringer(kernel),
            _ => self.bell(direction).ringer_on(self.tail(direction), kernel),
        }
        .unwrap()
    }

    fn sleeper(&self, direction: usize, options: &SleepOptions) -> Sleeper<System> {
        match self.form {
            BellForm::Word => self.bell(direction).sleeper(System, options),
            _ => self.bell(direction).sleeper_on(self.tail(direction), System, options),
        }
        .unwrap()
    }
}

/// Dies where it would wake somebody.
#[derive(Debug)]
struct DiesAtTheWake;

impl Kernel for DiesAtTheWake {
    fn sleep(&self, place: Place<'_>, expected: u32, timeout_ns: u64) -> Nap {
        System.sleep(place, expected, timeout_ns)
    }
    fn wake(&self, _place: Place<'_>) -> u32 {
        die()
    }
    fn register(&self) -> Result<(), i32> {
        System.register()
    }
    fn barrier(&self) -> bool {
        System.barrier()
    }
    fn now_ns(&self) -> u64 {
        System.now_ns()
    }
    fn pause(&self, ns: u64) {
        System.pause(ns);
    }
    fn yield_now(&self) {
        System.yield_now();
    }
    fn spins(&self) -> u32 {
        0
    }
}

fn die() -> ! {
    kill_process(getpid(), Signal::KILL).unwrap();
    unreachable!("a process survived SIGKILL")
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn killed(child: &mut Child) {
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

/// One side of a game: hits the ball back after a random time, so that the other side is in every phase of its wait.
fn play(world: &World, mine: usize, hits: u64, options: &SleepOptions) -> (u64, u64) {
    let theirs = 1 - mine;
    let (here, there) = (world.tail(mine), world.tail(theirs));
    let mut sleeper = world.sleeper(mine, options);
    let mut ringer = world.ringer(theirs, System);
    let mut seed = 0x9e37_79b9_7f4a_7c15 ^ mine as u64;
    for hit in 1..=hits {
        let hit_back = |ringer: &mut Ringer<System>| {
            there.store(hit, Ordering::Release);
            ringer.ring();
        };
        if mine == 0 {
            hit_back(&mut ringer);
        }
        let deadline = Deadline::after(&System, 3 * LONG);
        let woken = sleeper.wait(|| here.load(Ordering::Acquire) >= hit, deadline);
        assert_eq!(woken, Woken::Ready, "hit {hit}");
        for _ in 0..random(&mut seed) % 400 {
            core::hint::spin_loop();
        }
        if mine == 1 {
            hit_back(&mut ringer);
        }
    }
    let tally = sleeper.tally();
    assert_eq!(tally.overslept, 0, "side {mine}: a wake-up came late or never: {tally:?}");
    (tally.naps, ringer.tally().wakes)
}

fn game(test: &str, mode: BellMode, form: BellForm, hits: u64) {
    if let Some((side, argument)) = role() {
        assert_eq!(side, "side 1");
        let (hits, place) = argument.split_once(' ').unwrap();
        let (naps, wakes) = play(&World::open(place), 1, hits.parse().unwrap(), &A_LITTLE);
        report(&format!("{naps} naps, {wakes} wakes"));
        return;
    }
    let place = place();
    let world = World::create(place.path(), mode, form);
    let argument = format!("{hits} {}", place.path().display());
    let other = peer(test, "side 1", argument).spawn().unwrap();
    let started = Instant::now();
    let (naps, wakes) = play(&world, 0, hits, &A_LITTLE);
    let said = reports(&other.wait_with_output().unwrap());
    println!(
        "{mode:?} {form:?}: {hits} hits in {:?}; {naps} naps, {wakes} wakes; the other {}",
        started.elapsed(),
        said[0]
    );
    assert!(naps > 0 && wakes > 0, "nobody slept");
}

#[test]
fn no_wake_up_is_lost_with_a_barrier_in_word_form() {
    game("no_wake_up_is_lost_with_a_barrier_in_word_form", BellMode::Membarrier, BellForm::Word, 100_000);
}

#[test]
fn no_wake_up_is_lost_with_a_barrier_in_position_form() {
    let test = "no_wake_up_is_lost_with_a_barrier_in_position_form";
    game(test, BellMode::Membarrier, BellForm::Position, 100_000);
}

#[test]
fn no_wake_up_is_lost_with_fences_in_word_form() {
    game("no_wake_up_is_lost_with_fences_in_word_form", BellMode::Fence, BellForm::Word, 20_000);
}

#[test]
fn no_wake_up_is_lost_with_fences_in_position_form() {
    game("no_wake_up_is_lost_with_fences_in_position_form", BellMode::Fence, BellForm::Position, 20_000);
}

/// Publishes, and dies where it would ring, or where it would wake.
fn publish_and_die(world: &World, at: &str) -> ! {
    let mut ringer = world.ringer(0, DiesAtTheWake);
    let deadline = Instant::now() + LONG;
    while world.flag(0).load(Ordering::Relaxed) & 3 == 0 {
        assert!(Instant::now() < deadline, "nobody sleeps");
    }
    // The flag is up; soon the sleeper sleeps, too.
    std::thread::sleep(Duration::from_millis(2));
    world.tail(0).store(1, Ordering::Release);
    match at {
        "publication" => die(),
        _ => unreachable!("{:?}: it did not die", ringer.ring()),
    }
}

#[test]
fn a_ringer_that_dies_before_it_wakes_costs_at_most_a_slice() {
    let test = "a_ringer_that_dies_before_it_wakes_costs_at_most_a_slice";
    if let Some((at, place)) = role() {
        publish_and_die(&World::open(place), &at);
    }
    const SLICE: Duration = Duration::from_millis(50);
    for form in [BellForm::Word, BellForm::Position] {
        for at in ["publication", "wake"] {
            let place = place();
            let world = World::create(place.path(), BellMode::Membarrier, form);
            let mut sleeper = world.sleeper(0, &AT_ONCE.slice(SLICE));
            let tail = world.tail(0);
            let mut victim = peer(test, at, place.path()).spawn().unwrap();
            let (mut looks, mut last_nap) = (0_u32, Instant::now());
            let look = || {
                looks += 1;
                let there = tail.load(Ordering::Acquire) == 1;
                // The last look before each nap.
                if !there && looks.is_multiple_of(2) {
                    last_nap = Instant::now();
                }
                there
            };
            let deadline = Deadline::after(&System, LONG);
            assert_eq!(sleeper.wait(look, deadline), Woken::Ready);
            let took = last_nap.elapsed();
            killed(&mut victim);
            println!(
                "{form:?}, died before its {at}: found {took:?} after the last look, {:?}",
                sleeper.tally()
            );
            // The rest is the scheduler's, on a busy machine.
            assert!(took < SLICE + Duration::from_millis(500), "{took:?}");
            assert_eq!(sleeper.tally().overslept, 1, "{:?}", sleeper.tally());
        }
    }
}

/// The flag of a sleeper that one has marked and nobody woken: the next ringer wakes it, long before the slice ends.
#[test]
fn a_ringer_that_dies_before_it_wakes_does_not_silence_the_next() {
    let test = "a_ringer_that_dies_before_it_wakes_does_not_silence_the_next";
    if let Some((role, place)) = role() {
        let world = World::open(place);
        if role == "victim" {
            publish_and_die(&world, "wake");
        }
        assert_eq!(world.flag(0).load(Ordering::Relaxed) & 3, 3, "the victim has left its mark");
        world.tail(1).store(1, Ordering::Release);
        assert_eq!(world.ringer(0, System).ring(), Rung::Sent);
        return;
    }
    let place = place();
    let world = World::create(place.path(), BellMode::Membarrier, BellForm::Word);
    let mut sleeper = world.sleeper(0, &AT_ONCE.slice(LONG));
    let second = world.tail(1);
    let place = place.path().to_owned();
    let ringing = std::thread::spawn(move || {
        let mut victim = peer(test, "victim", &place).spawn().unwrap();
        killed(&mut victim);
        let started = Instant::now();
        assert!(peer(test, "next", &place).output().unwrap().status.success());
        started
    });
    let woken = sleeper.wait(|| second.load(Ordering::Acquire) == 1, Deadline::NEVER);
    let now = Instant::now();
    assert_eq!((woken, sleeper.tally().overslept), (Woken::Ready, 0));
    let started = ringing.join().unwrap();
    println!("woken {:?} after the next ringer was started", now.saturating_duration_since(started));
}

/// A sleeper that dies asleep costs each ringer one system call, and its successor nothing.
#[test]
fn a_sleeper_that_dies_asleep_is_replaced() {
    let test = "a_sleeper_that_dies_asleep_is_replaced";
    if let Some((_, place)) = role() {
        let world = World::open(place);
        let tail = world.tail(0);
        report("ready");
        let _never = world
            .sleeper(0, &AT_ONCE)
            .wait(|| tail.load(Ordering::Acquire) == 1, Deadline::after(&System, 3 * LONG));
        return;
    }
    let place = place();
    let world = World::create(place.path(), BellMode::Membarrier, BellForm::Word);
    let mut ringer = world.ringer(0, System);
    for _ in 0..20 {
        let mut victim = peer(test, "sleeper", place.path()).spawn().unwrap();
        wait_for(&mut victim, "ready");
        // Raised anew: the last victim's flag may still be up, but it is rung.
        while world.flag(0).load(Ordering::Relaxed) & 3 != 1 {
            std::thread::yield_now();
        }
        victim.kill().unwrap();
        killed(&mut victim);
        let left = world.flag(0).load(Ordering::Relaxed);
        let before = ringer.tally().wakes;
        for _ in 0..100 {
            ringer.ring();
        }
        // Killed while it looked, it left the flag down.
        let cost = u64::from(left & 3 != 0);
        assert_eq!(ringer.tally().wakes - before, cost, "flag {left:#x}");
    }
    let mut successor = world.sleeper(0, &AT_ONCE.slice(LONG));
    assert_eq!(ringer.ring(), Rung::Awake);
    let tail = world.tail(0);
    let ringing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        tail.store(1, Ordering::Release);
        ringer.ring()
    });
    let tail = world.tail(0);
    assert_eq!(successor.wait(|| tail.load(Ordering::Acquire) == 1, Deadline::NEVER), Woken::Ready);
    assert_eq!(successor.tally().overslept, 0);
    assert_eq!(ringing.join().unwrap(), Rung::Sent);
}

const MESSAGES: u64 = 10_000_000;

/// A plain ring of words with a bell on either side; returns the system calls that the bells made.
fn stream(world: &World, produce: bool, options: &SleepOptions) -> u64 {
    let (tail, head, data) = (world.tail(0), world.tail(1), world.data());
    let mut sleeper = world.sleeper(usize::from(produce), options);
    let mut ringer = world.ringer(usize::from(!produce), System);
    let (mut here, mut there) = (0, 0);
    while here < MESSAGES {
        // Room for the one, messages for the other.
        let left = |there: u64| if produce { there + SLOTS - here } else { there - here };
        if left(there) == 0 {
            let theirs = if produce { &head } else { &tail };
            let look = || {
                there = theirs.load(Ordering::Acquire);
                left(there) > 0
            };
            let deadline = Deadline::after(&System, 6 * LONG);
            assert_eq!(sleeper.wait(look, deadline), Woken::Ready);
        }
        let slot = (here % SLOTS) as usize;
        // SAFETY: within the data, which the world keeps.
        let word = unsafe { data.word(slot) };
        if produce {
            word.store(here, Ordering::Relaxed);
        } else {
            assert_eq!(word.load(Ordering::Relaxed), here);
        }
        here += 1;
        let mine = if produce { &tail } else { &head };
        // The consumer gives room back in runs.
        if produce || here.is_multiple_of(64) || here == MESSAGES {
            mine.store(here, Ordering::Release);
            ringer.ring();
        }
    }
    let (slept, rang) = (sleeper.tally(), ringer.tally());
    assert_eq!(world.mode, BellMode::Membarrier);
    slept.naps + slept.barriers + rang.wakes
}

/// Both awake, ten million messages cost no system calls to speak of. Whether both are awake is for the scheduler to
/// say: so this is asserted of sides that wait in their spinning phase until whatever else runs is done, and only shown
/// of the defaults.
#[test]
fn ten_million_messages_make_a_thousand_system_calls_at_most() {
    let test = "ten_million_messages_make_a_thousand_system_calls_at_most";
    let options = |role: &str| match role {
        "patient" => SleepOptions::new().spin(Spin::Rounds(1 << 22)).yields(0),
        _ => SleepOptions::new(),
    };
    if let Some((role, place)) = role() {
        report(&stream(&World::open(place), false, &options(&role)).to_string());
        return;
    }
    let run = |role: &str| {
        let place = place();
        let world = World::create(place.path(), BellMode::Membarrier, BellForm::Position);
        let consumer = peer(test, role, place.path()).spawn().unwrap();
        let started = Instant::now();
        let mine = stream(&world, true, &options(role));
        let took = started.elapsed();
        let said = reports(&consumer.wait_with_output().unwrap());
        let theirs: u64 = said[0].parse().unwrap();
        println!("{role}: {MESSAGES} messages in {took:?}: {mine} + {theirs} system calls");
        mine + theirs
    };
    run("default");
    let calls = run("patient");
    assert!(calls <= 1000, "{calls} system calls");
}

/// On one processor the other side cannot run while this one spins: nobody does, and turns are taken all the same.
#[test]
fn on_one_processor_nobody_spins() {
    let test = "on_one_processor_nobody_spins";
    if let Some((_, place)) = role() {
        let mut one = CpuSet::new();
        let mine = sched_getaffinity(None).unwrap();
        one.set((0..CpuSet::MAX_CPU).find(|&cpu| mine.is_set(cpu)).unwrap());
        sched_setaffinity(None, &one).unwrap();
        assert_eq!(System.spins(), 0);
        // The threads inherit the processor.
        let world = World::create(Path::new(&place), BellMode::Membarrier, BellForm::Word);
        let place = Path::new(&place).to_owned();
        let started = Instant::now();
        let other =
            std::thread::spawn(move || play(&World::open(place), 1, 5_000, &SleepOptions::new().slice(LONG)));
        let (naps, _) = play(&world, 0, 5_000, &SleepOptions::new().slice(LONG));
        other.join().unwrap();
        report(&format!("5000 hits in {:?}, {naps} naps", started.elapsed()));
        return;
    }
    let place = place();
    println!("{}", reports(&peer(test, "both", place.path()).output().unwrap())[0]);
}

/// Whatever a peer does to the flag, and however often it wakes: a deadline is kept, and a message is found.
#[test]
fn a_peer_that_scribbles_costs_time_only() {
    let test = "a_peer_that_scribbles_costs_time_only";
    if let Some((_, place)) = role() {
        let world = World::open(place);
        let (flag, tail) = (world.flag(0), world.tail(0));
        let mut seed = 77;
        report("ready");
        let end = Instant::now() + 6 * LONG;
        while Instant::now() < end {
            for _ in 0..100 {
                flag.store(random(&mut seed) as u32, Ordering::Relaxed);
                System.wake(Place::Word(&flag));
                System.wake(Place::LowHalf(&tail));
            }
        }
        return;
    }
    for form in [BellForm::Word, BellForm::Position] {
        let place = place();
        let world = World::create(place.path(), BellMode::Membarrier, form);
        let mut enemy = peer(test, "enemy", place.path()).spawn().unwrap();
        wait_for(&mut enemy, "ready");
        let mut sleeper = world.sleeper(0, &AT_ONCE);
        for _ in 0..5 {
            let started = Instant::now();
            let deadline = Deadline::after(&System, Duration::from_millis(100));
            assert_eq!(sleeper.wait(|| false, deadline), Woken::TimedOut);
            let took = started.elapsed();
            assert!(took >= Duration::from_millis(100) && took < Duration::from_secs(2), "{took:?}");
        }
        let naps = sleeper.tally();
        // The waiter rests between naps that are cut short, so it does not burn its processor either.
        assert!(naps.naps < 5 * 1500, "{naps:?}");
        let tail = world.tail(0);
        let mut ringer = world.ringer(0, System);
        let playing = std::thread::spawn(move || {
            for message in 1..=50 {
                std::thread::sleep(Duration::from_millis(1));
                tail.store(message, Ordering::Release);
                ringer.ring();
            }
        });
        let tail = world.tail(0);
        for message in 1..=50 {
            let deadline = Deadline::after(&System, LONG);
            let woken = sleeper.wait(|| tail.load(Ordering::Acquire) >= message, deadline);
            assert_eq!(woken, Woken::Ready);
        }
        playing.join().unwrap();
        enemy.kill().unwrap();
        killed(&mut enemy);
        println!("{form:?}: {:?}", sleeper.tally());
    }
}

/// A ringer whose mapping the kernel makes read-only wakes a sleeper in another process.
#[test]
fn a_ringer_that_can_only_read_wakes_a_sleeper() {
    let test = "a_ringer_that_can_only_read_wakes_a_sleeper";
    if let Some((_, place)) = role() {
        let options = SegmentOptions::new().directory(Path::new(&place));
        let segment = Segment::open_read_only_with("bells", &options).unwrap();
        let region = segment.region();
        // SAFETY: as in `World`; the mapping can only be read.
        let bell = unsafe { Bell::open(&region, BELLS[0]).unwrap() };
        // SAFETY: as above.
        let tail = unsafe { region.atomic_u64(TAILS[0]) };
        let mut ringer = bell.ringer_on(tail, System).unwrap();
        report("ready");
        let end = Instant::now() + 3 * LONG;
        while ringer.tally().wakes == ringer.tally().in_vain {
            assert!(Instant::now() < end, "nobody was woken");
            ringer.ring();
        }
        return;
    }
    let place = place();
    let world = World::create(place.path(), BellMode::Membarrier, BellForm::Position);
    let child = peer(test, "ringer", place.path()).spawn().unwrap();
    let mut sleeper = world.sleeper(0, &AT_ONCE.slice(3 * LONG));
    let started = Instant::now();
    let mut looks = 0;
    let woken = sleeper.wait(
        || {
            looks += 1;
            // The look after the first sleep.
            looks == 3
        },
        Deadline::NEVER,
    );
    assert_eq!((woken, sleeper.tally().overslept), (Woken::Ready, 0));
    assert!(started.elapsed() < 2 * LONG);
    reports(&child.wait_with_output().unwrap());
}

/// Readers that map the position read-only, in processes of their own; one of them is killed.
#[test]
fn waiters_sleep_on_memory_that_they_can_only_read() {
    const TURNS: u64 = 300;
    let test = "waiters_sleep_on_memory_that_they_can_only_read";
    let doorbell = |place: &Path| {
        let region =
            Segment::open_with("doorbell", &SegmentOptions::new().directory(place)).unwrap().region();
        // SAFETY: used as this doorbell only; the caller keeps the region.
        let waiters = unsafe { Waiters::open(&region, 0).unwrap() };
        (region, waiters)
    };
    if let Some((role, place)) = role() {
        let place = Path::new(&place);
        let (_region, waiters) = doorbell(place);
        let cell = Segment::open_read_only_with("cell", &SegmentOptions::new().directory(place)).unwrap();
        assert!(cell.is_read_only());
        let cell = cell.region();
        // SAFETY: only loaded from; the region is kept.
        let latest = unsafe { cell.atomic_u64(0) };
        let mut waiter = waiters.waiter(latest.clone(), System, &AT_ONCE.slice(LONG)).unwrap();
        report("ready");
        let turns = if role == "victim" { u64::MAX } else { TURNS };
        for turn in 1..=turns {
            let deadline = Deadline::after(&System, 3 * LONG);
            // ORD is not available for a mapping that can only be read: a relaxed load, as the readers of a cell do.
            let woken = waiter.wait(|| latest.load(Ordering::Relaxed) >= turn, deadline);
            assert_eq!(woken, Woken::Ready);
        }
        let tally = waiter.tally();
        assert_eq!(tally.overslept, 0, "{tally:?}");
        report(&format!("{} naps", tally.naps));
        return;
    }
    let place = place();
    let options = SegmentOptions::new().directory(place.path());
    let create = |region: Region<Untrusted>| {
        // SAFETY: used as this doorbell only; each process keeps the region.
        unsafe { Waiters::create(&region, 0, BellMode::Membarrier)? };
        Ok(())
    };
    let _doorbell = Segment::create_with("doorbell", 128, &options, create).unwrap();
    let cell = Segment::create_with("cell", 128, &options, |_| Ok(())).unwrap().region();
    let (region, waiters) = doorbell(place.path());
    // SAFETY: nowhere used as anything else; the region is kept.
    let latest = unsafe { cell.atomic_u64(0) };
    let mut ringer = waiters.ringer(latest.clone(), System).unwrap();
    let mut readers: Vec<Child> =
        ["reader", "reader", "victim"].map(|role| peer(test, role, place.path()).spawn().unwrap()).into();
    for reader in &mut readers {
        wait_for(reader, "ready");
    }
    // SAFETY: the count of the doorbell, as a bystander sees it.
    let count = unsafe { region.atomic_u32(0) };
    for turn in 1..=TURNS {
        std::thread::sleep(Duration::from_micros(100 + turn % 5 * 50));
        if turn == TURNS / 2 {
            // All are asleep, the victim too.
            let end = Instant::now() + LONG;
            while count.load(Ordering::Relaxed) < 3 {
                assert!(Instant::now() < end, "the readers do not sleep");
            }
            let mut victim = readers.pop().unwrap();
            victim.kill().unwrap();
            killed(&mut victim);
        }
        latest.store(turn, Ordering::Release);
        ringer.ring();
    }
    for reader in readers {
        println!("{}", reports(&reader.wait_with_output().unwrap())[0]);
    }
    assert_eq!(count.load(Ordering::Relaxed), 1, "the dead one is still counted");
    ringer.reset().unwrap();
    assert_eq!(ringer.ring(), Rung::Awake);
}

/// The child that `command` starts inherits the descriptor, under its number here.
fn inherit(command: &mut Command, fd: OwnedFd) {
    // SAFETY: the closure makes one system call; the descriptor that it owns is open as long as the command is.
    unsafe { command.pre_exec(move || Ok(fcntl_setfd(&fd, FdFlags::empty())?)) };
}

#[test]
fn a_reactor_is_woken_by_another_process() {
    let test = "a_reactor_is_woken_by_another_process";
    if let Some((fd, place)) = role() {
        let world = World::open(place);
        // SAFETY: the parent left it open for this.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd.parse().unwrap()) };
        let mut ringer = world.ringer(0, System);
        ringer.give(eventfd).unwrap();
        let mut rung = 0;
        for message in 1..=200 {
            std::thread::sleep(Duration::from_micros(message % 7 * 50));
            world.tail(0).store(message, Ordering::Release);
            rung += u64::from(ringer.ring() == Rung::Sent);
        }
        report(&rung.to_string());
        return;
    }
    for mode in [BellMode::Fence, BellMode::Membarrier] {
        let place = place();
        let world = World::create(place.path(), mode, BellForm::Position);
        let mut event = world.bell(0).event().unwrap();
        let fd = event.try_clone_fd().unwrap();
        let mut command = peer(test, &fd.as_raw_fd().to_string(), place.path());
        inherit(&mut command, fd);
        let ringer = command.spawn().unwrap();
        let tail = world.tail(0);
        let (mut seen, mut waits) = (0, 0_u64);
        while seen < 200 {
            let now = tail.load(Ordering::Acquire);
            if now > seen {
                seen = now;
                continue;
            }
            if event.arm(|| tail.load(Ordering::Acquire) > seen) == Armed::Armed {
                waits += 1;
                let fd = event.as_fd();
                let mut fds = [PollFd::new(&fd, PollFlags::IN)];
                let patience = Timespec { tv_sec: 30, tv_nsec: 0 };
                assert_eq!(poll(&mut fds, Some(&patience)), Ok(1), "a wake-up was lost");
                event.disarm();
                event.drain().unwrap();
            }
        }
        let said = reports(&ringer.wait_with_output().unwrap());
        println!("{mode:?}: {waits} waits, {} rings", said[0]);
        assert!(waits > 0 && said[0].parse::<u64>().unwrap() >= waits);
    }
}
