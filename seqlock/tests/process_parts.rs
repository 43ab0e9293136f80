//! Cells in a segment of parts: the writer's part cannot be written by any reader, whatever it tries.
#![cfg(all(feature = "std", not(loom), not(miri)))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

use std::env;
use std::io::{Read, Write, stdin};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tidewire_seqlock::{AttachError, Cell, Options, ReadError};
use tidewire_shm::{Part, PartedSegment, RegionError, RoleId, RoleStride, Unleased, Untrusted};

const PATIENCE: Duration = Duration::from_secs(50);
const CHILD: &str = "TIDEWIRE_TEST_PARTS_CHILD";
const READS: u64 = 500;

type Value = [u64; 64];

fn options() -> Options {
    Options::new().role_stride(RoleStride::Page)
}

/// Header and shape, the readers' bell, the cell.
fn parts() -> [Part; 3] {
    let page = RoleStride::Page.bytes();
    let cell = Cell::<Value, Untrusted>::bytes(&options()).unwrap() - 2 * page;
    [
        Part::written_by(RoleId::CREATOR, page),
        Part::shared(page),
        Part::written_by(RoleId::CREATOR, cell.next_multiple_of(page)),
    ]
}

/// Reads rising versions, each whole.
fn read(cell: &Cell<Value, Untrusted>) {
    let mut reader = cell.reader();
    let (mut last, mut seen, started) = (0, 0, Instant::now());
    while seen < READS {
        match reader.read_if_changed(last) {
            Ok(Some((value, version))) => {
                assert!(version > last && value == [version; 64], "{version} after {last}: {value:?}");
                (last, seen) = (version, seen + 1);
            }
            Ok(None) => thread::yield_now(),
            Err(ReadError::Lapped) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(started.elapsed() < PATIENCE, "the writer stands still");
    }
}

#[test]
fn subscribers_read_what_only_the_writer_can_write() {
    if env::var_os(CHILD).is_some() {
        let mut socket = UnixStream::from(stdin().as_fd().try_clone_to_owned().unwrap());
        for observing in [false, true] {
            let joined = match observing {
                false => PartedSegment::join(&socket, &parts(), &[]),
                true => PartedSegment::observe(&socket, &parts()),
            }
            .unwrap();
            let region = joined.region();
            assert_eq!(region.is_writable_at(4096, 4096), !observing);
            assert!(!region.is_writable_at(0, 8) && !region.is_writable_at(8192, 8));
            let cell = Cell::<Value, Untrusted>::open(region, 0).unwrap();
            let refused = cell.writer(&Unleased).unwrap_err();
            assert_eq!(refused, AttachError::Region(RegionError::ReadOnly));
            read(&cell);
        }
        return socket.write_all(b"!").unwrap();
    }
    let (mut here, there) = UnixStream::pair().unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "subscribers_read_what_only_the_writer_can_write", "--nocapture"]);
    let mut child = command.env(CHILD, "1").stdin(Stdio::from(OwnedFd::from(there))).spawn().unwrap();
    drop(command);
    let created = PartedSegment::create(&parts(), &[RoleId::CREATOR]).unwrap();
    let cell = Cell::<Value, Untrusted>::create(created.region(), &[0; 64], &options()).unwrap();
    let mut writer = cell.writer(&Unleased).unwrap();
    created.send(&here).unwrap();
    created.send(&here).unwrap();
    here.set_nonblocking(true).unwrap();
    let (mut version, started) = (0, Instant::now());
    while here.read(&mut [0]).is_err() {
        version += 1;
        assert_eq!(writer.write(&[version; 64]), version);
        assert!(started.elapsed() < 2 * PATIENCE, "the reader does not end");
    }
    assert!(child.wait().unwrap().success());
}
