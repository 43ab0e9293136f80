//! Roles of rings in segments, taken by the leases that the kernel holds: processes are killed and stopped while they
//! work, and others go on in their place.
//!
//! A test that needs other processes starts its own binary again, with only itself selected and a part to play in the
//! environment; the test looks for a part first.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

mod leased;

use std::env;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use leased::{CAPACITY, Kind, Records, Slots};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tempfile::TempDir;
use tidewire_ring::{AttachError, Options};
use tidewire_shm::{Field, Incompatible, LeaseError, Segment, SegmentLeases, SegmentOptions};

const PART: &str = "TIDEWIRE_TEST_PART";
const PLACE: &str = "TIDEWIRE_TEST_PLACE";
/// No process lives longer, whatever happens.
const LIFE: Duration = Duration::from_secs(60);
/// How long anything may take that shall happen.
const LATEST: Duration = Duration::from_secs(20);

/// A process that is killed and reaped when this is dropped.
struct Victim(Child);

impl Victim {
    /// Starts the test `test` in another process, to play `part` with the segments in `place`.
    fn start(test: &str, part: &str, place: &Path) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", test, "--quiet", "--test-threads=1"]);
        command.env(PART, part).env(PLACE, place);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let die_with_the_test = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: the closure makes one system call and neither allocates nor takes a lock.
        unsafe { command.pre_exec(die_with_the_test) };
        Self(command.spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.0.id().try_into().unwrap()).unwrap(), signal).unwrap();
    }

    /// Stops it, and waits until it is stopped.
    fn stop(&self) {
        self.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", self.0.id());
        until("the process is stopped", || {
            let stat = std::fs::read_to_string(&stat).unwrap();
            (stat.rsplit_once(") ").unwrap().1.starts_with('T')).then_some(())
        });
    }

    /// Kills it with a signal that nobody can catch, and waits until it is dead.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It may have been killed before.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The part of this process and where the segments are; `None`: it is the test itself.
fn part() -> Option<(String, PathBuf)> {
    Some((env::var(PART).ok()?, env::var_os(PLACE)?.into()))
}

/// Asks until there is an answer.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < LATEST, "expected that {what}, within {LATEST:?}");
        thread::yield_now();
    }
}

fn private_place() -> TempDir {
    let private = Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(private).tempdir_in("/dev/shm").unwrap()
}

/// A ring in a segment, and the leases of its roles.
struct Leased<K: Kind> {
    ring: K::Ring,
    leases: SegmentLeases,
}

impl<K: Kind> Leased<K> {
    fn create(place: &Path, name: &str) -> Self {
        let options = Options::new().liveness::<SegmentLeases>();
        let segments = SegmentOptions::new().directory(place);
        let segment = Segment::create_with(name, K::bytes(&options), &segments, |region| {
            K::create(region, &options)?;
            Ok(())
        })
        .unwrap();
        Self::of(&segment)
    }

    fn open(place: &Path, name: &str) -> Self {
        Self::of(&Segment::open_with(name, &SegmentOptions::new().directory(place)).unwrap())
    }

    fn of(segment: &Segment) -> Self {
        Self { ring: K::open(segment.region()).unwrap(), leases: segment.leases().unwrap() }
    }

    fn producer(&self) -> Result<K::Producer, AttachError> {
        K::producer_with(&self.ring, &self.leases)
    }

    fn consumer(&self) -> Result<K::Consumer, AttachError> {
        K::consumer_with(&self.ring, &self.leases)
    }
}

/// The role, as soon as its holder is dead; only that it is held may be a reason to be refused.
fn in_time<T>(mut take: impl FnMut() -> Result<T, AttachError>) -> T {
    until("the role goes to the next", || match take() {
        Ok(handle) => Some(handle),
        Err(AttachError::RoleTaken(_) | AttachError::Lease(LeaseError::Held { .. })) => {
            thread::sleep(Duration::from_micros(100));
            None
        }
        Err(error) => panic!("{error}"),
    })
}

