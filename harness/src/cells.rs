//! What is written into cells: values that follow from a tag, all of them, so that a value that is torn anywhere is seen.

pub(crate) mod crew;
pub(crate) mod rig;
mod row;

pub(crate) use row::CellRow;

/// Bytes of the longest record.
pub(crate) const MOST: usize = 100;

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

#[inline(always)]
fn key(tag: u64) -> u64 {
    (tag ^ 0x5851_F42D_4C95_7F2D).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

/// The value of a tag: the tag, and words that follow from it.
#[inline(always)]
pub(crate) fn value<const N: usize>(tag: u64) -> [u64; N] {
    let mut word = key(tag);
    let mut value = [tag; N];
    for to in value.iter_mut().skip(1) {
        word = word.wrapping_add(STEP);
        *to = word;
    }
    value
}

/// The tag of a value, if all its words belong to it.
#[inline(always)]
pub(crate) fn tag<const N: usize>(value: &[u64; N]) -> Option<u64> {
    let (&tag, words) = value.split_first()?;
    let (mut word, mut wrong) = (key(tag), 0);
    for found in words {
        word = word.wrapping_add(STEP);
        wrong |= found ^ word;
    }
    (wrong == 0).then_some(tag)
}

fn record_bytes(tag: u64) -> usize {
    8 + usize::try_from(key(tag) >> 32).unwrap_or(0) % (MOST - 7)
}

/// The record of a tag: 8 to [`MOST`] bytes, as many as follow from the tag.
pub(crate) fn record(tag: u64, to: &mut [u8; MOST]) -> &[u8] {
    let mut word = key(tag);
    let (head, tail) = to.split_at_mut(8);
    head.copy_from_slice(&tag.to_le_bytes());
    for to in tail.chunks_mut(8) {
        word = word.wrapping_add(STEP);
        let bytes = word.to_le_bytes();
        to.copy_from_slice(bytes.get(..to.len()).unwrap_or_default());
    }
    to.get(..record_bytes(tag)).unwrap_or_default()
}

/// The tag of a record, if all its bytes, and their number, belong to it.
pub(crate) fn record_tag(found: &[u8]) -> Option<u64> {
    let tag = u64::from_le_bytes(*found.first_chunk::<8>()?);
    (record(tag, &mut [0; MOST]) == found).then_some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_its_tag_until_a_word_of_it_is_another_ones() {
        let one = value::<32>(7);
        assert_eq!((tag(&one), tag(&value::<1>(9)), tag::<0>(&[])), (Some(7), Some(9), None));
        for other in [value::<32>(8), value(7 | 1 << 40), [0; 32]] {
            for word in 0..32 {
                let mut torn = one;
                torn[word] = other[word];
                assert_eq!(tag(&torn), None, "word {word}");
            }
        }
    }

    #[test]
    fn a_record_has_its_tag_until_a_byte_of_it_or_its_length_changes() {
        let mut lengths = std::collections::BTreeSet::new();
        for tag in 0..500 {
            let (mut one, mut other) = ([0; MOST], [0; MOST]);
            let bytes = record(tag, &mut one).to_vec();
            lengths.insert(bytes.len());
            assert_eq!(record_tag(&bytes), Some(tag));
            assert_eq!(record_tag(&bytes[..bytes.len() - 1]), None);
            let longer = record(tag + 1, &mut other);
            let mut torn = bytes.clone();
            for (to, from) in torn.iter_mut().zip(longer).skip(8) {
                *to = *from;
            }
            // Of a record that is its tag alone, nothing can come from another one.
            let same = bytes.len() == 8 || longer.len() == 8;
            assert!(same || record_tag(&torn).is_none(), "{tag}");
        }
        assert!(lengths.len() > 80 && lengths.first() >= Some(&8) && lengths.last() <= Some(&MOST));
    }
}
