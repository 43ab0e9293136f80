//! The first difference between two layout texts, one of which comes from a peer that may write anything.

use core::fmt;

use super::Layout;

/// What [`Difference`] looks at: the texts that [`Layout::describe`] makes are no longer.
const MAX_BYTES: usize = Layout::MAX_DESCRIPTION_BYTES;
/// Structs and arrays inside one another; each costs a frame of the stack.
const MAX_DEPTH: usize = 64;
/// Characters of a foreign text that are shown.
const MAX_SHOWN: usize = 96;

/// The first thing in which two layouts differ, for an error message.
///
/// # Examples
/// ```
/// use tidewire::Difference;
///
/// let expected = "{id: u64 @0, price: f64 @8} 16/8";
/// let found = "{id: u64 @0, price: u64 @8} 16/8";
/// assert_eq!(
///     Difference::between(expected, found).to_string(),
///     "field `price`: expected f64 @8, found u64 @8"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Nothing { cut: bool },
    Unreadable { ours: bool, at: usize, shown: String },
    Whole { expected: String, found: String },
    Field { path: String, expected: Option<String>, found: Option<String> },
    Order { place: String, expected: String, found: String },
    Number { what: &'static str, expected: u64, found: u64 },
}

impl Difference {
    /// Compares two texts of the grammar that [`Layout`] documents: the one that this program expects, and the one that was
    /// found.
    ///
    /// `found` may be any bytes. What is not UTF-8 is read as U+FFFD, and zero bytes at the end are left out. Of each text the
    /// first [`Layout::MAX_DESCRIPTION_BYTES`] bytes count; a longer one is unreadable, and so is one with more than 64 types
    /// inside one another.
    ///
    /// Fields are compared in order, those of a nested struct before what stands behind it; sizes and alignments come last.
    /// Where one text is cut, the fields from there on are not compared.
    ///
    /// # Guarantees
    /// Each text is read once, and each field is compared once, with a search among the names where two differ. It does not
    /// panic. What it [displays](fmt::Display) has less than 8 KiB and no control characters.
    #[must_use]
    pub fn between(expected: impl AsRef<[u8]>, found: impl AsRef<[u8]>) -> Self {
        let (expected, found) = (kept(expected.as_ref()), kept(found.as_ref()));
        let kind = match (Text::parse(&expected), Text::parse(&found)) {
            (Err(at), _) => Kind::Unreadable { ours: true, at, shown: show(&expected.text) },
            (_, Err(at)) => Kind::Unreadable { ours: false, at, shown: show(&found.text) },
            (Ok(expected), Ok(found)) => whole(&expected, &found),
        };
        Self { kind }
    }

    /// The field that differs, such as `legs[].price`; `None` if it is not one field, or nothing differs.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match &self.kind {
            Kind::Field { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Whether the texts say the same, as far as they go.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        matches!(self.kind, Kind::Nothing { .. })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Nothing { cut: false } => {
                f.write_str("no difference between the descriptions of the layouts")
            }
            Kind::Nothing { cut: true } => {
                f.write_str("no difference in the part of the descriptions of the layouts that is kept")
            }
            Kind::Unreadable { ours, at, shown } => {
                let (wanted, whose) =
                    ("a description such as `{id: u64 @0} 8/8`", if *ours { "ours is" } else { "found" });
                write!(f, "expected {wanted}, {whose} `{shown}`, unreadable from byte {at}")
            }
            Kind::Whole { expected, found } => write!(f, "expected a message {expected}, found {found}"),
            Kind::Field { path, expected, found } => {
                let [expected, found] =
                    [expected, found].map(|text| text.as_deref().unwrap_or("no such field"));
                write!(f, "field `{path}`: expected {expected}, found {found}")
            }
            Kind::Order { place, expected, found } => {
                write!(f, "field {place}: expected `{expected}`, found `{found}`")
            }
            Kind::Number { what, expected, found } => {
                write!(f, "{what}: expected {expected} bytes, found {found}")
            }
        }
    }
}

/// The bytes that count, as text.
fn kept(bytes: &[u8]) -> Kept {
    // One byte more than is allowed shows that the text is too long.
    let bytes = bytes.get(..=MAX_BYTES).unwrap_or(bytes);
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    Kept { text: String::from_utf8_lossy(bytes.split_at(end).0).into_owned(), too_long: end > MAX_BYTES }
}

struct Kept {
    text: String,
    too_long: bool,
}

