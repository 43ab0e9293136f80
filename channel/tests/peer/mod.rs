//! A second process for tests: this test program once more, in a role that its environment names.
#![allow(dead_code, reason = "not every test program needs all of it")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const ROLE: &str = "TIDEWIRE_TEST_ROLE";
const PLACE: &str = "TIDEWIRE_TEST_PLACE";

/// What this process was started for, if it is a peer: the role, and the directory of the segments.
pub(crate) fn role() -> Option<(String, String)> {
    Some((std::env::var(ROLE).ok()?, std::env::var(PLACE).ok()?))
}

/// A peer process, killed when it is dropped.
pub(crate) struct Peer {
    pub(crate) child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts this program again, where only the test `peer` runs.
    pub(crate) fn start(role: &str, place: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "peer", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(PLACE, place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        Self { child, to, from }
    }

    /// The next line that the peer says behind the mark of its own lines.
    pub(crate) fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.from.read_line(&mut line).unwrap_or(0) > 0 {
            // What the test runner prints may stand before it on the line.
            if let Some((_, said)) = line.trim_end().rsplit_once('>') {
                return Some(said.to_owned());
            }
            line.clear();
        }
        None
    }

    pub(crate) fn tell(&mut self, line: &str) {
        // One that is dead hears nothing.
        let _told = writeln!(self.to, "{line}");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Stops it, and waits until it stands still.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.child.id());
        let stands = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        };
        while !std::fs::read_dir(&tasks).unwrap().all(stands) {
            std::thread::yield_now();
        }
    }

    /// Kills it and waits until it is no more than a name.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Says a line to whoever started this peer.
pub(crate) fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, ">{line}").unwrap();
    out.flush().unwrap();
}

/// Waits for a line from whoever started this peer; ends this process when that one is gone.
pub(crate) fn listen() -> String {
    let mut line = String::new();
    if std::io::stdin().read_line(&mut line).unwrap_or(0) == 0 {
        std::process::exit(0);
    }
    line.trim_end().to_owned()
}
