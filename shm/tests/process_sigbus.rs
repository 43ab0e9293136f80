//! Files that are shortened under a process: it lives and knows, and what is not ours goes where it always went.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod process_segment_peer;

use std::ffi::{c_int, c_void};
use std::fs::{File, OpenOptions, Permissions};
use std::mem::MaybeUninit;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use process_segment_peer::{bytes, fill, peer, report, reports, role, wait_for};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tidewire_shm::{Segment, SegmentOptions, guard_sigbus};

const NAME: &str = "shortened";
/// Appears when the file is short.
const DONE: &str = "done";
const PAGE: usize = 4096;
const PAGES: usize = 16;
const FILLED: u8 = 7;
const PATIENCE: Duration = Duration::from_secs(20);

fn private_place() -> TempDir {
    let private = Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(private).tempdir_in("/dev/shm").unwrap()
}

fn options(place: impl AsRef<Path>) -> SegmentOptions {
    SegmentOptions::new().directory(place.as_ref())
}

fn create(place: &Path, name: &str) -> Segment {
    let init = |region| {
        fill(&region, FILLED);
        Ok(())
    };
    Segment::create_with(name, PAGES * PAGE, &options(place), init).unwrap()
}

fn shorten(place: &Path, name: &str, pages: usize) {
    let file = OpenOptions::new().write(true).open(place.join(name)).unwrap();
    file.set_len((pages * PAGE) as u64).unwrap();
}

/// Maps the segment, waits until it is short, and reads all of it.
fn read_what_is_lost(kind: &str, place: &str) {
    let when = |moment| kind.contains(moment).then(|| guard_sigbus().unwrap());
    when("early");
    let segment = if kind.contains("reader") {
        Segment::open_read_only_with(NAME, &options(place)).unwrap()
    } else {
        Segment::open_with(NAME, &options(place)).unwrap()
    };
    assert!(segment.is_guarded(), "it is not known before its first region");
    let region = segment.region();
    when("late");
    assert!(bytes(&region).iter().all(|&byte| byte == FILLED) && !segment.is_lost());
    report("mapped");
    let started = Instant::now();
    // Not the length: the kernel changes that before it takes the pages away.
    while !Path::new(place).join(DONE).exists() {
        assert!(started.elapsed() < PATIENCE, "nobody shortens the file");
        thread::yield_now();
    }
    let left = usize::try_from(std::fs::metadata(Path::new(place).join(NAME)).unwrap().len()).unwrap();
    assert!(!segment.is_lost(), "nothing was accessed yet");
    // The second time nothing is lost any more.
    for _ in 0..2 {
        let found = bytes(&region);
        assert!(found[..left].iter().all(|&byte| byte == FILLED), "what the file still has was replaced");
        assert!(found[left..].iter().all(|&byte| byte == 0), "what is lost is not zero");
    }
    assert!(segment.is_lost());
    if region.is_writable() {
        fill(&region, 9);
        assert!(bytes(&region).iter().all(|&byte| byte == 9));
    }
    drop(segment);
    assert!(!bytes(&region).is_empty(), "a region outlives its segment");
    report("survived");
}

fn shorten_under(test: &str, kind: &str, left: usize) -> Output {
    let place = private_place();
    create(place.path(), NAME);
    let mut child = peer(test, kind, place.path()).spawn().unwrap();
    wait_for(&mut child, "mapped");
    shorten(place.path(), NAME, left);
    std::fs::write(place.path().join(DONE), b"").unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_guarded_process_survives_a_shortened_file_and_knows() {
    if let Some((kind, place)) = role() {
        return read_what_is_lost(&kind, &place);
    }
    for kind in ["early reader", "late reader", "early writer", "late writer"] {
        for left in [0, 1, PAGES - 1] {
            let output = shorten_under("a_guarded_process_survives_a_shortened_file_and_knows", kind, left);
            let (status, err) = (output.status, String::from_utf8_lossy(&output.stderr).into_owned());
            assert!(status.success(), "{kind}, {left} pages left: {status}\n{err}");
            assert!(String::from_utf8_lossy(&output.stdout).contains("@survived"));
        }
    }
}

#[test]
fn an_unguarded_process_dies_of_a_shortened_file() {
    if let Some((kind, place)) = role() {
        return read_what_is_lost(&kind, &place);
    }
    for kind in ["reader", "writer"] {
        let output = shorten_under("an_unguarded_process_dies_of_a_shortened_file", kind, 0);
        assert_eq!(output.status.signal(), Some(libc::SIGBUS));
    }
}

/// Stops threads also when the test fails: it shall not wait for them for ever.
struct StopOnDrop<'s>(&'s AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn threads_that_meet_one_loss_all_survive() {
    if let Some((_, place)) = role() {
        guard_sigbus().unwrap();
        let place = Path::new(&place);
        for round in 0..300 {
            let name = format!("round-{round}");
            let segment = create(place, &name);
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                let _stops = StopOnDrop(&stop);
                for _ in 0..2 {
                    let region = segment.region();
                    let (stop, segment) = (&stop, &segment);
                    scope.spawn(move || {
                        // SAFETY: the region lives as long as this thread; others only read the word.
                        let last = unsafe { region.atomic_u64(region.len() - 8) };
                        while !stop.load(Ordering::Relaxed) {
                            let whole = last.load(Ordering::Relaxed) != 0;
                            assert!(whole || segment.is_lost(), "a zero was read before the mark");
                        }
                    });
                }
                shorten(place, &name, round % PAGES);
                let started = Instant::now();
                while !segment.is_lost() {
                    assert!(started.elapsed() < PATIENCE, "nobody met the loss");
                    thread::yield_now();
                }
            });
            segment.withdraw().unwrap();
        }
        return report("survived");
    }
    let place = private_place();
    let output = peer("threads_that_meet_one_loss_all_survive", "child", place.path()).output().unwrap();
    assert_eq!(reports(&output), ["survived"]);
}

