//! The writer of a log: steps 1 to 3 of the protocol in [`log`](crate::log), and what it looks at before it enters a group.

use core::fmt;
use core::marker::PhantomData;

use bytemuck::Pod;
use tidewire_shm::sync::{AtomicU64, Ordering, Shared, fence};
use tidewire_shm::{Liveness, Region, RoleId, Trust, Trusted};

use super::layout::{Layout, Measure};
use super::{Log, LogFull, OPEN, Track, gate};
use crate::cell::owner_word;
use crate::error::{AttachError, Corrupt, CorruptWord};
use crate::layout::WORD_BYTES;
use crate::role::{Held, Owner, claim};
use crate::wait::{Alarm, KernelRef};

#[cfg(doc)]
use crate::wait::Wake;

/// The one writer of a log; `Send`, not `Sync`, not `Clone`. `G` is its lease.
///
/// Dropping it frees the role; what it wrote stays.
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<tidewire_seqlock::log::Writer<u64>>();
/// ```
/// ```
/// fn sent<T: Send>() {}
/// sent::<tidewire_seqlock::log::Writer<u64>>();
/// ```
pub struct Writer<T, L: Trust = Trusted, G = ()> {
    pub(super) track: Track<T>,
    latest: Shared<AtomicU64>,
    /// What stands in `latest`.
    pub(super) published: u64,
    /// No group from here on may be entered before the gates are looked at again.
    bound: u64,
    alarm: Alarm,
    pub(super) layout: Layout,
    // In this order: freeing the role needs the region.
    held: Held<G>,
    pub(super) region: Region<L>,
    not_sync: PhantomData<core::cell::Cell<()>>,
}

impl<T, L: Trust, G> Writer<T, L, G> {
    /// Takes the role of the writer.
    pub(super) fn attach<V: Liveness<Lease = G>>(
        log: &Log<T, L>,
        kernel: Option<KernelRef>,
        liveness: &V,
    ) -> Result<Self, AttachError> {
        let Log { region, layout, .. } = log;
        let place = layout.front.place(0);
        let (data, words) = layout.data();
        region.require_writable_at(place.owner(0), data + words * WORD_BYTES - place.owner(0))?;
        layout.front.require_liveness(region, liveness)?;
        let held =
            claim(owner_word(region, &place, 0), RoleId::producer(0).unwrap_or(RoleId::CREATOR), liveness)?;
        let (core, track, region) = log.bind();
        // SAFETY: the alarm goes where the region goes.
        let alarm = unsafe { Alarm::new(&region, &layout.front, &core.latest, kernel) }?;
        let published = core.adopt()?;
        // ORD cell.adopt: Relaxed, the claim of the role has ordered what earlier writers did.
        let stamp = track.stamp(published).load(Ordering::Relaxed);
        if stamp != layout.measure.base(published) {
            return Err(Corrupt { what: CorruptWord::Stamp, found: published }.into());
        }
        let bound = if layout.gates == 0 { u64::MAX } else { 0 };
        let (layout, latest) = (*layout, core.latest);
        Ok(Self { track, latest, published, bound, alarm, layout, held, region, not_sync: PhantomData })
    }

    /// The next version, the group of which is entered.
    #[inline(always)]
    pub(super) fn enter_next(&mut self) -> u64 {
        let version = self.published + 1;
        if self.track.measure.opens(version) {
            self.track.enter(version);
        }
        version
    }

    /// As [`enter_next`](Self::enter_next), if the gates allow it.
    #[inline(always)]
    pub(super) fn try_enter_next(&mut self) -> Result<u64, LogFull> {
        let version = self.published + 1;
        if self.track.measure.opens(version) {
            self.require_room(version)?;
            self.track.enter(version);
        }
        Ok(version)
    }
}

impl<T: Pod, L: Trust, G> Writer<T, L, G> {
    /// Writes a value and returns its version, one more than that of the value before. It overwrites the oldest one: of a
    /// reader with a gate, too, which is then overtaken as any other.
    ///
    /// # Guarantees
    /// Wait-free; no system call but the one that [wakes](Wake) readers where that was chosen. When it returns, the
    /// value is published: it survives the death of this process. Killed before, nobody sees anything of it.
    #[inline]
    pub fn write(&mut self, value: &T) -> u64 {
        let version = self.enter_next();
        // SAFETY: this handle holds the role and has entered the group; it keeps the region, which was found writable.
        unsafe { self.track.store(version, value) };
        self.publish(version);
        version
    }

    /// As [`write`](Self::write), if every reader with a gate has taken what would be overwritten.
    ///
    /// # Guarantees
    /// As [`write`](Self::write). It looks at the gates only where it must, at the latest after a quarter of the capacity.
    /// When it has found room where there was none, what the readers did before they made it is seen.
    ///
    /// # Errors
    /// [`LogFull`] names the gate that is furthest behind; nothing was written. If its reader is dead, so it stays until
    /// somebody [reclaims](Self::reclaim_gates) the gate. One may [wait](Self::wait_room_on) for room.
    #[inline]
    pub fn try_write(&mut self, value: &T) -> Result<u64, LogFull> {
        let version = self.try_enter_next()?;
        // SAFETY: as in `write`.
        unsafe { self.track.store(version, value) };
        self.publish(version);
        Ok(version)
    }

    /// As [`write`](Self::write), for each value of a slice; returns the version of the last one. A quarter of the capacity
    /// at a time is published at once.
    pub fn write_slice(&mut self, values: &[T]) -> u64 {
        for piece in values.chunks(self.piece()) {
            let (_all, _no_refusal) = self.write_piece(piece, |_, _| Ok(()));
        }
        self.published
    }

