//! What can be seen of a channel.

use tidewire_shm::Untrusted;
use tidewire_shm::bell::Roster;

use crate::send::{DROPPED, WAITED};

/// A sender that is there, as its receiver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SenderInfo {
    /// Its number: from 0, below the number of senders that there can be.
    pub number: u32,
    /// How many senders have had that number, this one included.
    pub generation: u64,
    /// The process that it runs in, as it said.
    pub pid: Option<u32>,
    /// Messages that it sent and that take room: not received yet, or among the last that were; bytes in a channel of bytes.
    pub queued: usize,
    /// Messages that it dropped since there was no room. Where the [oldest](crate::Overflow::DropOldest) are: those of it that
    /// receivers missed, as far as this one has looked; with [`Kind::Single`](crate::Kind::Single) those that this one missed, of all
    /// senders that there were.
    pub dropped: u64,
    /// How often it waited for room: who is full.
    pub waited: u64,
}

pub(crate) fn sender(
    roster: &Roster<Untrusted>,
    entry: u32,
    generation: u64,
    queued: &[(u32, usize)],
) -> SenderInfo {
    let number = entry.saturating_sub(1);
    let [low, _] = roster.entry(entry).notice;
    let pid = u32::try_from(low & u64::from(u32::MAX)).ok().filter(|pid| *pid != 0);
    SenderInfo {
        number,
        generation,
        pid,
        queued: queued.iter().find(|(lane, _)| *lane == number).map_or(0, |(_, queued)| *queued),
        dropped: roster.counter(entry, DROPPED),
        waited: roster.counter(entry, WAITED),
    }
}
