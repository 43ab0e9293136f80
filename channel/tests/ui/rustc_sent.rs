use tidewire::Message;

fn send<T: Message>(_: T) {}

#[derive(Clone, Copy)]
#[repr(C)]
struct Tick {
    price: f64,
}

fn main() {
    send(Tick { price: 1.0 });
    send(true);
    send([1_usize; 4]);
}
