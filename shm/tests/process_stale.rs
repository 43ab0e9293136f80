//! Segments that nobody uses any more: joined anew, adopted, cleaned away; and those that somebody uses: left alone.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod process_segment_peer;

use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::fs::{self, OpenOptions, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use process_segment_peer::{peer, report, reports, role, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tidewire_shm::sync::Ordering;
use tidewire_shm::{
    Arrival, CleanMode, FoundSegment, Header, JoinError, Joined, Liveness, RoleId, RoleStride, Segment,
    SegmentError, SegmentOptions, StalePolicy, Untrusted, Verdict,
};

type Region = tidewire_shm::Region<Untrusted>;
type Init = Result<(), Box<dyn Error + Send + Sync>>;

const NAME: &str = "ticks";
const LEN: usize = 8192;
const KIND: u32 = 0x7e57;
/// Where the tests put a word of their own.
const WORD: usize = 4096;
const BARRIER: &str = "TIDEWIRE_TEST_BARRIER";
const PATIENCE: Duration = Duration::from_secs(60);

fn private_place() -> TempDir {
    let private = Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(private).tempdir_in("/dev/shm").unwrap()
}

fn options(place: impl AsRef<Path>) -> SegmentOptions {
    SegmentOptions::new().directory(place.as_ref())
}

fn header(region: &Region, boot_id: u64) -> Init {
    let header = Header {
        kind: KIND,
        total_bytes: LEN as u64,
        capacity: 0,
        element_bytes: 1,
        element_align: 1,
        type_fingerprint: 0,
        role_stride: RoleStride::Line,
        data_offset: 128,
        origin: tidewire_shm::Origin { boot_id, ..region.origin() },
    };
    Ok(header.write(region)?)
}

fn init(region: Region) -> Init {
    let boot_id = region.origin().boot_id;
    header(&region, boot_id)
}

fn create(place: &Path, name: &str) -> Segment {
    Segment::create_with(name, LEN, &options(place), init).unwrap()
}

fn join(place: impl AsRef<Path>, policy: StalePolicy) -> Result<Joined, JoinError> {
    Segment::join_with(NAME, LEN, policy, &options(place), init)
}

fn inode(segment: &Segment) -> u64 {
    rustix::fs::fstat(segment).unwrap().st_ino
}

fn inode_of(place: &Path, name: &str) -> u64 {
    fs::metadata(place.join(name)).unwrap().ino()
}

fn set_word(segment: &Segment, value: u64) {
    let region = segment.region();
    // SAFETY: the region lives as long as this function, and the tests use this word as nothing else.
    unsafe { region.atomic_u64(WORD) }.store(value, Ordering::SeqCst);
}

fn word(segment: &Segment) -> u64 {
    let region = segment.region();
    // SAFETY: as above.
    unsafe { region.atomic_u64(WORD) }.load(Ordering::SeqCst)
}

fn clean(place: &Path, mode: CleanMode) -> BTreeMap<String, FoundSegment> {
    let found = Segment::clean_with(mode, &options(place)).unwrap();
    found.into_iter().map(|found| (found.name.as_str().to_owned(), found)).collect()
}

fn wait_to_be_killed() -> ! {
    thread::sleep(PATIENCE);
    panic!("nobody kills this process");
}

struct Victim(Child);

impl Victim {
    fn start(test: &str, role: &str, place: &Path, ready: &str) -> Self {
        let mut victim = Self(peer(test, role, place).spawn().unwrap());
        wait_for(&mut victim.0, ready);
        victim
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.0.id().try_into().unwrap()).unwrap(), signal).unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Uses the segment in some way until it is killed.
fn use_segment(how: &str, place: &str) -> ! {
    let options = options(place);
    let _kept: (Option<Joined>, Option<tidewire_shm::SegmentLease>) = match how {
        "joined" => {
            let joined = join(place, StalePolicy::Recreate).unwrap();
            set_word(&joined.segment, 77);
            (Some(joined), None)
        }
        "producer" => {
            let segment = Segment::open_or_create_with(NAME, LEN, &options, init).unwrap();
            let role = RoleId::producer(5).unwrap();
            (None, Some(segment.leases().unwrap().acquire(role).unwrap()))
        }
        "creator" => {
            let segment = Segment::open_or_create_with(NAME, LEN, &options, init).unwrap();
            (None, Some(segment.leases().unwrap().acquire(RoleId::CREATOR).unwrap()))
        }
        other => panic!("{other}"),
    };
    report("there");
    wait_to_be_killed();
}

#[test]
fn a_segment_that_somebody_uses_is_opened() {
    const TEST: &str = "a_segment_that_somebody_uses_is_opened";
    if let Some((how, place)) = role() {
        use_segment(&how, &place);
    }
    for how in ["joined", "producer", "creator"] {
        for policy in [StalePolicy::Recreate, StalePolicy::Adopt] {
            let place = private_place();
            let victim = Victim::start(TEST, how, place.path(), "there");
            let before = inode_of(place.path(), NAME);
            let joined = join(place.path(), policy).unwrap();
            assert_eq!((joined.arrival, inode(&joined.segment)), (Arrival::Opened, before), "{how}");
            drop(joined);
            // Stopped is not dead.
            victim.signal(Signal::STOP);
            let joined = join(place.path(), policy).unwrap();
            assert_eq!((joined.arrival, inode(&joined.segment)), (Arrival::Opened, before), "{how}, stopped");
            // Now this process is the one who uses it.
            drop(victim);
            let again = join(place.path(), policy).unwrap();
            assert_eq!((again.arrival, inode(&again.segment)), (Arrival::Opened, before), "{how}, dead");
        }
    }
}

#[test]
fn a_segment_whose_users_were_killed_is_recreated_or_adopted() {
    const TEST: &str = "a_segment_whose_users_were_killed_is_recreated_or_adopted";
    if let Some((how, place)) = role() {
        use_segment(&how, &place);
    }
    for how in ["joined", "producer", "creator"] {
        let place = private_place();
        drop(Victim::start(TEST, how, place.path(), "there"));
        let before = inode_of(place.path(), NAME);
        let written = if how == "joined" { 77 } else { 0 };

        let adopted = join(place.path(), StalePolicy::Adopt).unwrap();
        assert_eq!((adopted.arrival, inode(&adopted.segment)), (Arrival::Adopted, before), "{how}");
        assert_eq!(word(&adopted.segment), written);
        assert!(!adopted.segment.is_created());
        // Present from the first moment on.
        let other = join(place.path(), StalePolicy::Recreate).unwrap();
        assert_eq!((other.arrival, inode(&other.segment)), (Arrival::Opened, before), "{how}");
        // Every role can be had again.
        let leases = adopted.segment.leases().unwrap();
        for role in [RoleId::CREATOR, RoleId::CONSUMER, RoleId::CLEANER, RoleId::producer(5).unwrap()] {
            drop(leases.acquire(role).unwrap());
        }
        set_word(&adopted.segment, 78);
        drop(adopted);
        assert_eq!(join(place.path(), StalePolicy::Adopt).unwrap().arrival, Arrival::Opened);
        let presence = other.presence;
        drop(other.segment);
        assert_eq!(join(place.path(), StalePolicy::Recreate).unwrap().arrival, Arrival::Opened);

        // An old mapping of what is recreated stays what it was.
        let old = Segment::open_with(NAME, &options(place.path())).unwrap();
        drop(presence);
        let created = join(place.path(), StalePolicy::Recreate).unwrap();
        assert_eq!(created.arrival, Arrival::Created);
        assert!(created.segment.is_created() && inode(&created.segment) != before);
        assert_eq!((word(&created.segment), word(&old)), (0, 78), "{how}");
    }
}

const RACERS: u64 = 2;
const ROUNDS: u64 = 200;

/// Meets the others before and after each join, so that all are in at the same time.
fn race(policy: StalePolicy, place: &str) {
    let barrier = Segment::inherited(BARRIER).unwrap().region();
    // SAFETY: the region lives as long as this function, and has nothing but this word.
    let arrived = unsafe { barrier.atomic_u64(0) };
    let (started, mut meetings) = (Instant::now(), 0);
    let mut meet = || {
        meetings += 1;
        arrived.fetch_add(1, Ordering::SeqCst);
        while arrived.load(Ordering::SeqCst) < meetings * RACERS {
            assert!(started.elapsed() < PATIENCE, "another racer is gone");
            thread::yield_now();
        }
    };
    for round in 0..ROUNDS {
        let name = format!("round-{round}");
        meet();
        let joined = Segment::join_with(&name, LEN, policy, &options(place), init).unwrap();
        meet();
        assert_eq!(inode(&joined.segment), inode_of(Path::new(place), &name), "in a segment without a name");
        report(&format!("{:?} {}", joined.arrival, inode(&joined.segment)));
        meet();
    }
}

fn run_race(test: &str, role: &str, expected: &str) {
    let place = private_place();
    let before: Vec<u64> =
        (0..ROUNDS).map(|round| inode(&create(place.path(), &format!("round-{round}")))).collect();
    let barrier = Segment::anonymous(8).unwrap();
    let racers: Vec<_> = (0..RACERS)
        .map(|_| {
            let mut command = peer(test, role, place.path());
            barrier.inherit(&mut command, BARRIER).unwrap();
            command.spawn().unwrap()
        })
        .collect();
    let said: Vec<_> = racers.into_iter().map(|racer| reports(&racer.wait_with_output().unwrap())).collect();
    for (round, &before) in before.iter().enumerate() {
        let answers: Vec<(&str, u64)> = said
            .iter()
            .map(|said| {
                said[round].split_once(' ').map(|(how, inode)| (how, inode.parse().unwrap())).unwrap()
            })
            .collect();
        let first = answers.iter().filter(|(how, _)| *how == expected).count();
        let opened = answers.iter().filter(|(how, _)| *how == "Opened").count();
        assert_eq!((first, opened as u64), (1, RACERS - 1), "round {round}: {answers:?}");
        let inodes: HashSet<u64> = answers.iter().map(|&(_, inode)| inode).collect();
        assert_eq!(inodes.len(), 1, "round {round}: not in one segment: {answers:?}");
        assert_eq!(inodes.contains(&before), expected == "Adopted", "round {round}");
    }
}

#[test]
fn of_two_openers_of_a_stale_segment_one_recreates_it() {
    if let Some((_, place)) = role() {
        return race(StalePolicy::Recreate, &place);
    }
    run_race("of_two_openers_of_a_stale_segment_one_recreates_it", "racer", "Created");
}

#[test]
fn of_two_openers_of_a_stale_segment_one_adopts_it_first() {
    if let Some((_, place)) = role() {
        return race(StalePolicy::Adopt, &place);
    }
    run_race("of_two_openers_of_a_stale_segment_one_adopts_it_first", "racer", "Adopted");
}

#[test]
fn what_another_boot_left_is_never_adopted() {
    let place = private_place();
    let here = create(place.path(), "another").region().origin().boot_id;
    let old =
        Segment::create_with(NAME, LEN, &options(place.path()), |region| header(&region, here ^ 1)).unwrap();
    let before = inode(&old);
    drop(old);
    match join(place.path(), StalePolicy::Adopt).unwrap_err() {
        JoinError::OtherBoot { name, expected, found } => {
            assert_eq!((name.as_str(), expected, found), (NAME, here, here ^ 1));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(inode_of(place.path(), NAME), before, "a refusal changes nothing");
    let found = clean(place.path(), CleanMode::DryRun);
    assert_eq!((found[NAME].boot_id, found[NAME].of_this_boot), (Some(here ^ 1), false));
    let created = join(place.path(), StalePolicy::Recreate).unwrap();
    assert_eq!(created.arrival, Arrival::Created);
    assert_ne!(inode(&created.segment), before);
    assert!(clean(place.path(), CleanMode::DryRun)[NAME].of_this_boot);
}

#[test]
fn what_has_no_header_is_not_adopted() {
    let place = private_place();
    drop(Segment::create_with(NAME, LEN, &options(place.path()), |_| Ok(())).unwrap());
    let refused = join(place.path(), StalePolicy::Adopt).unwrap_err();
    assert!(matches!(&refused, JoinError::NotAdoptable { .. }) && refused.source().is_some(), "{refused:?}");
    assert_eq!(join(place.path(), StalePolicy::Recreate).unwrap().arrival, Arrival::Created);
}

/// Locks bytes of the segment's file, all from the first on, as a joiner or a cleaner does.
fn lock_all(place: &Path) -> fs::File {
    let file = OpenOptions::new().read(true).write(true).open(place.join(NAME)).unwrap();
    let (l_type, l_whence) = (libc::F_WRLCK.try_into().unwrap(), libc::SEEK_SET.try_into().unwrap());
    let lock = libc::flock { l_type, l_whence, l_start: 0, l_len: 0, l_pid: 0 };
    // SAFETY: the descriptor is open; reads one `flock`.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    assert_eq!(answer, 0);
    file
}

#[test]
fn a_joiner_waits_for_another_that_decides_but_not_for_ever() {
    let place = private_place();
    drop(create(place.path(), NAME));
    let decides = lock_all(place.path());
    let started = Instant::now();
    let refused = join(place.path(), StalePolicy::Recreate).unwrap_err();
    assert!(matches!(refused, JoinError::Segment(SegmentError::Contended { .. })), "{refused:?}");
    assert!(started.elapsed() >= Duration::from_millis(900) && started.elapsed() < Duration::from_secs(20));
    // And it does not clean either.
    let found = &clean(place.path(), CleanMode::Remove)[NAME];
    assert!(matches!(found.verdict, Verdict::InUse) && found.present);
    assert_eq!(found.held, [RoleId::CREATOR, RoleId::CONSUMER, RoleId::CLEANER]);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| join(place.path(), StalePolicy::Recreate).unwrap().arrival);
        thread::sleep(Duration::from_millis(50));
        drop(decides);
        assert_eq!(waiting.join().unwrap(), Arrival::Created);
    });
}

#[test]
fn a_fork_child_does_not_keep_a_segment_in_use() {
    const TEST: &str = "a_fork_child_does_not_keep_a_segment_in_use";
    if let Some((_, place)) = role() {
        let _joined = join(&place, StalePolicy::Recreate).unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        // SAFETY: the child makes calls only that are allowed after a fork of a program with threads.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: ends this process should nobody else.
            unsafe { libc::alarm(20) };
            // `fork` has returned here, too.
            let _told = rustix::io::write(&writer, b"x");
            loop {
                // SAFETY: waits.
                unsafe { libc::pause() };
            }
        }
        assert_eq!(rustix::io::read(&reader, &mut [0_u8; 1]), Ok(1));
        report(&format!("child {child}"));
        wait_to_be_killed();
    }
    let place = private_place();
    let mut forker = peer(TEST, "forker", place.path()).spawn().unwrap();
    let out = std::io::BufReader::new(forker.stdout.take().unwrap());
    let said = std::io::BufRead::lines(out)
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("@child ").and_then(|number| number.parse::<i32>().ok()));
    let child = Pid::from_raw(said.unwrap()).unwrap();
    let before = inode_of(place.path(), NAME);
    forker.kill().unwrap();
    forker.wait().unwrap();
    let alive = rustix::process::test_kill_process(child).is_ok();
    let joined = join(place.path(), StalePolicy::Recreate).unwrap();
    kill_process(child, Signal::KILL).unwrap();
    assert!(alive);
    assert_eq!(joined.arrival, Arrival::Created);
    assert_ne!(inode(&joined.segment), before);
}

