//! The quick way through the lines that nearly all traffic consists of.
//!
//! A batch repeats one shape: `["CounterGroup", 1394047812.35, "123.45"]`, with the same type and the
//! same blanks in every line. Once the general reader has seen such a line, the next ones are read
//! under the assumption that they look the same: compare the bytes before the time, read ten digits of
//! seconds, up to six decimals, and a value of up to eight characters, all without a branch that
//! depends on the data. One branch at the end asks whether every assumption held. If one did not, the
//! general reader takes the line, so this one never decides that a line is bad.

use super::event::EventLine;
use super::number::POWERS_OF_TEN;

/// Longest start of a line, up to the time: the longest type name and some blanks.
const PREFIX_BYTES_MAX: usize = 32;
/// Bytes of the line from the time on that are looked at.
const WINDOW_BYTES: usize = 32;
/// What must be at hand to read a line this way; nearer to the end of a piece the general reader works.
const BLOCK_BYTES: usize = PREFIX_BYTES_MAX + WINDOW_BYTES + 8;
/// Seconds of ten digits: September 2001 to November 2286.
const SECS_DIGITS: usize = 10;
/// Longest value without its sign: what one 64-bit word holds.
const VALUE_BYTES_MAX: usize = 8;

/// The longest line this way can take, without its line end.
pub const LINE_BYTES_MAX: usize = PREFIX_BYTES_MAX + WINDOW_BYTES;

/// The shape of the lines to come.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// The bytes before the time, as four numbers.
    prefix: [u64; 4],
    /// Ones where `prefix` counts.
    mask: [u64; 4],
    prefix_len: usize,
    /// The bytes between time and value, `, "` or `,"`.
    separator: u32,
    separator_mask: u32,
    separator_len: usize,
}

/// A line read the quick way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// When it happened, in whole seconds.
    pub secs: i64,
    /// The payload, a finite number.
    pub value: f64,
    /// Bytes of the line with its line end.
    pub len: usize,
}

impl Shape {
    /// Learns the shape of a line that was read as `event`; `None` if it is not one of the usual.
    #[must_use]
    pub fn learn(line: &[u8], event: &EventLine<'_>) -> Option<Self> {
        let time = event.plain_time()?;
        let prefix_len = event.time_at;
        if prefix_len > PREFIX_BYTES_MAX {
            return None;
        }
        let after_time = &line[prefix_len + time.len()..];
        let separators: [&[u8]; 2] = [b", \"", b",\""];
        let separator = separators.into_iter().find(|separator| after_time.starts_with(separator))?;
        let mut shape = Self { prefix_len, separator_len: separator.len(), ..Self::default() };
        for (at, byte) in line[..prefix_len].iter().enumerate() {
            shape.prefix[at / 8] |= u64::from(*byte) << (at % 8 * 8);
            shape.mask[at / 8] |= 0xff << (at % 8 * 8);
        }
        for (at, byte) in separator.iter().enumerate() {
            shape.separator |= u32::from(*byte) << (at * 8);
            shape.separator_mask |= 0xff << (at * 8);
        }
        Some(shape)
    }

    /// Reads the line at the front of `bytes` if it has this shape.
    #[inline]
    #[must_use]
    pub fn read(&self, bytes: &[u8]) -> Option<Hit> {
        let block: &[u8; BLOCK_BYTES] = bytes.first_chunk()?;
        let window = Window::of(block[self.prefix_len..].first_chunk()?);
        let (time_end, time_holds) = window.time_end();
        let separated = window.half(time_end) & self.separator_mask == self.separator;
        let value = window.value(time_end + self.separator_len);
        if !(self.prefix_matches(block) & time_holds & separated & value.holds) {
            return None;
        }
        let len = self.prefix_len + window.line_end() + 1;
        Some(Hit { secs: window.secs(), value: window.number(value), len })
    }

    #[inline(always)]
    fn prefix_matches(&self, block: &[u8; BLOCK_BYTES]) -> bool {
        let differs = |at: usize| (word(block, at * 8) ^ self.prefix[at]) & self.mask[at];
        differs(0) | differs(1) | differs(2) | differs(3) == 0
    }
}

