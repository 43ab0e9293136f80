//! iceoryx2: publish and subscribe without loss, with messages in place or copied, polled or with its events; and its
//! requests and responses.
//!
//! Its files get a prefix of the sample's own, for those of killed processes stay.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use iceoryx2::port::client::Client as RequestClient;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::server::Server as RequestServer;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::port::update_connections::UpdateConnections as _;
use iceoryx2::prelude::{
    BackpressureStrategy, CallbackProgression, Config, FileName, LogLevel, Node, NodeBuilder, NodeState,
    Path, SemanticString as _, ServiceName, SignalHandlingMode, ipc, set_log_level,
};

use crate::message::contender::{Client, Layer, MessageRx, MessageTx, Requests, Server, capacity};
use crate::message::place::{Link, Place};

/// Messages are written and read where they lie; only their first and last words are touched.
#[derive(Debug)]
pub enum InPlace {}

/// Messages are copied in and out.
#[derive(Debug)]
pub enum Copied {}

/// As copied, with an event for each message, for which the receiver sleeps.
#[derive(Debug)]
pub enum WithEvents {}

/// Requests and responses, polled.
#[derive(Debug)]
pub enum RequestResponse {}

fn prefix(place: &Place) -> String {
    format!("{}_", place.name())
}

fn config(place: &Place) -> anyhow::Result<Config> {
    let mut config = Config::default();
    let folder = place.folder().to_str().context("expected a folder with a plain name")?;
    config.global.prefix = FileName::new(prefix(place).as_bytes()).map_err(|error| anyhow!("{error:?}"))?;
    config.global.set_root_path(&Path::new(folder.as_bytes()).map_err(|error| anyhow!("{error:?}"))?);
    Ok(config)
}

fn node(link: &Link<'_>) -> anyhow::Result<Node<ipc::Service>> {
    set_log_level(LogLevel::Fatal);
    let config = config(link.place())?;
    let builder = NodeBuilder::new().signal_handling_mode(SignalHandlingMode::Disabled).config(&config);
    builder.create().context("create a node")
}

fn service_name(link: &Link<'_>) -> anyhow::Result<ServiceName> {
    ServiceName::new(&link.name()).context("name a service")
}

fn clean(place: &Place) {
    let prefix = prefix(place);
    for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let _gone = fs::remove_file(entry.path());
        }
    }
}

/// Whether the other node of this place is dead; the interface lists the nodes that there are.
struct Watch {
    config: Config,
    next: Instant,
}

impl Watch {
    /// Between two lists.
    const EVERY: Duration = Duration::from_millis(1);

    fn new(link: &Link<'_>) -> anyhow::Result<Self> {
        Ok(Self { config: config(link.place())?, next: Instant::now() })
    }

    fn is_somebody_dead(&mut self) -> anyhow::Result<bool> {
        if Instant::now() < self.next {
            return Ok(false);
        }
        let mut dead = false;
        Node::<ipc::Service>::list(&self.config, |state| {
            dead |= matches!(state, NodeState::Dead(_));
            CallbackProgression::Continue
        })
        .context("list the nodes")?;
        self.next = Instant::now() + Self::EVERY;
        Ok(dead)
    }
}

/// A publisher; its node goes last.
#[expect(missing_debug_implementations, reason = "the wrapped ports are long to show")]
pub struct Publishing<const W: usize> {
    publisher: Publisher<ipc::Service, [u64; W], ()>,
    _node: Node<ipc::Service>,
}

/// A subscriber; its node goes last.
#[expect(missing_debug_implementations, reason = "the wrapped ports are long to show")]
pub struct Subscribing<const W: usize> {
    subscriber: Subscriber<ipc::Service, [u64; W], ()>,
    watch: Watch,
    _node: Node<ipc::Service>,
}

fn service<const W: usize>(
    node: &Node<ipc::Service>,
    link: &Link<'_>,
) -> anyhow::Result<iceoryx2::service::port_factory::publish_subscribe::PortFactory<ipc::Service, [u64; W], ()>>
{
    node.service_builder(&service_name(link)?)
        .publish_subscribe::<[u64; W]>()
        .enable_safe_overflow(false)
        .history_size(0)
        .subscriber_max_buffer_size(capacity(W))
        .max_publishers(1)
        .max_subscribers(1)
        .open_or_create()
        .context("open or create a service")
}

impl<const W: usize> Publishing<W> {
    fn new(link: &Link<'_>) -> anyhow::Result<Self> {
        // What is published before there is a subscriber is lost.
        link.await_made();
        let node = node(link)?;
        let publisher = service::<W>(&node, link)?
            .publisher_builder()
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .context("create a publisher")?;
        link.joined();
        Ok(Self { publisher, _node: node })
    }

