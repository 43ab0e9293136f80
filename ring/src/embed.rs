//! What a larger structure needs to make rings its own parts: ends without roles, and roles without rings.
//!
//! Not for users: nothing here keeps the ends of one ring apart. The unsafe constructors say what the embedding
//! structure must see to; what they return is safe to use and validates what a peer can write as ever.

pub use crate::cursor::Polled;
pub use crate::layout::{Parts, Shape};
pub use crate::role::{Role, own_id};

/// Slots.
pub mod fixed {
    pub use crate::fixed::end::{PopEnd, PushEnd, shape};
    pub use crate::look::slots_of;
}

/// Records.
pub mod bytes {
    pub use crate::bytes::end::{PopEnd, PushEnd, SHAPE};
}