/// The bytes of a line from its time on, and what kind of bytes they are. Offsets into it are cut to
/// [`WINDOW_BYTES`], so that a wrong guess reads wrong bytes, fails its check, and costs no branch.
struct Window<'a> {
    bytes: &'a [u8; WINDOW_BYTES + 8],
    /// A bit for each of the first [`WINDOW_BYTES`] that is no digit.
    other: u32,
    /// A bit for each that is LF.
    line_ends: u32,
}

/// Where a value stands in the window.
#[derive(Clone, Copy)]
struct Value {
    start: usize,
    len: usize,
    negative: bool,
    has_point: bool,
    /// Digits before the point; `len` without one.
    whole: usize,
    /// Whether all of it, with the end of the line, is as expected.
    holds: bool,
}

impl<'a> Window<'a> {
    #[inline(always)]
    fn of(bytes: &'a [u8; WINDOW_BYTES + 8]) -> Self {
        let (other, line_ends) = classify(bytes);
        Self { bytes, other, line_ends }
    }

    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        self.bytes[at % WINDOW_BYTES]
    }

    #[inline(always)]
    fn half(&self, at: usize) -> u32 {
        word(self.bytes, at % WINDOW_BYTES) as u32
    }

    /// Offset of the LF; [`WINDOW_BYTES`] if there is none.
    #[inline(always)]
    fn line_end(&self) -> usize {
        self.line_ends.trailing_zeros() as usize
    }

    /// Where the time ends, and whether it is ten digits and perhaps a point and one to six decimals.
    #[inline(always)]
    fn time_end(&self) -> (usize, bool) {
        let whole = self.other.trailing_zeros() as usize;
        let point = usize::from(self.byte(SECS_DIGITS) == b'.');
        let decimals = point * (self.other >> (SECS_DIGITS + 1)).trailing_zeros() as usize;
        let holds = (whole == SECS_DIGITS) & (point <= decimals) & (decimals <= 6);
        (SECS_DIGITS + point + decimals, holds)
    }

    /// The value from `at` to the end of the line: perhaps a minus, digits, and at most one point that
    /// is neither first nor last.
    #[inline(always)]
    fn value(&self, at: usize) -> Value {
        let negative = self.byte(at) == b'-';
        let start = at + usize::from(negative);
        let end = self.line_end().wrapping_sub(2);
        let len = end.wrapping_sub(start);
        let marks = self.other.unbounded_shr(start as u32) & 1_u32.unbounded_shl(len as u32).wrapping_sub(1);
        let has_point = marks != 0;
        let whole = (marks | 1_u32.unbounded_shl(len as u32)).trailing_zeros() as usize;
        let one_point = (marks & marks.wrapping_sub(1) == 0)
            & (self.byte(start.wrapping_add(whole)) == b'.')
            & (whole > 0)
            & (whole + 1 < len);
        let closed = self.half(end) & 0x00ff_ffff == u32::from_le_bytes(*b"\"]\n\0");
        let holds = closed & (!has_point | one_point) & (1..=VALUE_BYTES_MAX).contains(&len);
        Value { start, len, negative, has_point, whole, holds }
    }

    #[inline(always)]
    fn secs(&self) -> i64 {
        let tens = eight_digits(word(self.bytes, 0));
        let [.., ten, one] = self.bytes[..SECS_DIGITS] else { unreachable!("the window is longer") };
        (tens * 100 + u64::from(ten - b'0') * 10 + u64::from(one - b'0')) as i64
    }

    /// The value as the nearest float: both operands of the division are exact.
    #[inline(always)]
    fn number(&self, value: Value) -> f64 {
        let text = word(self.bytes, value.start % WINDOW_BYTES);
        // Close the gap that the point leaves between the digits.
        let before_point = if value.has_point { (1 << (8 * value.whole as u32 % 64)) - 1 } else { u64::MAX };
        let digits = text & before_point | text >> 8 & !before_point;
        let digit_count = value.len - usize::from(value.has_point);
        let mantissa = eight_digits(digits << ((64 - 8 * digit_count) % 64)) as f64;
        let magnitude = mantissa / POWERS_OF_TEN[(digit_count - value.whole) % 8];
        if value.negative { -magnitude } else { magnitude }
    }
}

