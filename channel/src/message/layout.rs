//! A layout as a constant: the tree of fields, its canonical text, and the hash of that text.

use super::Message;

/// Which field of a message stands at which byte, as a constant that two programs can compare.
///
/// [`describe`](Layout::describe) is the text that people and [`Difference`](super::Difference) read;
/// [`fingerprint`](Layout::fingerprint) is its hash.
///
/// # The text
/// ```text
/// text  = type " " size "/" align
/// type  = number | "[" type "; " count "]" | "{" field { ", " field } "}"
/// field = name ": " type " @" offset
/// ```
/// A `number` is `u8` to `u128`, `i8` to `i128`, `f32` or `f64`; sizes and offsets are decimal bytes, and an offset counts
/// from the start of the struct that the field belongs to. Spaces stand exactly where they are shown. The fields of a tuple
/// struct are called `0`, `1` and so on.
///
/// What the text leaves out does not count: the names of the structs, their crates and their visibility, and how a nested
/// struct is aligned as long as nothing moves. So a type can be renamed or moved to another crate on one side only; renaming
/// a field is a difference, because a field with another name is meant to hold something else.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    name: &'static str,
    size: usize,
    align: usize,
    shape: Shape,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Number,
    Array { element: &'static Layout, len: usize },
    Struct { fields: &'static [FieldLayout] },
}

/// One field of a [`Layout`].
#[derive(Clone, Copy, Debug)]
pub struct FieldLayout {
    name: &'static str,
    offset: usize,
    layout: &'static Layout,
}

impl FieldLayout {
    /// The field `name` of type `F`, `offset` bytes from the start of its struct. For implementations of [`Message`] by hand.
    ///
    /// # Panics
    /// If the name is empty or has an ASCII character other than letters, digits and `_`, or if the layout of `F` has not
    /// the size of `F`. In a constant this is a compile error.
    #[must_use]
    #[track_caller]
    pub const fn of<F: Message>(name: &'static str, offset: usize) -> Self {
        let mut rest = name.as_bytes();
        assert!(!rest.is_empty(), "expected the name of a field, found an empty text");
        while let [byte, behind @ ..] = rest {
            assert!(
                !byte.is_ascii() || byte.is_ascii_alphanumeric() || *byte == b'_',
                "expected the name of a field, found a character that no name has"
            );
            rest = behind;
        }
        assert!(
            F::LAYOUT.size == size_of::<F>(),
            "expected the layout of a field to have the size of its type, found another size"
        );
        Self { name, offset, layout: F::LAYOUT }
    }

    /// Its name; `0`, `1` and so on in a tuple struct.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Bytes from the start of the struct.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// The layout of its type.
    #[must_use]
    pub const fn layout(&self) -> &'static Layout {
        self.layout
    }
}

impl Layout {
    /// The most bytes that [`describe`](Self::describe) returns.
    pub const MAX_DESCRIPTION_BYTES: usize = 1024;

    /// The layout of the struct `S`, which has these fields. For implementations of [`Message`] by hand.
    ///
    /// # Panics
    /// If a byte of `S` is in none of the fields or in two of them, or if `S` has no bytes. In a constant this is a compile
    /// error, and it names the struct, the field behind which bytes are missing, and how many.
    #[must_use]
    #[track_caller]
    pub const fn structure<S>(name: &'static str, fields: &'static [FieldLayout]) -> Self {
        assert!(size_of::<S>() > 0, "expected a message of at least one byte, found a struct of none");
        let mut end = 0;
        let mut last = "";
        let mut rest = fields;
        while let [field, behind @ ..] = rest {
            if field.offset != end {
                fail(
                    name,
                    last,
                    field.offset,
                    end,
                    " there, or order the fields from the largest to the smallest",
                );
            }
            // No overflow: a field ends inside its struct, and a field that does not is refused by the next comparison.
            end = end.saturating_add(field.layout.size);
            last = field.name;
            rest = behind;
        }
        if end != size_of::<S>() {
            fail(name, last, size_of::<S>(), end, " at the end");
        }
        Self { name, size: size_of::<S>(), align: align_of::<S>(), shape: Shape::Struct { fields } }
    }

