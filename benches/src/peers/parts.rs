//! Ours in parts: what each role publishes lies in a memory of its own, which the other side can only read. Beside them the
//! same layout, a page for each role, in one segment.
//!
//! Each end has its own mapping, as the process has that joins: a fork does not change who can write what through it.

use std::marker::PhantomData;
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, anyhow};
use tidewire_mpsc::fixed as lanes;
use tidewire_ring::fixed as ring;
use tidewire_seqlock::{Cell, Reader, Writer};
use tidewire_shm::{
    Part, PartedDraft, PartedSegment, Region, RoleId, RoleStride, Segment, SegmentOptions, Unleased,
    Untrusted,
};

use crate::contender::{CAPACITY, Contender};
use crate::latest::contender::CellContender;
use crate::pair::{EVERYWHERE, Mode};
use crate::peers::{CELLS, LANES, tidewire};

/// Where the roles of a structure with a page for each role lie.
pub trait Form: 'static {
    /// The ring's name in tables.
    const RING: &'static str;
    /// That of the lanes.
    const LANES: &'static str;
    /// That of the cell.
    const CELL: &'static str;

    /// The region of whoever creates the structure, laid out, and the region of the other side.
    ///
    /// # Errors
    /// What the system says, or whoever lays it out.
    fn regions(
        parts: &[Part],
        roles: [&'static [RoleId]; 2],
        lay_out: impl FnOnce(Region<Untrusted>) -> anyhow::Result<()>,
    ) -> anyhow::Result<[Region<Untrusted>; 2]>;
}

/// In one segment, which both sides can write.
#[derive(Debug)]
pub enum Whole {}

/// In a segment of parts.
#[derive(Debug)]
pub enum Parted {}

impl Form for Whole {
    const RING: &'static str = tidewire::NAMES[4];
    const LANES: &'static str = LANES[4];
    const CELL: &'static str = CELLS[1];

    fn regions(
        parts: &[Part],
        _: [&'static [RoleId]; 2],
        lay_out: impl FnOnce(Region<Untrusted>) -> anyhow::Result<()>,
    ) -> anyhow::Result<[Region<Untrusted>; 2]> {
        let bytes = parts.iter().map(Part::bytes).sum();
        let segment = Segment::anonymous_with(bytes, &SegmentOptions::new().prefault(true))?;
        lay_out(segment.region())?;
        Ok([segment.region(), segment.region()])
    }
}

impl Form for Parted {
    const RING: &'static str = tidewire::NAMES[5];
    const LANES: &'static str = LANES[5];
    const CELL: &'static str = CELLS[2];

    fn regions(
        parts: &[Part],
        [own, others]: [&'static [RoleId]; 2],
        lay_out: impl FnOnce(Region<Untrusted>) -> anyhow::Result<()>,
    ) -> anyhow::Result<[Region<Untrusted>; 2]> {
        let (here, there) = UnixStream::pair().context("make a pair of sockets")?;
        let theirs = parts.to_vec();
        let joining = std::thread::spawn(move || PartedSegment::join(&there, &theirs, others));
        let created = || -> anyhow::Result<Region<Untrusted>> {
            let mut draft = PartedDraft::new(parts, own)?;
            draft.gather(&here, others)?;
            let segment = draft.complete()?;
            lay_out(segment.region())?;
            segment.send_to(&here, others)?;
            Ok(segment.region())
        };
        let created = created();
        // Where that failed, whoever joins sees the end of the stream.
        drop(here);
        let joined = joining.join().map_err(|_| anyhow!("the side that joins panicked"))?;
        Ok([created?, joined?.region()])
    }
}

const PRODUCER: RoleId = match RoleId::producer(0) {
    Some(role) => role,
    None => panic!("there is a first producer"),
};
const PRODUCES: &[RoleId] = &[RoleId::CREATOR, PRODUCER];
const CONSUMES: &[RoleId] = &[RoleId::CONSUMER];

/// A ring that its producer creates.
#[derive(Debug)]
pub struct Ring<F>(PhantomData<F>);

impl<F: Form> Contender for Ring<F> {
    const NAME: &'static str = F::RING;
    const BATCH: bool = true;
    type Tx<const W: usize> = ring::Producer<[u64; W], Untrusted>;
    type Rx<const W: usize> = ring::Consumer<[u64; W], Untrusted>;

