//! Boost's message queue: by name, with a mutex and conditions in shared memory; through `cpp/message_queue.cpp`.
//!
//! Whoever is killed with the mutex leaves it locked: in the cell where a sender is killed its receiver waits for ever.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::NonNull;

use anyhow::{anyhow, ensure};

use crate::board::SIGNALS;
use crate::message::contender::{Layer, MessageRx, MessageTx, capacity};
use crate::message::place::{Link, Place};

const TEXT_BYTES: usize = 160;

unsafe extern "C" {
    fn benches_boost_queue_create(
        name: *const c_char,
        messages: usize,
        longest: usize,
        text: *mut c_char,
        bytes: usize,
    ) -> *mut c_void;
    fn benches_boost_queue_open(name: *const c_char, text: *mut c_char, bytes: usize) -> *mut c_void;
    fn benches_boost_queue_close(queue: *mut c_void);
    fn benches_boost_queue_remove(name: *const c_char) -> bool;
    fn benches_boost_queue_send(
        queue: *mut c_void,
        from: *const c_void,
        count: usize,
        text: *mut c_char,
        bytes: usize,
    ) -> bool;
    fn benches_boost_queue_receive(
        queue: *mut c_void,
        to: *mut c_void,
        room: usize,
        count: *mut usize,
        text: *mut c_char,
        bytes: usize,
    ) -> bool;
}

/// The queue.
#[derive(Debug)]
pub enum BoostQueue {}

/// An end of it.
#[derive(Debug)]
pub struct End(NonNull<c_void>);

/// Room for what the other side throws.
struct Text([u8; TEXT_BYTES]);

impl Text {
    fn new() -> Self {
        Self([0; TEXT_BYTES])
    }

    fn start(&mut self) -> *mut c_char {
        self.0.as_mut_ptr().cast()
    }

    fn error(&self, what: &str) -> anyhow::Error {
        let said = CStr::from_bytes_until_nul(&self.0).map(CStr::to_string_lossy).unwrap_or_default();
        anyhow!("{what} a Boost message queue: {said}")
    }
}

impl Layer for BoostQueue {
    const NAME: &'static str = "boost message_queue";
    const SLEEPS: bool = true;
    type Tx<const W: usize> = End;
    type Rx<const W: usize> = End;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<End> {
        link.await_made();
        let (name, mut text) = (CString::new(link.name())?, Text::new());
        // SAFETY: a string that ends with a zero, and room for a text; both outlive the call.
        let queue = unsafe { benches_boost_queue_open(name.as_ptr(), text.start(), TEXT_BYTES) };
        Ok(End(NonNull::new(queue).ok_or_else(|| text.error("open"))?))
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<End> {
        let (name, mut text) = (CString::new(link.name())?, Text::new());
        let (messages, longest) = (capacity(W), 8 * W);
        // SAFETY: as in `sender`.
        let queue =
            unsafe { benches_boost_queue_create(name.as_ptr(), messages, longest, text.start(), TEXT_BYTES) };
        let end = End(NonNull::new(queue).ok_or_else(|| text.error("make"))?);
        link.made();
        Ok(end)
    }

    fn clean(place: &Place) {
        for number in 0..SIGNALS {
            if let Ok(name) = CString::new(format!("{}-{number}", place.name())) {
                // SAFETY: a string that ends with a zero and outlives the call.
                unsafe { benches_boost_queue_remove(name.as_ptr()) };
            }
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // SAFETY: opened by this end, and closed once.
        unsafe { benches_boost_queue_close(self.0.as_ptr()) };
    }
}

impl<const W: usize> MessageTx<W> for End {
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        let mut text = Text::new();
        let from = message.as_ptr().cast();
        // SAFETY: as many bytes as there are, alive during the call, and an open queue.
        let sent =
            unsafe { benches_boost_queue_send(self.0.as_ptr(), from, 8 * W, text.start(), TEXT_BYTES) };
        if sent { Ok(()) } else { Err(text.error("send to")) }
    }
}

impl<const W: usize> MessageRx<W> for End {
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        let (mut text, mut count) = (Text::new(), 0);
        let to = buffer.as_mut_ptr().cast();
        // SAFETY: as much room as there is, alive during the call, and an open queue.
        let received = unsafe {
            benches_boost_queue_receive(self.0.as_ptr(), to, 8 * W, &raw mut count, text.start(), TEXT_BYTES)
        };
        if !received {
            return Err(text.error("receive from"));
        }
        ensure!(count == 8 * W, "expected a message of {} bytes, found {count}", 8 * W);
        read(buffer);
        Ok(true)
    }
}
