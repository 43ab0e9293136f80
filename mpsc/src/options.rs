//! What the creator of a queue may choose.

use tidewire_shm::{Liveness, RoleStride};

/// What becomes of messages that a consumer had in its hand when it died; chosen at creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// Nothing is lost: what a call handed out is released by a later call, so that a successor may see the last of
    /// each lane again (see [`Tuning::release_every`](crate::Tuning::release_every)). The default.
    #[default]
    AtLeastOnce,
    /// Nothing that was popped is seen twice: a call releases what it hands out before it returns, so that what it had
    /// copied out is lost if the consumer is killed inside it, or before it could use it. What is only looked at in
    /// place (a peek, a chunk, a record) is seen again until it is released.
    AtMostOnce,
}

impl Delivery {
    /// Its number in the shape line.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::AtLeastOnce => 1,
            Self::AtMostOnce => 2,
        }
    }

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        [Self::AtLeastOnce, Self::AtMostOnce].into_iter().find(|delivery| delivery.number() == number)
    }
}

/// What a creator may choose beside the capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// How many producers there can be at a time: 1 to 256.
    pub lanes: u32,
    /// What becomes of messages that a consumer had in its hand when it died.
    pub delivery: Delivery,
    /// What kind of leases the processes use ([`Liveness::KIND`]).
    pub liveness: u32,
    /// How far apart the control words of different roles lie.
    pub role_stride: RoleStride,
    /// A name for the element type, compared when the queue is opened; 0 says none.
    pub type_fingerprint: u64,
}

impl Options {
    /// The defaults: 16 lanes, at least once, no leases, line stride, no type fingerprint.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lanes: 16,
            delivery: Delivery::AtLeastOnce,
            liveness: 0,
            role_stride: RoleStride::Line,
            type_fingerprint: 0,
        }
    }

    /// Chooses how many producers there can be at a time.
    #[must_use]
    pub const fn lanes(mut self, lanes: u32) -> Self {
        self.lanes = lanes;
        self
    }

    /// Chooses what becomes of messages that a consumer had in its hand when it died.
    #[must_use]
    pub const fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }

    /// Chooses the kind of leases that everybody who attaches must use.
    #[must_use]
    pub const fn liveness<V: Liveness>(mut self) -> Self {
        self.liveness = V::KIND;
        self
    }

    /// Chooses the role stride.
    #[must_use]
    pub const fn role_stride(mut self, stride: RoleStride) -> Self {
        self.role_stride = stride;
        self
    }

    /// Names the element type.
    #[must_use]
    pub const fn type_fingerprint(mut self, fingerprint: u64) -> Self {
        self.type_fingerprint = fingerprint;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
