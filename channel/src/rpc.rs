//! Requests and replies: clients that ask, and one server that answers.
//!
//! # Memory layout
//! ```text
//! composite, kind 0x0005_0003
//!   numbers   clients, calls in flight of each, bytes of a question, bytes of an answer
//!   part 0    roster: entry 0 the server, 1 + i client i
//!   part 1    requests: a queue of records with a lane for each client
//!   part 2    replies: for each client a ring of records, each on pages of its own
//! ```
//! What a record is: see `record`. A client's counters 4 to 7 in the roster are a bit for each of its slots: nobody waits
//! for the call in it any more. Leases: the server has that of the consumer, client `i` that of producer `i`; of the ring of
//! replies to client `i` each end has one of the range from `1024 + 32 i` on.
//!
//! # Protocol
//! | step | who | why |
//! |---|---|---|
//! | take a slot, push a request | client | a call in flight has a slot, and nobody else's answer can have its number |
//! | pop the request; of another server's generation: drop it | server | a call that ended with a server is never begun by the next |
//! | push the reply, if the client is still the one who asked | server | at most one answer to somebody who is gone, see below |
//! | pop the reply, free the slot | client | the room of the reply is free before the slot is |
//!
//! **The server never waits for a client.** A lane and a ring have room for as many records as the client has slots, and two
//! more: one for padding where the memory ends, and one for an answer to a predecessor that was on its way while its
//! successor came. So whoever keeps to its slots finds room for every request and gets every answer, and whoever does not
//! loses its own answers only.
//!
//! A request is released when it is popped, and a reply too: what a server had in its hand when it died ends as an error for
//! whoever asked, and is not asked again.
//!
//! # Crash argument
//! | killed here | the others see | cost |
//! |---|---|---|
//! | client, before its request is published | nothing | nothing |
//! | client, later | a request, whose answer is refused; records of former generations | room, until the server or a successor pops them |
//! | client, flag of a cancelled call set | a flag of a former generation; the next holder clears it | nothing |
//! | server, before the reply is published | no answer, a notice that says dead | each waiting call ends as an error |
//! | server, later | the answer | nothing |
//!
//! # Not guaranteed
//! A peer that writes where it should not can have calls answered with anything, end as errors, or wait until their time is
//! over; and a lane whose records cannot be is out of use until the service is created anew. Which request a server had begun
//! when it died is not known.

use std::time::Duration;

use tidewire_ring::bytes::Ring;
use tidewire_shm::{Field, Incompatible, Region, Segment, SegmentLeases, Untrusted};

use crate::error::OpenError;
use crate::ground::{Ground, Plan, own, take_a_place};
use crate::message::Message;
use crate::options::Options;
use crate::queue::cannot;

mod bytes;
mod client_end;
mod desk;
mod futures;
mod record;
mod server_end;
mod typed;

pub use bytes::{BytesClient, BytesPending, BytesRequest, BytesServer};
pub use futures::{Calling, CallingBytes, Serving, ServingBytes};
pub use typed::{CallId, Client, Pending, Request, Server};

use record::{DEPTH_MAX, HEAD_BYTES};

/// The kind of a composite that is a service, of messages or of bytes.
const KIND_SERVICE: u32 = 0x0005_0003;

/// The entry of the server.
const SERVER: u32 = 0;
/// The first of the counters of a client's entry that say which calls are cancelled.
const CANCELLED: usize = 4;

const PAGE_BYTES: usize = 4096;
/// Bytes of a question or an answer; memory, and how many are in flight, may allow less.
const LONGEST: usize = 1 << 30;
/// Records of which a lane and a ring have more than there are calls in flight.
const SPARE: usize = 2;

/// The entry of a client.
fn entry_of(lane: u32) -> u32 {
    lane.saturating_add(1)
}

/// The first lease of the range of the ring of replies to a client.
fn replies_first(lane: u32) -> u32 {
    1024_u32.saturating_add(lane.saturating_mul(32))
}