const KILLS: u64 = 150;

#[test]
fn joiners_that_are_killed_leave_nothing_that_the_next_does_not_put_right() {
    const TEST: &str = "joiners_that_are_killed_leave_nothing_that_the_next_does_not_put_right";
    if let Some((named_temporary, place)) = role() {
        let options = options(place).named_temporary(named_temporary == "named");
        report("ready");
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            drop(Segment::join_with(NAME, LEN, StalePolicy::Recreate, &options, init).unwrap());
        }
        panic!("nobody kills this process");
    }
    let place = private_place();
    for kill in 0..KILLS {
        let role = if kill % 2 == 0 { "unnamed" } else { "named" };
        let victim = Victim::start(TEST, role, place.path(), "ready");
        thread::sleep(Duration::from_micros(kill * 7919 % 1500));
        drop(victim);
        let policy = if kill % 3 == 0 { StalePolicy::Adopt } else { StalePolicy::Recreate };
        let joined = join(place.path(), policy).unwrap();
        assert_ne!(joined.arrival, Arrival::Opened, "the dead is counted as a user");
        assert_eq!(inode(&joined.segment), inode_of(place.path(), NAME));
        assert_eq!(Header::inspect(&joined.segment.region()).unwrap().kind, KIND);
    }
}

fn entries(place: &Path) -> BTreeMap<String, (u64, u64, i64, i64)> {
    let entry = |entry: fs::DirEntry| {
        let seen = entry.metadata().unwrap();
        let what = (seen.ino(), seen.len(), seen.ctime_nsec(), seen.mtime_nsec());
        (entry.file_name().into_string().unwrap(), what)
    };
    fs::read_dir(place).unwrap().map(|found| entry(found.unwrap())).collect()
}

