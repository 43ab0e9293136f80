//! What the commands that start other programs share: where the source tree is, the build tool, and a place for what
//! is needed only for a while.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// A file by which the top of the source tree is known.
const MARK: &str = "ring/src/cursor.rs";

/// Where the workspace is: around the current directory, or else where this program was built.
pub(crate) fn workspace_root() -> Result<PathBuf> {
    let here = env::current_dir().context("finding the current directory")?;
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let found = here.ancestors().chain(built).find(|root| root.join(MARK).is_file());
    found.map(Path::to_path_buf).with_context(|| {
        format!("expected to be started in, or built from, the source tree (with {MARK}); found none around {here:?}")
    })
}

/// The name of the build tool.
pub(crate) fn cargo_name() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// A call of the build tool in `directory`. It takes no other versions than those of the lock file, and dies with
/// this process.
pub(crate) fn cargo(directory: &Path, command: &str) -> Command {
    let mut cargo = Command::new(cargo_name());
    cargo.current_dir(directory).args([command, "--locked"]);
    die_with_parent(&mut cargo);
    cargo
}

/// What the command starts is killed when the thread that starts it ends, however that happens: callers wait for it
/// in the same thread.
pub(crate) fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let tie = move || {
        // SAFETY: sets an attribute of this process; takes numbers only.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // Too late, if it died before it was asked.
        if std::os::unix::process::parent_id() == parent {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::ESRCH))
        }
    };
    // SAFETY: the closure makes two system calls and neither allocates nor takes a lock.
    unsafe { command.pre_exec(tie) };
}

/// A directory below `target`, removed when dropped.
pub(crate) fn scratch(root: &Path) -> Result<TempDir> {
    let target = root.join("target");
    fs::create_dir_all(&target).with_context(|| format!("creating {}", target.display()))?;
    let builder = tempfile::Builder::new().prefix("scratch-").tempdir_in(&target);
    builder.with_context(|| format!("making a directory in {}", target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_tree_is_found_from_within() {
        let root = workspace_root().unwrap();
        assert!(root.join(MARK).is_file());
        assert!(env::current_dir().unwrap().starts_with(&root));
    }

    #[test]
    fn what_is_started_dies_with_the_thread_that_started_it() {
        let started = std::thread::spawn(|| {
            let mut command = Command::new("sleep");
            die_with_parent(command.arg("60"));
            command.spawn().unwrap()
        });
        let mut child = started.join().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    }
}
