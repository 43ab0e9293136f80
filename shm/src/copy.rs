//! Copies between private memory and memory that a peer may write at the same time.
//!
//! Rust has no stable atomic `memcpy`, and a plain copy of bytes that another process writes is a data race. So:
//!
//! - fixed types of up to [`WORDS_MAX`] bytes in at most eight words are copied one by one as relaxed atomic words of
//!   the type's alignment (8 bytes at the most);
//! - everything else, and the touch, is inline assembly that the compiler cannot see into. A block stands for
//!   relaxed atomic accesses of the bytes, one or more per byte, in no promised order, each source byte being used
//!   for its destination byte only.
//!
//! A racing copy therefore yields arbitrary bytes and nothing worse; order comes from the atomics around it. On
//! other architectures than `x86_64` (with SSE2) and `aarch64` the bytes are copied as relaxed atomics in Rust.
//!
//! A limit that the language sets: accesses of different widths to the same bytes at the same time are not covered
//! by its memory model, even if all are atomic. They cannot happen in the protocol, where positions order all
//! accesses to a slot. They can happen where one process lays two structures of different types over one segment,
//! which no process of sound mind does and no other process can make it do; the machine gives arbitrary bytes.
//!
//! [Runs of words](crate::sync::Words) are different, see [`run`]: there both sides may access the same bytes at one
//! time by design.
//!
//! `--cfg plain_copy` replaces all of it by plain copies, which the sanitizers can see; runs
//! of words stay atomic, word by word, there and under Miri.

#[cfg(plain_copy)]
use core::ptr;

pub(crate) mod run;

/// Fixed types up to this size are copied word by word.
#[cfg(not(plain_copy))]
const WORDS_MAX: usize = 64;

/// Whether a type is small and aligned enough to be copied word by word.
#[cfg(not(plain_copy))]
const fn in_words<T>() -> bool {
    size_of::<T>() <= WORDS_MAX && size_of::<T>() / align_of::<T>() <= WORDS_MAX / 8
}

/// Writes a value back unchanged.
///
/// # Safety
/// As a store of a `W` at `word`.
#[inline(always)]
pub(crate) unsafe fn touch<W: Copy>(word: *mut W) {
    #[cfg(all(not(plain_copy), target_arch = "x86_64"))]
    if size_of::<W>() == 8 {
        // SAFETY: the eight bytes are the caller's to write.
        unsafe {
            core::arch::asm!(
                "mov {value}, qword ptr [{word}]", "mov qword ptr [{word}], {value}",
                word = in(reg) word, value = out(reg) _, options(nostack, preserves_flags)
            );
        };
        return;
    }
    #[cfg(all(not(plain_copy), target_arch = "aarch64"))]
    if size_of::<W>() == 8 {
        // SAFETY: the eight bytes are the caller's to write.
        unsafe {
            core::arch::asm!(
                "ldr {value}, [{word}]", "str {value}, [{word}]",
                word = in(reg) word, value = out(reg) _, options(nostack, preserves_flags)
            );
        };
        return;
    }
    let mut value = core::mem::MaybeUninit::<W>::uninit();
    // SAFETY: the caller's promise; `value` is private.
    unsafe { bytes(value.as_mut_ptr().cast(), word.cast::<u8>(), size_of::<W>()) };
    // SAFETY: the caller's promise; every byte of `value` was just written.
    unsafe { bytes(word.cast::<u8>(), value.as_ptr().cast(), size_of::<W>()) };
}

/// Copies a `T` out of shared memory into private memory.
///
/// # Safety
/// `to` is private; `from` is aligned and in bounds; any bytes are a valid `T`.
#[cfg(not(plain_copy))]
#[inline(always)]
pub(crate) unsafe fn load<T: Copy>(to: *mut T, from: *const T) {
    if in_words::<T>() {
        // SAFETY: the caller's promise; the word width divides the alignment of `T`.
        unsafe { words::load_words(to, from.cast_mut()) };
    } else {
        // SAFETY: the caller's promise.
        unsafe { bytes(to.cast(), from.cast(), size_of::<T>()) };
    }
}

/// Copies a `T` from private memory into shared memory.
///
/// # Safety
/// `from` is private; `to` is aligned and in bounds; `T` has no padding.
#[cfg(not(plain_copy))]
#[inline(always)]
pub(crate) unsafe fn store<T: Copy>(to: *mut T, from: *const T) {
    if in_words::<T>() {
        // SAFETY: the caller's promise; the word width divides the alignment of `T`.
        unsafe { words::store_words(to, from) };
    } else {
        // SAFETY: the caller's promise.
        unsafe { bytes(to.cast(), from.cast(), size_of::<T>()) };
    }
}

