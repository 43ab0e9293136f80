//! Requests and their replies: how long an asker waits.

use std::hint::{black_box, spin_loop};

use anyhow::ensure;

use crate::board::Board;
use crate::clock::{stamp, ticks};
use crate::latency::{KEPT, Latencies};
use crate::message::contender::{Client, Requests, Server};
use crate::message::run::{self, Manner};
use crate::message::stream::{LAST, probed_a, probed_b};
use crate::pair::Mode;
use crate::schedule::Plan;

/// Round trips of requests; each reply is made from its request.
///
/// # Errors
/// What a side found wrong, or what the layer said.
pub fn round_trip<Q: Requests, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    run::both(
        board,
        mode,
        Manner::of_requests::<Q>(),
        |place| {
            let mut client = Q::client::<W>(&place.link(board, 0)?)?;
            let mut trips = Latencies::with_capacity(KEPT);
            probed_a(board, plan, || {
                let began = ticks();
                let warm = began + plan.warm_ticks;
                let end = warm + plan.window_ticks;
                let (mut reply, mut number, mut good) = ([0; W], 0, true);
                while !trips.is_full() {
                    let sent = ticks();
                    if sent > end {
                        break;
                    }
                    client.call(&[number; W], &mut reply)?;
                    let received = stamp();
                    good &= black_box(&reply).iter().all(|word| *word == !number);
                    number += 1;
                    if sent > warm {
                        trips.add(received - sent);
                    }
                }
                client.call(&[LAST; W], &mut reply)?;
                ensure!(good, "expected each reply to be that to its request, found another");
                Ok(())
            })?;
            trips.into_summary(&plan.scale).note(board);
            Ok(())
        },
        |place| {
            let mut server = Q::server::<W>(&place.link(board, 0)?)?;
            probed_b(board, || {
                let mut last = false;
                while !last {
                    let answer = |request: &[u64; W]| {
                        last = request.first() == Some(&LAST);
                        black_box(request).map(|word| !word)
                    };
                    if !server.serve(answer)? {
                        spin_loop();
                    }
                }
                Ok(())
            })
        },
    )
}