/// One thread loses mappings and unmaps them, others map and unmap sound ones, often at the same addresses.
#[test]
fn a_loss_never_touches_another_mapping() {
    if let Some((_, place)) = role() {
        guard_sigbus().unwrap();
        let place = Path::new(&place);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let _stops = StopOnDrop(&stop);
            for thread in 0..2 {
                let stop = &stop;
                scope.spawn(move || {
                    let name = format!("sound-{thread}");
                    while !stop.load(Ordering::Relaxed) {
                        let sound = create(place, &name);
                        let region = sound.region();
                        for _ in 0..3 {
                            assert!(bytes(&region).iter().all(|&byte| byte == FILLED));
                        }
                        assert!(sound.is_guarded() && !sound.is_lost());
                        sound.withdraw().unwrap();
                    }
                });
            }
            for _ in 0..1000 {
                let lost = create(place, NAME);
                let region = lost.region();
                shorten(place, NAME, 0);
                assert!(bytes(&region).iter().all(|&byte| byte == 0) && lost.is_lost());
                lost.withdraw().unwrap();
            }
        });
        return report("sound");
    }
    let place = private_place();
    let output = peer("a_loss_never_touches_another_mapping", "child", place.path()).output().unwrap();
    assert_eq!(reports(&output), ["sound"]);
}

#[test]
fn there_is_room_for_1024_mappings_and_it_is_given_back() {
    if let Some((_, place)) = role() {
        let place = Path::new(&place);
        let options = options(place);
        let descriptors = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: descriptors.maximum, ..descriptors }).unwrap();
        const COUNT: usize = 1100;
        for index in 0..COUNT {
            let tiny = Segment::create_with(&format!("s{index}"), 1, &options, |_| Ok(())).unwrap();
            assert!(tiny.len() < 8 && !tiny.is_guarded(), "shorter than a word");
        }
        // As others see them: whole pages.
        for round in 0..2 {
            let again: Vec<_> =
                (0..COUNT).map(|index| Segment::open_with(&format!("s{index}"), &options).unwrap()).collect();
            let guarded = again.iter().filter(|segment| segment.is_guarded()).count();
            assert_eq!(guarded, 1024, "round {round}");
            let regions: Vec<_> = again.iter().map(Segment::region).collect();
            drop(again);
            drop(regions);
        }
        return report("counted");
    }
    let place = private_place();
    let test = "there_is_room_for_1024_mappings_and_it_is_given_back";
    let mut command = peer(test, "child", place.path());
    assert_eq!(reports(&command.output().unwrap()), ["counted"]);
}

/// An address whose access is a SIGBUS, in a mapping that is no segment's.
fn foreign_fault(place: &str) -> *const u8 {
    let path = Path::new(place).join("foreign");
    let file = File::options().create(true).truncate(true).read(true).write(true).open(path).unwrap();
    let (protection, flags) = (rustix::mm::ProtFlags::READ, rustix::mm::MapFlags::SHARED);
    // SAFETY: the kernel chooses where.
    let address = unsafe { rustix::mm::mmap(std::ptr::null_mut(), PAGE, protection, flags, &file, 0) };
    address.unwrap().cast::<u8>().cast_const()
}