#[cfg(plain_copy)]
pub(crate) unsafe fn load<T: Copy>(to: *mut T, from: *const T) {
    // SAFETY: the caller's promise; this build has no hostile peers.
    unsafe { ptr::copy_nonoverlapping(from, to, 1) };
}

#[cfg(plain_copy)]
pub(crate) unsafe fn store<T: Copy>(to: *mut T, from: *const T) {
    // SAFETY: the caller's promise; this build has no hostile peers.
    unsafe { ptr::copy_nonoverlapping(from, to, 1) };
}

/// Copies `len` bytes, either way.
///
/// # Safety
/// Both ends are in bounds and do not overlap; one of them is private.
#[cfg(plain_copy)]
pub(crate) unsafe fn bytes(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller's promise; this build has no hostile peers.
    unsafe { ptr::copy_nonoverlapping(from, to, len) };
}

#[cfg(not(plain_copy))]
mod words {
    use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

    /// One relaxed access per word, from the highest alignment down; the untaken arms fold away.
    #[inline(always)]
    pub(super) unsafe fn load_words<T: Copy>(to: *mut T, from: *mut T) {
        macro_rules! copy {
            ($atomic:ty, $word:ty) => {
                for i in 0..size_of::<T>() / size_of::<$word>() {
                    // SAFETY: in bounds; the word width divides the alignment.
                    let word = unsafe { <$atomic>::from_ptr(from.cast::<$word>().add(i)) };
                    // ORD payload: Relaxed, the position that hands the slot over carries the order.
                    let value = word.load(Ordering::Relaxed);
                    // SAFETY: as above; private memory.
                    unsafe { to.cast::<$word>().add(i).write(value) };
                }
            };
        }
        match align_of::<T>() {
            1 => copy!(AtomicU8, u8),
            2 => copy!(AtomicU16, u16),
            4 => copy!(AtomicU32, u32),
            _ => copy!(AtomicU64, u64),
        }
    }

    /// One relaxed access per word, from the highest alignment down; the untaken arms fold away.
    #[inline(always)]
    pub(super) unsafe fn store_words<T: Copy>(to: *mut T, from: *const T) {
        macro_rules! copy {
            ($atomic:ty, $word:ty) => {
                for i in 0..size_of::<T>() / size_of::<$word>() {
                    // SAFETY: in bounds, initialised and aligned; private memory.
                    let value = unsafe { from.cast::<$word>().add(i).read() };
                    // SAFETY: in bounds; the word width divides the alignment.
                    let word = unsafe { <$atomic>::from_ptr(to.cast::<$word>().add(i)) };
                    // ORD payload: Relaxed, the position that hands the slot over carries the order.
                    word.store(value, Ordering::Relaxed);
                }
            };
        }
        match align_of::<T>() {
            1 => copy!(AtomicU8, u8),
            2 => copy!(AtomicU16, u16),
            4 => copy!(AtomicU32, u32),
            _ => copy!(AtomicU64, u64),
        }
    }
}

/// Copies `len` bytes, either way.
///
/// # Safety
/// Both ends are in bounds and do not overlap; one of them is private.
#[cfg(all(not(plain_copy), target_arch = "x86_64", target_feature = "sse2"))]
#[inline(always)]
pub(crate) unsafe fn bytes(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: each arm copies exactly `len` bytes; where two pieces overlap, they carry the same bytes.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one of them is done, for one reason")]
    unsafe {
        match len {
            0 => {}
            1..=3 => x86_64::up_to_3(to, from, len),
            4..=7 => x86_64::up_to_7(to, from, len),
            8..=16 => x86_64::up_to_16(to, from, len),
            17..=32 => x86_64::up_to_32(to, from, len),
            33..=64 => x86_64::up_to_64(to, from, len),
            _ => x86_64::long(to, from, len),
        }
    }
}

#[cfg(all(not(plain_copy), target_arch = "x86_64", target_feature = "sse2"))]
mod x86_64 {
    use core::arch::asm;
    use core::sync::atomic::{AtomicU8, Ordering};

