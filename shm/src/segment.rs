//! Segments (being written).
/// A segment.
#[derive(Debug)]
pub struct Segment;
