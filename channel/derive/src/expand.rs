//! The generated code.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{DeriveInput, Field, Index, Member, Result};

use crate::fields;
use crate::shape::{self, Errors};

/// The implementations for `input`.
///
/// They are `unsafe`, and this is what makes them right, all of it checked by the compiler on the struct as it is compiled
/// (other attributes may have changed it since the derive saw it), and of `Pod` nothing is taken from the crate that is
/// named as `tidewire`:
/// - The pattern `let Self { .. } = value` is exhaustive, and outside `unsafe` no union has one: it is a struct with exactly
///   these fields.
/// - `__tidewire_field` has one type parameter for the type of the field and the type as written: they are one type. It is
///   a `Message`, and by the body of the function every `Message` is `Pod`: any bytes are a value of the field.
/// - The sizes of the fields add up to that of the struct: there is no padding. `Layout::structure` says so first, and
///   better.
/// - `Pod` itself asks for `Copy` and `'static`.
/// - The last line evaluates the constant, so that none of this waits until the struct is used.
///
/// # Errors
/// What the derive can see to be wrong.
pub(crate) fn message(input: &DeriveInput) -> Result<TokenStream> {
    let home = shape::home(input)?;
    let found = shape::fields(input)?;
    let mut errors = Errors::default();
    let mut fields = Vec::with_capacity(found.len());
    for (index, &field) in found.iter().enumerate() {
        let place = Place::of(index, field);
        errors.keep(fields::judge(&place.text, &field.ty));
        fields.push((place, &field.ty));
    }
    let fields = errors.finish(fields)?;

    let name = &input.ident;
    let title = name.unraw().to_string();
    let patterns = fields.iter().map(|(Place { member, binding, .. }, _)| quote!(#member: #binding));
    let checks = fields.iter().map(|(Place { binding, .. }, ty)| {
        let field = quote_spanned!(at(ty)=> __tidewire_field::<#ty>);
        quote! {
            let real = __tidewire_type_of(#binding);
            #field(real);
        }
    });
    let sizes = fields.iter().map(|(_, ty)| quote!(::core::mem::size_of::<#ty>()));
    let layouts = fields.iter().map(|(Place { member, text, .. }, ty)| {
        let home = &home;
        let of = quote_spanned!(at(ty)=> of::<#ty>);
        quote!(#home::FieldLayout::#of(#text, ::core::mem::offset_of!(Self, #member)))
    });
    // The whole call stands at the name, so that a failed evaluation is shown there.
    let there: TokenStream = home
        .to_token_stream()
        .into_iter()
        .map(|mut token| {
            token.set_span(at(name));
            token
        })
        .collect();
    let structure = quote_spanned! {at(name)=>
        #there::Layout::structure::<Self>(#title, const { &[#(#layouts),*] })
    };
    Ok(quote! {
        const _: () = {
            #[automatically_derived]
            unsafe impl #home::__private::bytemuck::Zeroable for #name {}
            #[automatically_derived]
            unsafe impl #home::__private::bytemuck::Pod for #name {}
            #[automatically_derived]
            #[allow(deprecated)]
            unsafe impl #home::Message for #name {
                const LAYOUT: &'static #home::Layout = {
                    fn __tidewire_type_of<T>(_: &T) -> ::core::marker::PhantomData<T> {
                        ::core::marker::PhantomData
                    }
                    fn __tidewire_field<T: #home::Message>(_: ::core::marker::PhantomData<T>) {
                        fn is_pod<T: #home::__private::bytemuck::Pod>() {}
                        is_pod::<T>()
                    }
                    let _: fn(&Self) = |value| {
                        let Self { #(#patterns),* } = value;
                        #(#checks)*
                    };
                    let layout = const { &#structure };
                    ::core::assert!(
                        ::core::mem::size_of::<Self>() == 0 #(+ #sizes)*,
                        "expected no padding in a message, found some"
                    );
                    layout
                };
            }
            const _: &#home::Layout = <#name as #home::Message>::LAYOUT;
        };
    })
}

/// The place of `part` for errors, but with the names and the lints of generated code.
fn at(part: &impl Spanned) -> Span {
    part.span().resolved_at(Span::call_site())
}

/// How the generated code reaches a field.
struct Place {
    member: Member,
    binding: syn::Ident,
    text: String,
}

impl Place {
    fn of(index: usize, field: &Field) -> Self {
        let binding = format_ident!("__tidewire_field_{index}");
        match &field.ident {
            Some(name) => {
                Self { member: Member::Named(name.clone()), binding, text: name.unraw().to_string() }
            }
            None => Self { member: Member::Unnamed(Index::from(index)), binding, text: index.to_string() },
        }
    }
}
