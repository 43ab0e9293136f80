//! A control word that lies while the victim works.

use super::super::victim::{Path, Stop};
use super::{Done, Place, Script, Sweep, failed};

impl Sweep<'_> {
    pub(super) fn flip(&mut self) -> Done<()> {
        let Some(path) = self.reference(Script::Victim, true)? else {
            return Ok(());
        };
        let words = self.operation.control_words();
        let mut random = self.options.seed;
        // A lie is the same to the victim from one access to the segment to the next.
        for point in path.stops(true).into_iter().filter(|point| *point < path.last()) {
            for &word in &words {
                random = scrambled(random);
                for lie in lies(self.operation.capacity(), random) {
                    if self.row.cut {
                        return Ok(());
                    }
                    self.lie(&path, point, word, lie)?;
                }
            }
        }
        Ok(())
    }

    /// One run in which the word at `offset` lies from `point` on.
    fn lie(&mut self, path: &Path, point: usize, offset: usize, lie: Lie) -> Done<()> {
        let places = [Place { script: Script::Victim, path, point }];
        let Some(mut victim) = self.victim_at(path, point)? else {
            return Ok(());
        };
        let mut change = (0, 0);
        let replaced = self.stage.replace_word(offset, |old| {
            change = (old, lie.of(old));
            change.1
        });
        let (old, new) = change;
        if replaced.is_none() {
            return Err(self.set_up(format!("control word {offset:#x} is not within the segment")));
        }
        if old == new {
            return Ok(());
        }
        let image = self.stage.snapshot();
        let said = format!("the word at {offset:#x} changed from {old:#x} to {new:#x}");
        let stop = victim.finish().map_err(failed)?;
        if stop != Stop::Marker {
            let what = self.describe(stop);
            self.bad(&places, &format!("{said}: {what}"), &image);
            return Ok(());
        }
        drop(victim);
        self.settle_as(&places, Some(&said), |operation, stage, seen| operation.judge_flipped(stage, seen))
    }
}

/// How a control word lies.
#[derive(Clone, Copy, Debug)]
enum Lie {
    Is(u64),
    Off(u64),
}

impl Lie {
    fn of(self, old: u64) -> u64 {
        match self {
            Self::Is(value) => value,
            Self::Off(by) => old.wrapping_add(by),
        }
    }
}

/// The lies that each word tells at each instruction.
fn lies(capacity: u64, random: u64) -> [Lie; 8] {
    [
        Lie::Is(0),
        Lie::Is(1),
        Lie::Is(u64::MAX),
        Lie::Off(1),
        Lie::Off(u64::MAX),
        Lie::Off(capacity),
        Lie::Off(capacity.wrapping_neg()),
        Lie::Is(random),
    ]
}

/// The next number of a sequence that looks random (a Weyl sequence through a finalizer).
fn scrambled(state: u64) -> u64 {
    let mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
