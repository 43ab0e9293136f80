//! Any sequence of operations, against a model that is a value and a number.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests: a missing value shall fail the test"
)]

mod common;

use common::{Memory, Value};
use proptest::prelude::*;
use tidewire_seqlock::{BytesReadError, Cell, Options, bytes, shared};
use tidewire_shm::{Unleased, Untrusted};

#[derive(Clone, Debug)]
enum Step {
    Write(u64),
    Update(u64),
    Read,
    ReadIfChanged(u64),
    Reopen,
    Reader,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<u64>().prop_map(Step::Write),
        2 => any::<u64>().prop_map(Step::Update),
        4 => Just(Step::Read),
        2 => (0_u64..3).prop_map(Step::ReadIfChanged),
        1 => Just(Step::Reopen),
        1 => Just(Step::Reader),
    ];
    proptest::collection::vec(step, 1..120)
}

fn plain<const N: usize>(steps: &[Step], slots: u32)
where
    [u64; N]: bytemuck::Pod,
{
    let options = Options::new().slots(slots);
    let memory = Memory::new(Cell::<[u64; N]>::bytes(&options).unwrap());
    let mut cell = Cell::create(memory.region(), &<[u64; N]>::of(0), &options).unwrap();
    let (mut writer, mut reader) = (cell.writer(&Unleased).unwrap(), cell.reader());
    let (mut value, mut version) = (<[u64; N]>::of(0), 0);
    for step in steps {
        match step {
            Step::Write(seed) => {
                value = Value::of(*seed);
                version += 1;
                assert_eq!(writer.write(&value), version);
            }
            Step::Update(word) => {
                value[N - 1] ^= word;
                version += 1;
                assert_eq!(writer.update(|found| found[N - 1] ^= word), version);
            }
            Step::Read => assert_eq!(reader.read(), Ok((value, version))),
            Step::ReadIfChanged(back) => {
                let since = version.saturating_sub(*back);
                let expected = (since != version).then_some((value, version));
                assert_eq!(reader.read_if_changed(since), Ok(expected));
            }
            Step::Reopen => {
                drop(writer);
                cell = Cell::<[u64; N], Untrusted>::open(memory.region(), 0).unwrap();
                writer = cell.writer(&Unleased).unwrap();
            }
            Step::Reader => reader = cell.reader(),
        }
        assert_eq!((writer.version(), reader.version()), (version, Ok(version)));
    }
    assert_eq!(reader.retries(), 0);
    memory.check_guards();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cell_is_a_value_and_a_number(steps in steps(), slots in proptest::sample::select(vec![4, 8, 32])) {
        plain::<1>(&steps, slots);
        plain::<2>(&steps, slots);
        plain::<7>(&steps, slots);
        plain::<8>(&steps, slots);
        plain::<31>(&steps, slots);
    }

    #[test]
    fn a_byte_cell_is_bytes_and_a_number(
        values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..=200), 1..40),
        max in 1_usize..=200,
        room in 0_usize..=220,
    ) {
        let cell = bytes::Cell::on_heap(max, b"").unwrap();
        let (mut writer, mut reader) = (cell.writer(&Unleased).unwrap(), cell.reader());
        let mut buffer = vec![0; room];
        let (mut latest, mut version): (&[u8], u64) = (b"", 0);
        for value in &values {
            let written = writer.write(value);
            prop_assert_eq!(written.is_ok(), value.len() <= max);
            if written.is_ok() {
                (latest, version) = (value, version + 1);
            }
            match reader.read(&mut buffer) {
                Ok(found) => prop_assert_eq!(found, (latest, version)),
                Err(error) => {
                    prop_assert_eq!(error, BytesReadError::BufferTooSmall { needed: latest.len() });
                    prop_assert!(room < latest.len());
                }
            }
        }
    }

    #[test]
    fn many_writers_are_one_after_the_other(turns in proptest::collection::vec((0_usize..4, any::<u64>()), 1..60)) {
        let cell = shared::Cell::on_heap(&<[u64; 9]>::of(0)).unwrap();
        let mut writers: Vec<_> = (0..4).map(|_| cell.writer(&Unleased).unwrap()).collect();
        let mut reader = cell.reader();
        for (version, (writer, seed)) in (1..).zip(turns) {
            prop_assert_eq!(writers[writer].write(&Unleased, &Value::of(seed)), Ok(version));
            prop_assert_eq!(reader.read(), Ok((Value::of(seed), version)));
        }
    }
}