fn access(address: *const u8) -> u8 {
    // SAFETY: the page is mapped, and what the access does is what is tested.
    unsafe { address.read_volatile() }
}

fn blocked(signal: c_int) -> bool {
    let mut mask = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: only asks; room for a set.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), mask.as_mut_ptr()) };
    // SAFETY: a set, filled by the call.
    unsafe { libc::sigismember(mask.as_ptr(), signal) == 1 }
}

/// Says what the handler saw by the exit code, which a handler may set.
fn leave(informed: bool, right_address: bool) -> ! {
    let bits = [informed, right_address, blocked(libc::SIGUSR1), blocked(libc::SIGBUS)];
    let code = bits.iter().fold(1, |code, &bit| code << 1 | c_int::from(bit));
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

static FAULT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

extern "C" fn informed(_signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: from the kernel.
    let record = unsafe { &*info };
    // SAFETY: a fault has an address.
    let address = unsafe { record.si_addr() }.addr();
    leave(true, address == FAULT.load(Ordering::Relaxed));
}

extern "C" fn plain(_signal: c_int) {
    leave(false, false);
}

/// Returns, so that the access runs again.
extern "C" fn once(_signal: c_int) {
    let text = b"\n@ran\n";
    // SAFETY: standard output is open, and the text is as long as that.
    unsafe { libc::write(1, text.as_ptr().cast(), text.len()) };
}

fn set_action(handler: usize, flags: c_int) {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zero is a valid action.
    let action = unsafe { action.assume_init_mut() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: a set.
    unsafe { libc::sigaddset(&raw mut action.sa_mask, libc::SIGUSR1) };
    // SAFETY: a whole action whose handler stays.
    let answer = unsafe { libc::sigaction(libc::SIGBUS, action, std::ptr::null_mut()) };
    assert_eq!(answer, 0);
}

/// A loss of ours, which is not the former handler's affair, before and after.
fn lose(place: &str) {
    let segment = create(Path::new(place), NAME);
    let region = segment.region();
    shorten(Path::new(place), NAME, 0);
    assert!(bytes(&region).iter().all(|&byte| byte == 0) && segment.is_lost());
    segment.withdraw().unwrap();
}

/// A reader of an empty pipe, to which SIGBUS is sent, with the action that ignores it in place before the guard.
fn read_while_ignoring(guarded: bool) -> bool {
    set_action(libc::SIG_IGN, 0);
    if guarded {
        guard_sigbus().unwrap();
    }
    let (reader, writer) = std::io::pipe().unwrap();
    let sent = AtomicBool::new(false);
    thread::scope(|scope| {
        // SAFETY: only asks who runs.
        let main = unsafe { libc::pthread_self() };
        let sent = &sent;
        scope.spawn(move || {
            for _ in 0..20 {
                thread::sleep(Duration::from_millis(5));
                // SAFETY: the thread is there: it waits for this one.
                unsafe { libc::pthread_kill(main, libc::SIGBUS) };
            }
            sent.store(true, Ordering::Relaxed);
            drop(writer);
        });
        let mut byte = [0_u8];
        // Not through the standard library, which starts again by itself.
        let read = rustix::io::read(&reader, &mut byte);
        read == Ok(0) && sent.load(Ordering::Relaxed)
    })
}

#[test]
fn an_ignored_signal_does_not_end_a_system_call() {
    if let Some((kind, _)) = role() {
        return report(&format!("{}", read_while_ignoring(kind == "guarded")));
    }
    let place = private_place();
    for kind in ["bare", "guarded"] {
        let test = "an_ignored_signal_does_not_end_a_system_call";
        assert_eq!(reports(&peer(test, kind, place.path()).output().unwrap()), ["true"], "{kind}");
    }
}

/// A handler that ignores the signal from now on.
extern "C" fn ignores_from_now_on(_signal: c_int) {
    // SAFETY: safe in a handler.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_IGN) };
}

#[test]
fn a_handler_that_ignores_the_signal_from_now_on_does_not_end_the_guard() {
    if let Some((_, place)) = role() {
        let handler: extern "C" fn(c_int) = ignores_from_now_on;
        set_action(handler as usize, 0);
        guard_sigbus().unwrap();
        for _ in 0..2 {
            // SAFETY: what it does is what is tested.
            unsafe { libc::raise(libc::SIGBUS) };
            lose(&place);
        }
        report("ignored");
        access(foreign_fault(&place));
        return report("went on");
    }
    let place = private_place();
    let test = "a_handler_that_ignores_the_signal_from_now_on_does_not_end_the_guard";
    let output = peer(test, "child", place.path()).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(out.contains("@ignored"), "{}", String::from_utf8_lossy(&output.stderr));
    // The kernel does not ignore faults.
    assert_eq!(output.status.signal(), Some(libc::SIGBUS));
}

/// A hole is no loss, and neither is the part of a page behind an end that is in it: both are zeros of the file's own.
#[test]
fn holes_and_parts_of_pages_are_zeros_of_the_file() {
    if let Some((_, place)) = role() {
        guard_sigbus().unwrap();
        let segment = create(Path::new(&place), NAME);
        let region = segment.region();
        let file = OpenOptions::new().write(true).open(Path::new(&place).join(NAME)).unwrap();
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&file, punch, PAGE as u64, PAGE as u64).unwrap();
        let found = bytes(&region);
        assert!(found[PAGE..2 * PAGE].iter().all(|&byte| byte == 0) && found[2 * PAGE] == FILLED);
        assert!(!segment.is_lost());
        file.set_len((2 * PAGE + 100) as u64).unwrap();
        let third = &bytes(&region)[2 * PAGE..3 * PAGE];
        assert!(
            third[..100].iter().all(|&byte| byte == FILLED) && third[100..].iter().all(|&byte| byte == 0)
        );
        return report(&format!("{}", segment.is_lost()));
    }
    let place = private_place();
    let test = "holes_and_parts_of_pages_are_zeros_of_the_file";
    // Lost, in the end, since all pages were read.
    assert_eq!(reports(&peer(test, "child", place.path()).output().unwrap()), ["true"]);
}

/// What becomes of a SIGBUS that is not the guard's, with this action in place before the guard.
fn act(kind: &str, place: &str) {
    let informed_handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = informed;
    let (plain_handler, once_handler): (extern "C" fn(c_int), extern "C" fn(c_int)) = (plain, once);
    match kind.split(' ').next().unwrap() {
        "informed" => set_action(informed_handler as usize, libc::SA_SIGINFO),
        "plain" => set_action(plain_handler as usize, 0),
        "open" => set_action(plain_handler as usize, libc::SA_NODEFER),
        "once" => set_action(once_handler as usize, libc::SA_RESETHAND),
        "default" => set_action(libc::SIG_DFL, 0),
        "ignored" => set_action(libc::SIG_IGN, 0),
        "untouched" => {}
        other => panic!("{other}"),
    }
    if kind.contains("guarded") {
        guard_sigbus().unwrap();
        guard_sigbus().unwrap();
        lose(place);
    }
    report("armed");
    if kind.contains("sent") {
        // SAFETY: what it does is what is tested.
        unsafe { libc::raise(libc::SIGBUS) };
        if kind.contains("guarded") {
            lose(place);
        }
    } else {
        let address = foreign_fault(place);
        FAULT.store(address.addr(), Ordering::Relaxed);
        access(address);
    }
    report("went on");
}

fn outcome(kind: &str) -> (ExitStatus, Vec<String>) {
    let place = private_place();
    let test = "a_signal_that_is_not_ours_goes_where_it_always_went";
    let output = peer(test, kind, place.path()).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let said: Vec<_> = out.lines().filter_map(|line| line.strip_prefix('@')).map(str::to_owned).collect();
    assert_eq!(
        said.first().map(String::as_str),
        Some("armed"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status, said)
}

#[test]
fn a_signal_that_is_not_ours_goes_where_it_always_went() {
    if let Some((kind, place)) = role() {
        return act(&kind, &place);
    }
    // 1, informed, right address, SIGUSR1 blocked, SIGBUS blocked.
    for (kind, code) in [("informed", 0b11111), ("plain", 0b10011), ("open", 0b10010)] {
        for guard in ["", " guarded"] {
            let kind = format!("{kind}{guard}");
            assert_eq!(outcome(&kind).0.code(), Some(code), "{kind}");
        }
    }
    let kinds = [
        "default",
        "default sent",
        "ignored",
        "once",
        "untouched",
        "once sent",
        "ignored sent",
        "untouched sent",
    ];
    for kind in kinds {
        let (bare, guarded) = (outcome(kind), outcome(&format!("{kind} guarded")));
        assert_eq!(bare, guarded, "{kind}");
        let survives = matches!(kind, "once sent" | "ignored sent" | "untouched sent");
        let signal = (!survives).then_some(libc::SIGBUS);
        assert_eq!(guarded.0.signal(), signal, "{kind}");
        assert_eq!(guarded.1.contains(&"ran".to_owned()), kind.starts_with("once"), "{kind}");
    }
}
