//! Waiting for another value in async code.
//!
//! A reader cannot write, so nobody knows of it and nobody can ring for it: what wakes it is the word that the writer
//! wakes, and no reactor waits for words. So one thread does, for each reader that waits so, from its first wait on.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tidewire_shm::{ForkMark, SegmentLeases, Untrusted};

use super::reader::{Patient, Reader};
use super::{Snapshot, WaitError};
use crate::message::Message;
use crate::reactor::Alarm;

/// The longest that the thread goes on waiting for a value that nobody wants any more.
const SLICE: Duration = Duration::from_millis(20);

/// Where there is no thread to be had: how often to look.
const PAUSE: Duration = Duration::from_millis(1);

/// What the thread is to do.
#[derive(Debug, Default)]
struct Order {
    /// The version that is known, and whom to wake when there is another one.
    wanted: Option<(u64, Waker)>,
    over: bool,
}

#[derive(Debug, Default)]
struct Desk {
    order: Mutex<Order>,
    changed: Condvar,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that waits for a reader.
#[derive(Debug)]
pub(super) struct Watcher {
    desk: Arc<Desk>,
    mark: ForkMark,
    /// What is left of one that was made where descriptors, or threads, had run out.
    alarm: Option<Alarm>,
    runs: bool,
}

impl Watcher {
    fn start<T: Message>(
        look: &tidewire_seqlock::Reader<T, Untrusted>,
        leases: &Arc<SegmentLeases>,
    ) -> Option<Self> {
        let mark = ForkMark::here().ok()?;
        let desk = Arc::new(Desk::default());
        let (mut look, leases, served) = (look.clone(), Arc::clone(leases), Arc::clone(&desk));
        let run = move || {
            let kernel = Patient { spins: 0 };
            loop {
                let mut order = served.lock();
                while order.wanted.is_none() && !order.over {
                    order = served.changed.wait(order).unwrap_or_else(PoisonError::into_inner);
                }
                let since = match &order.wanted {
                    Some((since, _)) if !order.over => *since,
                    _ => return,
                };
                drop(order);
                if look.wait_changed_on(&kernel, &*leases, since, SLICE)
                    == Err(tidewire_seqlock::WaitError::TimedOut)
                {
                    continue;
                }
                // Whatever it is: the task finds out. One that wants another version by now is not the one to be woken.
                let done = served.lock().wanted.take_if(|(wanted, _)| *wanted == since);
                if let Some((_, waker)) = done {
                    let wake = std::panic::AssertUnwindSafe(|| waker.wake());
                    let _panicked = std::panic::catch_unwind(wake);
                }
            }
        };
        let runs = std::thread::Builder::new().name("tidewire-reader".to_owned()).spawn(run).is_ok();
        Some(Self { desk, mark, alarm: None, runs })
    }

    /// Has the task woken when there is another version.
    fn want(&mut self, since: u64, waker: &Waker) {
        if !self.runs {
            self.alarm = Alarm::set(Instant::now() + PAUSE, waker).ok();
            if self.alarm.is_none() {
                waker.wake_by_ref();
            }
            return;
        }
        let former = self.desk.lock().wanted.replace((since, waker.clone()));
        drop(former);
        self.desk.changed.notify_one();
    }

    fn forget(&self) {
        // In a fork child nobody may have the lock, and for ever.
        if !self.mark.is_forked_child() {
            let former = self.desk.lock().wanted.take();
            drop(former);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if !self.mark.is_forked_child() {
            self.desk.lock().over = true;
            self.desk.changed.notify_one();
        }
    }
}

/// A value to come: see [`Reader::changed`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Changing<'r, T: Message> {
    reader: &'r mut Reader<T>,
}

impl<T: Message> Reader<T> {
    /// Waits for a value that this reader has not returned yet, in async code of any runtime: at once, if it has returned
    /// none. That the writer is gone or dead ends the same await.
    ///
    /// # Guarantees
    /// Cancel-safe: dropped before it is ready, it has returned nothing, and the next one returns the same value or a later
    /// one. The first that has to wait starts a thread, which ends with this reader.
    ///
    /// # Errors
    /// As [`wait_changed`](Self::wait_changed), but for [`WaitError::TimedOut`]: runtimes have timeouts.
    ///
    /// # Examples
    /// ```
    /// # futures_lite::future::block_on(async {
    /// let (mut tx, mut rx) = tidewire::Options::new().latest(0_u64)?;
    /// assert_eq!(rx.changed().await?.value, 0);
    /// tx.store(7)?;
    /// assert_eq!(rx.changed().await?.value, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn changed(&mut self) -> Changing<'_, T> {
        Changing { reader: self }
    }

    /// One poll of [`changed`](Self::changed), for futures by hand.
    ///
    /// # Errors
    /// As [`changed`](Self::changed).
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Result<Snapshot<T>, WaitError>> {
        if let Some(found) = self.load_if_changed()? {
            return Poll::Ready(Ok(found));
        }
        if !self.is_writer_alive() {
            // In this order: what a writer stored before it went is found first.
            return Poll::Ready(match self.load_if_changed()? {
                Some(found) => Ok(found),
                None => Err(WaitError::WriterGone),
            });
        }
        if self.watcher.as_ref().is_none_or(|watcher| watcher.mark.is_forked_child()) {
            self.watcher = Watcher::start(&self.look, &self.leases);
        }
        match &mut self.watcher {
            Some(watcher) => watcher.want(self.seen.unwrap_or(0), cx.waker()),
            None => cx.waker().wake_by_ref(),
        }
        Poll::Pending
    }
}

impl<T: Message> Future for Changing<'_, T> {
    type Output = Result<Snapshot<T>, WaitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.reader.poll_changed(cx)
    }
}

impl<T: Message> Drop for Changing<'_, T> {
    fn drop(&mut self) {
        if let Some(watcher) = &self.reader.watcher {
            watcher.forget();
        }
    }
}

impl<T: Message> fmt::Debug for Changing<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Changing(..)")
    }
}
