use tidewire::Message;

#[derive(Clone, Copy, Message)]
#[repr(u8)]
enum Side {
    Buy,
    Sell,
}

#[derive(Clone, Copy, Message)]
#[repr(C)]
union Either {
    number: u64,
    bytes: [u8; 8],
}

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Generic<T> {
    value: T,
}

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Sized<const N: usize> {
    value: [u8; N],
}

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Borrowed<'a> {
    value: &'a [u8],
}

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Unit;

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct NoFields {}

fn main() {
    let _ = [Side::Buy, Side::Sell];
}
