//! Messages that say who sent them, which one they are, and whether they are whole.
//!
//! A message is a run of words. Word 0 names it: producer, sequence, and a check of both. Every further word is a
//! mix of that name and of the word's place, so that a word of another message, or of another place, is seen
//! wherever it stands. All of it is additions and shifts of consecutive numbers: a compiler can do several at once.
//!
//! # Layout
//! ```text
//! word 0     producer 8 bits | sequence 40 bits | check 16 bits
//! word i     (name * MIX) rotated, plus i * STEP
//! ```

/// Sequences are below this; a run sends fewer messages.
pub(crate) const MAX_SEQUENCE: u64 = 1 << 40;
/// Bytes of a word.
pub(crate) const WORD: usize = 8;

const CHECK_BITS: u32 = 16;
const PRODUCER_SHIFT: u32 = 40;
/// Odd, so that different names have different products.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
const STEP: u64 = 0xd134_2543_de82_ef95;

/// Producer and sequence in one number: consecutive for consecutive messages of one producer.
#[inline(always)]
pub(crate) const fn name(producer: u8, sequence: u64) -> u64 {
    ((producer as u64) << PRODUCER_SHIFT).wrapping_add(sequence)
}

/// The first word of the message of this name.
#[inline(always)]
pub(crate) const fn first_word(name: u64) -> u64 {
    (name << CHECK_BITS) | (name.wrapping_mul(MIX) >> (u64::BITS - CHECK_BITS))
}

/// The name that a first word carries, if its check is right.
#[inline(always)]
pub(crate) const fn name_of(word: u64) -> Option<u64> {
    let name = word >> CHECK_BITS;
    if first_word(name) == word { Some(name) } else { None }
}

/// Splits a name into producer and sequence.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "eight bits are left")]
pub(crate) const fn parts(name: u64) -> (u8, u64) {
    ((name >> PRODUCER_SHIFT) as u8, name & (MAX_SEQUENCE - 1))
}

/// What the words behind the first are counted from.
#[inline(always)]
const fn body(name: u64) -> u64 {
    name.wrapping_mul(MIX).rotate_left(32)
}

/// Word `place` of the message of this name.
#[inline(always)]
pub(crate) fn word(name: u64, place: usize) -> u64 {
    if place == 0 { first_word(name) } else { body(name).wrapping_add(STEP.wrapping_mul(place as u64)) }
}

/// Fills a message of any number of words.
#[inline(always)]
pub(crate) fn fill(words: &mut [u64], name: u64) {
    let mut next = body(name);
    for word in words.iter_mut() {
        *word = next;
        next = next.wrapping_add(STEP);
    }
    if let Some(first) = words.first_mut() {
        *first = first_word(name);
    }
}

/// The message of this name.
#[inline(always)]
pub(crate) fn make<const W: usize>(name: u64) -> [u64; W] {
    let mut words = [0; W];
    fill(&mut words, name);
    words
}

/// Spoils a message in the way of a torn one: a part of it is that of the message before.
pub(crate) fn tear(words: &mut [u64], name: u64) {
    match words {
        [only] => *only ^= 0xff,
        [.., last] => {
            *last = last.wrapping_sub(body(name)).wrapping_add(body(name.wrapping_sub(1)));
        }
        [] => {}
    }
}

/// Whether these words are exactly the message of this name.
#[inline(always)]
pub(crate) fn is(words: &[u64], name: u64) -> bool {
    let Some((first, rest)) = words.split_first() else {
        return false;
    };
    let mut next = body(name);
    let mut different = first ^ first_word(name);
    for word in rest {
        next = next.wrapping_add(STEP);
        different |= word ^ next;
    }
    different == 0
}

/// Whether these are exactly the one-word or longer messages of consecutive names, from this one on.
#[inline(always)]
pub(crate) fn are<const W: usize>(messages: &[[u64; W]], name: u64) -> bool {
    if W == 1 {
        let mut name = name;
        let mut different = 0;
        for word in messages.as_flattened() {
            different |= word ^ first_word(name);
            name = name.wrapping_add(1);
        }
        return different == 0;
    }
    messages.iter().zip(name..).all(|(words, name)| is(words, name))
}

/// The length of record `sequence` of one that lies between `min` and `max` bytes, both included.
#[inline(always)]
pub(crate) const fn length(sequence: u64, min: usize, max: usize) -> usize {
    let span = (max - min) as u64 + 1;
    let mixed = sequence.wrapping_mul(MIX) >> 32;
    let more = ((mixed * span) >> 32) as usize;
    min + more
}

