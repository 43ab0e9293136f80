//! The contenders, one file each.

use crate::cells::Group;
use crate::contender::Contender;
use crate::latest::contender::CellContender;
use crate::message::contender::{Layer, Requests};
use crate::mpsc::contender::ManyContender;

pub mod aeron_style;
pub mod arc_swap;
pub mod atomic_cell;
pub mod block;
#[cfg(feature = "peers-cpp")]
pub mod cpp;
pub mod crossbeam;
pub mod disruptor;
pub mod flume;
pub mod heapless;
pub mod iceoryx2;
pub mod kanal;
pub mod left_right;
pub mod locks;
pub mod memcpy;
pub mod message;
pub mod parts;
pub mod ringbuf;
pub mod ringfire;
pub mod rtrb;
pub mod seqlock;
pub mod std_channel;
pub mod thingbuf;
pub mod tidewire;
pub mod tidewire_cell;
pub mod tidewire_mpsc;
pub mod triple_buffer;

/// Something to be done for each contender.
pub trait Visitor {
    /// Does it for one.
    fn visit<C: Contender>(&mut self);
}

/// Something to be done for each queue of many producers.
pub trait ManyVisitor {
    /// Does it for one.
    fn visit<C: ManyContender>(&mut self);
}

/// Something to be done for each cell.
pub trait CellVisitor {
    /// Does it for one.
    fn visit<C: CellContender>(&mut self);
}

/// Shows all queues between one producer and one consumer to a visitor, the limit last.
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
    #[cfg(feature = "peers-cpp")]
    {
        visitor.visit::<cpp::BoostSpsc>();
        visitor.visit::<cpp::ReaderWriter>();
    }
    visitor.visit::<block::Block>();
}

/// Shows all queues between many producers and one consumer to a visitor.
pub fn mpsc(visitor: &mut impl ManyVisitor) {
    visitor.visit::<tidewire_mpsc::Lanes<tidewire_mpsc::Default>>();
    visitor.visit::<tidewire_mpsc::Lanes<tidewire_mpsc::Plain>>();
    visitor.visit::<tidewire_mpsc::Lanes<tidewire_mpsc::EqualMemory>>();
    visitor.visit::<tidewire_mpsc::Ordered>();
    visitor.visit::<aeron_style::AeronStyle>();
    visitor.visit::<rtrb::Bundle>();
    visitor.visit::<crossbeam::Queue>();
    visitor.visit::<crossbeam::Unbounded>();
    visitor.visit::<crossbeam::Channel>();
    visitor.visit::<thingbuf::ByReference>();
    visitor.visit::<thingbuf::ByValue>();
    visitor.visit::<disruptor::Disruptor>();
    visitor.visit::<std_channel::StdChannel>();
    visitor.visit::<ringfire::Multiplexer>();
    visitor.visit::<flume::Flume>();
    visitor.visit::<kanal::Kanal>();
    #[cfg(feature = "peers-cpp")]
    visitor.visit::<cpp::Concurrent>();
}

/// Shows all cells to a visitor, the limit last.
pub fn latest(visitor: &mut impl CellVisitor) {
    visitor.visit::<tidewire_cell::Latest>();
    visitor.visit::<triple_buffer::TripleBuffer>();
    visitor.visit::<seqlock::Seqlock>();
    visitor.visit::<atomic_cell::Cell>();
    visitor.visit::<iceoryx2::Cell>();
    visitor.visit::<left_right::LeftRight>();
    visitor.visit::<arc_swap::Swap>();
    visitor.visit::<locks::ParkingRwLock>();
    visitor.visit::<locks::ParkingMutex>();
    visitor.visit::<locks::StdRwLock>();
    visitor.visit::<memcpy::Memcpy>();
}

/// The names of our queues of many producers; the first is the default, the fourth has one order for all producers.
pub const LANES: [&str; 6] = [
    "tidewire lanes",
    "tidewire lanes, plain",
    "tidewire lanes, equal memory",
    "tidewire ordered",
    "tidewire lanes, page stride",
    "tidewire lanes, in parts",
];
/// The names of our cells; the first is the default.
pub const CELLS: [&str; 3] = ["tidewire cell", "tidewire cell, page stride", "tidewire cell, in parts"];

/// What is built of ours.
pub const BUILT: [&str; 1] = ["tidewire"];

/// The names of our contenders in a group; the first is the default.
#[must_use]
pub fn ours(group: Group) -> &'static [&'static str] {
    match group {
        Group::Ring => &tidewire::NAMES,
        Group::Mpsc => &LANES,
        Group::Cell => &CELLS,
        Group::Message => &message::tidewire::NAMES,
        Group::Build => &BUILT,
    }
}

/// Whether a contender is ours.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    Group::ALL.into_iter().any(|group| ours(group).contains(&name))
}

/// What is measured beside the contenders and promises less than they do.
pub const LIMITS: [&str; 9] = [
    "memcpy",
    block::Block::NAME,
    <message::raw::Raw<message::raw::Ring> as Layer>::NAME,
    <message::raw::WithBells as Layer>::NAME,
    <message::raw::Raw<message::raw::Lanes> as Layer>::NAME,
    <message::slot::Spinning as Layer>::NAME,
    <message::eventfd::Eventfd as Layer>::NAME,
    <message::futex::Futex as Layer>::NAME,
    <message::tidewire::TwoChannels as Requests>::NAME,
];

/// The packages that the contenders come from, as the lock file names them.
pub const PACKAGES: [&str; 21] = [
    "rtrb",
    "iceoryx2",
    "iceoryx2-bb-lock-free",
    "ipc-channel",
    "shmem-ipc",
    "zmq",
    "ringbuf",
    "ringfire",
    "heapless",
    "crossbeam-queue",
    "crossbeam-channel",
    "crossbeam-utils",
    "thingbuf",
    "disruptor",
    "flume",
    "kanal",
    "seqlock",
    "triple_buffer",
    "left-right",
    "arc-swap",
    "parking_lot",
];
