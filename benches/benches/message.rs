//! The message layer between the threads of one process: messages one way and there and back, publications, the latest
//! value, requests. Between processes, side by side with others: `cargo run --release -p tidewire-benches`.
//!
//! Each measured number of messages goes through fresh ends, from a thread that is started before the clock. Whoever
//! waits looks a few times and then yields its core: the machine may be busy.
#![expect(missing_docs, reason = "the function that the macro makes cannot be documented")]

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_channel::{Receiver as PeerReceiver, Sender as PeerSender};
use tidewire::{Kind, Options, Overflow, Receiver, Sender, SubscribeError, TryRecvError, Wait};
use tidewire_benches::crowd::Patience;

/// Messages that each of criterion's iterations moves: the start of a thread shall not be seen.
const MESSAGES: u64 = 4096;
const CAPACITY: usize = 1024;

/// Messages of so many words from one thread to another.
trait Channel {
    type Tx<const W: usize>: Send;
    type Rx<const W: usize>: Send;

    fn make<const W: usize>() -> (Self::Tx<W>, Self::Rx<W>);
    fn send<const W: usize>(tx: &mut Self::Tx<W>, message: &[u64; W]);
    fn receive<const W: usize>(rx: &mut Self::Rx<W>, to: &mut [u64; W]) -> bool;
}

struct Lanes;
struct Single;
struct Published;
struct Crossbeam;

fn channel<const W: usize>(kind: Kind) -> (Sender<[u64; W]>, Receiver<[u64; W]>) {
    let options = Options::new().kind(kind).wait(Wait::Yield).capacity(CAPACITY).senders(4);
    options.channel().expect("a channel of the usual size")
}

fn receive<const W: usize>(rx: &mut Receiver<[u64; W]>, to: &mut [u64; W]) -> bool {
    match rx.try_recv_to(to) {
        Ok(()) => true,
        Err(TryRecvError::Empty) => false,
        Err(error) => panic!("{error}"),
    }
}

impl Channel for Lanes {
    type Tx<const W: usize> = Sender<[u64; W]>;
    type Rx<const W: usize> = Receiver<[u64; W]>;

    fn make<const W: usize>() -> (Self::Tx<W>, Self::Rx<W>) {
        channel(Kind::Lanes)
    }

    fn send<const W: usize>(tx: &mut Self::Tx<W>, message: &[u64; W]) {
        tx.send_from(message).expect("somebody receives");
    }

    fn receive<const W: usize>(rx: &mut Self::Rx<W>, to: &mut [u64; W]) -> bool {
        receive(rx, to)
    }
}

impl Channel for Single {
    type Tx<const W: usize> = Sender<[u64; W]>;
    type Rx<const W: usize> = Receiver<[u64; W]>;

    fn make<const W: usize>() -> (Self::Tx<W>, Self::Rx<W>) {
        channel(Kind::Single)
    }

    fn send<const W: usize>(tx: &mut Self::Tx<W>, message: &[u64; W]) {
        tx.send_from(message).expect("somebody receives");
    }

    fn receive<const W: usize>(rx: &mut Self::Rx<W>, to: &mut [u64; W]) -> bool {
        receive(rx, to)
    }
}

impl Channel for Published {
    type Tx<const W: usize> = tidewire::Publisher<[u64; W]>;
    type Rx<const W: usize> = tidewire::Subscriber<[u64; W]>;

    fn make<const W: usize>() -> (Self::Tx<W>, Self::Rx<W>) {
        let options = Options::new().overflow(Overflow::Block).wait(Wait::Yield).capacity(CAPACITY);
        options.publish().expect("a publication of the usual size")
    }

    fn send<const W: usize>(tx: &mut Self::Tx<W>, message: &[u64; W]) {
        tx.publish(*message).expect("it waits for room");
    }

    fn receive<const W: usize>(rx: &mut Self::Rx<W>, to: &mut [u64; W]) -> bool {
        match rx.try_recv() {
            Ok(message) => {
                *to = message;
                true
            }
            Err(SubscribeError::Empty) => false,
            Err(error) => panic!("{error}"),
        }
    }
}

impl Channel for Crossbeam {
    type Tx<const W: usize> = PeerSender<[u64; W]>;
    type Rx<const W: usize> = PeerReceiver<[u64; W]>;

    fn make<const W: usize>() -> (Self::Tx<W>, Self::Rx<W>) {
        crossbeam_channel::bounded(CAPACITY)
    }

    fn send<const W: usize>(tx: &mut Self::Tx<W>, message: &[u64; W]) {
        tx.send(*message).expect("somebody receives");
    }

    fn receive<const W: usize>(rx: &mut Self::Rx<W>, to: &mut [u64; W]) -> bool {
        rx.try_recv().map(|message| *to = message).is_ok()
    }
}

/// Messages without a pause, until all have come.
fn stream<C: Channel, const W: usize>(iterations: u64) -> Duration {
    let (mut tx, mut rx) = C::make::<W>();
    let (start, messages) = (Barrier::new(2), iterations * MESSAGES);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut message = [7; W];
            start.wait();
            for number in 0..messages {
                message[0] = number;
                C::send(&mut tx, &message);
            }
        });
        start.wait();
        let (mut buffer, mut patience, mut received) = ([0; W], Patience::default(), 0);
        let began = Instant::now();
        while received < messages {
            if C::receive(&mut rx, &mut buffer) {
                assert_eq!(black_box(&buffer)[0], received, "the wrong message came");
                received += 1;
                patience.reset();
            } else {
                patience.wait();
            }
        }
        began.elapsed()
    })
}

