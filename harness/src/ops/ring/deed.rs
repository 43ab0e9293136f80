//! What victims do with a ring.

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
    AttachProducer,
    AttachConsumer,
    DetachProducer,
    DetachConsumer,
    ReplaceProducer,
    ReplaceConsumer,
    Create,
    CreateOver,
}

impl Deed {
    /// Messages that the deed publishes if it succeeds.
    pub(super) fn publishes(self) -> u64 {
        match self {
            Self::Push | Self::Commit => 1,
            Self::PushBatch => 3,
            _ => 0,
        }
    }

    /// Messages that the deed consumes at most.
    pub(super) fn consumes(self) -> u64 {
        match self {
            Self::Pop | Self::PopInPlace => 1,
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

    pub(super) fn attaches(self) -> bool {
        matches!(self, Self::AttachProducer | Self::AttachConsumer)
    }

    pub(super) fn detaches(self) -> bool {
        matches!(self, Self::DetachProducer | Self::DetachConsumer)
    }

    pub(super) fn replaces(self) -> bool {
        matches!(self, Self::ReplaceProducer | Self::ReplaceConsumer)
    }

    pub(super) fn creates(self) -> bool {
        matches!(self, Self::Create | Self::CreateOver)
    }

    /// Whether the deed is the consumer's.
    pub(super) fn consumers(self) -> bool {
        self.pops() || matches!(self, Self::AttachConsumer | Self::DetachConsumer | Self::ReplaceConsumer)
    }
}
