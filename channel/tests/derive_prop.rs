//! Layout texts of any shape, true and spoilt: what differs is named, and nothing that a peer writes does harm.

use proptest::collection::vec;
use proptest::prelude::*;
use tidewire::Difference;

const NUMBERS: [(&str, u64); 10] = [
    ("u8", 1),
    ("u16", 2),
    ("u32", 4),
    ("u64", 8),
    ("i8", 1),
    ("i16", 2),
    ("i32", 4),
    ("i64", 8),
    ("f32", 4),
    ("f64", 8),
];

#[expect(clippy::indexing_slicing, reason = "the strategies draw indices of this array")]
fn number_type(index: usize) -> (&'static str, u64) {
    NUMBERS[index]
}

/// A type, as the test understands it.
#[derive(Clone, Debug)]
enum Model {
    Number(usize),
    Array(Box<Model>, u64),
    Struct(Vec<(String, Model)>),
}

impl Model {
    fn size(&self) -> u64 {
        match self {
            Self::Number(number) => number_type(*number).1,
            Self::Array(element, len) => element.size() * len,
            Self::Struct(fields) => fields.iter().map(|(_, ty)| ty.size()).sum(),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Number(number) => number_type(*number).0.into(),
            Self::Array(element, len) => format!("[{}; {len}]", element.text()),
            Self::Struct(fields) => {
                let mut offset = 0;
                let texts: Vec<String> = fields
                    .iter()
                    .map(|(name, ty)| {
                        let text = format!("{name}: {} @{offset}", ty.text());
                        offset += ty.size();
                        text
                    })
                    .collect();
                format!("{{{}}}", texts.join(", "))
            }
        }
    }

    fn whole(&self) -> String {
        format!("{} {}/8", self.text(), self.size())
    }

    /// The numbers inside, each with the path of the innermost field that it stands in.
    fn numbers<'a>(&'a mut self, path: &str, field: &str, all: &mut Vec<(String, &'a mut usize)>) {
        match self {
            Self::Number(number) => all.push((field.into(), number)),
            Self::Array(element, _) => element.numbers(&format!("{path}[]"), field, all),
            Self::Struct(fields) => {
                for (name, ty) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    ty.numbers(&path, &path, all);
                }
            }
        }
    }

    fn names<'a>(&'a mut self, all: &mut Vec<&'a mut String>) {
        match self {
            Self::Number(_) => {}
            Self::Array(element, _) => element.names(all),
            Self::Struct(fields) => {
                for (name, ty) in fields {
                    all.push(name);
                    ty.names(all);
                }
            }
        }
    }
}

fn structs(inner: impl Strategy<Value = Model>) -> impl Strategy<Value = Model> {
    vec(inner, 1..5).prop_map(|types| {
        Model::Struct(
            types.into_iter().enumerate().map(|(index, ty)| (format!("field_{index}"), ty)).collect(),
        )
    })
}

/// Messages whose text is short enough to be kept whole.
fn messages() -> impl Strategy<Value = Model> {
    let number = (0..NUMBERS.len()).prop_map(Model::Number);
    let types = number.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            (inner.clone(), 1_u64..20).prop_map(|(element, len)| Model::Array(Box::new(element), len)),
            structs(inner),
        ]
    });
    structs(types).prop_filter("a short text", |model| model.whole().len() <= 900)
}

fn is_harmless(text: &str) -> bool {
    text.len() < 8192 && !text.contains(char::is_control)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_text_does_not_differ_from_itself(model in messages()) {
        prop_assert!(Difference::between(model.whole(), model.whole()).is_nothing());
    }

    #[test]
    fn a_changed_number_is_named_by_its_field(model in messages(), at: prop::sample::Index, by in 1..NUMBERS.len()) {
        let mut changed = model.clone();
        let mut numbers = Vec::new();
        changed.numbers("", "", &mut numbers);
        let index = at.index(numbers.len());
        let (path, number) = &mut numbers[index];
        let path = path.clone();
        **number = (**number + by) % NUMBERS.len();
        let difference = Difference::between(model.whole(), changed.whole());
        prop_assert_eq!(difference.field(), Some(path.as_str()), "{}", difference);
        let shown = difference.to_string();
        let start = format!("field `{path}`: expected ");
        prop_assert!(shown.starts_with(&start), "{shown}");
    }

    #[test]
    fn a_changed_name_is_shown_beside_the_old_one(model in messages(), at: prop::sample::Index) {
        let mut changed = model.clone();
        let mut names = Vec::new();
        changed.names(&mut names);
        let index = at.index(names.len());
        let old = std::mem::replace(names[index], "renamed".into());
        let text = Difference::between(model.whole(), changed.whole()).to_string();
        let old = format!("`{old}: ");
        prop_assert!(text.contains(&old) && text.contains("`renamed: "), "{text}");
    }

    #[test]
    fn a_field_at_the_end_is_missing_on_one_side_and_more_on_the_other(model in messages(), number in 0..NUMBERS.len()) {
        let mut longer = model.clone();
        if let Model::Struct(fields) = &mut longer {
            fields.push(("more".into(), Model::Number(number)));
        }
        let place = format!("{} @{}", NUMBERS[number].0, model.size());
        prop_assert_eq!(
            Difference::between(longer.whole(), model.whole()).to_string(),
            format!("field `more`: expected {place}, found no such field")
        );
        prop_assert_eq!(
            Difference::between(model.whole(), longer.whole()).to_string(),
            format!("field `more`: expected no such field, found {place}")
        );
    }

    #[test]
    fn a_spoilt_text_never_passes_for_the_true_one(
        model in messages(),
        spoils in vec((any::<prop::sample::Index>(), 0_u8..4, prop_oneof![any::<u8>(), prop::sample::select(b"{}[]:;, @/.019au".to_vec())]), 1..6),
    ) {
        let expected = model.whole();
        let mut found = expected.clone().into_bytes();
        for (at, how, byte) in spoils {
            let at = at.index(found.len().max(1));
            match how {
                0 => found.insert(at, byte),
                1 if at < found.len() => drop(found.remove(at)),
                2 => found.truncate(at),
                _ => found.iter_mut().skip(at).take(1).for_each(|there| *there = byte),
            }
        }
        let difference = Difference::between(&expected, &found);
        let is_true = String::from_utf8_lossy(&found).trim_end_matches('\0') == expected;
        let is_cut = found.windows(3).any(|three| three == b"...");
        prop_assert!(is_true || is_cut || !difference.is_nothing(), "{}", String::from_utf8_lossy(&found));
        prop_assert!(is_harmless(&difference.to_string()));
        // A peer's text is as harmless on the other side.
        prop_assert!(is_harmless(&Difference::between(&found, &expected).to_string()));
    }

    #[test]
    fn any_bytes_are_harmless(found in vec(any::<u8>(), 0..3000)) {
        let text = Difference::between("{a: u8 @0} 1/1", &found).to_string();
        prop_assert!(is_harmless(&text), "{text}");
    }

    #[test]
    fn any_tokens_are_harmless(
        tokens in vec(prop::sample::select(vec!["{", "}", "[", "]", "; ", ", ", ": ", " @", " ", "/", "...", "a", "u8", "0", "7", "é"]), 0..1200),
    ) {
        let found = tokens.concat();
        let text = Difference::between("{a: [{a: u8 @0}; 7] @0} 7/7", &found).to_string();
        prop_assert!(is_harmless(&text), "{text}");
    }
}
