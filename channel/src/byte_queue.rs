//! The queues of byte records that a channel can be made of, behind one face.

mod sink;
mod source;

use tidewire_mpsc::ordered;
use tidewire_ring::bytes as ring;
use tidewire_shm::{Region, Untrusted};

use crate::error::OpenError;
use crate::options::{Kind, Options};
use crate::queue::{cannot, lanes_options, ring_options};

pub(crate) use sink::{ByteSink, HeldBytes};
pub(crate) use source::{ByteSource, LentBytes};

/// Bytes for each sender: what was chosen, or as many as make about a mebibyte.
pub(crate) fn capacity(options: &Options) -> Result<usize, OpenError> {
    const ABOUT_BYTES: usize = 1 << 20;
    const LEAST_BYTES: usize = 1 << 16;
    let fits = ABOUT_BYTES / options.most_senders().max(1) as usize;
    let wanted = options.capacity.unwrap_or(fits.max(LEAST_BYTES));
    let least = 256;
    wanted
        .max(least)
        .checked_next_power_of_two()
        .ok_or_else(|| cannot(format!("expected fewer than {wanted} bytes")))
}

pub(crate) fn bytes(options: &Options) -> Result<usize, OpenError> {
    if options.is_lossy() {
        return Err(cannot("expected an overflow that a channel of bytes has, found DropOldest"));
    }
    let capacity = capacity(options)?;
    match options.kind {
        Kind::Lanes => {
            tidewire_mpsc::bytes::Queue::<Untrusted>::bytes(capacity, &lanes_options(options)).map_err(cannot)
        }
        Kind::Ordered => {
            ordered::bytes::Queue::<Untrusted>::bytes(capacity, &lanes_options(options)).map_err(cannot)
        }
        Kind::Single => ring::Ring::<Untrusted>::bytes(capacity, &ring_options()).map_err(cannot),
    }
}

pub(crate) fn create(region: Region<Untrusted>, options: &Options) -> Result<(), OpenError> {
    let capacity = capacity(options)?;
    match options.kind {
        Kind::Lanes => tidewire_mpsc::bytes::Queue::create(region, capacity, &lanes_options(options))
            .map(drop)
            .map_err(cannot),
        Kind::Ordered => {
            ordered::bytes::Queue::create(region, capacity, &lanes_options(options)).map(drop).map_err(cannot)
        }
        Kind::Single => ring::Ring::create(region, capacity, &ring_options()).map(drop).map_err(cannot),
    }
}

/// Where a message is written before it is sent.
pub(crate) trait Place {
    /// Writes bytes from an offset on; whether they fit.
    fn put(&mut self, offset: usize, bytes: &[u8]) -> bool;
}
