//! Requests and replies, between the threads of one process.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, which may panic, with small numbers"
)]

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tidewire::shm::bell::{Roster, SleepOptions, System};
use tidewire::shm::{Composite, Segment, Untrusted};
use tidewire::{
    CallError, Client, Message, OpenError, Options, RecvTimeoutError, ReplyError, Request, Server,
    TryRecvError, Wait,
};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(30);

#[derive(Clone, Copy, Debug, PartialEq, Message)]
#[repr(C)]
struct Order {
    id: u64,
    price: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Message)]
#[repr(C)]
struct Fill {
    id: u64,
    parts: [u32; 6],
}

fn in_a_directory() -> (tempfile::TempDir, Options) {
    let place = tempfile::tempdir().unwrap();
    let options = Options::new().directory(place.path().join("segments"));
    (place, options)
}

/// Answers with ten times the question, until it is asked 0.
fn answer_ten_times(mut server: Server<u64, u64>) -> thread::JoinHandle<Server<u64, u64>> {
    thread::spawn(move || {
        loop {
            let request = server.recv().unwrap();
            let question = *request;
            request.reply(10 * question).unwrap();
            if question == 0 {
                return server;
            }
        }
    })
}

#[test]
fn a_call_gives_the_answer_for_every_wait() {
    for wait in [Wait::Spin, Wait::Yield, Wait::Hybrid, Wait::HybridFor(Duration::from_micros(2)), Wait::Park]
    {
        let (client, server) = Options::new().wait(wait).service::<u64, u64>().unwrap();
        let server = answer_ten_times(server);
        for i in (0..500).rev() {
            assert_eq!(client.call(i), Ok(10 * i), "{wait:?}");
        }
        server.join().unwrap();
    }
}

#[test]
fn questions_and_answers_are_of_different_types() {
    let (client, mut server) = Options::new().service::<Order, Fill>().unwrap();
    let asked = client.start(Order { id: 7, price: 0.5 }).unwrap();
    let request = server.recv().unwrap();
    assert_eq!((*request.value(), request.client()), (Order { id: 7, price: 0.5 }, 0));
    let fill = Fill { id: request.id, parts: [1, 2, 3, 4, 5, 6] };
    request.reply(fill).unwrap();
    assert_eq!(asked.wait(), Ok(fill));
}

#[test]
fn many_calls_are_in_flight_and_answered_in_any_order() {
    let (client, mut server) = Options::new().capacity(64).service::<u64, u64>().unwrap();
    for round in 0..50_u64 {
        let pending: Vec<_> = (0..64).map(|i| client.start(1000 * round + i).unwrap()).collect();
        assert_eq!(client.in_flight(), 64);
        let mut requests: Vec<_> = (0..64).map(|_| server.try_recv().unwrap()).collect();
        assert!(matches!(server.try_recv(), Err(TryRecvError::Empty)));
        // Another order each time.
        requests.rotate_left(round as usize);
        for (i, request) in requests.into_iter().enumerate() {
            let answer = *request + 1;
            if i % 2 == 0 { request.reply(answer).unwrap() } else { drop(request) }
        }
        let answers: Vec<_> = pending.into_iter().map(tidewire::Pending::wait).collect();
        let dropped = answers.iter().filter(|answer| **answer == Err(CallError::Dropped)).count();
        assert_eq!(dropped, 32);
        for (i, answer) in (0..).zip(answers) {
            assert!(answer == Err(CallError::Dropped) || answer == Ok(1000 * round + i + 1), "{answer:?}");
        }
        assert_eq!(client.in_flight(), 0);
    }
}

#[test]
fn another_thread_answers_while_the_server_receives() {
    let (client, mut server) = Options::new().service::<u64, u64>().unwrap();
    let (hand, hands) = mpsc::channel::<Request<u64, u64>>();
    let worker = thread::spawn(move || {
        for request in hands {
            let answer = *request + 1;
            request.reply(answer).unwrap();
        }
    });
    let serving = thread::spawn(move || {
        for request in server.iter() {
            if *request == 0 {
                return;
            }
            hand.send(request).unwrap();
        }
    });
    for i in 1..500 {
        assert_eq!(client.call(i), Ok(i + 1));
    }
    assert_eq!(client.call(0), Err(CallError::Dropped));
    serving.join().unwrap();
    worker.join().unwrap();
}

