//! The harness as a test starts it, and what it may look at from outside.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::fs;
use std::io::Read as _;
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The longest that anything here may take, on a machine that is busy with other things.
pub const LONGEST: Duration = Duration::from_secs(180);
pub const ROLES: [&str; 2] = ["producer", "consumer"];

/// A started harness, with a directory of its own for whatever it might leave behind.
pub struct Run {
    pub parent: Guarded,
    pub home: TempDir,
}

/// A child that is killed and waited for if the test ends before it; its own children die with it.
pub struct Guarded(Child);

impl Deref for Guarded {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Mostly it has ended.
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

pub struct Ended {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
    pub home: TempDir,
}

pub fn start(args: &[&str]) -> Run {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewire-harness"));
    command.args(args).env("TMPDIR", home.path()).env("XDG_RUNTIME_DIR", home.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Run { parent: Guarded(command.spawn().unwrap()), home }
}

pub fn run(args: &[&str]) -> Ended {
    start(args).end()
}

impl Run {
    pub fn end(mut self) -> Ended {
        let (mut out, mut err) = (String::new(), String::new());
        let status = wait(&mut self.parent);
        if let Some(mut pipe) = self.parent.stdout.take() {
            pipe.read_to_string(&mut out).unwrap();
        }
        if let Some(mut pipe) = self.parent.stderr.take() {
            pipe.read_to_string(&mut err).unwrap();
        }
        assert!(!err.contains("panicked"), "{err}");
        Ended { status, out, err, home: self.home }
    }

    /// The processes that play the two roles, once both have dealt with messages.
    pub fn children(&self) -> [u32; 2] {
        let parent = self.parent.id();
        eventually("two children at work", || {
            let found = ROLES.map(|role| child_of(parent, role));
            let [Some(producer), Some(consumer)] = found else {
                return None;
            };
            // A process that spins for its peer or streams has used processor time; one that starts has hardly any.
            [producer, consumer].iter().all(|&pid| busy(pid)).then_some([producer, consumer])
        })
    }

    pub fn signal(&self, signal: Signal) {
        send(self.parent.id(), signal);
    }
}

impl Ended {
    pub fn rows(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[track_caller]
    pub fn assert_clean(&self) {
        let left: Vec<_> =
            fs::read_dir(self.home.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

pub fn wait(child: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if began.elapsed() > LONGEST {
            panic!("still running after {LONGEST:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LONGEST, "no {what} within {LONGEST:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// The fields of `/proc/<pid>/stat` from the state on, if there is such a process.
pub fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

pub fn busy(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields[11].parse::<u64>().unwrap() >= 5)
}

pub fn is_gone(pid: u32) -> bool {
    // Somebody else's dead child, which that has not yet looked at, is dead all the same.
    stat(pid).is_none_or(|fields| fields[0] == "Z" || fields[0] == "X")
}

pub fn child_of(parent: u32, role: &str) -> Option<u32> {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.into_iter().find(|&pid: &u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        stat(pid).is_some_and(|fields| fields[1] == parent.to_string())
            && line.split('\0').any(|argument| argument == role)
    })
}

#[track_caller]
pub fn assert_gone(pids: &[u32]) {
    for &pid in pids {
        eventually("end of a child", || is_gone(pid).then_some(()));
    }
}