/// A check of any bytes, cheap enough to keep up with memory; finds torn records, not forged ones.
#[inline]
pub(crate) fn check_bytes(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<WORD>();
    let mut lanes = [body(bytes.len() as u64), STEP, MIX, 1];
    let step = |lane: &mut u64, word: u64| *lane = (*lane ^ word).wrapping_mul(MIX).rotate_left(29);
    let (groups, singles) = words.as_chunks::<4>();
    for group in groups {
        for (lane, word) in lanes.iter_mut().zip(group) {
            step(lane, u64::from_le_bytes(*word));
        }
    }
    let mut last = [0; WORD];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let [a, b, c, d] = &mut lanes;
    for (lane, word) in [&mut *a, &mut *b, &mut *c].into_iter().zip(singles) {
        step(lane, u64::from_le_bytes(*word));
    }
    step(d, u64::from_le_bytes(last));
    lanes.iter().fold(STEP, |sum, lane| (sum ^ lane).wrapping_mul(MIX).rotate_left(31))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_the_way_into_a_word_and_back() {
        for (producer, sequence) in [(0, 0), (1, 1), (255, MAX_SEQUENCE - 1), (7, 123_456_789)] {
            let word = first_word(name(producer, sequence));
            assert_eq!(name_of(word).map(parts), Some((producer, sequence)));
        }
    }

    #[test]
    fn one_changed_bit_anywhere_is_seen() {
        let whole = make::<8>(name(3, 77));
        assert!(is(&whole, name(3, 77)));
        for bit in 0..512 {
            let mut torn = whole;
            torn[bit / 64] ^= 1 << (bit % 64);
            assert!(!is(&torn, name(3, 77)), "bit {bit}");
        }
    }

    #[test]
    fn a_word_of_a_neighbour_is_seen_wherever_it_stands() {
        for sequence in 1..2000 {
            let (one, other) = (make::<8>(name(1, sequence)), make::<8>(name(1, sequence - 1)));
            for word in 0..8 {
                let mut torn = one;
                torn[word] = other[word];
                assert!(!is(&torn, name(1, sequence)));
            }
        }
    }

    #[test]
    fn a_torn_message_ends_like_the_one_before_it() {
        let (mut words, before) = (make::<8>(name(0, 9)), make::<8>(name(0, 8)));
        tear(&mut words, name(0, 9));
        assert_eq!(words[7], before[7]);
        assert_eq!(words[..7], make::<8>(name(0, 9))[..7]);
        let mut word = make::<1>(name(0, 9));
        tear(&mut word, name(0, 9));
        assert_eq!(name_of(word[0]), None);
    }

    #[test]
    fn a_batch_is_right_only_if_every_message_is() {
        fn try_size<const W: usize>() {
            let batch: Vec<_> = (0..32).map(|i| make::<W>(name(1, 500 + i))).collect();
            assert!(are(&batch, name(1, 500)));
            assert!(!are(&batch, name(1, 501)));
            for at in 0..32 {
                let mut wrong = batch.clone();
                wrong[at][W - 1] ^= 1;
                assert!(!are(&wrong, name(1, 500)));
            }
        }
        try_size::<1>();
        try_size::<2>();
        try_size::<128>();
    }

    #[test]
    fn lengths_fill_their_range() {
        let mut seen = [0; 80];
        for sequence in 0..64_000 {
            seen[length(sequence, 16, 79)] += 1;
        }
        assert!(seen[..16].iter().all(|&n| n == 0) && seen[16..].iter().all(|&n| n > 500), "{seen:?}");
        assert_eq!(length(9, 64, 64), 64);
    }

    #[test]
    fn the_check_of_bytes_sees_each_byte_and_the_length() {
        for len in 0..100 {
            let bytes: Vec<u8> = (0..len).collect();
            let whole = check_bytes(&bytes);
            for at in 0..bytes.len() {
                let mut torn = bytes.clone();
                torn[at] ^= 0x40;
                assert_ne!(check_bytes(&torn), whole, "byte {at} of {len}");
            }
            let mut longer = bytes.clone();
            longer.push(0);
            assert_ne!(check_bytes(&longer), whole, "{len} and one more");
        }
    }
}
