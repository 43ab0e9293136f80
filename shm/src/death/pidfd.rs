//! A descriptor of the peer's process, for who lives in a loop over descriptors.
//!
//! # Protocol
//! A number of a process says nothing for ever: the process may have ended, and another one have got its number. So:
//!
//! | step | what it proves |
//! |---|---|
//! | open a descriptor of the process with that number | it is of one process, and stays so |
//! | at the address there is the memory of this watch | the process with that number has the notice |
//! | its thread with the id in the notice's word is there | it is the process that the guard is a thread of: the owner |
//! | the notice still says alive | the guard lived until now, so its process did, with its number all the time |
//!
//! In this order. The word and the descriptor of the notice may be given to others, the guard cannot be.

use alloc::format;
use alloc::string::ToString;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, fstat, statat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::address::look;
use super::{DeathError, DeathWatch, NoticeAddress, WAITERS};
use crate::bell::PeerState;
use crate::sync::Ordering;

impl DeathWatch {
    /// A descriptor of the peer's process that can be read (`POLLIN`) once the process has ended: for `epoll` and its
    /// like. `address` is that of the notice which this watch is of.
    ///
    /// # Guarantees
    /// - It is of the process that owns the notice, not of another one that has its number by now, or that the address
    ///   names by mistake: that is refused. An owner that lies in its own notice harms nobody by it: what ends is then
    ///   not its process.
    /// - It can be read when all threads of the process have ended and its memory is torn down, reaped or not: later
    ///   than the notice tells, for a large process by some 70 ms for each GiB. The [lease](crate::Liveness) is free a
    ///   little before that.
    /// - It is closed when this process starts another program.
    ///
    /// A peer that becomes another program ends its notice but not its process, and an orderly exit is said by the notice
    /// first: whoever polls looks at [`state`](Self::state), too.
    ///
    /// # Errors
    /// - [`DeathError::Gone`]: the notice says that the peer is gone, or it was never alive;
    /// - [`DeathError::AnotherProcess`]: the process at the address is not the owner of this notice;
    /// - [`DeathError::NotANotice`], [`DeathError::System`]: as [`find`](Self::find); also if this process may not look
    ///   into the peer's, or sees no process with that number.
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{DeathError, DeathNotice, DeathWatch};
    ///
    /// let address = DeathNotice::own()?.address()?;
    /// // In a peer:
    /// let watch = DeathWatch::find(address)?;
    /// let readable_at_its_end = watch.pidfd(address)?;
    /// # drop(readable_at_its_end);
    /// # Ok::<(), DeathError>(())
    /// ```
    pub fn pidfd(&self, address: NoticeAddress) -> Result<OwnedFd, DeathError> {
        let pid = address.pid;
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let opened = number.ok_or(Errno::SRCH).and_then(|number| pidfd_open(number, PidfdFlags::empty()));
        let process = match opened {
            Ok(process) => process,
            // What the notice says is the better answer.
            Err(errno) => {
                self.guard()?;
                return Err(DeathError::on("open a descriptor of the peer's process")(errno));
            }
        };
        let is_owner = self.require_owner(address);
        // Behind all looks: the process with that number is the same since before the descriptor was opened.
        self.guard()?;
        is_owner.map(|()| process)
    }

    /// The thread id of the guard, while that lives.
    fn guard(&self) -> Result<u32, DeathError> {
        match self.state() {
            // ORD own: Relaxed, a word that is written once before it says alive; `state` looked at it.
            PeerState::Alive => Ok(self.word().load(Ordering::Relaxed) & !WAITERS),
            found => Err(DeathError::Gone { found }),
        }
    }

    /// Whether the process at the address has this notice, and its guard.
    fn require_owner(&self, address: NoticeAddress) -> Result<(), DeathError> {
        let pid = address.pid;
        let wrong = |what, expected, found| DeathError::AnotherProcess { pid, what, expected, found };
        let stat = fstat(look(address)?).map_err(DeathError::on("inspect a death notice"))?;
        if (stat.st_dev, stat.st_ino) != self.memory {
            return Err(wrong("inode of its notice", self.memory.1.to_string(), stat.st_ino.to_string()));
        }
        let guard = self.guard()?;
        match statat(CWD, format!("/proc/{pid}/task/{guard}"), AtFlags::empty()) {
            Ok(_) => Ok(()),
            Err(Errno::NOENT | Errno::SRCH) => {
                Err(wrong("its guard", format!("thread {guard}"), "no such thread".to_string()))
            }
            Err(errno) => Err(DeathError::on("look for the guard of a death notice")(errno)),
        }
    }
}
