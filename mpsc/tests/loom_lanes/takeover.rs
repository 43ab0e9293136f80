//! One consumer after the other.

use std::sync::Arc;

use loom::thread;
use tidewire_mpsc::{AttachError, Delivery};

use crate::leases::Leases;
use crate::model::model_that_shows;
use crate::{Gate, pop, queue, rest};

/// The role goes from hand to hand while a producer works: nothing lost, nothing twice where the first one ended in
/// order.
#[test]
fn a_consumer_that_ends_in_order_is_followed_without_repetition() {
    for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
        model_that_shows(&["followed", "refused"], move |shown| {
            let (queue, leases) = (Arc::new(queue::<Leases>(1, 4, delivery)), Leases::new());
            let mut producer = queue.producer(&leases).unwrap();
            let mut first = queue.consumer(&leases).unwrap();
            producer.push(10).unwrap();
            let gate = Gate::new();
            let outside = gate.clone();
            let ending = thread::spawn(move || {
                outside.pass();
                let got = pop(&mut first);
                drop(first);
                got
            });
            let following = thread::spawn({
                let (queue, leases) = (Arc::clone(&queue), leases.clone());
                move || match queue.consumer(&leases) {
                    Ok(mut second) => {
                        let got = pop(&mut second);
                        Some((second, got))
                    }
                    Err(error) => {
                        assert!(
                            matches!(error, AttachError::RoleTaken(_) | AttachError::Lease(_)),
                            "{error}"
                        );
                        None
                    }
                }
            });
            producer.push(11).unwrap();
            let mut got: Vec<u64> = ending.join().unwrap().into_iter().collect();
            let mut second = match following.join().unwrap() {
                Some((second, more)) => {
                    shown.note("followed");
                    got.extend(more);
                    second
                }
                None => {
                    shown.note("refused");
                    queue.consumer(&leases).unwrap()
                }
            };
            got.extend(rest(&mut second));
            assert_eq!(got, [10, 11]);
        });
    }
}
