//! Message passing between processes, at the speed of shared memory.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[allow(unused_extern_crates, reason = "the derive names this crate")]
extern crate self as tidewire;

mod byte_queue;
mod bytes;
mod error;
mod ground;
mod info;
mod message;
mod options;
mod queue;
mod receive;
mod rest;
mod send;
mod typed;

pub use bytes::{BytesReceiver, BytesSender, Writing, bytes_receiver, bytes_sender};
pub use error::{
    Corrupt, OpenError, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
pub use info::SenderInfo;
pub use message::{Difference, FieldLayout, Layout, Message};
pub use options::{Kind, Options, Overflow, Wait};
pub use tidewire_derive::Message;
pub use tidewire_shm as shm;
pub use tidewire_shm::StalePolicy;
pub use typed::{Drain, Iter, Receiver, Sender, channel, receiver, sender};

/// For the code that the derive writes.
#[doc(hidden)]
pub mod __private {
    pub use bytemuck;
}