/// Pushes number after number, each the position that it has, until somebody kills this process.
fn produce<K: Kind>(place: &Path) -> ! {
    let started = Instant::now();
    let leased = Leased::<K>::open(place, "in");
    let mut producer = in_time(|| leased.producer());
    while started.elapsed() < LIFE {
        let number = K::pushed(&producer);
        for number in number..number + 1000 {
            while !K::push(&mut producer, number) {
                thread::yield_now();
                assert!(started.elapsed() < LIFE, "nobody kills this process");
            }
        }
    }
    panic!("nobody kills this process");
}

/// Passes number after number on from one ring to another, until somebody kills this process.
fn relay<K: Kind>(place: &Path) -> ! {
    let started = Instant::now();
    let (from, to) = (Leased::<K>::open(place, "in"), Leased::<K>::open(place, "out"));
    let mut consumer = in_time(|| from.consumer());
    let mut producer = in_time(|| to.producer());
    while started.elapsed() < LIFE {
        if !K::pop_when(&mut consumer, |number| K::push(&mut producer, number)) {
            thread::yield_now();
        }
    }
    panic!("nobody kills this process");
}

/// Pops `count` numbers, which must come in order from `next` on.
fn in_order<K: Kind>(consumer: &mut K::Consumer, next: &mut u64, count: u64) {
    for _ in 0..count {
        let number = until("a message comes", || K::pop(consumer));
        assert_eq!(number, *next, "{}", K::NAME);
        *next += 1;
    }
}

/// Producers are killed while they push, and the next one is there already and waits for the role.
fn killed_producers_follow_each_other<K: Kind>(test: &str) {
    if let Some((part, place)) = part() {
        assert_eq!(part, "producer");
        produce::<K>(&place);
    }
    let place = private_place();
    let leased = Leased::<K>::create(place.path(), "in");
    let mut consumer = leased.consumer().unwrap();
    let mut next = 0;
    let mut owners = Vec::new();
    let mut working = Victim::start(test, "producer", place.path());
    for round in 0..8 {
        in_order::<K>(&mut consumer, &mut next, 1);
        let owner = K::owners(&leased.ring)[0].expect("somebody pushes");
        assert_eq!(owner.id, working.0.id());
        owners.push(owner.generation);
        // Waits for the role while the other one works.
        let waiting = Victim::start(test, "producer", place.path());
        in_order::<K>(&mut consumer, &mut next, 3000 + 701 * round);
        assert_eq!(K::owners(&leased.ring)[0], Some(owner));
        working.kill();
        working = waiting;
        // What the dead one left, at most the capacity of the ring, and more: from the next one.
        in_order::<K>(&mut consumer, &mut next, CAPACITY as u64 + 1);
    }
    assert_eq!(owners, (1..=8).collect::<Vec<_>>(), "one generation for each process");
    working.kill();
    let mut mine = leased.producer().expect("a dead process holds no role");
    while let Some(number) = K::pop(&mut consumer) {
        assert_eq!(number, next);
        next += 1;
    }
    assert_eq!(K::pushed(&mine), next, "nothing is lost");
    assert!(K::push(&mut mine, next));
    in_order::<K>(&mut consumer, &mut next, 1);
}

#[test]
fn killed_producers_of_slots_follow_each_other_in_order() {
    killed_producers_follow_each_other::<Slots>("killed_producers_of_slots_follow_each_other_in_order");
}

#[test]
fn killed_producers_of_records_follow_each_other_in_order() {
    killed_producers_follow_each_other::<Records>("killed_producers_of_records_follow_each_other_in_order");
}