/// What a service is.
#[derive(Clone, Copy, Debug)]
struct Service {
    clients: u32,
    /// Calls in flight of a client.
    depth: usize,
    /// The longest question and answer.
    request_bytes: usize,
    reply_bytes: usize,
}

impl Service {
    fn chosen(options: &Options, request_bytes: usize, reply_bytes: usize) -> Result<Self, OpenError> {
        const ABOUT_BYTES: usize = 1 << 20;
        let clients = options.senders;
        let most = tidewire_shm::bell::ROSTER_MAX - 1;
        if !(1..=most).contains(&clients) {
            return Err(cannot(format!("expected 1 to {most} clients, found {clients}")));
        }
        let longest = request_bytes.max(reply_bytes);
        if longest > LONGEST {
            return Err(cannot(format!("expected at most {LONGEST} bytes for each call, found {longest}")));
        }
        let bytes = HEAD_BYTES + longest;
        let fits = ABOUT_BYTES / clients as usize / bytes;
        let depth = options.capacity.unwrap_or(fits.clamp(4, 64)).max(1);
        if depth > DEPTH_MAX {
            return Err(cannot(format!(
                "expected at most {DEPTH_MAX} calls in flight of a client, found {depth}"
            )));
        }
        Ok(Self { clients, depth, request_bytes, reply_bytes })
    }

    fn numbers(&self) -> [u64; 8] {
        let Self { clients, depth, request_bytes, reply_bytes } = *self;
        [u64::from(clients), depth as u64, request_bytes as u64, reply_bytes as u64, 0, 0, 0, 0]
    }

    /// What the creator chose, as far as it can be.
    fn found(numbers: &[u64; 8]) -> Result<Self, OpenError> {
        let [clients, depth, request_bytes, reply_bytes, ..] = *numbers;
        let within = |what: &str, most: u64, found: u64| {
            let number = usize::try_from(found).ok().filter(|_| found <= most);
            number.ok_or_else(|| cannot(format!("expected at most {most} {what}, found {found}")))
        };
        let most_clients = u64::from(tidewire_shm::bell::ROSTER_MAX) - 1;
        let depth = within("calls in flight", DEPTH_MAX as u64, depth)?.max(1);
        let clients = within("clients", most_clients, clients)?;
        let request_bytes = within("bytes of a question", LONGEST as u64, request_bytes)?;
        let reply_bytes = within("bytes of an answer", LONGEST as u64, reply_bytes)?;
        Ok(Self { clients: u32::try_from(clients).unwrap_or(0), depth, request_bytes, reply_bytes })
    }

    /// Bytes of data for so many records, and the spare ones.
    fn capacity(&self, longest: usize) -> Result<usize, OpenError> {
        let record = (longest + HEAD_BYTES + 8).next_multiple_of(8);
        let needed = record.checked_mul(self.depth + SPARE).and_then(usize::checked_next_power_of_two);
        needed
            .map(|needed| needed.max(64))
            .ok_or_else(|| cannot(format!("expected fewer than {longest} bytes for each call")))
    }

    fn request_capacity(&self) -> Result<usize, OpenError> {
        self.capacity(self.request_bytes)
    }

    fn reply_capacity(&self) -> Result<usize, OpenError> {
        self.capacity(self.reply_bytes)
    }

    fn lanes_options(&self) -> tidewire_mpsc::Options {
        tidewire_mpsc::Options::new()
            .lanes(self.clients)
            .delivery(tidewire_mpsc::Delivery::AtMostOnce)
            .liveness::<SegmentLeases>()
    }

    fn ring_options() -> tidewire_ring::Options {
        tidewire_ring::Options::new().liveness::<tidewire_shm::LeaseRange<'_>>()
    }

    /// Bytes from one ring of replies to the next.
    fn stride(&self) -> Result<usize, OpenError> {
        let bytes =
            Ring::<Untrusted>::bytes(self.reply_capacity()?, &Self::ring_options()).map_err(cannot)?;
        Ok(bytes.next_multiple_of(PAGE_BYTES))
    }

