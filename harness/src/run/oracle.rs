//! The judge of what arrives: per producer, every message once, whole and in order.
//!
//! It knows nothing about structures: it is told of messages in the order in which one consumer saw them, goes on
//! after a fault, and counts each fault once and in one column.
//!
//! | what arrives | counted as |
//! |---|---|
//! | the next message | received |
//! | a later one | received; the ones between as lost, until they turn up |
//! | one that was counted as lost | received and reordered, no longer lost |
//! | one that was there already | received and duplicated |
//! | one whose words do not belong together | received and torn; it stands for the message that it names, or the next |

use serde::{Deserialize, Serialize};

use super::message;

/// How many gaps per producer are remembered; what turns up from an older gap counts as duplicated, not reordered.
const GAPS: usize = 1024;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) torn: u64,
}

impl Tally {
    /// Whether nothing was wrong with what was received.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.reordered == 0 && self.torn == 0
    }

    /// Adds the faults of another direction; what counts as received stays.
    pub(crate) fn add_faults(&mut self, other: &Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.torn += other.torn;
    }
}

/// What is known of one producer.
#[derive(Debug, Default)]
struct Lane {
    next: u64,
    /// Runs of sequences that have not arrived, in order.
    gaps: Vec<(u64, u64)>,
}

impl Lane {
    /// Takes a sequence out of the gaps, if it is in one.
    fn close(&mut self, sequence: u64) -> bool {
        let Some(at) = self.gaps.iter().position(|&(from, to)| (from..to).contains(&sequence)) else {
            return false;
        };
        let (from, to) = self.gaps.remove(at);
        for (at, gap) in [(at, (sequence + 1, to)), (at, (from, sequence))] {
            if gap.0 < gap.1 {
                self.gaps.insert(at, gap);
            }
        }
        self.gaps.truncate(GAPS);
        true
    }
}

/// The judge. Producers are numbered from zero.
#[derive(Debug)]
pub(crate) struct Oracle {
    lanes: Vec<Lane>,
    tally: Tally,
}

impl Oracle {
    /// A judge of this many producers.
    pub(crate) fn new(producers: u8) -> Self {
        let lanes = (0..producers).map(|_| Lane::default()).collect();
        Self { lanes, tally: Tally::default() }
    }

    /// Follows one producer closely, for a loop that sees nobody else.
    pub(crate) fn follow(&mut self, producer: u8) -> Follow<'_> {
        let next = self.next(producer);
        Follow { oracle: self, producer, next }
    }

    /// Looks at a message of any kind: its first word, and a test whether the rest is that of a name.
    #[inline(always)]
    pub(crate) fn see_as(&mut self, first_word: u64, whole: impl Fn(u64) -> bool) {
        let (producer, _) = message::parts(first_word >> 16);
        if let Some(lane) = self.lanes.get_mut(usize::from(producer)) {
            let name = message::name(producer, lane.next);
            if first_word == message::first_word(name) && whole(name) {
                lane.next += 1;
                self.tally.received += 1;
                return;
            }
        }
        self.judge(first_word, whole);
    }

    /// The sequence that this producer must send next.
    #[inline(always)]
    pub(crate) fn next(&self, producer: u8) -> u64 {
        self.lanes.get(usize::from(producer)).map_or(0, |lane| lane.next)
    }

    /// The rare case: anything but the next message as it must be.
    #[cold]
    #[inline(never)]
    fn judge(&mut self, first_word: u64, whole: impl Fn(u64) -> bool) {
        self.tally.received += 1;
        let Some(name) = message::name_of(first_word) else {
            return self.stand_in(first_word);
        };
        let (producer, sequence) = message::parts(name);
        let Some(lane) = self.lanes.get_mut(usize::from(producer)) else {
            self.tally.torn += 1;
            return;
        };
        self.tally.torn += u64::from(!whole(name));
        if sequence >= lane.next {
            let missing = sequence - lane.next;
            if missing > 0 {
                self.tally.lost += missing;
                if lane.gaps.len() < GAPS {
                    lane.gaps.push((lane.next, sequence));
                }
            }
            lane.next = sequence + 1;
        } else if lane.close(sequence) {
            self.tally.lost -= 1;
            self.tally.reordered += 1;
        } else {
            self.tally.duplicated += 1;
        }
    }

    /// A message without a name that can be read stands for the next of the producer that it seems to be from.
    fn stand_in(&mut self, first_word: u64) {
        self.tally.torn += 1;
        let (producer, _) = message::parts(first_word >> 16);
        let producer = usize::from(producer).min(self.lanes.len().saturating_sub(1));
        if let Some(lane) = self.lanes.get_mut(producer) {
            lane.next += 1;
        }
    }

    /// Messages up to here arrived as they must.
    fn settle(&mut self, producer: u8, next: u64) {
        if let Some(lane) = self.lanes.get_mut(usize::from(producer)) {
            self.tally.received += next - lane.next;
            lane.next = next;
        }
    }

    /// Ends the trial of a producer that says how many messages it sent: those that never came are lost.
    pub(crate) fn finish(&mut self, producer: u8, sent: u64) {
        if let Some(lane) = self.lanes.get_mut(usize::from(producer))
            && sent > lane.next
        {
            self.tally.lost += sent - lane.next;
            lane.next = sent;
        }
    }

    /// What was counted.
    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }
}

