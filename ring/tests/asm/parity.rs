//! Push and pop through the crate, and twins written by hand on core atomics: the same algorithm without the sync
//! seam, regions or trust levels. `asm_parity` compiles this file and compares the machine code of each pair.
//!
//! The twins are only compiled, never run.

use core::hint::spin_loop;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use tidewire_ring::fixed::{Consumer, Producer};
use tidewire_ring::{Corrupt, CorruptWord, PopError, PushError};
use tidewire_shm::{Trusted, Untrusted};

#[unsafe(no_mangle)]
pub fn trusted_push(producer: &mut Producer<[u64; 1], Trusted>, value: u64) -> bool {
    producer.push([value]).is_ok()
}

#[unsafe(no_mangle)]
pub fn untrusted_push(producer: &mut Producer<[u64; 1], Untrusted>, value: u64) -> bool {
    producer.push([value]).is_ok()
}

#[unsafe(no_mangle)]
pub fn twin_push(producer: &mut TwinProducer, value: u64) -> bool {
    producer.push(value).is_ok()
}

#[unsafe(no_mangle)]
pub fn trusted_pop(consumer: &mut Consumer<[u64; 1], Trusted>, to: &mut u64) -> bool {
    consumer.pop().map(|[value]| *to = value).is_ok()
}

#[unsafe(no_mangle)]
pub fn untrusted_pop(consumer: &mut Consumer<[u64; 1], Untrusted>, to: &mut u64) -> bool {
    consumer.pop().map(|[value]| *to = value).is_ok()
}

#[unsafe(no_mangle)]
pub fn twin_pop(consumer: &mut TwinConsumer, to: &mut u64) -> bool {
    consumer.pop().map(|value| *to = value).is_ok()
}

/// A push that publishes with a full barrier: what the comparison must notice.
#[unsafe(no_mangle)]
pub fn control_push(producer: &mut TwinProducer, value: u64) -> bool {
    let pushed = producer.push(value).is_ok();
    // SAFETY: never run.
    unsafe { producer.shared_tail.as_ref() }.store(producer.tail, Ordering::SeqCst);
    pushed
}

/// A pop with eight more instructions: what the comparison must notice.
#[unsafe(no_mangle)]
pub fn control_pop(consumer: &mut TwinConsumer, to: &mut u64) -> bool {
    let popped = consumer.pop().map(|value| *to = value).is_ok();
    for _ in 0..4 {
        // SAFETY: never run.
        *to ^= unsafe { core::ptr::read_volatile(&raw const consumer.seen) };
    }
    popped
}

/// The producer of a ring of `u64`, by hand.
pub struct TwinProducer {
    tail: u64,
    limit: u64,
    shared_tail: NonNull<AtomicU64>,
    shared_head: NonNull<AtomicU64>,
    capacity: u64,
    corrupt: Option<Corrupt>,
    data: NonNull<u64>,
    mask: u64,
}

impl TwinProducer {
    #[inline(always)]
    fn push(&mut self, value: u64) -> Result<(), PushError> {
        if self.limit.wrapping_sub(self.tail) < 1 {
            self.refresh()?;
        }
        // SAFETY: never run.
        let slot = unsafe { self.data.add((self.tail & self.mask) as usize) };
        // SAFETY: never run.
        unsafe { AtomicU64::from_ptr(slot.as_ptr()) }.store(value, Ordering::Relaxed);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: never run.
        unsafe { self.shared_tail.as_ref() }.store(self.tail, Ordering::Release);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn refresh(&mut self) -> Result<(), PushError> {
        if let Some(corrupt) = self.corrupt {
            return Err(PushError::Corrupt(corrupt));
        }
        // SAFETY: never run.
        let head = unsafe { self.shared_head.as_ref() }.load(Ordering::Acquire);
        if self.tail.wrapping_sub(head) > self.capacity {
            let corrupt = Corrupt { what: CorruptWord::Head, found: head };
            self.limit = self.tail;
            self.corrupt = Some(corrupt);
            return Err(PushError::Corrupt(corrupt));
        }
        self.limit = head.wrapping_add(self.capacity);
        if self.limit == self.tail { Err(PushError::Full) } else { Ok(()) }
    }
}

/// The consumer of a ring of `u64`, by hand.
pub struct TwinConsumer {
    head: u64,
    stop: u64,
    seen: u64,
    published: u64,
    period: u64,
    pauses: u32,
    touch: bool,
    shared_tail: NonNull<AtomicU64>,
    shared_head: NonNull<AtomicU64>,
    capacity: u64,
    corrupt: Option<Corrupt>,
    data: NonNull<u64>,
    mask: u64,
}

impl TwinConsumer {
    #[inline(always)]
    fn pop(&mut self) -> Result<u64, PopError> {
        if self.head == self.stop {
            self.next_window()?;
        }
        let index = (self.head & self.mask) as usize;
        let offset = index * 8;
        // SAFETY: never run.
        let slot = unsafe { self.data.add(index) };
        // SAFETY: never run.
        let value = unsafe { AtomicU64::from_ptr(slot.as_ptr()) }.load(Ordering::Relaxed);
        #[cfg(target_arch = "x86_64")]
        if offset.is_multiple_of(64) {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch of any address is allowed.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(slot.as_ptr().wrapping_byte_add(64).cast()) };
        }
        if self.touch && offset % 64 == 64 - 8 {
            // SAFETY: never run.
            let word = unsafe { slot.read_volatile() };
            // SAFETY: never run.
            unsafe { slot.write_volatile(word) };
        }
        self.head = self.head.wrapping_add(1);
        if self.head == self.stop {
            self.end_window();
        }
        Ok(value)
    }

    #[cold]
    #[inline(never)]
    fn next_window(&mut self) -> Result<(), PopError> {
        if let Some(corrupt) = self.corrupt {
            return Err(PopError::Corrupt(corrupt));
        }
        for _ in 0..self.pauses {
            spin_loop();
        }
        // SAFETY: never run.
        let tail = unsafe { self.shared_tail.as_ref() }.load(Ordering::Acquire);
        if tail.wrapping_sub(self.head) > self.capacity {
            let corrupt = Corrupt { what: CorruptWord::Tail, found: tail };
            self.corrupt = Some(corrupt);
            return Err(PopError::Corrupt(corrupt));
        }
        self.seen = tail;
        self.end_window();
        if self.stop == self.head { Err(PopError::Empty) } else { Ok(()) }
    }

    #[cold]
    #[inline(never)]
    fn end_window(&mut self) {
        if self.head.wrapping_sub(self.published) >= self.period {
            // SAFETY: never run.
            unsafe { self.shared_head.as_ref() }.store(self.head, Ordering::Release);
            self.published = self.head;
        }
        let due = self.period - self.head.wrapping_sub(self.published);
        self.stop = self.head.wrapping_add(self.seen.wrapping_sub(self.head).min(due));
    }
}
