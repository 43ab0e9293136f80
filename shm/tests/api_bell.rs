//! What bells promise, within one process.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64 as Plain, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tidewire_shm::bell::{
    Armed, BELL_BYTES, Bell, BellError, BellForm, BellMode, Deadline, Kernel, Nap, Place, Rung, SleepOptions,
    Spin, System, UNWATCHED_SLICE, Waiters, Woken, capabilities,
};
use tidewire_shm::sync::{AtomicU32, AtomicU64, Shared};
use tidewire_shm::{Region, Trusted};

const MODES: [BellMode; 2] = [BellMode::Fence, BellMode::Membarrier];
const AT_ONCE: SleepOptions = SleepOptions::new().spin(Spin::Rounds(0)).yields(0);
const BELL: usize = 128;

fn region() -> Region<Trusted> {
    Region::heap(256).unwrap()
}

fn create(region: &Region<Trusted>, mode: BellMode, form: BellForm) -> Bell {
    // SAFETY: used as this bell only; the tests keep the region.
    unsafe { Bell::create(region, BELL, mode, form).unwrap() }
}

fn tail(region: &Region<Trusted>) -> Shared<AtomicU64> {
    // SAFETY: a control word, nowhere used as anything else; the tests keep the region.
    unsafe { region.atomic_u64(0) }
}

fn flag(region: &Region<Trusted>) -> Shared<AtomicU32> {
    // SAFETY: the flag of the bell, as a peer that breaks the rules sees it; the tests keep the region.
    unsafe { region.atomic_u32(BELL) }
}

/// A kernel without `membarrier`.
#[derive(Debug)]
struct Bare;

