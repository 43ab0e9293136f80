//! What all ends of a channel stand on: its segment, with a roster and a queue in it.

use std::sync::Arc;
use std::time::Duration;

use tidewire_shm::bell::{BellMode, Roster, SleepOptions, System};
use tidewire_shm::{
    Arrival, COMPOSITE_NUMBERS, Composite, DeathNotice, ForkMark, Incompatible, Liveness, Name, Presence,
    Region, RoleId, Segment, SegmentLeases, StalePolicy, Tenancy, Untrusted,
};

use crate::error::OpenError;
use crate::message::Difference;
use crate::options::Options;
use crate::typed::Leaving;

/// How often an end that found another in the middle of coming or going looks again.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// Opens what lies under a name as its owner. What was left by others who are all gone, and cannot be used, is begun anew.
/// One that is taken is tried again a few times: who leaves says so a moment before the role is free.
pub(crate) fn own<R>(
    options: &Options,
    open: impl Fn(&Options) -> Result<(bool, Result<R, OpenError>), OpenError>,
) -> Result<R, OpenError> {
    for _ in 0..3 {
        match own_now(options, &open) {
            Err(OpenError::Taken { .. }) => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
    own_now(options, &open)
}

fn own_now<R>(
    options: &Options,
    open: &impl Fn(&Options) -> Result<(bool, Result<R, OpenError>), OpenError>,
) -> Result<R, OpenError> {
    match open(options)? {
        // Nobody is there whom it could serve, and a role that somebody takes at this moment is no fault of the memory.
        (true, Err(error)) if !matches!(error, OpenError::Taken { .. } | OpenError::Lease(_)) => {
            open(&options.clone().stale(StalePolicy::Recreate))?.1
        }
        (_, opened) => opened,
    }
}

/// Tries a few times to take one of several places: whoever frees that of a dead one has it for a moment.
pub(crate) fn take_a_place<R>(mut open: impl FnMut() -> Result<R, OpenError>) -> Result<R, OpenError> {
    for _ in 0..3 {
        match open() {
            Err(OpenError::Exhausted { .. }) => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
    open()
}

/// Tries to take what somebody has, until it is free or the time is over.
pub(crate) fn take_over<R>(
    time: Duration,
    mut open: impl FnMut() -> Result<R, OpenError>,
) -> Result<R, OpenError> {
    let until = crate::rest::Until::after(time);
    loop {
        match open() {
            Err(OpenError::Taken { .. }) if !until.is_over() => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
}

/// What a pattern is, as its creator writes it and all others compare it.
pub(crate) struct Plan<'p> {
    /// The kind of the composite.
    pub(crate) kind: u32,
    /// Of the types of messages; 0 for bytes.
    pub(crate) fingerprint: u64,
    /// The types, in words.
    pub(crate) text: String,
    pub(crate) numbers: [u64; COMPOSITE_NUMBERS],
    /// Entries of the roster: whoever owns the channel, and all who may connect.
    pub(crate) entries: u32,
    /// Bytes of the parts behind the roster.
    pub(crate) parts: Vec<usize>,
    pub(crate) options: &'p Options,
}

/// A segment that was opened or created.
pub(crate) struct Ground {
    pub(crate) segment: Segment,
    pub(crate) leases: Arc<SegmentLeases>,
    pub(crate) presence: Option<Presence>,
    pub(crate) numbers: [u64; COMPOSITE_NUMBERS],
    pub(crate) roster: Roster<Untrusted>,
    pub(crate) parts: Vec<Region<Untrusted>>,
    pub(crate) mark: ForkMark,
    /// Whether it was found without anybody in it.
    pub(crate) adopted: bool,
}

impl std::fmt::Debug for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ground").field("segment", &self.segment).finish_non_exhaustive()
    }
}

type Fill<'f> = &'f mut dyn FnMut(Vec<Region<Untrusted>>) -> Result<(), OpenError>;

impl Plan<'_> {
    fn composite(&self) -> Composite {
        let parts = [&[tidewire_shm::bell::roster_bytes(self.entries)], self.parts.as_slice()].concat();
        let (kind, type_fingerprint) = (self.kind, self.fingerprint);
        Composite {
            kind,
            type_fingerprint,
            numbers: self.numbers,
            text: self.text.clone().into_bytes(),
            parts,
        }
    }

    /// Writes a new one.
    fn init(&self, region: Region<Untrusted>, fill: Fill<'_>) -> Result<(), OpenError> {
        let mode = if self.options.fence { BellMode::Fence } else { BellMode::choose(&System) };
        self.composite().create(region, |mut parts| {
            let behind = parts.split_off(1);
            for region in parts {
                Roster::create(region, self.entries, mode)?;
            }
            fill(behind)
        })
    }

    /// In memory of its own, for this process and those that it is handed to.
    pub(crate) fn anonymous(&self, fill: Fill<'_>) -> Result<Segment, OpenError> {
        let segment = Segment::anonymous_with(self.composite().bytes(), &self.options.segment_options())?;
        self.init(segment.region(), fill)?;
        Ok(segment)
    }

    /// Under a name: the one that is used, or a new one, or one that nobody uses any more.
    pub(crate) fn join(&self, name: &str, fill: Fill<'_>) -> Result<Ground, OpenError> {
        let options = self.options.segment_options();
        let bytes = self.composite().bytes();
        let mut policy = self.options.stale;
        for _ in 0..ATTEMPTS {
            let mut failed = None;
            let joined = Segment::join_with(name, bytes, policy, &options, |region| {
                self.init(region, fill).map_err(|error| {
                    let text = error.to_string();
                    failed = Some(error);
                    text.into()
                })
            });
            let joined = match (joined, failed) {
                (Ok(joined), _) => joined,
                (Err(_), Some(error)) => return Err(error),
                // What nobody uses and nobody can read is no loss.
                (
                    Err(
                        tidewire_shm::JoinError::NotAdoptable { .. }
                        | tidewire_shm::JoinError::OtherBoot { .. },
                    ),
                    None,
                ) => {
                    policy = StalePolicy::Recreate;
                    continue;
                }
                (Err(error), None) => return Err(error.into()),
            };
            let adopted = joined.arrival == Arrival::Adopted;
            // What was made here and cannot be opened goes again, after all that stands on it.
            let made = joined.arrival == Arrival::Created;
            let mut leaving = made.then(|| Leaving::from(&joined.segment, self.options));
            let opened = self.open(joined.segment, Some(joined.presence));
            if let Some(leaving) = &mut leaving {
                leaving.keep = opened.is_ok();
            }
            drop(leaving);
            match opened.map(|ground| Ground { adopted, ..ground }) {
                // Nobody is there whom it could serve.
                Err(
                    OpenError::Incompatible(_)
                    | OpenError::Types { .. }
                    | OpenError::Bell(_)
                    | OpenError::Options { .. },
                ) if adopted => {
                    policy = StalePolicy::Recreate;
                }
                done => return done,
            }
        }
        Err(OpenError::Options {
            reason: format!("expected \"{name}\" to stay, found it replaced again and again"),
        })
    }

    /// Looks at what somebody created.
    pub(crate) fn open(&self, segment: Segment, presence: Option<Presence>) -> Result<Ground, OpenError> {
        let (found, mut parts) = Composite::open(segment.region(), self.kind)?;
        if found.type_fingerprint != self.fingerprint {
            return Err(OpenError::Types { difference: Difference::between(&self.text, &found.text) });
        }
        if parts.len() != self.parts.len() + 1 {
            let (expected, found) = (self.parts.len() as u64 + 1, parts.len() as u64);
            return Err(Incompatible::new(tidewire_shm::Field::Capacity, expected, found).into());
        }
        let behind = parts.split_off(1);
        let region = parts.pop().ok_or(Incompatible::new(tidewire_shm::Field::Capacity, 1, 0))?;
        let entries = u32::try_from(region.len() / 128).unwrap_or(0).saturating_sub(1);
        let entries = found
            .numbers
            .first()
            .and_then(|most| u32::try_from(*most).ok())
            .map_or(0, |most| most.saturating_add(1).min(entries));
        let roster = Roster::open(region, entries)?;
        let leases = Arc::new(segment.leases()?);
        let mark = ForkMark::here()?;
        let (numbers, adopted) = (found.numbers, false);
        Ok(Ground { segment, leases, presence, numbers, roster, parts: behind, mark, adopted })
    }

    /// Opens what somebody else created under a name, if its owner is there.
    pub(crate) fn find(&self, name: &str) -> Result<Ground, OpenError> {
        let segment = Segment::open_with(name, &self.options.segment_options())?;
        // Before its types are compared: what nobody owns may be of a version that nobody runs any more.
        if segment.leases()?.tenancy(RoleId::CONSUMER) == Tenancy::Vacant {
            return Err(OpenError::NotFound { name: name.to_owned() });
        }
        let ground = self.open(segment, None)?;
        // Both: one that died says that it is there, and one that is on its way has the lease already.
        if !ground.roster.entry(0).present || ground.leases.tenancy(RoleId::CONSUMER) == Tenancy::Vacant {
            return Err(OpenError::NotFound { name: name.to_owned() });
        }
        Ok(ground)
    }

    /// As [`find`](Self::find), and waits for the owner to come.
    pub(crate) fn find_in(&self, name: &str, time: Duration) -> Result<Ground, OpenError> {
        Name::new(name).map_err(tidewire_shm::SegmentError::from)?;
        let until = crate::rest::Until::after(time);
        loop {
            match self.find(name) {
                Err(OpenError::NotFound { .. }) if until.is_over() => {
                    return Err(OpenError::TimedOut { name: name.to_owned() });
                }
                Err(OpenError::NotFound { .. }) => std::thread::sleep(PAUSE),
                done => return done,
            }
        }
    }
}

impl Ground {
    /// Where the death notice of this process is found, for an entry. Without one the others find out by asking for the
    /// lease.
    pub(crate) fn prepare_to_attend(&self) -> [u64; 2] {
        DeathNotice::own().and_then(DeathNotice::address).map_or([0; 2], |address| address.to_words())
    }

    /// Says that whoever holds a role is there.
    pub(crate) fn attend(
        &self,
        entry: u32,
        options: &SleepOptions,
    ) -> Result<tidewire_shm::bell::Attendance<System, Untrusted>, OpenError> {
        Ok(self.roster.attend(entry, self.prepare_to_attend(), System, options)?)
    }
}
