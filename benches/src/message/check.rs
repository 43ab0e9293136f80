//! The check that each message layer passes before it is timed: nothing lost, repeated, reordered or torn.
//!
//! Every word of a message depends on its number and on its place. Both sides rest now and then for as long as it
//! takes the layer to run full or empty, and a sleeper to fall asleep.

use std::hint::spin_loop;
use std::thread::sleep;
use std::time::Duration;

use anyhow::ensure;

use crate::board::Board;
use crate::check::{compare, word};
use crate::message::contender::{Client, Layer, MessageRx, MessageTx, Requests, Server, capacity};
use crate::message::run::{self, Manner};
use crate::message::stream::LAST;
use crate::pair::Mode;
use crate::probe::meet;

/// Messages of a check: several times what a layer holds.
#[must_use]
pub const fn messages_of(words: usize) -> u64 {
    4 * capacity(words) as u64
}

/// Requests of a check.
pub const REQUESTS: u64 = 500;

fn rest(number: u64, words: usize, phase: u64) {
    let period = messages_of(words) / 2;
    if number % period == phase * period / 2 {
        sleep(Duration::from_millis(2));
    }
}

fn fill<const W: usize>(message: &mut [u64; W], number: u64) {
    message.iter_mut().enumerate().for_each(|(place, to)| *to = word(number, place));
}

/// Sends message by message, and one more that says that it was the last.
fn send<const W: usize, X: MessageTx<W>>(tx: &mut X) -> anyhow::Result<()> {
    let mut buffer = [0; W];
    for number in (0..messages_of(W)).chain([LAST]) {
        rest(number, W, 0);
        if X::IN_PLACE {
            tx.send_in_place(|place| fill(place, number))?;
        } else {
            fill(&mut buffer, number);
            tx.send(&buffer)?;
        }
    }
    Ok(())
}

fn receive<const W: usize>(rx: &mut impl MessageRx<W>) -> anyhow::Result<()> {
    let mut buffer = [0; W];
    for number in (0..messages_of(W)).chain([LAST]) {
        rest(number, W, 1);
        let mut judged = Ok(());
        while !rx.receive(&mut buffer, |message| judged = compare(message, number))? {
            spin_loop();
        }
        judged?;
    }
    Ok(())
}

/// Checks a layer.
///
/// # Errors
/// The first message that was not what it should be, or what the layer said.
pub fn messages<L: Layer, const W: usize>(board: &Board, mode: Mode) -> anyhow::Result<()> {
    run::both(
        board,
        mode,
        Manner::of_layer::<L>(),
        |place| {
            let mut tx = L::sender::<W>(&place.link(board, 0)?)?;
            // Some lose what is sent before there is a receiver.
            meet(&board.here_a, &board.here_b);
            run::noted(board, send(&mut tx))?;
            // What a sender leaves behind may go with it.
            await_done(board);
            Ok(())
        },
        |place| {
            let mut rx = L::receiver::<W>(&place.link(board, 0)?)?;
            meet(&board.here_b, &board.here_a);
            run::noted(board, receive(&mut rx))?;
            board.done();
            Ok(())
        },
    )
}

fn await_done(board: &Board) {
    while !board.is_done() {
        sleep(Duration::from_micros(100));
    }
}

fn reply<const W: usize>(request: &[u64; W]) -> [u64; W] {
    request.map(|word| !word)
}

fn call<const W: usize>(client: &mut impl Client<W>) -> anyhow::Result<()> {
    let (mut request, mut found) = ([0; W], [0; W]);
    for number in (0..REQUESTS).chain([LAST]) {
        fill(&mut request, number);
        client.call(&request, &mut found)?;
        compare(&reply(&found), number)?;
    }
    Ok(())
}

fn serve<const W: usize>(server: &mut impl Server<W>) -> anyhow::Result<()> {
    for number in (0..REQUESTS).chain([LAST]) {
        let mut judged = Ok(());
        while !server.serve(|request| {
            judged = compare(request, number);
            reply(request)
        })? {
            spin_loop();
        }
        judged?;
    }
    Ok(())
}

/// Checks requests and their replies.
///
/// # Errors
/// As [`messages`].
pub fn requests<Q: Requests, const W: usize>(board: &Board, mode: Mode) -> anyhow::Result<()> {
    run::both(
        board,
        mode,
        Manner::of_requests::<Q>(),
        |place| {
            let mut client = Q::client::<W>(&place.link(board, 0)?)?;
            run::noted(board, call(&mut client))
        },
        |place| {
            let mut server = Q::server::<W>(&place.link(board, 0)?)?;
            run::noted(board, serve(&mut server))?;
            board.done();
            Ok(())
        },
    )?;
    ensure!(board.is_done() || board.failure().is_some(), "expected {REQUESTS} requests to be served");
    Ok(())
}
