//! Field types that the derive knows to be wrong by the way they are written. What it does not know, the compiler judges:
//! the generated code asks for `Message` of every field type.

use quote::ToTokens;
use syn::{Error, Expr, ExprLit, Lit, Result, Type, TypePath};

const PROCESS: &str = "its bytes are an address, which means nothing in another process";
const MUTABLE: &str = "it can change behind a shared reference, and a message is a copy";

/// Whether `ty`, the type of the field `name`, may turn out to be a message.
///
/// # Errors
/// If it cannot: what was found, why that is refused, and what to use instead.
pub(crate) fn judge(name: &str, ty: &Type) -> Result<()> {
    let (why, instead) = match ty {
        Type::Array(array) if is_zero(&array.len) => {
            ("it has no bytes", "use at least one element, or leave the field out")
        }
        Type::Array(array) => return judge(name, &array.elem),
        Type::Paren(inner) => return judge(name, &inner.elem),
        Type::Group(inner) => return judge(name, &inner.elem),
        Type::Path(path) => match known(path) {
            Some(found) => found,
            None => return Ok(()),
        },
        Type::Reference(_) | Type::Ptr(_) | Type::FnPtr(_) => {
            (PROCESS, "hold the bytes themselves in an array")
        }
        Type::Slice(_) => {
            ("its length is not part of the type", "use an array `[T; N]` and a field with the length")
        }
        Type::TraitObject(_) | Type::ImplTrait(_) => (PROCESS, "use a struct that derives `Message`"),
        Type::Never(_) => ("it has no value", "leave the field out"),
        Type::Tuple(tuple) if tuple.elems.is_empty() => ("it has no bytes", "leave the field out"),
        Type::Tuple(_) => (
            "the order of a tuple's parts in memory is not fixed",
            "use a struct with `#[repr(C)]` that derives `Message`, or an array",
        ),
        _ => return Ok(()),
    };
    let found = text(ty);
    Err(Error::new_spanned(
        ty,
        format!("expected a field of numbers, arrays or messages, found `{name}: {found}`: {why}; {instead}"),
    ))
}

/// Whether it is written as 0. Another way to say it is found by the compiler, which shows less well where.
fn is_zero(len: &Expr) -> bool {
    matches!(len, Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) if number.base10_digits() == "0")
}

/// Why a type of the standard library is refused, by its name, and what to use instead.
fn known(path: &TypePath) -> Option<(&'static str, &'static str)> {
    let last = path.path.segments.last()?;
    let first = path.path.segments.first()?;
    let from_std = ["std", "core", "alloc"].iter().any(|root| first.ident == root);
    if path.qself.is_some() || (path.path.segments.len() > 1 && !from_std) {
        return None;
    }
    let name = last.ident.to_string();
    let generic = !last.arguments.is_empty();
    Some(match name.as_str() {
        "bool" => ("only two of its 256 bytes are legal", "use `u8` and compare it with 0"),
        "char" => ("not every number is a character", "use `u32` and `char::from_u32`"),
        "usize" => ("its size differs between programs", "use `u64`"),
        "isize" => ("its size differs between programs", "use `i64`"),
        "str" => (
            "its length is not part of the type",
            "use `[u8; N]` and a field with the length, or a channel of bytes",
        ),
        "String" | "OsString" | "CString" | "PathBuf" if !generic => {
            (PROCESS, "use `[u8; N]` and a field with the length, or a channel of bytes")
        }
        "Vec" | "VecDeque" if generic => {
            (PROCESS, "use an array `[T; N]` and a field with the length, or a channel of bytes")
        }
        "HashMap" | "BTreeMap" | "HashSet" | "BTreeSet" if generic => {
            (PROCESS, "use an array `[T; N]` and a field with the length, or a channel of bytes")
        }
        "Box" | "Rc" | "Arc" | "Cow" | "Weak" | "NonNull" if generic => {
            (PROCESS, "use the value itself, if it is a message")
        }
        "Option" | "Result" if generic => (
            "not every bit pattern is one of its values",
            "use the value itself and a `u8` field that says whether it is there",
        ),
        "NonZero" if generic => {
            ("0 is not one of its values", "use the plain number and check it after receiving")
        }
        "NonZeroU8" | "NonZeroU16" | "NonZeroU32" | "NonZeroU64" | "NonZeroU128" | "NonZeroI8"
        | "NonZeroI16" | "NonZeroI32" | "NonZeroI64" | "NonZeroI128" | "NonZeroUsize" | "NonZeroIsize" => {
            ("0 is not one of its values", "use the plain number and check it after receiving")
        }
        "AtomicBool" | "AtomicU8" | "AtomicU16" | "AtomicU32" | "AtomicU64" | "AtomicUsize" | "AtomicI8"
        | "AtomicI16" | "AtomicI32" | "AtomicI64" | "AtomicIsize" => (MUTABLE, "use the plain number"),
        "Cell" | "RefCell" | "UnsafeCell" | "OnceCell" | "OnceLock" | "Mutex" | "RwLock" if generic => {
            (MUTABLE, "use the value itself")
        }
        "PhantomData" if generic => ("it has no bytes", "leave the field out"),
        "Duration" | "Instant" | "SystemTime" if from_std => {
            ("its layout is not fixed", "use a `u64` of nanoseconds")
        }
        _ => return None,
    })
}

/// The type as a reader would write it, cut if it is long.
fn text(ty: &Type) -> String {
    let mut text: String = ty.to_token_stream().to_string();
    for (spaced, plain) in [
        (" < ", "<"),
        (" >", ">"),
        ("& ", "&"),
        (" :: ", "::"),
        (" ;", ";"),
        (" ,", ","),
        ("[ ", "["),
        (" ]", "]"),
        ("* ", "*"),
    ] {
        text = text.replace(spaced, plain);
    }
    if text.chars().count() > 60 {
        text = text.chars().take(57).chain("...".chars()).collect();
    }
    text
}
