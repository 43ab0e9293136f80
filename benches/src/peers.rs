//! The contenders, one file each.

use crate::contender::Contender;

pub mod crossbeam;
pub mod heapless;
pub mod iceoryx2;
pub mod ringbuf;
pub mod ringfire;
pub mod rtrb;
pub mod tidewire;

/// Something to be done for each contender.
pub trait Visitor {
    /// Does it for one.
    fn visit<C: Contender>(&mut self);
}

/// Shows all queues between one producer and one consumer to a visitor.
pub fn spsc(visitor: &mut impl Visitor) {
    visitor.visit::<tidewire::Tidewire<tidewire::Default>>();
    visitor.visit::<tidewire::Tidewire<tidewire::TouchOff>>();
    visitor.visit::<tidewire::Tidewire<tidewire::NoPauses>>();
    visitor.visit::<tidewire::Tidewire<tidewire::Plain>>();
    visitor.visit::<rtrb::Rtrb>();
    visitor.visit::<rtrb::RtrbSlices>();
    visitor.visit::<iceoryx2::Queue>();
    visitor.visit::<ringbuf::Ringbuf>();
    visitor.visit::<ringfire::Ringfire>();
    visitor.visit::<heapless::Heapless>();
    visitor.visit::<crossbeam::Queue>();
    visitor.visit::<crossbeam::Channel>();
}

/// The packages that the contenders come from, as the lock file names them.
pub const PACKAGES: [&str; 7] = [
    "rtrb",
    "iceoryx2-bb-lock-free",
    "ringbuf",
    "ringfire",
    "heapless",
    "crossbeam-queue",
    "crossbeam-channel",
];
