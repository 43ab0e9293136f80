//! What a message's layout says, and how two of them are told apart.
#![forbid(unsafe_code)]

use tidewire::{Difference, Layout, Message};

#[derive(Clone, Copy, Debug, PartialEq, Message)]
#[repr(C)]
struct Leg {
    quantity: u32,
    price: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Message)]
#[repr(C)]
struct Tick {
    id: u64,
    price: f64,
    legs: [Leg; 2],
}

#[derive(Clone, Copy, Message)]
#[repr(transparent)]
struct Price(u64);

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Pair(u32, [u8; Pair::REST]);

impl Pair {
    const REST: usize = 4;
}

#[derive(Clone, Copy, Message)]
#[repr(C, align(64))]
struct Line {
    words: [u64; 8],
}

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Odd {
    r#type: u16,
    größe: u16,
    rest: u32,
    nested: [Price; 1],
}

/// One type per way to change `Tick`.
mod changed {
    use super::{Leg, Message};

    #[derive(Clone, Copy, Message)]
    #[repr(C)]
    pub(super) struct Renamed {
        id: u64,
        price: f64,
        legs: [Leg; 2],
    }
    #[derive(Clone, Copy, Message)]
    #[repr(C)]
    pub(super) struct FieldName {
        id: u64,
        cost: f64,
        legs: [Leg; 2],
    }
    #[derive(Clone, Copy, Message)]
    #[repr(C)]
    pub(super) struct FieldType {
        id: u64,
        price: i64,
        legs: [Leg; 2],
    }
    #[derive(Clone, Copy, Message)]
    #[repr(C)]
    pub(super) struct Order {
        price: f64,
        id: u64,
        legs: [Leg; 2],
    }
    #[derive(Clone, Copy, Message)]
    #[repr(C)]
    pub(super) struct OtherLeg {
        quantity: u32,
        price: i32,
    }
    #[derive(Clone, Copy, Message)]
    #[repr(C)]
    pub(super) struct Nested {
        id: u64,
        price: f64,
        legs: [OtherLeg; 2],
    }
    #[derive(Clone, Copy, Message)]
    #[repr(C)]
    pub(super) struct Flattened {
        id: u64,
        price: f64,
        legs: [[u32; 2]; 2],
    }
    #[derive(Clone, Copy, Message)]
    #[repr(C)]
    pub(super) struct Count {
        id: u64,
        price: f64,
        legs: [Leg; 3],
    }
    #[derive(Clone, Copy, Message)]
    #[repr(C)]
    pub(super) struct Missing {
        id: u64,
        legs: [Leg; 2],
    }
    #[derive(Clone, Copy, Message)]
    #[repr(C)]
    pub(super) struct Extra {
        id: u64,
        price: f64,
        legs: [Leg; 2],
        venue: u64,
    }
    #[derive(Clone, Copy, Message)]
    #[repr(C, align(32))]
    pub(super) struct Aligned {
        id: u64,
        price: f64,
        legs: [Leg; 2],
    }
}

fn difference<E: Message, F: Message>() -> String {
    Difference::between(E::LAYOUT.describe(), F::LAYOUT.describe()).to_string()
}

/// FNV-1a as its authors define it, written apart from the library.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(14_695_981_039_346_656_037, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211)
    })
}

#[test]
fn the_text_names_every_field_with_its_type_and_offset() {
    assert_eq!(
        Tick::LAYOUT.describe(),
        "{id: u64 @0, price: f64 @8, legs: [{quantity: u32 @0, price: u32 @4}; 2] @16} 32/8"
    );
    assert_eq!(Price::LAYOUT.describe(), "{0: u64 @0} 8/8");
    assert_eq!(Pair::LAYOUT.describe(), "{0: u32 @0, 1: [u8; 4] @4} 8/4");
    assert_eq!(Line::LAYOUT.describe(), "{words: [u64; 8] @0} 64/64");
    assert_eq!(
        Odd::LAYOUT.describe(),
        "{type: u16 @0, größe: u16 @2, rest: u32 @4, nested: [{0: u64 @0}; 1] @8} 16/8"
    );
}

