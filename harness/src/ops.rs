//! The operations under test: one table per structure, plugged into the instruction explorer.

use crate::explore::Operation;

mod rig;
mod ring;

/// Every public operation of every structure.
pub(crate) fn all() -> Vec<Box<dyn Operation>> {
    ring::operations()
}
