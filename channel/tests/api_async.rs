//! Futures, in a runtime of tokio's and in one that is no more than a loop.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::semicolon_if_nothing_returned,
    reason = "tests may panic, with small numbers"
)]

use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::{block_on, or, poll_once};
use tidewire::{Kind, Options, Overflow, RecvError, SendError, channel};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn messages_arrive_in_order_between_tasks_of_any_runtime() {
    for kind in [Kind::Lanes, Kind::Ordered, Kind::Single] {
        let (mut tx, mut rx) = Options::new().kind(kind).capacity(4).channel::<u64>().unwrap();
        let sender = thread::spawn(move || {
            block_on(async {
                for i in 0..2000 {
                    tx.send_async(i).await.unwrap();
                }
            });
        });
        block_on(async {
            for i in 0..2000 {
                assert_eq!(rx.recv_async().await, Ok(i), "{kind:?}");
            }
            assert_eq!(rx.recv_async().await, Err(RecvError::Disconnected));
        });
        sender.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_channels_share_one_runtime() {
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let (mut tx, mut rx) = Options::new().capacity(2).senders(1).channel::<u64>().unwrap();
            tokio::spawn(async move {
                for i in 0..100 {
                    tx.send_async(number * 1000 + i).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            tokio::spawn(async move {
                for i in 0..100 {
                    assert_eq!(rx.recv_async().await, Ok(number * 1000 + i));
                }
                assert_eq!(rx.recv_async().await, Err(RecvError::Disconnected));
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_future_that_is_dropped_takes_nothing() {
    let (mut tx, mut rx) = Options::new().capacity(2).channel::<u64>().unwrap();
    for i in 0..50 {
        let timed = tokio::time::timeout(Duration::from_micros(300), rx.recv_async()).await;
        assert!(timed.is_err());
        tx.send(i).unwrap();
        assert_eq!(poll_once(rx.recv_async()).await, Some(Ok(i)));
    }
    // The last one that was received takes its room until the next look.
    assert!(rx.try_recv().is_err());
    (0..2).for_each(|i| tx.send(i).unwrap());
    let timed = tokio::time::timeout(Duration::from_millis(5), tx.send_async(7)).await;
    assert!(timed.is_err());
    assert_eq!(rx.drain().collect::<Vec<_>>(), [0, 1], "what was not sent does not arrive");
}

#[test]
fn a_task_that_waits_is_woken_by_a_thread_and_by_one_who_leaves() {
    let (mut tx, mut rx) = channel::<u64>().unwrap();
    let sender = thread::spawn(move || {
        for i in 0..20 {
            thread::sleep(Duration::from_millis(5));
            tx.send(i).unwrap();
        }
        thread::sleep(Duration::from_millis(20));
    });
    let start = Instant::now();
    block_on(async {
        for i in 0..20 {
            assert_eq!(rx.recv_async().await, Ok(i));
        }
        assert_eq!(rx.recv_async().await, Err(RecvError::Disconnected));
    });
    assert!(start.elapsed() < SOON);
    sender.join().unwrap();
}

#[test]
fn a_task_that_waits_for_room_is_told_when_the_receiver_leaves() {
    let (mut tx, rx) = Options::new().capacity(2).channel::<u64>().unwrap();
    (0..2).for_each(|i| tx.send(i).unwrap());
    let leaver = thread::spawn(move || {
        thread::sleep(Duration::from_millis(40));
        drop(rx);
    });
    let start = Instant::now();
    let sent = block_on(tx.send_async(2));
    assert!(matches!(sent, Err(SendError::Disconnected(2))), "{sent:?}");
    assert!(start.elapsed() < SOON);
    leaver.join().unwrap();
}

#[test]
fn bytes_and_overflow_are_as_they_are_without_async() {
    let (mut tx, mut rx) = Options::new().bytes_channel().unwrap();
    block_on(async {
        tx.send_async(b"one").await.unwrap();
        assert_eq!(rx.recv_async().await.unwrap(), b"one");
    });
    let (mut tx, _rx) = Options::new().capacity(2).overflow(Overflow::Reject).channel::<u64>().unwrap();
    block_on(async {
        tx.send_async(0).await.unwrap();
        tx.send_async(1).await.unwrap();
        assert!(matches!(tx.send_async(2).await, Err(SendError::Full(2))));
    });
}

#[test]
fn whichever_future_is_first_wins_and_the_other_takes_nothing() {
    let (mut tx, mut a) = channel::<u64>().unwrap();
    let (mut ty, mut b) = channel::<u64>().unwrap();
    block_on(async {
        for i in 0..100 {
            let tx = if i % 2 == 0 { &mut tx } else { &mut ty };
            tx.send(i).unwrap();
            assert_eq!(or(a.recv_async(), b.recv_async()).await, Ok(i));
        }
    });
    assert!(a.try_recv().is_err() && b.try_recv().is_err());
}

#[cfg(feature = "futures")]
#[test]
fn streams_and_sinks_carry_everything_and_end() {
    use futures_lite::StreamExt;
    use futures_sink::Sink;
    use std::pin::Pin;

    let (mut tx, mut rx) = Options::new().capacity(2).channel::<u64>().unwrap();
    let sender = thread::spawn(move || {
        let mut sink = tx.sink();
        for i in 0..200 {
            block_on(std::future::poll_fn(|cx| Pin::new(&mut sink).poll_ready(cx))).unwrap();
            Pin::new(&mut sink).start_send(i).unwrap();
            assert!(matches!(Pin::new(&mut sink).start_send(999), Err(SendError::Full(999))));
        }
        block_on(std::future::poll_fn(|cx| Pin::new(&mut sink).poll_close(cx))).unwrap();
    });
    let got: Vec<u64> = block_on(rx.stream().map(Result::unwrap).collect());
    assert_eq!(got, (0..200).collect::<Vec<_>>());
    sender.join().unwrap();

    let (mut publisher, mut subscriber) = Options::new().publish::<u64>().unwrap();
    (0..5).for_each(|i| assert_eq!(publisher.publish(i).unwrap(), i + 1));
    drop(publisher);
    let got: Vec<u64> = block_on(subscriber.stream().map(Result::unwrap).collect());
    assert_eq!(got, [0, 1, 2, 3, 4]);
}
