//! Ends in a runtime of tokio's (the feature `tokio`).
//!
//! What wakes a task is registered with the reactor of the runtime that polls it, instead of the thread of this crate. That
//! one is left with what is rare: an end that waits looks for itself four times a second, in case that a ring could not
//! reach it.
//!
//! A [latest value](crate::Reader::changed) has the same future in all runtimes: what wakes its readers is no descriptor.
//!
//! # Examples
//! ```
//! use tidewire::tokio::OnTokio;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let (tx, rx) = tidewire::channel::<u64>()?;
//!     let (mut tx, mut rx) = (tx.on_tokio(), rx.on_tokio());
//!     tokio::spawn(async move { tx.send(7).await });
//!     assert_eq!(rx.recv().await?, 7);
//!     assert!(rx.recv().await.is_err(), "all senders are gone");
//!     Ok(())
//! }
//! ```

use crate::host::Host;
use crate::hosted::disarming::Disarm;
pub use crate::hosted::{Hosted, Hosting};

/// A receiving end.
pub type Receiver<T> = Hosted<crate::Receiver<T>>;
/// A sending end.
pub type Sender<T> = Hosted<crate::Sender<T>>;
/// A receiving end of a channel of bytes.
pub type BytesReceiver = Hosted<crate::BytesReceiver>;
/// A sending end of a channel of bytes.
pub type BytesSender = Hosted<crate::BytesSender>;
/// A subscriber.
pub type Subscriber<T> = Hosted<crate::Subscriber<T>>;
/// A subscriber to bytes.
pub type BytesSubscriber = Hosted<crate::BytesSubscriber>;

/// A client.
pub type Client<Q, R> = Hosted<crate::Client<Q, R>>;
/// A server.
pub type Server<Q, R> = Hosted<crate::Server<Q, R>>;

/// Brings an end into a runtime.
pub trait OnTokio: Disarm + Sized {
    /// The end, woken by the runtime of tokio that polls it; see there for what that is if there is none.
    ///
    /// # Panics
    /// Not here; but a future that has to wait panics, as all that waits for descriptors there, in a runtime that was built
    /// without them (`enable_io`).
    fn on_tokio(self) -> Hosted<Self>;
}

impl<E: Disarm> OnTokio for E {
    fn on_tokio(self) -> Hosted<Self> {
        Hosted::new(self, Host::Tokio)
    }
}