/// Holds segments in the ways that there are.
fn hold_some(place: &str) -> ! {
    let open = |name| Segment::open_with(name, &options(place)).unwrap().leases().unwrap();
    let lanes = open("lanes");
    let _held = [
        lanes.acquire(RoleId::producer(300).unwrap()).unwrap(),
        lanes.acquire(RoleId::producer(2).unwrap()).unwrap(),
        lanes.acquire(RoleId::CONSUMER).unwrap(),
        open("lone").acquire(RoleId::CREATOR).unwrap(),
    ];
    let _joined = Segment::join_with("joined", LEN, StalePolicy::Recreate, &options(place), init).unwrap();
    report("held");
    wait_to_be_killed();
}

#[test]
fn the_cleaner_removes_what_nobody_holds_and_nothing_else() {
    const TEST: &str = "the_cleaner_removes_what_nobody_holds_and_nothing_else";
    if let Some((_, place)) = role() {
        hold_some(&place);
    }
    let place = private_place();
    for name in ["lanes", "lone", "dead"] {
        drop(create(place.path(), name));
    }
    let other_boot = |region: Region| header(&region, 4711);
    drop(Segment::create_with("older", LEN, &options(place.path()), other_boot).unwrap());
    drop(Segment::create_with("raw", 100, &options(place.path()), |_| Ok(())).unwrap());
    fs::write(place.path().join("file"), b"not a segment").unwrap();
    fs::write(place.path().join("#temporary"), b"not a name").unwrap();
    let holder = Victim::start(TEST, "holder", place.path(), "held");
    let own = create(place.path(), "own");
    let own_lease = own.leases().unwrap().acquire(RoleId::CLEANER).unwrap();

    let before = entries(place.path());
    for mode in [CleanMode::DryRun, CleanMode::Remove] {
        let found = clean(place.path(), mode);
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["dead", "file", "joined", "lanes", "lone", "older", "own", "raw"]);
        let lanes = [RoleId::CONSUMER, RoleId::producer(2).unwrap(), RoleId::producer(300).unwrap()];
        let held: [(&str, &[RoleId], bool); 4] = [
            ("lanes", &lanes, false),
            ("lone", &[RoleId::CREATOR], false),
            ("own", &[RoleId::CLEANER], false),
            ("joined", &[], true),
        ];
        for (name, held, present) in held {
            let found = &found[name];
            assert!(matches!(found.verdict, Verdict::InUse), "{found:?}");
            assert_eq!((&*found.held, found.present), (held, present), "{name}");
            assert_eq!((found.kind, found.bytes, found.of_this_boot), (Some(KIND), LEN as u64, true));
            assert!(found.created.is_some_and(|at| at.elapsed().is_ok_and(|age| age < PATIENCE)));
        }
        assert!(matches!(found["raw"].verdict, Verdict::Unmarked) && found["raw"].kind.is_none());
        let error = &found["file"].verdict;
        assert!(matches!(error, Verdict::Refused(SegmentError::NotASegment { .. })), "{error:?}");
        assert_eq!((found["older"].boot_id, found["older"].of_this_boot), (Some(4711), false));
        for name in ["dead", "older"] {
            let removed = matches!(found[name].verdict, Verdict::Removed);
            let stale = matches!(found[name].verdict, Verdict::Stale);
            assert_eq!((stale, removed), (mode == CleanMode::DryRun, mode == CleanMode::Remove), "{name}");
        }
        let mut expected = before.clone();
        if mode == CleanMode::Remove {
            expected.remove("dead");
            expected.remove("older");
        }
        assert_eq!(entries(place.path()), expected, "{mode:?}");
    }

    drop((holder, own_lease));
    clean(place.path(), CleanMode::Remove);
    let left = entries(place.path());
    assert_eq!(left.keys().collect::<Vec<_>>(), ["#temporary", "file", "raw"]);
    let absent = place.path().join("absent");
    assert!(clean(&absent, CleanMode::Remove).is_empty() && !absent.exists());
}

