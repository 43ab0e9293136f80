//! The check finds what it is for, and the contenders pass it.

#[path = "check/message.rs"]
mod message;

use std::time::Duration;

use tidewire_benches::cells;
use tidewire_benches::check;
use tidewire_benches::contender::{Contender, Rx, Tx};
use tidewire_benches::pair::{self, Mode};
use tidewire_benches::peers::tidewire::{Default, Tidewire};

/// What a broken queue does, once, somewhere in the middle.
const SKIP: u8 = 0;
const REPEAT: u8 = 1;
const TEAR: u8 = 2;
const SWAP: u8 = 3;

/// Our ring with a producer that goes wrong at one message.
struct Broken<const FAULT: u8>;

struct BrokenTx<const W: usize, const FAULT: u8> {
    tx: <Tidewire<Default> as Contender>::Tx<W>,
    pushed: u64,
    held: Option<[u64; W]>,
}

const AT: u64 = 20_000;

impl<const FAULT: u8> Contender for Broken<FAULT> {
    const NAME: &'static str = "broken";
    const BATCH: bool = false;
    type Tx<const W: usize> = BrokenTx<W, FAULT>;
    type Rx<const W: usize> = <Tidewire<Default> as Contender>::Rx<W>;

    fn make<const W: usize>() -> anyhow::Result<(Self::Tx<W>, Self::Rx<W>)> {
        let (tx, rx) = Tidewire::<Default>::make::<W>()?;
        Ok((BrokenTx { tx, pushed: 0, held: None }, rx))
    }
}

impl<const W: usize, const FAULT: u8> BrokenTx<W, FAULT> {
    fn push_surely(&mut self, message: &[u64; W]) {
        while !Tx::push(&mut self.tx, message) {
            std::hint::spin_loop();
        }
    }
}

impl<const W: usize, const FAULT: u8> Tx<W> for BrokenTx<W, FAULT> {
    fn push(&mut self, message: &[u64; W]) -> bool {
        self.pushed += 1;
        if let Some(held) = self.held.take() {
            self.push_surely(message);
            self.push_surely(&held);
            return true;
        }
        match (self.pushed == AT, FAULT) {
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
            _ => self.push_surely(message),
        }
        true
    }
}

fn is_caught<const FAULT: u8>() {
    for mode in [Mode::Processes, Mode::Threads] {
        let result = pair::sample(Duration::from_secs(180), |board| {
            check::messages::<Broken<FAULT>, 8>(board, mode, false)
        });
        let error = result.expect_err("a broken queue passed").to_string();
        assert!(error.contains("message 19999: expected"), "{mode:?}: {error}");
    }
}

#[test]
fn a_skipped_message_is_caught() {
    is_caught::<SKIP>();
}

#[test]
fn a_repeated_message_is_caught() {
    // The repetition stands where the next message should.
    for mode in [Mode::Processes, Mode::Threads] {
        let result = pair::sample(Duration::from_secs(180), |board| {
            check::messages::<Broken<REPEAT>, 8>(board, mode, false)
        });
        let error = result.expect_err("a broken queue passed").to_string();
        assert!(error.contains("message 20000: expected"), "{mode:?}: {error}");
    }
}

#[test]
fn a_torn_message_is_caught() {
    is_caught::<TEAR>();
}

#[test]
fn swapped_messages_are_caught() {
    is_caught::<SWAP>();
}

/// A queue whose consumer never finds anything.
struct Mute;
struct MuteEnd;

impl Contender for Mute {
    const NAME: &'static str = "mute";
    const BATCH: bool = false;
    type Tx<const W: usize> = MuteEnd;
    type Rx<const W: usize> = MuteEnd;

    fn make<const W: usize>() -> anyhow::Result<(MuteEnd, MuteEnd)> {
        Ok((MuteEnd, MuteEnd))
    }
}

impl<const W: usize> Tx<W> for MuteEnd {
    fn push(&mut self, _: &[u64; W]) -> bool {
        true
    }
}

impl<const W: usize> Rx<W> for MuteEnd {
    fn pop(&mut self, _: &mut [u64; W]) -> bool {
        false
    }
}

#[test]
fn lost_messages_are_caught() {
    let result = pair::sample(Duration::from_secs(180), |board| {
        check::messages::<Mute, 1>(board, Mode::Processes, false)
    });
    let error = result.expect_err("a mute queue passed").to_string();
    assert!(error.contains("messages, found 0"), "{error}");
}

#[test]
fn a_sample_that_hangs_is_killed_and_reported() {
    let result = pair::sample(Duration::from_millis(300), |_| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    let error = result.expect_err("a sample without an end ended").to_string();
    assert!(error.contains("killed it"), "{error}");
}

#[test]
fn every_contender_passes_its_checks() {
    let wanted = [
        "batch-8",
        "single-64",
        "records-16-79",
        "mpsc-1-8",
        "mpsc-4-64",
        "mpsc-batch-4-8",
        "cell-full-8",
        "cell-full-56",
        "cell-full-64",
        "cell-full-4096",
        "cell-readers-3-256",
        "message-rate-8",
        "message-rate-65536",
        "message-request-8",
    ];
    let cells: Vec<_> =
        cells::all().into_iter().filter(|cell| wanted.contains(&cell.name.as_str())).collect();
    assert_eq!(cells.len(), wanted.len(), "every name is that of a cell");
    for cell in &cells {
        for entry in &cell.entries {
            for mode in entry.modes {
                for check in entry.checks {
                    let result = pair::sample(Duration::from_secs(180), |board| check(board, *mode));
                    assert!(
                        result.is_ok(),
                        "{}, {}, {mode:?}: {:?}",
                        cell.name,
                        entry.contender,
                        result.err()
                    );
                }
            }
        }
    }
}
