//! Ends in the runtimes of others, in one process.
#![cfg(all(feature = "tokio", feature = "smol"))]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures_core::Stream;
use futures_lite::StreamExt;
use futures_lite::future::{block_on, poll_fn, poll_once};
use futures_sink::Sink;
use tidewire::smol::OnSmol;
use tidewire::tokio::OnTokio;
use tidewire::{Options, RecvError, channel};

const SOON: Duration = Duration::from_secs(5);

/// Less than the time after which an end that waits looks for itself.
const RUNG: Duration = Duration::from_millis(125);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_of_one_runtime_wake_each_other() {
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let (tx, rx) = Options::new().capacity(2).senders(1).channel::<u64>().unwrap();
            let (mut tx, mut rx) = (tx.on_tokio(), rx.on_tokio());
            tokio::spawn(async move {
                for i in 0..100 {
                    tx.send(number * 1000 + i).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            tokio::spawn(async move {
                for i in 0..100 {
                    assert_eq!(rx.recv().await, Ok(number * 1000 + i));
                }
                assert_eq!(rx.recv().await, Err(RecvError::Disconnected));
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Messages that come each after the receiver went to sleep must not wait for the slice. Where all processors are busy they
/// may wait for anything, so one time of several is enough: without a ring none is in time.
fn assert_rung(recv: impl Fn(tidewire::Receiver<u64>) -> Vec<u64>) {
    let times: Vec<Duration> = (0..5)
        .map(|_| {
            let (mut tx, rx) = channel::<u64>().unwrap();
            let sender = thread::spawn(move || {
                let start = Instant::now();
                for i in 0..40 {
                    thread::sleep(Duration::from_millis(3));
                    tx.send(i).unwrap();
                    // Until it was received, and looked for the next one.
                    let sent = Instant::now();
                    while !tx.is_empty() && sent.elapsed() < SOON {
                        thread::sleep(Duration::from_micros(100));
                    }
                }
                start.elapsed()
            });
            assert_eq!(recv(rx), (0..40).collect::<Vec<_>>());
            sender.join().unwrap()
        })
        .collect();
    assert!(times.iter().any(|took| *took < 8 * RUNG), "each message waits for a slice: {times:?}");
}

#[test]
fn a_ring_wakes_the_runtime_and_not_only_the_slice() {
    assert_rung(|rx| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let mut rx = rx.on_tokio();
        runtime.block_on(async {
            let mut got = Vec::new();
            while let Ok(message) = rx.recv().await {
                got.push(message);
            }
            got
        })
    });
    assert_rung(|rx| async_io::block_on(rx.on_smol().map(Result::unwrap).collect()));
}

#[test]
fn an_end_goes_from_one_runtime_to_another_and_to_none() {
    let (mut tx, rx) = channel::<u64>().unwrap();
    let mut rx = rx.on_tokio();
    for round in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            assert!(poll_once(rx.recv()).await.is_none());
            tx.send(round).unwrap();
            assert_eq!(rx.recv().await, Ok(round));
            assert!(poll_once(rx.recv()).await.is_none());
        });
    }
    // The runtimes are gone: one that is polled without any is woken all the same.
    let sender = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        tx.send(7).unwrap();
        thread::sleep(Duration::from_millis(20));
        tx
    });
    let start = Instant::now();
    assert_eq!(block_on(rx.recv()), Ok(7));
    assert!(start.elapsed() < SOON);
    let mut tx = sender.join().unwrap();
    let mut rx = rx.into_inner().on_smol();
    tx.send(8).unwrap();
    assert_eq!(async_io::block_on(rx.recv()), Ok(8));
    let mut rx = rx.into_inner();
    tx.send(9).unwrap();
    assert_eq!(rx.recv(), Ok(9));
}

#[test]
fn a_stream_that_is_left_in_the_middle_gives_its_end_back() {
    let (mut tx, rx) = channel::<u64>().unwrap();
    let mut rx = rx.on_smol();
    let mut cx = Context::from_waker(Waker::noop());
    for i in 0..100 {
        assert!(Pin::new(&mut rx).poll_next(&mut cx).is_pending());
        tx.send(i).unwrap();
        if i % 2 == 0 {
            // A call of the end itself, without the runtime.
            assert_eq!(rx.try_recv(), Ok(i));
        } else {
            assert_eq!(Pin::new(&mut rx).poll_next(&mut cx), Poll::Ready(Some(Ok(i))));
        }
    }
}

#[tokio::test]
async fn sinks_carry_everything() {
    let (tx, rx) = Options::new().capacity(2).channel::<u64>().unwrap();
    let (mut tx, rx) = (tx.on_tokio(), rx.on_tokio());
    let sending = tokio::spawn(async move {
        let mut sink = tx.sink();
        for i in 0..200 {
            poll_fn(|cx| Pin::new(&mut sink).poll_ready(cx)).await.unwrap();
            Pin::new(&mut sink).start_send(i).unwrap();
        }
        poll_fn(|cx| Pin::new(&mut sink).poll_close(cx)).await.unwrap();
    });
    assert_eq!(rx.map(Result::unwrap).collect::<Vec<_>>().await, (0..200).collect::<Vec<_>>());
    sending.await.unwrap();

    let (tx, rx) = Options::new().capacity(64).bytes_channel().unwrap();
    let (mut tx, mut rx) = (tx.on_tokio(), rx.on_tokio());
    let sending = tokio::spawn(async move {
        let mut sink = tx.sink();
        for i in 0..200_u8 {
            poll_fn(|cx| Pin::new(&mut sink).poll_ready(cx)).await.unwrap();
            Pin::new(&mut sink).start_send(vec![i; 9]).unwrap();
            assert!(Pin::new(&mut sink).start_send(vec![0]).is_err(), "one at a time");
        }
        poll_fn(|cx| Pin::new(&mut sink).poll_flush(cx)).await.unwrap();
        drop(sink);
        tx.send(b"end").await.unwrap();
    });
    let mut got = Vec::new();
    while let Some(message) = rx.next().await {
        got.push(message.unwrap());
    }
    sending.await.unwrap();
    assert_eq!(got.pop().as_deref(), Some(b"end".as_slice()));
    assert_eq!(got, (0..200).map(|i| vec![i; 9]).collect::<Vec<_>>());
}
