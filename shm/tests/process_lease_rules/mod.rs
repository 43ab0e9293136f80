//! What every kind of lease must obey, and a kind that does not.
//!
//! The rules are checked from outside, between processes, for any [`Liveness`]; a kind is chosen by its name, so that
//! the processes that a rule starts use the same.
#![allow(dead_code, reason = "not every test binary that shares this module needs all of it")]

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidewire_shm::{LeaseError, Liveness, RoleId, Segment, SegmentOptions, Tenancy};

use crate::process_segment_peer::{peer, report, reports, wait_for};

pub(crate) const NAME: &str = "leased";
pub(crate) const ROLE: RoleId = RoleId::CONSUMER;
/// How long the kernel may take to see a death.
pub(crate) const LATEST: Duration = Duration::from_secs(1);

pub(crate) fn private_place() -> TempDir {
    let private = Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(private).tempdir_in("/dev/shm").unwrap()
}

pub(crate) fn create(place: &Path) -> Segment {
    let options = SegmentOptions::new().directory(place);
    Segment::create_with(NAME, 4096, &options, |_| Ok(())).unwrap()
}

pub(crate) fn open(place: impl Into<PathBuf>) -> Segment {
    Segment::open_with(NAME, &SegmentOptions::new().directory(place)).unwrap()
}

/// Sleeps until it is killed, but not for ever.
pub(crate) fn wait_to_be_killed() -> ! {
    thread::sleep(Duration::from_secs(60));
    panic!("nobody kills this process");
}

/// A process that is killed and reaped when this is dropped.
#[derive(Debug)]
pub(crate) struct Victim(pub(crate) Child);

impl Drop for Victim {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// What the kernel says of the threads of a process: `R`, `S`, `T`, `Z` for each; none if there is no such process.
pub(crate) fn states(pid: u32) -> Vec<char> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let state = |path: PathBuf| {
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    };
    threads.filter_map(|thread| state(thread.ok()?.path())).collect()
}

