//! The place of one ordering, its record, and what it is weakened to.

use std::fmt;

/// What an atomic operation does; the names are those of the seam's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Load,
    Store,
    Rmw,
    CasFail,
    Fence,
}

impl Kind {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Load, "load"),
        (Self::Store, "store"),
        (Self::Rmw, "rmw"),
        (Self::CasFail, "casfail"),
        (Self::Fence, "fence"),
    ];

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(kind, known)| (known == name).then_some(kind))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.into_iter().find_map(|(kind, name)| (kind == *self).then_some(name));
        f.write_str(name.unwrap_or_default())
    }
}

/// A memory ordering; `None` is a fence that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    SeqCst,
    AcqRel,
    Acquire,
    Release,
    Relaxed,
    None,
}

impl Order {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "SeqCst" => Some(Self::SeqCst),
            "AcqRel" => Some(Self::AcqRel),
            "Acquire" => Some(Self::Acquire),
            "Release" => Some(Self::Release),
            "Relaxed" => Some(Self::Relaxed),
            "None" => Some(Self::None),
            _ => None,
        }
    }

    /// The ways to weaken this ordering, mildest level first. A weaker level is worth trying only if a mutant of the
    /// level before it survived.
    pub(super) fn levels(self, kind: Kind) -> &'static [&'static [Self]] {
        use Kind::{CasFail, Fence, Load, Rmw, Store};
        match (kind, self) {
            (Load | CasFail, Self::SeqCst) => &[&[Self::Acquire], &[Self::Relaxed]],
            (Store, Self::SeqCst) => &[&[Self::Release], &[Self::Relaxed]],
            (Rmw, Self::SeqCst) => &[&[Self::AcqRel], &[Self::Acquire, Self::Release], &[Self::Relaxed]],
            (Rmw, Self::AcqRel) => &[&[Self::Acquire, Self::Release], &[Self::Relaxed]],
            (Load | CasFail | Rmw, Self::Acquire) | (Store | Rmw, Self::Release) => &[&[Self::Relaxed]],
            (Fence, Self::SeqCst) => &[&[Self::AcqRel], &[Self::Acquire, Self::Release], &[Self::None]],
            (Fence, Self::AcqRel) => &[&[Self::Acquire, Self::Release], &[Self::None]],
            (Fence, Self::Acquire | Self::Release) => &[&[Self::None]],
            _ => &[],
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A place in the sources, as the compiler names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) column: u32,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One ordering of one operation: what the seam records, one a line, as `file:line:column kind ordering`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Site {
    pub(super) at: At,
    pub(super) kind: Kind,
    pub(super) order: Order,
}

impl Site {
    /// Parses a line of a record; says what is wrong with it.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let wrong = || format!("expected `file:line:column kind ordering`, found `{line}`");
        let mut words = line.split(' ');
        let (Some(at), Some(kind), Some(order), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(wrong());
        };
        let (at, column) = at.rsplit_once(':').ok_or_else(wrong)?;
        let (file, line) = at.rsplit_once(':').ok_or_else(wrong)?;
        let at = At {
            file: file.to_owned(),
            line: line.parse().map_err(|_| wrong())?,
            column: column.parse().map_err(|_| wrong())?,
        };
        let kind = Kind::parse(kind).ok_or_else(wrong)?;
        let order = Order::parse(order).ok_or_else(wrong)?;
        if at.file.is_empty() { Err(wrong()) } else { Ok(Self { at, kind, order }) }
    }

    /// What `TIDEWIRE_ORD_MUTANT` must say.
    pub(super) fn mutant(&self, to: Order) -> String {
        format!("{} {} {to}", self.at, self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let site = Site::parse("ring/src/role.rs:103:20 casfail Relaxed").unwrap();
        assert_eq!(site.at.to_string(), "ring/src/role.rs:103:20");
        assert_eq!((site.kind, site.order), (Kind::CasFail, Order::Relaxed));
        assert_eq!(site.mutant(Order::None), "ring/src/role.rs:103:20 casfail None");
    }

    #[test]
    fn what_is_no_record_is_refused_with_what_was_found() {
        for line in [
            "",
            "a",
            "a:1 load Acquire",
            ":1:2 load Acquire",
            "a:1:2 load",
            "a:1:2 look Acquire",
            "a:1:2 load Strong",
            "a:x:2 load Acquire",
            "a:1:2 load Acquire more",
            "a:1:2  load Acquire",
            "a:99999999999:2 load Acquire",
            "\u{0}\u{fffd}",
        ] {
            let error = Site::parse(line).unwrap_err();
            assert!(error.contains(&format!("found `{line}`")), "{error}");
        }
    }

    #[test]
    fn every_level_is_weaker_than_the_one_before() {
        /// What an ordering does at a load and at a store.
        fn halves(order: Order) -> [bool; 3] {
            let full = matches!(order, Order::SeqCst | Order::AcqRel);
            [order == Order::SeqCst, full || order == Order::Acquire, full || order == Order::Release]
        }
        let kinds = [Kind::Load, Kind::Store, Kind::Rmw, Kind::CasFail, Kind::Fence];
        let orders = [Order::SeqCst, Order::AcqRel, Order::Acquire, Order::Release];
        for (kind, order) in kinds.iter().flat_map(|kind| orders.map(|order| (*kind, order))) {
            let mut before = vec![order];
            for level in order.levels(kind) {
                for weak in *level {
                    let weaker = before.iter().all(|strong| {
                        let pairs = halves(*weak).into_iter().zip(halves(*strong));
                        strong != weak && pairs.clone().all(|(weak, strong)| strong || !weak)
                    });
                    assert!(weaker, "{kind} {order}: {weak} is not weaker than {before:?}");
                }
                before = level.to_vec();
            }
            let last = before.last().copied();
            let ends = last == Some(if kind == Kind::Fence { Order::None } else { Order::Relaxed });
            let impossible = matches!(
                (kind, order),
                (Kind::Load | Kind::CasFail, Order::Release | Order::AcqRel)
                    | (Kind::Store, Order::Acquire | Order::AcqRel)
            );
            assert!(ends || impossible, "{kind} {order} is never removed");
        }
    }

    #[test]
    fn nothing_is_weaker_than_relaxed() {
        for kind in [Kind::Load, Kind::Store, Kind::Rmw, Kind::CasFail] {
            assert!(Order::Relaxed.levels(kind).is_empty());
        }
    }
}
