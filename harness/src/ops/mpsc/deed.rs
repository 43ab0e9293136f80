//! What victims do with a queue, and in what state they find it.

/// What the victim does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Push,
    PushBatch,
    Commit,
    Abort,
    Pop,
    PopBatch,
    PopInPlace,
    Peek,
    Rescan,
    AttachProducer,
    DetachProducer,
    Reclaim,
    AttachConsumer,
    DetachConsumer,
    Create,
    CreateOver,
}

impl Deed {
    /// Messages that the deed publishes in lane 0 if it succeeds.
    pub(super) fn publishes(self) -> u64 {
        match self {
            Self::Push | Self::Commit => 1,
            Self::PushBatch => 3,
            _ => 0,
        }
    }

    /// Messages that the deed asks for.
    pub(super) fn asks(self) -> u64 {
        match self {
            Self::Pop | Self::PopInPlace | Self::Peek => 1,
            Self::PopBatch => 3,
            _ => 0,
        }
    }

    pub(super) fn pushes(self) -> bool {
        matches!(self, Self::Push | Self::PushBatch | Self::Commit | Self::Abort)
    }

    pub(super) fn pops(self) -> bool {
        matches!(self, Self::Pop | Self::PopBatch | Self::PopInPlace | Self::Peek)
    }

    pub(super) fn creates(self) -> bool {
        matches!(self, Self::Create | Self::CreateOver)
    }

    /// Whether the victim has the consumer's role, or wants it.
    pub(super) fn consumers(self) -> bool {
        self.pops() || matches!(self, Self::Rescan | Self::AttachConsumer | Self::DetachConsumer)
    }
}

/// In whose hands a lane is when the victim starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Nobody ever had it.
    New,
    /// Its owner let it go.
    Free,
    /// Its owner is dead.
    Dead,
    /// Its owner lives, and does nothing.
    Kept,
    /// The handle is at hand: for the victim, its partner, or those who go on beside it.
    Ours,
}

/// Likewise for the consumer's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    Free,
    Dead,
    Kept,
    Ours,
}

/// Who acts beside the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// Whoever is at the other end: the consumer pops, a producer pushes.
    OtherEnd,
    /// Another producer pushes.
    Producer,
    /// Somebody who wants a lane.
    Attacher,
    /// Somebody who wants the consumer's role.
    Heir,
    /// Another one who reclaims.
    Reclaimer,
}