#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The number that eight digits make, first digit in the lowest byte; bytes of zero count as `0`.
#[inline(always)]
fn eight_digits(text: u64) -> u64 {
    let ones = text & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = ones.wrapping_mul(10 << 8 | 1) >> 8 & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100 << 16 | 1) >> 16 & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(10_000 << 32 | 1) >> 32
}

/// Which of the first [`WINDOW_BYTES`] are no digits, and which are LF, a bit each.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[allow(
    unsafe_code,
    reason = "twice the speed of the plain form; see the figures in docs of `classify_vectors`"
)]
fn classify(window: &[u8; WINDOW_BYTES + 8]) -> (u32, u32) {
    // SAFETY: SSE2 is part of every x86_64 processor and of the target's baseline.
    unsafe { classify_vectors(window) }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn classify_vectors(window: &[u8; WINDOW_BYTES + 8]) -> (u32, u32) {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_cmpgt_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8,
        _mm_sub_epi8,
    };
    let load = |at: usize| _mm_set_epi64x(word(window, at + 8) as i64, word(window, at) as i64);
    let bits =
        |low: __m128i, high: __m128i| _mm_movemask_epi8(low) as u32 | (_mm_movemask_epi8(high) as u32) << 16;
    let (low, high) = (load(0), load(16));
    // Moves '0'..='9' to the ten lowest signed bytes; there is no unsigned compare.
    let shift = _mm_set1_epi8((b'0' ^ 0x80) as i8);
    let nine = _mm_set1_epi8(i8::MIN + 9);
    let other = |half| _mm_cmpgt_epi8(_mm_sub_epi8(half, shift), nine);
    let line_end = |half| _mm_cmpeq_epi8(half, _mm_set1_epi8(b'\n' as i8));
    (bits(other(low), other(high)), bits(line_end(low), line_end(high)))
}

#[cfg(not(target_arch = "x86_64"))]
use classify_bytes as classify;

/// [`classify`] without vector instructions.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn classify_bytes(window: &[u8; WINDOW_BYTES + 8]) -> (u32, u32) {
    let mut other = 0;
    let mut line_ends = 0;
    for (at, byte) in window[..WINDOW_BYTES].iter().enumerate() {
        other |= u32::from(!byte.is_ascii_digit()) << at;
        line_ends |= u32::from(*byte == b'\n') << at;
    }
    (other, line_ends)
}

#[cfg(test)]
mod tests {
    use super::super::event::plain_number;
    use super::*;
    use proptest::prelude::*;

    /// Any of our lines is 32 + 32 bytes at most, so this many behind it let the quick way look ahead.
    const PADDING: [u8; BLOCK_BYTES] = [b'['; BLOCK_BYTES];

    fn shape(line: &str) -> Option<Shape> {
        Shape::learn(line.as_bytes(), &EventLine::parse(line.as_bytes())?)
    }

    fn read(shape: &Shape, line: &str) -> Option<Hit> {
        let mut bytes = line.as_bytes().to_vec();
        bytes.push(b'\n');
        bytes.extend_from_slice(&PADDING);
        shape.read(&bytes)
    }

    /// The same fields, read the general way.
    fn general(line: &str) -> Option<Hit> {
        let event = EventLine::parse(line.as_bytes())?;
        let secs = event.time().ok()?.as_secs();
        let value = plain_number(event.payload(&mut String::new()).ok()?).ok()??;
        Some(Hit { secs, value, len: line.len() + 1 })
    }

    const SPACED: &str = r#"["CounterGroup", 1394047812.35, "123.45"]"#;
    const COMPACT: &str = r#"["PercentileCounter",1394047812,"1"]"#;

