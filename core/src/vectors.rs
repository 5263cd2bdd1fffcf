//! Loops compiled once per kind of processor, and looking at 32 bytes at once.
//!
//! Vector instructions are what makes reading lines and writing columns quick: a line costs about half
//! of what it costs byte by byte. With AVX2 come the bit instructions (BMI) that work on its masks, so
//! all of the loop that uses them is compiled for it; see [`Task`].

type Bytes = [u8; 32];

/// Questions about 32 bytes. An answer has a bit for each byte, the first one lowest.
pub(crate) trait Vectors {
    /// Which bytes of the two are equal.
    fn equal(left: &Bytes, right: &Bytes) -> u32;

    /// Which bytes are no decimal digits.
    fn other_than_digits(bytes: &Bytes) -> u32;
}

/// Work that is compiled for each kind of vectors.
pub(crate) trait Task {
    type Output;

    /// Does the work. To be marked `inline(always)`, or it is not compiled for the processor.
    fn run<V: Vectors>(self) -> Self::Output;
}

/// Moves `'0'..='9'` to the ten lowest signed bytes when taken off; vectors compare signed bytes only.
#[cfg(target_arch = "x86_64")]
const DIGITS_TO_LOWEST: i8 = (b'0' ^ 0x80) as i8;
#[cfg(target_arch = "x86_64")]
const LAST_DIGIT: i8 = i8::MIN + 9;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vector instructions; measured in the module's documentation")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_cmpeq_epi8, _mm_cmpgt_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8,
        _mm_sub_epi8, _mm256_cmpeq_epi8, _mm256_cmpgt_epi8, _mm256_loadu_si256, _mm256_movemask_epi8,
        _mm256_set1_epi8, _mm256_sub_epi8,
    };

    use super::{Bytes, DIGITS_TO_LOWEST, LAST_DIGIT, Task, Vectors};

    /// Runs a task with AVX2 and BMI where the processor has them.
    #[inline]
    pub(crate) fn with_widest<T: Task>(task: T) -> T::Output {
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
        {
            // SAFETY: the line above asked for exactly these.
            unsafe { run_wide(task) }
        } else {
            task.run::<Narrow>()
        }
    }

    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn run_wide<T: Task>(task: T) -> T::Output {
        task.run::<Wide>()
    }

    /// AVX2. Only ever named by [`run_wide`], so the processor has it wherever this runs.
    pub(super) struct Wide;

    impl Vectors for Wide {
        #[inline(always)]
        fn equal(left: &Bytes, right: &Bytes) -> u32 {
            // SAFETY: see `Wide`.
            unsafe { bits_256(_mm256_cmpeq_epi8(load_256(left), load_256(right))) }
        }

        #[inline(always)]
        fn other_than_digits(bytes: &Bytes) -> u32 {
            // SAFETY: see `Wide`.
            unsafe {
                let moved = _mm256_sub_epi8(load_256(bytes), _mm256_set1_epi8(DIGITS_TO_LOWEST));
                bits_256(_mm256_cmpgt_epi8(moved, _mm256_set1_epi8(LAST_DIGIT)))
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load_256(bytes: &Bytes) -> __m256i {
        // SAFETY: reads 32 bytes from a reference to 32; needs no alignment.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn bits_256(vector: __m256i) -> u32 {
        _mm256_movemask_epi8(vector) as u32
    }

    /// SSE2, which every x86_64 processor has.
    pub(super) struct Narrow;

    impl Vectors for Narrow {
        #[inline(always)]
        fn equal(left: &Bytes, right: &Bytes) -> u32 {
            // SAFETY: SSE2 is part of the target.
            unsafe { bits_128(|at| _mm_cmpeq_epi8(load_128(left, at), load_128(right, at))) }
        }

        #[inline(always)]
        fn other_than_digits(bytes: &Bytes) -> u32 {
            // SAFETY: SSE2 is part of the target.
            unsafe {
                let moved = |at| _mm_sub_epi8(load_128(bytes, at), _mm_set1_epi8(DIGITS_TO_LOWEST));
                bits_128(|at| _mm_cmpgt_epi8(moved(at), _mm_set1_epi8(LAST_DIGIT)))
            }
        }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn load_128(bytes: &Bytes, at: usize) -> __m128i {
        let half: &[u8; 16] = bytes[at..].first_chunk().expect("half of 32 bytes");
        // SAFETY: reads 16 bytes from a reference to 16; needs no alignment.
        unsafe { _mm_loadu_si128(half.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn bits_128(half: impl Fn(usize) -> __m128i) -> u32 {
        _mm_movemask_epi8(half(0)) as u32 | (_mm_movemask_epi8(half(16)) as u32) << 16
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::with_widest;

/// Runs a task with what every processor has.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(crate) fn with_widest<T: Task>(task: T) -> T::Output {
    task.run::<Plain>()
}

/// No vectors: byte by byte, or what the compiler makes of it.
#[cfg(any(test, not(target_arch = "x86_64")))]
struct Plain;

#[cfg(any(test, not(target_arch = "x86_64")))]
impl Vectors for Plain {
    #[inline(always)]
    fn equal(left: &Bytes, right: &Bytes) -> u32 {
        (0..32).fold(0, |bits, at| bits | u32::from(left[at] == right[at]) << at)
    }

    #[inline(always)]
    fn other_than_digits(bytes: &Bytes) -> u32 {
        (0..32).fold(0, |bits, at| bits | u32::from(!bytes[at].is_ascii_digit()) << at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All questions about two arrays.
    struct Ask<'a>(&'a Bytes, &'a Bytes);

    impl Task for Ask<'_> {
        type Output = [u32; 3];

        #[inline(always)]
        fn run<V: Vectors>(self) -> [u32; 3] {
            [V::equal(self.0, self.1), V::other_than_digits(self.0), V::other_than_digits(self.1)]
        }
    }

    proptest! {
        /// forall bytes: every kind of vectors answers as looking at one byte after the other does.
        #[test]
        fn all_kinds_of_vectors_answer_alike(
            any_bytes in proptest::array::uniform32(any::<u8>()),
            near_digits in proptest::array::uniform32(b'.'..b'<'),
            others in proptest::array::uniform32(b'.'..b'<'),
        ) {
            for (left, right) in [(&any_bytes, &near_digits), (&near_digits, &others)] {
                let expected = Ask(left, right).run::<Plain>();
                prop_assert_eq!(with_widest(Ask(left, right)), expected);
                #[cfg(target_arch = "x86_64")]
                prop_assert_eq!(Ask(left, right).run::<x86::Narrow>(), expected);
            }
        }
    }
}
