use tidewire::Message;

#[derive(Clone, Copy, Message)]
struct Unfixed {
    price: f64,
}

#[derive(Clone, Copy, Message)]
#[repr(align(8))]
struct OnlyAligned {
    price: f64,
}

#[derive(Clone, Copy, Message)]
#[repr(C, packed)]
struct Packed {
    price: f64,
}

#[derive(Clone, Copy, Message)]
#[repr(C, packed(2))]
struct PackedTwo {
    price: f64,
}

fn main() {}
