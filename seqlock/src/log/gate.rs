//! Readers that the writer waits for, and what becomes of their gates when they die. The protocol stands in
//! [`log`](crate::log).

use core::fmt;
use core::time::Duration;

use bytemuck::Pod;
use tidewire_shm::bell::Kernel;
use tidewire_shm::sync::{AtomicU64, Ordering, Shared, fence};
use tidewire_shm::{LeaseError, Liveness, Region, RoleId, Tenancy, Trust, Trusted};

use super::layout::{Layout, Measure};
use super::{Log, NextError, OPEN, Reader, Start};
use crate::cell::says;
use crate::error::{AttachError, Corrupt, WaitError};
use crate::layout::WORD_BYTES;
use crate::role::{Held, Owner, claim, proves};

/// How often in a lap a reader tells the writer how far it came, at least, while there is always something to read. More
/// often, and the two meet on every line.
const RELEASES: u64 = 8;

/// The lease of a gate.
fn role(gate: u32) -> Option<RoleId> {
    RoleId::producer(gate.checked_add(1)?)
}

pub(super) fn head<L: Trust>(region: &Region<L>, layout: &Layout, gate: u32) -> Shared<AtomicU64> {
    // SAFETY: the head of a gate of a validated layout; handles that keep it keep the region, too. Only those who asked
    // whether it is writable do more than load it.
    unsafe { region.atomic_u64(layout.gate(gate)) }
}

pub(super) fn owner<L: Trust>(region: &Region<L>, layout: &Layout, gate: u32) -> Shared<AtomicU64> {
    // SAFETY: as `head`, the word behind it.
    unsafe { region.atomic_u64(layout.gate(gate) + WORD_BYTES) }
}

fn require_writable<L: Trust>(region: &Region<L>, layout: &Layout, gate: u32) -> Result<(), AttachError> {
    Ok(region.require_writable_at(layout.gate(gate), 2 * WORD_BYTES)?)
}

/// Opens a gate whose holder is proven dead; whether there was anything to open.
pub(super) fn reclaim<L: Trust, V: Liveness>(
    region: &Region<L>,
    layout: &Layout,
    gate: u32,
    liveness: &V,
) -> bool {
    let head = head(region, layout, gate);
    // ORD advice: Relaxed, it is looked at again when the gate is ours.
    if head.load(Ordering::Relaxed) == OPEN || require_writable(region, layout, gate).is_err() {
        return false;
    }
    let role = role(gate).filter(|_| says(layout.front.liveness, region, liveness));
    let Some(role) = role.filter(|role| liveness.tenancy(*role) == Tenancy::Vacant) else { return false };
    // The lease is the proof, not the answer above: somebody else may have taken the gate since.
    let Ok(held) = claim(owner(region, layout, gate), role, liveness) else { return false };
    // ORD own: Relaxed, the lease has ordered what the dead holder stored; heads are loaded by the writer, which we are.
    let closed = head.load(Ordering::Relaxed) != OPEN;
    head.store(OPEN, Ordering::Relaxed);
    drop(held);
    closed
}

/// A gate that is held.
pub(super) struct Gate<G> {
    pub(super) head: Shared<AtomicU64>,
    /// What stands there.
    stored: u64,
    /// How far behind it may stay while there is something to read.
    period: u64,
    index: u32,
    held: Held<G>,
}

impl<G> Gate<G> {
    /// Lets go of the versions below this one.
    #[inline(always)]
    fn store_head(&mut self, version: u64) {
        // ORD gate.free: Release -> `Writer::look_at_gates`; all that this reader did with what it lets go of.
        self.head.store(version, Ordering::Release);
        self.stored = version;
    }
}

impl<G> Drop for Gate<G> {
    fn drop(&mut self) {
        self.store_head(OPEN);
        // The owner word is freed behind this, and then the lease is.
    }
}

