use tidewire::Message;

const NONE: usize = 0;

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Empty {
    bytes: [u8; NONE],
}

fn main() {}
