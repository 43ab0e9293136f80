//! Waiting for requests by descriptors.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use tidewire_shm::bell::Armed;

use super::{Asked, ServerEnd, pop};
use crate::error::TryRecvError;
use crate::event::UNRUNG;
use crate::rpc::record::Cargo;

/// Attempts of one poll.
const LOOKS: u32 = 16;

impl ServerEnd {
    /// Announces a wait; true: do not wait. What came meanwhile is in `got`.
    pub(crate) fn arm<Q: Cargo>(&mut self, got: &mut Option<Asked<Q>>) -> io::Result<bool> {
        if self.mark.is_forked_child() {
            return Ok(true);
        }
        let Self { rest: Some(rest), queue: Some(queue), desk, share, generation, events, .. } = self else {
            return Ok(true);
        };
        share.get_or_insert_with(|| Arc::clone(desk));
        queue.rescan();
        let armed =
            events.arm(&mut rest.own, || got.is_some() || pop(queue, *generation, share).put_into(got))?;
        Ok(armed == Armed::Ready)
    }

    pub(crate) fn disarm(&mut self) {
        if self.mark.is_forked_child() {
            return;
        }
        if let Some(rest) = self.rest.as_mut() {
            self.events.disarm(&mut rest.own);
        }
    }

    /// What becomes readable when there is a request: nothing else ends a wait, since clients come and go.
    pub(crate) fn descriptors<'a>(&'a self, to: &mut Vec<PollFd<'a>>) {
        let poll = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        to.extend(self.events.fd().filter(|_| self.events.is_armed()).map(poll));
    }

    /// One attempt of a future; if there is nothing, its task is woken when there is.
    pub(crate) fn poll_take<Q: Cargo>(&mut self, cx: &Context<'_>) -> Poll<Result<Asked<Q>, TryRecvError>> {
        self.disarm();
        // Bounded: a peer may change its mind again and again.
        for _ in 0..LOOKS {
            match self.try_take() {
                Err(TryRecvError::Empty) => {}
                done => return Poll::Ready(done),
            }
            let mut got = None;
            let armed = self.arm(&mut got);
            if let Some(asked) = got {
                self.disarm();
                return Poll::Ready(Ok(asked));
            }
            match armed {
                Ok(true) => {}
                Ok(false) => match self.register(cx) {
                    Ok(()) => return Poll::Pending,
                    Err(_) => break,
                },
                Err(_) => break,
            }
        }
        // Without descriptors: look again soon.
        self.disarm();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn register(&mut self, cx: &Context<'_>) -> io::Result<()> {
        self.events.register(cx.waker())?;
        self.events.wake_at(Instant::now() + UNRUNG, cx.waker())
    }
}
