//! A table of cells of one type, in one structure: configuration, telemetry, parameters.
//!
//! Each cell has a writer of its own, with the lease of [`RoleId::producer`](tidewire_shm::RoleId::producer) of the
//! cell's number; who shall write several cells takes several writers. Nothing is promised across cells: two of them,
//! read one after the other, may be from before and after a change of both. What shall change together is one value.
//!
//! # Memory layout
//! Cell `i` of the table lies as the cell of a [`Cell`](crate::Cell), `i` times `cell_bytes` behind the first.

use core::fmt;
use core::marker::PhantomData;

use bytemuck::Pod;
use tidewire_shm::{Liveness, Region, Trust, Trusted};

use crate::cell::{Bound, Reader, Writer, owner_word, shape};
use crate::codec::Fixed;
use crate::error::{AttachError, CreateError};
use crate::layout::{KIND_TABLE, Layout, Options};
use crate::role::Owner;
use crate::wait::{KernelRef, system};

/// Cells of a plain type `T`, in a region, created or opened and validated; gives out their roles.
///
/// # Examples
/// ```
/// use tidewire_seqlock::table::Table;
/// use tidewire_shm::Unleased;
///
/// let table = Table::on_heap(100, |index| u64::from(index))?;
/// let mut writer = table.writer(7, &Unleased)?;
/// let mut reader = table.reader(7)?;
/// assert_eq!(reader.read()?, (7, 0));
/// writer.write(&70);
/// assert_eq!(reader.read()?, (70, 1));
/// assert!(table.reader(100).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Table<T, L: Trust = Trusted> {
    region: Region<L>,
    layout: Layout,
    value: PhantomData<fn(T) -> T>,
}

impl<T, L: Trust> fmt::Debug for Table<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("cells", &self.layout.cells).finish_non_exhaustive()
    }
}

impl<T: Pod> Table<T, Trusted> {
    /// A table on the heap, for threads of this process.
    ///
    /// # Errors
    /// As [`create`](Self::create), or if memory is short.
    #[cfg(feature = "alloc")]
    pub fn on_heap(cells: u32, initial: impl FnMut(u32) -> T) -> Result<Self, CreateError> {
        let bytes = Self::bytes(cells, &Options::new())?;
        Self::create(Region::heap(bytes)?, cells, initial, &Options::new())
    }
}

impl<T: Pod, L: Trust> Table<T, L> {
    /// Bytes of region that so many cells need.
    ///
    /// # Errors
    /// [`CreateError`] if there are no cells or more than 2^20, `T` is empty or the options cannot be.
    pub fn bytes(cells: u32, options: &Options) -> Result<usize, CreateError> {
        shape::<T>(KIND_TABLE).bytes(cells, options)
    }

    /// Creates a table in a region that nobody uses (any more), with `initial(i)` as version 0 of cell `i`.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), or if the region is too short or cannot be written.
    pub fn create(
        region: Region<L>,
        cells: u32,
        mut initial: impl FnMut(u32) -> T,
        options: &Options,
    ) -> Result<Self, CreateError> {
        let layout = shape::<T>(KIND_TABLE).create(&region, cells, options, |layout, index| {
            let bound = Bound::new(&region, layout, &layout.place(index), Fixed::<T>::new());
            // SAFETY: the region is alive and writable, and nobody else can see the cell yet.
            unsafe { bound.core.write(0, &initial(index)) };
        })?;
        Ok(Self { region, layout, value: PhantomData })
    }

    /// Opens a table that somebody created, as [`Cell::open`](crate::Cell::open) does a cell.
    ///
    /// # Errors
    /// As [`Cell::open`](crate::Cell::open).
    pub fn open(region: Region<L>, type_fingerprint: u64) -> Result<Self, AttachError> {
        let layout = shape::<T>(KIND_TABLE).open(&region, type_fingerprint)?;
        Ok(Self { region, layout, value: PhantomData })
    }

    /// Cells of the table.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.layout.cells
    }

    /// Whether there are no cells; a table always has some.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn require(&self, index: u32) -> Result<(), AttachError> {
        let cells = self.layout.cells;
        if index < cells { Ok(()) } else { Err(AttachError::NoCell { index, cells }) }
    }

    /// A reader of a cell.
    ///
    /// # Errors
    /// [`AttachError::NoCell`] if there is no such cell.
    pub fn reader(&self, index: u32) -> Result<Reader<T, L>, AttachError> {
        self.require(index)?;
        let place = self.layout.place(index);
        let bound = Bound::new(&self.region, &self.layout, &place, Fixed::new());
        Ok(Reader::new(bound, self.layout.post(index)))
    }

    /// Takes the role of the writer of a cell.
    ///
    /// # Errors
    /// [`AttachError::NoCell`] if there is no such cell; else as [`Cell::writer`](crate::Cell::writer).
    pub fn writer<V: Liveness>(
        &self,
        index: u32,
        liveness: &V,
    ) -> Result<Writer<T, L, V::Lease>, AttachError> {
        self.require(index)?;
        Writer::attach(&self.region, &self.layout, index, system(), liveness)
    }

    /// As [`writer`](Self::writer), with a kernel of the caller's to wake readers by; where there is no system to ask, the
    /// only way to become a writer that [wakes](crate::Wake).
    ///
    /// # Errors
    /// As [`writer`](Self::writer).
    pub fn writer_on<V: Liveness>(
        &self,
        index: u32,
        kernel: KernelRef,
        liveness: &V,
    ) -> Result<Writer<T, L, V::Lease>, AttachError> {
        self.require(index)?;
        Writer::attach(&self.region, &self.layout, index, Some(kernel), liveness)
    }

    /// Who holds the role of the writer of a cell now, if there is such a cell and anybody does.
    #[must_use]
    pub fn writer_owner(&self, index: u32) -> Option<Owner> {
        self.require(index).ok()?;
        Owner::of(&owner_word(&self.region, &self.layout.place(index), 0))
    }
}
