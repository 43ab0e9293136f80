//! Round trips of messages over two rings of fixed slots: one there, one back.

use anyhow::Result;
use hdrhistogram::Histogram;
use tidewire_ring::PopError;

use super::fixed::{Message, Receiver, Sender, misbehave, payload_bytes, push};
use super::message::{self, name};
use super::oracle::{Oracle, Tally};
use super::side::{Outcome, Rtt, Side};

/// Round trips between two looks at the clock.
const TRIPS: u64 = 256;
/// The longest trip that is told apart from longer ones, in ticks: some minutes.
const LONGEST_TRIP: u64 = 1 << 40;

/// Sends a message and waits for its return, again and again.
pub(crate) fn ask<const W: usize>(
    side: &mut Side<'_>,
    mut there: Sender<W>,
    mut back: Receiver<W>,
) -> Result<Outcome> {
    side.start()?;
    let mut budget = side.budget(TRIPS);
    let mut fault = side.plan.fault;
    let mut ticks = Histogram::<u64>::new_with_bounds(1, LONGEST_TRIP, 3)?;
    let mut echoes = Tally::default();
    let mut echo = [0; W];
    let mut next = 0;
    let mut trip = |message: &Message<W>| -> Result<()> {
        let sent = side.clock.ticks();
        push(side, &mut there, || *message)?;
        let mut fruitless = 0;
        while let Err(error) = back.pop_to(&mut echo) {
            if error != PopError::Empty {
                return Err(error.into());
            }
            side.wait(&mut fruitless);
        }
        ticks.saturating_record(side.clock.ticks().wrapping_sub(sent));
        echoes.received += 1;
        echoes.torn += u64::from(echo != *message);
        Ok(())
    };
    loop {
        let block = budget.next(next);
        if block == 0 {
            break;
        }
        for sequence in next..next + block {
            trip(&message::make(name(0, sequence)))?;
        }
        next += block;
        side.progress(next);
        if fault.take().is_some() {
            next = misbehave(side, next, &mut trip)?;
        }
    }
    let outcome = side.outcome();
    let ns = side.clock.ns_per_tick();
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a trip")]
    let at = |quantile| ticks.value_at_quantile(quantile) as f64 * ns;
    let rtt = Rtt { p50_ns: at(0.5), p99_ns: at(0.99), p999_ns: at(0.999) };
    let rtt = (!ticks.is_empty()).then_some(rtt);
    Ok(Outcome { sent: side.end(next)?, tally: echoes, rtt, ..outcome })
}

/// Sends every message back at once, and looks at it afterwards.
pub(crate) fn answer<const W: usize>(
    side: &mut Side<'_>,
    mut there: Receiver<W>,
    mut back: Sender<W>,
) -> Result<Outcome> {
    side.start()?;
    let mut oracle = Oracle::new(1);
    let mut follow = oracle.follow(0);
    let mut message = [0; W];
    let mut over = false;
    let mut fruitless = 0;
    loop {
        match there.pop_to(&mut message) {
            Ok(()) => {
                push(side, &mut back, || message)?;
                follow.see(&message);
                fruitless = 0;
                if follow.next().is_multiple_of(TRIPS) {
                    side.progress(follow.next());
                }
            }
            Err(PopError::Empty) if over => break,
            Err(PopError::Empty) => over = !side.wait_for_more(&mut fruitless),
            Err(error) => return Err(error.into()),
        }
    }
    follow.end();
    Ok(side.judged(oracle, payload_bytes::<W>))
}
