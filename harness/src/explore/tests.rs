//! The engine against operations that misbehave in every way it must survive, and the points it must visit.

use core::time::Duration;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::*;

/// What the act does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// Stores 1, 2, ... n into the first word.
    Counts(u64),
    /// Copies the second half of the segment to the first with one repeated string instruction.
    CopiesRepeatedly,
    /// Takes another path in every other process.
    Wanders,
    /// Adds one to the first word by a load and a store, and so does its partner.
    AddsInTwoSteps,
    /// As above, in one step.
    AddsInOneStep,
    /// Asks the kernel something.
    Calls,
    /// Stores 1, 2 and 3 into the first word, and asks the kernel something after each.
    CountsAndCalls,
    Crashes,
    Spins,
    Sleeps,
    Panics,
    Exits,
    CannotSetUp,
    CannotPrepare,
}

/// What the survivors do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Survivors {
    Agree,
    Disagree,
    Crash,
    Spin,
    Sleep,
    Panic,
}

struct Odd {
    does: Does,
    survivors: Survivors,
    modes: &'static [Mode],
    stride: Stride,
}

impl Odd {
    fn new(does: Does) -> Self {
        Self { does, survivors: Survivors::Agree, modes: &[Mode::Kill], stride: Stride::Instruction }
    }
}

fn word(stage: &Stage) -> &AtomicU64 {
    // SAFETY: the segment is mapped, aligned and only accessed as this atomic.
    unsafe { stage.segment().cast::<AtomicU64>().as_ref() }
}

fn crash(stage: &Stage) -> u64 {
    let beyond = stage.segment().as_ptr().wrapping_add(stage.bytes());
    // SAFETY: not safe: the guard page behind the segment, whose signal is what the test is about.
    u64::from(unsafe { beyond.read_volatile() })
}

fn add(word: *mut u64, does: Does) -> u64 {
    if does == Does::AddsInOneStep {
        // SAFETY: adds to the first word of the segment.
        unsafe { core::arch::asm!("inc qword ptr [{word}]", word = in(reg) word, options(nostack)) };
    } else {
        // SAFETY: as above, in three steps.
        unsafe {
            core::arch::asm!(
                "mov {sum}, qword ptr [{word}]",
                "inc {sum}",
                "mov qword ptr [{word}], {sum}",
                word = in(reg) word,
                sum = out(reg) _,
                options(nostack),
            );
        }
    }
    1
}

fn sleep() -> ! {
    loop {
        // SAFETY: waits for a signal.
        unsafe { libc::pause() };
    }
}

fn spin(stage: &Stage) -> u64 {
    while word(stage).load(Ordering::Relaxed) != u64::MAX {
        std::hint::spin_loop();
    }
    0
}