    #[test]
    fn usual_lines_take_the_quick_way() {
        let spaced = shape(SPACED).expect("a usual shape");
        for (time, value) in
            [("1394047812.3", "1"), ("9999999999.999999", "-0.5"), ("1000000000", "99999999")]
        {
            let line = format!(r#"["CounterGroup", {time}, "{value}"]"#);
            assert_eq!(read(&spaced, &line), general(&line), "{line}");
            assert!(read(&spaced, &line).is_some(), "{line}");
        }
        let compact = shape(COMPACT).expect("a usual shape");
        let hit = read(&compact, COMPACT).expect("its own shape");
        assert_eq!((hit.secs, hit.value, hit.len), (1_394_047_812, 1.0, COMPACT.len() + 1));
    }

    #[test]
    fn lines_of_another_shape_are_left_to_the_general_reader() {
        let spaced = shape(SPACED).expect("a usual shape");
        for line in [
            r#"["CounterGroup",1394047812.35, "123.45"]"#,
            r#"["CounterGroup", 1394047812.35,"123.45"]"#,
            r#"["CounterGrouP", 1394047812.35, "123.45"]"#,
            r#"["CounterGroup", 394047812.35, "123.45"]"#,
            r#"["CounterGroup", 11394047812.35, "123.45"]"#,
            r#"["CounterGroup", 1394047812., "123.45"]"#,
            r#"["CounterGroup", 1394047812.1234567, "1"]"#,
            r#"["CounterGroup", 1394047812.35, ""]"#,
            r#"["CounterGroup", 1394047812.35, "-"]"#,
            r#"["CounterGroup", 1394047812.35, ".5"]"#,
            r#"["CounterGroup", 1394047812.35, "5."]"#,
            r#"["CounterGroup", 1394047812.35, "1.2.3"]"#,
            r#"["CounterGroup", 1394047812.35, "+1"]"#,
            r#"["CounterGroup", 1394047812.35, "1e3"]"#,
            r#"["CounterGroup", 1394047812.35, "123456789"]"#,
            r#"["CounterGroup", 1394047812.35, "[1]"]"#,
            r#"["CounterGroup", 1394047812.35, "1", 2]"#,
            r#"["CounterGroup", 1394047812.35, "1"] "#,
            r#"["CounterGroup", 1394047812.35, 1]"#,
            "",
            "[",
        ] {
            assert_eq!(read(&spaced, line), None, "{line}");
        }
        assert_eq!(spaced.read(SPACED.as_bytes()), None, "too near to the end of the piece");
        assert_eq!(Shape::default().read(&PADDING), None, "nothing was learnt");
    }

    #[test]
    fn unusual_lines_are_not_learnt() {
        let long = format!(r#"["{}", 1394047812.35, "1"]"#, "T".repeat(40));
        for line in
            [r#"["T", "1394047812", "1"]"#, r#"["T", 1394047812 , "1"]"#, r#"["T", 1, "\"a\""]"#, &long]
        {
            assert!(shape(line).is_none(), "{line}");
        }
    }

    proptest! {
        /// forall lines near the usual shape: what the quick way reads, the general way reads the same.
        #[test]
        fn the_quick_way_agrees_with_the_general_one(
            learnt in prop_oneof![Just(SPACED), Just(COMPACT), Just(r#"["CounterGroup",1394047812,"1"]"#)],
            line in r#"\["(CounterGroup|PercentileCounter)",? ?[0-9]{9,11}(\.[0-9]{0,7})?, ?"[-+]?[0-9]{0,9}([.eE\"][0-9]{0,7})?"\]? ?"#,
        ) {
            if let Some(hit) = read(&shape(learnt).expect("a usual shape"), &line) {
                let general = general(&line).expect("the general way reads it");
                prop_assert_eq!(hit.value.to_bits(), general.value.to_bits());
                prop_assert_eq!(hit, general);
            }
        }

        /// forall line, one byte of it changed: as above.
        #[test]
        fn a_changed_byte_never_leads_it_astray(at in 0..SPACED.len(), byte in b' '..=b'~') {
            let mut line = SPACED.to_owned();
            line.replace_range(at..=at, &char::from(byte).to_string());
            if let Some(hit) = read(&shape(SPACED).expect("a usual shape"), &line) {
                prop_assert_eq!(Some(hit), general(&line));
            }
        }

        /// forall window: the vector form equals the plain one.
        #[test]
        fn bytes_are_classified_alike_with_and_without_vectors(
            window in proptest::array::uniform32(any::<u8>()), digits in proptest::array::uniform32(b'\t'..b'>'),
        ) {
            for bytes in [window, digits] {
                let mut window = [0; WINDOW_BYTES + 8];
                window[..WINDOW_BYTES].copy_from_slice(&bytes);
                prop_assert_eq!(classify(&window), classify_bytes(&window));
            }
        }
    }
}
