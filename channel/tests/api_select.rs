//! Waiting for whichever of several ends is first.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::semicolon_if_nothing_returned,
    reason = "tests may panic, with small numbers"
)]

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use tidewire::{Descriptor, Endpoint, Options, Select, Timer, TryRecvError, channel};

const LONG: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(5);

#[test]
fn whichever_is_first_is_told_and_all_are_in_the_end() {
    let (txs, mut rxs): (Vec<_>, Vec<_>) =
        (0..5).map(|_| Options::new().capacity(4).channel::<u64>().unwrap()).unzip();
    let senders: Vec<_> = txs
        .into_iter()
        .map(|mut tx| thread::spawn(move || (0..300).for_each(|i| tx.send(i).unwrap())))
        .collect();
    let mut select = Select::new();
    let mut next = [0; 5];
    let mut open = [true; 5];
    while open.contains(&true) {
        let mut numbers = Vec::new();
        let mut ends: Vec<&mut dyn Endpoint> = Vec::new();
        for (number, rx) in rxs.iter_mut().enumerate().filter(|(number, _)| open[*number]) {
            numbers.push(number);
            ends.push(rx);
        }
        let ready = select.wait_timeout(&mut ends, LONG).unwrap().expect("something comes");
        let number = numbers[ready];
        match rxs[number].try_recv() {
            Ok(i) => {
                assert_eq!(i, next[number]);
                next[number] += 1;
            }
            Err(TryRecvError::Disconnected) => open[number] = false,
            Err(TryRecvError::Empty) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(next, [300; 5]);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
}

#[test]
fn ends_that_are_ready_together_are_told_in_turn() {
    let (mut tx, mut a) = channel::<u64>().unwrap();
    let (mut ty, mut b) = channel::<u64>().unwrap();
    let mut select = Select::new();
    let mut told = [0; 2];
    for _ in 0..100 {
        tx.send(1).unwrap();
        ty.send(1).unwrap();
        let ready = select.wait(&mut [&mut a, &mut b]).unwrap();
        told[ready] += 1;
        if ready == 0 { a.try_recv() } else { b.try_recv() }.unwrap();
    }
    assert_eq!(told, [50, 50]);
}

#[test]
fn a_sleeping_select_is_woken_by_each_kind_of_end() {
    let (mut tx, mut rx) = channel::<u64>().unwrap();
    let (mut bytes_tx, mut bytes_rx) = Options::new().bytes_channel().unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut select = Select::new();
    for expected in [0, 1, 2, 3] {
        let start = Instant::now();
        let got = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(40));
                match expected {
                    0 => tx.send(1).unwrap(),
                    1 => bytes_tx.send(b"x").unwrap(),
                    2 => ours.write_all(b"x").unwrap(),
                    _ => {}
                }
            });
            let mut timer = Timer::after(if expected == 3 { Duration::from_millis(40) } else { LONG });
            let mut socket = Descriptor::readable(theirs.as_fd());
            select.wait(&mut [&mut rx, &mut bytes_rx, &mut socket, &mut timer]).unwrap()
        });
        let taken = start.elapsed();
        assert_eq!(got, expected);
        assert!(taken >= Duration::from_millis(39) && taken < SOON, "{taken:?}");
        let _one = rx.try_recv();
        let _other = bytes_rx.try_recv();
        let _none = std::io::Read::read(&mut &theirs, &mut [0; 8]);
    }
}

#[test]
fn the_last_sender_that_leaves_wakes_a_select() {
    let (tx, mut rx) = channel::<u64>().unwrap();
    let leaver = thread::spawn(move || {
        thread::sleep(Duration::from_millis(40));
        drop(tx);
    });
    let start = Instant::now();
    assert_eq!(Select::new().wait(&mut [&mut rx]).unwrap(), 0);
    assert!(start.elapsed() < SOON);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
    leaver.join().unwrap();
}

#[test]
fn regress_a_select_sees_a_sender_that_somebody_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let options = Options::new().directory(place.path().join("segments"));
    let mut rx = options.receiver::<u64>("late").unwrap();
    let mut tx = options.sender::<u64>("late").unwrap();
    assert!(rx.wait_senders(1, LONG));
    let sender = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        tx.send(1).unwrap();
        thread::sleep(Duration::from_millis(300));
    });
    let start = Instant::now();
    assert_eq!(Select::new().wait(&mut [&mut rx]).unwrap(), 0);
    assert_eq!(rx.try_recv(), Ok(1));
    assert!(start.elapsed() < Duration::from_millis(250));
    sender.join().unwrap();
}

#[test]
fn time_passes_and_nothing_is_an_error() {
    let (_tx, mut rx) = channel::<u64>().unwrap();
    let start = Instant::now();
    assert_eq!(Select::new().wait_timeout(&mut [&mut rx], Duration::from_millis(30)).unwrap(), None);
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert_eq!(Select::new().look(&mut [&mut rx]), None);
    assert!(Select::new().wait(&mut []).is_err());
    let mut timer = Timer::at(Instant::now() + LONG);
    timer.set(Instant::now());
    assert_eq!(Select::new().wait(&mut [&mut timer]).unwrap(), 0);
    let (ours, _theirs) = UnixStream::pair().unwrap();
    assert_eq!(Select::new().wait(&mut [&mut Descriptor::writable(ours.as_fd())]).unwrap(), 0);
    // The end works on as it did.
    assert_eq!(
        rx.recv_timeout(Duration::from_millis(1)).unwrap_err().to_string(),
        "expected a message in time, found none"
    );
}
