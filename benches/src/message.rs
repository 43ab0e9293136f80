//! Message layers: what sends a message from one process to another, by name, and may block.
//!
//! - Both sides are processes of their own; nothing of a contender exists before they are forked. They find each other
//!   by [names](place).
//! - Messages are arrays of `W` words. A layer that hands out its own memory writes and reads there; everybody else
//!   sends from a buffer and receives into one.
//! - A sample ends with a last message, so that nobody needs a timeout to find out.

pub mod calls;
pub mod check;
pub mod contender;
pub mod death;
pub mod memory;
pub mod place;
pub mod requests;
pub mod run;
pub mod stream;