/// Follows one producer with the expected sequence at hand, and turns to the [`Oracle`] when something else comes.
#[derive(Debug)]
#[must_use = "what it saw counts once it ends"]
pub(crate) struct Follow<'o> {
    oracle: &'o mut Oracle,
    producer: u8,
    next: u64,
}

impl Follow<'_> {
    /// Looks at one message.
    #[inline(always)]
    pub(crate) fn see<const W: usize>(&mut self, words: &[u64; W]) {
        let first = words.first().copied().unwrap_or_default();
        self.see_as(first, |name| message::is(words, name));
    }

    /// Looks at messages that arrived together.
    #[inline(always)]
    pub(crate) fn see_all<const W: usize>(&mut self, messages: &[[u64; W]]) {
        if message::are(messages, message::name(self.producer, self.next)) {
            self.next += messages.len() as u64;
        } else {
            messages.iter().for_each(|words| self.see(words));
        }
    }

    /// Looks at a message of any kind, as [`Oracle::see_as`].
    #[inline(always)]
    pub(crate) fn see_as(&mut self, first_word: u64, whole: impl Fn(u64) -> bool) {
        let name = message::name(self.producer, self.next);
        if first_word == message::first_word(name) && whole(name) {
            self.next += 1;
        } else {
            self.next = Self::stumble(self.oracle, self.producer, self.next, first_word, whole);
        }
    }

    #[cold]
    #[inline(never)]
    fn stumble(
        oracle: &mut Oracle,
        producer: u8,
        next: u64,
        first_word: u64,
        whole: impl Fn(u64) -> bool,
    ) -> u64 {
        oracle.settle(producer, next);
        oracle.judge(first_word, whole);
        oracle.next(producer)
    }

    /// The sequence that must come next.
    #[inline(always)]
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Tells the oracle. Not left to a drop: that would keep the expected sequence in memory instead of a register.
    pub(crate) fn end(self) {
        self.oracle.settle(self.producer, self.next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use message::{make, name};

    fn told(sequences: &[u64]) -> Tally {
        let mut alone = Oracle::new(1);
        let mut oracle = Oracle::new(1);
        let mut follow = oracle.follow(0);
        for &sequence in sequences {
            let words = make::<2>(name(0, sequence));
            follow.see(&words);
            alone.see_as(words[0], |name| message::is(&words, name));
        }
        follow.end();
        for oracle in [&mut alone, &mut oracle] {
            oracle.finish(0, 6);
        }
        assert_eq!(alone.tally(), oracle.tally());
        oracle.tally()
    }

    fn tally(received: u64, [lost, duplicated, reordered, torn]: [u64; 4]) -> Tally {
        Tally { received, lost, duplicated, reordered, torn }
    }

    #[test]
    fn each_fault_is_counted_once_and_in_its_column() {
        assert_eq!(told(&[0, 1, 2, 3, 4, 5]), tally(6, [0, 0, 0, 0]));
        assert_eq!(told(&[0, 1, 3, 4, 5]), tally(5, [1, 0, 0, 0]));
        assert_eq!(told(&[0, 1, 1, 2, 3, 4, 5]), tally(7, [0, 1, 0, 0]));
        assert_eq!(told(&[0, 2, 1, 3, 4, 5]), tally(6, [0, 0, 1, 0]));
        assert_eq!(told(&[5, 4, 3, 2, 1, 0]), tally(6, [0, 0, 5, 0]));
        assert_eq!(told(&[0, 1, 2]), tally(3, [3, 0, 0, 0]));
        assert_eq!(told(&[0, 5, 3, 3]), tally(4, [3, 1, 1, 0]));
        assert_eq!(told(&[]), tally(0, [6, 0, 0, 0]));
    }

    #[test]
    fn a_torn_message_is_neither_lost_nor_twice() {
        for word in 0..2 {
            let mut oracle = Oracle::new(1);
            let mut follow = oracle.follow(0);
            follow.see(&make::<2>(name(0, 0)));
            let mut torn = make::<2>(name(0, 1));
            torn[word] ^= 1 << 17;
            follow.see(&torn);
            follow.see(&make::<2>(name(0, 2)));
            follow.end();
            oracle.finish(0, 3);
            assert_eq!(oracle.tally().torn, 1, "word {word}");
            assert_eq!(oracle.tally(), tally(3, [0, 0, 0, 1]), "word {word}");
        }
    }

    #[test]
    fn a_batch_is_judged_message_by_message_once_it_is_not_right() {
        let mut batch: Vec<_> = (0..32).map(|i| make::<8>(name(0, i))).collect();
        batch.swap(3, 4);
        batch[20][7] ^= 1;
        batch.remove(9);
        let mut oracle = Oracle::new(1);
        let mut follow = oracle.follow(0);
        follow.see_all(&batch);
        let more: Vec<_> = (32..64).map(|i| make::<8>(name(0, i))).collect();
        follow.see_all(&more);
        follow.end();
        oracle.finish(0, 64);
        assert_eq!(oracle.tally(), tally(63, [1, 0, 1, 1]));
    }

    #[test]
    fn producers_are_judged_apart_and_strangers_are_torn() {
        let mut oracle = Oracle::new(2);
        for (producer, sequence) in [(0, 0), (1, 0), (1, 1), (0, 1), (2, 0)] {
            oracle.see_as(message::first_word(name(producer, sequence)), |_| true);
        }
        assert_eq!(oracle.tally(), tally(5, [0, 0, 0, 1]));
        assert_eq!([oracle.next(0), oracle.next(1), oracle.next(2)], [2, 2, 0]);
    }
}
