//! Messages that are written and read where they lie, and ends that trust their peers.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::semicolon_if_nothing_returned,
    reason = "tests may panic, with small numbers"
)]

use std::thread;
use std::time::Duration;

use tidewire::{
    Kind, Options, Overflow, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};

const KINDS: [Kind; 3] = [Kind::Lanes, Kind::Ordered, Kind::Single];
const SOON: Duration = Duration::from_millis(20);
type Frame = [u64; 8192];

fn trusted(options: Options) -> Options {
    // SAFETY: channels without names, of this process alone.
    unsafe { options.trusted() }
}

/// Every kind, untrusted and trusted.
fn all() -> impl Iterator<Item = (Kind, bool, Options)> {
    KINDS.into_iter().flat_map(|kind| {
        let options = Options::new().kind(kind).capacity(8);
        [(kind, false, options.clone()), (kind, true, trusted(options))]
    })
}

#[test]
fn what_is_committed_arrives_and_what_is_dropped_does_not() {
    for (kind, trust, options) in all() {
        let (mut tx, mut rx) = options.channel::<u64>().unwrap();
        for i in 0..100 {
            let mut place = tx.reserve().unwrap();
            place.set(&i);
            place.commit().unwrap();
            let mut aborted = tx.reserve().unwrap();
            aborted.set(&u64::MAX);
            drop(aborted);
            assert_eq!(rx.try_recv(), Ok(i), "{kind:?} {trust}");
            assert_eq!(rx.try_recv(), Err(TryRecvError::Empty), "{kind:?} {trust}");
        }
    }
}

#[test]
fn a_place_is_lent_where_nobody_else_writes_or_all_are_trusted() {
    for (kind, trust, options) in all() {
        let (mut tx, mut rx) = options.channel::<Frame>().unwrap();
        let mut place = tx.reserve().unwrap();
        let lent = place.as_mut().map(|frame| {
            frame.fill(7);
            frame[8191] = 8;
        });
        assert_eq!(lent.is_some(), trust || kind == Kind::Ordered, "{kind:?}");
        if lent.is_none() {
            let mut frame = [7; 8192];
            frame[8191] = 8;
            place.set(&frame);
        }
        place.commit().unwrap();
        let mut chunk = rx.read_chunk(5).unwrap();
        assert_eq!(chunk.len(), 1);
        let mut copy = [[0; 8192]];
        chunk.get(0, &mut copy).unwrap();
        assert_eq!((copy[0][0], copy[0][8190], copy[0][8191]), (7, 7, 8));
        let last = chunk.as_slices().map(|(frames, behind)| (frames[0][8191], frames.len(), behind.len()));
        assert_eq!(last, (trust || kind == Kind::Ordered).then_some((8, 1, 0)), "{kind:?}");
        chunk.release(1).unwrap();
        assert_eq!(rx.try_read_chunk(1).err(), Some(TryRecvError::Empty));
    }
}

#[test]
fn a_chunk_is_consumed_as_far_as_it_is_released() {
    for (kind, trust, options) in all() {
        let (mut tx, mut rx) = options.capacity(64).channel::<u64>().unwrap();
        let mut next = 0;
        for round in 0..200 {
            let first = round * 8;
            tx.send_slice(&(first..first + 8).collect::<Vec<_>>()).unwrap();
            while let Ok(mut chunk) = rx.try_read_chunk(5) {
                assert!((1..=5).contains(&chunk.len()), "{kind:?}");
                let mut copy = vec![0; chunk.len()];
                chunk.get(0, &mut copy).unwrap();
                if let Some((front, back)) = chunk.as_slices() {
                    assert_eq!([front, back].concat(), copy);
                }
                let too_many = chunk.get(1, &mut vec![0; copy.len()]).unwrap_err();
                assert_eq!((too_many.available, too_many.asked), (copy.len(), copy.len() + 1));
                assert_eq!(copy, (next..next + copy.len() as u64).collect::<Vec<_>>(), "{kind:?} {trust}");
                // What is not released comes again.
                let done = copy.len().div_ceil(2);
                chunk.release(done).unwrap();
                next += done as u64;
            }
            assert_eq!(next, first + 8);
        }
        tx.send(next).unwrap();
        let chunk = rx.read_chunk(1).unwrap();
        assert!(chunk.release(2).is_err());
        assert_eq!(rx.recv(), Ok(next), "{kind:?}: a release that cannot be takes nothing");
    }
}

