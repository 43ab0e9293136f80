//! What the derive can see of the struct as a whole: its attributes, its kind, its parameters.

use syn::{Data, DeriveInput, Error, Field, Path, Result, parse_quote};

/// The fields of a struct that may be a message.
///
/// # Errors
/// Everything about the item that is wrong before its field types are looked at.
pub(crate) fn fields(input: &DeriveInput) -> Result<Vec<&Field>> {
    let found = match &input.data {
        Data::Struct(data) => &data.fields,
        Data::Enum(data) => {
            return Err(Error::new(
                data.enum_token.span,
                "a message must be a struct, found an enum: not every number is one of its variants, so a peer could send \
                 a value that does not exist; send a `u8` or `u32` and convert it with `TryFrom` after receiving",
            ));
        }
        Data::Union(data) => {
            return Err(Error::new(
                data.union_token.span,
                "a message must be a struct, found a union: its bytes do not say which field is meant; send a struct with \
                 a number that says it and an array of bytes",
            ));
        }
    };
    let mut errors = Errors::default();
    errors.keep(generics(input));
    errors.keep(repr(input));
    if found.is_empty() {
        errors.push(Error::new(
            input.ident.span(),
            "a message must have at least one field, found none: a message of no bytes cannot be told from no message",
        ));
    }
    for attribute in found.iter().flat_map(|field| &field.attrs) {
        if attribute.path().is_ident("message") {
            errors.push(Error::new_spanned(
                attribute,
                "`#[message(...)]` stands on the struct, found it on a field",
            ));
        }
    }
    errors.finish(found.iter().collect())
}

/// Where `tidewire` is found: `::tidewire`, or what `#[message(crate = path)]` says.
///
/// # Errors
/// Any other `#[message(...)]`.
pub(crate) fn home(input: &DeriveInput) -> Result<Path> {
    let mut home: Path = parse_quote!(::tidewire);
    for attribute in &input.attrs {
        if attribute.path().is_ident("message") {
            attribute.parse_nested_meta(|meta| {
                if !meta.path.is_ident("crate") {
                    return Err(meta.error("expected `crate = path`, found another word"));
                }
                home = meta.value()?.call(Path::parse_mod_style)?;
                Ok(())
            })?;
        }
    }
    Ok(home)
}

/// Parameters: none. A generic struct has a layout per instance, and its padding could only be judged where it is used.
fn generics(input: &DeriveInput) -> Result<()> {
    let generics = &input.generics;
    if let Some(lifetime) = generics.lifetimes().next() {
        return Err(Error::new_spanned(
            lifetime,
            format!(
                "a message must own all its bytes, found the lifetime `{}`: a reference means nothing in another process; \
                 hold the bytes in an array",
                lifetime.lifetime
            ),
        ));
    }
    if let Some(parameter) = generics.params.first() {
        return Err(Error::new_spanned(
            parameter,
            "a message must have one layout, found a generic parameter: write a struct for each type that is sent",
        ));
    }
    match &generics.where_clause {
        Some(clause) => {
            Err(Error::new_spanned(clause, "a message must have one layout, found a `where` clause"))
        }
        None => Ok(()),
    }
}

/// `repr(C)` or `repr(transparent)`; `align(n)` may stand beside the first, `packed` may not.
fn repr(input: &DeriveInput) -> Result<()> {
    let mut fixed = false;
    for attribute in &input.attrs {
        if !attribute.path().is_ident("repr") {
            continue;
        }
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("packed") {
                return Err(meta.error(
                    "a message must keep its fields aligned, found `packed`: order the fields from the largest to the \
                     smallest, or fill the gaps with fields of bytes",
                ));
            }
            fixed |= meta.path.is_ident("C") || meta.path.is_ident("transparent");
            if meta.input.peek(syn::token::Paren) {
                let inside;
                syn::parenthesized!(inside in meta.input);
                drop(inside.parse::<proc_macro2::TokenStream>()?);
            }
            Ok(())
        })?;
    }
    if fixed {
        return Ok(());
    }
    Err(Error::new(
        input.ident.span(),
        format!(
            "expected `#[repr(C)]` on `{}`, found no fixed layout: without it two programs may lay the same fields out \
             differently",
            input.ident
        ),
    ))
}

/// Errors gathered, so that one compilation shows all of them.
#[derive(Default)]
pub(crate) struct Errors(Option<Error>);

impl Errors {
    pub(crate) fn push(&mut self, error: Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            None => self.0 = Some(error),
        }
    }

    pub(crate) fn keep(&mut self, result: Result<()>) {
        if let Err(error) = result {
            self.push(error);
        }
    }

    pub(crate) fn finish<T>(self, value: T) -> Result<T> {
        match self.0 {
            Some(error) => Err(error),
            None => Ok(value),
        }
    }
}
