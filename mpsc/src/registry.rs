//! Who holds which lane, and who consumes: one owner word each, moved by compare-exchange from the exact former word.
//!
//! Attaching, detaching and reclaiming take a bounded number of steps, a few for each lane, and never wait; the leases
//! ask the kernel. None of it happens while messages are moved.
//!
//! # Memory layout
//! See [`layout`](crate::layout). The owner word is `generation << 32 | id`, as in a ring.
//!
//! # Protocol
//! | state of a lane | word | who may leave it | next |
//! |---|---|---|---|
//! | new: its positions mean nothing | `0, 0` | anybody with its lease | `0, id` |
//! | being prepared | `0, id` | the holder, when both positions are zero | `1, id` |
//! | being prepared | `0, id` | whoever has its lease with proof | `0, id'` or `0, 0` |
//! | held | `g, id` | the holder, by dropping its handle | `g, 0` |
//! | held | `g, id` | whoever has its lease with proof | `g + 1, id'` (attach) or `g, 0` (reclaim) |
//! | free | `g, 0` | anybody with its lease | `g + 1, id` |
//!
//! Whoever takes a lane acquires its lease, then moves the word, then starts at the published tail, then sets the
//! lane's bit in `attached`. Whoever leaves it frees the word, then drops the lease. Messages of a former owner stay
//! in front of those of the next: nothing needs to be drained before a lane is used again. The generation skips zero
//! when it wraps.
//!
//! The consumer's word has the states of a ring's role: free and held.
//!
//! # Invariants
//! - G1: a lane is pushed to only under its owner word, and with a [`Liveness`] that proves, only under its lease: at
//!   most one `PushEnd` per lane at a time.
//! - G2: the consumer's word and lease keep the `PopEnd`s of all lanes to one consumer at a time.
//! - G3: the positions of a lane are written before its generation is 1 and read only after; from then on the tail
//!   belongs to the owner and the head to the consumer.
//! - G4: `attached` and `quarantined` are advice. Whoever acts on a bit looks at the owner word and the positions.
//!
//! # Ordering
//! | edge | releasing end | acquiring end | hands over |
//! |---|---|---|---|
//! | `mpsc.prepare` | `Core::prepare` | `Core::owner` (the consumer), `Core::take` | zeroed positions |
//! | `role.free` | `Role::drop` of the ring crate | `Core::take`, `Core::owner` | all that the former owner did |
//! | `role.proof` | a lease that was dropped, or a death that the kernel saw | the lease given to the next | all that any former holder did |
//! | `mpsc.reclaim` | `Core::reclaim` | `Core::owner` | all that the dead owner did |
//! | `mpsc.attach` | `Core::announce` | `Poller::look_closely`, `Poller::retire` | the claim of the lane |
//!
//! Every change of an owner word is a read-modify-write, so that an acquiring load of any later word sees what the
//! first one released.
//!
//! # Crash argument
//! | point | killed here, the others see | repair |
//! |---|---|---|
//! | attach, with the lease, before the word | a free lane without a lease | none |
//! | attach, being prepared | `0, id` without a lease | the next attacher prepares again; reclaim makes it new |
//! | attach, before the bit | a held lane without a lease, empty or with old messages | the next who has the lease; the consumer finds it by its word |
//! | while pushing | as in a ring: every prefix is whole | the next who has the lease |
//! | detach, before the word is freed | a held lane without a lease | the next who has the lease |
//! | detach, after it | a free lane without a lease | none |
//! | reclaim, before the word | as before | reclaim again |
//! | reclaim, after it | a free lane without a lease | none |
//! | consumer, anywhere | a held role without a lease | the next consumer continues at the published heads |
//!
//! Stopped instead of killed, it keeps its lease, and nobody takes anything from it.
//!
//! # Not guaranteed
//! Without leases ([`Unleased`](tidewire_shm::Unleased)) a lane whose process died is held for ever. Which lane an
//! attacher gets is not promised; of two that attach at once, one may be refused the last lane although the other one
//! gives it back a moment later. A hostile process can hold all lanes, or scribble over owner words: then lanes are
//! lost, or two producers share one, which costs the messages of that lane.
//!
//! # Sources
//! The owner words are those of the ring; leases are `tidewire_shm::Liveness`.

use alloc::boxed::Box;
use core::fmt;

use tidewire_ring::embed::{Parts, Role, own_id};
use tidewire_ring::{Corrupt, Owner};
use tidewire_shm::sync::{AtomicU64, Ordering, Shared, fence};
use tidewire_shm::{Field, Incompatible, LeaseError, Liveness, Region, RoleId, Trust};

