//! The recorded part of a row: the same processes over the same structure, once what is measured is over, and their
//! histories.
//!
//! What is measured moves too fast to be written down, and is judged by what must arrive. Here every operation is
//! written down as well, with the times at which it began and ended, refusals included; so the checker of
//! [histories](crate::history) can say what no stream of messages shows: that a ring was called empty or full when it
//! was not. The journals survive the death of whoever writes them: what a row that broke off left is judged, too.
//!
//! A round trip is two structures, and has a book for each.

use anyhow::{Context as _, Result};
use tidewire_shm::{Region, Segment};

use super::plan::{self, Mode, Plan, Structure};
use super::side::{OVER, RECORDED, Side, share};
use crate::history::{Book, Clock, Judgement, PopDesk, Promise, PushDesk, RESERVE, Volume, judge};
use crate::subject::play::{Habits, Trips, consume, produce};
use crate::subject::{Numbers, Pop, Push, Role, Shape, Subject};

/// Messages of a row, unless fewer were asked for.
pub(crate) const MESSAGES: u64 = 200_000;
/// Of these, as many become round trips: one takes as long as several messages.
const TRIPS_IN: u64 = 8;
/// Operations between two signs of life.
const BLOCK: u64 = 1024;

/// The environment variable under which a child inherits book `number`.
pub(crate) fn variable(number: usize) -> String {
    format!("TIDEWIRE_RUN_BOOK_{number}")
}

/// Messages that a plan lets each book hold.
fn messages(plan: &Plan) -> u64 {
    match plan.mode {
        Mode::RoundTrip => plan.history.div_ceil(TRIPS_IN),
        _ => plan.history,
    }
}

/// A push leaves at most a refusal and itself, a pop an announcement, what came, and an empty look.
fn volume(plan: &Plan) -> Volume {
    let messages = usize::try_from(messages(plan)).unwrap_or(usize::MAX / 1024);
    let each = messages.div_ceil(usize::from(plan.producers.max(1)));
    Volume { producers: plan.producers, pushes: 2 * each + 64, pops: 3 * messages + RESERVE + 64 }
}

fn shape(plan: &Plan) -> Shape {
    // As often as a consumer releases that nobody tuned.
    Shape { capacity: plan.capacity, release_every: (plan.capacity as u64 / 8).max(1) }
}

/// The books of a row, as its parent has them.
#[derive(Debug)]
pub(crate) struct Books(Vec<(Segment, Book)>);

impl Books {
    /// Empty books.
    pub(crate) fn new(plan: &Plan) -> Result<Self> {
        let books = (0..plan.mode.segments()).map(|_| {
            let segment = Book::segment(volume(plan))?;
            let book = Book::open(&segment, volume(plan))?;
            Ok((segment, book))
        });
        Ok(Self(books.collect::<Result<_>>()?))
    }

    /// The segments, for the children to inherit.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.0.iter().map(|(segment, _)| segment)
    }

    /// Judges what the children wrote; they are gone. Of a row that broke off nobody promised that all messages
    /// came.
    pub(crate) fn judge(
        &self,
        plan: &Plan,
        structure: &dyn Structure,
        whole: bool,
    ) -> Result<Vec<Judgement>> {
        let promise = structure.recorded(plan)?.promise(&shape(plan), Clock::of_this_machine());
        let promise = Promise { drained: whole, ..promise };
        Ok(self.0.iter().map(|(_, book)| judge(&promise, book)).collect())
    }
}

