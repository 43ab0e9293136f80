//! The header: whoever finds the magic finds everything that the creator wrote before it.

use loom::thread;
use tidewire_seqlock::{AttachError, Cell, Options};
use tidewire_shm::sync::Ordering;
use tidewire_shm::{Field, Region};

use crate::model::model_that_shows;

#[test]
fn a_cell_that_is_found_is_ready() {
    model_that_shows(&["found", "not yet"], |shown| {
        let options = Options::new().slots(2);
        let region = Region::heap(Cell::<[u64; 2]>::bytes(&options).unwrap()).unwrap();
        // What an earlier use left there: the words that say something, but no magic.
        for offset in [384, 512, 640 + 16, 640 + 64 + 16] {
            // SAFETY: an owner word, `latest`, the stamps; the region outlives them.
            let word = unsafe { region.atomic_u64(offset) };
            word.store(3, Ordering::Relaxed);
        }
        // SAFETY: one alias creates, the other opens: they follow the protocol.
        let alias = unsafe { region.alias() };
        let creating = thread::spawn(move || drop(Cell::create(region, &[7_u64; 2], &options).unwrap()));
        match Cell::<[u64; 2]>::open(alias.read_only(), 0) {
            Ok(cell) => {
                assert_eq!((cell.writer_owner(), cell.reader().try_read()), (None, Ok(([7; 2], 0))));
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
