//! Leases that say nothing about a cell: refused where a role is taken, not believed where somebody is to be proven dead.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

mod common;

use std::mem::ManuallyDrop;

use common::{Leases, Memory, Value, role};
use tidewire_seqlock::{AttachError, Cell, Options, WriteError, classic, log, shared};
use tidewire_shm::{LeaseError, Liveness, Region, RoleId, Tenancy, Unleased};

/// Leases that say of everybody that he is dead.
#[derive(Debug)]
struct AllDead<const KIND: u32, const PROVES: bool>;

// SAFETY: used only where it shall not be believed.
unsafe impl<const KIND: u32, const PROVES: bool> Liveness for AllDead<KIND, PROVES> {
    type Lease = common::Lease;
    const PROVES: bool = PROVES;
    const KIND: u32 = KIND;

    fn acquire(&self, role: RoleId) -> Result<common::Lease, LeaseError> {
        Err(LeaseError::Held { role })
    }

    fn tenancy(&self, _role: RoleId) -> Tenancy {
        Tenancy::Vacant
    }
}

/// Where the sequence of a classic cell lies: behind header, shape, bell and owner.
const SEQUENCE: usize = 512;

#[test]
fn a_classic_writer_is_dead_only_by_leases_of_its_kind() {
    let options = Options::new().liveness::<Leases>();
    let leases = Leases::default();
    let memory = Memory::new(classic::Cell::<[u64; 9]>::bytes(&options).unwrap());
    let cell = classic::Cell::create(memory.region(), &<[u64; 9]>::of(0), &options).unwrap();
    let (writer, mut reader) = (ManuallyDrop::new(cell.writer(&leases).unwrap()), cell.reader());
    // As a write leaves it that is stopped in step 2.
    memory.set(SEQUENCE, 1);
    let busy = Err(classic::ReadError::Busy);
    assert_eq!(reader.read(&AllDead::<{ Leases::KIND + 1 }, true>), busy, "another kind");
    assert_eq!(reader.read(&AllDead::<{ tidewire_shm::KERNEL_LEASES }, true>), busy, "another kind");
    assert_eq!(reader.read(&AllDead::<{ Leases::KIND }, false>), busy, "proves nothing");
    assert_eq!(reader.read(&leases), busy, "it lives");
    leases.kill(role(0));
    assert_eq!(reader.read(&leases), Err(classic::ReadError::WriterDied));
    assert_eq!(cell.writer_owner(), Some(writer.owner()));
}

#[test]
fn a_lock_is_taken_only_by_leases_of_its_kind() {
    let options = Options::new().liveness::<Leases>().writers(2);
    let leases = Leases::default();
    let memory = Memory::new(shared::Cell::<[u64; 9]>::bytes(&options).unwrap());
    let cell = shared::Cell::create(memory.region(), &<[u64; 9]>::of(0), &options).unwrap();
    let (mut first, mut second) = (cell.writer(&leases).unwrap(), cell.writer(&leases).unwrap());
    let value = <[u64; 9]>::of(1);
    let busy = Err(WriteError::Busy { writer: 0 });
    let version = first.update(&leases, |to| {
        assert_eq!(second.write(&AllDead::<{ Leases::KIND + 1 }, true>, &value), busy);
        assert_eq!(second.update(&AllDead::<{ Leases::KIND }, false>, |_| ()), busy);
        assert_eq!(second.write(&leases, &value), busy);
        *to = value;
    });
    assert_eq!((version, cell.reader().read()), (Ok(1), Ok((value, 1))));
    assert_eq!(second.write(&leases, &<[u64; 9]>::of(2)), Ok(2));
}

/// Leases that are given to everybody and say that they prove that all others are gone, by the kind of no leases.
#[derive(Debug)]
struct Nothing;

// SAFETY: used only where it shall not be believed.
unsafe impl Liveness for Nothing {
    type Lease = ();
    const PROVES: bool = true;
    const KIND: u32 = 0;

    fn acquire(&self, _role: RoleId) -> Result<(), LeaseError> {
        Ok(())
    }

    fn tenancy(&self, _role: RoleId) -> Tenancy {
        Tenancy::Vacant
    }
}

