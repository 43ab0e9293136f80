//! The check that each cell passes before it is timed: a value is whole, values never go back, and the last one
//! stays.
//!
//! Every word of a value depends on its version and on its place. The writer writes without a pause, and at other
//! times leaves a value alone.

use std::hint::spin_loop;
use std::mem::ManuallyDrop;

use anyhow::ensure;

use crate::board::Board;
use crate::check::word;
use crate::crowd::{self, Crowd, Patience};
use crate::latest::contender::{CellContender, CellReader, CellWriter};
use crate::pair::Mode;

/// Versions that are written.
pub const VERSIONS: u64 = 20_000;

fn value<const W: usize>(version: u64) -> [u64; W] {
    std::array::from_fn(|place| if place == 0 { version } else { word(version, place) })
}

#[inline(never)]
fn judge<const W: usize>(found: &[u64; W], last: u64) -> anyhow::Result<u64> {
    let version = found.first().copied().unwrap_or(u64::MAX);
    ensure!(version <= VERSIONS, "expected a version up to {VERSIONS}, found {version:#x}");
    ensure!(version >= last, "expected version {last} or a later one, found {version}");
    for (place, (found, expected)) in found.iter().zip(value::<W>(version)).enumerate() {
        ensure!(
            *found == expected,
            "version {version}: expected {expected:#x} in word {place} of {W}, found {found:#x}"
        );
    }
    Ok(version)
}

/// Checks a cell with `R` readers.
///
/// # Errors
/// The first value that was not what it should be, or what the cell said.
pub fn values<C: CellContender, const R: usize, const W: usize>(
    board: &Board,
    mode: Mode,
) -> anyhow::Result<()> {
    checked::<C, W>(board, mode, R)
}

fn checked<C: CellContender, const W: usize>(
    board: &Board,
    mode: Mode,
    readers: usize,
) -> anyhow::Result<()> {
    let read = |_: usize, mut reader: C::Reader<W>| {
        let (mut buffer, mut last, mut patience) = ([0; W], 0, Patience::default());
        loop {
            // Asked before the read: what is read then must be the last value.
            let ended = board.is_done();
            if reader.read(&mut buffer) {
                last = judge(&buffer, last)?;
                if ended {
                    ensure!(last == VERSIONS, "expected the last version, {VERSIONS}, found {last}");
                    return Ok(());
                }
            } else {
                ensure!(!ended, "expected the last value, found that the cell gives up");
            }
            if last % 64 == 0 {
                patience.wait();
            }
        }
    };
    let write = |writer: C::Writer<W>| {
        // A writer that goes may take the value with it.
        let mut writer = ManuallyDrop::new(writer);
        for version in 1..=VERSIONS {
            writer.write(&value(version));
            if version % 1024 < 64 {
                for _ in 0..64 {
                    spin_loop();
                }
            }
        }
        board.done();
        Ok(())
    };
    let crowd = Crowd { many: readers, scale: None };
    crowd::run(mode, board, crowd, |readers| C::make::<W>(readers, &value(0)), read, write)
}
