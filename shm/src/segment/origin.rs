//! Where a segment comes from: this boot, and a number that no other segment has.

use std::fs;
use std::sync::OnceLock;

use rustix::io::retry_on_intr;
use rustix::rand::{GetRandomFlags, getrandom};

use super::error::SegmentError;
use crate::region::Origin;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// 64-bit FNV-1a.
const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        hash = (hash ^ *byte as u64).wrapping_mul(0x0000_0100_0000_01b3);
        rest = tail;
    }
    hash
}

/// The hash of the identity of the running boot; never zero. Read once per process.
pub(super) fn boot_id() -> Result<u64, SegmentError> {
    static ID: OnceLock<u64> = OnceLock::new();
    if let Some(&id) = ID.get() {
        return Ok(id);
    }
    let text = fs::read(BOOT_ID).map_err(|source| SegmentError::from_io("read the boot id", source))?;
    Ok(*ID.get_or_init(|| fnv1a(text.trim_ascii()).max(1)))
}

/// A random number; never zero.
pub(super) fn random() -> Result<u128, SegmentError> {
    let mut filled = 0;
    let mut bytes = [0_u8; 16];
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += retry_on_intr(|| getrandom(&mut *rest, GetRandomFlags::empty()))
            .map_err(SegmentError::on("draw a random number"))?;
    }
    Ok(u128::from_ne_bytes(bytes).max(1))
}

/// The origin of memory that is being created.
pub(super) fn fresh() -> Result<Origin, SegmentError> {
    Ok(Origin { nonce: random()?, boot_id: boot_id()? })
}

/// The origin of memory without a name that is being created: no reboot leaves it behind, and its peers may have been
/// given another boot's identity (containers may be), so it carries none.
pub(super) fn fresh_unnamed() -> Result<Origin, SegmentError> {
    Ok(Origin { nonce: random()?, boot_id: 0 })
}

/// The origin of memory without a name that somebody else created.
pub(super) const ATTACHED_UNNAMED: Origin = Origin { nonce: 0, boot_id: 0 };

/// The origin of memory that somebody else created: its nonce stands in the header.
pub(super) fn attached() -> Result<Origin, SegmentError> {
    Ok(Origin { nonce: 0, boot_id: boot_id()? })
}

#[cfg(test)]
mod tests {
    use super::{attached, fnv1a, fresh, fresh_unnamed};

    #[test]
    fn fnv1a_matches_the_published_vectors() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn origins_share_the_boot_and_nothing_else() {
        let (one, other) = (fresh().unwrap(), fresh().unwrap());
        assert_ne!(one.nonce, other.nonce);
        assert_ne!(one.boot_id, 0);
        assert_eq!(one.boot_id, other.boot_id);
        assert_eq!(attached().unwrap().nonce, 0);
        assert_eq!(fresh_unnamed().unwrap().boot_id, 0);
    }
}
