use tidewire::Message;

#[derive(Clone, Copy)]
#[repr(u8)]
enum Side {
    Buy,
    Sell,
}

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Order {
    id: u64,
    side: Side,
}

fn main() {
    let _ = [Side::Buy, Side::Sell];
}
