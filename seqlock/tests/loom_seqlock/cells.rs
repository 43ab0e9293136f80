//! One writer and readers, in each form.

use loom::thread;
use tidewire_seqlock::{BytesReadError, Cell, Options, ReadError, Reader, bytes};
use tidewire_shm::sync::hook;
use tidewire_shm::{Region, Trusted, Unleased};

use crate::leases::Leases;
use crate::model::{Shown, at_every_step, model_that_shows};

/// A value of `N` words that all tell the version.
pub(crate) fn value<const N: usize>(version: u64) -> [u64; N] {
    [version * 10; N]
}

fn cell<const N: usize>(slots: u32) -> Cell<[u64; N]>
where
    [u64; N]: bytemuck::Pod,
{
    let options = Options::new().slots(slots).liveness::<Leases>();
    let region = Region::heap(Cell::<[u64; N]>::bytes(&options).unwrap()).unwrap();
    Cell::create(region, &value(0), &options).unwrap()
}

/// One attempt: the version, if it succeeded, never below `last`, with the value that belongs to it.
fn look<const N: usize>(reader: &mut Reader<[u64; N]>, last: u64, shown: &Shown) -> u64
where
    [u64; N]: bytemuck::Pod,
{
    match reader.try_read() {
        Ok((found, version)) => {
            assert_eq!(found, value(version), "torn");
            assert!(version >= last, "{version} after {last}");
            shown.note_if(version > last, "newer");
            version
        }
        Err(ReadError::Lapped) => {
            shown.note("lapped");
            last
        }
        Err(ReadError::Corrupt(corrupt)) => panic!("{corrupt}"),
    }
}

/// A writer writes `writes` versions while a reader makes `reads` attempts.
fn stream<const N: usize>(slots: u32, writes: u64, reads: usize, expected: &'static [&'static str])
where
    [u64; N]: bytemuck::Pod,
{
    model_that_shows(expected, move |shown| {
        let cell = cell::<N>(slots);
        let mut writer = cell.writer(&Leases::new()).unwrap();
        let mut reader = cell.reader();
        let writing = thread::spawn(move || {
            (1..=writes).for_each(|version| assert_eq!(writer.write(&value(version)), version));
        });
        let mut last = 0;
        for _ in 0..reads {
            last = look(&mut reader, last, shown);
        }
        writing.join().unwrap();
        assert_eq!(reader.try_read(), Ok((value(writes), writes)));
    });
}

#[test]
fn words() {
    stream::<1>(2, 4, 2, &["newer", "lapped"]);
}

#[test]
fn words_in_four() {
    stream::<1>(4, 6, 2, &["newer", "lapped"]);
}

#[test]
fn inline() {
    stream::<2>(2, 3, 1, &["newer", "lapped"]);
}

#[test]
fn rotating() {
    stream::<3>(2, 3, 1, &["newer", "lapped"]);
}

/// Two readings, so that versions could go back; no slot is used again.
#[test]
fn versions_never_go_back() {
    stream::<2>(2, 2, 2, &["newer"]);
}

/// A read within bounds never takes a writer that is fast for one that lies: that needs four slots.
#[test]
fn an_honest_writer_is_never_corrupt() {
    model_that_shows(&["read", "lapped"], |shown| {
        let cell = cell::<3>(4);
        let mut writer = cell.writer(&Leases::new()).unwrap();
        let mut reader = cell.reader();
        writer.write(&value(1));
        let writing = thread::spawn(move || {
            (2..=6).for_each(|version| assert_eq!(writer.write(&value(version)), version));
        });
        match reader.read() {
            Ok((found, version)) => {
                assert_eq!(found, value(version), "torn");
                shown.note("read");
                shown.note_if(reader.retries() > 0, "lapped");
            }
            Err(error) => assert_eq!(error, ReadError::Lapped),
        }
        writing.join().unwrap();
    });
}