impl<T, L: Trust> Log<T, L> {
    /// A reader that [`try_write`](super::Writer::try_write) waits for: takes the lowest gate that is free, or whose holder is
    /// proven gone, with the lease of [`RoleId::producer`] of that number plus one.
    ///
    /// # Guarantees
    /// From its [position](GatedReader::position) on it misses nothing, as long as the writer only [tries](super::Writer::try_write) to
    /// write. It starts with the next value, or with so many of those that are there as it asked for, but not with more
    /// than [`kept`](Self::kept).
    ///
    /// # Errors
    /// [`AttachError::GatesExhausted`] if all are taken or there are none; [`AttachError::Incompatible`] if the log was created
    /// for another kind of leases, or these are of another segment ([`Liveness::covers`]), [`AttachError::Region`] if
    /// the gate cannot be written, [`AttachError::Lease`] if the system refuses one, [`AttachError::Corrupt`] if what is
    /// published cannot be.
    pub fn gated_reader<V: Liveness>(
        &self,
        start: Start,
        liveness: &V,
    ) -> Result<GatedReader<T, L, V::Lease>, AttachError> {
        let (region, layout) = (&self.region, &self.layout);
        layout.front.require_liveness(region, liveness)?;
        for taken in [false, true] {
            if taken && !proves::<V>() {
                break;
            }
            for gate in 0..layout.gates {
                let word = owner(region, layout, gate);
                // In the second pass also those that were freed meanwhile.
                if !taken && Owner::of(&word).is_some() {
                    continue;
                }
                require_writable(region, layout, gate)?;
                let Some(role) = role(gate) else { continue };
                match claim(word, role, liveness) {
                    Ok(held) => return self.join(start, gate, held),
                    Err(AttachError::RoleTaken(_) | AttachError::Lease(LeaseError::Held { .. })) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Err(AttachError::GatesExhausted { gates: layout.gates })
    }

    fn join<G>(&self, start: Start, index: u32, held: Held<G>) -> Result<GatedReader<T, L, G>, AttachError> {
        let head = head(&self.region, &self.layout, index);
        // Whatever a dead holder left there is gone when this is dropped.
        let Measure { capacity, group, .. } = self.layout.measure;
        let period = (capacity / RELEASES).max(group);
        let gate = Gate { head, stored: OPEN, period, index, held };
        let reader = self.reader(start)?;
        let mut joined = GatedReader { gate, reader };
        joined.close()?;
        Ok(joined)
    }

    /// Who holds a gate now, if anybody.
    #[must_use]
    pub fn gate_owner(&self, gate: u32) -> Option<Owner> {
        (gate < self.layout.gates).then(|| Owner::of(&owner(&self.region, &self.layout, gate)))?
    }
}

/// A reader of a log that [`try_write`](super::Writer::try_write) does not overtake; `Send`, not `Sync`, not `Clone`. `G` is its
/// lease.
///
/// Dropping it opens the gate. Killed, it leaves it closed until somebody with proof
/// [opens](super::Writer::reclaim_gates) or takes it.
pub struct GatedReader<T, L: Trust = Trusted, G = ()> {
    // In this order: opening the gate needs the region.
    pub(super) gate: Gate<G>,
    pub(super) reader: Reader<T, L>,
}

impl<T, L: Trust, G> GatedReader<T, L, G> {
    /// Steps 2 and 3: from where it would like to start, or from where nothing is lost any more.
    fn close(&mut self) -> Result<(), Corrupt> {
        // ORD gate.meet: Relaxed, the fence orders it.
        self.gate.head.store(self.reader.next, Ordering::Relaxed);
        self.gate.stored = self.reader.next;
        // ORD gate.meet: SeqCst <-> `Writer::look_at_gates`; a look that does not find the head was made when `latest` was no
        // later than what we find below.
        fence(Ordering::SeqCst);
        let latest = self.reader.refresh()?;
        let Measure { capacity, group, piece } = self.reader.track.measure;
        let safe = (latest + piece + group).saturating_sub(capacity);
        if self.reader.next < safe {
            self.reader.next = safe;
            self.gate.store_head(safe);
        }
        Ok(())
    }
}

impl<T: Pod, L: Trust, G> GatedReader<T, L, G> {
    /// The next value and its version, if there is one already. Taken, the writer may overwrite it, but it is told so only
    /// when an eighth of the capacity is taken, when there is nothing more, or [now](Self::release).
    ///
    /// # Guarantees
    /// As [`Reader::next`], but for one store now and then.
    ///
    /// # Errors
    /// As [`Reader::next`]; [`NextError::Overtaken`] only if the writer did not [ask](super::Writer::try_write).
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "an iterator could not say what was missed")]
    pub fn next(&mut self) -> Result<Option<(T, u64)>, NextError> {
        let next = self.reader.next();
        self.release_if_due(!matches!(next, Ok(Some(_))));
        next
    }

    /// As [`next`](Self::next), to where the value shall lie; for types that are too large to return by value.
    ///
    /// # Errors
    /// As [`next`](Self::next). Then `to` may hold anything.
    #[inline]
    pub fn next_into(&mut self, to: &mut T) -> Result<Option<u64>, NextError> {
        let next = self.reader.next_into(to);
        self.release_if_due(!matches!(next, Ok(Some(_))));
        next
    }

    /// The next values, as many as there are and fit; returns how many. See [`Reader::next_batch`].
    ///
    /// # Errors
    /// As [`next`](Self::next). Then `to` may hold anything.
    pub fn next_batch(&mut self, to: &mut [T]) -> Result<usize, NextError> {
        let taken = self.reader.next_batch(to);
        self.release_if_due(!matches!(taken, Ok(1..)));
        taken
    }
}

impl<T, L: Trust, G> GatedReader<T, L, G> {
    /// Lets go of the groups that are behind, if they are due or there is nothing more to take.
    #[inline(always)]
    pub(super) fn release_if_due(&mut self, nothing_more: bool) {
        let base = self.reader.track.measure.base(self.reader.next);
        if base >= self.gate.stored + self.gate.period || nothing_more && base > self.gate.stored {
            self.gate.store_head(base);
        }
    }

