//! Message passing between processes, at the speed of shared memory.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[allow(unused_extern_crates, reason = "the derive names this crate")]
extern crate self as tidewire;

mod byte_queue;
mod bytes;
mod company;
mod error;
mod event;
mod futures;
mod ground;
mod info;
mod latest;
mod list;
mod message;
mod options;
mod publish;
mod queue;
mod reactor;
mod receive;
mod rest;
mod rpc;
mod select;
mod send;
#[cfg(feature = "serde")]
mod serde_channel;
mod stream;
mod typed;

pub use bytes::{BytesReceiver, BytesSender, Writing, bytes_receiver, bytes_sender};
pub use error::{
    CallError, Corrupt, OpenError, RecvError, RecvTimeoutError, ReplyError, SendError, SendTimeoutError,
    SubscribeError, TryRecvError, TrySendError,
};
pub use futures::{Receiving, ReceivingBytes, Sending, SendingBytes, Subscribing};
pub use info::SenderInfo;
pub use latest::{LoadError, Reader, Snapshot, StoreError, WaitError, Wake, Writer, reader, writer};
pub use list::{Entry, Pattern, Peer, Report, Standing, Usage, clean, inspect, list};
pub use message::{Difference, FieldLayout, Layout, Message};
pub use options::{Kind, Options, Overflow, Wait};
pub use publish::{Publisher, Subscriber, publisher, subscriber};
pub use rpc::{
    BytesClient, BytesPending, BytesRequest, BytesServer, CallId, Client, Pending, Request, Server,
    ServiceEnds, client, server, service,
};
pub use select::{Descriptor, Endpoint, Select, Timer};
#[cfg(feature = "serde")]
pub use serde_channel::{DecodeError, EncodeError, SerdeReceiver, SerdeSender, serde_receiver, serde_sender};
pub use stream::{StreamReader, StreamWriter};
pub use tidewire_derive::Message;
pub use tidewire_seqlock::Corrupt as CorruptValue;
pub use tidewire_shm as shm;
pub use tidewire_shm::StalePolicy;
pub use typed::{Drain, Iter, Receiver, Sender, channel, receiver, sender};

/// For the code that the derive writes.
#[doc(hidden)]
pub mod __private {
    pub use bytemuck;
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
