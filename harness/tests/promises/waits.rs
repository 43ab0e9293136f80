//! Clocks that jump, and guards that are refused.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::ptr::{null, null_mut};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tidewire_shm::bell::{
    Bell, BellForm, BellMode, Deadline, Kernel, Place as Word, SleepOptions, Sleeper, Spin, System,
    UNWATCHED_SLICE, Woken, capabilities,
};
use tidewire_shm::sync::AtomicU32;
use tidewire_shm::{
    DeathError, DeathNotice, DeathWatch, Liveness, NoticeState, Region, RoleId, Segment, Tenancy, Untrusted,
    WaitedWith,
};

use crate::confinement::{Argument, Then, forbid, in_a_time_namespace};
use crate::peers::{LONG, Peer, Place, admit, alone, at, open, peer, role, say, wait_to_be_killed};
use crate::queues::{Book, Kind, message, whole};

const BELL: &str = "bell";
/// How far the monotonic clock of a process is ahead of that of all others, while the time of day is the same.
const AHEAD: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const NAP: Duration = Duration::from_millis(30);

fn create_bell(place: &Path) -> Segment {
    let init = |region: Region<Untrusted>| {
        // SAFETY: used as a bell only; the region is kept.
        unsafe { Bell::create(&region, 0, BellMode::choose(&System), BellForm::Word)? };
        Ok(())
    };
    Segment::create_with(BELL, 4096, &at(place), init).unwrap()
}

/// The bell in a segment, which must outlive what is made from it.
fn bell(region: &Region<Untrusted>) -> Bell {
    // SAFETY: used as a bell only; the callers keep the region.
    unsafe { Bell::open(region, 0).unwrap() }
}

fn sleeper(region: &Region<Untrusted>, slice: Duration) -> Sleeper<System> {
    bell(region).sleeper(System, &SleepOptions::new().spin(Spin::Rounds(0)).slice(slice)).unwrap()
}

/// Every wait that has an end, with nothing to end it but time: none ends early, and none late.
fn wait_in_every_way(place: &Path) {
    let segment = open(place, BELL);
    let region = segment.region();
    let quiet = AtomicU32::new(5);
    let own = DeathWatch::new(DeathNotice::own().unwrap().try_clone_fd().unwrap()).unwrap();
    let timed = |name: &str, wait: &mut dyn FnMut()| {
        let started = Instant::now();
        wait();
        let took = started.elapsed();
        assert!((NAP..NAP + Duration::from_secs(2)).contains(&took), "{name}: {took:?}");
    };
    // In one sleep, and in many.
    for slice in [LONG, NAP / 10] {
        let mut sleeper = sleeper(&region, slice);
        let deadline = || Deadline::after(&System, NAP);
        timed("wait", &mut || assert_eq!(sleeper.wait(|| false, deadline()), Woken::TimedOut));
        timed("wait and watch", &mut || {
            assert_eq!(sleeper.wait_watching(|| false, deadline(), &[&own]), Woken::TimedOut);
        });
    }
    timed("watch", &mut || {
        while own.wait_with(Word::Word(&quiet), 5, NAP) != WaitedWith::TimedOut {}
    });
    timed("sleep", &mut || {
        let nap_ns = u64::try_from(NAP.as_nanos()).unwrap();
        let _nap = System.sleep(Word::Word(&quiet), 5, nap_ns);
    });
    timed("pause", &mut || System.pause(u64::try_from(NAP.as_nanos()).unwrap()));
}

/// Whoever waits for a time of day dies.
fn forbid_waits_for_the_time_of_day() {
    let day = u32::try_from(libc::CLOCK_REALTIME).unwrap();
    let on_day = u32::try_from(libc::FUTEX_CLOCK_REALTIME).unwrap();
    let absolute = u32::try_from(libc::TIMER_ABSTIME).unwrap();
    // The system's library names that clock where it waits without an end, too.
    let timed = Argument::Has(3, u32::MAX);
    forbid(
        &[
            (libc::SYS_futex, &[Argument::Has(1, on_day), timed]),
            (libc::SYS_futex_waitv, &[Argument::Is(4, day), timed]),
            (libc::SYS_clock_nanosleep, &[Argument::Is(0, day), Argument::Has(1, absolute)]),
            (libc::SYS_timerfd_create, &[Argument::Is(0, day)]),
            (libc::SYS_timer_create, &[Argument::Is(0, day)]),
            (libc::SYS_clock_settime, &[]),
            (libc::SYS_settimeofday, &[]),
        ],
        Then::Dies,
    );
}