impl Operation for Odd {
    fn structure(&self) -> &'static str {
        "odd"
    }
    fn name(&self) -> &'static str {
        "act"
    }
    fn bytes(&self) -> usize {
        256
    }
    fn modes(&self) -> &'static [Mode] {
        self.modes
    }
    fn stride(&self) -> Stride {
        self.stride
    }
    fn prepare(&self, stage: &Stage) -> Result<(), String> {
        // SAFETY: the second half of the segment.
        let half = unsafe { stage.segment().add(128) };
        // SAFETY: as above; nobody else runs.
        unsafe { half.as_ptr().write_bytes(7, 128) };
        if self.does == Does::CannotPrepare { Err("no paint".to_owned()) } else { Ok(()) }
    }
    fn victim<'a>(&'a self, stage: &'a Stage) -> Result<Act<'a>, String> {
        let does = self.does;
        if does == Does::CannotSetUp {
            return Err("no brush".to_owned());
        }
        let first = word(stage).as_ptr();
        Ok(Box::new(move || match does {
            Does::Counts(n) => {
                for i in 1..=n {
                    // ORD test: Relaxed, the tracer reads while this process is stopped.
                    word(stage).store(i, Ordering::Relaxed);
                }
                n
            }
            Does::CopiesRepeatedly => {
                let to = stage.segment().as_ptr();
                // SAFETY: copies 128 bytes within the segment, from its second half to its first.
                unsafe {
                    core::arch::asm!("rep movsb", inout("rdi") to => _, inout("rsi") to.wrapping_add(128) => _,
                        inout("rcx") 128_u64 => _, options(nostack));
                }
                1
            }
            Does::Wanders => {
                let turns = if std::process::id().is_multiple_of(2) { 5 } else { 9 };
                for i in 0..turns {
                    // ORD test: Relaxed, the tracer reads while this process is stopped.
                    word(stage).store(i, Ordering::Relaxed);
                }
                turns
            }
            Does::AddsInTwoSteps | Does::AddsInOneStep => add(first, does),
            Does::Calls => u64::from(std::process::id()),
            Does::CountsAndCalls => {
                for i in 1..=3 {
                    // ORD test: Relaxed, the tracer reads while this process is stopped.
                    word(stage).store(i, Ordering::Relaxed);
                    // SAFETY: a plain system call.
                    unsafe { libc::getppid() };
                }
                1
            }
            Does::Crashes => crash(stage),
            Does::Spins => spin(stage),
            Does::Sleeps => sleep(),
            Does::Panics => panic!("out of paint"),
            // SAFETY: ends the process.
            Does::Exits => unsafe { libc::_exit(9) },
            Does::CannotSetUp | Does::CannotPrepare => 0,
        }))
    }
    fn partner<'a>(&'a self, stage: &'a Stage) -> Result<Act<'a>, String> {
        match self.does {
            does @ (Does::AddsInTwoSteps | Does::AddsInOneStep) => {
                let word = word(stage).as_ptr();
                Ok(Box::new(move || add(word, does)))
            }
            _ => Err("odd act has no partner".to_owned()),
        }
    }
    fn judge_pair(&self, stage: &Stage, seen: Seen) -> Result<Outcome, String> {
        assert_eq!((seen.first, seen.second), (Some(1), Some(1)));
        // ORD test: Relaxed, the act's process has ended.
        match word(stage).load(Ordering::Relaxed) {
            2 => Ok(Outcome::Present),
            sum => Err(format!("one and one is {sum}")),
        }
    }
    fn judge(&self, stage: &Stage, seen: Seen) -> Result<Outcome, String> {
        match self.survivors {
            Survivors::Agree if seen.first.is_some() => Ok(Outcome::Present),
            Survivors::Agree => Ok(Outcome::Absent),
            Survivors::Disagree => Err("it is green".to_owned()),
            Survivors::Crash => Err(crash(stage).to_string()),
            Survivors::Spin => Err(spin(stage).to_string()),
            Survivors::Sleep => sleep(),
            Survivors::Panic => panic!("too much paint"),
        }
    }
    fn interfere(&self, _stage: &Stage) -> Result<(), String> {
        Ok(())
    }
    fn control_words(&self) -> Vec<usize> {
        vec![1000]
    }
}

fn options() -> StepOptions {
    // The other tests of this binary run beside: what is not blocked may still have to wait.
    let limits = Limits { processor: Duration::from_millis(400), wall: Duration::from_secs(3) };
    StepOptions { other_threads: true, limits, ..StepOptions::default() }
}

fn explore(operation: &Odd, options: &StepOptions) -> Result<StepRow, ExploreError> {
    let mut rows = Vec::new();
    step(options, &[operation], &mut |row| rows.push(row))?;
    Ok(rows.remove(0))
}

/// The verdict on an operation whose act or survivors misbehave.
fn verdict(does: Does, survivors: Survivors) -> String {
    // A panic is a long way, above all in a build without optimisation.
    let far = StepOptions { instructions: 2_000_000, ..options() };
    let row = explore(&Odd { survivors, ..Odd::new(does) }, &far).unwrap();
    assert!(row.bad > 0, "{does:?} {survivors:?}");
    assert_eq!(row.bad, row.points);
    let finding = &row.findings[0];
    assert!(finding.places[0].contains("victim, instruction "), "{finding}");
    assert!(finding.image.contains("07 07 07 07"), "{finding}");
    finding.verdict.clone()
}

