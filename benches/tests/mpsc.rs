//! The check of queues with many producers finds what it is for.

use std::time::Duration;

use tidewire_benches::contender::{Rx, Tx};
use tidewire_benches::mpsc::check;
use tidewire_benches::mpsc::contender::ManyContender;
use tidewire_benches::pair::{self, EVERYWHERE, Mode};
use tidewire_benches::peers::aeron_style::{AeronRx, AeronStyle, AeronTx};

/// What a broken queue does, once, somewhere in the middle.
const SKIP: u8 = 0;
const REPEAT: u8 = 1;
const TEAR: u8 = 2;
const SWAP: u8 = 3;
const RENAME: u8 = 4;

/// A right queue whose last producer goes wrong at one message.
struct Broken<const FAULT: u8>;

struct BrokenTx<const W: usize, const FAULT: u8> {
    tx: AeronTx,
    left: u64,
    held: Option<[u64; W]>,
}

const AT: u64 = 5_000;

impl<const FAULT: u8> ManyContender for Broken<FAULT> {
    const NAME: &'static str = "broken";
    const BATCH: bool = false;
    const MODES: &'static [Mode] = EVERYWHERE;
    type Tx<const W: usize> = BrokenTx<W, FAULT>;
    type Rx<const W: usize> = AeronRx;

    fn make<const W: usize>(producers: usize) -> anyhow::Result<(Vec<Self::Tx<W>>, Self::Rx<W>)> {
        let (txs, rx) = AeronStyle::make::<W>(producers)?;
        let good = producers - 1;
        let broken = |(i, tx)| BrokenTx { tx, left: if i < good { u64::MAX } else { AT }, held: None };
        Ok((txs.into_iter().enumerate().map(broken).collect(), rx))
    }
}

impl<const W: usize, const FAULT: u8> BrokenTx<W, FAULT> {
    fn push_surely(&mut self, message: &[u64; W]) {
        while !Tx::push(&mut self.tx, message) {
            std::thread::yield_now();
        }
    }
}

impl<const W: usize, const FAULT: u8> Tx<W> for BrokenTx<W, FAULT> {
    fn push(&mut self, message: &[u64; W]) -> bool {
        self.left -= 1;
        if let Some(held) = self.held.take() {
            self.push_surely(message);
            self.push_surely(&held);
            return true;
        }
        match (self.left == 0, FAULT) {
            (true, SKIP) => {}
            (true, REPEAT) => {
                self.push_surely(message);
                self.push_surely(message);
            }
            (true, TEAR) => {
                let mut torn = *message;
                if let Some(last) = torn.last_mut() {
                    *last ^= 1;
                }
                self.push_surely(&torn);
            }
            (true, SWAP) => self.held = Some(*message),
            (true, RENAME) => {
                let mut renamed = *message;
                if let Some(first) = renamed.first_mut() {
                    // As if producer 0 had sent it.
                    *first &= (1 << 48) - 1;
                }
                self.push_surely(&renamed);
            }
            _ => self.push_surely(message),
        }
        if self.left == 0 {
            self.left = u64::MAX;
        }
        true
    }
}

fn is_caught<const FAULT: u8>(expected: &str) {
    for mode in [Mode::Processes, Mode::Threads] {
        let result = pair::sample(Duration::from_secs(180), |board| {
            check::messages::<Broken<FAULT>, 4, 8>(board, mode, false)
        });
        let error = result.expect_err("a broken queue passed").to_string();
        assert!(error.contains(expected), "{mode:?}: {error}");
    }
}

#[test]
fn a_skipped_message_is_caught() {
    is_caught::<SKIP>("producer 3: expected message 4999, found message 5000");
}

#[test]
fn a_repeated_message_is_caught() {
    is_caught::<REPEAT>("producer 3: expected message 5000, found message 4999");
}

#[test]
fn a_torn_message_is_caught() {
    is_caught::<TEAR>("producer 3, message 4999: expected");
}

#[test]
fn swapped_messages_are_caught() {
    is_caught::<SWAP>("producer 3: expected message 4999, found message 5000");
}

#[test]
fn a_message_of_another_producer_is_caught() {
    is_caught::<RENAME>("producer 0");
}

/// A queue that loses the last message.
struct Short;
struct ShortRx(AeronRx, u64);

impl ManyContender for Short {
    const NAME: &'static str = "short";
    const BATCH: bool = false;
    const MODES: &'static [Mode] = EVERYWHERE;
    type Tx<const W: usize> = AeronTx;
    type Rx<const W: usize> = ShortRx;

    fn make<const W: usize>(producers: usize) -> anyhow::Result<(Vec<Self::Tx<W>>, Self::Rx<W>)> {
        let (txs, rx) = AeronStyle::make::<W>(producers)?;
        Ok((txs, ShortRx(rx, check::MESSAGES - 1)))
    }
}

impl<const W: usize> Rx<W> for ShortRx {
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        let popped = self.1 > 0 && self.0.pop(to);
        self.1 -= u64::from(popped);
        popped
    }
}

#[test]
fn a_lost_message_is_caught() {
    for mode in [Mode::Processes, Mode::Threads] {
        let result = pair::sample(Duration::from_secs(180), |board| {
            check::messages::<Short, 4, 8>(board, mode, false)
        });
        let error = result.expect_err("a queue that loses the last message passed").to_string();
        let expected = format!("expected {} messages, found {}", check::MESSAGES, check::MESSAGES - 1);
        assert!(error.contains(&expected), "{mode:?}: {error}");
    }
}
