//! What may be sent: plain structs, with a layout that both sides can compare.

mod difference;
mod layout;

pub use difference::Difference;
pub use layout::{FieldLayout, Layout};

/// A value that may cross a channel as its bytes.
///
/// Implement it with `#[derive(Message)]` on a struct of numbers, arrays and other messages. It is implemented for
/// `u8` to `u128`, `i8` to `i128`, `f32`, `f64`, and for arrays `[T; N]` of messages with `N` of at least 1.
///
/// # Guarantees
/// - Every bit pattern is a value. A hostile peer can send any number, and nothing but a number: check its meaning, not
///   its validity.
/// - Every byte belongs to a field. Nothing of the sender's memory leaks through padding, and equal values have equal bytes.
/// - [`LAYOUT`](Message::LAYOUT) says which field stands at which byte. A channel compares it when it is opened, so that two
///   programs built from different versions of a struct get an error that names the first field that differs.
///
/// `usize` and `isize` are no messages: their size differs between programs. The 128-bit integers are: from Rust 1.77 on
/// their alignment is what the platform's C compiler gives them, and a difference would show in the layout. Byte order is
/// not part of a layout: shared memory has one, and the header of a segment records it.
///
/// # Safety
/// An implementation by hand promises, beyond what [`Pod`](bytemuck::Pod) asks for:
/// - [`LAYOUT`](Message::LAYOUT) describes `Self`: its size and alignment are those of `Self`, and the fields it names
///   stand at the offsets it gives.
/// - The layout does not depend on the compiler: `Self` is `#[repr(C)]` or `#[repr(transparent)]`, or another type with a
///   layout that is fixed.
/// - The size of `Self` is not 0.
///
/// # Examples
/// ```
/// use tidewire::Message;
///
/// #[derive(Clone, Copy, Message)]
/// #[repr(C)]
/// struct Leg {
///     quantity: u32,
///     price: u32,
/// }
///
/// #[derive(Clone, Copy, Message)]
/// #[repr(C)]
/// struct Tick {
///     id: u64,
///     price: f64,
///     legs: [Leg; 2],
/// }
///
/// assert_eq!(
///     Tick::LAYOUT.describe(),
///     "{id: u64 @0, price: f64 @8, legs: [{quantity: u32 @0, price: u32 @4}; 2] @16} 32/8"
/// );
/// ```
/// A foreign type that is [`Pod`](bytemuck::Pod) goes into a struct of your own, and the promise is yours. The same way
/// serves a number with a meaning, such as a set of flags:
/// ```
/// use bytemuck::{Pod, Zeroable};
/// use tidewire::{Layout, Message};
///
/// #[derive(Clone, Copy)]
/// #[repr(transparent)]
/// struct Flags(u32);
///
/// // SAFETY: all zeros is a `u32`.
/// unsafe impl Zeroable for Flags {}
/// // SAFETY: a `u32` and nothing else, and any `u32` is a set of flags.
/// unsafe impl Pod for Flags {}
/// // SAFETY: transparent, so its layout is that of its only field, and that is 4 bytes long.
/// unsafe impl Message for Flags {
///     const LAYOUT: &'static Layout = <u32 as Message>::LAYOUT;
/// }
///
/// assert_eq!(Flags::LAYOUT.describe(), "u32 4/4");
/// ```
/// # What does not compile
/// Each of these stands beside a twin that compiles. A field with bytes that are no value:
/// ```compile_fail
/// #[derive(Clone, Copy, tidewire::Message)]
/// #[repr(C)]
/// struct Order {
///     id: u64,
///     urgent: bool, // expected numbers, arrays or messages: only two of the 256 bytes of a `bool` are legal
/// }
/// ```
/// ```
/// #[derive(Clone, Copy, tidewire::Message)]
/// #[repr(C)]
/// struct Order {
///     id: u64,
///     urgent: u64,
/// }
/// ```
/// Padding:
/// ```compile_fail,E0080
/// #[derive(Clone, Copy, tidewire::Message)]
/// #[repr(C)]
/// struct Quote {
///     side: u8, // 7 bytes of padding follow
///     price: f64,
/// }
/// ```
/// ```
/// #[derive(Clone, Copy, tidewire::Message)]
/// #[repr(C)]
/// struct Quote {
///     side: u8,
///     _pad: [u8; 7],
///     price: f64,
/// }
/// ```
/// A layout that is the compiler's to choose:
/// ```compile_fail
/// #[derive(Clone, Copy, tidewire::Message)]
/// struct Level { price: f64, quantity: u64 } // expected `#[repr(C)]`
/// ```
/// ```
/// #[derive(Clone, Copy, tidewire::Message)]
/// #[repr(C)]
/// struct Level { price: f64, quantity: u64 }
/// ```
/// A value that is moved, not copied:
/// ```compile_fail,E0277
/// #[derive(tidewire::Message)] // `Copy` is missing
/// #[repr(C)]
/// struct Level { price: f64, quantity: u64 }
/// ```
/// ```
/// #[derive(Clone, Copy, tidewire::Message)]
/// #[repr(C)]
/// struct Level { price: f64, quantity: u64 }
/// ```
/// An address:
/// ```compile_fail
/// #[derive(Clone, Copy, tidewire::Message)]
/// #[repr(C)]
/// struct Text { bytes: &'static [u8; 16] } // an address means nothing in another process
/// ```
/// ```
/// #[derive(Clone, Copy, tidewire::Message)]
/// #[repr(C)]
/// struct Text { bytes: [u8; 16] }
/// ```
/// A message of no bytes:
/// ```compile_fail
/// #[derive(Clone, Copy, tidewire::Message)]
/// #[repr(C)]
/// struct Empty { bytes: [u8; 0] } // expected an array of at least one element
/// ```
/// ```
/// #[derive(Clone, Copy, tidewire::Message)]
/// #[repr(C)]
/// struct Small { bytes: [u8; 1] }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent: it is not a `Message`",
    label = "expected a number, an array of messages, or a struct that derives `Message`, found `{Self}`",
    note = "a struct of your own becomes one by `#[derive(Clone, Copy, Message)]` and `#[repr(C)]`",
    note = "an enum cannot: send its number as `u8` or `u32` and convert it with `TryFrom` after receiving"
)]
pub unsafe trait Message: bytemuck::Pod {
    /// Which field stands at which byte.
    const LAYOUT: &'static Layout;
}

macro_rules! numbers {
    ($($number:ident)*) => {$(
        // SAFETY: a number of fixed size: `Pod`, its layout is fixed by the language, and its size is not 0.
        unsafe impl Message for $number {
            const LAYOUT: &'static Layout = &Layout::number::<$number>(stringify!($number));
        }
    )*};
}

numbers! { u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64 }

// SAFETY: `N` messages one behind the other, without gaps: the layout of an array is fixed by the language. The layout of an
// array of none fails to evaluate.
unsafe impl<T: Message, const N: usize> Message for [T; N] {
    const LAYOUT: &'static Layout = &Layout::array::<T, N>();
}
