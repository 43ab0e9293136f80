//! `#[derive(Message)]`: a plain struct that may cross a channel.
//!
//! Use it through the crate `tidewire`, which exports it beside the trait of the same name; what it promises and what it
//! refuses stands there.

mod expand;
mod fields;
mod shape;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `tidewire::Message` for a struct, and `bytemuck`'s `Zeroable` and `Pod`, on which it stands.
///
/// Derive `Clone` and `Copy` beside it, and fix the layout with `#[repr(C)]`.
///
/// # Guarantees
/// What is accepted holds no byte that means nothing and no bit pattern that is no value. The generated code does not take
/// the derive's word for it: the compiler checks, on the struct as it is compiled,
/// - that it is a struct with exactly these fields, of exactly these types;
/// - that each of them is a `Message` itself;
/// - that each begins where the one before it ends, the first at 0 and the last at the end: no padding;
/// - that it is `Copy` and `'static`.
///
/// The generated code runs nothing: the layout is a constant.
///
/// # Errors
/// A compile error names what was found, what was expected and what to use instead, for
/// - enums, unions, generic structs, structs without fields;
/// - a struct without `#[repr(C)]` or `#[repr(transparent)]`, or with `packed`;
/// - fields whose bytes cannot be arbitrary or mean nothing in another process: `bool`, `char`, `usize`, references,
///   pointers, `String`, `Vec`, `Option`, `Box` and their like; a field of any other type that is no `Message`;
/// - arrays of length 0;
/// - padding: with the bytes that it has and the field that it follows.
///
/// Those known by name are judged by their name as written: write a type of your own that is called `String` as
/// `self::String`.
///
/// # Attributes
/// `#[message(crate = path)]` on the struct says where `tidewire` is found, for crates that export it again.
#[proc_macro_derive(Message, attributes(message))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::message(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