fn await_one<C: Channel, const W: usize>(rx: &mut C::Rx<W>, buffer: &mut [u64; W]) {
    let mut patience = Patience::default();
    while !C::receive(rx, buffer) {
        patience.wait();
    }
}

/// A message there and its echo back, one after the other.
fn round_trips<C: Channel, const W: usize>(iterations: u64) -> Duration {
    let ((mut there, mut from), (mut to, mut back)) = (C::make::<W>(), C::make::<W>());
    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; W];
            start.wait();
            for _ in 0..iterations {
                await_one::<C, W>(&mut from, &mut buffer);
                C::send(&mut to, &buffer);
            }
        });
        start.wait();
        let mut buffer = [0; W];
        let began = Instant::now();
        for number in 0..iterations {
            C::send(&mut there, &[number; W]);
            await_one::<C, W>(&mut back, &mut buffer);
            assert_eq!(buffer, [number; W], "the wrong echo came");
        }
        began.elapsed()
    })
}

/// A message into a channel and out of it by the same thread: what the calls cost with nobody else there.
fn alone<C: Channel, const W: usize>(iterations: u64) -> Duration {
    let (mut tx, mut rx) = C::make::<W>();
    let mut buffer = [0; W];
    let began = Instant::now();
    for number in 0..iterations {
        C::send(&mut tx, black_box(&[number; W]));
        assert!(C::receive(&mut rx, &mut buffer), "it is there");
        black_box(&buffer);
    }
    began.elapsed()
}

fn stores<const W: usize>(iterations: u64) -> Duration {
    let (mut writer, mut reader) = Options::new().latest([0; W]).expect("a value of the usual size");
    let began = Instant::now();
    for number in 1..=iterations {
        writer.store(black_box([number; W])).expect("this is the writer");
    }
    let took = began.elapsed();
    assert_eq!(reader.load().expect("there is a value").value, [iterations; W], "the wrong value came");
    took
}

fn loads<const W: usize>(iterations: u64) -> Duration {
    let (_writer, mut reader) = Options::new().latest([7; W]).expect("a value of the usual size");
    let began = Instant::now();
    for _ in 0..iterations {
        assert_eq!(black_box(reader.load()).expect("there is a value").value[0], 7, "the wrong value came");
    }
    began.elapsed()
}

/// Requests, each of which waits for its reply.
fn calls<const W: usize>(iterations: u64) -> Duration {
    let options = Options::new().wait(Wait::Yield);
    let (client, mut server) = options.service::<[u64; W], [u64; W]>().expect("a service of the usual size");
    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            let (mut served, mut patience) = (0, Patience::default());
            while served < iterations {
                match server.try_recv() {
                    Ok(request) => {
                        let reply = request.value().map(|word| !word);
                        request.reply(reply).expect("the client waits");
                        served += 1;
                        patience.reset();
                    }
                    Err(TryRecvError::Empty) => patience.wait(),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        start.wait();
        let began = Instant::now();
        for number in 0..iterations {
            let reply = client.call([number; W]).expect("somebody serves");
            assert_eq!(reply, [!number; W], "the wrong reply came");
        }
        began.elapsed()
    })
}

type Bench = fn(u64) -> Duration;

fn add<const W: usize>(group: &mut BenchmarkGroup<'_, WallTime>, kind: &str, name: &str, bench: Bench) {
    let id = BenchmarkId::new(format!("{kind}/{}B", 8 * W), name);
    group.bench_function(id, |bencher| bencher.iter_custom(bench));
}

fn channels<C: Channel, const W: usize>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str) {
    group.throughput(Throughput::Elements(MESSAGES));
    add::<W>(group, "stream", name, stream::<C, W>);
    group.throughput(Throughput::Elements(1));
    add::<W>(group, "round trip", name, round_trips::<C, W>);
    add::<W>(group, "alone", name, alone::<C, W>);
}

fn others<const W: usize>(group: &mut BenchmarkGroup<'_, WallTime>) {
    add::<W>(group, "store", "tidewire", stores::<W>);
    add::<W>(group, "load", "tidewire", loads::<W>);
    add::<W>(group, "call", "tidewire", calls::<W>);
}

fn message(criterion: &mut Criterion) {
    fn all<const W: usize>(group: &mut BenchmarkGroup<'_, WallTime>) {
        channels::<Lanes, W>(group, "tidewire");
        channels::<Single, W>(group, "tidewire, one sender");
        channels::<Published, W>(group, "tidewire, published");
        channels::<Crossbeam, W>(group, "crossbeam-channel");
        others::<W>(group);
    }
    let mut group = criterion.benchmark_group("message");
    all::<1>(&mut group);
    all::<8>(&mut group);
    all::<128>(&mut group);
    group.finish();
}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = benches;
    config = short();
    targets = message
}
criterion_main!(benches);
