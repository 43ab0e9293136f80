//! Calls and requests in async code, and in a select.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::semicolon_if_nothing_returned,
    reason = "tests may panic"
)]

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::{block_on, or, poll_fn, poll_once};
use tidewire::{CallError, Client, Options, Pending, Select, Server, Timer, service};

const SOON: Duration = Duration::from_secs(5);

/// Less than the time after which an end that waits looks for itself.
const RUNG: Duration = Duration::from_millis(125);

fn options() -> Options {
    Options::new().capacity(32).senders(4)
}

/// Answers so many requests, `several` at a time, the last one first.
fn answering(mut server: Server<u64, u64>, requests: usize, several: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for _ in 0..requests / several {
            let held: Vec<_> = (0..several).map(|_| server.recv().unwrap()).collect();
            for request in held.into_iter().rev() {
                let answer = *request + 1;
                request.reply(answer).unwrap();
            }
        }
    })
}

/// A thread that wakes the task in a moment.
async fn sleep(time: Duration) {
    let (mut tx, mut rx) = tidewire::channel::<u8>().unwrap();
    thread::spawn(move || {
        thread::sleep(time);
        tx.send(0)
    });
    rx.recv_async().await.unwrap();
}

/// Polls all of them until each has its answer.
async fn all(calls: &mut [Pending<'_, u64, u64>]) -> Vec<Result<u64, CallError>> {
    let mut answers: Vec<Option<Result<u64, CallError>>> = vec![None; calls.len()];
    poll_fn(|cx: &mut Context<'_>| {
        for (call, answer) in calls.iter_mut().zip(&mut answers) {
            if answer.is_none()
                && let Poll::Ready(got) = Pin::new(call).poll(cx)
            {
                *answer = Some(got);
            }
        }
        if answers.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    answers.into_iter().map(Option::unwrap).collect()
}

#[test]
fn one_call_after_another_is_answered() {
    let (mut client, server) = options().service::<u64, u64>().unwrap();
    let answering = answering(server, 1000, 1);
    block_on(async {
        for i in 0..1000 {
            assert_eq!(client.call_async(i).await, Ok(i + 1));
        }
    });
    answering.join().unwrap();
}

#[test]
fn many_calls_in_flight_are_answered_in_any_order() {
    // Where all processors are busy it may take any time, so one time of several is enough: without a ring none is in time.
    let times: Vec<Duration> = (0..4)
        .map(|_| {
            let (client, server) = options().service::<u64, u64>().unwrap();
            let answering = answering(server, 32 * 50, 16);
            let start = Instant::now();
            block_on(async {
                for round in 0..50 {
                    let mut calls: Vec<_> = (0..32).map(|i| client.start(round * 100 + i).unwrap()).collect();
                    let answers: Vec<_> = all(&mut calls).await.into_iter().map(Result::unwrap).collect();
                    assert_eq!(answers, (0..32).map(|i| round * 100 + i + 1).collect::<Vec<_>>());
                }
            });
            answering.join().unwrap();
            start.elapsed()
        })
        .collect();
    assert!(times.iter().any(|took| *took < 20 * RUNG), "each round waits for a slice: {times:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn tasks_that_share_a_client_each_get_their_own_answer() {
    let (client, mut server) = options().service::<u64, u64>().unwrap();
    let answering = thread::spawn(move || {
        let mut served = 0;
        while served < 20 * 50 {
            // Those that are there, the last one first: for more might be waited for ever.
            let first = server.recv().unwrap();
            let held: Vec<_> =
                std::iter::once(first).chain(std::iter::from_fn(|| server.try_recv().ok())).collect();
            served += held.len();
            for request in held.into_iter().rev() {
                let answer = *request + 1;
                request.reply(answer).unwrap();
            }
        }
    });
    let client = std::rc::Rc::new(client);
    tokio::task::LocalSet::new()
        .run_until(async {
            let tasks: Vec<_> = (0..20_u64)
                .map(|task| {
                    let client = std::rc::Rc::clone(&client);
                    tokio::task::spawn_local(async move {
                        for i in 0..50 {
                            let answer = client.start(task * 1000 + i).unwrap().await;
                            assert_eq!(answer, Ok(task * 1000 + i + 1));
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        })
        .await;
    answering.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_goes_from_thread_to_thread_with_its_call() {
    let (client, server) = options().service::<u64, u64>().unwrap();
    let answering = answering(server, 2 * 200, 1);
    let mut other = client.try_clone().unwrap();
    let mut client = client;
    let first = tokio::spawn(async move {
        for i in 0..200 {
            assert_eq!(client.call_async(i).await, Ok(i + 1));
            tokio::task::yield_now().await;
        }
    });
    let second = tokio::spawn(async move {
        for i in 0..200 {
            assert_eq!(other.call_async(i).await, Ok(i + 1));
        }
    });
    first.await.unwrap();
    second.await.unwrap();
    answering.join().unwrap();
}

#[test]
fn a_call_that_is_dropped_is_cancelled_and_the_others_go_on() {
    let (mut client, mut server) = options().service::<u64, u64>().unwrap();
    block_on(async {
        let (first, mut second) = (client.start(1).unwrap(), client.start(2).unwrap());
        let mut first = Box::pin(first);
        assert!(poll_once(&mut first).await.is_none());
        assert!(poll_once(&mut second).await.is_none());
        let (one, two) = (server.recv().unwrap(), server.recv().unwrap());
        assert!(!one.is_cancelled());
        drop(first);
        assert!(one.is_cancelled() && !two.is_cancelled());
        // Whoever is left is told of its answer, which somebody else had announced the wait for.
        let answer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            two.reply(20).unwrap();
            one.reply(10).unwrap();
        });
        let start = Instant::now();
        assert_eq!(second.await, Ok(20));
        assert!(start.elapsed() < SOON);
        answer.join().unwrap();
        // Dropped at once, or after a poll, again and again.
        for i in 0..200_u64 {
            {
                let mut call = pin!(client.call_async(i));
                if i % 2 == 0 {
                    assert!(poll_once(&mut call).await.is_none());
                }
            }
            while let Ok(request) = server.try_recv() {
                assert!(request.is_cancelled());
                drop(request);
            }
        }
        // The answer to the last one frees its place when the client looks next.
        assert!(client.in_flight() <= 1);
    });
}

#[test]
fn a_call_waits_for_the_room_of_those_that_nobody_wants_any_more() {
    let (client, mut server) = options().capacity(4).service::<u64, u64>().unwrap();
    let mut client = client;
    let capacity = client.capacity();
    for i in 0..capacity as u64 {
        drop(client.start(i).unwrap());
    }
    let serving = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        for request in server.iter().take(capacity + 1) {
            let answer = *request + 1;
            let _nobody_wants = request.reply(answer);
        }
        server
    });
    assert_eq!(block_on(client.call_async(99)), Ok(100));
    let _server = serving.join().unwrap();
    let wanted: Vec<_> = (0..capacity as u64).map(|i| client.start(i).unwrap().into_id()).collect();
    assert_eq!(block_on(client.call_async(1)), Err(CallError::Full(capacity)), "all of them are wanted");
    drop(wanted);
}

#[test]
fn a_server_that_leaves_ends_every_call_that_waits() {
    for calls in [1, 5] {
        let (client, mut server) = options().service::<u64, u64>().unwrap();
        let leaving = thread::spawn(move || {
            let _held: Vec<_> = (0..calls).map(|_| server.recv().unwrap()).collect();
            thread::sleep(Duration::from_millis(30));
            drop(server);
        });
        let start = Instant::now();
        block_on(async {
            let mut calls: Vec<_> = (0..calls).map(|i| client.start(i).unwrap()).collect();
            assert!(all(&mut calls).await.iter().all(|answer| *answer == Err(CallError::Disconnected)));
        });
        assert!(start.elapsed() < SOON);
        leaving.join().unwrap();
    }
}

#[test]
fn calls_with_and_without_futures_share_a_client() {
    let (client, server) = options().service::<u64, u64>().unwrap();
    let answering = answering(server, 200, 2);
    block_on(async {
        for i in 0..100 {
            let mut first = client.start(i).unwrap();
            // It waits for the second one before it is answered, and the wait without futures is in between.
            assert!(poll_once(&mut first).await.is_none());
            assert_eq!(client.call(1000 + i), Ok(1001 + i));
            assert_eq!(first.await, Ok(i + 1));
        }
    });
    answering.join().unwrap();
}

#[test]
fn a_server_receives_in_async_code_and_a_dropped_future_takes_nothing() {
    let (client, mut server) = options().service::<u64, u64>().unwrap();
    let asking = thread::spawn(move || {
        for i in 0..300 {
            assert_eq!(client.call(i), Ok(i + 1));
            if i % 50 == 0 {
                thread::sleep(Duration::from_millis(5));
            }
        }
    });
    block_on(async {
        let mut served = 0;
        while served < 300 {
            let soon = async {
                sleep(Duration::from_micros(50)).await;
                None
            };
            if let Some(request) = or(async { Some(server.recv_async().await) }, soon).await {
                let request = request.unwrap();
                assert_eq!(*request, served);
                request.reply(served + 1).unwrap();
                served += 1;
            }
        }
    });
    asking.join().unwrap();
}

#[test]
fn bytes_are_asked_and_answered_in_async_code() {
    let (mut client, mut server) = options().bytes_service(64).unwrap();
    let serving = thread::spawn(move || {
        block_on(async {
            for _ in 0..50 {
                let request = server.recv_async().await.unwrap();
                let answer = [&request, b"!".as_slice()].concat();
                request.reply(&answer).unwrap();
            }
        });
    });
    block_on(async {
        for i in 0..25_u8 {
            assert_eq!(client.call_async(&[i; 9]).await.unwrap(), [&[i; 9], b"!".as_slice()].concat());
            assert_eq!(client.start(&[i]).unwrap().await.unwrap(), [i, b'!']);
        }
        assert_eq!(client.call_async(&[0; 65]).await, Err(CallError::TooLong(64)));
    });
    serving.join().unwrap();
}

#[test]
fn a_select_waits_for_requests_and_for_answers() {
    let (mut client, mut server): (Client<u64, u64>, _) = options().service::<u64, u64>().unwrap();
    let (mut other, mut other_server) = service::<u64, u64>().unwrap();
    let mut select = Select::new();
    let mut timer = Timer::after(Duration::from_millis(10));
    let ready = select.wait(&mut [&mut client, &mut server, &mut timer]).unwrap();
    assert_eq!(ready, 2, "nobody asked, nothing is in flight");
    // A request, from a thread that asks after a while.
    let asking = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        let answer = other.call(5);
        (other, answer)
    });
    let start = Instant::now();
    assert_eq!(select.wait(&mut [&mut server, &mut other_server, &mut client]).unwrap(), 1);
    assert!(start.elapsed() < SOON);
    // It is not lost in between, and stays until it is taken.
    assert_eq!(select.wait(&mut [&mut server, &mut other_server]).unwrap(), 1);
    let request = other_server.recv().unwrap();
    assert_eq!(*request, 5);
    request.reply(6).unwrap();
    other = {
        let (other, answer) = asking.join().unwrap();
        assert_eq!(answer, Ok(6));
        other
    };
    // An answer, from a thread that answers after a while.
    let ids = [client.start(1).unwrap().into_id(), client.start(2).unwrap().into_id()];
    let answering = thread::spawn(move || {
        let (one, two) = (server.recv().unwrap(), server.recv().unwrap());
        thread::sleep(Duration::from_millis(20));
        two.reply(20).unwrap();
        thread::sleep(Duration::from_millis(20));
        one.reply(10).unwrap();
        server
    });
    for (id, answer) in [(ids[1], 20), (ids[0], 10)] {
        assert_eq!(select.wait(&mut [&mut other, &mut client]).unwrap(), 1);
        assert_eq!(client.answered(), Some(id));
        assert_eq!(client.pending(id).unwrap().try_take(), Some(Ok(answer)));
        assert_eq!(client.answered(), None);
    }
    // Calls that end without an answer.
    let mut server = answering.join().unwrap();
    let id = client.start(3).unwrap().into_id();
    let leaving = thread::spawn(move || {
        let _held = server.recv().unwrap();
        thread::sleep(Duration::from_millis(20));
        drop(server);
    });
    assert_eq!(select.wait(&mut [&mut client, &mut other_server]).unwrap(), 0);
    assert_eq!(client.pending(id).unwrap().try_take(), Some(Err(CallError::Disconnected)));
    leaving.join().unwrap();
    drop(other);
}
