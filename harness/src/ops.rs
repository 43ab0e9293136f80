//! The operations under test: one table per structure, plugged into the instruction explorer.

use crate::explore::Operation;

mod rig;
mod ring;
mod segment;

pub(crate) use rig::{Bytes, Rig, record_of};
pub(crate) use segment::{
    BYTES as SEGMENT_BYTES, NAME as SEGMENT_NAME, SegmentOperation, init as init_segment,
};

/// Every public operation of every structure.
pub(crate) fn all() -> Vec<Box<dyn Operation>> {
    ring::operations().into_iter().chain(segment::operations()).collect()
}
