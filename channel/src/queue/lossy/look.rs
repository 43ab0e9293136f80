//! A look at lanes that are overwritten, without the type of their messages.

use tidewire_seqlock::log::View;
use tidewire_seqlock::table::Table;
use tidewire_shm::{Region, Untrusted};

use super::lanes::{Account, Words, split};

/// A lane as it was at some moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneLook {
    /// Messages that it keeps.
    pub(crate) capacity: u64,
    /// Those that are there and that the receiver did not say that it passed.
    pub(crate) queued: u64,
}

/// Looks at all lanes; `None` where one cannot be. Nothing is written.
pub(crate) fn look(region: Region<Untrusted>, lanes: u32) -> Vec<Option<LaneLook>> {
    let Ok((_, accounts, logs)) = split(region, lanes) else { return Vec::new() };
    let Ok(accounts) = Table::<Words, _>::open(accounts, 0) else { return Vec::new() };
    let of_lane = |(lane, log): (u32, Region<Untrusted>)| {
        let (words, _) = accounts.reader(lane).ok()?.read().ok()?;
        let account = Account::from_words(words);
        let view = View::open(log).ok()?;
        let (capacity, newest) = (view.capacity(), view.version().ok()?);
        let queued = if account.is_out { 0 } else { newest.saturating_sub(account.passed).min(capacity) };
        Some(LaneLook { capacity, queued })
    };
    (0..lanes).zip(logs).map(of_lane).collect()
}