#[test]
fn every_prefix_is_visited_in_straight_code_in_loops_and_in_string_instructions() {
    for n in [0, 1, 50, 400] {
        let row = explore(&Odd::new(Does::Counts(n)), &options()).unwrap();
        assert_eq!(row.bad, 0);
        // Each count, and the acknowledgement: its result (unless zero is stored over zero), its flag.
        assert_eq!(row.images, n + 1 + u64::from(n != 0) + 1, "{row:?}");
        assert_eq!(row.points, row.absent + row.present);
        assert!(row.absent > n && row.present > 0);
    }
    let row = explore(&Odd::new(Does::CopiesRepeatedly), &options()).unwrap();
    assert_eq!((row.images, row.bad), (128 + 3, 0));
}

#[test]
fn an_operation_that_takes_another_path_every_time_is_still_stepped_to_its_end() {
    let row = explore(&Odd { modes: &[Mode::Kill], ..Odd::new(Does::Wanders) }, &options()).unwrap();
    assert_eq!(row.bad, 0, "{:?}", row.findings);
    // Which path a process takes depends on its number, hence on what else the machine starts.
    assert!(row.points > 0 && row.points == row.present + row.absent, "{row:?}");
}

#[test]
fn system_calls_are_stepped_over() {
    let row =
        explore(&Odd { modes: &[Mode::Kill, Mode::Freeze], ..Odd::new(Does::Calls) }, &options()).unwrap();
    assert_eq!(row.bad, 0, "{:?}", row.findings);
}

#[test]
fn every_entry_and_exit_of_a_call_is_visited_and_nothing_in_between() {
    let operation = Odd { stride: Stride::Call, ..Odd::new(Does::CountsAndCalls) };
    let row = explore(&operation, &options()).unwrap();
    // The start, two stops at each call, the end; no count, three counts, the acknowledgement.
    assert_eq!((row.points, row.images, row.bad, row.present), (8, 5, 0, 1), "{row:?}");
    let none = Odd { stride: Stride::Call, ..Odd::new(Does::Counts(9)) };
    let row = explore(&none, &options()).unwrap();
    assert_eq!((row.points, row.images, row.bad), (2, 2, 0), "{row:?}");
}

#[test]
fn a_finding_at_a_call_names_it() {
    let operation =
        Odd { survivors: Survivors::Disagree, stride: Stride::Call, ..Odd::new(Does::CountsAndCalls) };
    let row = explore(&operation, &options()).unwrap();
    let text = row.findings[1].to_string();
    let call = format!("victim, stop 1 of 7: before the system call number {}", libc::SYS_getppid);
    assert!(text.contains(&call), "{text}");
    assert!(
        row.findings[2].to_string().contains("stop 2 of 7: after the system call"),
        "{}",
        row.findings[2]
    );
}

