//! The check of cells finds what it is for.

use std::time::Duration;

use tidewire_benches::latest::check;
use tidewire_benches::latest::contender::{CellContender, CellReader, CellWriter};
use tidewire_benches::pair::{self, Mode, THREADS};
use tidewire_benches::peers::locks::ParkingMutex;
use tidewire_benches::peers::memcpy::Memcpy;

type Lock<const W: usize> = <ParkingMutex as CellContender>::Reader<W>;

/// What a broken cell does.
const TEAR: u8 = 0;
const BACK: u8 = 1;
const LOSE_LAST: u8 = 2;
const GIVE_UP: u8 = 3;

/// A right cell whose ends go wrong.
struct Broken<const FAULT: u8>;

struct BrokenReader<const W: usize, const FAULT: u8> {
    lock: Lock<W>,
    reads: u64,
    old: [u64; W],
}

struct BrokenWriter<const W: usize, const FAULT: u8>(Lock<W>);

impl<const FAULT: u8> CellContender for Broken<FAULT> {
    const NAME: &'static str = "broken";
    type Writer<const W: usize> = BrokenWriter<W, FAULT>;
    type Reader<const W: usize> = BrokenReader<W, FAULT>;

    fn modes(_: usize) -> &'static [Mode] {
        THREADS
    }

    fn make<const W: usize>(
        readers: usize,
        initial: &[u64; W],
    ) -> anyhow::Result<(Vec<Self::Reader<W>>, Self::Writer<W>)> {
        let (locks, writer) = ParkingMutex::make(readers, initial)?;
        let reader = |lock| BrokenReader { lock, reads: 0, old: *initial };
        Ok((locks.into_iter().map(reader).collect(), BrokenWriter(writer)))
    }
}

impl<const W: usize, const FAULT: u8> CellWriter<W> for BrokenWriter<W, FAULT> {
    fn write(&mut self, value: &[u64; W]) {
        let last = value.first() == Some(&check::VERSIONS);
        if !(FAULT == LOSE_LAST && last) {
            CellWriter::write(&mut self.0, value);
        }
    }
}

impl<const W: usize, const FAULT: u8> CellReader<W> for BrokenReader<W, FAULT> {
    fn read(&mut self, to: &mut [u64; W]) -> bool {
        self.reads += 1;
        let good = CellReader::read(&mut self.lock, to);
        let written = to.first().copied().unwrap_or(0);
        match FAULT {
            TEAR if written > check::VERSIONS / 2 => {
                if let Some(last) = to.last_mut() {
                    *last ^= 1;
                }
            }
            BACK if written > check::VERSIONS / 2 && self.reads.is_multiple_of(2) => *to = self.old,
            GIVE_UP if written == check::VERSIONS => return false,
            _ => {}
        }
        good
    }
}

fn is_caught<C: CellContender>(expected: &str) {
    let result =
        pair::sample(Duration::from_secs(180), |board| check::values::<C, 1, 32>(board, Mode::Threads));
    let error = result.expect_err("a broken cell passed").to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_torn_value_is_caught() {
    is_caught::<Broken<TEAR>>("in word 31 of 32");
}

#[test]
fn a_value_that_goes_back_is_caught() {
    is_caught::<Broken<BACK>>("or a later one, found 0");
}

#[test]
fn a_lost_last_value_is_caught() {
    is_caught::<Broken<LOSE_LAST>>("expected the last version, 20000, found 19999");
}

#[test]
fn a_cell_that_gives_up_is_caught() {
    is_caught::<Broken<GIVE_UP>>("found that the cell gives up");
}

/// The check must find what a copy without a protocol does; of a few attempts, as it is a race.
#[test]
fn a_copy_without_a_protocol_is_caught() {
    let caught = (0..20).any(|_| {
        let result = pair::sample(Duration::from_secs(180), |board| {
            check::values::<Memcpy, 1, 512>(board, Mode::Threads)
        });
        result.is_err()
    });
    assert!(caught, "twenty checks of torn values passed");
}