/// Waits until the first thread of this process is in a state.
pub(crate) fn wait_for_main_thread(wanted: char) {
    let started = Instant::now();
    let state = || {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    };
    while state() != Some(wanted) {
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}, not {wanted}", state());
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until all threads of a process are in a state. Its first thread alone says little: it may be a zombie while
/// another one still holds the files.
pub(crate) fn wait_for_state(pid: u32, wanted: char) {
    let started = Instant::now();
    loop {
        let states = states(pid);
        if !states.is_empty() && states.iter().all(|state| *state == wanted) {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "{pid} is {states:?}, not {wanted}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// How long it takes until nobody has the role, from now.
pub(crate) fn vacant_after(leases: &impl Liveness, role: RoleId) -> Result<Duration, String> {
    let started = Instant::now();
    loop {
        let tenancy = leases.tenancy(role);
        let elapsed = started.elapsed();
        match tenancy {
            Tenancy::Vacant => return Ok(elapsed),
            other if elapsed > LATEST => return Err(format!("{role}: {other:?} after {elapsed:?}")),
            _ => thread::sleep(Duration::from_micros(20)),
        }
    }
}

/// Kinds of leases that the rules are checked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Those of the library.
    Segment,
    /// Locks that belong to the process instead of the open file: broken.
    Record,
}

impl Kind {
    fn argument(self, place: &Path) -> String {
        format!("{self:?}:{}", place.display())
    }

    /// Runs the part of another process that a rule started.
    pub(crate) fn act(role: &str, argument: &str) {
        let (kind, place) = argument.split_once(':').unwrap();
        let segment = open(place);
        match kind {
            "Segment" => act(role, &segment.leases().unwrap()),
            "Record" => act(role, &RecordLeases::of(place)),
            _ => panic!("there is no kind {kind:?}"),
        }
    }

    /// The rules that this kind breaks.
    pub(crate) fn broken(self, test: &str) -> Vec<&'static str> {
        let place = private_place();
        let segment = create(place.path());
        let argument = self.argument(place.path());
        match self {
            Self::Segment => broken(test, &argument, &segment, &segment.leases().unwrap()),
            Self::Record => broken(test, &argument, &segment, &RecordLeases::of(place.path())),
        }
    }
}

fn act(role: &str, leases: &impl Liveness) {
    match role {
        "holder" => {
            let _lease = leases.acquire(ROLE).unwrap();
            report("held");
            wait_to_be_killed();
        }
        "taker" => match leases.acquire(ROLE) {
            Ok(_) => report("given"),
            Err(error) => report(&format!("{error:?}, {:?}", leases.tenancy(ROLE))),
        },
        _ => panic!("there is no role {role:?}"),
    }
}

fn broken(test: &str, argument: &str, segment: &Segment, leases: &impl Liveness) -> Vec<&'static str> {
    let taker = || reports(&peer(test, "taker", argument).output().unwrap()).remove(0);
    let refused = || taker() == format!("{:?}, Held", LeaseError::Held { role: ROLE });
    let mut broken = Vec::new();
    let mut rule = |name, obeyed: bool| {
        if !obeyed {
            broken.push(name);
        }
    };

    {
        let mut holder = Victim(peer(test, "holder", argument).spawn().unwrap());
        wait_for(&mut holder.0, "held");
        rule("another process is refused", refused() && leases.tenancy(ROLE) == Tenancy::Held);
        holder.0.kill().unwrap();
        rule("a killed holder leaves it vacant", vacant_after(leases, ROLE).is_ok());
    }

    let lease = leases.acquire(ROLE).unwrap();
    rule("a holder is seen by others", refused());
    let second = leases.acquire(ROLE);
    rule("another taker in this process is refused", second.is_err());
    drop(second);
    drop(lease);

    let lease = leases.acquire(ROLE).unwrap();
    drop(segment.try_clone_fd().unwrap());
    drop(File::open(format!("/proc/self/fd/{}", AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(segment)))));
    rule("closing another descriptor of the file loses nothing", refused());
    drop(lease);
    rule("a lease that was handed back can be had", taker() == "given");
    broken
}

/// Leases by POSIX record locks, which many programs use: the lock is the process's, and the close of any of its
/// descriptors of the file gives it up.
struct RecordLeases(PathBuf);

impl RecordLeases {
    fn of(place: impl AsRef<Path>) -> Self {
        Self(place.as_ref().join(NAME))
    }

    fn control(file: &File, command: i32, kind: i32, role: RoleId) -> io::Result<i32> {
        let mut record = libc::flock {
            l_type: i16::try_from(kind).unwrap(),
            l_whence: 0,
            l_start: i64::from(role.number()),
            l_len: 1,
            l_pid: 0,
        };
        // SAFETY: an open descriptor, and a record that the call may read and write.
        match unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut record) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(record.l_type.into()),
        }
    }

    fn file(&self) -> File {
        OpenOptions::new().read(true).write(true).open(&self.0).unwrap()
    }
}

// SAFETY: it is not what it claims to be: that is what the rules are to find. Nothing relies on it.
unsafe impl Liveness for RecordLeases {
    type Lease = OwnedFd;
    const PROVES: bool = true;
    const KIND: u32 = 1 << 31;

    fn acquire(&self, role: RoleId) -> Result<OwnedFd, LeaseError> {
        let file = self.file();
        match Self::control(&file, libc::F_SETLK, libc::F_WRLCK, role) {
            Ok(_) => Ok(file.into()),
            Err(_) => Err(LeaseError::Held { role }),
        }
    }

    fn tenancy(&self, role: RoleId) -> Tenancy {
        match Self::control(&self.file(), libc::F_GETLK, libc::F_WRLCK, role).unwrap() {
            libc::F_UNLCK => Tenancy::Vacant,
            _ => Tenancy::Held,
        }
    }
}