#[test]
fn leases_of_no_kind_take_nothing_from_those_who_have_none() {
    let taken = |owner| Err(AttachError::RoleTaken(owner));
    let cell = Cell::on_heap(&[0_u64; 9]).unwrap();
    let writer = cell.writer(&Unleased).unwrap();
    assert_eq!(cell.writer(&Nothing).map(|_| ()), taken(writer.owner()));
    drop(writer);
    assert!(cell.writer(&Nothing).is_ok());

    let shared = shared::Cell::<[u64; 9]>::on_heap(&[0; 9]).unwrap();
    let mut writers = Vec::new();
    while let Ok(writer) = shared.writer(&Unleased) {
        writers.push(writer);
    }
    assert!(!writers.is_empty());
    assert!(shared.writer(&Nothing).is_err());
    assert_eq!(writers.pop().map(|mut writer| writer.write(&Unleased, &[1; 9])), Some(Ok(1)));

    let options = log::Options::new(16).gates(1);
    let bytes = log::Log::<[u64; 9]>::bytes(&options).unwrap();
    let log = log::Log::<[u64; 9]>::create(Region::heap(bytes).unwrap(), &options).unwrap();
    let reader = log.gated_reader(log::Start::Next, &Unleased).unwrap();
    let refused = log.gated_reader(log::Start::Next, &Nothing).map(|_| ());
    assert!(matches!(refused, Err(AttachError::GatesExhausted { .. })), "{refused:?}");
    assert_eq!(log.writer(&Unleased).unwrap().reclaim_gates(&Nothing), 0);
    drop(reader);
    assert!(log.gated_reader(log::Start::Next, &Nothing).is_ok());
}

#[cfg(all(target_os = "linux", not(miri)))]
mod of_segments {
    use super::*;
    use tidewire_seqlock::{bytes, table};
    use tidewire_shm::{Field, Incompatible, KERNEL_LEASES, Segment, SegmentLeases, Untrusted};

    fn options() -> Options {
        Options::new().liveness::<SegmentLeases>()
    }

    /// Two segments, of which the second is the wrong one.
    fn segments() -> (Segment, Segment) {
        (Segment::anonymous(1 << 16).unwrap(), Segment::anonymous(1 << 16).unwrap())
    }

    fn refuse<W: std::fmt::Debug>(writer: Result<W, AttachError>) {
        let expected = Incompatible::new(Field::Liveness, KERNEL_LEASES.into(), 0);
        assert_eq!(writer.unwrap_err(), AttachError::Incompatible(expected));
    }

    /// Every way to become a writer, in one region after the other.
    fn every_writer(region: impl Fn() -> Region<Untrusted>, leases: &SegmentLeases, right: bool) {
        fn check<W: std::fmt::Debug>(writer: Result<W, AttachError>, right: bool) {
            if right { drop(writer.unwrap()) } else { refuse(writer) }
        }
        let cell = Cell::create(region(), &0_u64, &options()).unwrap();
        check(cell.writer(leases), right);
        let cell = bytes::Cell::create(region(), 10, b"", &options()).unwrap();
        check(cell.writer(leases), right);
        let table = table::Table::create(region(), 2, u64::from, &options()).unwrap();
        check(table.writer(1, leases), right);
        let cell = shared::Cell::create(region(), &0_u64, &options()).unwrap();
        check(cell.writer(leases), right);
        let cell = classic::Cell::create(region(), &0_u64, &options()).unwrap();
        check(cell.writer(leases), right);
    }

    #[test]
    fn only_leases_of_the_segment_make_writers() {
        let (segment, other) = segments();
        every_writer(|| segment.region(), &segment.leases().unwrap(), true);
        every_writer(|| segment.region(), &other.leases().unwrap(), false);
        every_writer(|| Region::heap(1 << 16).unwrap().distrust(), &segment.leases().unwrap(), false);
        // The same memory by another descriptor and another mapping.
        let again = Segment::from_fd(segment.try_clone_fd().unwrap()).unwrap();
        every_writer(|| again.region(), &segment.leases().unwrap(), true);
        let cell = Cell::create(segment.region(), &0_u64, &options()).unwrap();
        assert!(matches!(cell.writer(&Unleased), Err(AttachError::Incompatible(_))));
    }

    #[test]
    fn leases_of_another_segment_prove_nobody_dead() {
        let (segment, other) = segments();
        let (leases, wrong) = (segment.leases().unwrap(), other.leases().unwrap());
        let cell = shared::Cell::create(segment.region(), &0_u64, &options()).unwrap();
        let (mut first, mut second) = (cell.writer(&leases).unwrap(), cell.writer(&leases).unwrap());
        let version = first.update(&leases, |value| {
            assert_eq!(wrong.tenancy(role(0)), Tenancy::Vacant);
            assert_eq!(second.write(&wrong, &2), Err(WriteError::Busy { writer: 0 }));
            *value = 1;
        });
        assert_eq!((version, cell.reader().read()), (Ok(1), Ok((1, 1))));
        drop((first, second));

        let cell = classic::Cell::create(segment.region(), &0_u64, &options()).unwrap();
        let (writer, mut reader) = (cell.writer(&leases).unwrap(), cell.reader());
        let region = segment.region();
        // SAFETY: the region is kept; the sequence is such an atomic. The test plays the writer.
        let sequence = unsafe { region.atomic_u64(SEQUENCE) };
        sequence.store(1, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(reader.read(&wrong), Err(classic::ReadError::Busy));
        assert_eq!(reader.read(&leases), Err(classic::ReadError::Busy));
        drop(writer);
        assert_eq!(reader.read(&wrong), Err(classic::ReadError::Busy));
        assert_eq!(reader.read(&leases), Err(classic::ReadError::WriterDied));
    }
}
