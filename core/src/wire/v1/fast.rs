//! The quick way through the lines that nearly all traffic consists of.
//!
//! A batch repeats one shape: `["CounterGroup", 1394047812.35, "123.45"]`, with the same type, the same
//! blanks and mostly the same second in every line. Once the general reader has seen such a line, the
//! next ones are read under the assumption that they look the same: compare all up to the second, find
//! the marks between the digits behind it, and read a value of up to eight characters, without a branch
//! that depends on the data. One branch at the end asks whether every assumption held. If one did not,
//! the general reader takes the line, so this one never decides that a line is bad.

mod vectors;

use self::vectors::Vectors;
use super::event::EventLine;
use super::number::POWERS_OF_TEN;

/// Longest start of a line, up to and with the second: the longest type name, blanks, ten digits.
const PREFIX_BYTES_MAX: usize = 32;
/// Bytes of the line behind the second that are looked at.
const WINDOW_BYTES: usize = 32;
/// Bytes that can be read from any place in the window.
const WORD_BYTES: usize = 8;
/// Seconds of ten digits: September 2001 to November 2286.
const SECS_DIGITS: usize = 10;
/// Longest value without its sign: what one word holds.
const VALUE_BYTES_MAX: usize = 8;

/// The longest line this way can take, without its line end.
pub const LINE_BYTES_MAX: usize = PREFIX_BYTES_MAX + WINDOW_BYTES;

/// The shape of the lines to come.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The line up to and with the second.
    prefix: [u8; PREFIX_BYTES_MAX],
    prefix_len: usize,
    /// A bit for each byte of the prefix.
    prefix_mask: u32,
    /// The second in the prefix.
    secs: i64,
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
        let secs = read_secs(time.get(..SECS_DIGITS)?)?;
        let prefix_len = event.time_at + SECS_DIGITS;
        let mut prefix = [0; PREFIX_BYTES_MAX];
        prefix.get_mut(..prefix_len)?.copy_from_slice(&line[..prefix_len]);
        let after_time = &line[event.time_at + time.len()..];
        let separators: [&[u8]; 2] = [b", \"", b",\""];
        let separator_bytes = separators.into_iter().find(|separator| after_time.starts_with(separator))?;
        let (mut separator, mut separator_mask) = (0, 0);
        for (at, byte) in separator_bytes.iter().enumerate() {
            separator |= u32::from(*byte) << (at * 8);
            separator_mask |= 0xff << (at * 8);
        }
        let prefix_mask = u32::MAX >> (PREFIX_BYTES_MAX - prefix_len);
        let separator_len = separator_bytes.len();
        Some(Self { prefix, prefix_len, prefix_mask, secs, separator, separator_mask, separator_len })
    }

    /// Reads lines off the front of `bytes` while they have this shape, whatever their second, and `take`
    /// takes them. Gives back how many bytes of lines it took.
    #[inline]
    pub fn read_all(&mut self, bytes: &[u8], take: impl FnMut(Hit) -> bool) -> usize {
        vectors::with_widest(ReadAll { shape: self, bytes, take })
    }

    #[inline(always)]
    fn read<V: Vectors>(&mut self, bytes: &[u8]) -> Option<Hit> {
        let head = bytes.first_chunk()?;
        let window = bytes.get(self.prefix_len..)?.first_chunk()?;
        let same = V::equal(head, &self.prefix);
        if same & self.prefix_mask != self.prefix_mask && !self.move_to_second_of(head, same) {
            return None;
        }
        let window = Window::of::<V>(window);
        let (time_end, time_holds) = window.time_end();
        let separated = window.half(time_end) & self.separator_mask == self.separator;
        let value = window.value(time_end + self.separator_len);
        if !(time_holds & separated & value.holds) {
            return None;
        }
        let len = self.prefix_len + window.line_end() + 1;
        Some(Hit { secs: self.secs, value: window.number(value), len })
    }

    /// Takes the second of a line whose prefix differs in nothing else.
    #[cold]
    fn move_to_second_of(&mut self, head: &[u8; PREFIX_BYTES_MAX], same: u32) -> bool {
        let secs_at = self.prefix_len - SECS_DIGITS;
        let before_secs = self.prefix_mask >> SECS_DIGITS;
        let text = &head[secs_at..self.prefix_len];
        match read_secs(text) {
            Some(secs) if same & before_secs == before_secs => {
                self.prefix[secs_at..self.prefix_len].copy_from_slice(text);
                self.secs = secs;
                true
            }
            _ => false,
        }
    }
}