#[test]
fn an_operation_that_never_ends_is_a_bad_point_and_not_a_hang() {
    let started = Instant::now();
    assert!(verdict(Does::Sleeps, Survivors::Agree).contains("blocked"));
    let few = StepOptions { instructions: 500, ..options() };
    let row = explore(&Odd::new(Does::Spins), &few).unwrap();
    assert!(row.findings[0].verdict.contains("or 500 instructions"), "{}", row.findings[0]);
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn an_operation_that_dies_is_a_bad_point_with_its_cause() {
    assert!(verdict(Does::Crashes, Survivors::Agree).contains("crashed: SIGSEGV"));
    assert!(verdict(Does::Panics, Survivors::Agree).contains("panicked: out of paint"));
    assert!(verdict(Does::Exits, Survivors::Agree).contains("code 9"));
}

#[test]
fn survivors_that_fail_are_a_verdict_with_its_cause() {
    let does = Does::Counts(1);
    assert_eq!(verdict(does, Survivors::Disagree), "it is green");
    assert!(verdict(does, Survivors::Crash).contains("crashed: SIGSEGV"));
    assert!(verdict(does, Survivors::Panic).contains("panicked: too much paint"));
    assert!(verdict(does, Survivors::Spin).contains("blocked"));
    assert!(verdict(does, Survivors::Sleep).contains("blocked"));
}

#[test]
fn blocked_survivors_cut_a_row_short_and_it_says_so() {
    let operation = Odd { survivors: Survivors::Spin, ..Odd::new(Does::Counts(50)) };
    let row = explore(&operation, &StepOptions { blocked: 2, ..options() }).unwrap();
    assert!(row.cut);
    assert_eq!(row.images, 2);
    let row = explore(&Odd::new(Does::Counts(50)), &options()).unwrap();
    assert!(!row.cut);
}

#[test]
fn what_cannot_be_set_up_is_an_error_that_says_what() {
    for (does, text) in [(Does::CannotPrepare, "no paint"), (Does::CannotSetUp, "no brush")] {
        let error = explore(&Odd::new(does), &options()).unwrap_err();
        assert!(matches!(error, ExploreError::SetUp { .. }), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
    let flip = Odd { modes: &[Mode::Flip], ..Odd::new(Does::Counts(1)) };
    let error = explore(&flip, &options()).unwrap_err();
    assert!(error.to_string().contains("0x3e8 is not within the segment"), "{error}");
}

#[test]
fn an_operation_without_partner_says_so() {
    let pairs = Odd { modes: &[Mode::Pairs], ..Odd::new(Does::Counts(1)) };
    let error = explore(&pairs, &options()).unwrap_err();
    assert!(error.to_string().contains("odd act has no partner"), "{error}");
}

#[test]
fn pairs_find_a_lost_update_wherever_they_stop() {
    for (does, broken) in [(Does::AddsInTwoSteps, true), (Does::AddsInOneStep, false)] {
        let operation = Odd { modes: &[Mode::Pairs], ..Odd::new(does) };
        let all = explore(&operation, &StepOptions { pairs: usize::MAX, ..options() }).unwrap();
        let few = explore(&operation, &StepOptions { pairs: 0, ..options() }).unwrap();
        assert_eq!((all.bad > 0, few.bad > 0), (broken, broken), "{all:?} {few:?}");
        assert!(few.points < all.points, "{few:?} {all:?}");
        assert_eq!(few.images, all.images, "stops at the accesses reach the same images: {few:?} {all:?}");
    }
}

#[test]
fn nothing_to_explore_and_other_threads_are_errors() {
    let operation = Odd::new(Does::Counts(1));
    let none = StepOptions { operation: Some("fly".to_owned()), ..options() };
    let error = explore(&operation, &none).unwrap_err();
    assert!(error.to_string().contains("operation fly"), "{error}");
    // The test runner's main thread is a second one.
    let strict = StepOptions { other_threads: false, ..options() };
    let error = explore(&operation, &strict).unwrap_err();
    assert!(matches!(error, ExploreError::Threads { found } if found > 1), "{error:?}");
}

#[test]
fn a_finding_names_the_function_and_the_instruction() {
    let operation = Odd { survivors: Survivors::Disagree, ..Odd::new(Does::Calls) };
    let row = explore(&operation, &options()).unwrap();
    assert_eq!(row.findings.len(), 4, "described ones are limited, {} are counted", row.bad);
    let text = row.findings[0].to_string();
    assert!(text.starts_with("odd act (kill): it is green"), "{text}");
    assert!(text.contains("instruction 0 of ") && text.contains("explore") && text.contains("0x"), "{text}");
}

/// Forbids `ptrace` to the calling thread, as a container's filter does.
fn forbid_ptrace() -> bool {
    let statement =
        |code: u32, jt, jf, k| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
    let number = u32::try_from(libc::SYS_ptrace).unwrap();
    let refused = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).unwrap();
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, refused),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: a plain system call.
    let unprivileged = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the program and its four statements are alive.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    unprivileged == 0 && set == 0
}

#[test]
fn refused_tracing_is_an_error_that_says_why() {
    let operation = Odd::new(Does::Counts(1));
    // A thread of its own: the filter holds for the thread that installs it, and for its children.
    let error = std::thread::scope(|scope| {
        let explored = scope.spawn(|| {
            assert!(forbid_ptrace());
            explore(&operation, &options()).unwrap_err()
        });
        explored.join().unwrap()
    });
    assert!(matches!(&error, ExploreError::Refused { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("refused") && text.contains("seccomp") && text.contains("Yama"), "{text}");
}
