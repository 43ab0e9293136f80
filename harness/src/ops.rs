//! The operations under test: one table per structure, plugged into the instruction explorer.

use crate::explore::Operation;

mod mpsc;
mod rig;
mod ring;
mod segment;
mod seqlock;

pub(crate) use mpsc::{hasty_push, message_of};
pub(crate) use rig::{Bytes, Rig, record_of};
pub(crate) use segment::{
    BYTES as SEGMENT_BYTES, NAME as SEGMENT_NAME, SegmentOperation, init as init_segment,
};

pub(crate) use seqlock::{log_twins, operation_of as cell_operation};

/// Every public operation of every structure.
pub(crate) fn all() -> Vec<Box<dyn Operation>> {
    let rings = ring::operations().into_iter().chain(segment::operations()).chain(seqlock::operations());
    rings.chain(mpsc::operations()).collect()
}