/// [`Shape::read_all`] for any kind of vectors.
struct ReadAll<'a, F> {
    shape: &'a mut Shape,
    bytes: &'a [u8],
    take: F,
}

impl<F: FnMut(Hit) -> bool> vectors::Task for ReadAll<'_, F> {
    type Output = usize;

    #[inline(always)]
    fn run<V: Vectors>(mut self) -> usize {
        let mut rest = self.bytes;
        while let Some(hit) = self.shape.read::<V>(rest) {
            if !(self.take)(hit) {
                break;
            }
            rest = &rest[hit.len..];
        }
        self.bytes.len() - rest.len()
    }
}

/// The number that digits make, if they are all digits.
fn read_secs(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |secs, byte| byte.is_ascii_digit().then(|| secs * 10 + i64::from(byte - b'0')))
}

/// The bytes of a line behind its second, and what kind of bytes they are. Offsets are cut to
/// [`WINDOW_BYTES`], so that a wrong guess reads wrong bytes, fails its check, and costs no branch.
struct Window<'a> {
    bytes: &'a [u8; WINDOW_BYTES + WORD_BYTES],
    /// A bit for each of the first [`WINDOW_BYTES`] that is no digit.
    other: u32,
    /// A bit for each that is LF.
    line_ends: u32,
}

/// Where a value stands in the window.
#[derive(Clone, Copy)]
struct Value {
    start: usize,
    /// Digits before the point; all of them without one.
    whole: usize,
    /// Digits in all.
    digits: usize,
    negative: bool,
    /// Whether all of it, with the end of the line, is as expected.
    holds: bool,
}

impl<'a> Window<'a> {
    #[inline(always)]
    fn of<V: Vectors>(bytes: &'a [u8; WINDOW_BYTES + WORD_BYTES]) -> Self {
        let looked_at = bytes.first_chunk().expect("the window is longer");
        Self { bytes, other: V::other_than_digits(looked_at), line_ends: V::equal(looked_at, &[b'\n'; 32]) }
    }

    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        self.bytes[at % WINDOW_BYTES]
    }

    #[inline(always)]
    fn word(&self, at: usize) -> u64 {
        let at = at % WINDOW_BYTES;
        u64::from_le_bytes(self.bytes[at..at + WORD_BYTES].try_into().expect("eight bytes"))
    }

    #[inline(always)]
    fn half(&self, at: usize) -> u32 {
        self.word(at) as u32
    }

    /// Offset of the LF; without one, of the last byte, which is none and fails the check for it.
    #[inline(always)]
    fn line_end(&self) -> usize {
        first(self.line_ends)
    }

    /// Where the time ends, and whether its second is followed by nothing or by a point and one to six
    /// decimals.
    #[inline(always)]
    fn time_end(&self) -> (usize, bool) {
        if self.bytes[0] != b'.' {
            return (0, true);
        }
        let end = first(self.other & !1);
        (end, (2..=7).contains(&end))
    }

    /// The value from `at` to the end of the line: perhaps a minus, digits, and at most one point that
    /// is not the first.
    #[inline(always)]
    fn value(&self, at: usize) -> Value {
        let negative = self.byte(at) == b'-';
        let start = at + usize::from(negative);
        let end = self.line_end().wrapping_sub(2);
        let closed = self.half(end) & 0x00ff_ffff == u32::from_le_bytes(*b"\"]\n\0");
        let len = end.wrapping_sub(start);
        // The quote behind the value is a mark too, so there is always one.
        let marks = self.other >> (start % WINDOW_BYTES);
        let whole = first(marks);
        let point = usize::from(self.byte(start + whole) == b'.');
        let next = first(marks & marks.wrapping_sub(point as u32));
        let holds = closed & (next == len) & (whole != 0) & (len <= VALUE_BYTES_MAX);
        Value { start, whole, digits: len.wrapping_sub(point), negative, holds }
    }

    /// The value as the nearest float: both operands of the division are exact.
    #[inline(always)]
    fn number(&self, value: Value) -> f64 {
        let text = self.word(value.start);
        // Close the gap that the point leaves between the digits. Two shifts, because there may be eight
        // digits before it.
        let half_of_whole = 4 * value.whole as u32 % 64;
        let before_point = (1_u64 << half_of_whole << half_of_whole).wrapping_sub(1);
        let digits = text & before_point | text >> 8 & !before_point;
        let mantissa = eight_digits(digits << ((64 - 8 * value.digits) % 64));
        let magnitude = mantissa as f64 / POWERS_OF_TEN[(value.digits - value.whole) % 8];
        f64::from_bits(magnitude.to_bits() | u64::from(value.negative) << 63)
    }
}

