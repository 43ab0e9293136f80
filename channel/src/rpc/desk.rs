//! Where replies go: the rings to the clients, for whoever holds a request, in any thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidewire_ring::RecordPushError;
use tidewire_ring::bytes::{Producer, Ring};
use tidewire_shm::bell::{Caller, Roster, System};
use tidewire_shm::{ForkMark, RoleId, SegmentLeases, Untrusted};

use super::record::{CallNumber, HEAD_BYTES, Head, Status, low, write};
use super::{CANCELLED, entry_of, replies_first};
use crate::error::{Corrupt, ReplyError};
use crate::queue::is_vacant;

/// The server's side of all clients. The locks are private to this process and held for as long as one reply takes.
#[derive(Debug)]
pub(crate) struct Desk {
    lanes: Box<[Mutex<Lane>]>,
    roster: Mutex<Roster<Untrusted>>,
    leases: Arc<SegmentLeases>,
    mark: ForkMark,
    /// Bytes of the longest answer.
    longest: usize,
}

/// The way to one client.
#[derive(Debug)]
struct Lane {
    /// `None` if what lies there is no ring, or the server is gone.
    ring: Option<Ring<Untrusted>>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    replies: Producer<Untrusted>,
    caller: Caller<System, Untrusted>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A reply is published by one store: whatever panicked left nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    pub(crate) fn new(
        rings: impl Iterator<Item = Option<Ring<Untrusted>>>,
        roster: Roster<Untrusted>,
        leases: Arc<SegmentLeases>,
        mark: ForkMark,
        longest: usize,
    ) -> Self {
        let lanes = rings.map(|ring| Mutex::new(Lane { ring, open: None })).collect();
        Self { lanes, roster: Mutex::new(roster), leases, mark, longest }
    }

    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// Sends the answer to a request of a client.
    #[inline]
    pub(crate) fn reply(
        &self,
        lane: u32,
        id: CallNumber,
        status: Status,
        answer: &[u8],
    ) -> Result<(), ReplyError> {
        if self.mark.is_forked_child() {
            return Err(ReplyError::ForkedChild);
        }
        let Some(mutex) = self.lanes.get(lane as usize) else { return Err(ReplyError::Disconnected) };
        let mut guard = lock(mutex);
        if guard.open.is_none() {
            self.attach(lane, &mut guard)?;
        }
        let Some(Open { replies, caller }) = guard.open.as_mut() else {
            return Err(ReplyError::Disconnected);
        };
        // A successor of the client would find an answer to what it never asked.
        if caller.holder().map(low) != Some(id.client()) {
            return Err(ReplyError::Disconnected);
        }
        let error = match replies.reserve(HEAD_BYTES + answer.len()) {
            Ok(place) => {
                let _written = write(place, Head::reply(id, status), answer);
                let _rung = caller.ring();
                return Ok(());
            }
            Err(RecordPushError::Full) => return Err(ReplyError::Full),
            Err(RecordPushError::TooLong { max }) => ReplyError::TooLong(max as usize),
            Err(RecordPushError::Corrupt(corrupt)) => ReplyError::Corrupt(Corrupt::Peer(corrupt)),
        };
        // For a successor of the client another look may find better.
        guard.open = None;
        Err(error)
    }

    /// Takes the sending end to a client.
    #[cold]
    fn attach(&self, number: u32, lane: &mut Lane) -> Result<(), ReplyError> {
        let Some(ring) = lane.ring.as_ref() else { return Err(ReplyError::Disconnected) };
        let replies = match ring.producer_with(&self.leases.range(replies_first(number))) {
            Ok(replies) => replies,
            Err(tidewire_ring::AttachError::Corrupt(corrupt)) => {
                return Err(ReplyError::Corrupt(Corrupt::Peer(corrupt)));
            }
            Err(_) => return Err(ReplyError::Disconnected),
        };
        let Ok(caller) = lock(&self.roster).caller(entry_of(number), System) else {
            return Err(ReplyError::Disconnected);
        };
        lane.open = Some(Open { replies, caller });
        Ok(())
    }

    /// Whether nobody waits for an answer (any more).
    pub(crate) fn is_cancelled(&self, lane: u32, id: CallNumber) -> bool {
        // The lock may have been copied from the parent while a thread had it that does not exist here.
        if self.mark.is_forked_child() {
            return true;
        }
        let roster = lock(&self.roster);
        let said = roster.entry(entry_of(lane));
        if !said.present || low(said.generation) != id.client() {
            return true;
        }
        let slot = usize::from(id.slot());
        let flags = roster.counter(entry_of(lane), CANCELLED + slot / 64);
        drop(roster);
        flags & 1 << (slot % 64) != 0
            || RoleId::producer(lane).is_some_and(|role| is_vacant(&self.leases, role))
    }

    /// Lets all clients go: no reply goes out any more. Then wakes those who wait.
    pub(crate) fn close(&self) {
        for lane in &self.lanes {
            let mut lane = lock(lane);
            (lane.ring, lane.open) = (None, None);
        }
    }

    /// Wakes all who may wait.
    pub(crate) fn wake_all(&self) {
        let roster = lock(&self.roster);
        for entry in 1..roster.entries() {
            if roster.entry(entry).present
                && let Ok(mut caller) = roster.caller(entry, System)
            {
                let _rung = caller.ring();
            }
        }
    }

    /// Forgets the ends without giving anything back: in a fork child they are the parent's.
    #[expect(clippy::mem_forget, reason = "that nothing is given back is what is wanted")]
    pub(crate) fn abandon(&self) {
        for lane in &self.lanes {
            // Held by another thread when the process forked, it is held for ever here.
            if let Ok(mut lane) = lane.try_lock() {
                std::mem::forget(lane.open.take());
            }
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if self.mark.is_forked_child() {
            self.abandon();
        }
    }
}

/// The duty to answer a request. Dropping it says that there is no answer.
#[derive(Debug)]
pub(crate) struct Duty {
    desk: Arc<Desk>,
    pub(crate) lane: u32,
    id: CallNumber,
    done: bool,
}

impl Duty {
    pub(crate) fn new(desk: Arc<Desk>, lane: u32, id: CallNumber) -> Self {
        Self { desk, lane, id, done: false }
    }

    #[inline]
    pub(crate) fn reply(mut self, answer: &[u8]) -> Result<(), ReplyError> {
        self.done = true;
        let most = self.desk.longest();
        if answer.len() > most {
            // The caller is told, whatever comes of that.
            let _told = self.desk.reply(self.lane, self.id, Status::TooLong, &[]);
            return Err(ReplyError::TooLong(most));
        }
        self.desk.reply(self.lane, self.id, Status::Answered, answer)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.desk.is_cancelled(self.lane, self.id)
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        if !self.done {
            // Who is gone need not be told.
            let _told = self.desk.reply(self.lane, self.id, Status::Dropped, &[]);
        }
    }
}