/// A foreign text that is fit to be shown: short, with its start and its end, and without characters that a terminal would
/// obey.
fn show(text: &str) -> String {
    let escaped = |part: &str| part.chars().flat_map(char::escape_debug).collect::<String>();
    let nth = |nth| text.char_indices().nth(nth).map(|(at, _)| text.split_at(at));
    let from_end = |nth| text.char_indices().nth_back(nth).map(|(at, _)| text.split_at(at));
    match (nth(MAX_SHOWN + 3), nth(MAX_SHOWN * 2 / 3), from_end(MAX_SHOWN / 3 - 1)) {
        (Some(_), Some((start, _)), Some((_, end))) => format!("{}...{}", escaped(start), escaped(end)),
        _ => escaped(text),
    }
}

/// A text that was read: its parts are slices of it.
struct Text<'a> {
    ty: Type<'a>,
    size: u64,
    align: u64,
}

struct Type<'a> {
    text: &'a str,
    shape: Shape<'a>,
}

enum Shape<'a> {
    Number,
    Array {
        element: Box<Type<'a>>,
        /// `None` if the text is cut inside the element.
        len: Option<u64>,
    },
    Struct(Fields<'a>),
    /// The text is cut before it says anything about this type.
    Cut,
}

struct Fields<'a> {
    fields: Vec<Field<'a>>,
    /// Whether the text is cut inside.
    cut: bool,
}

impl Fields<'_> {
    /// Whether there is certainly no field `name`.
    fn lack(&self, name: &str) -> bool {
        !self.cut && !self.have(name)
    }

    fn have(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.name == name)
    }
}

struct Field<'a> {
    name: &'a str,
    ty: Type<'a>,
    /// `None` if the text is cut inside the type.
    offset: Option<u64>,
}

impl Field<'_> {
    fn place(&self) -> String {
        let ty = show(self.ty.text);
        self.offset.map_or_else(|| format!("{ty}..."), |offset| format!("{ty} @{offset}"))
    }

    fn whole(&self) -> String {
        format!("{}: {}", show(self.name), self.place())
    }
}

/// How two types compare.
enum Outcome {
    Same,
    /// The same as far as they go; one of the texts ends inside.
    Cut,
    Differs(Kind),
}

fn whole(expected: &Text<'_>, found: &Text<'_>) -> Kind {
    let differs = || Kind::Whole { expected: show(expected.ty.text), found: show(found.ty.text) };
    let cut = match types("", &expected.ty, &found.ty, &differs) {
        Outcome::Differs(kind) => return kind,
        Outcome::Cut => true,
        Outcome::Same => false,
    };
    if expected.size != found.size {
        return Kind::Number { what: "size", expected: expected.size, found: found.size };
    }
    if expected.align != found.align {
        return Kind::Number { what: "alignment", expected: expected.align, found: found.align };
    }
    Kind::Nothing { cut }
}

/// Compares the types of the field `path`; `differs` says so for the whole field, if it is not a field inside that differs.
fn types(path: &str, expected: &Type<'_>, found: &Type<'_>, differs: &dyn Fn() -> Kind) -> Outcome {
    match (&expected.shape, &found.shape) {
        (Shape::Cut, _) | (_, Shape::Cut) => Outcome::Cut,
        (Shape::Number, Shape::Number) if expected.text == found.text => Outcome::Same,
        (Shape::Array { element: ours, len }, Shape::Array { element: theirs, len: found })
            if len.zip(*found).is_none_or(|(ours, theirs)| ours == theirs) =>
        {
            types(&format!("{path}[]"), ours, theirs, differs)
        }
        (Shape::Struct(ours), Shape::Struct(theirs)) => fields(path, ours, theirs),
        _ => Outcome::Differs(differs()),
    }
}