    /// First byte, last byte, and the one between.
    #[inline(always)]
    pub(super) unsafe fn up_to_3(to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: offsets 0, len / 2 and len - 1 are below `len`.
        unsafe {
            asm!(
                "movzx {a:e}, byte ptr [{from}]",
                "movzx {b:e}, byte ptr [{from} + {mid}]",
                "movzx {c:e}, byte ptr [{from} + {len} - 1]",
                "mov byte ptr [{to}], {a:l}",
                "mov byte ptr [{to} + {mid}], {b:l}",
                "mov byte ptr [{to} + {len} - 1], {c:l}",
                from = in(reg) from, to = in(reg) to, len = in(reg) len, mid = in(reg) len / 2,
                a = out(reg) _, b = out(reg) _, c = out(reg) _,
                options(nostack, preserves_flags)
            );
        }
    }

    #[inline(always)]
    pub(super) unsafe fn up_to_7(to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: the first and the last four of 4 to 7 bytes.
        unsafe {
            asm!(
                "mov {a:e}, dword ptr [{from}]",
                "mov {b:e}, dword ptr [{from} + {len} - 4]",
                "mov dword ptr [{to}], {a:e}",
                "mov dword ptr [{to} + {len} - 4], {b:e}",
                from = in(reg) from, to = in(reg) to, len = in(reg) len, a = out(reg) _, b = out(reg) _,
                options(nostack, preserves_flags)
            );
        }
    }

    #[inline(always)]
    pub(super) unsafe fn up_to_16(to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: the first and the last eight of 8 to 16 bytes.
        unsafe {
            asm!(
                "mov {a}, qword ptr [{from}]",
                "mov {b}, qword ptr [{from} + {len} - 8]",
                "mov qword ptr [{to}], {a}",
                "mov qword ptr [{to} + {len} - 8], {b}",
                from = in(reg) from, to = in(reg) to, len = in(reg) len, a = out(reg) _, b = out(reg) _,
                options(nostack, preserves_flags)
            );
        }
    }

    #[inline(always)]
    pub(super) unsafe fn up_to_32(to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: the first and the last 16 of 16 to 32 bytes.
        unsafe {
            asm!(
                "movdqu {a}, xmmword ptr [{from}]",
                "movdqu {b}, xmmword ptr [{from} + {len} - 16]",
                "movdqu xmmword ptr [{to}], {a}",
                "movdqu xmmword ptr [{to} + {len} - 16], {b}",
                from = in(reg) from, to = in(reg) to, len = in(reg) len, a = out(xmm_reg) _, b = out(xmm_reg) _,
                options(nostack, preserves_flags)
            );
        }
    }

    #[inline(always)]
    pub(super) unsafe fn up_to_64(to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: the first and the last 32 of 32 to 64 bytes.
        unsafe {
            asm!(
                "movdqu {a}, xmmword ptr [{from}]",
                "movdqu {b}, xmmword ptr [{from} + 16]",
                "movdqu {c}, xmmword ptr [{from} + {len} - 32]",
                "movdqu {d}, xmmword ptr [{from} + {len} - 16]",
                "movdqu xmmword ptr [{to}], {a}",
                "movdqu xmmword ptr [{to} + 16], {b}",
                "movdqu xmmword ptr [{to} + {len} - 32], {c}",
                "movdqu xmmword ptr [{to} + {len} - 16], {d}",
                from = in(reg) from, to = in(reg) to, len = in(reg) len,
                a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                options(nostack, preserves_flags)
            );
        }
    }

    /// More than 64 bytes.
    #[inline(always)]
    pub(super) unsafe fn long(to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: the caller's promise; AVX only where the processor and the system have it.
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one of them is done, for one reason")]
        unsafe {
            if len >= 128 && avx() {
                long_avx(to, from, len);
            } else {
                long_sse2(to, from, len);
            }
        }
    }

