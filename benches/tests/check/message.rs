//! The check of message layers finds what it is for, and what is measured of them means what it says.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use tidewire_benches::board::{Board, SharedBoard, Value};
use tidewire_benches::cells::{self, Group, Kind};
use tidewire_benches::message::contender::{Layer, MessageRx, MessageTx};
use tidewire_benches::message::place::Link;
use tidewire_benches::message::{check, death, memory, stream};
use tidewire_benches::pair::{self, Mode};
use tidewire_benches::peers::message::{futex, pipe, posix_queue, slot, sockets, tidewire};
use tidewire_benches::schedule::Plan;

/// What a broken layer does, once, somewhere in the middle.
const SKIP: u8 = 0;
const REPEAT: u8 = 1;
const TEAR: u8 = 2;
const SWAP: u8 = 3;
const DIE: u8 = 4;
const NONE: u8 = 5;

const AT: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(60);

/// A right layer with a sender that goes wrong at one message.
struct Broken<const FAULT: u8>;

struct BrokenTx<const W: usize, const FAULT: u8> {
    tx: UnixStream,
    sent: u64,
    held: Option<[u64; W]>,
}

struct RightRx(UnixStream);

impl<const FAULT: u8> Layer for Broken<FAULT> {
    const NAME: &'static str = "broken";
    const SLEEPS: bool = true;
    type Tx<const W: usize> = BrokenTx<W, FAULT>;
    type Rx<const W: usize> = RightRx;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<Self::Tx<W>> {
        let tx = <sockets::Stream as Layer>::sender::<W>(link)?;
        Ok(BrokenTx { tx, sent: 0, held: None })
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<RightRx> {
        Ok(RightRx(<sockets::Stream as Layer>::receiver::<W>(link)?))
    }
}

impl<const W: usize, const FAULT: u8> MessageTx<W> for BrokenTx<W, FAULT> {
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        self.sent += 1;
        if let Some(held) = self.held.take() {
            MessageTx::send(&mut self.tx, message)?;
            return MessageTx::send(&mut self.tx, &held);
        }
        match (self.sent == AT, FAULT) {
            (true, SKIP) => Ok(()),
            (true, REPEAT) => {
                MessageTx::send(&mut self.tx, message)?;
                MessageTx::send(&mut self.tx, message)
            }
            (true, TEAR) => {
                let mut torn = *message;
                if let Some(last) = torn.last_mut() {
                    *last ^= 1;
                }
                MessageTx::send(&mut self.tx, &torn)
            }
            (true, SWAP) => {
                self.held = Some(*message);
                Ok(())
            }
            (true, DIE) => std::process::abort(),
            _ => MessageTx::send(&mut self.tx, message),
        }
    }
}

impl<const W: usize> MessageRx<W> for RightRx {
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        self.0.receive(buffer, read)
    }
}

fn checked<L: Layer, const W: usize>() -> anyhow::Result<SharedBoard> {
    pair::sample(PATIENCE, |board| check::messages::<L, W>(board, Mode::Processes))
}