    #[inline(always)]
    fn send_copy(&self, message: &[u64; W]) -> anyhow::Result<()> {
        let mut sample = self.publisher.loan_uninit().context("loan a sample")?;
        sample.payload_mut().write(*message);
        // SAFETY: just written.
        let sample = unsafe { sample.assume_init() };
        delivered(sample.send().context("send a sample")?)
    }
}

fn delivered(to: usize) -> anyhow::Result<()> {
    ensure!(to == 1, "expected one subscriber to get the message, found {to}");
    Ok(())
}

impl<const W: usize> Subscribing<W> {
    /// Lets the publisher come, and connects to it: until a subscriber has done that, what is more than its buffer
    /// holds is lost.
    fn meet(&self, link: &Link<'_>) -> anyhow::Result<()> {
        link.made();
        link.await_joined();
        self.subscriber.update_connections().context("connect to the publisher")
    }

    fn new(link: &Link<'_>) -> anyhow::Result<Self> {
        let node = node(link)?;
        let subscriber =
            service::<W>(&node, link)?.subscriber_builder().create().context("create a subscriber")?;
        Ok(Self { subscriber, watch: Watch::new(link)?, _node: node })
    }

    #[inline(always)]
    fn receive_copy(&self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        let Some(sample) = self.subscriber.receive().context("receive a sample")? else { return Ok(false) };
        buffer.copy_from_slice(&*sample);
        drop(sample);
        read(buffer);
        Ok(true)
    }
}

/// Its publisher, in place.
#[expect(missing_debug_implementations, reason = "the wrapped ports are long to show")]
pub struct InPlaceTx<const W: usize>(Publishing<W>);

/// Its subscriber, in place.
#[expect(missing_debug_implementations, reason = "the wrapped ports are long to show")]
pub struct InPlaceRx<const W: usize>(Subscribing<W>);

impl Layer for InPlace {
    const NAME: &'static str = "iceoryx2, in place";
    const SLEEPS: bool = false;
    type Tx<const W: usize> = InPlaceTx<W>;
    type Rx<const W: usize> = InPlaceRx<W>;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<InPlaceTx<W>> {
        Ok(InPlaceTx(Publishing::new(link)?))
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<InPlaceRx<W>> {
        let rx = Subscribing::new(link)?;
        rx.meet(link)?;
        Ok(InPlaceRx(rx))
    }

    fn clean(place: &Place) {
        clean(place);
    }
}

impl<const W: usize> MessageTx<W> for InPlaceTx<W> {
    const IN_PLACE: bool = true;

    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        self.0.send_copy(message)
    }

    #[inline(always)]
    fn send_in_place(&mut self, write: impl FnOnce(&mut [u64; W])) -> anyhow::Result<()> {
        let mut sample = self.0.publisher.loan_uninit().context("loan a sample")?;
        let message = sample.payload_mut().as_mut_ptr();
        // SAFETY: aligned, and lent to us alone; its bytes lie in a file, so that they have values whoever wrote them.
        write(unsafe { &mut *message });
        // SAFETY: as above.
        let sample = unsafe { sample.assume_init() };
        delivered(sample.send().context("send a sample")?)
    }
}

impl<const W: usize> MessageRx<W> for InPlaceRx<W> {
    #[inline(always)]
    fn receive(&mut self, _: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        let Some(sample) = self.0.subscriber.receive().context("receive a sample")? else { return Ok(false) };
        read(&sample);
        Ok(true)
    }

    fn is_sender_gone(&mut self) -> anyhow::Result<bool> {
        self.0.watch.is_somebody_dead()
    }
}

impl Layer for Copied {
    const NAME: &'static str = "iceoryx2, copied";
    const SLEEPS: bool = false;
    type Tx<const W: usize> = Publishing<W>;
    type Rx<const W: usize> = Subscribing<W>;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<Publishing<W>> {
        Publishing::new(link)
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<Subscribing<W>> {
        let rx = Subscribing::new(link)?;
        rx.meet(link)?;
        Ok(rx)
    }

    fn clean(place: &Place) {
        clean(place);
    }
}

impl<const W: usize> MessageTx<W> for Publishing<W> {
    #[inline(always)]
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        self.send_copy(message)
    }
}

impl<const W: usize> MessageRx<W> for Subscribing<W> {
    #[inline(always)]
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        self.receive_copy(buffer, read)
    }

    fn is_sender_gone(&mut self) -> anyhow::Result<bool> {
        self.watch.is_somebody_dead()
    }
}

/// A publisher that notifies.
#[expect(missing_debug_implementations, reason = "the wrapped ports are long to show")]
pub struct NotifyingTx<const W: usize> {
    notifier: Notifier<ipc::Service>,
    tx: Publishing<W>,
}

/// A subscriber that waits to be notified.
#[expect(missing_debug_implementations, reason = "the wrapped ports are long to show")]
pub struct ListeningRx<const W: usize> {
    listener: Listener<ipc::Service>,
    rx: Subscribing<W>,
}

