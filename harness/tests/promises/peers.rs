//! Other processes, and a place to meet them.

use std::env;
use std::ffi::OsStr;
use std::fmt::Arguments;
use std::fs::Permissions;
use std::io::{BufRead, BufReader, Lines, Write};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tempfile::TempDir;
use tidewire_shm::{
    DeathNotice, DeathWatch, Liveness, NoticeAddress, RoleId, Segment, SegmentOptions, Tenancy,
};

/// One test at a time: each starts processes and measures, and the machine may have two processors.
static ALONE: Mutex<()> = Mutex::new(());

pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const ROLE: &str = "TIDEWIRE_PROMISE_ROLE";
const ARGUMENT: &str = "TIDEWIRE_PROMISE_ARGUMENT";
/// So long that what never happens cannot be taken for what happens late.
pub(crate) const LONG: Duration = Duration::from_secs(15);

/// The role of this process and its argument; `None`: it is the test itself.
pub(crate) fn role() -> Option<(String, String)> {
    Some((env::var(ROLE).ok()?, env::var(ARGUMENT).unwrap_or_default()))
}

/// A command that runs the test `test` of this binary in a role. What it starts is killed when the test ends, however
/// that happens.
pub(crate) fn peer(test: &str, role: &str, argument: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--quiet", "--test-threads=1"]);
    command.env(ROLE, role).env(ARGUMENT, argument);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let die_with_the_test = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: the closure makes one system call and neither allocates nor takes a lock.
    unsafe { command.pre_exec(die_with_the_test) };
    command
}

/// Says something to the process that started this one.
pub(crate) fn say(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n@{}", text.as_ref()).unwrap();
    out.flush().unwrap();
}

/// Waits until the process that started this one says something.
pub(crate) fn hear() {
    let mut line = String::new();
    assert_ne!(std::io::stdin().read_line(&mut line).unwrap(), 0, "nobody speaks any more");
}

/// Says that something could not be provoked. Not by a macro, whose words are kept back when a test passes.
pub(crate) fn admit(what: Arguments<'_>) {
    std::io::stderr().write_all(format!("\n{what}\n").as_bytes()).unwrap();
}

/// Sleeps until it is killed, but not for ever.
pub(crate) fn wait_to_be_killed() -> ! {
    thread::sleep(4 * LONG);
    panic!("nobody killed this process");
}

/// A process that is killed and reaped when this is dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    to: ChildStdin,
}

impl Peer {
    pub(crate) fn start(test: &str, role: &str, argument: impl AsRef<OsStr>) -> Self {
        Self::spawn(&mut peer(test, role, argument)).unwrap()
    }

    pub(crate) fn spawn(command: &mut Command) -> std::io::Result<Self> {
        let mut child = command.spawn()?;
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let to = child.stdin.take().unwrap();
        Ok(Self { child, said, to })
    }

    /// The next thing that it says.
    pub(crate) fn next(&mut self) -> String {
        let mut said = self.said.by_ref().map_while(Result::ok);
        let Some(said) = said.find_map(|line| line.strip_prefix('@').map(str::to_owned)) else {
            panic!("the process ended without another word: {:?}", self.child.wait());
        };
        said
    }

    /// Lets it go on from where it listens.
    pub(crate) fn tell(&mut self) {
        self.to.write_all(b"\n").unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Kills it, and waits until it is dead.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it ended well, and panics if it did not.
    pub(crate) fn end(&mut self) {
        let rest: Vec<_> = self.said.by_ref().map_while(Result::ok).collect();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {rest:?}");
    }

    /// Its notice, whose address it says next.
    pub(crate) fn watch(&mut self) -> DeathWatch {
        let said = self.next();
        let (low, inode) = said.split_once(' ').unwrap();
        let words = [low, inode].map(|word| word.parse().unwrap());
        DeathWatch::find(NoticeAddress::from_words(words)).unwrap()
    }
}

impl Deref for Peer {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}

impl DerefMut for Peer {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Makes a notice of this process and says where it is: the other end of [`Peer::watch`].
pub(crate) fn announce() {
    let [low, inode] = DeathNotice::own().unwrap().address().unwrap().to_words();
    say(format!("{low} {inode}"));
}

/// What the kernel says of the threads of a process: `R`, `S`, `T`, `Z` for each; none if there is no such process.
pub(crate) fn states(pid: Pid) -> Vec<char> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())) else {
        return vec![];
    };
    let state = |path: PathBuf| {
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    };
    threads.filter_map(|thread| state(thread.ok()?.path())).collect()
}

/// Waits until all threads of a process are in a state. A process is a zombie when its first thread is the last one.
pub(crate) fn wait_for_state(pid: Pid, wanted: char) {
    let started = Instant::now();
    loop {
        let states = states(pid);
        if !states.is_empty() && states.iter().all(|&state| state == wanted) {
            return;
        }
        assert!(started.elapsed() < LONG, "{pid:?} is {states:?}, not {wanted}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// How long it takes, from now, until nobody has the role.
pub(crate) fn vacant_after(leases: &impl Liveness, role: RoleId) -> Duration {
    let started = Instant::now();
    while leases.tenancy(role) != Tenancy::Vacant {
        assert!(started.elapsed() < Duration::from_secs(2), "{role}: {:?}", leases.tenancy(role));
        thread::sleep(Duration::from_micros(20));
    }
    started.elapsed()
}

/// A directory in shared memory that is removed with everything in it.
#[derive(Debug)]
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let private = Permissions::from_mode(0o700);
        let prefix = "tidewire-promise-";
        Self(tempfile::Builder::new().prefix(prefix).permissions(private).tempdir_in("/dev/shm").unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// What lies there.
    pub(crate) fn entries(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub(crate) fn at(place: impl Into<PathBuf>) -> SegmentOptions {
    SegmentOptions::new().directory(place)
}

pub(crate) fn open(place: &Path, name: &str) -> Segment {
    Segment::open_with(name, &at(place)).unwrap()
}