/// Cleans for ever. With an argument it makes what it cleans, too.
fn clean_for_ever(makes: bool, place: &str) -> ! {
    report("ready");
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        for index in 0..4 {
            if makes {
                drop(Segment::open_or_create_with(&format!("s{index}"), LEN, &options(place), init).unwrap());
            }
        }
        Segment::clean_with(CleanMode::Remove, &options(place)).unwrap();
    }
    panic!("nobody kills this process");
}

/// Joins and leaves for ever, and sees that it is where the name is.
fn join_for_ever(place: &str) -> ! {
    report("ready");
    let started = Instant::now();
    for round in 0_u64.. {
        assert!(started.elapsed() < PATIENCE, "nobody kills this process");
        let joined = join(place, StalePolicy::Recreate).unwrap();
        assert_eq!(inode(&joined.segment), inode_of(Path::new(place), NAME));
        drop(joined);
        // So that the others find nobody, now and then.
        thread::sleep(Duration::from_micros(round % 4 * 50));
    }
    unreachable!("the numbers do not end")
}

#[test]
fn nobody_takes_a_segment_from_under_a_joiner() {
    const TEST: &str = "nobody_takes_a_segment_from_under_a_joiner";
    if let Some((what, place)) = role() {
        match what.as_str() {
            "cleaner" => clean_for_ever(false, &place),
            _ => join_for_ever(&place),
        }
    }
    let against = [(2500, 0, &["cleaner"][..]), (500, 50, &["joiner"]), (500, 50, &["cleaner", "joiner"])];
    for (rounds, pause, others) in against {
        let place = private_place();
        let mut others: Vec<_> =
            others.iter().map(|other| Victim::start(TEST, other, place.path(), "ready")).collect();
        let (mut seen, mut round, started) = (HashSet::new(), 0, Instant::now());
        // Until they met often enough.
        while round < rounds || seen.len() < 10 {
            assert!(started.elapsed() < PATIENCE, "{} segments in {round} rounds", seen.len());
            let joined = join(place.path(), StalePolicy::Adopt).unwrap();
            seen.insert(inode(&joined.segment));
            for _ in 0..2 {
                assert_eq!(inode(&joined.segment), inode_of(place.path(), NAME), "round {round}");
                thread::yield_now();
            }
            drop(joined);
            // Where the others get little time to run, they are given some.
            let more = if round > rounds { 2000 } else { 0 };
            thread::sleep(Duration::from_micros(round % 3 * pause + more));
            round += 1;
        }
        for other in &mut others {
            assert!(other.0.try_wait().unwrap().is_none(), "it found itself in a segment without a name");
        }
    }
}

