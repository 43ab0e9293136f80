//! What it costs that the kernel keeps each role's words in a memory that only it can write: rings in segments of parts
//! beside rings in one segment, between the same two processes, in one run.
//!
//! ```text
//! cargo run --release -p tidewire-ring --example parted_speed [ROUNDS]
//! ```
//!
//! Each round moves messages through one form after the other, so that all of them meet the same machine; what counts
//! is the ratio within a round. The processes are not pinned: pin both with `taskset` to compare runs.
#![expect(clippy::print_stdout, reason = "it is what the example shows")]

use std::env;
use std::error::Error;
use std::hint::spin_loop;
use std::io::stdin;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use tidewire_ring::fixed::{Consumer, Producer, Ring};
use tidewire_ring::{Options, PopError, PushError};
use tidewire_shm::{Part, PartedDraft, PartedSegment, RoleId, RoleStride, Segment, Untrusted};

type Any<T> = Result<T, Box<dyn Error>>;
/// 64 bytes.
type Message = [u64; 8];

const CHILD: &str = "TIDEWIRE_PARTED_SPEED_CHILD";
const CAPACITY: usize = 1024;
const MESSAGES: u64 = 400_000;
const TRIPS: u64 = 20_000;
const WARM_UP: usize = 2;
const PRODUCER: RoleId = match RoleId::producer(0) {
    Some(role) => role,
    None => panic!("there is a first producer"),
};

/// The forms, in the order in which each round goes through them.
const FORMS: [(&str, Form); 3] = [
    ("one segment, line stride", Form::Whole(RoleStride::Line)),
    ("one segment, page stride", Form::Whole(RoleStride::Page)),
    ("a part for each role", Form::Parted),
];

#[derive(Clone, Copy)]
enum Form {
    Whole(RoleStride),
    Parted,
}

/// One process's ends of two rings, one for each direction.
struct Ends {
    out: Producer<Message, Untrusted>,
    back: Consumer<Message, Untrusted>,
}

impl Form {
    fn options(self) -> Options {
        Options::new().role_stride(match self {
            Self::Whole(stride) => stride,
            Self::Parted => RoleStride::Page,
        })
    }

    fn parts(self) -> Any<Vec<Part>> {
        Ok(Ring::<Message, Untrusted>::parts(CAPACITY, &self.options())?)
    }

    /// A ring that this process creates, of which it plays `own` and the other process `others`.
    fn create(self, to: &UnixStream, own: RoleId, others: RoleId) -> Any<Ring<Message, Untrusted>> {
        let options = self.options();
        if let Self::Whole(_) = self {
            let bytes = Ring::<Message, Untrusted>::bytes(CAPACITY, &options)?;
            let segment = Segment::anonymous(bytes)?;
            let ring = Ring::create(segment.region(), CAPACITY, &options)?;
            segment.send(to)?;
            return Ok(ring);
        }
        let mut draft = PartedDraft::new(&self.parts()?, &[RoleId::CREATOR, own])?;
        draft.gather(to, &[others])?;
        let segment = draft.complete()?;
        let ring = Ring::create(segment.region(), CAPACITY, &options)?;
        segment.send_to(to, &[others])?;
        Ok(ring)
    }

    /// The same at the other end.
    fn open(self, from: &UnixStream, own: RoleId) -> Any<Ring<Message, Untrusted>> {
        let region = match self {
            Self::Whole(_) => Segment::receive(from)?.region(),
            Self::Parted => PartedSegment::join(from, &self.parts()?, &[own])?.region(),
        };
        Ok(Ring::open(region, 0)?)
    }
}

/// Asks until there is an answer; gives the processor away where there are fewer of them than processes.
fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    loop {
        for _ in 0..20_000 {
            if let Some(answer) = ask() {
                return answer;
            }
            spin_loop();
        }
        thread::yield_now();
    }
}

impl Ends {
    fn push(&mut self, value: u64) -> Any<()> {
        let message = [value; 8];
        until(|| match self.out.push(message) {
            Ok(()) => Some(Ok(())),
            Err(PushError::Full) => None,
            Err(error) => Some(Err(error.into())),
        })
    }

