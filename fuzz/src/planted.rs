//! What the planted bugs share.

/// Says that a planted bug does its wrong step now: whoever runs the target looks for a panic right behind this line.
pub(crate) fn strikes() {
    eprintln!("a planted bug strikes");
}