/// Compares the fields of the struct at `path`, which is empty for the message itself.
fn fields(path: &str, expected: &Fields<'_>, found: &Fields<'_>) -> Outcome {
    let within = |name: &str| if path.is_empty() { show(name) } else { format!("{path}.{}", show(name)) };
    let (mut ours, mut theirs) = (expected.fields.iter(), found.fields.iter());
    for number in 1.. {
        let kind = match (ours.next(), theirs.next()) {
            (Some(our), Some(their)) if our.name == their.name => {
                let path = within(our.name);
                let differs = || Kind::Field {
                    path: path.clone(),
                    expected: Some(our.place()),
                    found: Some(their.place()),
                };
                let moved = our.offset.zip(their.offset).is_some_and(|(ours, theirs)| ours != theirs);
                match types(&path, &our.ty, &their.ty, &differs) {
                    Outcome::Same if moved => differs(),
                    Outcome::Same => continue,
                    other => return other,
                }
            }
            (Some(our), Some(their)) => {
                if found.lack(our.name) && expected.have(their.name) {
                    Kind::Field { path: within(our.name), expected: Some(our.place()), found: None }
                } else if expected.lack(their.name) && found.have(our.name) {
                    Kind::Field { path: within(their.name), expected: None, found: Some(their.place()) }
                } else {
                    let inside = if path.is_empty() { String::new() } else { format!(" of `{path}`") };
                    Kind::Order {
                        place: format!("{number}{inside}"),
                        expected: our.whole(),
                        found: their.whole(),
                    }
                }
            }
            (Some(_), None) if found.cut => return Outcome::Cut,
            (None, Some(_)) if expected.cut => return Outcome::Cut,
            (Some(our), None) => {
                Kind::Field { path: within(our.name), expected: Some(our.place()), found: None }
            }
            (None, Some(their)) => {
                Kind::Field { path: within(their.name), expected: None, found: Some(their.place()) }
            }
            (None, None) if expected.cut || found.cut => return Outcome::Cut,
            (None, None) => break,
        };
        return Outcome::Differs(kind);
    }
    Outcome::Same
}

/// Reads a text from its start to its end. Errors are the byte that cannot be read.
struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// Whether the mark `...` was read: all that was open ends with it.
    cut: bool,
}

impl<'a> Text<'a> {
    fn parse(kept: &'a Kept) -> Result<Self, usize> {
        if kept.too_long {
            return Err(MAX_BYTES);
        }
        let mut parser = Parser { text: &kept.text, at: 0, depth: 0, cut: false };
        let ty = parser.ty()?;
        parser.need(" ")?;
        let size = parser.number()?;
        parser.need("/")?;
        let align = parser.number()?;
        if parser.rest().is_empty() { Ok(Self { ty, size, align }) } else { Err(parser.at) }
    }
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn eat(&mut self, token: &str) -> bool {
        let here = self.rest().starts_with(token);
        if here {
            self.at += token.len();
        }
        here
    }

    fn need(&mut self, token: &str) -> Result<(), usize> {
        if self.eat(token) { Ok(()) } else { Err(self.at) }
    }

    /// Everything up to the first character that `is_part` refuses: at least one character.
    fn run(&mut self, is_part: impl Fn(char) -> bool) -> Result<&'a str, usize> {
        let rest = self.rest();
        let len = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
        if len == 0 {
            return Err(self.at);
        }
        self.at += len;
        Ok(rest.split_at(len).0)
    }

    fn name(&mut self) -> Result<&'a str, usize> {
        self.run(|character| {
            character == '_'
                || !(character.is_ascii_punctuation() || character.is_whitespace() || character.is_control())
        })
    }

    fn number(&mut self) -> Result<u64, usize> {
        let start = self.at;
        let digits = self.run(|character| character.is_ascii_digit())?;
        if digits.len() > 1 && digits.starts_with('0') {
            return Err(start);
        }
        digits.parse().map_err(|_| start)
    }

    fn ty(&mut self) -> Result<Type<'a>, usize> {
        let start = self.at;
        if self.depth == MAX_DEPTH {
            return Err(start);
        }
        self.depth += 1;
        let shape = if self.eat("...") {
            self.cut = true;
            Shape::Cut
        } else if self.eat("[") {
            self.array()?
        } else if self.eat("{") {
            Shape::Struct(self.fields()?)
        } else {
            self.name()?;
            Shape::Number
        };
        self.depth -= 1;
        Ok(Type { text: self.text.get(start..self.at).unwrap_or_default(), shape })
    }

    fn array(&mut self) -> Result<Shape<'a>, usize> {
        let element = Box::new(self.ty()?);
        if self.cut {
            return Ok(Shape::Array { element, len: None });
        }
        self.need("; ")?;
        let len = Some(self.number()?);
        self.need("]")?;
        Ok(Shape::Array { element, len })
    }

    fn fields(&mut self) -> Result<Fields<'a>, usize> {
        let mut fields = Vec::new();
        loop {
            if self.eat("...") {
                self.cut = true;
                return Ok(Fields { fields, cut: true });
            }
            let name = self.name()?;
            self.need(": ")?;
            let ty = self.ty()?;
            if self.cut {
                fields.push(Field { name, ty, offset: None });
                return Ok(Fields { fields, cut: true });
            }
            self.need(" @")?;
            fields.push(Field { name, ty, offset: Some(self.number()?) });
            if self.eat("}") {
                return Ok(Fields { fields, cut: false });
            }
            self.need(", ")?;
        }
    }
}
