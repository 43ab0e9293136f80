//! The latest value that the promises are about, in a named segment with leases.

use std::path::Path;

use tidewire_seqlock::{Cell, Options};
use tidewire_shm::{Region, Segment, SegmentLeases, Untrusted};

use crate::peers::at;

pub(crate) const WORDS: usize = 4096;
/// So large that a writer is nearly always in the middle of one.
pub(crate) type Value = [u64; WORDS];
pub(crate) type Latest = Cell<Value, Untrusted>;
pub(crate) const NAME: &str = "value";
const MARK: u64 = 0x7a1e << 48;

/// The word that version `number` consists of.
pub(crate) fn word(number: u64) -> u64 {
    MARK | number
}

pub(crate) fn value(number: u64) -> Value {
    [word(number); WORDS]
}

/// Panics unless the value is that of its version.
pub(crate) fn whole(value: &Value, version: u64) {
    assert!(value.iter().all(|&found| found == word(version)), "torn, or not the value of {version}");
}

/// The number whose word the value consists of; panics if it is torn.
pub(crate) fn number(value: &Value) -> u64 {
    let number = value[0] ^ MARK;
    whole(value, number);
    number
}

pub(crate) fn options() -> Options {
    Options::new().liveness::<SegmentLeases>()
}

pub(crate) fn bytes() -> usize {
    Latest::bytes(&options()).unwrap()
}

pub(crate) fn lay_out(region: Region<Untrusted>) -> Result<(), String> {
    Latest::create(region, &value(0), &options()).map(drop).map_err(crate::queues::text)
}

pub(crate) fn create(place: &Path) -> Segment {
    Segment::create_with(NAME, bytes(), &at(place), |region| Ok(lay_out(region)?)).unwrap()
}

pub(crate) fn open(segment: &Segment) -> Latest {
    Latest::open(segment.region(), 0).unwrap()
}