#[test]
fn numbers_and_arrays_are_messages() {
    fn text<T: Message>() -> String {
        T::LAYOUT.describe()
    }
    let found = [
        text::<u8>(),
        text::<u16>(),
        text::<u32>(),
        text::<u64>(),
        text::<i8>(),
        text::<i16>(),
        text::<i32>(),
        text::<i64>(),
        text::<f32>(),
        text::<f64>(),
        text::<[u8; 1000]>(),
        text::<[[Leg; 3]; 7]>(),
    ];
    let expected = [
        "u8 1/1",
        "u16 2/2",
        "u32 4/4",
        "u64 8/8",
        "i8 1/1",
        "i16 2/2",
        "i32 4/4",
        "i64 8/8",
        "f32 4/4",
        "f64 8/8",
        "[u8; 1000] 1000/1",
        "[[{quantity: u32 @0, price: u32 @4}; 3]; 7] 168/4",
    ];
    assert_eq!(found.each_ref().map(String::as_str), expected);
    for (text, align) in [(text::<u128>(), align_of::<u128>()), (text::<i128>(), align_of::<i128>())] {
        assert_eq!(text.split_once("128 "), Some((&text[..1], format!("16/{align}").as_str())), "{text}");
    }
}

#[test]
fn the_layout_is_that_of_the_type() {
    let layout: &Layout = Tick::LAYOUT;
    assert_eq!(
        (layout.name(), layout.size(), layout.align()),
        ("Tick", size_of::<Tick>(), align_of::<Tick>())
    );
    let fields: Vec<_> =
        layout.fields().iter().map(|field| (field.name(), field.offset(), field.layout().size())).collect();
    assert_eq!(fields, [("id", 0, 8), ("price", 8, 8), ("legs", 16, 16)]);
    let (leg, len) = layout.fields()[2].layout().element().expect("an array");
    assert_eq!((leg.name(), len, leg.fields().len()), ("Leg", 2, 2));
    assert!(layout.element().is_none() && u8::LAYOUT.element().is_none() && u8::LAYOUT.fields().is_empty());
    assert_eq!((u8::LAYOUT.name(), <[u8; 3]>::LAYOUT.name()), ("u8", "array"));
}

#[test]
fn a_derived_struct_is_pod() {
    let tick = Tick { id: 7, price: 1.5, legs: [Leg { quantity: 1, price: 2 }; 2] };
    let bytes = bytemuck::bytes_of(&tick).to_vec();
    assert_eq!(bytes.len(), 32);
    assert_eq!(bytemuck::pod_read_unaligned::<Tick>(&bytes), tick);
    let Price(zero) = bytemuck::Zeroable::zeroed();
    assert_eq!(zero, 0);
}

#[test]
fn the_fingerprint_is_the_hash_of_the_text() {
    const AT_COMPILE_TIME: u64 = Tick::LAYOUT.fingerprint();
    for layout in [Tick::LAYOUT, Leg::LAYOUT, Odd::LAYOUT, Line::LAYOUT, u8::LAYOUT, <[Tick; 9]>::LAYOUT] {
        assert_eq!(layout.fingerprint(), fnv(layout.describe().as_bytes()), "{}", layout.describe());
    }
    assert_eq!(AT_COMPILE_TIME, Tick::LAYOUT.fingerprint());
}

#[test]
fn every_change_of_a_field_changes_the_fingerprint() {
    let all = [
        Tick::LAYOUT,
        changed::FieldName::LAYOUT,
        changed::FieldType::LAYOUT,
        changed::Order::LAYOUT,
        changed::Nested::LAYOUT,
        changed::Flattened::LAYOUT,
        changed::Count::LAYOUT,
        changed::Missing::LAYOUT,
        changed::Extra::LAYOUT,
        changed::Aligned::LAYOUT,
        <[Tick; 1]>::LAYOUT,
        Price::LAYOUT,
        u64::LAYOUT,
        i64::LAYOUT,
        f64::LAYOUT,
        <[u64; 1]>::LAYOUT,
    ];
    let prints: std::collections::BTreeSet<u64> = all.iter().map(|layout| layout.fingerprint()).collect();
    assert_eq!(prints.len(), all.len());
    assert!(!prints.contains(&0));
}

#[test]
fn another_name_of_the_struct_changes_nothing() {
    assert_eq!(Tick::LAYOUT.fingerprint(), changed::Renamed::LAYOUT.fingerprint());
    assert_eq!(
        difference::<Tick, changed::Renamed>(),
        "no difference between the descriptions of the layouts"
    );
}

