//! Lanes of records: what is announced comes next, and records are whole, over a wrap with padding.

use loom::thread;
use tidewire_mpsc::bytes::{Consumer, Queue};
use tidewire_mpsc::{Delivery, Options, RecordPopError, Tuning};
use tidewire_shm::{Region, Trusted, Unleased};

use crate::Gate;
use crate::model::model_that_shows;

fn queue(lanes: u32, delivery: Delivery) -> Queue {
    let options = Options::new().lanes(lanes).delivery(delivery);
    Queue::create(Region::heap(Queue::<Trusted>::bytes(64, &options).unwrap()).unwrap(), 64, &options)
        .unwrap()
}

/// The number of the next record: all of its bytes are that number, and there are as many.
fn pop(consumer: &mut Consumer) -> Option<u8> {
    let mut to = [0; 64];
    match consumer.pop_into(&mut to) {
        Ok(n) => {
            assert!(n > 0 && to[..n].iter().all(|byte| usize::from(*byte) == n), "torn: {:?}", &to[..n]);
            Some(n as u8)
        }
        Err(RecordPopError::Empty) => None,
        Err(error @ RecordPopError::BufferTooSmall { .. }) => panic!("{error}"),
    }
}

#[test]
fn records_over_a_wrap() {
    for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
        model_that_shows(&["empty", "wrap"], move |shown| {
            let queue = queue(1, delivery);
            let mut producer = queue.producer(&Unleased).unwrap();
            let mut consumer = queue.consumer(&Unleased).unwrap();
            consumer.tune(Tuning::default().release_every(1));
            // Two records of 24 bytes with their frames; a third one goes behind padding, over the wrap.
            for n in [16, 15] {
                producer.push(&vec![n; n.into()]).unwrap();
                assert_eq!(pop(&mut consumer), Some(n));
            }
            consumer.release();
            let gate = Gate::new();
            let outside = gate.clone();
            let producing = thread::spawn(move || {
                outside.pass();
                producer.push(&[9; 9]).unwrap();
                producer.push(&[3; 3]).unwrap();
            });
            gate.pass();
            let mut got: Vec<u8> = (0..2).filter_map(|_| pop(&mut consumer)).collect();
            shown.note(if got.is_empty() { "empty" } else { "wrap" });
            producing.join().unwrap();
            got.extend(std::iter::from_fn(|| pop(&mut consumer)));
            assert_eq!(got, [9, 3]);
        });
    }
}

/// A record that was found too long for the buffer, or only looked at, is the next one, though another lane has more
/// by now and the budget of this one is used up.
#[test]
fn an_announced_record_is_the_next_one() {
    model_that_shows(&["the other has more", "alone"], |shown| {
        let queue = queue(2, Delivery::AtLeastOnce);
        let (mut first, mut second) =
            (queue.producer(&Unleased).unwrap(), queue.producer(&Unleased).unwrap());
        let mut consumer = queue.consumer(&Unleased).unwrap();
        consumer.tune(Tuning::default().budget(1).release_every(8));
        let gate = Gate::new();
        let outside = gate.clone();
        let pushing = thread::spawn(move || {
            outside.pass();
            first.push(&[5; 5]).unwrap();
            outside.pass();
            first.push(&[6; 6]).unwrap();
        });
        second.push(&[9; 9]).unwrap();
        gate.pass();
        let len = consumer.peek_len().unwrap();
        gate.pass();
        shown.note(if consumer.len() > 24 { "the other has more" } else { "alone" });
        assert_eq!(consumer.peek_len(), Ok(len));
        let needed = len as u32;
        assert_eq!(consumer.pop_into(&mut [0; 2]), Err(RecordPopError::BufferTooSmall { needed }));
        assert_eq!(pop(&mut consumer), Some(len as u8));
        pushing.join().unwrap();
        let mut got: Vec<u8> = std::iter::from_fn(|| pop(&mut consumer)).collect();
        got.push(len as u8);
        got.sort_unstable();
        assert_eq!(got, [5, 6, 9]);
    });
}