    pub(super) const fn number<T>(name: &'static str) -> Self {
        Self { name, size: size_of::<T>(), align: align_of::<T>(), shape: Shape::Number }
    }

    #[track_caller]
    pub(super) const fn array<T: Message, const N: usize>() -> Self {
        assert!(N > 0, "expected an array of at least one element, found an array of none");
        Self {
            name: "array",
            size: size_of::<[T; N]>(),
            align: align_of::<[T; N]>(),
            shape: Shape::Array { element: T::LAYOUT, len: N },
        }
    }

    /// The name of the struct or of the number; `array` for an array. No part of the text and the fingerprint.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Bytes of a value.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Alignment of a value in bytes.
    #[must_use]
    pub const fn align(&self) -> usize {
        self.align
    }

    /// The fields of a struct, in the order of their offsets; none for numbers and arrays.
    #[must_use]
    pub const fn fields(&self) -> &'static [FieldLayout] {
        match self.shape {
            Shape::Struct { fields } => fields,
            Shape::Number | Shape::Array { .. } => &[],
        }
    }

    /// The element of an array and how many there are; `None` for numbers and structs.
    #[must_use]
    pub const fn element(&self) -> Option<(&'static Self, usize)> {
        match self.shape {
            Shape::Array { element, len } => Some((element, len)),
            Shape::Number | Shape::Struct { .. } => None,
        }
    }

    /// A number that is the same for the same layout, whatever the compiler, the crate and the name of the struct.
    ///
    /// FNV-1a with 64 bits over the whole text, even where [`describe`](Self::describe) cuts it; 1 in place of 0.
    ///
    /// # Guarantees
    /// It is never 0. Another name, type, order, offset or nesting of any field, another size or alignment give another
    /// number, except by accident: two texts share one with a probability of 1 in 2^64. It is no protection against a peer
    /// that lies.
    #[must_use]
    pub const fn fingerprint(&self) -> u64 {
        match self.canonical().hash {
            0 => 1,
            hash => hash,
        }
    }

    /// The text of the layout.
    ///
    /// If it would be longer than [`MAX_DESCRIPTION_BYTES`](Self::MAX_DESCRIPTION_BYTES), it is cut behind a whole field, and
    /// `...` stands for everything up to the size: `{first: u64 @0, second: u64 @8, ... 4096/8`.
    ///
    /// # Examples
    /// ```
    /// use tidewire::Message;
    ///
    /// #[derive(Clone, Copy, Message)]
    /// #[repr(C)]
    /// struct Level {
    ///     price: f64,
    ///     orders: [u32; 2],
    /// }
    ///
    /// assert_eq!(Level::LAYOUT.describe(), "{price: f64 @0, orders: [u32; 2] @8} 16/8");
    /// ```
    #[must_use]
    pub fn describe(&self) -> String {
        String::from_utf8_lossy(self.canonical().text.as_bytes()).into_owned()
    }

    const fn canonical(&self) -> Canonical {
        let mut out = Canonical { hash: FNV_OFFSET, text: Text::new(), whole: 0, cut: false };
        out.layout(self);
        out.end(self.size, self.align);
        out
    }
}

