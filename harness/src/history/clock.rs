//! Stamps that processes on different processors can compare, where the machine has them.

use std::fs;
use std::sync::OnceLock;
use std::sync::atomic::{Ordering, fence};

use serde::{Deserialize, Serialize};

/// Where stamps come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Clock {
    /// The processor's time-stamp counter.
    Counter,
    /// Nowhere: every stamp is 0.
    None,
}

impl Clock {
    /// Ticks by which two stamps must differ to count as one before the other: at least 10 us at 5 GHz. Stores are seen
    /// when the later stamp is read; this is for counters of two processors that are not quite the same.
    pub(crate) const SETTLE: u64 = 50_000;

    /// The counter, if the kernel says that it runs steadily and never stops, and uses it itself.
    pub(crate) fn of_this_machine() -> Self {
        static CLOCK: OnceLock<Clock> = OnceLock::new();
        *CLOCK.get_or_init(|| {
            let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            let steady = |flags: &str| {
                ["constant_tsc", "nonstop_tsc", "rdtscp"]
                    .iter()
                    .all(|wanted| flags.split_whitespace().any(|flag| flag == *wanted))
            };
            // Where the kernel itself does not trust the counter, neither do we.
            let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
            let trusted = is_trusted(fs::read_to_string(path).unwrap_or_default().trim());
            let mut flags = text.lines().filter(|line| line.starts_with("flags")).peekable();
            let known = cfg!(target_arch = "x86_64") && flags.peek().is_some();
            if known && trusted && flags.all(steady) { Self::Counter } else { Self::None }
        })
    }

    /// For reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Counter => "real time by the time-stamp counter",
            Self::None => "no steady time-stamp counter: Empty, Full and real time are not checked",
        }
    }

    /// A stamp before an operation: not later than its first instruction.
    #[inline(always)]
    pub(crate) fn before(self) -> u64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: reads a counter; every x86-64 processor has it.
            Self::Counter => unsafe { core::arch::x86_64::_rdtsc() },
            _ => 0,
        }
    }

    /// A stamp after an operation: not earlier than its last load, nor than its stores are seen by others.
    ///
    /// Stores leave the processor's buffer in order. Behind a few dozen that each wait for a line from far away, the
    /// last one was seen more than 18 us after it was executed.
    #[inline(always)]
    pub(crate) fn after(self) -> u64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Counter => {
                // ORD clock: SeqCst, empties this processor's store buffer; pairs with nothing.
                fence(Ordering::SeqCst);
                let mut processor = 0;
                // SAFETY: reads a counter; that the processor has it was seen when the clock was chosen.
                unsafe { core::arch::x86_64::__rdtscp(&raw mut processor) }
            }
            _ => 0,
        }
    }
}

/// Whether a clock source of the kernel is the counter, or a hypervisor's page over it.
fn is_trusted(source: &str) -> bool {
    matches!(source, "tsc" | "kvm-clock") || source.starts_with("hyperv")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sources_over_the_counter_are_trusted() {
        let trusted = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page"];
        assert!(trusted.into_iter().all(is_trusted));
        assert!(!["", "hpet", "acpi_pm", "xen", "jiffies", "tsc-early"].into_iter().any(is_trusted));
    }
}
