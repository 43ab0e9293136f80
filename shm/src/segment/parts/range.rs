//! A range of addresses in which parts are mapped side by side.

use core::ptr::{NonNull, null_mut};
use std::os::fd::OwnedFd;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect, munmap};

use crate::segment::error::SegmentError;
use crate::segment::map::{Access, Identity};

/// The addresses, unmapped together when this is dropped.
#[derive(Debug)]
pub(in crate::segment) struct AddressRange {
    base: NonNull<u8>,
    /// Zero once nothing of it is ours any more.
    len: usize,
    /// The memory of the first part, once all are mapped.
    first: Option<Identity>,
}

// SAFETY: the range is only an owner; what is done with the bytes is the affair of the regions over it.
unsafe impl Send for AddressRange {}
// SAFETY: as above.
unsafe impl Sync for AddressRange {}

impl AddressRange {
    /// Takes addresses for `len` bytes, whole pages, that cannot be accessed yet.
    pub(super) fn reserve(len: usize) -> Result<Self, SegmentError> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let base = unsafe { mmap_anonymous(null_mut(), len, ProtFlags::empty(), flags) }
            .map_err(SegmentError::on("reserve addresses"))?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(SegmentError::Length { asked: len })?;
        Ok(Self { base, len, first: None })
    }

    /// Maps the `len` bytes of `fd` at `offset`, whole pages, and fills the page tables.
    ///
    /// If the kernel refuses, the whole range is given up.
    pub(super) fn map(
        &mut self,
        offset: usize,
        len: usize,
        fd: &OwnedFd,
        access: Access,
    ) -> Result<(), SegmentError> {
        let end = offset.checked_add(len).filter(|&end| end <= self.len);
        let end = end.ok_or(SegmentError::Length { asked: len })?;
        let may = match access {
            Access::ReadOnly => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        let flags = MapFlags::SHARED | MapFlags::FIXED | MapFlags::POPULATE;
        let at = self.base.as_ptr().wrapping_add(offset);
        // SAFETY: these addresses are ours, and nobody uses them: regions exist only when all parts are mapped, and
        // then there is no `&mut self`.
        let mapped = unsafe { mmap(at.cast(), len, may, flags, fd, 0) };
        mapped.map(drop).map_err(|errno| {
            self.give_up(offset, end);
            SegmentError::from_io("map a part", errno.into())
        })
    }

    /// Lets the `len` bytes at `offset`, whole pages where nothing is mapped, be read: they are zero.
    pub(super) fn blank(&mut self, offset: usize, len: usize) -> Result<(), SegmentError> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(SegmentError::Length { asked: len });
        }
        let at = self.base.as_ptr().wrapping_add(offset);
        // SAFETY: these addresses are ours; what may be read there is private memory that nobody wrote.
        unsafe { mprotect(at.cast(), len, MprotectFlags::READ) }.map_err(SegmentError::on("map zeroes"))
    }

    /// Unmaps all but `hole .. hole_end`. A kernel that refuses a mapping may have removed what was there before, so
    /// that others can have these addresses now; if not, they stay taken until the process ends.
    #[cold]
    fn give_up(&mut self, hole: usize, hole_end: usize) {
        let whole = core::mem::take(&mut self.len);
        self.unmap(0, hole);
        self.unmap(hole_end, whole - hole_end);
    }

    fn unmap(&self, offset: usize, len: usize) {
        if len > 0 {
            // SAFETY: ours, since it was reserved; nobody uses it any more.
            let _kept = unsafe { munmap(self.base.as_ptr().wrapping_add(offset).cast(), len) };
        }
    }

    /// Says what memory leases of this segment are locks on.
    pub(super) fn set_first(&mut self, first: Option<Identity>) {
        self.first = first;
    }

    /// The memory of the first part; `None` if this process did not get it.
    pub(in crate::segment) fn first(&self) -> Option<Identity> {
        self.first
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for AddressRange {
    fn drop(&mut self) {
        self.unmap(0, self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::AddressRange;
    use crate::segment::map::Access;
    use rustix::param::page_size;
    use std::fs::{File, read_to_string};
    use std::os::fd::OwnedFd;

    fn mappings_over(address: usize) -> usize {
        let maps = read_to_string("/proc/self/maps").unwrap();
        let holds = |line: &&str| {
            let bounds = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            bounds.is_some_and(|(from, to)| (number(from)..number(to)).contains(&address))
        };
        maps.lines().filter(holds).count()
    }

    /// Whether addresses are free after `used`, in one of many attempts: other threads may take them at once.
    fn is_unmapped_after(used: impl Fn(AddressRange)) -> bool {
        (0..20).any(|_| {
            let range = AddressRange::reserve(4 * page_size()).unwrap();
            let base = range.base().addr().get();
            assert_eq!(mappings_over(base), 1);
            used(range);
            mappings_over(base) == 0
        })
    }

    #[test]
    fn a_range_is_unmapped_when_it_is_dropped_and_when_a_mapping_is_refused() {
        let page = page_size();
        let directory = OwnedFd::from(File::open("/").unwrap());
        assert!(is_unmapped_after(drop));
        assert!(is_unmapped_after(|mut range| {
            assert!(range.map(page, page, &directory, Access::ReadOnly).is_err());
            assert_eq!(range.len(), 0);
            assert!(range.map(0, page, &directory, Access::ReadOnly).is_err());
            // Not dropped: the drop shall have nothing left to do.
            Box::leak(Box::new(range));
        }));
    }

    #[test]
    fn nothing_is_mapped_beyond_the_range() {
        let page = page_size();
        let directory = OwnedFd::from(File::open("/").unwrap());
        let mut range = AddressRange::reserve(4 * page).unwrap();
        for (offset, len) in [(4 * page, page), (0, 5 * page), (usize::MAX, page)] {
            assert!(range.map(offset, len, &directory, Access::ReadOnly).is_err());
            assert!(range.blank(offset, len).is_err());
            assert_eq!(range.len(), 4 * page);
        }
    }
}