#[test]
fn the_difference_names_the_first_field_that_differs() {
    let found = [
        difference::<Tick, changed::FieldName>(),
        difference::<Tick, changed::FieldType>(),
        difference::<Tick, changed::Order>(),
        difference::<Tick, changed::Nested>(),
        difference::<Tick, changed::Flattened>(),
        difference::<Tick, changed::Count>(),
        difference::<Tick, changed::Missing>(),
        difference::<Tick, changed::Extra>(),
        difference::<changed::Extra, Tick>(),
        difference::<Tick, changed::Aligned>(),
        difference::<[Tick; 2], [changed::FieldType; 2]>(),
        difference::<[Tick; 2], [Tick; 3]>(),
        difference::<u64, i64>(),
        difference::<u64, Price>(),
    ];
    let legs = "[{quantity: u32 @0, price: u32 @4}; 2]";
    let tick = Tick::LAYOUT.describe().replace(" 32/8", "");
    let expected = [
        "field 2: expected `price: f64 @8`, found `cost: f64 @8`".into(),
        "field `price`: expected f64 @8, found i64 @8".into(),
        "field 1: expected `id: u64 @0`, found `price: f64 @0`".into(),
        "field `legs[].price`: expected u32 @4, found i32 @4".into(),
        format!("field `legs`: expected {legs} @16, found [[u32; 2]; 2] @16"),
        format!("field `legs`: expected {legs} @16, found {} @16", legs.replace("; 2]", "; 3]")),
        "field `price`: expected f64 @8, found no such field".into(),
        "field `venue`: expected no such field, found u64 @32".into(),
        "field `venue`: expected u64 @32, found no such field".into(),
        "alignment: expected 8 bytes, found 32".into(),
        "field `[].price`: expected f64 @8, found i64 @8".into(),
        format!("expected a message [{tick}; 2], found [{tick}; 3]"),
        "expected a message u64, found i64".into(),
        "expected a message u64, found {0: u64 @0}".into(),
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_difference_says_which_field_it_is_and_whether_there_is_one() {
    let ours = "{a: u8 @0, b: {c: u8 @0} @1} 2/1";
    let of = |found: &str| Difference::between(ours, found);
    assert_eq!(of("{a: u8 @0, b: {c: i8 @0} @1} 2/1").field(), Some("b.c"));
    assert_eq!(of("{a: u8 @0, b: {c: u8 @0} @2} 3/1").field(), Some("b"));
    assert_eq!(of("{a: u8 @0, b: {c: u8 @0} @1} 3/1").to_string(), "size: expected 2 bytes, found 3");
    assert_eq!(
        of("{a: u8 @0, b: {d: u8 @0} @1} 2/1").to_string(),
        "field 1 of `b`: expected `c: u8 @0`, found `d: u8 @0`"
    );
    assert!(of(ours).is_nothing() && !of("").is_nothing());
    assert!(of(&format!("{ours}\0\0\0")).is_nothing());
}

mod long {
    use super::Message;

    #[derive(Clone, Copy, Message)]
    #[repr(C)]
    pub(super) struct Part {
        a_name_that_takes_a_lot_of_room_in_the_description_of_the_layout: u64,
        another_name_that_takes_a_lot_of_room_in_the_description: u64,
        a_third_name_that_takes_a_lot_of_room_in_the_description: u64,
    }
    #[derive(Clone, Copy, Message)]
    #[repr(C)]
    pub(super) struct Whole {
        first: Part,
        second: Part,
        third: Part,
        fourth: Part,
        fifth: Part,
        sixth: Part,
    }
    #[derive(Clone, Copy, Message)]
    #[repr(C)]
    pub(super) struct Other {
        first: Part,
        second: Part,
        third: Part,
        fourth: Part,
        fifth: Part,
        seventh: Part,
    }
    #[derive(Clone, Copy, Message)]
    #[repr(C)]
    pub(super) struct Longer {
        whole: Other,
        last: u64,
    }
}

#[test]
fn a_long_text_is_cut_behind_a_whole_field_and_keeps_its_size() {
    let text = long::Whole::LAYOUT.describe();
    assert!(text.len() <= Layout::MAX_DESCRIPTION_BYTES && text.len() > 800, "{}", text.len());
    assert!(text.ends_with(", ... 144/8"), "{text}");
    let kept = text.trim_end_matches(", ... 144/8");
    assert!(
        kept.ends_with("@8") || kept.ends_with("@0") || kept.ends_with("@16") || kept.ends_with("@72"),
        "{text}"
    );
}

#[test]
fn what_is_cut_still_counts_in_the_fingerprint() {
    let (whole, other) = (long::Whole::LAYOUT, long::Other::LAYOUT);
    assert_eq!(whole.describe(), other.describe());
    assert_ne!(whole.fingerprint(), other.fingerprint());
    let difference = Difference::between(whole.describe(), other.describe());
    assert!(difference.is_nothing());
    assert_eq!(
        difference.to_string(),
        "no difference in the part of the descriptions of the layouts that is kept"
    );
}

#[test]
fn cut_texts_are_compared_as_far_as_they_go() {
    assert_eq!(difference::<long::Whole, long::Part>().split(':').next(), Some("field 1"),);
    assert_eq!(
        Difference::between(
            "{a: u8 @0, b: [{c: u8 @0, ... 9/1",
            "{a: u8 @0, b: [{c: u8 @0, d: u8 @1}; 4] @1} 9/1"
        )
        .to_string(),
        "no difference in the part of the descriptions of the layouts that is kept"
    );
    assert_eq!(
        Difference::between("{a: u8 @0, b: [{c: u8 @0, ... 9/1", "{a: u8 @0, ... 8/1").to_string(),
        "size: expected 9 bytes, found 8"
    );
    assert_eq!(
        Difference::between(
            "{a: u8 @0, b: [{c: u8 @0, ... 9/1",
            "{a: u8 @0, b: [{c: i8 @0}; 3] @1, d: u8 @4} 5/1"
        )
        .field(),
        Some("b[].c")
    );
    // What stands behind the cut is not known to be missing.
    assert_eq!(
        Difference::between("{a: u8 @0, b: u8 @1} 2/1", "{b: u8 @0, ... 9/1").to_string(),
        "field 1: expected `a: u8 @0`, found `b: u8 @0`"
    );
    assert_eq!(Difference::between("... 9/1", "u8 1/1").to_string(), "size: expected 9 bytes, found 1");
}

#[test]
fn what_cannot_be_read_is_shown_short_and_without_control_characters() {
    let ours = "{a: u8 @0} 1/1";
    let unreadable = |found: &[u8]| Difference::between(ours, found).to_string();
    assert_eq!(
        unreadable(b""),
        "expected a description such as `{id: u64 @0} 8/8`, found ``, unreadable from byte 0"
    );
    assert_eq!(
        unreadable(b"{a: u8 \x1b[31m"),
        "expected a description such as `{id: u64 @0} 8/8`, found `{a: u8 \\u{1b}[31m`, unreadable from byte 6"
    );
    for found in [
        &b"{a: u8 @00} 1/1"[..],
        b"{a: u8 @0} 1/99999999999999999999999",
        b"{a: u8 @0} 1/1 ",
        b"{} 0/1",
        b"{a: u8 @0",
        b"{a: u8 @0}",
        b"{a:  u8 @0} 1/1",
        b"[u8; -1] 1/1",
        b"\xff\xfe",
        &[b'['; 4096],
        &[b'{'; 1024],
        &[b'a'; 1025],
        "\u{202e}".repeat(400).as_bytes(),
    ] {
        let text = unreadable(found);
        assert!(text.contains("unreadable from byte"), "{text}");
        assert!(text.len() < 4096 && !text.contains(|c: char| c.is_control() || c == '\u{202e}'), "{text}");
    }
    let ours_is = Difference::between("?", ours).to_string();
    assert!(ours_is.contains("ours is `?`"), "{ours_is}");
}

mod elsewhere {
    pub(crate) mod bus {
        pub(crate) use tidewire::{__private, FieldLayout, Layout, Message};
    }
}

/// With the crate under another name, and with the usual names taken.
mod hidden {
    #![expect(dead_code, non_camel_case_types, reason = "names that the generated code must not meet")]
    struct Layout;
    struct FieldLayout;
    struct PhantomData;
    struct u64;
    mod core {}
    mod tidewire {}

    #[derive(Clone, Copy, super::elsewhere::bus::Message)]
    #[message(crate = super::elsewhere::bus)]
    #[repr(C)]
    pub(super) struct Value {
        pub(super) value: ::core::primitive::u64,
    }
}

#[test]
fn the_derive_works_through_an_export_and_among_taken_names() {
    assert_eq!(hidden::Value::LAYOUT.describe(), "{value: u64 @0} 8/8");
    assert_eq!(hidden::Value { value: 3 }.value, 3);
}

#[test]
fn a_long_type_is_shown_with_its_start_and_its_end() {
    let inner = "a_long_name: u64 @0, another_long_name: u64 @8, a_third_long_name: u64 @16, the_last_long_name: u64 @24";
    let of = |len: u32| format!("{{id: u64 @0, parts: [{{{inner}}}; {len}] @8}} {}/8", 8 + 32 * len);
    assert_eq!(
        Difference::between(of(2), of(30)).to_string(),
        "field `parts`: expected [{a_long_name: u64 @0, another_long_name: u64 @8, a_third_long_n...the_last_long_name: u64 @24}; 2] \
         @8, found [{a_long_name: u64 @0, another_long_name: u64 @8, a_third_long_n...he_last_long_name: u64 @24}; 30] @8"
    );
}