    fn parts(&self) -> Result<Vec<usize>, OpenError> {
        let requests =
            tidewire_mpsc::bytes::Queue::<Untrusted>::bytes(self.request_capacity()?, &self.lanes_options());
        let replies = self.stride()?.checked_mul(self.clients as usize);
        let replies = replies.ok_or_else(|| cannot("expected fewer bytes of replies"))?;
        Ok(vec![requests.map_err(cannot)?, replies])
    }

    fn plan<'p>(&self, fingerprint: u64, text: String, options: &'p Options) -> Result<Plan<'p>, OpenError> {
        let (numbers, entries, parts) = (self.numbers(), self.clients + 1, self.parts()?);
        let kind = KIND_SERVICE;
        Ok(Plan { kind, fingerprint, text, numbers, entries, parts, options })
    }

    /// Writes the parts.
    fn fill(&self, mut parts: Vec<Region<Untrusted>>) -> Result<(), OpenError> {
        let (requests, replies) = self.regions(&mut parts)?;
        tidewire_mpsc::bytes::Queue::create(requests, self.request_capacity()?, &self.lanes_options())
            .map_err(cannot)?;
        for region in split(replies, self)? {
            Ring::create(region, self.reply_capacity()?, &Self::ring_options()).map_err(cannot)?;
        }
        Ok(())
    }

    /// Those of the requests and of the replies.
    fn regions(
        &self,
        parts: &mut Vec<Region<Untrusted>>,
    ) -> Result<(Region<Untrusted>, Region<Untrusted>), OpenError> {
        let (replies, requests) = (parts.pop(), parts.pop());
        requests.zip(replies).ok_or_else(|| Incompatible::new(Field::Capacity, 2, 0).into())
    }
}

/// The regions of the rings of replies.
fn split(mut rest: Region<Untrusted>, service: &Service) -> Result<Vec<Region<Untrusted>>, OpenError> {
    let stride = service.stride()?;
    let found = rest.len() as u64;
    let mut rings = Vec::new();
    for _ in 0..service.clients {
        let (ring, behind) = rest.split_at(stride).map_err(|_| {
            let expected = (stride as u64).saturating_mul(service.clients.into());
            Incompatible::new(Field::TotalBytes, expected, found)
        })?;
        rings.push(ring);
        rest = behind;
    }
    Ok(rings)
}

/// The types of a service, as one text that is read like that of a message.
fn text_of<Q: Message, R: Message>() -> String {
    // Without their sizes and alignments, which come last.
    let inner = |text: String| text.rsplit_once(' ').map_or(text.clone(), |(inner, _)| inner.to_owned());
    let (question, answer) = (inner(Q::LAYOUT.describe()), inner(R::LAYOUT.describe()));
    let (first, second) = (size_of::<Q>(), size_of::<R>());
    let align = align_of::<Q>().max(align_of::<R>());
    format!("{{request: {question} @0, reply: {answer} @{first}}} {}/{align}", first + second)
}

fn fingerprint_of<Q: Message, R: Message>() -> u64 {
    Q::LAYOUT.fingerprint().wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31) ^ R::LAYOUT.fingerprint()
}

fn typed<Q: Message, R: Message>(options: &Options) -> Result<(Service, Plan<'_>), OpenError> {
    let service = Service::chosen(options, size_of::<Q>(), size_of::<R>())?;
    let plan = service.plan(fingerprint_of::<Q, R>(), text_of::<Q, R>(), options)?;
    Ok((service, plan))
}

fn of_bytes(options: &Options, longest: usize) -> Result<(Service, Plan<'_>), OpenError> {
    let service = Service::chosen(options, longest, longest)?;
    let plan = service.plan(options.bytes_of, "bytes".to_owned(), options)?;
    Ok((service, plan))
}

fn create(service: &Service, plan: &Plan<'_>) -> Result<Segment, OpenError> {
    plan.anonymous(&mut |parts| service.fill(parts))
}

fn join(service: &Service, plan: &Plan<'_>, name: &str) -> Result<Ground, OpenError> {
    plan.join(name, &mut |parts| service.fill(parts))
}