/// The same where one writer follows another: whoever saw the first stamp of the second knows what the first published.
#[test]
fn the_first_stamp_of_a_follower_tells_of_what_was_published() {
    model_that_shows(&["read", "lapped"], |shown| {
        let leases = Leases::new();
        let cell = std::sync::Arc::new(cell::<3>(4));
        let mut reader = cell.reader();
        let shown = shown.clone();
        let reading = thread::spawn(move || match reader.try_read() {
            Ok((found, version)) => {
                assert_eq!(found, value(version), "torn");
                shown.note("read");
            }
            Err(error) => {
                assert_eq!(error, ReadError::Lapped);
                shown.note("lapped");
                // Sent to the slot of version 0, it saw the stamp of version 4 there; this one fences.
                let _again = reader.try_read();
                assert!(reader.version().unwrap() >= 3);
            }
        });
        let mut first = cell.writer(&leases).unwrap();
        (1..=3).for_each(|version| assert_eq!(first.write(&value(version)), version));
        drop(first);
        let following = thread::spawn(move || {
            assert_eq!(cell.writer(&leases).unwrap().write(&value(4)), 4);
        });
        following.join().unwrap();
        reading.join().unwrap();
    });
}

/// Bytes and their length belong to one version.
#[test]
fn lengths_belong_to_their_bytes() {
    let values: [&[u8]; 4] = [b"aaaaaaaa", b"bb", b"cccccc", b"d"];
    model_that_shows(&["short", "long", "lapped"], move |shown| {
        let options = Options::new().slots(2);
        let region = Region::heap(bytes::Cell::<Trusted>::bytes(8, &options).unwrap()).unwrap();
        let cell = bytes::Cell::create(region, 8, values[0], &options).unwrap();
        let (mut writer, mut reader) = (cell.writer(&Unleased).unwrap(), cell.reader());
        let writing = thread::spawn(move || {
            for (version, value) in (1..).zip(&values[1..]) {
                assert_eq!(writer.write(value), Ok(version));
            }
        });
        let mut buffer = [0; 6];
        match reader.try_read(&mut buffer) {
            Ok((found, version)) => {
                shown.note("short");
                assert_eq!(found, values[version as usize], "torn");
            }
            Err(BytesReadError::BufferTooSmall { needed }) => {
                shown.note("long");
                assert_eq!(needed, 8);
            }
            Err(BytesReadError::Lapped) => shown.note("lapped"),
            Err(error) => panic!("{error}"),
        }
        writing.join().unwrap();
    });
}

/// Killed before any of its accesses, a writer leaves a cell that readers read and the next writer goes on with: nothing
/// that it was told is written is lost, and nothing torn is seen.
fn crash<const N: usize>()
where
    [u64; N]: bytemuck::Pod,
{
    at_every_step(|step| {
        let shown = Shown::default();
        let leases = Leases::new();
        let cell = cell::<N>(2);
        let mut reader = cell.reader();
        let mut first = cell.writer(&leases).unwrap();
        first.write(&value(1));
        let dying = thread::spawn(move || {
            let mut acknowledged = 1;
            let outcome = hook::killed_after(step, || {
                let mut first = first;
                acknowledged = first.write(&value(2));
            });
            (acknowledged, outcome.is_none())
        });
        let following = thread::spawn(move || {
            let (acknowledged, killed) = dying.join().unwrap();
            let mut next = cell.writer(&leases).unwrap();
            let version = next.version();
            assert!(version >= acknowledged, "{acknowledged} was written, goes on from {version}");
            assert_eq!(next.value(), value(version));
            assert_eq!(next.write(&value(version + 1)), version + 1);
            assert_eq!(next.update(|found| found.iter_mut().for_each(|word| *word += 10)), version + 2);
            (version + 2, killed)
        });
        let seen = look(&mut reader, 0, &shown);
        let (last, killed) = following.join().unwrap();
        assert!(seen <= last);
        assert_eq!(reader.try_read(), Ok((value(last), last)));
        killed
    });
}

#[test]
fn a_writer_of_words_killed_at_any_step_is_followed() {
    crash::<1>();
}

#[test]
fn an_inline_writer_killed_at_any_step_is_followed() {
    crash::<2>();
}

#[test]
fn a_rotating_writer_killed_at_any_step_is_followed() {
    crash::<3>();
}
