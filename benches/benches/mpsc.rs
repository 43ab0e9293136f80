//! Queues of many producers between threads: ours against a bundle of rtrb and an Aeron-style ring, one at a time and
//! in batches.
//!
//! Each measured number of messages goes through a fresh queue, from threads that are started before the clock.
#![expect(missing_docs, reason = "the function that the macro makes cannot be documented")]

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidewire_benches::contender::{Rx, Tx};
use tidewire_benches::crowd::Patience;
use tidewire_benches::mpsc::contender::{BATCH, ManyContender, TURN};
use tidewire_benches::peers::aeron_style::AeronStyle;
use tidewire_benches::peers::rtrb::Bundle;
use tidewire_benches::peers::tidewire_mpsc::{Default, Lanes};

/// Messages that each of criterion's iterations moves: the start of a thread shall not be seen.
const MESSAGES: u64 = 4096;

fn singles<C: ManyContender, const W: usize>(producers: usize, iterations: u64) -> Duration {
    let (txs, mut rx) = C::make::<W>(producers).expect("a queue of the usual size");
    let (start, each) = (Barrier::new(producers + 1), iterations * MESSAGES / producers as u64);
    thread::scope(|scope| {
        for mut tx in txs {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                let (mut message, mut patience) = ([1; W], Patience::default());
                for number in 0..each {
                    message[0] = number;
                    while !tx.push(&message) {
                        patience.wait();
                    }
                }
            });
        }
        start.wait();
        let began = Instant::now();
        let (mut buffer, mut patience, mut received, mut sum) = ([0; W], Patience::default(), 0, 0_u64);
        while received < each * producers as u64 {
            let taken = rx.take(&mut buffer, TURN, |message| {
                sum = sum.wrapping_add(black_box(message)[0]);
            });
            received += taken as u64;
            if taken == 0 {
                patience.wait();
            }
        }
        let took = began.elapsed();
        let expected = (each * each.saturating_sub(1) / 2).wrapping_mul(producers as u64);
        assert_eq!(sum, expected, "the wrong messages came");
        took
    })
}

fn batches<C: ManyContender, const W: usize>(producers: usize, iterations: u64) -> Duration {
    let (txs, mut rx) = C::make::<W>(producers).expect("a queue of the usual size");
    let (start, each) = (Barrier::new(producers + 1), iterations * MESSAGES / producers as u64);
    thread::scope(|scope| {
        for mut tx in txs {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                let (messages, mut sent, mut patience) = ([[7; W]; BATCH], 0, Patience::default());
                while sent < each {
                    let most = BATCH.min(usize::try_from(each - sent).unwrap_or(BATCH));
                    let n = tx.push_batch(messages.get(..most).unwrap_or_default());
                    sent += n as u64;
                    if n == 0 {
                        patience.wait();
                    }
                }
            });
        }
        start.wait();
        let began = Instant::now();
        let (mut buffer, mut patience, mut received) = ([[0; W]; BATCH], Patience::default(), 0);
        while received < each * producers as u64 {
            let n = rx.pop_batch(&mut buffer);
            black_box(buffer.get(..n));
            received += n as u64;
            if n == 0 {
                patience.wait();
            }
        }
        began.elapsed()
    })
}

fn all<const W: usize>(group: &mut BenchmarkGroup<'_, WallTime>) {
    let size = format!("{}B", 8 * W);
    group.throughput(Throughput::Elements(MESSAGES));
    let mut add = |kind: &str, name: &str, run: fn(usize, u64) -> Duration| {
        for producers in [1, 2] {
            let id = BenchmarkId::new(format!("{kind}/{producers}p/{size}"), name);
            group.bench_function(id, |bencher| bencher.iter_custom(|iterations| run(producers, iterations)));
        }
    };
    add("single", "tidewire", singles::<Lanes<Default>, W>);
    add("single", "rtrb bundle", singles::<Bundle, W>);
    add("single", "aeron-style", singles::<AeronStyle, W>);
    add("batch16", "tidewire", batches::<Lanes<Default>, W>);
    add("batch16", "rtrb bundle", batches::<Bundle, W>);
}

fn mpsc_fixed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mpsc_fixed");
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
    targets = mpsc_fixed
}
criterion_main!(benches);
