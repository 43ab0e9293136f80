//! Parts on their way to being whole.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::param::page_size;

use super::range::AddressRange;
use super::{PARTS_MAX, Part, PartedSegment, memory};
use crate::lease::RoleId;
use crate::region::Origin;
use crate::segment::error::SegmentError;
use crate::segment::map::{Access, Identity};

/// The range, and the parts that are mapped in it so far.
#[derive(Debug)]
pub(super) struct Assembly {
    places: Vec<Place>,
    range: AddressRange,
}

/// Where a part lies, and its memory once it is mapped there.
#[derive(Debug)]
struct Place {
    part: Part,
    offset: usize,
    memory: Option<Memory>,
    /// This process does not get it.
    blank: bool,
}

#[derive(Debug)]
struct Memory {
    fd: OwnedFd,
    identity: Identity,
    access: Access,
}

impl Assembly {
    /// Checks the parts and takes addresses for them.
    pub(super) fn of(parts: &[Part]) -> Result<Self, SegmentError> {
        let wrong = |what, expected, found| SegmentError::NotASegment { what, expected, found };
        if parts.is_empty() || parts.len() > PARTS_MAX {
            let (expected, found) = (format!("1 to {PARTS_MAX}"), format!("{}", parts.len()));
            return Err(wrong("number of parts", expected, found));
        }
        let mut places = Vec::new();
        let mut total = 0_usize;
        for &part in parts {
            let bytes = part.bytes();
            if bytes == 0 || !bytes.is_multiple_of(page_size()) {
                let expected = format!("a positive multiple of {} bytes", page_size());
                return Err(wrong("size of a part", expected, format!("{bytes} bytes")));
            }
            places.push(Place { part, offset: total, memory: None, blank: false });
            let end = total.checked_add(bytes).filter(|&end| isize::try_from(end).is_ok());
            total = end.ok_or(SegmentError::Length { asked: usize::MAX })?;
        }
        Ok(Self { places, range: AddressRange::reserve(total)? })
    }

    /// The parts that fit, as a set of their numbers.
    fn set(&self, mut fits: impl FnMut(&Place) -> bool) -> u64 {
        let bits = self.places.iter().enumerate().map(|(bit, place)| u64::from(fits(place)) << bit);
        bits.fold(0, |set, bit| set | bit)
    }

    /// The parts that a process in these roles gets.
    pub(super) fn given_to(&self, roles: &[RoleId]) -> u64 {
        self.set(|place| place.part.goes_to(roles))
    }

    /// The parts of more than one writer, which the creator makes.
    pub(super) fn shared(&self) -> u64 {
        self.set(|place| place.part.writer().is_none())
    }

    /// The parts that these roles alone write.
    pub(super) fn written_by(&self, roles: &[RoleId]) -> u64 {
        self.set(|place| place.part.writer().is_some_and(|writer| roles.contains(&writer)))
    }

    pub(super) fn missing(&self) -> u64 {
        self.set(|place| place.memory.is_none())
    }

    /// Makes the parts in `set`, to be written by this process.
    pub(super) fn make(&mut self, set: u64) -> Result<(), SegmentError> {
        for (_, place) in members(&mut self.places, set) {
            let fd = memory::make(&place.part, place.offset, &mut self.range)?;
            let identity = memory::verify(&fd, &place.part)?;
            place.memory = Some(Memory { fd, identity, access: Access::ReadWrite });
        }
        Ok(())
    }

    /// Takes over the parts in `set`, one descriptor for each: checks them all, then maps what is not mapped yet. What
    /// is mapped must be the same memory.
    pub(super) fn take(
        &mut self,
        set: u64,
        descriptors: Vec<OwnedFd>,
        may: impl Fn(&Part) -> Access,
    ) -> Result<(), SegmentError> {
        let mut known: Vec<Identity> = Vec::new();
        known.extend(self.others(set).filter_map(|place| Some(place.memory.as_ref()?.identity)));
        let mut checked = Vec::new();
        for ((number, place), fd) in members(&mut self.places, set).zip(descriptors) {
            let identity = memory::verify(&fd, &place.part)?;
            let wrong = |found: &str| SegmentError::Handover {
                expected: format!("memory of its own for part {number}"),
                found: found.to_owned(),
            };
            if place.memory.as_ref().is_some_and(|memory| memory.identity != identity) {
                return Err(wrong("other memory than this process made"));
            }
            if known.contains(&identity) {
                return Err(wrong("that of another part"));
            }
            known.push(identity);
            checked.push((fd, identity));
        }
        for ((_, place), (fd, identity)) in members(&mut self.places, set).zip(checked) {
            if place.memory.is_none() {
                let access = may(&place.part);
                self.range.map(place.offset, place.part.bytes(), &fd, access)?;
                place.memory = Some(Memory { fd, identity, access });
            }
        }
        Ok(())
    }

    /// Lets zeroes be read where nothing is mapped: what is missing does not come.
    pub(super) fn blank(&mut self) -> Result<(), SegmentError> {
        for place in self.places.iter_mut().filter(|place| place.memory.is_none()) {
            self.range.blank(place.offset, place.part.bytes())?;
            place.blank = true;
        }
        Ok(())
    }

    fn others(&self, set: u64) -> impl Iterator<Item = &Place> {
        self.places.iter().enumerate().filter(move |(bit, _)| set >> bit & 1 == 0).map(|(_, place)| place)
    }

    /// The descriptors of the parts in `set`, as far as they are there.
    pub(super) fn descriptors(&self, set: u64) -> Vec<BorrowedFd<'_>> {
        let chosen = self.places.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1);
        chosen.filter_map(|(_, place)| Some(place.memory.as_ref()?.fd.as_fd())).collect()
    }

    /// The segment, if all parts are there.
    pub(super) fn finish(mut self, origin: Origin) -> Result<PartedSegment, SegmentError> {
        let first = self.places.first().and_then(|place| place.memory.as_ref());
        self.range.set_first(first.map(|memory| memory.identity));
        let (mut parts, mut fds) = (Vec::new(), Vec::new());
        let mut writable: Vec<Range<usize>> = Vec::new();
        for (number, Place { part, offset, memory, blank }) in self.places.into_iter().enumerate() {
            parts.push(part);
            if blank {
                fds.push(None);
                continue;
            }
            let memory = memory.ok_or_else(|| SegmentError::Handover {
                expected: format!("part {number}, from {}", part.maker()),
                found: "nothing".to_owned(),
            })?;
            if memory.access == Access::ReadWrite {
                writable.push(offset..offset + part.bytes());
            }
            fds.push(Some(memory.fd));
        }
        Ok(PartedSegment { parts, fds, writable, range: Arc::new(self.range), origin })
    }
}

/// The places whose numbers are in `set`.
fn members(places: &mut [Place], set: u64) -> impl Iterator<Item = (usize, &mut Place)> {
    places.iter_mut().enumerate().filter(move |(bit, _)| set >> bit & 1 == 1)
}
