//! Message passing between processes, at the speed of shared memory.
//!
//! A channel has a name. One process opens the end that receives, others the ends that send, and messages go from memory
//! to memory: no daemon, no copy through the kernel, no system call while there is something to do. Whoever is killed, at
//! whatever instruction, leaves nothing to repair, and the others are told.
//!
//! # Examples
//! Two calls. Here in one process; two differ in nothing.
//! ```
//! use tidewire::{Message, RecvError};
//!
//! #[derive(Clone, Copy, Debug, PartialEq, Message)]
//! #[repr(C)]
//! struct Tick {
//!     id: u64,
//!     price: f64,
//! }
//!
//! let name = format!("ticks-{}", std::process::id());
//! let mut rx = tidewire::receiver::<Tick>(&name)?;
//! let mut tx = tidewire::sender::<Tick>(&name)?;
//! tx.send(Tick { id: 1, price: 99.5 })?;
//! assert_eq!(rx.recv()?, Tick { id: 1, price: 99.5 });
//! drop(tx);
//! assert_eq!(rx.recv(), Err(RecvError::Disconnected));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Patterns
//! | pattern | creates it | joins it | how many | if one is too slow |
//! |---|---|---|---|---|
//! | messages of a plain type | [`receiver`] | [`sender`] | senders to one receiver | senders wait, or as [`Overflow`] says |
//! | bytes of any length, streams | [`bytes_receiver`] | [`bytes_sender`] | senders to one receiver | the same |
//! | anything that serde knows | `serde_receiver` | `serde_sender` | senders to one receiver | the same |
//! | publish and subscribe | [`publisher`] | [`subscriber`] | one publisher to subscribers | the oldest are overwritten, and each who missed some knows how many; or the publisher waits |
//! | the same of bytes | [`bytes_publisher`] | [`bytes_subscriber`] | one publisher to subscribers | the same |
//! | the same of anything that serde knows | `serde_publisher` | `serde_subscriber` | one publisher to subscribers | the same |
//! | request and response | [`server`] | [`client`] | clients, one server | calls in flight are limited: a client waits for its own |
//! | the latest value | [`writer`] | [`reader`] | one writer to any number of readers that cannot write | old values are replaced: that is what it is for |
//!
//! Each call has a twin in [`Options`], with a choice of capacity, order, overflow, how to wait, and where names live;
//! [`Options::sender_in`] and its like wait until somebody is there to join. Without names, for threads, or for
//! memory that is handed over: [`channel`], [`service`], [`Options::publish`], [`Options::memory`].
//!
//! Large messages need not be moved about: [`Sender::reserve`] and [`BytesSender::reserve`] write them where they are read,
//! [`Receiver::read_chunk`] and [`BytesReceiver::read`] read them where they lie; [`Options::trusted`] says when that is lent
//! rather than copied.
//!
//! To wait for several ends, timers or descriptors: [`Select`]. In async code, of any runtime:
//! [`Receiver::recv_async`], [`Sender::send_async`], [`Client::call_async`]. As files are read and written:
//! [`StreamReader`], [`StreamWriter`]. What there is and who is there: [`list()`], [`inspect`]; what is left of the
//! dead: [`clean`].
//!
//! # Guarantees
//! - What was sent is received: once, whole, and per sender in order; [`Kind::Ordered`] gives one order over all senders. A sender
//!   that dies takes back nothing that it had sent, and shows nothing that it had not.
//! - The death of a peer ends a wait within about a millisecond, as an error, once everything that was sent before is
//!   received. Only the kernel says that somebody is dead: one that is slow, stopped or in a debugger is waited for, or for as
//!   long as you choose.
//! - A receiver that dies can be followed by another one under the same name, which goes on with what was sent; the last ones
//!   that the dead one took may come again.
//! - Types are compared, field by field, when an end is opened: a difference is an [`OpenError`] that names the field.
//! - While messages flow: no system call, no allocation, no lock. Who sleeps is woken by whoever has something for it.
//! - A peer that writes what it should not can deliver nonsense or end its own connection: [`Corrupt`], never a crash of
//!   yours. Among users that do not trust each other see [`shm`] for memory that only one of them may write.
//! - After the last one has gone, nothing is left: no file, no process. Where all were killed, the next one to open the name
//!   takes over what is there, and [`clean`] removes it.
//!
//! # When not to use it
//! - Between machines: this is memory of one.
//! - Where messages must survive a restart of the machine. They survive processes, not the power.
//! - For a message now and then, where a socket is good enough, or where the peers are not yours to change.
//! - For work that several receivers take from one queue: there is one receiver to a channel.
//! - On anything but Linux.
//!
//! # Features
//! - `futures`: receivers and subscribers as streams, senders as sinks.
//! - `tokio`, `smol`: the same ends with tasks that are woken by the reactor of their own runtime.
//! - `serde`: `serde_receiver` and `serde_sender`, `serde_publisher` and `serde_subscriber`, for messages of any type that serde
//!   can write and read.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[allow(unused_extern_crates, reason = "the derive names this crate")]
extern crate self as tidewire;

