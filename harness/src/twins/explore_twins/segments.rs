//! Creations of named segments, each wrong in one way. The survivors are those of the right ones.

use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode as Permissions, OFlags, RenameFlags, fallocate, ftruncate, linkat,
    open, renameat_with,
};
use rustix::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use tidewire_shm::{Segment, SegmentOptions};

use super::Case;
use crate::explore::Mode;
use crate::ops::{SEGMENT_BYTES, SEGMENT_NAME, SegmentOperation, init_segment};

pub(super) fn cases() -> Vec<Case> {
    let case = |name, make, verdict| Case {
        operation: Box::new(SegmentOperation::broken(name, make)),
        mode: Mode::Kill,
        verdict,
    };
    vec![
        case("segment named before it is filled", named_first, "expected a segment with a ring: "),
        case("segment under a name of its own", unswept, "expected next and ticks alone, found [\"half\""),
    ]
}

const CREATED: u64 = 1;
const FAILED: u64 = 0;
const OWNER: Permissions = Permissions::RUSR.union(Permissions::WUSR);

/// Takes the room of a segment.
fn reserve(file: &OwnedFd) -> io::Result<()> {
    let bytes = SEGMENT_BYTES as u64;
    ftruncate(file, bytes)?;
    fallocate(file, FallocateFlags::empty(), 0, bytes)
}

/// Fills what has the name `name`.
fn fill(place: &Path, name: &str) -> bool {
    let opened = Segment::open_with(name, &SegmentOptions::new().directory(place));
    opened.is_ok_and(|segment| init_segment(segment.region()).is_ok())
}

fn answer(made: io::Result<bool>) -> u64 {
    if made == Ok(true) { CREATED } else { FAILED }
}

/// The name comes before the ring.
fn named_first(place: &Path) -> u64 {
    let make = || {
        let file = open(place, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, OWNER)?;
        reserve(&file)?;
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(CWD, unnamed, CWD, place.join(SEGMENT_NAME), AtFlags::SYMLINK_FOLLOW)?;
        Ok(fill(place, SEGMENT_NAME))
    };
    answer(make())
}

/// The temporary name is none that the next creation would know as one.
fn unswept(place: &Path) -> u64 {
    const HALF: &str = "half";
    let make = || {
        let temporary = place.join(HALF);
        let file = open(&temporary, OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC, OWNER)?;
        reserve(&file)?;
        let filled = fill(place, HALF);
        renameat_with(CWD, &temporary, CWD, place.join(SEGMENT_NAME), RenameFlags::NOREPLACE)?;
        Ok(filled)
    };
    answer(make())
}
