//! The end that asks: calls in flight, their answers, and the server that may go.

mod waiting;

use std::sync::Arc;
use std::time::Duration;

use tidewire_mpsc::bytes::{Producer, Queue};
use tidewire_ring::bytes::{Consumer, Ring};
use tidewire_ring::{RecordPopError, RecordPushError, Tuning};
use tidewire_shm::bell::{Caller, Roster, System, Woken};
use tidewire_shm::{
    DeathWatch, ForkMark, Incompatible, NoticeAddress, Presence, Region, RoleId, Segment, SegmentLeases,
    Untrusted,
};

use waiting::Waiting;

use super::record::{CallNumber, Cargo, HEAD_BYTES, Head, Record, Status, head, low, write};
use super::{CANCELLED, SERVER, Service, entry_of, replies_first, split};
use crate::error::{CallError, Corrupt, OpenError};
use crate::ground::Ground;
use crate::options::Wait;
use crate::queue::is_vacant;
use crate::rest::{Rest, Until};

/// Records that one look takes, so that a server that floods us does not keep us for ever.
const LOOKED: u32 = 1024;
/// How often a client that waits for room, which nobody rings for, looks again.
const PAUSE: Duration = Duration::from_millis(1);
/// How often, and how long, to wait for a former client of the same lane that is just leaving.
const ATTEMPTS: u32 = 100;

#[derive(Debug)]
pub(crate) struct ClientEnd<A> {
    /// `None` in a fork child that dropped it.
    ends: Option<Ends<A>>,
    caller: Caller<System, Untrusted>,
    mark: ForkMark,
    /// The server that is known, if one is there.
    server: Option<u64>,
    watch: Option<DeathWatch>,
    /// The server's notice, as it said.
    notice: [u64; 2],
    waiting: Waiting,
    longest: usize,
    roster: Roster<Untrusted>,
    leases: Arc<SegmentLeases>,
    _presence: Option<Presence>,
}

/// What is given back when the client goes, in this order: a successor, which needs the lane, finds the rest free.
#[derive(Debug)]
struct Ends<A> {
    rest: Rest,
    inbox: Inbox<A>,
    requests: Producer<Untrusted>,
}

/// Calls in flight, and where their answers come.
#[derive(Debug)]
struct Inbox<A> {
    replies: Consumer<Untrusted>,
    slots: Box<[Slot<A>]>,
    /// Slots that are free.
    free: Vec<u8>,
    /// Calls that nobody waits for any more, and that were not answered yet.
    abandoned: usize,
    corrupt: Option<Corrupt>,
}

#[derive(Debug)]
struct Slot<A> {
    /// The call that it is used for, or was last used for.
    id: CallNumber,
    state: State<A>,
    /// Whether the entry says that the call is cancelled.
    flagged: bool,
}

#[derive(Debug)]
enum State<A> {
    Free,
    Waiting,
    Abandoned,
    Done(Result<A, CallError>),
}

impl<A: Cargo> Inbox<A> {
    fn new(replies: Consumer<Untrusted>, client: u32, depth: usize) -> Self {
        let slots = (0..=u8::MAX).take(depth).map(|slot| Slot {
            id: CallNumber::first(client, slot),
            state: State::Free,
            flagged: false,
        });
        let free = (0..=u8::MAX).take(depth).rev().collect();
        Self { replies, slots: slots.collect(), free, abandoned: 0, corrupt: None }
    }

    /// Takes what has come; gives the answer that is wanted, if it is among that.
    #[inline]
    fn look(&mut self, wanted: Option<CallNumber>) -> Option<Result<A, CallError>> {
        let Self { replies, slots, free, abandoned, .. } = self;
        let mut ruined = None;
        for _ in 0..LOOKED {
            let record = match replies.pop() {
                Ok(record) => record,
                Err(RecordPopError::Corrupt(corrupt)) => {
                    ruined = Some(Corrupt::Peer(corrupt));
                    break;
                }
                Err(_) => return None,
            };
            let Some(head) = head(&record) else { continue };
            // Neither to a predecessor of ours, nor to a call that is over.
            let slot = slots.get_mut(usize::from(head.id.slot())).filter(|slot| slot.id == head.id);
            let Some(slot) = slot else { continue };
            match slot.state {
                State::Waiting => {
                    let answer = answer(&record, head.number);
                    if wanted == Some(head.id) {
                        slot.state = State::Free;
                        free.push(head.id.slot());
                        return Some(answer);
                    }
                    slot.state = State::Done(answer);
                }
                State::Abandoned => {
                    slot.state = State::Free;
                    free.push(head.id.slot());
                    *abandoned -= 1;
                }
                State::Free | State::Done(_) => {}
            }
        }
        if let Some(corrupt) = ruined {
            self.ruin(corrupt);
        }
        None
    }

