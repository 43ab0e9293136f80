//! The ends of a channel in async code, in a runtime that is one task and one thread.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{Thread, current, park};
use std::time::Duration;

use anyhow::{Result, bail};
use tidewire::{Receiver, RecvError, SendError, Sender};

use super::ends::{Give, Given, Message, Take, Taken, make, see};
use crate::run::oracle::Oracle;

/// An end whose calls are awaited.
pub(super) struct Awaited<E>(pub(super) E);

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => park(),
        }
    }
}

impl Give for Awaited<Sender<Message>> {
    fn give(&mut self, name: u64, torn: bool) -> Result<Given> {
        match block_on(self.0.send_async(make(name, torn))) {
            Ok(()) => Ok(Given::Done),
            Err(SendError::Disconnected(_)) => Ok(Given::Gone),
            Err(error) => bail!("sending: {error}"),
        }
    }
}

impl Take for Awaited<Receiver<Message>> {
    fn take(&mut self, oracle: &mut Oracle) -> Result<Taken> {
        match block_on(self.0.recv_async()) {
            Ok(words) => Ok(see(oracle, &words)),
            Err(RecvError::Disconnected) => Ok(Taken::Gone),
            Err(error) => bail!("receiving: {error}"),
        }
    }

    fn meet(&mut self, givers: usize, patience: Duration) -> bool {
        self.0.wait_senders(givers, patience)
    }
}
