//! Our channels, as message layers.
//!
//! Both ends are made at the same time, in two processes that have nothing in common but a
//! [link](crate::message::place::Link): a name and a path of its own, and a word by which the first to come lets the
//! second in. What lies in the link's folder goes with the sample, however it ends: channels have their names there.

use std::hint::spin_loop;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use tidewire::{
    Kind, Options, Overflow, Publisher, Receiver, Sender, SubscribeError, Subscriber, TryRecvError, Wait,
};

use crate::message::contender::{Client, Layer, MessageRx, MessageTx, Requests, Server, capacity};
use crate::message::place::Link;
use crate::peers::message::raw::SENDERS;
use crate::peers::message::{LayerVisitor, RequestsVisitor};

/// The names of our message layers; the first is the default.
pub const NAMES: [&str; 6] =
    [Spinning::NAME, Sleeping::NAME, Single::NAME, Published::NAME, "tidewire, tokio", InPlace::NAME];

/// Shows our message layers to a visitor.
pub fn layers(visitor: &mut impl LayerVisitor) {
    visitor.visit::<Spinning>();
    visitor.visit::<Sleeping>();
    visitor.visit::<Single>();
    visitor.visit::<InPlace>();
    visitor.visit::<Published>();
    #[cfg(feature = "peers-heavy")]
    visitor.visit::<tokio::Awaiting>();
}

