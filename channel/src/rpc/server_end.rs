//! The end that is asked: receives requests, of one type or of bytes.

mod waiting;

use std::sync::Arc;

use tidewire_mpsc::bytes::{Consumer, Queue};
use tidewire_ring::bytes::Ring;
use tidewire_shm::{ForkMark, Presence, Segment, Untrusted};

use super::desk::{Desk, Duty};
use super::record::{Cargo, head, low};
use super::{SERVER, Service, split};
use crate::error::{Corrupt, OpenError, RecvTimeoutError, TryRecvError};
use crate::event::Events;
use crate::ground::Ground;
use crate::options::Wait;
use crate::rest::{Rest, Until};

/// Records of former times that one look passes over.
const PASSED: u32 = 1024;

#[derive(Debug)]
pub(crate) struct ServerEnd {
    rest: Option<Rest>,
    events: Events,
    /// `None` in a fork child that dropped it.
    queue: Option<Consumer<Untrusted>>,
    desk: Arc<Desk>,
    /// For the next request: counted before it is there, since a locked instruction between a request and its answer would
    /// wait for all that was stored before.
    share: Option<Arc<Desk>>,
    generation: u32,
    mark: ForkMark,
    _presence: Option<Presence>,
    pub(crate) segment: Segment,
}

/// A request, and the duty to answer it.
pub(crate) type Asked<Q> = (Q, Duty);

impl ServerEnd {
    pub(crate) fn new(mut ground: Ground, wait: Wait) -> Result<Self, OpenError> {
        let service = Service::found(&ground.numbers)?;
        let (queue, replies) = service.regions(&mut ground.parts)?;
        let queue = Queue::open(queue, 0)?.consumer(&*ground.leases)?;
        // One that was overwritten is of no use to its client, either.
        let rings: Vec<_> =
            split(replies, &service)?.into_iter().map(|region| Ring::open(region, 0).ok()).collect();
        let own = ground.attend(SERVER, &wait.sleep_options())?;
        let generation = low(own.generation());
        let Ground { segment, leases, presence, roster, mark, .. } = ground;
        let desk = Desk::new(rings.into_iter(), roster, leases, mark, service.reply_bytes);
        let rest = Some(Rest { own, wait });
        let end = Self {
            rest,
            events: Events::default(),
            queue: Some(queue),
            desk: Arc::new(desk),
            share: None,
            generation,
            mark,
            _presence: presence,
            segment,
        };
        // Who waits for an answer of a former server learns that none will come.
        end.desk.wake_all();
        Ok(end)
    }

    #[inline]
    pub(crate) fn try_take<Q: Cargo>(&mut self) -> Result<Asked<Q>, TryRecvError> {
        if self.mark.is_forked_child() {
            return Err(TryRecvError::ForkedChild);
        }
        let Some(queue) = self.queue.as_mut() else { return Err(TryRecvError::ForkedChild) };
        self.share.get_or_insert_with(|| Arc::clone(&self.desk));
        match pop(queue, self.generation, &mut self.share) {
            Next::Asked(asked) => Ok(asked),
            Next::Passed | Next::Nothing => Err(TryRecvError::Empty),
        }
    }

    pub(crate) fn take<Q: Cargo>(&mut self, until: Until) -> Result<Asked<Q>, RecvTimeoutError> {
        loop {
            match self.try_take() {
                Ok(asked) => return Ok(asked),
                Err(TryRecvError::Empty) if until.is_over() => return Err(RecvTimeoutError::Timeout),
                Err(TryRecvError::Empty) => {}
                Err(error) => return Err(RecvTimeoutError::from_try(error)),
            }
            let Self { rest: Some(rest), queue: Some(queue), share, generation, .. } = self else {
                return Err(RecvTimeoutError::ForkedChild);
            };
            queue.rescan();
            let mut got = None;
            let mut ready = || got.is_some() || pop(queue, *generation, share).put_into(&mut got);
            // Nobody's death ends the wait: clients come and go.
            let _woken = rest.wait(&mut ready, until, &[], true);
            if let Some(asked) = got {
                return Ok(asked);
            }
        }
    }

    /// A client that was taken out of use since this was last asked.
    pub(crate) fn take_corrupt(&mut self) -> Option<Corrupt> {
        self.queue.as_mut().and_then(Consumer::take_corrupt).map(Corrupt::Sender)
    }

    pub(crate) fn set_wait(&mut self, wait: Wait) {
        if let Some(rest) = self.rest.as_mut() {
            rest.wait = wait;
            rest.own.set_patience(&wait.sleep_options());
        }
    }
}

/// What a look at the queue found.
enum Next<Q> {
    Asked(Asked<Q>),
    /// So many of former times that there may be more behind them.
    Passed,
    Nothing,
}

impl<Q> Next<Q> {
    /// Whether a wait is over: there is a request, or the queue is to be looked at again.
    fn put_into(self, got: &mut Option<Asked<Q>>) -> bool {
        match self {
            Self::Asked(asked) => {
                *got = Some(asked);
                true
            }
            Self::Passed => true,
            Self::Nothing => false,
        }
    }
}

/// The next request to this server; what is none, or was for a former one, is passed over.
#[inline]
fn pop<Q: Cargo>(queue: &mut Consumer<Untrusted>, to: u32, share: &mut Option<Arc<Desk>>) -> Next<Q> {
    for _ in 0..PASSED {
        let Ok(record) = queue.pop() else { return Next::Nothing };
        let head = head(&record).filter(|head| head.number == to);
        let found = head.and_then(|head| Some((head.id, Q::read(&record)?)));
        drop(record);
        if let (Some((id, question)), Some(lane)) = (found, queue.last_lane()) {
            // It was put there before the look.
            let Some(desk) = share.take() else { return Next::Nothing };
            return Next::Asked((question, Duty::new(desk, lane, id)));
        }
    }
    Next::Passed
}

impl Drop for ServerEnd {
    #[expect(clippy::mem_forget, reason = "in a fork child nothing of the parent's may be given back")]
    fn drop(&mut self) {
        if self.mark.is_forked_child() {
            std::mem::forget((self.rest.take(), std::mem::take(&mut self.events)));
            std::mem::forget(self.queue.take());
            self.desk.abandon();
            return;
        }
        // In this order: after the entry says that nobody is there, nothing is answered any more; and a successor, which
        // needs the lease of the queue, finds the ways to the clients free.
        self.desk.close();
        self.rest = None;
        // Free before anybody is told: who hears of it may want it.
        self.queue = None;
        self.desk.wake_all();
    }
}
