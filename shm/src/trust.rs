//! Who may write the memory, as a type.

use core::fmt::Debug;

mod sealed {
    pub trait Sealed {}
}

/// How far a handle trusts the processes that can write its memory: [`Trusted`] or [`Untrusted`].
///
/// One source serves both. The level decides only which methods exist: an untrusted handle copies in and out and
/// never hands out a reference; a trusted one also lends slices of the shared memory itself. The validation of
/// what a peer published is the same for both.
pub trait Trust: sealed::Sealed + Copy + Debug + Send + Sync + 'static {
    /// Whether references into the memory may be handed out.
    const TRUSTED: bool;
}

/// Every process with write access runs this protocol.
///
/// Either because the memory is private to this process, or because the user promised so
/// ([`Region::assume_trusted`](crate::Region::assume_trusted), the one `unsafe` promise).
#[derive(Clone, Copy, Debug)]
pub enum Trusted {}

/// A peer may write anything at any time: copy in, copy out, no references. The level of every region that comes
/// from outside this process.
#[derive(Clone, Copy, Debug)]
pub enum Untrusted {}

impl sealed::Sealed for Trusted {}
impl sealed::Sealed for Untrusted {}

impl Trust for Trusted {
    const TRUSTED: bool = true;
}

impl Trust for Untrusted {
    const TRUSTED: bool = false;
}