    /// Blocks of 64 bytes, then the last 64 once more.
    #[inline(always)]
    unsafe fn long_sse2(to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: blocks at 0, 64, ... while more than 64 bytes remain, then the last 64 bytes: all within `len`.
        unsafe {
            asm!(
                "2:",
                "movdqu {a}, xmmword ptr [{from}]",
                "movdqu {b}, xmmword ptr [{from} + 16]",
                "movdqu {c}, xmmword ptr [{from} + 32]",
                "movdqu {d}, xmmword ptr [{from} + 48]",
                "movdqu xmmword ptr [{to}], {a}",
                "movdqu xmmword ptr [{to} + 16], {b}",
                "movdqu xmmword ptr [{to} + 32], {c}",
                "movdqu xmmword ptr [{to} + 48], {d}",
                "add {from}, 64",
                "add {to}, 64",
                "sub {len}, 64",
                "cmp {len}, 64",
                "ja 2b",
                "movdqu {a}, xmmword ptr [{from} + {len} - 64]",
                "movdqu {b}, xmmword ptr [{from} + {len} - 48]",
                "movdqu {c}, xmmword ptr [{from} + {len} - 32]",
                "movdqu {d}, xmmword ptr [{from} + {len} - 16]",
                "movdqu xmmword ptr [{to} + {len} - 64], {a}",
                "movdqu xmmword ptr [{to} + {len} - 48], {b}",
                "movdqu xmmword ptr [{to} + {len} - 32], {c}",
                "movdqu xmmword ptr [{to} + {len} - 16], {d}",
                from = inout(reg) from => _, to = inout(reg) to => _, len = inout(reg) len => _,
                a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                options(nostack)
            );
        }
    }

    /// Blocks of 128 bytes, then the last 128 once more; at least 128 bytes.
    #[inline(always)]
    unsafe fn long_avx(to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: blocks at 0, 128, ... while at least 128 bytes remain, then the last 128 bytes of the whole, which
        // `len >= 128` puts within it, unless nothing remains.
        unsafe {
            asm!(
                "2:",
                "vmovdqu ymm0, ymmword ptr [{from}]",
                "vmovdqu ymm1, ymmword ptr [{from} + 32]",
                "vmovdqu ymm2, ymmword ptr [{from} + 64]",
                "vmovdqu ymm3, ymmword ptr [{from} + 96]",
                "vmovdqu ymmword ptr [{to}], ymm0",
                "vmovdqu ymmword ptr [{to} + 32], ymm1",
                "vmovdqu ymmword ptr [{to} + 64], ymm2",
                "vmovdqu ymmword ptr [{to} + 96], ymm3",
                "add {from}, 128",
                "add {to}, 128",
                "sub {len}, 128",
                "cmp {len}, 128",
                "jae 2b",
                "test {len}, {len}",
                "jz 3f",
                "vmovdqu ymm0, ymmword ptr [{from} + {len} - 128]",
                "vmovdqu ymm1, ymmword ptr [{from} + {len} - 96]",
                "vmovdqu ymm2, ymmword ptr [{from} + {len} - 64]",
                "vmovdqu ymm3, ymmword ptr [{from} + {len} - 32]",
                "vmovdqu ymmword ptr [{to} + {len} - 128], ymm0",
                "vmovdqu ymmword ptr [{to} + {len} - 96], ymm1",
                "vmovdqu ymmword ptr [{to} + {len} - 64], ymm2",
                "vmovdqu ymmword ptr [{to} + {len} - 32], ymm3",
                "3:",
                "vzeroupper",
                from = inout(reg) from => _, to = inout(reg) to => _, len = inout(reg) len => _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                options(nostack)
            );
        }
    }

    /// Whether the processor has AVX and the system saves its registers. Asked once.
    #[inline(always)]
    fn avx() -> bool {
        const UNKNOWN: u8 = 0;
        const NO: u8 = 1;
        const YES: u8 = 2;
        static KNOWN: AtomicU8 = AtomicU8::new(UNKNOWN);
        if cfg!(target_feature = "avx") {
            return true;
        }
        #[cold]
        #[inline(never)]
        fn ask() -> bool {
            let yes = detect();
            // ORD cache: Relaxed, a process-private cache of a constant; a second asker finds the same.
            KNOWN.store(if yes { YES } else { NO }, Ordering::Relaxed);
            yes
        }
        // ORD cache: Relaxed, as above.
        match KNOWN.load(Ordering::Relaxed) {
            UNKNOWN => ask(),
            known => known == YES,
        }
    }

    fn detect() -> bool {
        use core::arch::x86_64::__cpuid;
        const OSXSAVE: u32 = 1 << 27;
        const AVX: u32 = 1 << 28;
        const XMM_AND_YMM: u32 = 0b110;
        #[allow(unused_unsafe, reason = "unsafe until Rust 1.94")]
        // SAFETY: every x86_64 processor has CPUID leaf 1.
        let features = unsafe { __cpuid(1) }.ecx;
        if features & OSXSAVE == 0 || features & AVX == 0 {
            return false;
        }
        let enabled: u32;
        // SAFETY: OSXSAVE says that the system enabled XGETBV.
        unsafe {
            asm!("xgetbv", in("ecx") 0, out("eax") enabled, out("edx") _, options(nomem, nostack, preserves_flags));
        };
        enabled & XMM_AND_YMM == XMM_AND_YMM
    }
}