/// Opens the end of a service that answers: creates the service, or goes on in the place of a server that is gone.
///
/// # Errors
/// [`OpenError::Taken`] if somebody serves already, [`OpenError::Types`] if clients are there that ask something else,
/// [`OpenError::Segment`] if there is no room.
///
/// # Examples
/// ```no_run
/// let mut server = tidewire::server::<u64, u64>("squares")?;
/// while let Ok(request) = server.recv() {
///     let answer = request.value() * request.value();
///     // That a client is gone meanwhile is its own affair.
///     let _sent = request.reply(answer);
/// }
/// # Ok::<(), tidewire::OpenError>(())
/// ```
pub fn server<Q: Message, R: Message>(name: &str) -> Result<Server<Q, R>, OpenError> {
    Options::new().server(name)
}

/// Opens an end of a service that asks.
///
/// # Errors
/// [`OpenError::NotFound`] if nobody serves (see [`Options::client_in`] for waiting until somebody does),
/// [`OpenError::Types`] if it answers something else, [`OpenError::Exhausted`] if there are as many clients as there can be.
///
/// # Examples
/// ```no_run
/// let client = tidewire::client::<u64, u64>("squares")?;
/// assert_eq!(client.call(12)?, 144);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn client<Q: Message, R: Message>(name: &str) -> Result<Client<Q, R>, OpenError> {
    Options::new().client(name)
}

/// Both kinds of ends of one service.
pub type ServiceEnds<Q, R> = (Client<Q, R>, Server<Q, R>);

/// A service without a name, for the threads of this process.
///
/// # Errors
/// [`OpenError::Segment`] if there is no memory.
///
/// # Examples
/// ```
/// let (client, mut server) = tidewire::service::<u64, u64>()?;
/// let answering = std::thread::spawn(move || {
///     let request = server.recv()?;
///     let answer = *request * *request;
///     request.reply(answer)?;
///     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
/// });
/// assert_eq!(client.call(12)?, 144);
/// answering.join().unwrap().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn service<Q: Message, R: Message>() -> Result<ServiceEnds<Q, R>, OpenError> {
    Options::new().service()
}

/// Services. For them [`senders`](Options::senders) says how many clients there can be, and [`capacity`](Options::capacity)
/// how many calls each can have in flight: at most 256, and 4 to 64 if nothing is chosen.
impl Options {
    /// As [`server`](crate::server()), with these options. What a service is was chosen by whoever created it: one that goes
    /// on in the place of a former server takes it as it is.
    ///
    /// # Errors
    /// As [`server`](crate::server()); [`OpenError::Options`] if what was chosen cannot be.
    pub fn server<Q: Message, R: Message>(&self, name: &str) -> Result<Server<Q, R>, OpenError> {
        own(self, |options| {
            let (service, plan) = typed::<Q, R>(options)?;
            let ground = join(&service, &plan, name)?;
            Ok((ground.adopted, Server::on(ground, options)))
        })
    }

    /// As [`client`](crate::client()), with these options, of which how to wait and the directory matter.
    ///
    /// # Errors
    /// As [`client`](crate::client()).
    pub fn client<Q: Message, R: Message>(&self, name: &str) -> Result<Client<Q, R>, OpenError> {
        take_a_place(|| Client::on(typed::<Q, R>(self)?.1.find(name)?, self))
    }

    /// As [`client`](Self::client), and waits for a server to come, but not longer than `time`.
    ///
    /// # Errors
    /// As [`client`](Self::client), with [`OpenError::TimedOut`] in place of [`OpenError::NotFound`].
    pub fn client_in<Q: Message, R: Message>(
        &self,
        name: &str,
        time: Duration,
    ) -> Result<Client<Q, R>, OpenError> {
        take_a_place(|| Client::on(typed::<Q, R>(self)?.1.find_in(name, time)?, self))
    }

