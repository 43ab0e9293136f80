//! How a writer waits for room, and how a reader with a gate wakes it.
//!
//! A writer that is refused sleeps on the low half of the head that is furthest behind, as a futex. Nobody is told: it writes
//! nothing, and a sleep ends by itself after 50 µs, later ones after longer, 1 ms in the end. So readers need not do anything
//! for it; one that [wakes](GatedReader::wake_writer_on) it when its head has changed makes that faster. Every 10 ms the
//! writer asks whether the reader of that gate is gone, and opens it if that is proven.
//!
//! The word is loaded before the look that says that there is no room, and compared by the kernel as the sleep begins: a head that
//! was stored since keeps the writer awake, and a wake that comes later finds it asleep.

use core::time::Duration;

use tidewire_shm::bell::{Kernel, Place, UNWATCHED_SLICE};
use tidewire_shm::sync::{Ordering, spin_hint};
use tidewire_shm::{Liveness, Trust};

use super::{GatedReader, LogFull, Writer, gate};
use crate::role::low;

const FIRST_POLL_NS: u64 = 50_000;
const LAST_POLL_NS: u64 = 1_000_000;

impl<T, L: Trust, G> Writer<T, L, G> {
    /// Waits until [`try_write`](Self::try_write) has room for a value, not longer than that; opens the gate that it waits
    /// for if its reader is proven dead.
    ///
    /// # Guarantees
    /// It spins for some microseconds and then sleeps, for at most 1 ms at a time, and writes nothing. It returns at most one
    /// sleep after the time is over, whatever a peer does.
    ///
    /// # Errors
    /// [`LogFull`] names the gate that is still furthest behind when the time is over.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use tidewire_seqlock::log::{Log, LogFull, Options, Start};
    /// use tidewire_shm::{Region, Unleased};
    ///
    /// let options = Options::new(4).gates(1);
    /// let log = Log::create(Region::heap(Log::<u64>::bytes(&options)?)?, &options)?;
    /// let mut writer = log.writer(&Unleased)?;
    /// let mut reader = log.gated_reader(Start::Next, &Unleased)?;
    /// (0..4).try_for_each(|value| writer.try_write(&value).map(drop))?;
    /// assert_eq!(writer.wait_room(&Unleased, Duration::from_millis(1)), Err(LogFull { gate: 0 }));
    /// let reading = std::thread::spawn(move || {
    ///     let next = reader.next();
    ///     reader.wake_writer();
    ///     next
    /// });
    /// writer.wait_room(&Unleased, Duration::from_secs(60))?;
    /// assert_eq!(writer.try_write(&4)?, 5);
    /// # assert_eq!(reading.join().unwrap()?, Some((0, 1)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(all(feature = "std", not(loom)))]
    pub fn wait_room<V: Liveness>(&mut self, liveness: &V, timeout: Duration) -> Result<(), LogFull> {
        self.wait_room_on(&tidewire_shm::bell::System, liveness, timeout)
    }

    /// As `wait_room`, by a kernel of the caller's; where there is no system to ask, the only way to wait.
    ///
    /// # Errors
    /// As `wait_room`.
    pub fn wait_room_on<K: Kernel, V: Liveness>(
        &mut self,
        kernel: &K,
        liveness: &V,
        timeout: Duration,
    ) -> Result<(), LogFull> {
        let Err(mut full) = self.has_room() else { return Ok(()) };
        if timeout.is_zero() {
            return Err(full);
        }
        let end =
            u64::try_from(timeout.as_nanos()).ok().and_then(|timeout| kernel.now_ns().checked_add(timeout));
        for _ in 0..kernel.spins() {
            spin_hint();
            if self.has_room().is_ok() {
                return Ok(());
            }
        }
        let (mut longest, mut next_question) = (FIRST_POLL_NS, 0);
        loop {
            let now = kernel.now_ns();
            let left = end.map_or(u64::MAX, |end| end.saturating_sub(now));
            if left == 0 {
                return Err(full);
            }
            if now >= next_question {
                gate::reclaim(&self.region, &self.layout, full.gate, liveness);
                next_question =
                    now.saturating_add(u64::try_from(UNWATCHED_SLICE.as_nanos()).unwrap_or(u64::MAX));
            }
            let head = gate::head(&self.region, &self.layout, full.gate);
            // ORD advice: Relaxed, hands nothing over; the look comes after it and sees no less.
            let expected = low(head.load(Ordering::Relaxed));
            match self.has_room() {
                Ok(()) => return Ok(()),
                Err(now) if now == full => {
                    // Whatever ended it, the look comes next.
                    let _nap = kernel.sleep(Place::LowHalf(&head), expected, longest.min(left));
                }
                // Another gate has fallen behind.
                Err(now) => full = now,
            }
            longest = (2 * longest).min(LAST_POLL_NS);
        }
    }

    /// Whether one value can be written.
    fn has_room(&mut self) -> Result<(), LogFull> {
        let next = self.published + 1;
        if self.track.measure.opens(next) { self.require_room(next) } else { Ok(()) }
    }
}

impl<T, L: Trust, G> GatedReader<T, L, G> {
    /// Wakes a writer that [waits](Writer::wait_room) for this reader: worth its system call when [`head`](Self::head) has
    /// changed.
    #[cfg(all(feature = "std", not(loom)))]
    pub fn wake_writer(&self) {
        self.wake_writer_on(&tidewire_shm::bell::System);
    }

    /// As `wake_writer`, by a kernel of the caller's, which is that of the writer.
    pub fn wake_writer_on<K: Kernel>(&self, kernel: &K) {
        // Whom it found makes no difference: there may be none.
        let _found = kernel.wake(Place::LowHalf(&self.gate.head));
    }
}
