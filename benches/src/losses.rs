//! Where another contender, or another tuning of ours, does better: by more than the spread of the rounds, or not.

use crate::cells::Group;
use crate::pair::Mode;
use crate::peers;
use crate::probe::Regime;
use crate::record::{CellRecord, Record};
use crate::summary::{Headline, Spread, View, headlines};

/// Fewer rounds that both have samples of say nothing about the spread.
pub const ROUNDS: usize = 3;
/// Medians of ratios that are closer to 1 are shown as 1.00, and are.
pub const SAME: f64 = 0.005;

/// What a worse median is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Worse in each round.
    Lost,
    /// Worse, in too few rounds to know the spread.
    TooFew,
    /// Better in some rounds, worse in others, or the same in all digits that are shown.
    Even,
}

impl Standing {
    /// Judges the ratios of ours to another's, formed inside rounds, where the median of ours alone is the worse one; none
    /// if there is no round that both have samples of.
    #[must_use]
    pub fn of(ratio: Option<Spread>, more_is_better: bool) -> Self {
        let Some(ratio) = ratio else { return Self::TooFew };
        let worse = if more_is_better { ratio.max < 1.0 } else { ratio.min > 1.0 };
        match (worse, ratio.n < ROUNDS) {
            _ if (ratio.median - 1.0).abs() < SAME => Self::Even,
            (_, true) => Self::TooFew,
            (true, false) => Self::Lost,
            (false, false) => Self::Even,
        }
    }
}

/// Who does better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rival {
    /// A peer.
    Peer,
    /// A tuning of ours that is not the default.
    Ours,
}

/// A comparison in which ours as it comes has the worse median.
#[derive(Clone, Debug)]
pub struct Worse<'r> {
    /// The cell.
    pub cell: &'r CellRecord,
    /// Between what.
    pub mode: Mode,
    /// The regime.
    pub regime: Regime,
    /// The number that is compared.
    pub headline: &'static Headline,
    /// Ours, and its numbers.
    pub ours: (&'static str, Spread),
    /// Who does better.
    pub rival: Rival,
    /// Its name and numbers.
    pub other: (&'r str, Spread),
    /// Ours over the other's in the rounds that both have samples of.
    pub ratio: Option<Spread>,
    /// What that is worth.
    pub standing: Standing,
}

/// All of them, and how many comparisons there are in which ours has samples.
#[must_use]
pub fn find(record: &Record) -> (Vec<Worse<'_>>, usize) {
    let (mut found, mut compared) = (Vec::new(), 0);
    for cell in &record.cells {
        for mode in [Mode::Processes, Mode::Threads] {
            for regime in Regime::ALL {
                let view = View::new(record, &cell.name, mode, regime);
                for headline in headlines(cell.kind) {
                    let ours = peers::ours(cell.group);
                    // Where the default takes no part, the next of ours does.
                    let mine =
                        ours.iter().find_map(|name| Some((*name, view.spread(name, headline.metric)?)));
                    let Some(ours) = mine else { continue };
                    compared += 1;
                    let rivals = [Rival::Peer, Rival::Ours].into_iter();
                    found.extend(rivals.filter_map(|rival| {
                        let (other, ratio, standing) = worst(cell, view, headline, ours, rival)?;
                        Some(Worse { cell, mode, regime, headline, ours, rival, other, ratio, standing })
                    }));
                }
            }
        }
    }
    (found, compared)
}

/// The best of those rivals that are worth the most, if any of them has the better median.
fn worst<'r>(
    cell: &'r CellRecord,
    view: View<'_>,
    headline: &Headline,
    (name, mine): (&str, Spread),
    rival: Rival,
) -> Option<((&'r str, Spread), Option<Spread>, Standing)> {
    let more = headline.more;
    let is_better = |a: f64, b: f64| if more { a > b } else { a < b };
    let others = cell.contenders.iter().filter(|other| is_rival(cell.group, other, rival));
    let better = others.filter_map(|other| {
        let spread = view.spread(other, headline.metric)?;
        if !is_better(spread.median, mine.median) {
            return None;
        }
        let ratio = view.ratio(name, headline.metric, other, headline.metric);
        Some(((other.as_str(), spread), ratio, Standing::of(ratio, more)))
    });
    better.min_by(|((_, a), _, of_a), ((_, b), _, of_b)| {
        let order = a.median.total_cmp(&b.median);
        of_a.cmp(of_b).then(if more { order.reverse() } else { order })
    })
}

fn is_rival(group: Group, name: &str, rival: Rival) -> bool {
    let ours = peers::ours(group).contains(&name);
    match rival {
        Rival::Ours => ours,
        Rival::Peer => !ours && !peers::LIMITS.contains(&name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(numbers: &[f64]) -> Option<Spread> {
        Spread::of(numbers.iter().copied())
    }

    #[test]
    fn worse_in_each_round_is_lost() {
        assert_eq!(Standing::of(ratio(&[0.79, 0.83, 0.98]), true), Standing::Lost);
        assert_eq!(Standing::of(ratio(&[1.02, 1.2, 1.3]), false), Standing::Lost);
    }

    #[test]
    fn rounds_on_both_sides_of_one_are_even() {
        assert_eq!(Standing::of(ratio(&[0.79, 0.83, 1.01]), true), Standing::Even);
        assert_eq!(Standing::of(ratio(&[0.99, 1.2, 1.3]), false), Standing::Even);
    }

    #[test]
    fn a_round_without_a_difference_is_not_worse() {
        assert_eq!(Standing::of(ratio(&[0.9, 0.9, 1.0]), true), Standing::Even);
        assert_eq!(Standing::of(ratio(&[1.1, 1.1, 1.0]), false), Standing::Even);
    }

    #[test]
    fn what_is_shown_as_the_same_is_even() {
        assert_eq!(Standing::of(ratio(&[0.996, 0.997, 0.998]), true), Standing::Even);
        assert_eq!(Standing::of(ratio(&[1.0001]), false), Standing::Even, "in whatever number of rounds");
        assert_eq!(Standing::of(ratio(&[0.99, 0.99, 0.99]), true), Standing::Lost);
    }

    #[test]
    fn a_spread_needs_rounds() {
        assert_eq!(Standing::of(ratio(&[0.1, 0.2]), true), Standing::TooFew);
        assert_eq!(Standing::of(ratio(&[0.9, 1.2]), true), Standing::TooFew);
        assert_eq!(Standing::of(None, true), Standing::TooFew, "no round that both have samples of");
    }
}