/// Copies `len` bytes, either way.
///
/// # Safety
/// Both ends are in bounds and do not overlap; one of them is private.
#[cfg(all(not(plain_copy), target_arch = "aarch64"))]
#[inline(always)]
pub(crate) unsafe fn bytes(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: blocks of 64, then of 8, then single bytes, each within `len`.
    unsafe {
        core::arch::asm!(
            "2:",
            "cmp {len}, #64",
            "b.lo 3f",
            "ldp q0, q1, [{from}]",
            "ldp q2, q3, [{from}, #32]",
            "add {from}, {from}, #64",
            "stp q0, q1, [{to}]",
            "stp q2, q3, [{to}, #32]",
            "add {to}, {to}, #64",
            "sub {len}, {len}, #64",
            "b 2b",
            "3:",
            "cmp {len}, #8",
            "b.lo 4f",
            "ldr {w}, [{from}], #8",
            "str {w}, [{to}], #8",
            "sub {len}, {len}, #8",
            "b 3b",
            "4:",
            "cbz {len}, 5f",
            "ldrb {w:w}, [{from}], #1",
            "strb {w:w}, [{to}], #1",
            "sub {len}, {len}, #1",
            "b 4b",
            "5:",
            from = inout(reg) from => _, to = inout(reg) to => _, len = inout(reg) len => _, w = out(reg) _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            options(nostack)
        );
    }
}

/// Copies `len` bytes, either way.
///
/// # Safety
/// Both ends are in bounds and do not overlap; one of them is private.
#[cfg(all(
    not(plain_copy),
    not(any(all(target_arch = "x86_64", target_feature = "sse2"), target_arch = "aarch64"))
))]
pub(crate) unsafe fn bytes(to: *mut u8, from: *const u8, len: usize) {
    use core::sync::atomic::{AtomicU8, Ordering};
    for i in 0..len {
        // SAFETY: in bounds by the caller's promise; a byte is always aligned.
        let source = unsafe { AtomicU8::from_ptr(from.cast_mut().add(i)) };
        // SAFETY: as above.
        let target = unsafe { AtomicU8::from_ptr(to.add(i)) };
        // ORD payload: Relaxed, the position that hands the bytes over carries the order.
        target.store(source.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length that no arm treats alike with its neighbours must still copy every byte and no more.
    #[test]
    #[expect(clippy::cast_possible_truncation, reason = "below 251")]
    fn every_length_copies_exactly_its_bytes() {
        let source: [u8; 1100] = core::array::from_fn(|i| (i * 7 % 251) as u8);
        for len in (0..=600).chain(1020..=1030) {
            for skew in [0, 1, 7] {
                let mut target = [0xEE_u8; 1200];
                // SAFETY: `skew + len` is within both arrays.
                unsafe { bytes(target[16 + skew..].as_mut_ptr(), source[skew..].as_ptr(), len) };
                assert_eq!(&target[16 + skew..][..len], &source[skew..][..len], "length {len}, skew {skew}");
                assert!(target[..16 + skew].iter().all(|b| *b == 0xEE), "wrote before, length {len}");
                assert!(target[16 + skew + len..].iter().all(|b| *b == 0xEE), "wrote behind, length {len}");
            }
        }
    }

    #[test]
    fn fixed_types_of_every_alignment_round_trip() {
        fn check<T: Copy + PartialEq + core::fmt::Debug>(value: T, zero: T) {
            let (mut shared, mut out) = (zero, zero);
            // SAFETY: three private values of one type without padding.
            unsafe { store(&raw mut shared, &raw const value) };
            // SAFETY: as above.
            unsafe { load(&raw mut out, &raw const shared) };
            assert_eq!(out, value);
        }
        check(0xA5_u8, 0);
        check([1_u16, 2, 3], [0; 3]);
        check([7_u32; 5], [0; 5]);
        check(0x0123_4567_89AB_CDEF_u64, 0);
        check([9_u64; 8], [0; 8]);
        check([3_u8; 65], [0; 65]);
        check([u64::MAX - 5; 128], [0; 128]);
    }
}
