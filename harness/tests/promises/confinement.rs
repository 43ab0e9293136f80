//! What the system can be made to refuse to a process: calls, room, and the numbers and clocks of others.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::ptr::null;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Signal, getegid, geteuid, set_parent_process_death_signal};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// What an argument must be for a call to be one of those that are meant; of pointers the lower half.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument {
    /// Any of these bits of that argument is set.
    Has(u32, u32),
    /// That argument is this.
    Is(u32, u32),
}

/// A call, if all of these hold for its arguments.
pub(crate) type Rule<'a> = (libc::c_long, &'a [Argument]);

/// What becomes of whoever makes such a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    Fails(Errno),
    Dies,
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap(), jt: 0, jf: 0, k }
}

/// The next `skip` statements are passed over unless the loaded word passes.
fn unless(code: u32, k: u32, skip: usize) -> libc::sock_filter {
    let jf = u8::try_from(skip).unwrap();
    libc::sock_filter { jf, ..statement(libc::BPF_JMP | code | libc::BPF_K, k) }
}

/// The statements that end a call, if the tests of its arguments pass.
fn rule((call, arguments): Rule<'_>, answer: u32) -> Vec<libc::sock_filter> {
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let mut left = 2 * arguments.len() + 1;
    let mut all = vec![load(0), unless(libc::BPF_JEQ, u32::try_from(call).unwrap(), left)];
    for argument in arguments {
        let (index, test, value) = match *argument {
            Argument::Has(index, bits) => (index, libc::BPF_JSET, bits),
            Argument::Is(index, value) => (index, libc::BPF_JEQ, value),
        };
        left -= 2;
        all.extend([load(16 + 8 * index), unless(test, value, left)]);
    }
    all.push(statement(libc::BPF_RET | libc::BPF_K, answer));
    all
}

/// Takes calls away from this process, all its threads and all that it starts, for good; as a sandbox would.
pub(crate) fn forbid(rules: &[Rule<'_>], then: Then) {
    let answer = match then {
        Then::Fails(errno) => libc::SECCOMP_RET_ERRNO | errno.raw_os_error().unsigned_abs(),
        Then::Dies => libc::SECCOMP_RET_KILL_PROCESS,
    };
    let mut program: Vec<_> = rules.iter().flat_map(|&each| rule(each, answer)).collect();
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    let len = u16::try_from(program.len()).unwrap();
    let filter = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let all_threads = libc::SECCOMP_FILTER_FLAG_TSYNC;
    // SAFETY: the program is there, and the kernel copies it.
    let answer = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, all_threads, &raw const filter)
    };
    assert_eq!(answer, 0, "{}", io::Error::last_os_error());
}

fn write(path: &'static str, text: &[u8]) -> Result<(), Errno> {
    let fd = openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&fd, text).map(drop)
}

/// Gives this process, which has one thread, namespaces of its own; by way of a user namespace if it must.
fn unshare(flags: UnshareFlags, maps: &[String; 2]) -> io::Result<()> {
    // SAFETY: no file descriptors are unshared.
    let own = unsafe { unshare_unsafe(flags) };
    if own != Err(Errno::PERM) {
        return Ok(own?);
    }
    // SAFETY: as above.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | flags)? };
    write("/proc/self/setgroups", b"deny")?;
    write("/proc/self/uid_map", maps[0].as_bytes())?;
    write("/proc/self/gid_map", maps[1].as_bytes())?;
    Ok(())
}

fn maps() -> [String; 2] {
    [geteuid().as_raw(), getegid().as_raw()].map(|id| format!("{id} {id} 1"))
}

/// Goes on in a fork child, which dies with this process; this process only waits for it.
fn go_on_in_a_child() -> io::Result<()> {
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(set_parent_process_death_signal(Some(Signal::KILL))?),
        child => {
            // SAFETY: nothing here uses them any more. The starter waits for some of them to be closed.
            unsafe { libc::close_range(0, u32::MAX, 0) };
            let mut status = 0;
            // SAFETY: `status` is there to be written.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 1 };
            // SAFETY: ends the process.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Makes the program that `command` starts the first process of a pid namespace. The process that the command seems to
/// have started only waits for it. Starting it fails if the system does not permit it.
pub(crate) fn in_a_pid_namespace(command: &mut Command) {
    let maps = maps();
    let split = move || {
        unshare(UnshareFlags::NEWPID, &maps)?;
        go_on_in_a_child()
    };
    // SAFETY: the closure makes system calls on data made before the fork, and neither allocates nor locks; the one
    // allocation, of an error's, does not happen where it succeeds.
    unsafe { command.pre_exec(split) };
}

/// Lets the program that `command` starts have a monotonic clock that is so many seconds ahead of everybody else's,
/// while the time of day stays. As for [`in_a_pid_namespace`].
pub(crate) fn in_a_time_namespace(command: &mut Command, ahead_s: u64) {
    let (maps, offsets) = (maps(), format!("monotonic {ahead_s} 0\n"));
    let split = move || {
        unshare(UnshareFlags::NEWTIME, &maps)?;
        write("/proc/self/timens_offsets", offsets.as_bytes())?;
        go_on_in_a_child()
    };
    // SAFETY: as above.
    unsafe { command.pre_exec(split) };
}

/// Lets the program that `command` starts see a file system in memory at `place`, of so many bytes. Starting it fails
/// if the system does not permit it.
pub(crate) fn with_little_room(command: &mut Command, place: &Path, bytes: usize) {
    let maps = maps();
    let place = CString::new(place.as_os_str().as_bytes()).unwrap();
    let options = CString::new(format!("size={bytes},mode=0700")).unwrap();
    let ok = |answer| if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    let isolate = move || {
        unshare(UnshareFlags::NEWNS, &maps)?;
        let private = libc::MS_PRIVATE | libc::MS_REC;
        // SAFETY: the strings end with a zero.
        ok(unsafe { libc::mount(null(), c"/".as_ptr(), null(), private, null()) })?;
        let (kind, data) = (c"tmpfs".as_ptr(), options.as_ptr().cast());
        // SAFETY: as above.
        ok(unsafe { libc::mount(kind, place.as_ptr(), kind, libc::MS_NOSUID, data) })
    };
    // SAFETY: as above.
    unsafe { command.pre_exec(isolate) };
}