/// Shows ours with requests and replies to a visitor.
pub fn requests(visitor: &mut impl RequestsVisitor) {
    visitor.visit::<Calls>();
    visitor.visit::<TwoChannels>();
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

/// A channel of one sender between sides that trust each other: messages are written and read where they lie.
#[derive(Debug)]
pub enum InPlace {}

/// A publication that waits for its slowest subscriber, of whom there is one, who looks again and again.
#[derive(Debug)]
pub enum Published {}

/// Requests and responses, both sides spinning.
#[derive(Debug)]
pub enum Calls {}

/// A message there by one channel and one back by another: what a request and its reply cost at the least. A limit:
/// nobody knows which reply belongs to which request.
#[derive(Debug)]
pub enum TwoChannels {}

/// Until the other side is there.
const LONG: Duration = Duration::from_secs(60);
const NAME: &str = "messages";
/// Calls in flight.
const CALLS: usize = 64;

fn options<const W: usize>(link: &Link<'_>, kind: Kind, wait: Wait) -> Options {
    Options::new().directory(link.path()).kind(kind).wait(wait).capacity(capacity(W)).senders(SENDERS)
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

/// The sending end that lends room.
#[derive(Debug)]
pub struct InPlaceTx<const W: usize>(Sender<[u64; W]>);

/// The receiving end that lends messages.
#[derive(Debug)]
pub struct InPlaceRx<const W: usize>(Receiver<[u64; W]>);

fn trusted<const W: usize>(link: &Link<'_>) -> Options {
    let options = options::<W>(link, Kind::Single, Wait::Spin);
    // SAFETY: the memory is in a folder of the sample's own, and both sides use it by way of the library.
    unsafe { options.trusted() }
}

impl Layer for InPlace {
    const NAME: &'static str = "tidewire, in place";
    const SLEEPS: bool = false;
    type Tx<const W: usize> = InPlaceTx<W>;
    type Rx<const W: usize> = InPlaceRx<W>;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<InPlaceTx<W>> {
        link.await_made();
        Ok(InPlaceTx(trusted::<W>(link).sender_in(NAME, LONG)?))
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<InPlaceRx<W>> {
        let receiver = trusted::<W>(link).receiver(NAME)?;
        link.made();
        Ok(InPlaceRx(receiver))
    }
}

impl<const W: usize> MessageTx<W> for InPlaceTx<W> {
    const IN_PLACE: bool = true;

    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        self.send_in_place(|place| *place = *message)
    }

    #[inline(always)]
    fn send_in_place(&mut self, write: impl FnOnce(&mut [u64; W])) -> anyhow::Result<()> {
        let mut place = self.0.reserve().map_err(|error| anyhow!("{error}"))?;
        write(place.as_mut().context("expected room that is lent, found room that is copied to")?);
        place.commit().map_err(|error| anyhow!("{error}"))
    }
}

impl<const W: usize> MessageRx<W> for InPlaceRx<W> {
    #[inline(always)]
    fn receive(&mut self, _: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        let mut chunk = match self.0.try_read_chunk(1) {
            Ok(chunk) => chunk,
            Err(TryRecvError::Empty) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let (first, _) = chunk.as_slices().context("expected messages that are lent, found copies")?;
        read(first.first().context("expected a message, found none")?);
        chunk.release(1).map_err(|error| anyhow!("{error:?}"))?;
        Ok(true)
    }
}

/// The publishing end.
#[derive(Debug)]
pub struct PublishedTx<const W: usize>(Publisher<[u64; W]>);

/// The subscribing end.
#[derive(Debug)]
pub struct PublishedRx<const W: usize>(Subscriber<[u64; W]>);

impl Layer for Published {
    const NAME: &'static str = "tidewire, published";
    const SLEEPS: bool = false;
    type Tx<const W: usize> = PublishedTx<W>;
    type Rx<const W: usize> = PublishedRx<W>;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<PublishedTx<W>> {
        let options = options::<W>(link, Kind::Lanes, Wait::Spin).overflow(Overflow::Block);
        let mut publisher = options.publisher(NAME)?;
        link.made();
        // What is published before anybody subscribes is for nobody.
        ensure!(publisher.wait_subscribers(1, LONG), "expected a subscriber within {LONG:?}");
        Ok(PublishedTx(publisher))
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<PublishedRx<W>> {
        link.await_made();
        let options = options::<W>(link, Kind::Lanes, Wait::Spin).overflow(Overflow::Block);
        Ok(PublishedRx(options.subscriber_in(NAME, LONG)?))
    }
}

impl<const W: usize> MessageTx<W> for PublishedTx<W> {
    #[inline(always)]
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        self.0.publish(*message).map(drop).map_err(|error| anyhow!("{error}"))
    }
}

impl<const W: usize> MessageRx<W> for PublishedRx<W> {
    #[inline(always)]
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        match self.0.try_recv() {
            Ok(message) => {
                *buffer = message;
                read(buffer);
                Ok(true)
            }
            Err(SubscribeError::Empty) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Awaited in a runtime.
#[cfg(feature = "peers-heavy")]
pub mod tokio {
    use ::tokio::runtime::{Builder, Runtime};
    use tidewire::tokio::{OnTokio as _, Receiver};
    use tidewire::{Kind, Wait};

    use super::{Layer, MessageRx, Tx, receiver, sender};
    use crate::message::contender::Part;
    use crate::message::place::Link;

    /// The default channel, whose receiver is awaited in a runtime of one thread.
    #[derive(Debug)]
    pub enum Awaiting {}

    /// The receiving end with its runtime.
    #[derive(Debug)]
    pub struct AwaitingRx<const W: usize> {
        runtime: Runtime,
        rx: Receiver<[u64; W]>,
    }

    impl Layer for Awaiting {
        const NAME: &'static str = super::NAMES[4];
        const SLEEPS: bool = true;
        const THREADS: bool = true;
        const PART: Part = Part::Wake;
        type Tx<const W: usize> = Tx<W>;
        type Rx<const W: usize> = AwaitingRx<W>;

        fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<Tx<W>> {
            sender(link, Kind::Lanes, Wait::Hybrid)
        }

        fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<AwaitingRx<W>> {
            let runtime = Builder::new_current_thread().enable_io().build()?;
            Ok(AwaitingRx { runtime, rx: receiver(link, Kind::Lanes, Wait::Hybrid)?.on_tokio() })
        }
    }

    impl<const W: usize> MessageRx<W> for AwaitingRx<W> {
        fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
            *buffer = self.runtime.block_on(self.rx.recv())?;
            read(buffer);
            Ok(true)
        }
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

/// The asking end of two channels.
#[derive(Debug)]
pub struct TwoChannelsClient<const W: usize> {
    there: Tx<W>,
    back: Rx<W>,
}

/// The answering end of two channels.
#[derive(Debug)]
pub struct TwoChannelsServer<const W: usize> {
    from: Rx<W>,
    to: Tx<W>,
    request: [u64; W],
}

const THERE: &str = "there";
const BACK: &str = "back";

impl Requests for TwoChannels {
    const NAME: &'static str = "two channels";
    type Client<const W: usize> = TwoChannelsClient<W>;
    type Server<const W: usize> = TwoChannelsServer<W>;

    fn client<const W: usize>(link: &Link<'_>) -> anyhow::Result<TwoChannelsClient<W>> {
        let options = options::<W>(link, Kind::Lanes, Wait::Spin);
        link.await_made();
        let back = Rx(options.receiver(BACK)?);
        let there = Tx(options.sender_in(THERE, LONG)?);
        link.joined();
        Ok(TwoChannelsClient { there, back })
    }

    fn server<const W: usize>(link: &Link<'_>) -> anyhow::Result<TwoChannelsServer<W>> {
        let options = options::<W>(link, Kind::Lanes, Wait::Spin);
        let from = Rx(options.receiver(THERE)?);
        link.made();
        link.await_joined();
        let to = Tx(options.sender_in(BACK, LONG)?);
        Ok(TwoChannelsServer { from, to, request: [0; W] })
    }
}

impl<const W: usize> Client<W> for TwoChannelsClient<W> {
    #[inline(always)]
    fn call(&mut self, request: &[u64; W], reply: &mut [u64; W]) -> anyhow::Result<()> {
        self.there.send(request)?;
        while !self.back.receive(reply, |_| {})? {
            spin_loop();
        }
        Ok(())
    }
}

impl<const W: usize> Server<W> for TwoChannelsServer<W> {
    #[inline(always)]
    fn serve(&mut self, answer: impl FnOnce(&[u64; W]) -> [u64; W]) -> anyhow::Result<bool> {
        let mut reply = None;
        let come = self.from.receive(&mut self.request, |request| reply = Some(answer(request)))?;
        if let Some(reply) = reply {
            self.to.send(&reply)?;
        }
        Ok(come)
    }
}
