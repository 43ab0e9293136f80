#![forbid(unsafe_code)]
#![deny(warnings)]

use tidewire::Message;

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Order {
    id: u64,
    side: u8,
    _pad: [u8; 7],
    price: Price,
}

#[derive(Clone, Copy, Message)]
#[repr(transparent)]
struct Price(i64);

fn main() {
    let Order { id, side, _pad, price: Price(price) } = Order { id: 1, side: 1, _pad: [0; 7], price: Price(5) };
    assert_eq!(id + u64::from(side) + price.unsigned_abs(), 7);
}
