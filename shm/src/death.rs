//! Death notices: how a process learns within a fraction of a millisecond that another one is gone.
//!
//! Each process has at most one notice, however many structures it uses: a word in a page of its own, which the
//! kernel changes when the process dies, and wakes a waiter for. Peers get a descriptor of the page and can only read
//! it.
//!
//! **The word is a hint, the lease is the proof.** The kernel writes the word when one thread of the process ends, a
//! guard that ends only with the process; nothing orders that after the last instruction of the others. And
//! whoever owns a notice can write any word into it. So a notice says when to look, and the
//! [lease](crate::Liveness) says what is true: take nothing over on the word of a notice.
//!
//! # Memory layout
//! One page, in a memory descriptor sealed against shrinking, growing, other seals, and every future write:
//! ```text
//! +0   magic u64   "TWDEATH1", written before the seals
//! +64  word u32    the guard's thread id with the futex bit WAITERS (bit 31): alive
//!                  bit 30 (OWNER_DIED): dead, written by the kernel
//!                  0x3fff_ffff: detached, written when the process exits in order
//! ```
//! The kernel compares the thread id with its own idea of it, in the guard's PID namespace; to peers it says nothing.
//! The list through which the kernel finds the word (`set_robust_list`) is private memory of the owner: no peer can
//! steer it.
//!
//! # Protocol
//! | word | who may change it | to |
//! |---|---|---|
//! | 0 | the guard, after its list is registered | alive |
//! | alive | the owner, when it exits | detached |
//! | alive | the kernel, when the guard ends, which it does only by the death of the process or by exec | dead |
//!
//! The kernel wakes one waiter. So whoever finds the word changed wakes all others that wait for it. A waiter may be
//! stopped, or an enemy, in that moment: waits are sliced, and look at the word after each slice. A process that dumps
//! core is dead only when that is done.
//!
//! # Where there is a loop over descriptors
//! [`DeathWatch::pidfd`] gives a descriptor that can be read once the peer has ended, for `epoll` and its like. It comes
//! later than the notice, after the memory of the peer was torn down.
//!
//! # Fork
//! A fork child does not have its parent's notice: the page is not in its memory. It has none until it makes its own.

mod address;
mod error;
mod guard;
mod notice;
mod pidfd;
mod watch;

pub use address::NoticeAddress;
pub use error::DeathError;
pub use notice::{DeathNotice, NoticeState};
pub use watch::{DeathWatch, WATCHES_MAX, WaitedWith};

pub(crate) use notice::notice_state;
pub(crate) use watch::can_wait_for_several;

use core::mem::offset_of;

use crate::bell::PeerState;
use crate::sync::{AtomicU32, AtomicU64};

const MAGIC: u64 = u64::from_le_bytes(*b"TWDEATH1");

/// The words of the page.
#[repr(C)]
struct Page {
    magic: AtomicU64,
    /// Its owner may write it at any time, as all of the page.
    reserved: [AtomicU64; 7],
    word: AtomicU32,
}

const _: () = assert!(offset_of!(Page, magic) == 0 && offset_of!(Page, word) == 64);

const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
/// No thread has this id.
const DETACHED: u32 = 0x3fff_ffff;

fn state_of(word: u32) -> PeerState {
    match word {
        DETACHED => PeerState::Detached,
        word if word & OWNER_DIED != 0 => PeerState::Dead,
        word if word & !WAITERS != 0 => PeerState::Alive,
        _ => PeerState::Unknown,
    }
}