    fn make<const W: usize>() -> anyhow::Result<(Self::Tx<W>, Self::Rx<W>)> {
        let options = tidewire_ring::Options::new().role_stride(RoleStride::Page);
        let parts = ring::Ring::<[u64; W], Untrusted>::parts(CAPACITY, &options)?;
        let [created, joined] = F::regions(&parts, [PRODUCES, CONSUMES], |region| {
            drop(ring::Ring::<[u64; W], Untrusted>::create(region, CAPACITY, &options)?);
            Ok(())
        })?;
        Ok((ring::Ring::open(created, 0)?.producer()?, ring::Ring::open(joined, 0)?.consumer()?))
    }
}

/// A lane whose queue its producer creates.
#[derive(Debug)]
pub struct Lane<F>(PhantomData<F>);

impl<F: Form> Contender for Lane<F> {
    const NAME: &'static str = F::LANES;
    const BATCH: bool = true;
    type Tx<const W: usize> = lanes::Producer<[u64; W], Untrusted>;
    type Rx<const W: usize> = lanes::Consumer<[u64; W], Untrusted>;

    fn make<const W: usize>() -> anyhow::Result<(Self::Tx<W>, Self::Rx<W>)> {
        let options = tidewire_mpsc::Options::new().lanes(1).role_stride(RoleStride::Page);
        let parts = lanes::Queue::<[u64; W], Untrusted>::parts(CAPACITY, &options)?;
        let [created, joined] = F::regions(&parts, [PRODUCES, CONSUMES], |region| {
            drop(lanes::Queue::<[u64; W], Untrusted>::create(region, CAPACITY, &options)?);
            Ok(())
        })?;
        Ok((
            lanes::Queue::open(created, 0)?.producer(&Unleased)?,
            lanes::Queue::open(joined, 0)?.consumer(&Unleased)?,
        ))
    }
}

/// A cell that its writer creates.
#[derive(Debug)]
pub struct Latest<F>(PhantomData<F>);

impl<F: Form> CellContender for Latest<F> {
    const NAME: &'static str = F::CELL;
    type Writer<const W: usize> = Writer<[u64; W], Untrusted>;
    type Reader<const W: usize> = Reader<[u64; W], Untrusted>;

    fn modes(_: usize) -> &'static [Mode] {
        EVERYWHERE
    }

    fn make<const W: usize>(
        readers: usize,
        initial: &[u64; W],
    ) -> anyhow::Result<(Vec<Self::Reader<W>>, Self::Writer<W>)> {
        let options = tidewire_seqlock::Options::new().role_stride(RoleStride::Page);
        let page = RoleStride::Page.bytes();
        let bytes = Cell::<[u64; W], Untrusted>::bytes(&options)?;
        // Header and shape, the readers' bell, the cell.
        let parts = [
            Part::written_by(RoleId::CREATOR, page),
            Part::shared(page),
            Part::written_by(RoleId::CREATOR, bytes.saturating_sub(2 * page).next_multiple_of(page)),
        ];
        let [created, joined] = F::regions(&parts, [&[RoleId::CREATOR], &[]], |region| {
            drop(Cell::<[u64; W], Untrusted>::create(region, initial, &options)?);
            Ok(())
        })?;
        let (written, read) = (Cell::open(created, 0)?, Cell::open(joined, 0)?);
        Ok(((0..readers).map(|_| read.reader()).collect(), written.writer(&Unleased)?))
    }
}
