use tidewire::Message;

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Between {
    side: u8,
    price: f64,
}

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Behind {
    price: f64,
    quantity: u32,
    side: u16,
    flag: u8,
}

#[derive(Clone, Copy, Message)]
#[repr(C, align(16))]
struct Wide {
    price: f64,
}

fn main() {}
