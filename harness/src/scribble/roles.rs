//! What victims over rings share: where the words lie, and what happens at an attach.

use std::sync::atomic::Ordering;

use tidewire_ring::{AttachError, Options};
use tidewire_shm::RoleStride;

use super::arena::Arena;
use super::dice::Dice;
use super::victim::Tally;

/// The words of a ring with line stride, as its layout draws them.
pub(crate) const TAIL: usize = 128;
pub(crate) const HEAD: usize = 256;
pub(crate) const DATA: usize = 640;

/// Where the words of a ring lie.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) stride: RoleStride,
    /// What is published, and what is freed.
    pub(crate) positions: [(usize, usize); 1],
    /// Positions, owners and bells.
    pub(crate) control: [usize; 6],
    /// The kind of leases that the ring was made for.
    pub(crate) leases: usize,
}

impl Places {
    /// With line stride.
    pub(crate) const LINE: Self = Self {
        stride: RoleStride::Line,
        positions: [(TAIL, HEAD)],
        control: [TAIL, HEAD, 384, 512, 392, 520],
        leases: 400,
    };
    /// With page stride.
    pub(crate) const PAGE: Self = Self {
        stride: RoleStride::Page,
        positions: [(4096, 8448)],
        control: [4096, 8448, 4224, 8576, 4232, 8584],
        leases: 128,
    };

    /// Those of a stride.
    pub(crate) const fn of(page: bool) -> &'static Self {
        if page { &Self::PAGE } else { &Self::LINE }
    }

    /// Tail and head.
    pub(crate) fn pair(&self) -> (usize, usize) {
        let [pair] = self.positions;
        pair
    }

    pub(crate) fn options(&self) -> Options {
        Options::new().role_stride(self.stride)
    }
}

/// Whether the memory said that the ring was made for leases. Then it says so no more, to whoever opens it anew.
pub(super) fn asks_for_leases<H>(
    taken: &Result<H, AttachError>,
    arena: &Arena,
    tally: &mut Tally<'_>,
    places: &Places,
) -> bool {
    let asks = matches!(taken, Err(AttachError::LeaseRequired { .. }));
    if asks {
        tally.corrupt();
        // ORD hostile: Relaxed, races with the hostile process in any case; whoever opens the ring acquires its header.
        arena.word(places.leases).store(0, Ordering::Relaxed);
    }
    asks
}

/// A handle, if the memory allowed one; else positions that will.
pub(super) fn accept<H>(
    taken: Result<H, AttachError>,
    arena: &Arena,
    dice: &mut Dice,
    tally: &mut Tally<'_>,
    places: &Places,
    (capacity, grain): (u64, u64),
) -> Option<H> {
    match taken {
        Ok(handle) => Some(handle),
        Err(error) => {
            tally.corrupt();
            if let AttachError::Corrupt(_) = error {
                reset(arena, dice, capacity, grain, places.pair());
            }
            None
        }
    }
}

/// Writes positions that are possible: some near zero, some about to wrap, some anywhere.
pub(crate) fn reset(arena: &Arena, dice: &mut Dice, capacity: u64, grain: u64, (tail, head): (usize, usize)) {
    let base = match dice.below(4) {
        0 => 0,
        1 => 0_u64.wrapping_sub(capacity / 2),
        _ => dice.word(),
    };
    let base = base & !(grain - 1);
    let filled = (dice.word() % (capacity + 1)) & !(grain - 1);
    // ORD hostile: Relaxed, races with the hostile process in any case; the victim acquires what it uses.
    arena.word(head).store(base, Ordering::Relaxed);
    arena.word(tail).store(base.wrapping_add(filled), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewire_ring::fixed::Ring;
    use tidewire_shm::Untrusted;

    /// The words are drawn a second time above: what a ring does must be seen in them.
    #[test]
    fn the_words_lie_where_the_rings_have_them() {
        for places in [&Places::LINE, &Places::PAGE] {
            let bytes = Ring::<u64, Untrusted>::bytes(4, &places.options()).unwrap();
            let arena = Arena::new(bytes.next_multiple_of(128)).unwrap();
            let ring = Ring::<u64, _>::create(arena.region().unwrap(), 4, &places.options()).unwrap();
            let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
            let (tail, head) = places.pair();
            producer.push_slice(&[1, 2, 3]).unwrap();
            assert_eq!(consumer.pop(), Ok(1));
            consumer.release();
            let [_, _, producers, consumers, ..] = places.control;
            let id = u64::from(std::process::id());
            let found =
                [tail, head, producers, consumers].map(|word| arena.word(word).load(Ordering::Relaxed));
            assert_eq!(found, [3, 1, 1 << 32 | id, 1 << 32 | id], "{places:?}");
        }
    }
}