    fn slot(&mut self, id: CallNumber) -> Option<&mut Slot<A>> {
        self.slots.get_mut(usize::from(id.slot())).filter(|slot| slot.id == id)
    }

    fn is_done(&self, id: CallNumber) -> bool {
        let slot = self.slots.get(usize::from(id.slot()));
        slot.is_none_or(|slot| slot.id != id || !matches!(slot.state, State::Waiting))
    }

    /// The answer of a call that is over.
    fn take(&mut self, id: CallNumber) -> Option<Result<A, CallError>> {
        let Some(slot) = self.slot(id) else { return Some(Err(CallError::Taken)) };
        match slot.state {
            State::Waiting => return None,
            State::Free | State::Abandoned => return Some(Err(CallError::Taken)),
            State::Done(_) => {}
        }
        let state = std::mem::replace(&mut slot.state, State::Free);
        self.free.push(id.slot());
        if let State::Done(answer) = state { Some(answer) } else { None }
    }

    /// Ends all calls that were not answered.
    fn fail_all(&mut self, error: CallError) {
        for (index, slot) in (0..=u8::MAX).zip(&mut self.slots) {
            match slot.state {
                State::Waiting => slot.state = State::Done(Err(error)),
                State::Abandoned => {
                    slot.state = State::Free;
                    self.free.push(index);
                }
                State::Free | State::Done(_) => {}
            }
        }
        self.abandoned = 0;
    }

    #[cold]
    fn ruin(&mut self, corrupt: Corrupt) {
        self.corrupt = Some(corrupt);
        self.fail_all(CallError::Corrupt(corrupt));
    }
}

#[inline]
fn answer<A: Cargo>(record: &Record<'_>, status: u32) -> Result<A, CallError> {
    match Status::from_number(status) {
        Some(Status::Answered) => A::read(record).ok_or(CallError::Malformed),
        Some(Status::Dropped) => Err(CallError::Dropped),
        Some(Status::TooLong) => Err(CallError::ReplyTooLong),
        None => Err(CallError::Malformed),
    }
}

/// Takes a lane, and the end of the ring that belongs to it.
fn take_lane(
    requests: Region<Untrusted>,
    replies: Region<Untrusted>,
    service: &Service,
    leases: &SegmentLeases,
) -> Result<(Producer<Untrusted>, Consumer<Untrusted>), OpenError> {
    let queue = Queue::open(requests, 0)?;
    let mut rings: Vec<_> = split(replies, service)?.into_iter().map(Some).collect();
    // Lanes whose ring is of no use are kept while others are tried: else the same one would come again.
    let mut useless = Vec::new();
    loop {
        let producer = queue.producer(leases)?;
        let region = rings.get_mut(producer.lane() as usize).and_then(Option::take);
        let Some(region) = region else {
            return Err(Incompatible::new(tidewire_shm::Field::Capacity, 0, producer.lane().into()).into());
        };
        match take_ring(region, producer.lane(), service, leases) {
            Ok(consumer) => return Ok((producer, consumer)),
            Err(_) => useless.push(producer),
        }
    }
}

