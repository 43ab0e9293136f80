//! What victims over rings share: where the words lie, and what happens at an attach.

use std::sync::atomic::Ordering;

use tidewire_ring::AttachError;

use super::arena::Arena;
use super::dice::Dice;
use super::victim::Tally;

/// The words of a ring with line stride, as its layout draws them.
pub(crate) const TAIL: usize = 128;
pub(crate) const HEAD: usize = 256;
pub(crate) const DATA: usize = 640;
pub(super) const POSITIONS: &[(usize, usize)] = &[(TAIL, HEAD)];
/// Positions, owners and bells.
pub(super) const CONTROL: &[usize] = &[TAIL, HEAD, 384, 512, 392, 520];

/// A handle, if the memory allowed one; else positions that will.
pub(super) fn accept<H>(
    taken: Result<H, AttachError>,
    arena: &Arena,
    dice: &mut Dice,
    tally: &mut Tally<'_>,
    capacity: u64,
    grain: u64,
) -> Option<H> {
    match taken {
        Ok(handle) => Some(handle),
        Err(error) => {
            tally.corrupt();
            if let AttachError::Corrupt(_) = error {
                reset(arena, dice, capacity, grain, (TAIL, HEAD));
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