/// The place of the lowest bit; of the highest if there is none.
#[inline(always)]
fn first(bits: u32) -> usize {
    (bits | 1 << 31).trailing_zeros() as usize
}

/// The number that eight digits make, first digit in the lowest byte; bytes of zero count as `0`.
#[inline(always)]
fn eight_digits(text: u64) -> u32 {
    let ones = text & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = ones.wrapping_mul(10 << 8 | 1) >> 8 & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100 << 16 | 1) >> 16 & 0x0000_ffff_0000_ffff;
    (fours.wrapping_mul(10_000 << 32 | 1) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::super::event::plain_number;
    use super::*;
    use proptest::prelude::*;

    /// Enough behind a line to let the quick way look ahead.
    const PADDING: [u8; 80] = [b'['; 80];

    fn shape(line: &str) -> Option<Shape> {
        Shape::learn(line.as_bytes(), &EventLine::parse(line.as_bytes())?)
    }

    fn read(shape: &mut Shape, line: &str) -> Option<Hit> {
        let mut bytes = line.as_bytes().to_vec();
        bytes.push(b'\n');
        bytes.extend_from_slice(&PADDING);
        let mut hit = None;
        let len = shape.read_all(&bytes, |first| hit.replace(first).is_none());
        assert_eq!(hit.map_or(0, |hit| hit.len), len);
        hit
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
        let mut spaced = shape(SPACED).expect("a usual shape");
        for (time, value) in
            [("1394047812.3", "1"), ("9999999999.999999", "-0.5"), ("1000000000", "99999999")]
        {
            let line = format!(r#"["CounterGroup", {time}, "{value}"]"#);
            assert_eq!(read(&mut spaced, &line), general(&line), "{line}");
            assert!(read(&mut spaced, &line).is_some(), "{line}");
        }
        let mut compact = shape(COMPACT).expect("a usual shape");
        let hit = read(&mut compact, COMPACT).expect("its own shape");
        assert_eq!((hit.secs, hit.value, hit.len), (1_394_047_812, 1.0, COMPACT.len() + 1));
    }

    #[test]
    fn lines_of_another_shape_are_left_to_the_general_reader() {
        let mut spaced = shape(SPACED).expect("a usual shape");
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
            assert_eq!(read(&mut spaced, line), None, "{line}");
        }
        assert_eq!(spaced.read_all(SPACED.as_bytes(), |_| true), 0, "too near to the end of the piece");
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
            if let Some(hit) = read(&mut shape(learnt).expect("a usual shape"), &line) {
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
            if let Some(hit) = read(&mut shape(SPACED).expect("a usual shape"), &line) {
                prop_assert_eq!(Some(hit), general(&line));
            }
        }
    }
}
