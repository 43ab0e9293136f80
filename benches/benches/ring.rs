//! Rings between two threads: ours against rtrb, one at a time and in batches.
//!
//! Each measured number of messages goes through a fresh ring, from a thread that is started before the clock.
#![expect(missing_docs, reason = "the function that the macro makes cannot be documented")]

use std::hint::{black_box, spin_loop};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidewire_benches::contender::{BATCH, Contender, Rx, Tx};
use tidewire_benches::peers::rtrb::Rtrb;
use tidewire_benches::peers::tidewire::{Default, Tidewire};

/// Messages that each of criterion's iterations moves: the start of a thread shall not be seen.
const MESSAGES: u64 = 4096;

fn singles<C: Contender, const W: usize>(iterations: u64) -> Duration {
    let (mut tx, mut rx) = C::make::<W>().expect("a queue of the usual size");
    let (start, total) = (Barrier::new(2), iterations * MESSAGES);
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            let mut message = [1; W];
            for number in 0..total {
                message[0] = number;
                while !tx.push(&message) {
                    spin_loop();
                }
            }
        });
        start.wait();
        let began = Instant::now();
        let mut buffer = [0; W];
        for number in 0..total {
            while !rx.pop(&mut buffer) {
                spin_loop();
            }
            assert_eq!(black_box(&buffer)[0], number, "the wrong message came");
        }
        began.elapsed()
    })
}

fn batches<C: Contender, const W: usize>(iterations: u64) -> Duration {
    let (mut tx, mut rx) = C::make::<W>().expect("a queue of the usual size");
    let (start, total) = (Barrier::new(2), iterations * MESSAGES);
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            let messages = [[7; W]; BATCH];
            let mut sent = 0;
            while sent < total {
                let most = BATCH.min(usize::try_from(total - sent).unwrap_or(BATCH));
                let n = tx.push_batch(messages.get(..most).unwrap_or_default());
                sent += n as u64;
                if n == 0 {
                    spin_loop();
                }
            }
        });
        start.wait();
        let began = Instant::now();
        let mut buffer = [[0; W]; BATCH];
        let mut received = 0;
        while received < total {
            let n = rx.pop_batch(&mut buffer);
            black_box(buffer.get(..n));
            received += n as u64;
            if n == 0 {
                spin_loop();
            }
        }
        began.elapsed()
    })
}

fn both<const W: usize>(group: &mut BenchmarkGroup<'_, WallTime>) {
    let size = format!("{}B", 8 * W);
    group.throughput(Throughput::Elements(MESSAGES));
    let mut add = |kind: &str, name: &str, run: fn(u64) -> Duration| {
        let id = BenchmarkId::new(format!("{kind}/{size}"), name);
        group.bench_function(id, |bencher| bencher.iter_custom(run));
    };
    add("single", "tidewire", singles::<Tidewire<Default>, W>);
    add("single", "rtrb", singles::<Rtrb, W>);
    add("batch32", "tidewire", batches::<Tidewire<Default>, W>);
    add("batch32", "rtrb", batches::<Rtrb, W>);
}

fn spsc_fixed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spsc_fixed");
    both::<1>(&mut group);
    both::<8>(&mut group);
    both::<128>(&mut group);
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
    targets = spsc_fixed
}
criterion_main!(benches);