#[test]
fn a_killed_cleaner_leaves_a_directory_that_can_be_used() {
    const TEST: &str = "a_killed_cleaner_leaves_a_directory_that_can_be_used";
    if let Some((_, place)) = role() {
        clean_for_ever(true, &place);
    }
    let place = private_place();
    let mut left = 0;
    for kill in 0..KILLS {
        let victim = Victim::start(TEST, "cleaner", place.path(), "ready");
        thread::sleep(Duration::from_micros(kill * 7919 % 1500));
        drop(victim);
        for found in Segment::clean_with(CleanMode::DryRun, &options(place.path())).unwrap() {
            assert!(matches!(found.verdict, Verdict::Stale), "{found:?}");
            assert_eq!((found.kind, found.bytes), (Some(KIND), LEN as u64));
            left += 1;
        }
        let name = format!("s{}", kill % 4);
        let joined =
            Segment::join_with(&name, LEN, StalePolicy::Adopt, &options(place.path()), init).unwrap();
        assert_ne!(joined.arrival, Arrival::Opened);
        drop(joined);
        clean(place.path(), CleanMode::Remove);
        assert!(entries(place.path()).is_empty(), "{:?}", entries(place.path()));
    }
    // Else no kill came while there was something to clean.
    assert!(left > 0);
}