mod byte_queue;
mod bytes;
mod bytes_publish;
mod company;
mod error;
mod event;
mod futures;
mod ground;
mod host;
#[cfg(any(feature = "tokio", feature = "smol"))]
mod hosted;
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
#[cfg(feature = "smol")]
pub mod smol;
mod stream;
#[cfg(feature = "futures")]
mod stream_sink;
#[cfg(feature = "tokio")]
pub mod tokio;
mod typed;

pub use bytes::{
    BytesChunk, BytesReceiver, BytesReservation, BytesSender, Writing, bytes_receiver, bytes_sender,
};
pub use bytes_publish::{BytesPublisher, BytesSubscriber, bytes_publisher, bytes_subscriber};
pub use error::{
    CallError, Corrupt, OpenError, RecvError, RecvTimeoutError, ReplyError, SendError, SendTimeoutError,
    SubscribeError, TryRecvError, TrySendError,
};
pub use futures::{Receiving, ReceivingBytes, Sending, SendingBytes, Subscribing, SubscribingBytes};
#[cfg(any(feature = "tokio", feature = "smol"))]
pub use hosted::{Hosted, Hosting};
pub use info::SenderInfo;
pub use latest::{
    Changing, LoadError, Reader, Snapshot, StoreError, WaitError, Wake, Writer, reader, writer,
};
pub use list::{Entry, Pattern, Peer, Report, Standing, Usage, clean, inspect, list};
pub use message::{Difference, FieldLayout, Layout, Message};
pub use options::{Kind, Options, Overflow, Wait};
pub use publish::{Publisher, Subscriber, publisher, subscriber};
pub use rpc::{
    BytesClient, BytesPending, BytesRequest, BytesServer, CallId, Calling, CallingBytes, Client, Pending,
    Request, Server, ServiceEnds, Serving, ServingBytes, client, server, service,
};
pub use select::{Descriptor, Endpoint, Select, Timer};
#[cfg(feature = "serde")]
pub use serde_channel::{
    DecodeError, EncodeError, SerdePublisher, SerdeReceiver, SerdeSender, SerdeSubscriber, serde_publisher,
    serde_receiver, serde_sender, serde_subscriber,
};
pub use stream::{StreamReader, StreamWriter};
#[cfg(feature = "futures")]
pub use stream_sink::{BytesMessages, Messages, Outgoing, OutgoingBytes, Published, PublishedBytes};
pub use tidewire_derive::Message;
pub use tidewire_ring::TooMany;
pub use tidewire_seqlock::Corrupt as CorruptValue;
pub use tidewire_shm as shm;
pub use tidewire_shm::StalePolicy;
pub use typed::{Chunk, Drain, Iter, Receiver, Reservation, Sender, channel, receiver, sender};

/// For the code that the derive writes.
#[doc(hidden)]
pub mod __private {
    pub use bytemuck;
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod front {}