#[test]
fn several_clients_each_get_their_own_answers() {
    let (client, server) = Options::new().senders(4).capacity(8).service::<[u64; 2], [u64; 2]>().unwrap();
    let mut server = server;
    let serving = thread::spawn(move || {
        let mut held: Vec<Request<[u64; 2], [u64; 2]>> = Vec::new();
        let mut received = 0;
        let reply = |request: Request<[u64; 2], [u64; 2]>| {
            let [who, i] = *request;
            request.reply([who, i * 3]).unwrap();
        };
        while received < 3 * 100 * 8 {
            // Answers are out of order, and the last ones come late.
            match server.recv_timeout(Duration::from_millis(2)) {
                Ok(request) => {
                    received += 1;
                    held.push(request);
                }
                Err(RecvTimeoutError::Timeout) => held.drain(..).for_each(reply),
                Err(error) => panic!("{error}"),
            }
            if held.len() > 5 {
                reply(held.swap_remove(2));
            }
        }
        held.into_iter().for_each(reply);
    });
    let clients: Vec<_> = (0..3)
        .map(|who| {
            let client = client.try_clone().unwrap();
            thread::spawn(move || {
                for i in 0..100 {
                    let pending: Vec<_> = (0..8).map(|k| client.start([who, 8 * i + k]).unwrap()).collect();
                    for (k, pending) in (0..8).zip(pending) {
                        assert_eq!(pending.wait(), Ok([who, 3 * (8 * i + k)]));
                    }
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    serving.join().unwrap();
}

#[test]
fn a_call_without_a_server_is_disconnected() {
    let memory = Options::new().service_memory::<u64, u64>().unwrap();
    let fd = memory.try_clone_fd().unwrap();
    let client = Options::new().client_on::<u64, u64>(memory).unwrap();
    assert!(!client.is_connected());
    assert_eq!(client.call(1), Err(CallError::Disconnected));
    assert!(matches!(client.start(1), Err(CallError::Disconnected)));
    let server = Options::new().server_on::<u64, u64>(Segment::from_fd(fd).unwrap()).unwrap();
    assert!(client.is_connected());
    let server = answer_ten_times(server);
    assert_eq!(client.call(4), Ok(40));
    assert_eq!(client.call(0), Ok(0));
    drop(server.join().unwrap());
    assert!(!client.is_connected());
    assert_eq!(client.call(1), Err(CallError::Disconnected));
}

#[test]
fn a_timeout_cancels_the_call_and_its_answer_is_thrown_away() {
    let (client, mut server) = Options::new().capacity(2).service::<u64, u64>().unwrap();
    let start = Instant::now();
    assert_eq!(client.call_timeout(1, SHORT), Err(CallError::Timeout));
    assert!(start.elapsed() >= SHORT);
    let late = server.recv().unwrap();
    assert!(late.is_cancelled());
    let pending = client.start(2).unwrap();
    let request = server.recv().unwrap();
    assert!(!request.is_cancelled());
    // Both places are taken, one of them by a call that nobody waits for.
    assert_eq!(client.in_flight(), 2);
    assert!(matches!(client.start(3), Err(CallError::Full(2))));
    late.reply(11).unwrap();
    request.reply(12).unwrap();
    assert_eq!(pending.wait(), Ok(12));
    assert_eq!(client.in_flight(), 0);
    let (third, fourth) = (client.start(3).unwrap(), client.start(4).unwrap());
    for _ in 0..2 {
        let request = server.recv().unwrap();
        assert!(!request.is_cancelled());
        let answer = *request;
        request.reply(answer).unwrap();
    }
    assert_eq!((third.wait(), fourth.wait()), (Ok(3), Ok(4)));
}

#[test]
fn a_pending_call_waits_again_after_its_time() {
    let (client, mut server) = Options::new().service::<u64, u64>().unwrap();
    let mut pending = client.start(5).unwrap();
    assert!(pending.try_take().is_none());
    assert_eq!(pending.wait_timeout(SHORT), Err(CallError::Timeout));
    let request = server.recv().unwrap();
    assert!(!request.is_cancelled());
    request.reply(6).unwrap();
    assert_eq!(pending.wait_timeout(LONG), Ok(6));
    assert!(pending.try_take().is_none());
    assert_eq!(pending.wait_timeout(LONG), Err(CallError::Taken));
    assert_eq!(pending.wait(), Err(CallError::Taken));
}

#[test]
fn dropping_a_pending_call_tells_the_server() {
    let (client, mut server) = Options::new().capacity(256).service::<u64, u64>().unwrap();
    let pending: Vec<_> = (0..256).map(|i| client.start(i).unwrap()).collect();
    let requests: Vec<_> = (0..256).map(|_| server.recv().unwrap()).collect();
    // Every third one.
    let kept: Vec<_> = pending.into_iter().enumerate().filter(|(i, _)| i % 3 != 0).collect();
    for request in requests {
        assert_eq!(request.is_cancelled(), *request % 3 == 0);
        let answer = *request;
        request.reply(answer).unwrap();
    }
    for (i, pending) in kept {
        assert_eq!(pending.wait(), Ok(i as u64));
    }
    // All places are free again, and no flag is left.
    let again: Vec<_> = (0..256).map(|i| client.start(i).unwrap()).collect();
    for _ in 0..256 {
        assert!(!server.recv().unwrap().is_cancelled());
    }
    assert!(again.into_iter().all(|pending| pending.wait() == Err(CallError::Dropped)));
}

#[test]
fn a_call_that_was_kept_is_found_again_by_its_client_only() {
    let (client, mut server) = Options::new().service::<u64, u64>().unwrap();
    let other = client.try_clone().unwrap();
    let id = client.start(1).unwrap().into_id();
    let request = server.recv().unwrap();
    assert!(!request.is_cancelled());
    request.reply(2).unwrap();
    assert!(other.pending(id).is_none());
    assert_eq!(client.pending(id).unwrap().wait(), Ok(2));
    assert!(client.pending(id).is_none());
}

#[test]
fn too_many_calls_are_refused_and_those_in_flight_go_on() {
    let (client, mut server) = Options::new().capacity(4).service::<u64, u64>().unwrap();
    assert_eq!(client.capacity(), 4);
    // One that nobody waits for, answered before: its place is as good as any.
    drop(client.start(9).unwrap());
    server.recv().unwrap().reply(9).unwrap();
    let pending: Vec<_> = (0..4).map(|i| client.start(i).unwrap()).collect();
    assert!(matches!(client.start(4), Err(CallError::Full(4))));
    // All of them are wanted, so that waiting would be in vain.
    assert_eq!(client.call_timeout(4, LONG), Err(CallError::Full(4)));
    for _ in 0..4 {
        let request = server.recv().unwrap();
        let answer = *request + 1;
        request.reply(answer).unwrap();
    }
    // Answered, but not taken.
    assert!(matches!(client.start(4), Err(CallError::Full(4))));
    for (i, pending) in (0..).zip(pending) {
        assert_eq!(pending.wait(), Ok(i + 1));
    }
    assert!(client.start(4).is_ok());
}

#[test]
fn a_call_waits_for_the_place_of_one_that_was_cancelled() {
    let (client, mut server) = Options::new().capacity(1).service::<u64, u64>().unwrap();
    drop(client.start(1).unwrap());
    assert_eq!(client.call_timeout(2, SHORT), Err(CallError::Timeout));
    let serving = thread::spawn(move || {
        for _ in 0..2 {
            thread::sleep(SHORT);
            let request = server.recv().unwrap();
            let answer = *request;
            request.reply(answer).unwrap();
        }
    });
    assert_eq!(client.call(3), Ok(3));
    serving.join().unwrap();
}

#[test]
fn a_server_that_goes_ends_all_calls_and_what_it_had_answered_counts() {
    let (client, mut server) = Options::new().service::<u64, u64>().unwrap();
    let pending: Vec<_> = (0..3).map(|i| client.start(i).unwrap()).collect();
    server.recv().unwrap().reply(77).unwrap();
    let held = server.recv().unwrap();
    let waiting = client.try_clone().unwrap();
    let waiting = thread::spawn(move || {
        let start = Instant::now();
        (waiting.call_timeout(9, LONG), start.elapsed())
    });
    thread::sleep(SHORT);
    drop(server);
    // A request that outlives its server goes nowhere.
    assert!(held.is_cancelled() || !client.is_connected());
    assert_eq!(held.reply(5), Err(ReplyError::Disconnected));
    let (answer, took) = waiting.join().unwrap();
    assert_eq!(answer, Err(CallError::Disconnected));
    assert!(took < LONG / 2, "{took:?}");
    let answers: Vec<_> = pending.into_iter().map(tidewire::Pending::wait).collect();
    assert_eq!(answers, [Ok(77), Err(CallError::Disconnected), Err(CallError::Disconnected)]);
}

#[test]
fn clients_go_on_with_the_next_server_and_nothing_is_begun_twice() {
    let (_place, options) = in_a_directory();
    let options = options.capacity(4);
    let mut server = options.server::<u64, u64>("restarted").unwrap();
    let client = options.client::<u64, u64>("restarted").unwrap();
    for round in 0..20_u64 {
        let pending: Vec<_> = (0..4).map(|i| client.start(100 * round + i).unwrap()).collect();
        // One is answered, one is in its hand, two are not yet received.
        server.recv().unwrap().reply(round).unwrap();
        let held = server.recv().unwrap();
        drop(server);
        drop(held);
        server = options.server("restarted").unwrap();
        let answers: Vec<_> = pending.into_iter().map(tidewire::Pending::wait).collect();
        assert_eq!(answers.first(), Some(&Ok(round)));
        assert_eq!(answers.get(1..), Some([Err(CallError::Disconnected); 3].as_slice()));
        // The requests of that time are passed over.
        assert!(matches!(server.try_recv(), Err(TryRecvError::Empty)));
        let pending = client.start(7).unwrap();
        let request = server.recv().unwrap();
        assert_eq!(*request, 7);
        request.reply(8).unwrap();
        assert_eq!(pending.wait(), Ok(8));
    }
}

#[test]
fn a_client_that_goes_is_told_to_nobody_and_its_place_is_used_again() {
    let (_place, options) = in_a_directory();
    let options = options.senders(1).capacity(4);
    let mut server = options.server::<u64, u64>("one").unwrap();
    for round in 0..100_u64 {
        let client = options.client::<u64, u64>("one").unwrap();
        assert!(matches!(options.client::<u64, u64>("one"), Err(OpenError::Exhausted { most: 1 })));
        // All places are left in use: some requests were not received, some not answered, some answers not looked at.
        let kept: Vec<_> = (0..4).map(|i| client.start(10 * round + i).unwrap().into_id()).collect();
        assert_eq!(kept.len(), 4);
        let mut requests: Vec<_> = (0..round % 5).map(|_| server.recv().unwrap()).collect();
        if let Some(request) = requests.pop() {
            request.reply(1).unwrap();
        }
        drop(client);
        let next = options.client::<u64, u64>("one").unwrap();
        for request in requests {
            assert!(request.is_cancelled());
            assert_eq!(request.reply(2), Err(ReplyError::Disconnected));
        }
        // What the former one asked comes first.
        let serving = thread::scope(|scope| {
            let asking = scope.spawn(move || next.call_timeout(5000 + round, LONG));
            loop {
                let request = server.recv().unwrap();
                let (question, cancelled) = (*request, request.is_cancelled());
                assert_eq!(cancelled, question < 5000);
                let sent = request.reply(question + 1);
                assert_eq!(sent.is_err(), cancelled);
                if !cancelled {
                    break asking.join().unwrap();
                }
            }
        });
        assert_eq!(serving, Ok(5001 + round));
    }
}

#[test]
fn ends_are_taken_once_and_types_are_compared() {
    let (_place, options) = in_a_directory();
    assert!(matches!(options.client::<u64, u64>("none"), Err(OpenError::NotFound { .. })));
    let soon = options.client_in::<u64, u64>("none", SHORT);
    assert!(matches!(soon, Err(OpenError::TimedOut { .. })));
    let server = options.server::<Order, Fill>("typed").unwrap();
    assert!(matches!(options.server::<Order, Fill>("typed"), Err(OpenError::Taken { .. })));
    for error in [
        options.client::<Order, [u64; 4]>("typed").unwrap_err(),
        options.client::<[u64; 2], Fill>("typed").unwrap_err(),
        options.client::<Fill, Order>("typed").unwrap_err(),
        options.bytes_client("typed").unwrap_err(),
    ] {
        assert!(matches!(error, OpenError::Types { .. }), "{error}");
    }
    let error = options.client::<Order, Order>("typed").unwrap_err().to_string();
    assert!(error.contains("of `reply`") && error.contains("parts: [u32; 6]"), "{error}");
    assert!(matches!(options.sender::<Order>("typed"), Err(OpenError::Incompatible(_))));
    drop(server);
    assert!(matches!(options.client::<Order, Fill>("typed"), Err(OpenError::NotFound { .. })));
}

#[test]
fn what_cannot_be_chosen_is_refused() {
    for options in [Options::new().senders(0), Options::new().senders(256), Options::new().capacity(257)] {
        assert!(matches!(options.service::<u64, u64>(), Err(OpenError::Options { .. })), "{options:?}");
    }
    for longest in [usize::MAX, usize::MAX - 20, (1 << 30) + 1, 1 << 30] {
        let refused = Options::new().capacity(256).bytes_service(longest);
        assert!(matches!(refused, Err(OpenError::Options { .. })), "{longest}");
    }
    // As many calls as were asked for, also if that is no power of two.
    let (client, _server) = Options::new().senders(255).capacity(3).service::<u8, [u64; 9]>().unwrap();
    assert_eq!(client.capacity(), 3);
}

#[test]
fn receiving_ends_at_its_time() {
    let (client, mut server) = tidewire::service::<u64, u64>().unwrap();
    assert!(matches!(server.try_recv(), Err(TryRecvError::Empty)));
    let start = Instant::now();
    assert!(matches!(server.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout)));
    assert!(start.elapsed() >= SHORT);
    assert_eq!(server.take_corrupt(), None);
    // That the last client goes is no end.
    drop(client);
    assert!(matches!(server.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout)));
}

#[test]
fn bytes_of_any_length_up_to_the_longest() {
    let (client, mut server) = Options::new().capacity(3).bytes_service(1000).unwrap();
    assert_eq!(client.max(), 1000);
    let serving = thread::spawn(move || {
        for request in server.iter().take(2004) {
            let answer: Vec<u8> = request.iter().rev().copied().collect();
            match answer.as_slice() {
                b"gnol" => assert_eq!(request.reply(&[0; 1001]), Err(ReplyError::TooLong(1000))),
                b"pord" => drop(request),
                answer => request.reply(answer).unwrap(),
            }
        }
    });
    for len in (0..=1000).rev() {
        let question: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let (first, second) = (client.start(&question).unwrap(), client.start(&[]).unwrap());
        assert_eq!(first.wait().unwrap(), question.iter().rev().copied().collect::<Vec<u8>>());
        assert_eq!(second.wait().unwrap(), b"");
    }
    assert_eq!(client.call(b"long"), Err(CallError::ReplyTooLong));
    assert_eq!(client.call_timeout(b"drop", LONG), Err(CallError::Dropped));
    assert_eq!(client.call(&[0; 1001]), Err(CallError::TooLong(1000)));
    serving.join().unwrap();
}

/// With records that fill a lane and a ring exactly, and leave padding behind where they are shorter.
#[test]
fn who_keeps_to_its_places_always_finds_room_and_so_does_the_server() {
    // Records of 8 + 16 + 40 bytes: 6 and two spare ones, or 8 without spare ones, fill a power of two.
    [6, 8].into_iter().for_each(use_all_places);
}

fn use_all_places(places: usize) {
    let options = Options::new().capacity(places).senders(1);
    let (mut client, mut server) = options.bytes_service(40).unwrap();
    let memory = server.memory().try_clone_fd().unwrap();
    let mut state = 1_u64;
    let mut below = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    for round in 0..200 {
        let mut pending = Vec::new();
        let mut held = Vec::new();
        for _ in 0..60 {
            while pending.len() < places {
                let question = vec![7; if below(2) == 0 { 40 } else { below(41) as usize }];
                pending.push((client.start(&question).unwrap(), question.len()));
            }
            // All of them, or some; those that are held are answered out of order.
            while let Ok(request) = server.try_recv() {
                held.push(request);
                if below(4) == 0 {
                    break;
                }
            }
            for _ in 0..below(7).min(held.len() as u64) {
                let request = held.swap_remove(below(held.len() as u64) as usize);
                let answer = vec![8; 40 - request.len()];
                request.reply(&answer).unwrap();
            }
            pending.retain_mut(|(pending, len)| match pending.try_take() {
                Some(answer) => {
                    assert_eq!(answer.unwrap().len(), 40 - *len, "round {round}");
                    false
                }
                None => true,
            });
        }
        // The next client finds what this one left, and is refused nothing when that is received.
        drop(pending);
        drop(client);
        let memory = Segment::from_fd(memory.try_clone().unwrap()).unwrap();
        client = options.bytes_client_on(memory).unwrap();
        while let Ok(request) = server.try_recv() {
            held.push(request);
        }
        for request in held {
            assert_eq!(request.reply(&[9; 40]), Err(ReplyError::Disconnected));
        }
    }
}

#[test]
fn a_service_that_nobody_uses_leaves_nothing_behind() {
    let (place, options) = in_a_directory();
    let server = options.server::<u64, u64>("left").unwrap();
    let client = options.client::<u64, u64>("left").unwrap();
    let files = || {
        let files = std::fs::read_dir(place.path().join("segments")).unwrap();
        files.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().contains("left")).count()
    };
    drop(server);
    assert!(files() > 0);
    drop(client);
    assert_eq!(files(), 0);
}

/// A record as the layout says it.
fn record(id: u64, number: u32, cargo: &[u8]) -> Vec<u8> {
    [id.to_le_bytes().as_slice(), &number.to_le_bytes(), &[0; 4], cargo].concat()
}

/// The memory a second time.
fn again(memory: &Segment) -> Segment {
    Segment::from_fd(memory.try_clone_fd().unwrap()).unwrap()
}

#[test]
fn a_server_that_lies_is_found_out_or_believed_and_answers_to_others_are_for_nobody() {
    let memory = Options::new().senders(1).service_memory::<u64, u64>().unwrap();
    let leases = memory.leases().unwrap();
    let (_, mut parts) = Composite::open::<Untrusted>(memory.region(), 0x0005_0003).unwrap();
    let ring = tidewire_ring::bytes::Ring::open(parts.pop().unwrap(), 0).unwrap();
    let mut lies = ring.producer_with(&leases.range(1024)).unwrap();
    let _server = Options::new().server_on::<u64, u64>(again(&memory)).unwrap();
    // Of the first client: generation 1, slot 0, and the count of the call.
    let id = |count: u64| 1 << 32 | count << 8;
    // What lay there before it came is for nobody, also if it looks like an answer.
    lies.push(&record(id(1), 1, &[9; 8])).unwrap();
    let client = Options::new().client_on::<u64, u64>(memory).unwrap();
    let mut pending = client.start(1).unwrap();
    for wrong in [
        // Of another client, of the next call, of one long ago, of other slots.
        record(2 << 32 | 1 << 8, 1, &[9; 8]),
        record(id(2), 1, &[9; 8]),
        record(id(0), 1, &[9; 8]),
        record(id(1) + 1, 1, &[9; 8]),
        record(id(1) + 255, 1, &[9; 8]),
        vec![0; 15],
        Vec::new(),
    ] {
        lies.push(&wrong).unwrap();
        assert_eq!(pending.wait_timeout(Duration::from_millis(2)), Err(CallError::Timeout), "{wrong:?}");
    }
    lies.push(&record(id(1), 1, &5_u64.to_le_bytes())).unwrap();
    // The same once more is one too many.
    lies.push(&record(id(1), 1, &6_u64.to_le_bytes())).unwrap();
    assert_eq!(pending.wait(), Ok(5));
    for (count, (number, cargo, error)) in (2..).zip([
        (1, 7, CallError::Malformed),
        (1, 9, CallError::Malformed),
        (0, 8, CallError::Malformed),
        (4, 8, CallError::Malformed),
        (2, 8, CallError::Dropped),
        (3, 0, CallError::ReplyTooLong),
    ]) {
        let pending = client.start(1).unwrap();
        lies.push(&record(id(count), number, &vec![1; cargo])).unwrap();
        assert_eq!(pending.wait(), Err(error));
    }
    assert_eq!(client.in_flight(), 0);
}

#[test]
fn a_client_that_lies_is_passed_over_and_others_are_answered() {
    let (client, mut server) = Options::new().senders(2).service::<u64, u64>().unwrap();
    let memory = again(server.memory());
    let leases = memory.leases().unwrap();
    let (_, mut parts) = Composite::open::<Untrusted>(memory.region(), 0x0005_0003).unwrap();
    let _replies = parts.pop().unwrap();
    let queue = tidewire_mpsc::bytes::Queue::open(parts.pop().unwrap(), 0).unwrap();
    let mut lies = queue.producer(&leases).unwrap();
    assert_eq!(lies.lane(), 1);
    for wrong in [
        Vec::new(),
        vec![0; 15],
        // To no server, to the next one, too short, too long.
        record(1 << 32, 0, &[1; 8]),
        record(1 << 32, 2, &[1; 8]),
        record(1 << 32, 1, &[1; 7]),
        record(1 << 32, 1, &[1; 9]),
    ] {
        lies.push(&wrong).unwrap();
        assert!(matches!(server.try_recv(), Err(TryRecvError::Empty)), "{wrong:?}");
    }
    // It asks without being there, under any name: there is nobody to be answered.
    for id in [0, 1 << 32, u64::MAX] {
        lies.push(&record(id, 1, &[1; 8])).unwrap();
        let request = server.try_recv().unwrap();
        assert!(request.is_cancelled());
        assert_eq!(request.reply(1), Err(ReplyError::Disconnected));
    }
    let pending = client.start(4).unwrap();
    server.recv().unwrap().reply(5).unwrap();
    assert_eq!(pending.wait(), Ok(5));
}

#[test]
fn who_asks_more_than_it_may_loses_its_own_answers_only() {
    let memory = Options::new().senders(2).capacity(2).service_memory::<u64, u64>().unwrap();
    let leases = memory.leases().unwrap();
    let (found, mut parts) = Composite::open::<Untrusted>(memory.region(), 0x0005_0003).unwrap();
    assert_eq!(found.numbers.get(..4), Some([2, 2, 8, 8].as_slice()));
    let _replies = parts.pop().unwrap();
    let queue = tidewire_mpsc::bytes::Queue::open(parts.pop().unwrap(), 0).unwrap();
    let roster = Roster::open(parts.pop().unwrap(), 3).unwrap();
    let mut server = Options::new().server_on::<u64, u64>(again(&memory)).unwrap();
    // A client that is there, asks for more than it may, and never looks at an answer.
    let mut greedy = queue.producer(&leases).unwrap();
    let _there = roster.attend(1, [0; 2], System, &SleepOptions::new()).unwrap();
    let client = Options::new().client_on::<u64, u64>(again(&memory)).unwrap();
    let mut full = 0;
    for count in 0..50 {
        greedy.push(&record(1 << 32 | count << 8, 1, &[1; 8])).unwrap();
        match server.try_recv().unwrap().reply(7) {
            Ok(()) => assert_eq!(full, 0),
            Err(error) => {
                assert_eq!(error, ReplyError::Full);
                full += 1;
            }
        }
        let honest = client.start(count).unwrap();
        server.recv().unwrap().reply(5).unwrap();
        assert_eq!(honest.wait(), Ok(5));
    }
    // 2 calls, and 2 more.
    assert_eq!(full, 46);
}

#[test]
fn rings_of_replies_take_no_other_leases() {
    let memory = Options::new().senders(1).service_memory::<u64, u64>().unwrap();
    let leases = memory.leases().unwrap();
    let (_, mut parts) = Composite::open::<Untrusted>(memory.region(), 0x0005_0003).unwrap();
    let ring = tidewire_ring::bytes::Ring::open(parts.pop().unwrap(), 0).unwrap();
    assert!(matches!(ring.consumer_with(&leases), Err(tidewire_ring::AttachError::Incompatible(_))));
    assert!(ring.consumer().is_err());
    // The end of client 0, in the range that the layout names; the client finds it taken, and another place there is not.
    let held = ring.consumer_with(&leases.range(1024)).unwrap();
    let refused = Options::new().client_on::<u64, u64>(memory);
    assert!(matches!(refused, Err(OpenError::Exhausted { most: 1 })));
    drop(held);
}

#[test]
fn a_service_of_bytes_by_name() {
    let (_place, options) = in_a_directory();
    let mut server = options.bytes_server("bytes", 64).unwrap();
    let client = options.bytes_client_in("bytes", LONG).unwrap();
    let id = client.start(b"ping").unwrap().into_id();
    assert_eq!(client.in_flight(), 1);
    let request = server.recv_timeout(LONG).unwrap();
    assert!(!request.is_cancelled());
    request.reply(b"pong").unwrap();
    let mut pending = client.pending(id).unwrap();
    assert_eq!(pending.wait_timeout(LONG), Ok(b"pong".to_vec()));
    assert!(pending.try_take().is_none());
    drop(pending);
    drop(client.start(b"nobody waits").unwrap());
    assert!(server.try_recv().unwrap().is_cancelled());
}

#[test]
fn handles_are_send() {
    fn sent<T: Send>() {}
    sent::<Client<u64, u64>>();
    sent::<Server<u64, u64>>();
    sent::<Request<u64, u64>>();
    sent::<tidewire::BytesClient>();
    sent::<tidewire::BytesServer>();
    sent::<tidewire::BytesRequest>();
}