    /// As [`try_write`](Self::try_write), for each value of a slice, as far as there is room; returns how many that were.
    /// A quarter of the capacity at a time is published at once.
    ///
    /// # Errors
    /// [`LogFull`] if there is no room for the first one.
    pub fn try_write_slice(&mut self, values: &[T]) -> Result<usize, LogFull> {
        let mut written = 0;
        for piece in values.chunks(self.piece()) {
            let (done, refusal) = self.write_piece(piece, Self::require_room);
            written += done;
            match refusal {
                Err(full) if written == 0 => return Err(full),
                Err(_) => break,
                Ok(()) => {}
            }
        }
        Ok(written)
    }

    fn piece(&self) -> usize {
        usize::try_from(self.track.measure.piece).unwrap_or(usize::MAX)
    }

    /// Writes what it may of at most a piece, and publishes that by one store.
    fn write_piece(
        &mut self,
        values: &[T],
        mut may_enter: impl FnMut(&mut Self, u64) -> Result<(), LogFull>,
    ) -> (usize, Result<(), LogFull>) {
        let measure = self.track.measure;
        let (mut version, mut left) = (self.published + 1, values);
        let mut refusal = Ok(());
        while !left.is_empty() {
            if measure.opens(version) {
                refusal = may_enter(self, version);
                if refusal.is_err() {
                    break;
                }
                self.track.enter(version);
            }
            let room = usize::try_from(measure.base(version) + measure.group - version);
            let (run, rest) = left.split_at(left.len().min(room.unwrap_or(usize::MAX)));
            // SAFETY: as in `write`; slots of one group follow each other.
            unsafe { self.track.store_run(version, run) };
            version += run.len() as u64;
            left = rest;
        }
        let written = values.len() - left.len();
        if written > 0 {
            self.publish(version - 1);
        }
        (written, refusal)
    }
}

impl<T, L: Trust, G> Writer<T, L, G> {
    /// Step 3.
    #[inline(always)]
    pub(super) fn publish(&mut self, version: u64) {
        // ORD log.publish: Release -> `Reader::refresh`; hands over the slots up to this version, and their stamps.
        self.latest.store(version, Ordering::Release);
        self.published = version;
        self.alarm.ring();
    }

    /// Whether the group that a version opens may be entered.
    #[inline(always)]
    pub(super) fn require_room(&mut self, version: u64) -> Result<(), LogFull> {
        if version < self.bound { Ok(()) } else { self.require_room_slow(version) }
    }

    #[cold]
    #[inline(never)]
    fn require_room_slow(&mut self, version: u64) -> Result<(), LogFull> {
        let Measure { capacity, group, piece } = self.track.measure;
        let base = |version: u64| self.track.measure.base(version);
        let furthest = self.look_at_gates();
        let allowed = furthest.map_or(u64::MAX, |(head, _)| base(head).saturating_add(capacity));
        self.bound = allowed.min(base(self.published + piece) + group);
        match furthest {
            Some((_, gate)) if version >= self.bound => Err(LogFull { gate }),
            _ => Ok(()),
        }
    }

    /// The head that is furthest behind, and its gate, of those that are closed.
    fn look_at_gates(&self) -> Option<(u64, u32)> {
        // ORD gate.meet: SeqCst <-> `GatedReader::close`; a head that is not seen below was followed by a look at `latest` that
        // saw what we have published.
        fence(Ordering::SeqCst);
        let heads = (0..self.layout.gates).map(|gate| {
            // SAFETY: the head of a gate of a validated layout; the region is kept.
            let head = unsafe { self.region.atomic_u64(self.layout.gate(gate)) };
            // ORD gate.free: Relaxed, the fence below acquires, once for all.
            (head.load(Ordering::Relaxed), gate)
        });
        let furthest = heads.filter(|(head, _)| *head != OPEN).min();
        // ORD gate.free: Acquire <- `Gate::store_head`; what the readers did with what they let go of.
        fence(Ordering::Acquire);
        furthest
    }

    /// How many values could be written now, at most as many as there are slots. It looks at the gates.
    #[must_use]
    pub fn room(&mut self) -> u64 {
        let measure = self.track.measure;
        let end = self.look_at_gates().map(|(head, _)| measure.base(head).saturating_add(measure.capacity));
        let room = end.map_or(measure.capacity, |end| end.saturating_sub(self.published + 1));
        room.min(measure.capacity)
    }

    /// Opens the gates whose readers are proven dead, and says how many. By leases that prove nothing, or that are not
    /// those of the log ([`Liveness::covers`]), nobody is; nor is one whose gate cannot be written here.
    ///
    /// While it takes a gate, another reader that wants it may be refused.
    pub fn reclaim_gates<V: Liveness>(&mut self, liveness: &V) -> u32 {
        let mut opened = 0;
        for gate in 0..self.layout.gates {
            opened += u32::from(gate::reclaim(&self.region, &self.layout, gate, liveness));
        }
        opened
    }

    /// The version of the latest value; 0 if there is none.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.published
    }

    /// Counts no reader as asleep, as [`Writer::forget_waiters`](crate::Writer::forget_waiters) of a cell does.
    pub fn forget_waiters(&mut self) {
        self.alarm.forget();
    }

    /// This handle's name in the owner word.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.held.owner()
    }
}

impl<T, L: Trust, G> fmt::Debug for Writer<T, L, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("owner", &self.held.owner()).finish_non_exhaustive()
    }
}
