//! Looks at 32 bytes at once: which equal others, which are digits, which end a line.

use super::{PREFIX_BYTES_MAX, WINDOW_BYTES, WORD_BYTES};

type Head = [u8; PREFIX_BYTES_MAX];
type Ahead = [u8; WINDOW_BYTES + WORD_BYTES];

/// A bit for each of 32 bytes, the first one lowest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Masks {
    /// Bytes of the head that equal the prefix.
    pub(super) same: u32,
    /// Bytes of the window that are no digits.
    pub(super) other: u32,
    /// Bytes of the window that are LF.
    pub(super) line_ends: u32,
}

impl Masks {
    /// Compares `head` with `prefix` and sorts the first bytes of `window`.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    #[allow(unsafe_code, reason = "reads a line in half the time of the plain form")]
    pub(super) fn of(head: &Head, prefix: &Head, window: &Ahead) -> Self {
        // SAFETY: SSE2 is part of every x86_64 processor and of the target's baseline.
        unsafe { with_vectors(head, prefix, window) }
    }

    /// Compares `head` with `prefix` and sorts the first bytes of `window`.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn of(head: &Head, prefix: &Head, window: &Ahead) -> Self {
        plain(head, prefix, window)
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn with_vectors(head: &Head, prefix: &Head, window: &Ahead) -> Masks {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_cmpgt_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8,
        _mm_sub_epi8,
    };
    let load = |bytes: &[u8], at: usize| {
        let word = |at: usize| i64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        _mm_set_epi64x(word(at + 8), word(at))
    };
    let bits =
        |low: __m128i, high: __m128i| _mm_movemask_epi8(low) as u32 | (_mm_movemask_epi8(high) as u32) << 16;
    let same = |at| _mm_cmpeq_epi8(load(head, at), load(prefix, at));
    let (low, high) = (load(window, 0), load(window, 16));
    // Moves '0'..='9' to the ten lowest signed bytes; there is no unsigned compare.
    let shift = _mm_set1_epi8((b'0' ^ 0x80) as i8);
    let nine = _mm_set1_epi8(i8::MIN + 9);
    let other = |half| _mm_cmpgt_epi8(_mm_sub_epi8(half, shift), nine);
    let line_end = |half| _mm_cmpeq_epi8(half, _mm_set1_epi8(b'\n' as i8));
    Masks {
        same: bits(same(0), same(16)),
        other: bits(other(low), other(high)),
        line_ends: bits(line_end(low), line_end(high)),
    }
}

/// [`Masks::of`] without vector instructions.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn plain(head: &Head, prefix: &Head, window: &Ahead) -> Masks {
    let mut masks = Masks { same: 0, other: 0, line_ends: 0 };
    for at in 0..WINDOW_BYTES {
        masks.same |= u32::from(head[at] == prefix[at]) << at;
        masks.other |= u32::from(!window[at].is_ascii_digit()) << at;
        masks.line_ends |= u32::from(window[at] == b'\n') << at;
    }
    masks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// forall bytes: the vector form equals the plain one.
        #[test]
        fn masks_are_alike_with_and_without_vectors(
            head in proptest::array::uniform32(0..3_u8),
            prefix in proptest::array::uniform32(0..3_u8),
            any_bytes in proptest::array::uniform32(any::<u8>()),
            near_digits in proptest::array::uniform32(b'\t'..b'>'),
        ) {
            for bytes in [any_bytes, near_digits] {
                let mut window = [0; WINDOW_BYTES + WORD_BYTES];
                window[..WINDOW_BYTES].copy_from_slice(&bytes);
                prop_assert_eq!(Masks::of(&head, &prefix, &window), plain(&head, &prefix, &window));
            }
        }
    }
}