impl Kernel for Bare {
    fn sleep(&self, place: Place<'_>, expected: u32, timeout_ns: u64) -> Nap {
        System.sleep(place, expected, timeout_ns)
    }
    fn wake(&self, place: Place<'_>) -> u32 {
        System.wake(place)
    }
    fn register(&self) -> Result<(), i32> {
        Err(38)
    }
    fn barrier(&self) -> bool {
        false
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

#[test]
fn this_machine_can_do_what_the_tests_are_about() {
    let found = capabilities();
    assert!(found.membarrier && found.futex_waitv, "{found:?}");
    assert_eq!(BellMode::choose(&System), BellMode::Membarrier);
}

#[test]
fn a_bell_is_found_as_it_was_created() {
    for mode in MODES {
        for form in [BellForm::Word, BellForm::Position] {
            let region = region();
            create(&region, mode, form);
            // SAFETY: as in `create`.
            let found = unsafe { Bell::open(&region, BELL).unwrap() };
            assert_eq!((found.mode(), found.form()), (mode, form));
        }
    }
}

#[test]
fn the_words_of_a_bell_stand_where_they_are_said_to() {
    let region = region();
    // SAFETY: the kind of the bell; nobody else uses it here.
    let kind = unsafe { region.atomic_u32(BELL + 4) };
    for (mode, mode_byte) in [(BellMode::Fence, 1), (BellMode::Membarrier, 2)] {
        for (form, form_byte) in [(BellForm::Word, 1), (BellForm::Position, 2)] {
            create(&region, mode, form);
            assert_eq!(kind.load(Ordering::Relaxed), mode_byte | form_byte << 8);
            assert_eq!(flag(&region).load(Ordering::Relaxed), 0);
        }
        // SAFETY: as in `create`.
        unsafe { Waiters::create(&region, BELL, mode).unwrap() };
        assert_eq!(kind.load(Ordering::Relaxed), mode_byte | 3 << 8);
    }
    let bell = create(&region, BellMode::Fence, BellForm::Word);
    let mut sleeper = bell.sleeper(System, &AT_ONCE.slice(Duration::from_millis(1))).unwrap();
    let mut raised = Vec::new();
    let mut looks = 0;
    let woken = sleeper.wait(
        || {
            raised.push(flag(&region).load(Ordering::Relaxed));
            looks += 1;
            looks == 5
        },
        Deadline::NEVER,
    );
    assert_eq!(woken, Woken::Ready);
    // Look; raise, look, sleep; look; raise, look, sleep; look.
    assert_eq!(raised, [0, 4 | 1, 4, 8 | 1, 8]);
}

#[test]
fn what_is_no_bell_is_refused() {
    let region = region();
    let open = |offset| {
        // SAFETY: as in `create`.
        unsafe { Bell::open(&region, offset) }
    };
    assert_eq!(open(BELL).unwrap_err(), BellError::Kind { found: 0 });
    for offset in [4, 129, 252, 256, usize::MAX - 3, usize::MAX & !7] {
        assert_eq!(open(offset).unwrap_err(), BellError::Place { offset, len: 256 });
    }
    assert_eq!(BELL_BYTES, 8);
    // SAFETY: the kind of a bell; nobody else uses it here.
    let kind = unsafe { region.atomic_u32(BELL + 4) };
    for found in [3, 0x0001, 0x0100, 0x0401, 0x0001_0101, u32::MAX] {
        kind.store(found, Ordering::Relaxed);
        assert_eq!(open(BELL).unwrap_err(), BellError::Kind { found });
    }
}

#[test]
fn the_wrong_end_of_a_form_is_refused() {
    let region = region();
    let word = create(&region, BellMode::Fence, BellForm::Word);
    let (expected, found) = (BellForm::Position, BellForm::Word);
    assert_eq!(word.ringer_on(tail(&region), System).unwrap_err(), BellError::Form { expected, found });
    let refused = word.sleeper_on(tail(&region), System, &AT_ONCE).unwrap_err();
    assert_eq!(refused, BellError::Form { expected, found });
    // SAFETY: as in `create`.
    let refused = unsafe { Waiters::open(&region, BELL) }.unwrap_err();
    assert_eq!(refused, BellError::Form { expected: BellForm::Waiters, found });
    let position = create(&region, BellMode::Fence, BellForm::Position);
    let (expected, found) = (BellForm::Word, BellForm::Position);
    assert_eq!(position.ringer(System).unwrap_err(), BellError::Form { expected, found });
    assert_eq!(position.sleeper(System, &AT_ONCE).unwrap_err(), BellError::Form { expected, found });
}

#[test]
fn memory_that_can_only_be_read_is_good_for_the_ringer_of_a_position() {
    for form in [BellForm::Word, BellForm::Position] {
        let region = region();
        create(&region, BellMode::Fence, form);
        let region = region.read_only();
        // SAFETY: as in `create`.
        let refused = unsafe { Bell::create(&region, BELL, BellMode::Fence, form) };
        assert_eq!(refused.unwrap_err(), BellError::ReadOnly);
        // SAFETY: as in `create`.
        let bell = unsafe { Bell::open(&region, BELL).unwrap() };
        assert_eq!(bell.event().unwrap_err(), BellError::ReadOnly);
        if form == BellForm::Word {
            assert_eq!(bell.ringer(System).unwrap_err(), BellError::ReadOnly);
            assert_eq!(bell.sleeper(System, &AT_ONCE).unwrap_err(), BellError::ReadOnly);
        } else {
            assert_eq!(bell.ringer_on(tail(&region), System).unwrap().ring(), Rung::Awake);
            let refused = bell.sleeper_on(tail(&region), System, &AT_ONCE).unwrap_err();
            assert_eq!(refused, BellError::ReadOnly);
        }
    }
}

#[test]
fn a_process_that_cannot_register_is_refused_by_membarrier_mode_only() {
    let region = region();
    assert_eq!(BellMode::choose(&Bare), BellMode::Fence);
    let bell = create(&region, BellMode::Membarrier, BellForm::Word);
    let error = bell.ringer(Bare).unwrap_err();
    assert_eq!(error, BellError::Membarrier { errno: 38 });
    assert!(error.to_string().contains("register for membarrier"), "{error}");
    assert!(matches!(bell.sleeper(Bare, &AT_ONCE).unwrap_err(), BellError::Membarrier { .. }));
    let bell = create(&region, BellMode::Fence, BellForm::Word);
    assert_eq!(bell.ringer(Bare).unwrap().ring(), Rung::Awake);
    let woken = bell.sleeper(Bare, &AT_ONCE).unwrap().wait(|| true, Deadline::NEVER);
    assert_eq!(woken, Woken::Ready);
}

/// Two threads take turns; nothing is lost, in any mode and form.
#[test]
fn two_that_take_turns_wake_each_other() {
    const TURNS: u64 = 2_000;
    let long = AT_ONCE.slice(Duration::from_secs(20));
    for mode in MODES {
        for form in [BellForm::Word, BellForm::Position] {
            let (there, back) = (region(), region());
            let bells = [create(&there, mode, form), create(&back, mode, form)];
            let ends = |mine: usize| {
                let (sleep_on, ring) = if mine == 0 { (&there, &back) } else { (&back, &there) };
                let (sleeper, ringer) = match form {
                    BellForm::Word => (bells[mine].sleeper(System, &long), bells[1 - mine].ringer(System)),
                    _ => (
                        bells[mine].sleeper_on(tail(sleep_on), System, &long),
                        bells[1 - mine].ringer_on(tail(ring), System),
                    ),
                };
                (tail(sleep_on), tail(ring), sleeper.unwrap(), ringer.unwrap())
            };
            let take_turns = |first: bool| {
                let (mine, theirs, mut sleeper, mut ringer) = ends(usize::from(first));
                move || {
                    for turn in 1..=TURNS {
                        if !first {
                            let woken =
                                sleeper.wait(|| mine.load(Ordering::Acquire) >= turn, Deadline::NEVER);
                            assert_eq!(woken, Woken::Ready);
                        }
                        theirs.store(turn, Ordering::Release);
                        ringer.ring();
                        if first {
                            let woken =
                                sleeper.wait(|| mine.load(Ordering::Acquire) >= turn, Deadline::NEVER);
                            assert_eq!(woken, Woken::Ready);
                        }
                    }
                    sleeper.tally()
                }
            };
            let other = thread::spawn(take_turns(false));
            let tallies = [take_turns(true)(), other.join().unwrap()];
            for tally in tallies {
                assert_eq!(tally.overslept, 0, "{mode:?} {form:?}: {tally:?}");
                assert!(tally.naps > 0, "nobody slept: {tally:?}");
                assert_eq!(tally.barriers > 0, mode == BellMode::Membarrier);
            }
        }
    }
}

#[test]
fn one_announcement_is_rung_for_once() {
    for mode in MODES {
        let region = region();
        let bell = create(&region, mode, BellForm::Word);
        let mut ringers = [bell.ringer(System).unwrap(), bell.ringer(System).unwrap()];
        let mut sleeper = bell.sleeper(System, &AT_ONCE.slice(Duration::from_millis(1))).unwrap();
        let mut looks = 0;
        let woken = sleeper.wait(
            || {
                looks += 1;
                if looks == 2 {
                    // The sleeper has announced itself, and is looking again.
                    for _ in 0..100 {
                        ringers.iter_mut().for_each(|ringer| {
                            ringer.ring();
                        });
                    }
                    assert_eq!(ringers[0].ring(), Rung::Already);
                }
                looks == 3
            },
            Deadline::NEVER,
        );
        assert_eq!(woken, Woken::Ready);
        assert_eq!(sleeper.tally().overslept, 0, "a ring between the look and the sleep was lost");
        for ringer in &mut ringers {
            assert_eq!(ringer.tally().wakes, 1);
            assert_eq!(ringer.ring(), Rung::Awake);
        }
    }
}

/// What a sleeper that was killed asleep leaves behind costs each ringer one system call.
#[test]
fn a_flag_that_was_left_up_costs_one_wake_and_is_lowered_by_the_next_sleeper() {
    let region = region();
    let bell = create(&region, BellMode::Fence, BellForm::Word);
    let mut ringer = bell.ringer(System).unwrap();
    flag(&region).store(7 << 2 | 1, Ordering::Relaxed);
    for _ in 0..1000 {
        assert_ne!(ringer.ring(), Rung::Awake);
    }
    assert_eq!((ringer.tally().wakes, ringer.tally().in_vain), (1, 1));
    let sleeper = bell.sleeper(System, &AT_ONCE).unwrap();
    assert_eq!(flag(&region).load(Ordering::Relaxed), 7 << 2);
    assert_eq!(ringer.ring(), Rung::Awake);
    assert_eq!(sleeper.tally().naps, 0);
}

#[test]
fn a_deadline_is_kept() {
    for options in [AT_ONCE, SleepOptions::new(), SleepOptions::new().spin(Spin::Rounds(50)).yields(3)] {
        for slice_ms in [1, 1000] {
            let region = region();
            let bell = create(&region, BellMode::Membarrier, BellForm::Word);
            let options = options.slice(Duration::from_millis(slice_ms));
            let mut sleeper = bell.sleeper(System, &options).unwrap();
            assert_eq!(sleeper.wait(|| false, Deadline::NOW), Woken::TimedOut);
            assert_eq!(sleeper.wait(|| true, Deadline::NOW), Woken::Ready);
            assert_eq!(sleeper.tally().naps, 0);
            let started = Instant::now();
            let deadline = Deadline::after(&System, Duration::from_millis(30));
            assert_eq!(sleeper.wait(|| false, deadline), Woken::TimedOut);
            let took = started.elapsed();
            assert!(took >= Duration::from_millis(30), "{took:?}");
            assert!(took < Duration::from_secs(2), "{took:?}");
            assert_eq!(flag(&region).load(Ordering::Relaxed) & 3, 0);
        }
    }
    assert_eq!(Deadline::after(&System, Duration::MAX), Deadline::NEVER);
}

#[test]
fn a_look_that_panics_leaves_the_flag_down() {
    let region = region();
    let bell = create(&region, BellMode::Fence, BellForm::Word);
    let mut sleeper = bell.sleeper(System, &AT_ONCE).unwrap();
    let mut looks = 0;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _never = sleeper.wait(
            || {
                looks += 1;
                assert!(looks < 2, "on purpose");
                false
            },
            Deadline::NEVER,
        );
    }));
    assert!(panicked.is_err());
    assert_eq!(flag(&region).load(Ordering::Relaxed) & 3, 0);
}

