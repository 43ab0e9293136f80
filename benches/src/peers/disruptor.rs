//! disruptor: many producers, one consumer that polls. Messages are written in place and read through a guard that
//! frees its run of slots when it is dropped.

use std::mem::ManuallyDrop;

use disruptor::{
    BusySpin, EventPoller, MultiProducer, MultiProducerBarrier, Producer as _, SingleConsumerBarrier,
    build_multi_producer,
};

use crate::contender::{CAPACITY, Rx, Tx};
use crate::mpsc::contender::ManyContender;
use crate::pair::{EVERYWHERE, Mode};

/// The ring.
#[derive(Debug)]
pub enum Disruptor {}

/// An event: the message.
#[derive(Debug)]
pub struct Event<const W: usize>([u64; W]);

/// A producer; never dropped, because dropping takes a lock that works within a process only.
#[expect(missing_debug_implementations, reason = "the wrapped end has none")]
pub struct DisruptorTx<const W: usize>(ManuallyDrop<MultiProducer<Event<W>, SingleConsumerBarrier>>);

/// The consumer.
#[expect(missing_debug_implementations, reason = "the wrapped end has none")]
pub struct DisruptorRx<const W: usize>(EventPoller<Event<W>, MultiProducerBarrier>);

impl ManyContender for Disruptor {
    const NAME: &'static str = "disruptor";
    const BATCH: bool = true;
    const MODES: &'static [Mode] = EVERYWHERE;
    type Tx<const W: usize> = DisruptorTx<W>;
    type Rx<const W: usize> = DisruptorRx<W>;

    fn make<const W: usize>(producers: usize) -> anyhow::Result<(Vec<Self::Tx<W>>, Self::Rx<W>)> {
        let builder = build_multi_producer(CAPACITY, || Event([0; W]), BusySpin);
        let (rx, builder) = builder.event_poller();
        let tx = ManuallyDrop::new(builder.build());
        let txs = (0..producers).map(|_| DisruptorTx(tx.clone()));
        Ok((txs.collect(), DisruptorRx(rx)))
    }
}

impl<const W: usize> Tx<W> for DisruptorTx<W> {
    #[inline(always)]
    fn push(&mut self, message: &[u64; W]) -> bool {
        self.0.try_publish(|event| event.0 = *message).is_ok()
    }

    #[inline(always)]
    fn push_batch(&mut self, messages: &[[u64; W]]) -> usize {
        let pushed = self.0.try_batch_publish(messages.len(), |events| {
            for (event, message) in events.zip(messages) {
                event.0 = *message;
            }
        });
        pushed.map_or(0, |_| messages.len())
    }
}

impl<const W: usize> Rx<W> for DisruptorRx<W> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        self.take(to, 1, |_| {}) == 1
    }

    #[inline(always)]
    fn pop_batch(&mut self, to: &mut [[u64; W]]) -> usize {
        let Ok(mut events) = self.0.poll_take(to.len() as u64) else { return 0 };
        let mut taken = 0;
        for (to, event) in to.iter_mut().zip(&mut events) {
            *to = event.0;
            taken += 1;
        }
        taken
    }

    #[inline(always)]
    fn take(&mut self, to: &mut [u64; W], most: usize, mut each: impl FnMut(&[u64; W])) -> usize {
        let Ok(mut events) = self.0.poll_take(most as u64) else { return 0 };
        let mut taken = 0;
        for event in &mut events {
            *to = event.0;
            each(to);
            taken += 1;
        }
        taken
    }
}
