//! Our channels, as message layers.
//!
//! Each way of using them is a type that implements [`Layer`](crate::message::contender::Layer) or
//! [`Requests`](crate::message::contender::Requests); it is shown in the function below, and its name stands in
//! [`NAMES`], the default first. Everything else follows: the check, all cells, and the report.
//!
//! Both ends are made at the same time, in two processes that have nothing in common but a
//! [link](crate::message::place::Link): a name and a path of its own, and a word by which the first to come lets the
//! second in. What lies in the link's folder goes with the sample, however it ends; names elsewhere are removed by
//! [`Layer::clean`](crate::message::contender::Layer::clean).

use crate::peers::message::{LayerVisitor, RequestsVisitor};

/// The names of our message layers; the first is the default.
pub const NAMES: [&str; 0] = [];

/// Shows our message layers to a visitor.
pub fn layers(_: &mut impl LayerVisitor) {}

/// Shows ours with requests and replies to a visitor.
pub fn requests(_: &mut impl RequestsVisitor) {}