fn is_caught<const FAULT: u8>(expected: &str) {
    let error = checked::<Broken<FAULT>, 8>().expect_err("a broken layer passed").to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_layer_that_is_right_passes() {
    checked::<Broken<NONE>, 8>().expect("nothing is wrong");
}

#[test]
fn a_skipped_message_is_caught() {
    is_caught::<SKIP>("message 99: expected");
}

#[test]
fn a_repeated_message_is_caught() {
    is_caught::<REPEAT>("message 100: expected");
}

#[test]
fn a_torn_message_is_caught() {
    is_caught::<TEAR>("in word 7 of 8");
}

#[test]
fn swapped_messages_are_caught() {
    is_caught::<SWAP>("message 99: expected");
}

#[test]
fn a_side_that_dies_ends_the_sample() {
    // Either the death is seen, or what the receiver says of it.
    let error = checked::<Broken<DIE>, 8>().expect_err("a sample without a sender ended well").to_string();
    assert!(error.contains("ended by signal 6") || error.contains("fill whole buffer"), "{error}");
}

fn plan() -> Plan {
    Plan::new(Duration::from_millis(30))
}

/// Whether somebody was told of a death, and how long after it.
fn of_a_death(sample: impl FnOnce(&Board) -> anyhow::Result<()>) -> anyhow::Result<Option<Duration>> {
    let board = pair::sample(PATIENCE, sample)?;
    let after = Duration::from_secs_f64(board.get(Value::P50) / 1e9);
    Ok((board.get(Value::Told) > 0.0).then_some(after))
}

fn told<L: Layer>(never: Duration) -> anyhow::Result<Option<Duration>> {
    let plan = plan();
    of_a_death(|board| death::kill_within::<L, 8>(board, &plan, Mode::Processes, never, 0))
}

fn comes_in_time(name: &str, sample: anyhow::Result<Option<Duration>>) {
    let in_time = matches!(&sample, Ok(Some(after)) if !after.is_zero() && *after < death::NEVER);
    assert!(in_time, "{name}: expected it to come within {:?}, found {sample:?}", death::NEVER);
}

fn is_told<L: Layer>() {
    comes_in_time(L::NAME, told::<L>(death::NEVER));
}

#[test]
fn receivers_are_told_of_a_death_where_the_kernel_knows_the_sender() {
    is_told::<sockets::Stream>();
    is_told::<pipe::Pipe>();
}

#[cfg(feature = "peers-heavy")]
#[test]
fn receivers_are_told_of_a_death_by_those_who_promise_it() {
    use tidewire_benches::peers::message::{iceoryx2, ipc_channel};
    is_told::<ipc_channel::Typed>();
    is_told::<iceoryx2::Copied>();
}

fn shared_by<L: Layer>() -> f64 {
    let plan = plan();
    let board = pair::sample(PATIENCE, |board| memory::of_a_channel::<L, 8>(board, &plan, Mode::Processes));
    let board = board.unwrap_or_else(|error| panic!("{}: {error:#}", L::NAME));
    assert!(board.get(Value::FirstShared) > 0.0, "{}: the first has its memory, too", L::NAME);
    board.get(Value::Shared)
}

#[test]
fn memory_is_that_of_the_messages_and_what_belongs_to_them() {
    let slot = shared_by::<futex::Futex>();
    assert!((4000.0..10_000.0).contains(&slot), "one page, found {slot}");
    let channel = shared_by::<tidewire::Single>();
    assert!((65_536.0..262_144.0).contains(&channel), "1024 messages of 64 bytes, found {channel}");
}

#[test]
fn messages_in_place_are_written_and_read_whole() {
    let plan = plan();
    let board = (0..20).find_map(|_| {
        let sample = |board: &_| stream::in_place::<slot::Spinning, 128>(board, &plan, Mode::Processes);
        let board = pair::sample(PATIENCE, sample).unwrap_or_else(|error| panic!("{error:#}"));
        (board.get(Value::Count) >= 1.0).then_some(board)
    });
    assert!(board.expect("a message in one of 20 windows").get(Value::P50) > 0.0);
    let sample = |board: &_| stream::in_place::<Broken<TEAR>, 8>(board, &plan, Mode::Processes);
    let error = (0..20).find_map(|_| pair::sample(PATIENCE, sample).err());
    let error = error.expect("a torn message was measured").to_string();
    assert!(error.contains("whole and in its turn"), "{error}");
}

fn is_succeeded<L: Layer>() {
    let plan = plan();
    comes_in_time(L::NAME, of_a_death(|board| death::succeed::<L, 8>(board, &plan, Mode::Processes)));
}

#[test]
fn a_killed_receiver_of_ours_has_a_successor() {
    is_succeeded::<tidewire::Spinning>();
    is_succeeded::<tidewire::Sleeping>();
    is_succeeded::<tidewire::Published>();
}

#[test]
fn a_receiver_of_a_socket_has_none() {
    let plan = plan();
    let sample = |board: &_| death::succeed::<sockets::Stream, 8>(board, &plan, Mode::Processes);
    assert!(pair::sample(PATIENCE, sample).is_err(), "somebody received from nobody");
}

#[test]
fn receivers_are_not_told_where_nobody_knows_the_sender() {
    for told in [
        told::<posix_queue::PosixQueue>(Duration::from_millis(200)),
        told::<futex::Futex>(Duration::from_millis(200)),
    ] {
        let told = told.expect("a sample of a death");
        assert!(told.is_none(), "expected never to be told, was told after {told:?}");
    }
}

/// Every cell, with two contenders that nobody has to install.
#[test]
fn every_cell_of_messages_yields_its_numbers() {
    let plan = plan();
    let mut seen = 0;
    for cell in cells::all().into_iter().filter(|cell| cell.group == Group::Message) {
        for entry in cell.entries.iter().filter(|entry| ["pipe", "Unix stream"].contains(&entry.contender)) {
            let who = format!("{}, {}", cell.name, entry.contender);
            // The other tests want the same two cores: a window may pass before a side has had one.
            let board = (0..20).find_map(|_| {
                let board = pair::sample(PATIENCE, |board| (entry.sample)(board, &plan, Mode::Processes));
                let board = board.unwrap_or_else(|error| panic!("{who}: {error:#}"));
                (board.get(Value::Count) >= 1.0).then_some(board)
            });
            let board = board.unwrap_or_else(|| panic!("{who}: expected a message in one of 20 windows"));
            let get = |value| board.get(value);
            seen += 1;
            match cell.kind {
                Kind::Rate => assert!(get(Value::Rate) > 10.0, "{who}"),
                Kind::RoundTrip | Kind::OneWay | Kind::SetUp => {
                    let times = [Value::P50, Value::P99, Value::Max].map(get);
                    assert!(times.is_sorted() && times[0] > 500.0, "{who}: {times:?}");
                }
                // One call to send, one to receive; a machine may not let us count.
                Kind::Calls => {
                    let calls = get(Value::Calls);
                    assert!(calls < 0.0 || (1.9e6..2.1e6).contains(&calls), "{who}: {calls}");
                }
                Kind::Death => assert!(get(Value::Told) > 0.0, "{who}"),
                // The kernel has what lies between the two.
                Kind::Memory => {
                    let (own, shared) = (get(Value::Own), get(Value::Shared));
                    assert!(own.abs() < 1e6 && shared.abs() < 1e5, "{who}: {own} and {shared}");
                }
                _ => panic!("{who}: expected a kind of message layers, found {:?}", cell.kind),
            }
            assert!(get(Value::LineBefore) > 0.0 && get(Value::LineAfter) > 0.0, "{who}");
        }
    }
    assert!(seen >= 20, "expected two contenders in most cells, found {seen}");
}

#[test]
fn a_wrong_stream_spoils_its_sample() {
    let plan = plan();
    let sample = |board: &_| stream::rate::<Broken<SKIP>, 8>(board, &plan, Mode::Processes);
    // The other tests want the same two cores: a window may pass before the message that goes wrong.
    let error = (0..20).find_map(|_| pair::sample(PATIENCE, sample).err());
    let error = error.expect("a broken layer was measured").to_string();
    assert!(error.contains("every message in its turn"), "{error}");
}

/// Names of samples whose process is gone.
fn left_behind() -> Vec<String> {
    let entries = fs::read_dir("/dev/shm").expect("a folder").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_left = |name: &String| {
        let process = name.strip_prefix("tidewire-benches-").and_then(|rest| rest.split('-').next());
        process.is_some_and(|id| !Path::new("/proc").join(id).exists())
    };
    names.filter(is_left).collect()
}

#[test]
fn nothing_is_left_behind_by_the_killed() {
    let before = left_behind();
    told::<sockets::Stream>(death::NEVER).expect("a sample of a death");
    #[cfg(feature = "peers-heavy")]
    told::<tidewire_benches::peers::message::iceoryx2::InPlace>(death::NEVER).expect("a sample of a death");
    let new: Vec<_> = left_behind().into_iter().filter(|name| !before.contains(name)).collect();
    assert!(new.is_empty(), "left behind: {new:?}");
}
