use tidewire::Message;

#[derive(Clone, Copy, Message)]
#[message(name = "tick")]
#[repr(C)]
struct Tick {
    price: f64,
}

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Level {
    #[message(skip)]
    price: f64,
}

fn main() {}
