//! Our channels, as message layers.
//!
//! Both ends are made at the same time, in two processes that have nothing in common but a
//! [link](crate::message::place::Link): a name and a path of its own, and a word by which the first to come lets the
//! second in. What lies in the link's folder goes with the sample, however it ends: channels have their names there.

use std::time::Duration;

use anyhow::anyhow;
use tidewire::{Kind, Options, Receiver, Sender, TryRecvError, Wait};

use crate::message::contender::{Client, Layer, MessageRx, MessageTx, Requests, Server, capacity};
use crate::message::place::Link;
use crate::peers::message::{LayerVisitor, RequestsVisitor};

/// The names of our message layers; the first is the default.
pub const NAMES: [&str; 3] = [Spinning::NAME, Sleeping::NAME, Single::NAME];

/// Shows our message layers to a visitor.
pub fn layers(visitor: &mut impl LayerVisitor) {
    visitor.visit::<Spinning>();
    visitor.visit::<Sleeping>();
    visitor.visit::<Single>();
}

/// Shows ours with requests and replies to a visitor.
pub fn requests(visitor: &mut impl RequestsVisitor) {
    visitor.visit::<Calls>();
}

/// The default channel, whose receiver looks again and again.
#[derive(Debug)]
pub enum Spinning {}

/// The default channel as it comes: its receiver spins for a while and then sleeps.
#[derive(Debug)]
pub enum Sleeping {}

/// A channel of one sender, whose receiver looks again and again.
#[derive(Debug)]
pub enum Single {}

/// Requests and responses, both sides spinning.
#[derive(Debug)]
pub enum Calls {}

/// Until the other side is there.
const LONG: Duration = Duration::from_secs(60);
const NAME: &str = "messages";
/// Calls in flight.
const CALLS: usize = 64;

fn options<const W: usize>(link: &Link<'_>, kind: Kind, wait: Wait) -> Options {
    Options::new().directory(link.path()).kind(kind).wait(wait).capacity(capacity(W)).senders(4)
}

/// The sending end.
#[derive(Debug)]
pub struct Tx<const W: usize>(Sender<[u64; W]>);

/// The receiving end that looks.
#[derive(Debug)]
pub struct Rx<const W: usize>(Receiver<[u64; W]>);

/// The receiving end that sleeps.
#[derive(Debug)]
pub struct SleepingRx<const W: usize>(Receiver<[u64; W]>);

fn sender<const W: usize>(link: &Link<'_>, kind: Kind, wait: Wait) -> anyhow::Result<Tx<W>> {
    link.await_made();
    Ok(Tx(options::<W>(link, kind, wait).sender_in(NAME, LONG)?))
}

fn receiver<const W: usize>(link: &Link<'_>, kind: Kind, wait: Wait) -> anyhow::Result<Receiver<[u64; W]>> {
    let receiver = options::<W>(link, kind, wait).receiver(NAME)?;
    link.made();
    Ok(receiver)
}

impl Layer for Spinning {
    const NAME: &'static str = "tidewire";
    const SLEEPS: bool = false;
    type Tx<const W: usize> = Tx<W>;
    type Rx<const W: usize> = Rx<W>;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<Tx<W>> {
        sender(link, Kind::Lanes, Wait::Spin)
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<Rx<W>> {
        Ok(Rx(receiver(link, Kind::Lanes, Wait::Spin)?))
    }
}

impl Layer for Single {
    const NAME: &'static str = "tidewire, one sender";
    const SLEEPS: bool = false;
    type Tx<const W: usize> = Tx<W>;
    type Rx<const W: usize> = Rx<W>;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<Tx<W>> {
        sender(link, Kind::Single, Wait::Spin)
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<Rx<W>> {
        Ok(Rx(receiver(link, Kind::Single, Wait::Spin)?))
    }
}

impl Layer for Sleeping {
    const NAME: &'static str = "tidewire, sleeping";
    const SLEEPS: bool = true;
    type Tx<const W: usize> = Tx<W>;
    type Rx<const W: usize> = SleepingRx<W>;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<Tx<W>> {
        sender(link, Kind::Lanes, Wait::Hybrid)
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<SleepingRx<W>> {
        Ok(SleepingRx(receiver(link, Kind::Lanes, Wait::Hybrid)?))
    }
}

impl<const W: usize> MessageTx<W> for Tx<W> {
    #[inline(always)]
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        self.0.send_from(message).map_err(|error| anyhow!("{error}"))
    }
}

impl<const W: usize> MessageRx<W> for Rx<W> {
    #[inline(always)]
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        match self.0.try_recv_to(buffer) {
            Ok(()) => {
                read(buffer);
                Ok(true)
            }
            Err(TryRecvError::Empty) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl<const W: usize> MessageRx<W> for SleepingRx<W> {
    #[inline(always)]
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        self.0.recv_to(buffer)?;
        read(buffer);
        Ok(true)
    }
}

/// The asking end.
#[derive(Debug)]
pub struct CallsClient<const W: usize>(tidewire::Client<[u64; W], [u64; W]>);

/// The answering end.
#[derive(Debug)]
pub struct CallsServer<const W: usize>(tidewire::Server<[u64; W], [u64; W]>);

impl Requests for Calls {
    const NAME: &'static str = "tidewire";
    type Client<const W: usize> = CallsClient<W>;
    type Server<const W: usize> = CallsServer<W>;

    fn client<const W: usize>(link: &Link<'_>) -> anyhow::Result<CallsClient<W>> {
        link.await_made();
        Ok(CallsClient(options::<W>(link, Kind::Lanes, Wait::Spin).capacity(CALLS).client_in(NAME, LONG)?))
    }

    fn server<const W: usize>(link: &Link<'_>) -> anyhow::Result<CallsServer<W>> {
        let server = options::<W>(link, Kind::Lanes, Wait::Spin).capacity(CALLS).server(NAME)?;
        link.made();
        Ok(CallsServer(server))
    }
}

impl<const W: usize> Client<W> for CallsClient<W> {
    #[inline(always)]
    fn call(&mut self, request: &[u64; W], reply: &mut [u64; W]) -> anyhow::Result<()> {
        *reply = self.0.call(*request)?;
        Ok(())
    }
}

impl<const W: usize> Server<W> for CallsServer<W> {
    #[inline(always)]
    fn serve(&mut self, answer: impl FnOnce(&[u64; W]) -> [u64; W]) -> anyhow::Result<bool> {
        match self.0.try_recv() {
            Ok(request) => {
                let reply = answer(request.value());
                request.reply(reply)?;
                Ok(true)
            }
            Err(TryRecvError::Empty) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