/// A barrier that is refused later than at the start costs short sleeps, not lost wakes.
#[test]
fn a_refused_barrier_shortens_the_sleep() {
    #[derive(Debug)]
    struct Fickle(Plain);
    impl Kernel for Fickle {
        fn sleep(&self, place: Place<'_>, expected: u32, timeout_ns: u64) -> Nap {
            assert!(timeout_ns <= 1_000_000, "{timeout_ns}");
            System.sleep(place, expected, timeout_ns)
        }
        fn wake(&self, place: Place<'_>) -> u32 {
            System.wake(place)
        }
        fn register(&self) -> Result<(), i32> {
            Ok(())
        }
        fn barrier(&self) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed) == 0
        }
        fn now_ns(&self) -> u64 {
            System.now_ns()
        }
        fn pause(&self, ns: u64) {
            System.pause(ns);
        }
        fn yield_now(&self) {}
        fn spins(&self) -> u32 {
            0
        }
    }
    let region = region();
    let bell = create(&region, BellMode::Membarrier, BellForm::Word);
    let mut sleeper = bell.sleeper(Fickle(Plain::new(0)), &AT_ONCE).unwrap();
    let deadline = Deadline::after(&System, Duration::from_millis(5));
    assert_eq!(sleeper.wait(|| false, deadline), Woken::TimedOut);
    assert!(sleeper.tally().naps >= 2, "{:?}", sleeper.tally());
}