/// Ends the evaluation: behind the field `last` of the struct `name`, at byte `end`, should come the next field or the end of
/// the struct, and that comes at `next`. `place` ends the advice where to add a field.
#[track_caller]
const fn fail(name: &str, last: &str, next: usize, end: usize, place: &str) -> ! {
    let mut text = Text::<512>::new();
    text.push("struct `");
    text.push_name(name);
    if next < end {
        text.push("`: expected all fields inside it and each behind the one before, found byte ");
        text.push_number(next);
        text.push(" inside field `");
        text.push_name(last);
        text.push("` or before it");
    } else {
        let padding = next - end;
        text.push("`: expected no padding, found ");
        text.push_number(padding);
        text.push(if padding == 1 { " byte" } else { " bytes" });
        if last.is_empty() {
            text.push(" before its first field");
        } else {
            text.push(" behind field `");
            text.push_name(last);
            text.push("`: add a field such as `_pad: [u8; ");
            text.push_number(padding);
            text.push("]`");
            text.push(place);
        }
    }
    panic!("{}", text.as_str())
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
/// Bytes kept free for the mark and the size: `, ... ` and two numbers of 20 digits.
const END_BYTES: usize = 48;

/// The canonical text on its way: hashed whole, kept as long as it fits.
struct Canonical {
    hash: u64,
    text: Text<{ Layout::MAX_DESCRIPTION_BYTES }>,
    /// Bytes of `text` up to the end of the last whole field.
    whole: usize,
    cut: bool,
}

impl Canonical {
    const fn layout(&mut self, layout: &Layout) {
        match layout.shape {
            Shape::Number => self.push(layout.name),
            Shape::Array { element, len } => {
                self.push("[");
                self.layout(element);
                self.push("; ");
                self.push_number(len);
                self.push("]");
            }
            Shape::Struct { fields } => {
                self.push("{");
                let mut rest = fields;
                while let [field, behind @ ..] = rest {
                    self.push(field.name);
                    self.push(": ");
                    self.layout(field.layout);
                    self.push(" @");
                    self.push_number(field.offset);
                    if !self.cut {
                        self.whole = self.text.len;
                    }
                    if !behind.is_empty() {
                        self.push(", ");
                    }
                    rest = behind;
                }
                self.push("}");
            }
        }
    }

    const fn end(&mut self, size: usize, align: usize) {
        if self.cut {
            self.text.len = self.whole;
            self.text.push(if self.whole == 0 { "..." } else { ", ..." });
        }
        let mut end = Text::<END_BYTES>::new();
        end.push(" ");
        end.push_number(size);
        end.push("/");
        end.push_number(align);
        self.hash(end.as_bytes());
        self.text.push(end.as_str());
    }

    const fn push_number(&mut self, number: usize) {
        let mut text = Text::<20>::new();
        text.push_number(number);
        self.push(text.as_str());
    }

    const fn push(&mut self, text: &str) {
        self.hash(text.as_bytes());
        if !self.cut && self.text.free() >= text.len() + END_BYTES {
            self.text.push(text);
        } else {
            self.cut = true;
        }
    }

    const fn hash(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let [byte, behind @ ..] = rest {
            self.hash = (self.hash ^ *byte as u64).wrapping_mul(FNV_PRIME);
            rest = behind;
        }
    }
}

/// A text of at most `N` bytes that constants can be computed with.
struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    const fn free(&self) -> usize {
        N - self.len
    }

    /// Adds `text` if all of it fits.
    const fn push(&mut self, text: &str) {
        if text.len() <= self.free() {
            self.bytes.split_at_mut(self.len).1.split_at_mut(text.len()).0.copy_from_slice(text.as_bytes());
            self.len += text.len();
        }
    }

    /// Adds `name`, or `...` if it is long.
    const fn push_name(&mut self, name: &str) {
        self.push(if name.len() <= 100 { name } else { "..." });
    }

    const fn push_number(&mut self, number: usize) {
        if number >= 10 {
            self.push_number(number / 10);
        }
        self.push(match number % 10 {
            0 => "0",
            1 => "1",
            2 => "2",
            3 => "3",
            4 => "4",
            5 => "5",
            6 => "6",
            7 => "7",
            8 => "8",
            _ => "9",
        });
    }

    const fn as_bytes(&self) -> &[u8] {
        self.bytes.split_at(self.len).0
    }

    const fn as_str(&self) -> &str {
        match str::from_utf8(self.as_bytes()) {
            Ok(text) => text,
            // Only whole texts are added, so this does not happen.
            Err(_) => "",
        }
    }
}