use crate::error::AttachError;
use crate::lane_set::LaneSet;
use crate::layout::Layout;

/// A lease of some liveness; what kind does not matter to whoever only keeps it.
type Lease = Box<dyn Send>;

/// A held role and the right to it; dropping it frees the word first and hands the lease back last.
pub(crate) struct Tenure {
    // The order is the protocol.
    role: Role,
    _lease: Lease,
}

impl Tenure {
    pub(crate) fn owner(&self) -> Owner {
        self.role.owner()
    }
}

/// A queue's region with its layout: what every handle shares.
pub(crate) struct Core<L: Trust> {
    pub(crate) region: Region<L>,
    pub(crate) layout: Layout,
}

/// Whether a lease is a proof. Those of kind 0 are none: handles without a lease may hold the roles.
pub(crate) const fn proves<V: Liveness>() -> bool {
    V::PROVES && V::KIND != 0
}

/// The generation of an owner word.
pub(crate) fn generation(word: u64) -> u32 {
    (word >> 32) as u32
}

impl<L: Trust> Core<L> {
    /// A second handle on the same queue.
    pub(crate) fn alias(&self) -> Self {
        // SAFETY: all handles of a queue follow one protocol: G1 and G2 keep them apart.
        Self { region: unsafe { self.region.alias() }, layout: self.layout }
    }

    pub(crate) fn fmt_queue(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Layout { lanes, capacity, delivery, .. } = &self.layout;
        f.debug_struct("Queue")
            .field("lanes", lanes)
            .field("lane_capacity", capacity)
            .field("delivery", delivery)
            .finish_non_exhaustive()
    }

    pub(crate) fn word(&self, offset: usize) -> Shared<AtomicU64> {
        self.layout.word(&self.region, offset)
    }

    pub(crate) fn owner_word(&self, lane: usize) -> Shared<AtomicU64> {
        self.word(self.layout.owner_offset(lane))
    }

    pub(crate) fn consumer_word(&self) -> Shared<AtomicU64> {
        self.word(self.layout.consumer_offset())
    }

    /// The owner word of a lane, for the consumer and for observers, which go on to the lane's positions.
    pub(crate) fn owner(&self, lane: usize) -> u64 {
        // ORD advice: Relaxed, since an observer's memory may be such that it can only be read; the fence acquires.
        let word = self.owner_word(lane).load(Ordering::Relaxed);
        // ORD mpsc.prepare: Acquire <- `Core::prepare`; the positions are prepared if the generation is not zero.
        // ORD role.free: Acquire <- `Role::drop`; of a lane that its owner freed, the tail that is loaded next is its last.
        // ORD mpsc.reclaim: Acquire <- `Core::reclaim`; the same of a lane that was freed for a dead owner.
        fence(Ordering::Acquire);
        word
    }

    /// A role for which this process cannot write all that it has to.
    fn not_writable() -> AttachError {
        Incompatible::new(Field::Access, 1, 0).into()
    }

    /// These are the leases that the queue was made for, and speak of its memory.
    pub(crate) fn same_liveness<V: Liveness>(&self, liveness: &V) -> Result<(), AttachError> {
        let (expected, found) = (V::KIND.into(), self.layout.liveness.into());
        // The leases of another segment prove nothing about this memory.
        let foreign = !liveness.covers(&self.region);
        if expected == found && !foreign {
            Ok(())
        } else {
            Err(Incompatible::new(Field::Liveness, expected, if foreign { 0 } else { found }).into())
        }
    }

    /// The lease of a role, if nobody holds it.
    fn lease<V: Liveness>(liveness: &V, role: RoleId) -> Result<Option<Lease>, AttachError> {
        match liveness.acquire(role) {
            Ok(lease) => Ok(Some(Box::new(lease))),
            Err(LeaseError::Held { .. }) => Ok(None),
            Err(error) => Err(AttachError::Lease(error)),
        }
    }

    fn lane_role(lane: usize) -> Option<RoleId> {
        RoleId::producer(u32::try_from(lane).ok()?)
    }

