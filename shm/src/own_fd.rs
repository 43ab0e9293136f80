//! Paths to what descriptors of this process are open on.

use alloc::format;
use std::os::fd::RawFd;

use rustix::io::Errno;

/// Tries `call` with the path of a descriptor of this process.
///
/// Through `/proc/thread-self`, since `/proc/self` has no descriptors once the main thread has ended; and through that
/// where the other is missing.
pub(crate) fn through_path<T>(fd: RawFd, call: impl Fn(&str) -> Result<T, Errno>) -> Result<T, Errno> {
    match call(&format!("/proc/thread-self/fd/{fd}")) {
        Err(Errno::NOENT) => call(&format!("/proc/self/fd/{fd}")),
        done => done,
    }
}
