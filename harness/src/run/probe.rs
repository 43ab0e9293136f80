//! The raw round trip of one cache line between the two sides: what the machine can do in this very minute.

use std::time::{Duration, Instant};

use tidewire_shm::sync::{AtomicU64, Ordering};

use super::side::Side;

/// Trips that are counted, after a tenth as many that are not.
const TRIPS: usize = 4000;
const WARM: usize = TRIPS / 10;
/// No longer than this, however slow the trips are.
const LONGEST: Duration = Duration::from_millis(500);
/// What says that there are no more trips.
const OVER: u64 = u64::MAX;

/// Sends the line there and back; nanoseconds, the mean of the lowest nine tenths.
pub(crate) fn ask(side: &Side<'_>, line: &AtomicU64) -> Option<f64> {
    let began = Instant::now();
    let mut trips = Vec::with_capacity(TRIPS);
    for trip in 0..(WARM + TRIPS) as u64 {
        let sent = side.clock.ticks();
        // ORD run.ping: Release -> `answer`; nothing but the word itself.
        line.store(2 * trip + 1, Ordering::Release);
        let mut fruitless = 0;
        // ORD run.ping: Acquire <- `answer`; nothing but the word itself.
        while line.load(Ordering::Acquire) != 2 * trip + 2 {
            side.wait(&mut fruitless);
        }
        let back = side.clock.ticks();
        if trip >= WARM as u64 {
            trips.push(back.wrapping_sub(sent));
        }
        if trip % 256 == 255 && began.elapsed() >= LONGEST {
            break;
        }
    }
    // ORD run.ping: Release -> `answer`; nothing but the word itself.
    line.store(OVER, Ordering::Release);
    mean_of_lowest(&mut trips).map(|ticks| ticks * side.clock.ns_per_tick())
}

/// Sends the line back until there are no more trips.
pub(crate) fn answer(side: &Side<'_>, line: &AtomicU64) {
    let mut fruitless = 0;
    loop {
        // ORD run.ping: Acquire <- `ask`; nothing but the word itself.
        let word = line.load(Ordering::Acquire);
        if word == OVER {
            return;
        }
        if word % 2 == 1 {
            // ORD run.ping: Release -> `ask`; nothing but the word itself.
            line.store(word + 1, Ordering::Release);
            fruitless = 0;
        } else {
            side.wait(&mut fruitless);
        }
    }
}

/// The mean of the lowest nine tenths: trips that an interrupt stretched say nothing about the line.
#[expect(clippy::cast_precision_loss, reason = "a mean")]
fn mean_of_lowest(trips: &mut [u64]) -> Option<f64> {
    trips.sort_unstable();
    let lowest = trips.get(..(trips.len() * 9).div_ceil(10)).filter(|lowest| !lowest.is_empty())?;
    Some(lowest.iter().sum::<u64>() as f64 / lowest.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::mean_of_lowest;

    #[test]
    fn the_highest_tenth_does_not_count() {
        let mut trips: Vec<u64> = (1..=9).chain([1_000_000]).collect();
        assert_eq!(mean_of_lowest(&mut trips), Some(5.0));
        assert_eq!(mean_of_lowest(&mut []), None);
    }
}