#[test]
fn no_place_is_said_and_waited_for() {
    for (kind, trust, options) in all() {
        let (mut tx, mut rx) = options.channel::<u64>().unwrap();
        for i in 0..8 {
            let mut place = tx.try_reserve().unwrap();
            place.set(&i);
            place.commit().unwrap();
        }
        assert_eq!(tx.try_reserve().err(), Some(TrySendError::Full(())), "{kind:?} {trust}");
        assert_eq!(tx.reserve_timeout(SOON).err(), Some(SendTimeoutError::Timeout(())));
        let receiver = thread::spawn(move || {
            thread::sleep(SOON);
            (0..16).map(|_| rx.recv().unwrap()).sum::<u64>()
        });
        for i in 8..16 {
            let mut place = tx.reserve().unwrap();
            place.set(&i);
            place.commit().unwrap();
        }
        assert_eq!(receiver.join().unwrap(), (0..16).sum());
        assert_eq!(tx.reserve().err(), Some(SendError::Disconnected(())), "{kind:?} {trust}");
    }
}

#[test]
fn a_sleeping_receiver_is_woken_by_the_commit_and_a_chunk_waits() {
    for (kind, trust, options) in all() {
        let (mut tx, mut rx) = options.channel::<u64>().unwrap();
        assert_eq!(rx.read_chunk_timeout(1, SOON).err(), Some(RecvTimeoutError::Timeout));
        let sender = thread::spawn(move || {
            thread::sleep(SOON);
            let mut place = tx.reserve().unwrap();
            place.set(&7);
            thread::sleep(SOON);
            place.commit().unwrap();
        });
        let chunk = rx.read_chunk(1).unwrap();
        let mut got = [0];
        chunk.get(0, &mut got).unwrap();
        assert_eq!(got, [7], "{kind:?} {trust}");
        chunk.release(1).unwrap();
        sender.join().unwrap();
        assert!(rx.read_chunk(1).is_err(), "{kind:?}: the sender has left");
    }
}

#[test]
fn what_a_place_costs_where_there_is_none_is_what_the_channel_wants() {
    for kind in KINDS {
        let options = Options::new().kind(kind).capacity(2);
        let (mut tx, _rx) = options.clone().overflow(Overflow::Reject).channel::<u64>().unwrap();
        tx.send_slice(&[1, 2]).unwrap();
        assert_eq!(tx.reserve().err(), Some(SendError::Full(())));
        assert_eq!(tx.dropped(), 0);
        let (mut tx, mut rx) = options.overflow(Overflow::DropNewest).channel::<u64>().unwrap();
        tx.send_slice(&[1, 2]).unwrap();
        assert_eq!(tx.reserve().err(), Some(SendError::Full(())));
        assert_eq!((tx.dropped(), rx.senders()[0].dropped), (1, 1), "{kind:?}");
    }
}

#[test]
fn trusting_and_other_ends_share_a_channel() {
    for kind in KINDS {
        let options = Options::new().kind(kind).capacity(8);
        let memory = options.memory::<u64>().unwrap();
        let fd = memory.try_clone_fd().unwrap();
        let mut rx = trusted(options.clone()).receiver_on::<u64>(memory).unwrap();
        let mut tx = options.sender_on::<u64>(tidewire::shm::Segment::from_fd(fd).unwrap()).unwrap();
        for i in 0..100 {
            tx.send(i).unwrap();
            let mut chunk = rx.read_chunk(1).unwrap();
            assert_eq!(chunk.as_slices().unwrap().0, [i], "{kind:?}");
            chunk.release(1).unwrap();
        }
        drop(tx);
        assert!(rx.recv().is_err());
    }
}