#[test]
fn waiters_are_counted_and_woken_all() {
    for mode in MODES {
        let region = region();
        // SAFETY: used as this doorbell only; the region is kept.
        let waiters = unsafe { Waiters::create(&region, BELL, mode).unwrap() };
        assert_eq!(waiters.mode(), mode);
        let mut ringer = waiters.ringer(tail(&region), System).unwrap();
        assert_eq!(ringer.ring(), Rung::Awake);
        let long = AT_ONCE.slice(Duration::from_secs(20));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let tail = tail(&region);
                let mut waiter = waiters.waiter(tail.clone(), System, &long).unwrap();
                thread::spawn(move || {
                    for turn in 1..=200 {
                        let woken = waiter.wait(|| tail.load(Ordering::Acquire) >= turn, Deadline::NEVER);
                        assert_eq!(woken, Woken::Ready);
                    }
                    waiter.tally()
                })
            })
            .collect();
        for turn in 1..=200 {
            tail(&region).store(turn, Ordering::Release);
            ringer.ring();
            thread::sleep(Duration::from_micros(turn * 7 % 100));
        }
        for waiter in threads {
            let tally = waiter.join().unwrap();
            assert_eq!(tally.overslept, 0, "{mode:?}: {tally:?}");
        }
        assert_eq!(flag(&region).load(Ordering::Relaxed), 0, "somebody is still counted");
        // One that died.
        flag(&region).store(1, Ordering::Relaxed);
        assert_eq!(ringer.ring(), Rung::Sent);
        ringer.reset().unwrap();
        assert_eq!(ringer.ring(), Rung::Awake);
    }
}