/// A wait of the forbidden kind.
fn wait_for_the_time_of_day(how: &str) {
    let word = AtomicU32::new(5);
    let until = libc::timespec { tv_sec: 1, tv_nsec: 0 };
    let address = word.as_ptr();
    match how {
        "futex" => {
            let op = libc::FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME;
            // SAFETY: the word and the time are there.
            unsafe {
                libc::syscall(libc::SYS_futex, address, op, 5, &raw const until, null::<u32>(), u32::MAX)
            };
        }
        "waitv" => {
            // SAFETY: no words, and a time that is there.
            unsafe { libc::syscall(libc::SYS_futex_waitv, null::<u8>(), 0, 0, &raw const until, 0) };
        }
        _ => {
            // SAFETY: the time is there, and nothing is written.
            unsafe {
                libc::syscall(
                    libc::SYS_clock_nanosleep,
                    0,
                    libc::TIMER_ABSTIME,
                    &raw const until,
                    null_mut::<u8>(),
                )
            };
        }
    }
    say("survived");
}

/// In a process whose clock is another: waits for a message that comes after a while, and tells how long it took.
fn wait_for_a_message(place: &Path) {
    let segments = Kind::ALL.map(|kind| open(place, kind.name()));
    let bells = open(place, BELL);
    let region = bells.region();
    let mut sleeper = sleeper(&region, LONG);
    for (kind, segment) in Kind::ALL.into_iter().zip(&segments) {
        let mut consumer = kind.consumer(segment).unwrap();
        let mut found = None;
        say("waiting");
        let started = Instant::now();
        let ready = || {
            found = found.or_else(|| consumer.pop().ok());
            found.is_some()
        };
        assert_eq!(sleeper.wait(ready, Deadline::after(&System, LONG)), Woken::Ready, "{kind:?}");
        assert_eq!(whole(&found.unwrap()), (0, 7));
        say(started.elapsed().as_micros().to_string());
    }
}

#[test]
fn wall_clock_jump_changes_no_wait() {
    const TEST: &str = "waits::wall_clock_jump_changes_no_wait";
    if let Some((role, argument)) = role() {
        match role.as_str() {
            "forbidden" => {
                forbid_waits_for_the_time_of_day();
                wait_in_every_way(Path::new(&argument));
                return say("waited");
            }
            "ahead" | "ordinary" => {
                let (outer_ns, place) = argument.split_once(' ').unwrap();
                let ahead_ns = System.now_ns() - outer_ns.parse::<u64>().unwrap();
                let expected_ns = if role == "ahead" { AHEAD.as_nanos() } else { 0 };
                assert!(u128::from(ahead_ns) >= expected_ns, "{ahead_ns}");
                wait_in_every_way(Path::new(place));
                return wait_for_a_message(Path::new(place));
            }
            how => {
                forbid_waits_for_the_time_of_day();
                return wait_for_the_time_of_day(how);
            }
        }
    }
    let _alone = alone();
    admit(format_args!(
        "the time of day is everybody's and is not set here: waits for it are forbidden instead"
    ));
    let place = Place::new();
    let bells = create_bell(place.path());
    for how in ["futex", "waitv", "sleep"] {
        let status = Peer::start(TEST, how, "").wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGSYS), "{how}: a wait for the time of day goes unnoticed");
    }
    let mut forbidden = Peer::start(TEST, "forbidden", place.path());
    assert_eq!(forbidden.next(), "waited");
    forbidden.end();

    // Seen by this process, that one's time of day jumped by a month against the clock that it waits by.
    let segments = Kind::ALL.map(|kind| kind.create(place.path(), 1));
    let argument = format!("{} {}", System.now_ns(), place.path().display());
    let mut command = peer(TEST, "ahead", &argument);
    in_a_time_namespace(&mut command, AHEAD.as_secs());
    let mut waiter = Peer::spawn(&mut command).unwrap_or_else(|error| {
        admit(format_args!("no time namespace could be made: {error}; the waiter is an ordinary process"));
        Peer::start(TEST, "ordinary", &argument)
    });
    let region = bells.region();
    let mut ringer = bell(&region).ringer(System).unwrap();
    for (kind, segment) in Kind::ALL.into_iter().zip(&segments) {
        let mut producer = kind.producer(segment).unwrap();
        assert_eq!(waiter.next(), "waiting");
        thread::sleep(NAP);
        producer.push(message(0, 7)).unwrap();
        let _rung = ringer.ring();
        let took = Duration::from_micros(waiter.next().parse().unwrap());
        assert!((NAP / 2..LONG / 2).contains(&took), "{kind:?}: {took:?}");
    }
    waiter.end();
}

