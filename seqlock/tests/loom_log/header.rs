//! The header: whoever finds the magic finds everything that the creator wrote before it.

use loom::thread;
use tidewire_seqlock::AttachError;
use tidewire_seqlock::log::{Log, Options, Start};
use tidewire_shm::sync::Ordering;
use tidewire_shm::{Field, Region};

use crate::model::model_that_shows;

#[test]
fn a_log_that_is_found_is_ready() {
    model_that_shows(&["found", "not yet"], |shown| {
        let options = Options::new(2).gates(1);
        let region = Region::heap(Log::<[u64; 2]>::bytes(&options).unwrap()).unwrap();
        // What an earlier use left there: the words that say something, but no magic.
        for offset in [384, 512, 640, 648, 896, 904] {
            // SAFETY: an owner word, `latest`, the stamps, a gate; the region outlives them.
            let word = unsafe { region.atomic_u64(offset) };
            word.store(3, Ordering::Relaxed);
        }
        // SAFETY: one alias creates, the other opens: they follow the protocol.
        let alias = unsafe { region.alias() };
        let creating = thread::spawn(move || drop(Log::<[u64; 2]>::create(region, &options).unwrap()));
        match Log::<[u64; 2]>::open(alias.read_only(), 0) {
            Ok(log) => {
                assert_eq!((log.writer_owner(), log.gate_owner(0)), (None, None));
                assert_eq!(log.reader(Start::Oldest).unwrap().next(), Ok(None));
                shown.note("found");
            }
            Err(AttachError::Incompatible(error)) => {
                assert_eq!(error.field, Field::Magic, "{error}");
                shown.note("not yet");
            }
            Err(error) => panic!("{error}"),
        }
        creating.join().unwrap();
    });
}