/// After a reset at the wrong time the count does not go below zero, where it would hide those who come later.
#[test]
fn a_reset_under_a_waiter_does_not_hide_the_next() {
    let region = region();
    // SAFETY: used as this doorbell only; the region is kept.
    let waiters = unsafe { Waiters::create(&region, BELL, BellMode::Fence).unwrap() };
    let mut ringer = waiters.ringer(tail(&region), System).unwrap();
    let mut waiter = waiters.waiter(tail(&region), System, &AT_ONCE).unwrap();
    let mut looks = 0;
    let woken = waiter.wait(
        || {
            looks += 1;
            if looks == 2 {
                ringer.reset().unwrap();
            }
            looks == 3
        },
        Deadline::NEVER,
    );
    assert_eq!(woken, Woken::Ready);
    assert_eq!(flag(&region).load(Ordering::Relaxed), 0);
}

fn readable(fd: impl AsFd, timeout: Duration) -> bool {
    let timeout =
        Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).unwrap() > 0
}

#[test]
fn an_armed_eventfd_becomes_readable_when_it_is_rung() {
    for mode in MODES {
        for form in [BellForm::Word, BellForm::Position] {
            let region = region();
            let bell = create(&region, mode, form);
            let mut event = bell.event().unwrap();
            let mut ringer = match form {
                BellForm::Word => bell.ringer(System),
                _ => bell.ringer_on(tail(&region), System),
            }
            .unwrap();
            assert_eq!(event.arm(|| true), Armed::Ready);
            assert_eq!(ringer.ring(), Rung::Awake);
            assert_eq!(event.arm(|| false), Armed::Armed);
            assert_eq!(ringer.ring(), Rung::Unreachable);
            assert!(!readable(&event, Duration::ZERO));

            ringer.give(event.try_clone_fd().unwrap()).unwrap();
            let ringing = thread::spawn(move || {
                let rung = [ringer.ring(), ringer.ring()];
                (rung, ringer)
            });
            assert!(readable(&event, Duration::from_secs(20)));
            let (rung, mut ringer) = ringing.join().unwrap();
            assert_eq!(rung, [Rung::Sent, Rung::Already]);
            event.disarm();
            assert_eq!(ringer.ring(), Rung::Awake);
            assert_eq!(event.drain().unwrap(), 1);
            assert_eq!(event.drain().unwrap(), 0);
            assert_eq!(event.arm(|| false), Armed::Armed);
            assert_eq!(ringer.ring(), Rung::Sent);
            drop(event);
            assert_eq!(ringer.ring(), Rung::Awake);
        }
    }
}

#[test]
fn only_an_eventfd_is_taken_as_one() {
    let region = region();
    let mut ringer = create(&region, BellMode::Fence, BellForm::Word).ringer(System).unwrap();
    let file: OwnedFd = File::open("/dev/null").unwrap().into();
    assert_eq!(ringer.give(file).unwrap_err(), BellError::NotAnEventfd);
    let (_reader, writer) = std::io::pipe().unwrap();
    assert_eq!(ringer.give(writer.into()).unwrap_err(), BellError::NotAnEventfd);
}

#[test]
fn spinning_is_worth_10_to_20_microseconds() {
    let rounds = System.spins();
    println!("{rounds} rounds");
    assert_eq!(rounds, System.spins(), "measured once");
    assert!(rounds == 0 || (16..=20_000).contains(&rounds), "{rounds}");
    let time = |rounds| {
        let started = Instant::now();
        (0..rounds).for_each(|_| core::hint::spin_loop());
        started.elapsed()
    };
    let best = (0..20).map(|_| time(rounds)).min().unwrap();
    println!("{best:?} at best");
    assert!(best < Duration::from_millis(1), "{best:?}");
    assert!(UNWATCHED_SLICE < tidewire_shm::bell::DEFAULT_SLICE);
}