#[test]
fn trusting_ends_do_all_that_others_do() {
    for kind in KINDS {
        let options = trusted(Options::new().kind(kind).capacity(16));
        let (mut tx, mut rx) = options.channel::<u64>().unwrap();
        let sender = thread::spawn(move || {
            for i in 0..1000 {
                tx.send(3 * i).unwrap();
                tx.send_slice(&[3 * i + 1, 3 * i + 2]).unwrap();
            }
        });
        let mut place = 0;
        rx.recv_to(&mut place).unwrap();
        assert_eq!(place, 0);
        let (mut next, mut some) = (1, [0; 3]);
        while next < 3000 {
            let got = rx.recv_slice(&mut some).unwrap();
            assert_eq!(some[..got], (next..next + got as u64).collect::<Vec<_>>(), "{kind:?}");
            next += got as u64;
        }
        sender.join().unwrap();
        assert!(rx.recv().is_err());
    }
}

#[test]
fn bytes_are_written_and_read_in_pieces() {
    for (kind, trust, options) in all() {
        let (mut tx, mut rx) = options.capacity(1 << 18).bytes_channel().unwrap();
        for round in 0..20_u8 {
            let mut place = tx.reserve(1 << 16).unwrap();
            assert_eq!(place.len(), 1 << 16);
            match place.as_mut_slice() {
                Some(room) => room.fill(round),
                None => (0..64).for_each(|i| place.set(i << 10, &[round; 1 << 10]).unwrap()),
            }
            assert_eq!(place.as_mut_slice().is_some(), trust || kind == Kind::Ordered);
            let too_many = place.set(1 << 16, b"x").unwrap_err();
            assert_eq!((too_many.available, too_many.asked), (1 << 16, (1 << 16) + 1));
            place.commit(65_000).unwrap();
            drop(tx.reserve(8).unwrap());
            let message = rx.read().unwrap();
            assert_eq!(message.len(), 65_000);
            assert_eq!(message.as_slice().is_some(), trust, "{kind:?}");
            let mut piece = [0; 1000];
            for i in 0..65 {
                message.get(i * 1000, &mut piece).unwrap();
                assert_eq!(piece, [round; 1000]);
            }
            assert!(message.get(64_001, &mut piece).is_err());
            if let Some(bytes) = message.as_slice() {
                assert_eq!(bytes, vec![round; 65_000]);
            }
            drop(message);
            assert_eq!(rx.try_read().err(), Some(TryRecvError::Empty), "{kind:?} {trust}");
        }
        let place = tx.reserve(8).unwrap();
        assert_eq!(place.commit(9), Err(SendError::TooLong((), 8)));
        let never = tx.max_message() + 1;
        assert!(matches!(tx.try_reserve(never), Err(TrySendError::TooLong((), _))), "{kind:?}");
    }
}

#[test]
fn a_place_for_bytes_is_waited_for() {
    for (kind, trust, options) in all() {
        let (mut tx, mut rx) = options.capacity(4096).bytes_channel().unwrap();
        while let Ok(place) = tx.try_reserve(500) {
            place.commit(500).unwrap();
        }
        assert_eq!(tx.reserve_timeout(500, SOON).err(), Some(SendTimeoutError::Timeout(())), "{kind:?}");
        assert_eq!(rx.read_timeout(SOON).unwrap().len(), 500);
        let receiver = thread::spawn(move || {
            let mut lens = 0;
            while let Ok(message) = rx.read() {
                lens += message.len();
            }
            lens
        });
        for _ in 0..50 {
            tx.reserve(500).unwrap().commit(1).unwrap();
        }
        drop(tx);
        assert!(receiver.join().unwrap() > 50, "{kind:?} {trust}");
    }
}