    /// Takes a lane and makes its producing end: lanes that look free first, then those whose owner can be proven dead or
    /// has freed them meanwhile.
    ///
    /// A lane with impossible positions is passed over, and so is one that this process cannot write.
    pub(crate) fn attach_lane<V: Liveness, E>(
        &self,
        liveness: &V,
        make: impl Fn(&Region<L>, &Parts) -> Result<E, Corrupt>,
    ) -> Result<(usize, Tenure, E), AttachError> {
        self.same_liveness(liveness)?;
        let open = |lane: &usize| self.layout.is_open_to_a_producer(&self.region, *lane);
        if !(0..self.layout.lanes).any(|lane| open(&lane)) {
            return Err(Self::not_writable());
        }
        let mut corrupt = LaneSet::default();
        for held in [false, true] {
            if held && !proves::<V>() {
                break;
            }
            for lane in (0..self.layout.lanes).filter(open) {
                let word = self.owner_word(lane);
                // ORD advice: Relaxed, decides only whether to ask for the lease.
                if !held && Owner::from_word(word.load(Ordering::Relaxed)).is_some() {
                    continue;
                }
                if corrupt.has(lane) || self.is_quarantined(lane) {
                    corrupt.set(lane, true);
                    continue;
                }
                let Some(role) = Self::lane_role(lane) else { continue };
                let Some(lease) = Self::lease(liveness, role)? else { continue };
                let Some(role) = self.take::<V>(lane, word) else { continue };
                let tenure = Tenure { role, _lease: lease };
                match make(&self.region, &self.layout.lane(lane)) {
                    Ok(end) => {
                        self.announce(lane);
                        return Ok((lane, tenure, end));
                    }
                    Err(_) => corrupt.set(lane, true),
                }
            }
        }
        let lanes = u32::try_from(self.layout.lanes).unwrap_or(u32::MAX);
        Err(AttachError::LanesExhausted { lanes, corrupt: corrupt.len() })
    }