/// The event that says that a notifier is dead, where somebody finds that out.
const DEAD: usize = 1;

fn event(
    node: &Node<ipc::Service>,
    link: &Link<'_>,
) -> anyhow::Result<iceoryx2::service::port_factory::event::PortFactory<ipc::Service>> {
    node.service_builder(&service_name(link)?)
        .event()
        .notifier_dead_event(iceoryx2::prelude::EventId::new(DEAD))
        .open_or_create()
        .context("open or create an event service")
}

impl Layer for WithEvents {
    const NAME: &'static str = "iceoryx2, with events";
    const SLEEPS: bool = true;
    type Tx<const W: usize> = NotifyingTx<W>;
    type Rx<const W: usize> = ListeningRx<W>;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<NotifyingTx<W>> {
        let tx = Publishing::new(link)?;
        let notifier = event(&tx._node, link)?.notifier_builder().create().context("create a notifier")?;
        Ok(NotifyingTx { notifier, tx })
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<ListeningRx<W>> {
        let rx = Subscribing::new(link)?;
        let listener = event(&rx._node, link)?.listener_builder().create().context("create a listener")?;
        rx.meet(link)?;
        Ok(ListeningRx { listener, rx })
    }

    fn clean(place: &Place) {
        clean(place);
    }
}

impl<const W: usize> MessageTx<W> for NotifyingTx<W> {
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        self.tx.send_copy(message)?;
        self.notifier.notify().context("notify")?;
        Ok(())
    }
}

impl<const W: usize> MessageRx<W> for ListeningRx<W> {
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        let mut read = Some(read);
        loop {
            let come = self.rx.receive_copy(buffer, |message| {
                if let Some(read) = read.take() {
                    read(message);
                }
            })?;
            if come {
                return Ok(true);
            }
            let mut dead = false;
            self.listener
                .blocking_wait(|event| dead |= event.id == iceoryx2::prelude::EventId::new(DEAD))
                .context("wait for an event")?;
            ensure!(!dead, "the notifier is dead");
        }
    }
}

/// The asking end.
#[expect(missing_debug_implementations, reason = "the wrapped ports are long to show")]
pub struct Asking<const W: usize> {
    client: RequestClient<ipc::Service, [u64; W], (), [u64; W], ()>,
    _node: Node<ipc::Service>,
}

/// The answering end.
#[expect(missing_debug_implementations, reason = "the wrapped ports are long to show")]
pub struct Answering<const W: usize> {
    server: RequestServer<ipc::Service, [u64; W], (), [u64; W], ()>,
    _node: Node<ipc::Service>,
}

type RequestService<const W: usize> =
    iceoryx2::service::port_factory::request_response::PortFactory<ipc::Service, [u64; W], (), [u64; W], ()>;

fn request_service<const W: usize>(
    node: &Node<ipc::Service>,
    link: &Link<'_>,
) -> anyhow::Result<RequestService<W>> {
    node.service_builder(&service_name(link)?)
        .request_response::<[u64; W], [u64; W]>()
        .enable_safe_overflow_for_requests(false)
        .enable_safe_overflow_for_responses(false)
        .max_clients(1)
        .max_servers(1)
        .open_or_create()
        .context("open or create a request service")
}

impl Requests for RequestResponse {
    const NAME: &'static str = "iceoryx2, polled";
    type Client<const W: usize> = Asking<W>;
    type Server<const W: usize> = Answering<W>;

    fn client<const W: usize>(link: &Link<'_>) -> anyhow::Result<Asking<W>> {
        link.await_made();
        let node = node(link)?;
        let client =
            request_service::<W>(&node, link)?.client_builder().create().context("create a client")?;
        Ok(Asking { client, _node: node })
    }

    fn server<const W: usize>(link: &Link<'_>) -> anyhow::Result<Answering<W>> {
        let node = node(link)?;
        let server =
            request_service::<W>(&node, link)?.server_builder().create().context("create a server")?;
        link.made();
        Ok(Answering { server, _node: node })
    }

    fn clean(place: &Place) {
        clean(place);
    }
}

impl<const W: usize> Client<W> for Asking<W> {
    #[inline(always)]
    fn call(&mut self, request: &[u64; W], reply: &mut [u64; W]) -> anyhow::Result<()> {
        let pending = self.client.send_copy(*request).context("send a request")?;
        loop {
            if let Some(response) = pending.receive().context("receive a response")? {
                *reply = *response;
                return Ok(());
            }
            std::hint::spin_loop();
        }
    }
}

impl<const W: usize> Server<W> for Answering<W> {
    #[inline(always)]
    fn serve(&mut self, answer: impl FnOnce(&[u64; W]) -> [u64; W]) -> anyhow::Result<bool> {
        let Some(request) = self.server.receive().context("receive a request")? else { return Ok(false) };
        request.send_copy(answer(&request)).context("send a response")?;
        Ok(true)
    }
}