/// Processes that hold two roles, and release only what they have passed on, are killed: nothing is lost, the order
/// stays, and each death repeats no more than a consumer may hold back.
fn killed_relays_follow_each_other<K: Kind>(test: &str) {
    if let Some((part, place)) = part() {
        assert_eq!(part, "relay");
        relay::<K>(&place);
    }
    const ROUNDS: u64 = 8;
    let place = private_place();
    let (into, out) = (Leased::<K>::create(place.path(), "in"), Leased::<K>::create(place.path(), "out"));
    let (mut producer, mut consumer) = (into.producer().unwrap(), out.consumer().unwrap());
    let mut repeated = 0;
    // The next that is expected, if nobody repeats anything.
    let mut next: u64 = 0;
    let mut step = |producer: &mut K::Producer, consumer: &mut K::Consumer| {
        while K::push(producer, K::pushed(producer)) {}
        let number = K::pop(consumer)?;
        assert!(number <= next, "{}: expected {next}, found {number}: something is lost", K::NAME);
        if number < next {
            let again = next - number;
            // An eighth of the capacity is what a consumer may keep, and one is in its hand.
            assert!(again <= CAPACITY as u64 / 8, "{again} repeated at once");
            repeated += again;
        }
        next = number + 1;
        Some(next)
    };
    let mut target = 0;
    for round in 0..ROUNDS {
        let working = Victim::start(test, "relay", place.path());
        target += 2000 + 901 * round;
        until("the relay works", || step(&mut producer, &mut consumer).filter(|next| *next >= target));
        working.kill();
    }
    drop(out.producer().expect("a dead process holds no role"));
    while step(&mut producer, &mut consumer).is_some() {}
    assert!(next >= target);
    assert!(repeated <= ROUNDS * (CAPACITY as u64 / 8), "{repeated} repeated");
}

#[test]
fn killed_relays_of_slots_lose_nothing() {
    killed_relays_follow_each_other::<Slots>("killed_relays_of_slots_lose_nothing");
}

#[test]
fn killed_relays_of_records_lose_nothing() {
    killed_relays_follow_each_other::<Records>("killed_relays_of_records_lose_nothing");
}

/// A process that is only stopped keeps its role, and goes on in it.
fn a_stopped_producer_keeps_its_role<K: Kind>(test: &str) {
    if let Some((_, place)) = part() {
        produce::<K>(&place);
    }
    let place = private_place();
    let leased = Leased::<K>::create(place.path(), "in");
    let mut consumer = leased.consumer().unwrap();
    let mut next = 0;
    let working = Victim::start(test, "producer", place.path());
    in_order::<K>(&mut consumer, &mut next, 1000);
    for _ in 0..3 {
        working.stop();
        let owner = K::owners(&leased.ring)[0].expect("it is only stopped");
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(200) {
            match leased.producer() {
                Ok(_) => panic!("the role of a living process was given away"),
                Err(error) => assert_eq!(error, AttachError::RoleTaken(owner)),
            }
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(owner.id, working.0.id());
        working.signal(Signal::CONT);
        in_order::<K>(&mut consumer, &mut next, 1000);
        assert_eq!(K::owners(&leased.ring)[0], Some(owner));
    }
    // Stopped for ever, it can be killed.
    working.stop();
    assert!(leased.producer().is_err());
    working.kill();
    let mut mine = leased.producer().expect("a dead process holds no role");
    let left = K::pushed(&mine) - next;
    assert!(left <= CAPACITY as u64);
    in_order::<K>(&mut consumer, &mut next, left);
    assert!(K::push(&mut mine, next));
    in_order::<K>(&mut consumer, &mut next, 1);
}

#[test]
fn a_stopped_producer_of_slots_keeps_its_role() {
    a_stopped_producer_keeps_its_role::<Slots>("a_stopped_producer_of_slots_keeps_its_role");
}

#[test]
fn a_stopped_producer_of_records_keeps_its_role() {
    a_stopped_producer_keeps_its_role::<Records>("a_stopped_producer_of_records_keeps_its_role");
}

/// The leases of one segment do not give the roles of a ring in another.
#[test]
fn leases_of_another_segment_are_refused() {
    let place = private_place();
    let (mine, other) =
        (Leased::<Slots>::create(place.path(), "mine"), Leased::<Slots>::create(place.path(), "other"));
    let wrong = AttachError::Incompatible(Incompatible::new(Field::Liveness, 1, 0));
    assert_eq!(Slots::producer_with(&mine.ring, &other.leases).err(), Some(wrong));
    assert_eq!(Slots::consumer_with(&mine.ring, &other.leases).err(), Some(wrong));
    // Neither was a lease kept, nor does the one ring's role hinder the other's.
    let _both = (mine.producer().unwrap(), other.producer().unwrap());
}