    /// Lets go of what is taken, now: for whoever does something else for a while before it reads on. The writer frees whole
    /// groups only, so what is taken of the last one stays.
    pub fn release(&mut self) {
        self.release_if_due(true);
    }

    /// The version that comes next.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.reader.position()
    }

    /// How many values this reader missed so far: none, unless the writer did not [ask](super::Writer::try_write).
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.reader.missed()
    }

    /// How many values are published that were neither returned nor missed; one load.
    ///
    /// # Errors
    /// [`Corrupt`] for good once the writer published what cannot be.
    pub fn lag(&mut self) -> Result<u64, Corrupt> {
        self.reader.lag()
    }

    /// Lets go of what is taken, and waits until there is a next value; see [`Reader::wait_next`].
    ///
    /// # Errors
    /// As [`Reader::wait_next`].
    #[cfg(all(feature = "std", not(loom)))]
    pub fn wait_next<V: Liveness>(&mut self, liveness: &V, timeout: Duration) -> Result<u64, WaitError> {
        self.release();
        self.reader.wait_next(liveness, timeout)
    }

    /// As `wait_next`, by a kernel of the caller's; where there is no system to ask, the only way to wait.
    ///
    /// # Errors
    /// As `wait_next`.
    pub fn wait_next_on<K: Kernel, V: Liveness>(
        &mut self,
        kernel: &K,
        liveness: &V,
        timeout: Duration,
    ) -> Result<u64, WaitError> {
        self.release();
        self.reader.wait_next_on(kernel, liveness, timeout)
    }

    /// What the gate tells the writer: the oldest version that this reader needs. A writer that waits for room need not be
    /// woken before it changes.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.gate.stored
    }

    /// The number of the gate.
    #[must_use]
    pub fn gate(&self) -> u32 {
        self.gate.index
    }

    /// This handle's name in the gate's owner word.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.gate.held.owner()
    }

    /// What made this handle useless, if anything did.
    #[must_use]
    pub fn corruption(&self) -> Option<Corrupt> {
        self.reader.corruption()
    }
}

impl<T, L: Trust, G> fmt::Debug for GatedReader<T, L, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatedReader").field("gate", &self.gate.index).finish_non_exhaustive()
    }
}