fn take_ring(
    region: Region<Untrusted>,
    lane: u32,
    service: &Service,
    leases: &SegmentLeases,
) -> Result<Consumer<Untrusted>, OpenError> {
    let ring = Ring::open(region, 0)?;
    let (expected, found) = (service.reply_capacity()? as u64, ring.capacity() as u64);
    if expected != found {
        return Err(Incompatible::new(tidewire_shm::Field::Capacity, expected, found).into());
    }
    let range = leases.range(replies_first(lane));
    let mut attempts = 0;
    loop {
        match ring.consumer_with(&range) {
            Ok(mut consumer) => {
                // What is taken is released at once: so much the server can count on.
                consumer.tune(Tuning::default().release_every(1));
                return Ok(consumer);
            }
            Err(tidewire_ring::AttachError::RoleTaken(_) | tidewire_ring::AttachError::Lease(_))
                if attempts < ATTEMPTS =>
            {
                attempts += 1;
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

impl<A: Cargo> ClientEnd<A> {
    pub(crate) fn new(mut ground: Ground, wait: Wait) -> Result<(Self, Segment), OpenError> {
        let service = Service::found(&ground.numbers)?;
        let (requests, replies) = service.regions(&mut ground.parts)?;
        let (requests, replies) = take_lane(requests, replies, &service, &ground.leases)?;
        // First: in membarrier mode this registers the process, before its first request.
        let caller = ground.roster.caller(SERVER, System)?;
        let own = ground.attend(entry_of(requests.lane()), &wait.sleep_options())?;
        let inbox = Inbox::new(replies, low(own.generation()), service.depth);
        let Ground { segment, leases, presence, roster, mark, .. } = ground;
        let mut end = Self {
            ends: Some(Ends { rest: Rest { own, wait }, inbox, requests }),
            caller,
            mark,
            server: None,
            watch: None,
            notice: [0; 2],
            waiting: Waiting::default(),
            longest: service.request_bytes,
            roster,
            leases,
            _presence: presence,
        };
        // What a predecessor was answered makes room.
        end.meet();
        Ok((end, segment))
    }

    /// Gets to know the server that is there now, if there is one.
    #[cold]
    fn meet(&mut self) -> bool {
        let said = self.roster.entry(SERVER);
        let here = said.present.then_some(said.generation);
        if self.server != here || here.is_none() {
            self.lose();
            if here.is_some() {
                self.server = here;
                self.notice = said.notice;
                self.watch = DeathWatch::find(NoticeAddress::from_words(said.notice)).ok();
            }
        }
        if self.server.is_some() && self.is_dead() {
            self.lose();
        }
        self.server.is_some()
    }

    /// The server that was known answers no more: what it had answered counts, everything else is over.
    #[cold]
    fn lose(&mut self) {
        if let Some(ends) = self.ends.as_mut() {
            let _none_wanted = ends.inbox.look(None);
            ends.inbox.fail_all(CallError::Disconnected);
        }
        (self.server, self.watch) = (None, None);
        self.waiting.renew();
    }

    /// As far as its notice says, or its lease if there is none.
    #[cold]
    fn is_dead(&self) -> bool {
        match &self.watch {
            Some(watch) => watch.is_dead_hint() || watch.state().is_gone(),
            None => is_vacant(&self.leases, RoleId::CONSUMER),
        }
    }

    /// Ends all calls if the server that they went to is gone.
    fn ask_after_server(&mut self) {
        if self.server.is_some() && (self.caller.holder() != self.server || self.is_dead()) {
            self.lose();
        }
    }

    pub(crate) fn is_connected(&mut self) -> bool {
        !self.mark.is_forked_child() && self.meet()
    }

    /// Asks; does not wait.
    #[inline]
    pub(crate) fn start(&mut self, question: &[u8]) -> Result<CallNumber, CallError> {
        if self.mark.is_forked_child() {
            return Err(CallError::ForkedChild);
        }
        if question.len() > self.longest {
            return Err(CallError::TooLong(self.longest));
        }
        if (self.server.is_none() || self.caller.holder() != self.server) && !self.meet() {
            return Err(CallError::Disconnected);
        }
        let Self { ends: Some(Ends { rest, inbox, requests }), server: Some(server), caller, .. } = self
        else {
            return Err(CallError::ForkedChild);
        };
        if let Some(corrupt) = inbox.corrupt {
            return Err(CallError::Corrupt(corrupt));
        }
        if inbox.free.is_empty() {
            let _none_wanted = inbox.look(None);
        }
        let most = inbox.slots.len();
        let Some(index) = inbox.free.last().copied() else { return Err(CallError::Full(most)) };
        let Some(slot) = inbox.slots.get_mut(usize::from(index)) else { return Err(CallError::Full(most)) };
        let place = match requests.reserve(HEAD_BYTES + question.len()) {
            Ok(place) => place,
            Err(RecordPushError::Full) => return Err(CallError::Full(most)),
            Err(RecordPushError::TooLong { max }) => return Err(CallError::TooLong(max as usize)),
            Err(RecordPushError::Corrupt(corrupt)) => {
                return Err(CallError::Corrupt(Corrupt::Peer(corrupt)));
            }
        };
        if slot.flagged {
            // Before the request: the server that receives it sees no flag of another one.
            rest.own.count(CANCELLED + usize::from(index) / 64, flag(index).wrapping_neg());
            slot.flagged = false;
        }
        let id = slot.id.next();
        let _written = write(place, Head::request(id, low(*server)), question);
        let _rung = caller.ring();
        (slot.id, slot.state) = (id, State::Waiting);
        inbox.free.pop();
        Ok(id)
    }

    /// Asks, and waits for room if there will be some: for calls that nobody waits for any more, and for requests of a
    /// predecessor.
    #[inline]
    pub(crate) fn start_until(&mut self, question: &[u8], until: Until) -> Result<CallNumber, CallError> {
        loop {
            match self.start(question) {
                Err(CallError::Full(most)) => self.wait_for_room(until, most)?,
                done => return done,
            }
        }
    }

    #[cold]
    fn wait_for_room(&mut self, until: Until, most: usize) -> Result<(), CallError> {
        self.interrupt();
        if until.is_over() {
            return Err(CallError::Timeout);
        }
        self.ask_after_server();
        let Self { ends: Some(Ends { rest, inbox, .. }), watch, .. } = self else {
            return Err(CallError::ForkedChild);
        };
        let had_slot = !inbox.free.is_empty();
        if !had_slot && inbox.abandoned == 0 {
            return Err(CallError::Full(most));
        }
        let mut ready = || {
            let _none_wanted = inbox.look(None);
            !had_slot && !inbox.free.is_empty()
        };
        let watches: Vec<&DeathWatch> = watch.iter().collect();
        let _woken = rest.wait(&mut ready, Until::after(PAUSE), &watches, true);
        Ok(())
    }

    /// Waits for the answer. At the end of the time the call goes on.
    #[inline]
    pub(crate) fn wait(&mut self, id: CallNumber, until: Until) -> Result<A, CallError> {
        self.interrupt();
        loop {
            if self.mark.is_forked_child() {
                return Err(CallError::ForkedChild);
            }
            let Self { ends: Some(Ends { rest, inbox, .. }), server, watch, caller, .. } = self else {
                return Err(CallError::ForkedChild);
            };
            if inbox.is_done(id)
                && let Some(done) = inbox.take(id)
            {
                return done;
            }
            let mut got = None;
            let mut ready = || {
                if got.is_none() {
                    got = inbox.look(Some(id));
                }
                got.is_some() || inbox.is_done(id) || caller.holder() != *server
            };
            let watches = watch.as_ref();
            let all_watched = watches.is_some();
            let woken = match &watches {
                Some(watch) => rest.wait(&mut ready, until, &[*watch], all_watched),
                None => rest.wait(&mut ready, until, &[], all_watched),
            };
            if let Some(done) = got {
                return done;
            }
            // A server may have spoilt its own notice and died: then only its lease tells.
            if woken == Woken::TimedOut && is_vacant(&self.leases, RoleId::CONSUMER) {
                self.watch = None;
            }
            self.ask_after_server();
            if until.is_over() && !self.is_over(id) {
                return Err(CallError::Timeout);
            }
        }
    }

    fn is_over(&self, id: CallNumber) -> bool {
        self.ends.as_ref().is_none_or(|ends| ends.inbox.is_done(id))
    }

    /// The answer if it has come, or if none will.
    pub(crate) fn try_take(&mut self, id: CallNumber) -> Option<Result<A, CallError>> {
        if self.mark.is_forked_child() {
            return Some(Err(CallError::ForkedChild));
        }
        for last in [false, true] {
            let Some(Ends { inbox, .. }) = self.ends.as_mut() else {
                return Some(Err(CallError::ForkedChild));
            };
            let found = inbox.look(Some(id)).or_else(|| inbox.take(id));
            if found.is_some() || last {
                return found;
            }
            self.ask_after_server();
        }
        None
    }

    /// Nobody waits for this call any more. Its slot is free when it is answered.
    pub(crate) fn abandon(&mut self, id: CallNumber) {
        if self.mark.is_forked_child() {
            return;
        }
        self.leave_board(Some(id));
        let Some(Ends { inbox, rest, .. }) = self.ends.as_mut() else { return };
        let Some(slot) = inbox.slot(id) else { return };
        match slot.state {
            State::Waiting => {
                slot.state = State::Abandoned;
                if !slot.flagged {
                    slot.flagged = true;
                    rest.own.count(CANCELLED + usize::from(id.slot()) / 64, flag(id.slot()));
                }
                inbox.abandoned += 1;
            }
            State::Done(_) => {
                let _nobody_wants = inbox.take(id);
            }
            State::Free | State::Abandoned => {}
        }
    }

    /// Whether a call is known: neither taken nor abandoned.
    pub(crate) fn knows(&mut self, id: CallNumber) -> bool {
        let slot = self.ends.as_mut().and_then(|ends| ends.inbox.slot(id));
        slot.is_some_and(|slot| matches!(slot.state, State::Waiting | State::Done(_)))
    }

    /// Calls that were not answered yet, and how many there can be.
    pub(crate) fn in_flight(&self) -> (usize, usize) {
        let Some(ends) = self.ends.as_ref() else { return (0, 0) };
        let flying = |slot: &&Slot<A>| matches!(slot.state, State::Waiting | State::Abandoned);
        (ends.inbox.slots.iter().filter(flying).count(), ends.inbox.slots.len())
    }

    /// Bytes of the longest question.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    pub(crate) fn set_wait(&mut self, wait: Wait) {
        if let Some(ends) = self.ends.as_mut() {
            ends.rest.wait = wait;
            ends.rest.own.set_patience(&wait.sleep_options());
        }
    }
}

/// The bit of a slot in its counter.
fn flag(slot: u8) -> u64 {
    1 << (slot % 64)
}

impl<A> Drop for ClientEnd<A> {
    #[expect(clippy::mem_forget, reason = "in a fork child nothing of the parent's may be given back")]
    fn drop(&mut self) {
        if self.mark.is_forked_child() {
            std::mem::forget(self.ends.take());
            self.waiting.abandon();
        }
    }
}