    /// As [`service`](crate::service()), with these options.
    ///
    /// # Errors
    /// As [`server`](Self::server).
    pub fn service<Q: Message, R: Message>(&self) -> Result<ServiceEnds<Q, R>, OpenError> {
        let memory = self.service_memory::<Q, R>()?;
        let fd = memory.try_clone_fd()?;
        let server = self.server_on(memory)?;
        let client = self.client_on(Segment::from_fd_with(fd, &self.segment_options())?)?;
        Ok((client, server))
    }

    /// The memory of a service without a name, to be handed to other processes; as [`memory`](Self::memory).
    ///
    /// # Errors
    /// As [`service`](Self::service).
    pub fn service_memory<Q: Message, R: Message>(&self) -> Result<Segment, OpenError> {
        let (service, plan) = typed::<Q, R>(self)?;
        create(&service, &plan)
    }

    /// The end that answers, of a service in memory that was handed over.
    ///
    /// # Errors
    /// As [`server`](Self::server).
    pub fn server_on<Q: Message, R: Message>(&self, memory: Segment) -> Result<Server<Q, R>, OpenError> {
        Server::on(typed::<Q, R>(self)?.1.open(memory, None)?, self)
    }

    /// An end that asks, of a service in memory that was handed over. That nobody serves yet is no error.
    ///
    /// # Errors
    /// As [`client`](Self::client).
    pub fn client_on<Q: Message, R: Message>(&self, memory: Segment) -> Result<Client<Q, R>, OpenError> {
        Client::on(typed::<Q, R>(self)?.1.open(memory, None)?, self)
    }

    /// The end that answers, of a service of bytes; else as [`server`](Self::server). No question and no answer is longer
    /// than `longest` bytes.
    ///
    /// # Errors
    /// As [`server`](Self::server).
    pub fn bytes_server(&self, name: &str, longest: usize) -> Result<BytesServer, OpenError> {
        own(self, |options| {
            let (service, plan) = of_bytes(options, longest)?;
            let ground = join(&service, &plan, name)?;
            Ok((ground.adopted, BytesServer::on(ground, options)))
        })
    }

    /// An end that asks, of a service of bytes; else as [`client`](Self::client).
    ///
    /// # Errors
    /// As [`client`](Self::client).
    pub fn bytes_client(&self, name: &str) -> Result<BytesClient, OpenError> {
        take_a_place(|| BytesClient::on(of_bytes(self, 0)?.1.find(name)?, self))
    }

    /// An end that asks, of a service of bytes; else as [`client_in`](Self::client_in).
    ///
    /// # Errors
    /// As [`client_in`](Self::client_in).
    pub fn bytes_client_in(&self, name: &str, time: Duration) -> Result<BytesClient, OpenError> {
        take_a_place(|| BytesClient::on(of_bytes(self, 0)?.1.find_in(name, time)?, self))
    }

    /// A service of bytes without a name; else as [`service`](Self::service).
    ///
    /// # Errors
    /// As [`service`](Self::service).
    pub fn bytes_service(&self, longest: usize) -> Result<(BytesClient, BytesServer), OpenError> {
        let (service, plan) = of_bytes(self, longest)?;
        let memory = create(&service, &plan)?;
        let fd = memory.try_clone_fd()?;
        let server = self.bytes_server_on(memory)?;
        let client = self.bytes_client_on(Segment::from_fd_with(fd, &self.segment_options())?)?;
        Ok((client, server))
    }

    /// The end that answers, of a service of bytes in memory that was handed over.
    ///
    /// # Errors
    /// As [`bytes_server`](Self::bytes_server).
    pub fn bytes_server_on(&self, memory: Segment) -> Result<BytesServer, OpenError> {
        BytesServer::on(of_bytes(self, 0)?.1.open(memory, None)?, self)
    }

    /// An end that asks, of a service of bytes in memory that was handed over.
    ///
    /// # Errors
    /// As [`bytes_client`](Self::bytes_client).
    pub fn bytes_client_on(&self, memory: Segment) -> Result<BytesClient, OpenError> {
        BytesClient::on(of_bytes(self, 0)?.1.open(memory, None)?, self)
    }
}