    fn pop(&mut self, expected: u64) -> Any<()> {
        let message = until(|| match self.back.pop() {
            Ok(message) => Some(Ok(message)),
            Err(PopError::Empty) => None,
            Err(error) => Some(Err(error)),
        })?;
        if message == [expected; 8] {
            Ok(())
        } else {
            Err(format!("expected eight times {expected}, found {message:?}").into())
        }
    }

    /// The first half of a round: messages in one direction, then trips. Says how many messages a second, and how many
    /// nanoseconds a trip.
    fn measure(&mut self) -> Any<[f64; 2]> {
        let start = Instant::now();
        for value in 0..MESSAGES {
            self.push(value)?;
        }
        self.pop(MESSAGES)?;
        let rate = MESSAGES as f64 / start.elapsed().as_secs_f64();
        let start = Instant::now();
        for value in 0..TRIPS {
            self.push(value)?;
            self.pop(value)?;
        }
        Ok([rate, start.elapsed().as_secs_f64() * 1e9 / TRIPS as f64])
    }

    /// What the other process does meanwhile.
    fn serve(&mut self) -> Any<()> {
        for value in 0..MESSAGES {
            self.pop(value)?;
        }
        self.push(MESSAGES)?;
        for value in 0..TRIPS {
            self.pop(value)?;
            self.push(value)?;
        }
        Ok(())
    }
}

fn child(rounds: usize) -> Any<()> {
    let socket = UnixStream::from(stdin().as_fd().try_clone_to_owned()?);
    let mut forms = Vec::new();
    for (_, form) in FORMS {
        let back = form.open(&socket, RoleId::CONSUMER)?.consumer()?;
        forms.push(Ends { out: form.open(&socket, PRODUCER)?.producer()?, back });
    }
    for _ in 0..WARM_UP + rounds {
        forms.iter_mut().try_for_each(Ends::serve)?;
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> Any<()> {
    let rounds = env::args().nth(1).map_or(Ok(31), |text| text.parse())?;
    if env::var_os(CHILD).is_some() {
        return child(rounds);
    }
    let (here, there) = UnixStream::pair()?;
    let mut command = Command::new(env::current_exe()?);
    command.arg(rounds.to_string()).env(CHILD, "1").stdin(Stdio::from(OwnedFd::from(there)));
    let mut peer = command.spawn()?;
    drop(command);
    let mut forms = Vec::new();
    for (_, form) in FORMS {
        let out = form.create(&here, PRODUCER, RoleId::CONSUMER)?.producer()?;
        forms.push(Ends { out, back: form.create(&here, RoleId::CONSUMER, PRODUCER)?.consumer()? });
    }
    let mut measured: Vec<Vec<[f64; 2]>> = Vec::new();
    for round in 0..WARM_UP + rounds {
        let row: Vec<[f64; 2]> = forms.iter_mut().map(Ends::measure).collect::<Any<_>>()?;
        if round >= WARM_UP {
            measured.push(row);
        }
    }
    if !peer.wait()?.success() {
        return Err("the other process failed".into());
    }
    println!(
        "{rounds} rounds of {MESSAGES} messages of 64 bytes and {TRIPS} trips; ratios are medians of rounds"
    );
    println!("{:28} {:>12} {:>9} {:>12} {:>9}", "", "messages/s", "to page", "ns a trip", "to page");
    for (number, (name, _)) in FORMS.into_iter().enumerate() {
        let all = |what: fn(&[f64; 2], &[f64; 2]) -> f64| {
            let rows = measured.iter().filter_map(|row| Some(what(row.get(number)?, row.get(1)?)));
            median(rows.collect())
        };
        println!(
            "{name:28} {:>12.0} {:>9.3} {:>12.1} {:>9.3}",
            all(|[rate, _], _| *rate),
            all(|[rate, _], [page, _]| rate / page),
            all(|[_, trip], _| *trip),
            all(|[_, trip], [_, page]| trip / page),
        );
    }
    Ok(())
}
