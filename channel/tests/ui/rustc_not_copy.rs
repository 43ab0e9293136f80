use tidewire::Message;

#[derive(Message)]
#[repr(C)]
struct Tick {
    price: f64,
}

fn main() {}
