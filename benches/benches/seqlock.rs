//! Cells that hold the latest value, between threads: ours against triple_buffer and seqlock. A read alone, a write
//! alone, and a read beside a writer that never pauses.
#![expect(missing_docs, reason = "the function that the macro makes cannot be documented")]

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use tidewire_benches::latest::contender::{CellContender, CellReader, CellWriter};
use tidewire_benches::peers::seqlock::Seqlock;
use tidewire_benches::peers::tidewire_cell::Latest;
use tidewire_benches::peers::triple_buffer::TripleBuffer;

fn ends<C: CellContender, const W: usize>() -> (C::Reader<W>, C::Writer<W>) {
    let (mut readers, writer) = C::make::<W>(1, &[0; W]).expect("a cell of the usual size");
    (readers.pop().expect("one reader"), writer)
}

fn reads<C: CellContender, const W: usize>(iterations: u64) -> Duration {
    let (mut reader, mut writer) = ends::<C, W>();
    writer.write(&[7; W]);
    let mut buffer = [0; W];
    let began = Instant::now();
    for _ in 0..iterations {
        assert!(reader.read(&mut buffer), "nobody writes");
        black_box(&buffer);
    }
    let took = began.elapsed();
    assert_eq!(buffer, [7; W], "the wrong value came");
    took
}

fn writes<C: CellContender, const W: usize>(iterations: u64) -> Duration {
    let (mut reader, mut writer) = ends::<C, W>();
    let mut value = [0; W];
    let began = Instant::now();
    for version in 1..=iterations {
        value.fill(version);
        writer.write(black_box(&value));
    }
    let took = began.elapsed();
    let mut last = [0; W];
    assert!(reader.read(&mut last), "nobody writes");
    assert_eq!(last, [iterations; W], "the wrong value came");
    took
}

fn contended<C: CellContender, const W: usize>(iterations: u64) -> Duration {
    let (mut reader, mut writer) = ends::<C, W>();
    let (start, stop) = (Barrier::new(2), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            let mut version = 0;
            while !stop.load(Ordering::Relaxed) {
                version += 1;
                writer.write(&[version; W]);
            }
        });
        start.wait();
        let (mut buffer, mut last, mut done) = ([0; W], None, 0);
        let began = Instant::now();
        while done < iterations {
            if reader.read(&mut buffer) {
                done += 1;
                let (first, end) = (black_box(&buffer).first().copied(), buffer.last().copied());
                assert!(first == end && first >= last, "a torn or old value came");
                last = first;
            }
        }
        let took = began.elapsed();
        stop.store(true, Ordering::Relaxed);
        took
    })
}

fn all<const W: usize>(group: &mut BenchmarkGroup<'_, WallTime>) {
    let size = format!("{}B", 8 * W);
    let mut add = |kind: &str, name: &str, run: fn(u64) -> Duration| {
        let id = BenchmarkId::new(format!("{kind}/{size}"), name);
        group.bench_function(id, |bencher| bencher.iter_custom(run));
    };
    add("read", "tidewire", reads::<Latest, W>);
    add("read", "triple_buffer", reads::<TripleBuffer, W>);
    add("read", "seqlock", reads::<Seqlock, W>);
    add("write", "tidewire", writes::<Latest, W>);
    add("write", "triple_buffer", writes::<TripleBuffer, W>);
    add("write", "seqlock", writes::<Seqlock, W>);
    add("contended read", "tidewire", contended::<Latest, W>);
    add("contended read", "triple_buffer", contended::<TripleBuffer, W>);
}

fn latest_value(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("latest_value");
    all::<1>(&mut group);
    all::<8>(&mut group);
    all::<32>(&mut group);
    all::<512>(&mut group);
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
    targets = latest_value
}
criterion_main!(benches);