/// Plays this side's part.
pub(crate) fn record(side: &Side<'_>, structure: &dyn Structure, segments: &[Segment]) -> Result<()> {
    let plan = side.plan;
    let subject = structure.recorded(plan)?;
    let open = |number| Book::open(&Segment::inherited(variable(number))?, volume(plan));
    let books = (0..segments.len()).map(open).collect::<Result<Vec<_>>>()?;
    // Whoever is here has dropped its roles of the measured part.
    side.meet(RECORDED);
    if plan.mode == Mode::RoundTrip {
        let regions: Vec<_> = segments.iter().map(Segment::region).collect();
        trips(side, subject.as_ref(), plan::regions(regions)?, two(books)?)?;
    } else {
        let segment = segments.first().context("a segment of the structure")?;
        let book = books.into_iter().next().context("a book for the structure")?;
        stream(side, subject.as_ref(), segment, book)?;
    }
    // Behind everything that this side published.
    side.arrive(OVER);
    Ok(())
}

fn two(books: Vec<Book>) -> Result<[Book; 2]> {
    books.try_into().ok().context("a book for each direction")
}

/// Messages in one direction.
fn stream(side: &Side<'_>, subject: &dyn Subject, segment: &Segment, book: Book) -> Result<()> {
    let (plan, clock, mut idle) = (side.plan, Clock::of_this_machine(), idle(side));
    let shape = shape(plan);
    let most = subject.batch(&shape);
    match side.role {
        Role::Producer(number) => {
            // SAFETY: this producer of the measured part is this process, and it dropped the role.
            let (mut sender, line) = unsafe { subject.sender_in(segment, number) }?;
            let mut desk = PushDesk::new(book, clock, line);
            let budget = share(messages(plan), plan.producers, number);
            let only = if plan.mode == Mode::Batch32 { Push::Batch(most) } else { Push::One };
            produce(sender.as_mut(), &mut desk, number.into(), habits(only, most, budget), &mut idle)
        }
        Role::Consumer => {
            // SAFETY: the one consumer of the measured part is this process, and it dropped the role.
            let mut receiver = unsafe { subject.receiver_in(segment, &shape) }?;
            let mut desk = PopDesk::new(book, clock);
            let only = if plan.mode == Mode::Single { Pop::One } else { Pop::Into(most) };
            let over = |_: &Book| side.others_at(OVER);
            consume(receiver.as_mut(), &mut desk, habits(only, most, 0), &over, &mut idle)
        }
    }
}

/// Messages there and back.
fn trips(side: &Side<'_>, subject: &dyn Subject, regions: [Region; 2], books: [Book; 2]) -> Result<()> {
    let (plan, clock, mut idle) = (side.plan, Clock::of_this_machine(), idle(side));
    let asks = side.role != Role::Consumer;
    let ([there, back], [book_there, book_back]) = (regions, books);
    let (out, outbook, home, homebook) =
        if asks { (there, book_there, back, book_back) } else { (back, book_back, there, book_there) };
    // SAFETY: the one process that had this role in the measured part is this one, and it dropped the role.
    let mut sender = unsafe { subject.sender(out, 0) }?;
    // SAFETY: as above.
    let mut receiver = unsafe { subject.receiver(home, &shape(plan)) }?;
    let (mut pushes, mut pops) = (PushDesk::new(outbook, clock, 0), PopDesk::new(homebook, clock));
    let (sender, receiver) = (sender.as_mut(), receiver.as_mut());
    let mut trips = Trips { sender, pushes: &mut pushes, receiver, pops: &mut pops };
    if asks {
        trips.ask(messages(plan), &mut idle)
    } else {
        trips.answer(&|_| side.others_at(OVER), &mut idle)
    }
}

fn habits<How>(only: How, most: u32, budget: u64) -> Habits<How> {
    Habits { only: Some(only), most, budget, dawdles: false, numbers: Numbers::new(0, 0) }
}

/// Waits like the measured part, and gives signs of life.
fn idle(side: &Side<'_>) -> impl FnMut(u64) {
    let (mut fruitless, mut done) = (0, 0);
    move |tries| {
        if tries > 0 {
            side.wait(&mut fruitless);
            return;
        }
        fruitless = 0;
        done += 1;
        if done % BLOCK == 0 {
            side.record(done);
        }
    }
}
