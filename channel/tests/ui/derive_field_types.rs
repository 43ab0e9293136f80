use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tidewire::Message;

#[derive(Message)]
#[repr(C)]
struct Order {
    id: u64,
    urgent: bool,
    side: char,
    count: usize,
    delta: isize,
    name: String,
    fills: Vec<u32>,
    limit: Option<u64>,
    next: Box<u64>,
    shared: Arc<u64>,
    venues: HashMap<u32, u64>,
    owner: &'static str,
    raw: *const u8,
    call: fn(u32) -> u32,
    pair: (u32, u32),
    nothing: (),
    grid: [[bool; 4]; 4],
    seen: AtomicU64,
    part: std::num::NonZeroU64,
    since: std::time::Duration,
    mark: std::marker::PhantomData<u8>,
    empty: [u8; 0],
}

fn main() {}