/// Takes roles, in a sandbox that starts no threads.
fn work_without_a_guard(place: &Path) -> ! {
    assert_eq!(capabilities().death_notice, NoticeState::Unasked);
    forbid(&[(libc::SYS_clone, &[]), (libc::SYS_clone3, &[])], Then::Fails(Errno::AGAIN));
    let error = DeathNotice::own().unwrap_err();
    assert!(matches!(error, DeathError::System { operation: "start the guard thread", .. }), "{error}");
    assert_eq!(capabilities().death_notice, NoticeState::Refused);
    // Nothing else is the worse for it.
    let segments = Kind::ALL.map(|kind| open(place, kind.name()));
    let mut producers: Vec<_> =
        Kind::ALL.iter().zip(&segments).map(|(kind, segment)| kind.producer(segment).unwrap()).collect();
    producers.iter_mut().for_each(|producer| producer.push(message(0, 0)).unwrap());
    say("refused");
    wait_to_be_killed()
}

#[test]
fn guard_thread_refused_is_said_and_deaths_are_found_by_polling() {
    const TEST: &str = "waits::guard_thread_refused_is_said_and_deaths_are_found_by_polling";
    const DEATHS: usize = 7;
    if let Some((_, place)) = role() {
        work_without_a_guard(Path::new(&place));
    }
    let _alone = alone();
    let place = Place::new();
    let bells = create_bell(place.path());
    let region = bells.region();
    let segments = Kind::ALL.map(|kind| kind.create(place.path(), 1));
    let mut consumers: Vec<_> =
        Kind::ALL.iter().zip(&segments).map(|(kind, segment)| kind.consumer(segment).unwrap()).collect();
    let leases = segments.each_ref().map(|segment| segment.leases().unwrap());
    let role = RoleId::producer(0).unwrap();
    let book = Book::create(place.path());
    let mut latencies = Vec::new();
    for _ in 0..DEATHS {
        let mut victim = Peer::start(TEST, "victim", place.path());
        assert_eq!(victim.next(), "refused");
        for consumer in &mut consumers {
            assert_eq!(whole(&consumer.pop().unwrap()), (0, 0));
        }
        let mut sleeper = sleeper(&region, LONG);
        let killing = thread::spawn(move || {
            thread::sleep(Duration::from_millis(25));
            let killed = Instant::now();
            victim.kill();
            killed
        });
        // What a waiter does that has no notice to watch: it asks the leases after each slice.
        let mut slices = 0;
        while leases.iter().any(|leases| leases.tenancy(role) == Tenancy::Held) {
            let slice = Deadline::after(&System, UNWATCHED_SLICE);
            assert_eq!(sleeper.wait(|| book.read(0) != 0, slice), Woken::TimedOut);
            slices += 1;
        }
        let found = Instant::now();
        latencies.push(found.saturating_duration_since(killing.join().unwrap()));
        assert!(slices > 1, "it was alive for more than a slice");
        for (consumer, leases) in consumers.iter_mut().zip(&leases) {
            consumer.reclaim(leases);
        }
    }
    latencies.sort_unstable();
    println!("found without a notice: {latencies:?}");
    assert!(latencies[DEATHS / 2] < 5 * UNWATCHED_SLICE, "{latencies:?}");
}