    /// Moves the owner word of a lane whose lease is ours to our name; `None` if somebody else holds it or was faster.
    ///
    /// The rounds are bounded, since a peer could keep changing the word.
    fn take<V: Liveness>(&self, lane: usize, word: Shared<AtomicU64>) -> Option<Role> {
        const ROUNDS: u32 = 4;
        // ORD own: Relaxed, only the compare-exchange below decides.
        let mut found = word.load(Ordering::Relaxed);
        for _ in 0..ROUNDS {
            if Owner::from_word(found).is_some() && !proves::<V>() {
                return None;
            }
            let generation = match generation(found) {
                0 => 0,
                former => former.wrapping_add(1).max(1),
            };
            let owner = Owner { id: own_id(), generation };
            // ORD role.free: Acquire <- `Role::drop`; the former owner is done with the lane.
            // ORD mpsc.prepare: Acquire <- `Core::prepare`; the positions are those of a prepared lane.
            // ORD own: failure Relaxed, nothing is read behind it.
            match word.compare_exchange(found, owner.word(), Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) if generation == 0 => return self.prepare(lane, word, owner),
                // SAFETY: the word says so, and it is we who made it so; the caller keeps the region.
                Ok(_) => return Some(unsafe { Role::held(word, owner) }),
                Err(now) => found = now,
            }
        }
        None
    }

    /// Zeroes the positions of a lane that nobody ever had, which `owner` holds, and ends its generation zero.
    ///
    /// A head in the consumer's own memory was zero when the queue was created, and is the consumer's to change: whoever
    /// attaches checks it against the tail.
    fn prepare(&self, lane: usize, word: Shared<AtomicU64>, owner: Owner) -> Option<Role> {
        let parts = self.layout.lane(lane);
        let own = |offset: &usize| self.region.is_writable_at(*offset, 8);
        for offset in [parts.tail_offset, parts.head_offset].into_iter().filter(own) {
            // ORD mpsc.prepare: Relaxed, the compare-exchange below publishes the zeroes.
            self.word(offset).store(0, Ordering::Relaxed);
        }
        let prepared = Owner { generation: 1, ..owner };
        // ORD mpsc.prepare: Release -> `Core::owner`; the positions may be used.
        // ORD own: failure Relaxed; a word that is no longer ours was scribbled by a peer: not our lane.
        word.compare_exchange(owner.word(), prepared.word(), Ordering::Release, Ordering::Relaxed).ok()?;
        // SAFETY: the word says so, and it is we who made it so; the caller keeps the region.
        Some(unsafe { Role::held(word, prepared) })
    }

    fn bit(lane: usize) -> (usize, u64) {
        (lane / 64, 1 << (lane % 64))
    }

    /// Tells the consumer to look at a lane.
    fn announce(&self, lane: usize) {
        let (word, bit) = Self::bit(lane);
        // ORD mpsc.attach: Release -> `Poller::look_closely`; whoever sees the bit sees the claim.
        self.word(self.layout.attached_offset(word)).fetch_or(bit, Ordering::Release);
    }

    /// Takes the hint of a lane away; the caller looks at the lane again after this.
    pub(crate) fn withdraw(&self, lane: usize) {
        let (word, bit) = Self::bit(lane);
        // ORD mpsc.attach: Acquire <- `Core::announce`; if a bit set by a claim is taken away, the claim is seen next.
        self.word(self.layout.attached_offset(word)).fetch_and(!bit, Ordering::Acquire);
    }

    /// Gives back a hint that was taken away in error, for a successor of this consumer.
    pub(crate) fn restore(&self, lane: usize) {
        let (word, bit) = Self::bit(lane);
        // ORD advice: Relaxed, a hint for a successor, which looks at all owner words anyway.
        self.word(self.layout.attached_offset(word)).fetch_or(bit, Ordering::Relaxed);
    }

    /// Says for attachers and observers that a lane is out of use; for the consumer only.
    pub(crate) fn quarantine(&self, lane: usize) {
        let (word, bit) = Self::bit(lane);
        let word = self.word(self.layout.quarantined_offset(word));
        // ORD advice: Relaxed, written by the consumer only; nobody reads anything behind it.
        word.store(word.load(Ordering::Relaxed) | bit, Ordering::Relaxed);
    }

    /// Whether a consumer said that a lane is out of use.
    pub(crate) fn is_quarantined(&self, lane: usize) -> bool {
        let (word, bit) = Self::bit(lane);
        // ORD advice: Relaxed, who attaches to such a lane pushes to nobody, nothing worse.
        self.word(self.layout.quarantined_offset(word)).load(Ordering::Relaxed) & bit != 0
    }

    /// Takes the consumer's role, free or from an owner that is proven dead.
    pub(crate) fn attach_consumer<V: Liveness>(&self, liveness: &V) -> Result<Tenure, AttachError> {
        self.same_liveness(liveness)?;
        if !self.layout.is_open_to_the_consumer(&self.region) {
            return Err(Self::not_writable());
        }
        let word = self.consumer_word();
        let taken = |owner: Option<Owner>| {
            let held = AttachError::Lease(LeaseError::Held { role: RoleId::CONSUMER });
            owner.map_or(held, AttachError::RoleTaken)
        };
        let Some(lease) = Self::lease(liveness, RoleId::CONSUMER)? else {
            return Err(taken(Role::owner_of(&word)));
        };
        let role = match Role::owner_of(&word) {
            None => Role::claim(word),
            // The lease is the proof: every earlier holder is gone.
            Some(dead) if proves::<V>() => Role::replace(word, dead),
            Some(owner) => Err(tidewire_ring::AttachError::RoleTaken(owner)),
        };
        let role = role.map_err(|error| match error {
            tidewire_ring::AttachError::RoleTaken(owner) => AttachError::RoleTaken(owner),
            _ => taken(Role::owner_of(&self.consumer_word())),
        })?;
        Ok(Tenure { role, _lease: lease })
    }

    /// Frees the lanes whose owner is proven dead, and says how many. Their messages stay.
    pub(crate) fn reclaim<V: Liveness>(&self, liveness: &V) -> Result<u32, AttachError> {
        self.same_liveness(liveness)?;
        if !self.layout.is_registry_writable(&self.region) {
            return Err(Self::not_writable());
        }
        let mut reclaimed = 0;
        for lane in 0..if proves::<V>() { self.layout.lanes } else { 0 } {
            let word = self.owner_word(lane);
            // ORD advice: Relaxed, decides only whether to ask for the lease.
            if Owner::from_word(word.load(Ordering::Relaxed)).is_none() {
                continue;
            }
            let Some(role) = Self::lane_role(lane) else { continue };
            let Some(_lease) = Self::lease(liveness, role)? else { continue };
            // ORD role.proof: Relaxed, the lease already ordered everything that the dead owner did before this.
            let Some(dead) = Owner::from_word(word.load(Ordering::Relaxed)) else { continue };
            let free = Owner { id: 0, ..dead };
            // ORD mpsc.reclaim: Release -> `Core::owner`; hands on what the lease handed to us: the dead owner's last tail.
            // ORD own: failure Relaxed, nothing is read behind it.
            let freed =
                word.compare_exchange(dead.word(), free.word(), Ordering::Release, Ordering::Relaxed).is_ok();
            reclaimed += u32::from(freed);
        }
        Ok(reclaimed)
    }
}
