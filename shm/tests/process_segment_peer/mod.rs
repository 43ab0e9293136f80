//! What the tests of segments in several processes share.
//!
//! A test that needs other processes starts its own binary again, with only itself selected and a role in the
//! environment; the test looks for a role first.
#![allow(dead_code, reason = "not every test binary that shares this module needs all of it")]

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};
use tidewire_shm::{Region, Untrusted};

const ROLE: &str = "TIDEWIRE_TEST_ROLE";
const ARGUMENT: &str = "TIDEWIRE_TEST_ARGUMENT";

/// The role of this process and its argument; `None`: it is the test itself.
pub(crate) fn role() -> Option<(String, String)> {
    Some((env::var(ROLE).ok()?, env::var(ARGUMENT).unwrap_or_default()))
}

/// A command that runs the test `test` of this binary in a role. What it starts is killed when the test ends, however
/// that happens.
pub(crate) fn peer(test: &str, role: &str, argument: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--quiet", "--test-threads=1"]);
    command.env(ROLE, role).env(ARGUMENT, argument);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let die_with_the_test = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: the closure makes one system call and neither allocates nor takes a lock.
    unsafe { command.pre_exec(die_with_the_test) };
    command
}

/// Says something to the process that started this one.
pub(crate) fn report(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n@{text}").unwrap();
    out.flush().unwrap();
}

/// Waits until the process said `text`.
pub(crate) fn wait_for(child: &mut Child, text: &str) {
    let out = BufReader::new(child.stdout.as_mut().unwrap());
    let said = out.lines().map_while(Result::ok).any(|line| line.strip_prefix('@') == Some(text));
    assert!(said, "the process ended without {text:?}");
}

/// What the process said, after it ended well.
pub(crate) fn reports(output: &Output) -> Vec<String> {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    let said: Vec<_> = out.lines().filter_map(|line| line.strip_prefix('@')).map(str::to_owned).collect();
    assert!(!said.is_empty(), "the process said nothing: was the role run?\n{out}\n{err}");
    said
}

/// Fills a region with one byte.
pub(crate) fn fill(region: &Region<Untrusted>, byte: u8) {
    let bytes = vec![byte; region.len()];
    // SAFETY: the region lives; the tests use no control words where they use this.
    let payload = unsafe { region.payload(0, region.len()) };
    // SAFETY: in bounds.
    unsafe { payload.write_bytes(0, bytes.as_ptr(), bytes.len()) };
}

/// All bytes of a region.
pub(crate) fn bytes(region: &Region<Untrusted>) -> Vec<u8> {
    let mut bytes = vec![0; region.len()];
    // SAFETY: the region lives; the tests use no control words where they use this.
    let payload = unsafe { region.payload(0, region.len()) };
    // SAFETY: in bounds.
    unsafe { payload.read_bytes(0, bytes.as_mut_ptr(), bytes.len()) };
    bytes
}
