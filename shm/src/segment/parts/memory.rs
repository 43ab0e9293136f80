//! The memory of one part: made, sealed, and checked when it comes from elsewhere.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use std::os::fd::OwnedFd;

use rustix::fs::{
    MemfdFlags, OFlags, SealFlags, SeekFrom, Stat, fcntl_add_seals, fcntl_get_seals, fcntl_getfl, fstat,
    memfd_create, seek,
};
use rustix::io::Errno;

use super::Part;
use super::range::AddressRange;
use crate::segment::directory::{is_regular, wrong_kind};
use crate::segment::error::SegmentError;
use crate::segment::map::{Access, Identity, Mapping, is_tmpfs};
use crate::segment::options::SegmentOptions;

/// The size is fixed, and so are the seals.
const FIXED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);
/// The seals that say something; others come from the kernel's settings.
const KNOWN: SealFlags = FIXED.union(SealFlags::WRITE).union(SealFlags::FUTURE_WRITE);

/// The seals of a part.
fn seals(part: &Part) -> SealFlags {
    if part.writer().is_none() { FIXED } else { FIXED.union(SealFlags::FUTURE_WRITE) }
}

/// Makes the memory of a part and maps it for writing, in this order:
/// ```text
/// memory -> room -> mapping, which fills every page -> seals
/// ```
/// From the seals on nobody can map it for writing, this process included; the mapping stays what it is.
pub(super) fn make(part: &Part, offset: usize, range: &mut AddressRange) -> Result<OwnedFd, SegmentError> {
    let fd = descriptor().map_err(SegmentError::on("create the memory of a part"))?;
    // Only for the room: this mapping is not the one that stays.
    drop(Mapping::create(&fd, part.bytes(), &SegmentOptions::new())?);
    range.map(offset, part.bytes(), &fd, Access::ReadWrite)?;
    fcntl_add_seals(&fd, seals(part)).map_err(SegmentError::on("seal the memory of a part"))?;
    Ok(fd)
}

fn descriptor() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create("tidewire-part", flags | MemfdFlags::NOEXEC_SEAL) {
        // Linux before 6.3 does not know the flag.
        Err(Errno::INVAL) => memfd_create("tidewire-part", flags),
        made => made,
    }
}

/// Tells what memory `fd` is, if it is what [`make`] makes of `part`.
pub(super) fn verify(fd: &OwnedFd, part: &Part) -> Result<Identity, SegmentError> {
    let wrong = |what, expected, found| SegmentError::NotASegment { what, expected, found };
    let stat = fstat(fd).map_err(SegmentError::on("inspect a part"))?;
    if !is_regular(&stat) {
        return Err(wrong_kind(&stat));
    }
    let expected = seals(part);
    match fcntl_get_seals(fd) {
        Ok(found) if found.intersection(KNOWN) == expected => {}
        Ok(found) => return Err(wrong("seals of a part", describe(expected), describe(found))),
        Err(Errno::INVAL) => {
            let found = "a file that cannot be sealed".to_owned();
            return Err(wrong("seals of a part", describe(expected), found));
        }
        Err(errno) => return Err(SegmentError::on("read the seals of a part")(errno)),
    }
    if !is_tmpfs(fd) {
        // Huge pages of the reserved pool: they cannot be mapped at every page, and a refusal would come too late.
        return Err(wrong("pages of a part", "normal pages".to_owned(), "huge pages, or a disk".to_owned()));
    }
    if usize::try_from(stat.st_size) != Ok(part.bytes()) {
        let (expected, found) = (format!("{} bytes", part.bytes()), format!("{} bytes", stat.st_size));
        return Err(wrong("size of a part", expected, found));
    }
    verify_access(fd, part)?;
    verify_room(fd, &stat)?;
    Ok(Identity::of(&stat))
}

/// Pages that are not there yet would have to be found at the first touch, when it is too late for an error.
fn verify_room(fd: &OwnedFd, stat: &Stat) -> Result<(), SegmentError> {
    const BLOCK_BYTES: i64 = 512;
    let refuse = |found| {
        let (what, expected) = ("reserved room of a part", format!("{} bytes", stat.st_size));
        Err(SegmentError::NotASegment { what, expected, found })
    };
    let there = stat.st_blocks.saturating_mul(BLOCK_BYTES);
    if there < stat.st_size {
        return refuse(format!("{there} bytes"));
    }
    // Blocks may lie behind the end (`FALLOC_FL_KEEP_SIZE`) and be missing before it.
    match seek(fd, SeekFrom::Hole(0)) {
        Ok(hole) if i64::try_from(hole).is_ok_and(|hole| hole < stat.st_size) => {
            refuse(format!("a page at {hole} that is not filled"))
        }
        // A kernel that does not look for holes.
        Ok(_) | Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(SegmentError::on("look for holes in a part")(errno)),
    }
}

fn verify_access(fd: &OwnedFd, part: &Part) -> Result<(), SegmentError> {
    let flags = fcntl_getfl(fd).map_err(SegmentError::on("inspect a part"))?;
    let access = flags & OFlags::RWMODE;
    if !flags.contains(OFlags::PATH)
        && (access == OFlags::RDWR || (access == OFlags::RDONLY && part.writer().is_some()))
    {
        return Ok(());
    }
    Err(SegmentError::NotASegment {
        what: "access to a part",
        expected: if part.writer().is_none() { "reading and writing" } else { "reading" }.to_owned(),
        found: if access == OFlags::WRONLY { "writing only" } else { "reading only, or none" }.to_owned(),
    })
}

fn describe(seals: SealFlags) -> String {
    let names = [
        (SealFlags::SHRINK, "shrink"),
        (SealFlags::GROW, "grow"),
        (SealFlags::SEAL, "seal"),
        (SealFlags::WRITE, "write"),
        (SealFlags::FUTURE_WRITE, "future write"),
    ];
    let set: Vec<&str> =
        names.into_iter().filter(|(seal, _)| seals.contains(*seal)).map(|(_, name)| name).collect();
    if set.is_empty() { "none".to_owned() } else { format!("[{}]", set.join(", ")) }
}
