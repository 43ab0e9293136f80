//! The message layers, one file each.

use crate::message::contender::{Layer, Requests};

#[cfg(feature = "peers-cpp")]
pub mod boost_queue;
pub mod eventfd;
mod fds;
pub mod futex;
#[cfg(feature = "peers-heavy")]
pub mod iceoryx2;
#[cfg(feature = "peers-heavy")]
pub mod ipc_channel;
pub mod pipe;
pub mod posix_queue;
pub mod raw;
pub mod ringfire;
#[cfg(feature = "peers-heavy")]
pub mod shmem_ipc;
pub mod slot;
pub mod sockets;
pub mod tidewire;
#[cfg(feature = "zeromq")]
pub mod zeromq;

/// Something to be done for each message layer.
pub trait LayerVisitor {
    /// Does it for one.
    fn visit<L: Layer>(&mut self);
}

/// Something to be done for each layer with requests and replies.
pub trait RequestsVisitor {
    /// Does it for one.
    fn visit<Q: Requests>(&mut self);
}

/// Shows all message layers to a visitor, ours first and the limits last.
pub fn layers(visitor: &mut impl LayerVisitor) {
    tidewire::layers(visitor);
    #[cfg(feature = "peers-heavy")]
    {
        visitor.visit::<iceoryx2::InPlace>();
        visitor.visit::<iceoryx2::Copied>();
        visitor.visit::<iceoryx2::WithEvents>();
        visitor.visit::<ipc_channel::Typed>();
        visitor.visit::<ipc_channel::Bytes>();
    }
    visitor.visit::<ringfire::Spinning>();
    visitor.visit::<ringfire::Sleeping>();
    #[cfg(feature = "peers-heavy")]
    {
        visitor.visit::<shmem_ipc::Polled>();
        visitor.visit::<shmem_ipc::Sleeping>();
    }
    #[cfg(feature = "zeromq")]
    visitor.visit::<zeromq::PushPull>();
    visitor.visit::<sockets::Stream>();
    visitor.visit::<sockets::Datagram>();
    visitor.visit::<pipe::Pipe>();
    visitor.visit::<posix_queue::PosixQueue>();
    #[cfg(feature = "peers-cpp")]
    visitor.visit::<boost_queue::BoostQueue>();
    visitor.visit::<raw::Raw<raw::Ring>>();
    visitor.visit::<raw::WithBells>();
    visitor.visit::<raw::Raw<raw::Lanes>>();
    visitor.visit::<slot::Spinning>();
    visitor.visit::<eventfd::Eventfd>();
    visitor.visit::<futex::Futex>();
}

/// Shows all layers with requests and replies to a visitor, ours first.
pub fn requests(visitor: &mut impl RequestsVisitor) {
    tidewire::requests(visitor);
    #[cfg(feature = "peers-heavy")]
    {
        visitor.visit::<iceoryx2::RequestResponse>();
        visitor.visit::<ipc_channel::ReplySender>();
    }
    #[cfg(feature = "zeromq")]
    visitor.visit::<zeromq::RequestReply>();
    visitor.visit::<sockets::Stream>();
}
