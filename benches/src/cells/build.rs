//! The cell of builds from nothing; measured only when it is asked for.

use crate::cells::{Cell, Entry, Group, Kind, Sample};
use crate::cold;
use crate::pair::PROCESSES;
use crate::peers::BUILT;

fn entry(contender: &'static str, sample: Sample) -> Entry {
    // Its processes do sleep; what disturbs it is what others take.
    Entry { contender, sample, checks: &[], modes: PROCESSES, sleeps: true }
}

/// All of them, in the order of the report.
#[must_use]
pub fn all() -> Vec<Cell> {
    vec![Cell {
        group: Group::Build,
        name: "build-cold".to_owned(),
        title: "A build from nothing, default features, two jobs".to_owned(),
        kind: Kind::Build,
        payload_bytes: 0,
        reference: BUILT[0],
        // A quarter of a minute, of the usual ones.
        windows: 375,
        entries: vec![
            entry(BUILT[0], |board, _, _| cold::build(board, "tidewire")),
            #[cfg(feature = "peers-heavy")]
            entry("iceoryx2", |board, _, _| cold::build(board, "iceoryx2")),
            #[cfg(feature = "peers-heavy")]
            entry("ipc-channel", |board, _, _| cold::build(board, "ipc-channel")),
            #[cfg(feature = "peers-heavy")]
            entry("shmem-ipc", |board, _, _| cold::build(board, "shmem-ipc")),
        ],
    }]
}
