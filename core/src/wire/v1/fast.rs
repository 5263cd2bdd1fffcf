//! The quick way through the lines that nearly all traffic consists of.
//!
//! A batch repeats one shape: `["CounterGroup", 1394047812.35, "123.45"]`, with the same type, the same
//! blanks and mostly the same second in every line. Once the general reader has seen such a line, the
//! next ones are read under the assumption that they look the same: compare all up to the second, find
//! the marks between the digits behind it, and read a value of up to 15 digits. Branches only ask
//! whether an assumption holds, and so are guessed right; what differs from line to line is computed.
//! If one does not hold, the general reader takes the line, so this one never decides that a line is bad.

use super::event::EventLine;
use super::number::POWERS_OF_TEN;
use crate::vectors::{self, Vectors};

/// Longest start of a line, up to and with the second: the longest type name, blanks, ten digits.
const PREFIX_BYTES_MAX: usize = 32;
/// Bytes of the line behind the second that are looked at.
const WINDOW_BYTES: usize = 32;
/// Bytes that can be read from any place in the window.
const WORD_BYTES: usize = 16;
/// Seconds of ten digits: September 2001 to November 2286.
const SECS_DIGITS: usize = 10;
/// Most digits of a value: any number of so many is an exact float.
const VALUE_DIGITS_MAX: usize = 15;

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

    /// Reads lines off the front of `bytes` into the columns, while they have this shape and there is
    /// room. Their second may be any before `secs_end`. Gives back the bytes of the lines, with their
    /// line ends, and how many lines there were.
    #[inline]
    pub fn read(
        &mut self,
        bytes: &[u8],
        secs_end: i64,
        secs: &mut [i64],
        values: &mut [f64],
    ) -> (usize, usize) {
        vectors::with_widest(Read { shape: self, bytes, secs_end, secs, values })
    }

    /// The value of the line at the front of `bytes`, and the length of the line.
    #[inline(always)]
    fn line<V: Vectors>(&mut self, bytes: &[u8], secs_end: i64) -> Option<(f64, usize)> {
        let head = bytes.first_chunk()?;
        let window = bytes.get(self.prefix_len..)?.first_chunk()?;
        let differs = !V::equal(head, &self.prefix) & self.prefix_mask;
        if differs != 0 && !self.move_to_second_of(head, differs, secs_end) {
            return None;
        }
        let window = Window::of::<V>(window);
        let value = window.value()?;
        let time_end = value.start.checked_sub(value.minus + self.separator_len)?;
        if window.half(time_end) & self.separator_mask != self.separator || !window.is_time(time_end) {
            return None;
        }
        Some((window.number(value), self.prefix_len + value.end + LINE_END.len()))
    }

    /// Takes the second of a line whose prefix differs in nothing else.
    #[cold]
    fn move_to_second_of(&mut self, head: &[u8; PREFIX_BYTES_MAX], differs: u32, secs_end: i64) -> bool {
        let secs_at = self.prefix_len - SECS_DIGITS;
        if (differs.trailing_zeros() as usize) < secs_at {
            return false;
        }
        let text = &head[secs_at..self.prefix_len];
        match read_secs(text) {
            Some(secs) if secs < secs_end => {
                self.prefix[secs_at..self.prefix_len].copy_from_slice(text);
                self.secs = secs;
                true
            }
            _ => false,
        }
    }
}

/// [`Shape::read`] for any kind of vectors.
struct Read<'a> {
    shape: &'a mut Shape,
    bytes: &'a [u8],
    secs_end: i64,
    secs: &'a mut [i64],
    values: &'a mut [f64],
}

impl vectors::Task for Read<'_> {
    type Output = (usize, usize);

    #[inline(always)]
    fn run<V: Vectors>(self) -> (usize, usize) {
        let mut rest = self.bytes;
        let mut lines = 0;
        for (secs, value) in self.secs.iter_mut().zip(self.values) {
            let Some((number, len)) = self.shape.line::<V>(rest, self.secs_end) else { break };
            *secs = self.shape.secs;
            *value = number;
            rest = &rest[len..];
            lines += 1;
        }
        (self.bytes.len() - rest.len(), lines)
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
    /// A bit for each that is a quote.
    quotes: u32,
}

/// Where a value stands in the window.
#[derive(Clone, Copy)]
struct Value {
    /// Its first digit.
    start: usize,
    /// The quote behind it.
    end: usize,
    /// 1 if there is a minus before it.
    minus: usize,
    /// Digits before the point; all of them without one.
    whole: usize,
    /// Digits in all.
    digits: usize,
}

/// What stands behind a value.
const LINE_END: [u8; 3] = *b"\"]\n";

impl<'a> Window<'a> {
    #[inline(always)]
    fn of<V: Vectors>(bytes: &'a [u8; WINDOW_BYTES + WORD_BYTES]) -> Self {
        let looked_at = bytes.first_chunk().expect("the window is longer");
        Self { bytes, other: V::other_than_digits(looked_at), quotes: V::equal(looked_at, &[b'"'; 32]) }
    }

    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        self.bytes[at % WINDOW_BYTES]
    }

    #[inline(always)]
    fn word(&self, at: usize) -> u128 {
        let at = at % WINDOW_BYTES;
        u128::from_le_bytes(self.bytes[at..at + WORD_BYTES].try_into().expect("sixteen bytes"))
    }

    #[inline(always)]
    fn half(&self, at: usize) -> u32 {
        self.word(at) as u32
    }

    /// Whether the second is followed by nothing, or by a point and one to six decimals.
    #[inline(always)]
    fn is_time(&self, end: usize) -> bool {
        // Times with and without decimals come in streams of their own, so this branch is guessed right.
        if self.bytes[0] == b'.' {
            (2..=7).contains(&end) && self.other & ((1 << end) - 1) == 1
        } else {
            end == 0
        }
    }

    /// The value between the first two quotes: perhaps a minus, digits, and at most one point that is
    /// not the first. The line is to end behind it.
    #[inline(always)]
    fn value(&self) -> Option<Value> {
        let start = first(self.quotes) + 1;
        let end = first(self.quotes & self.quotes.wrapping_sub(1));
        let [quote, bracket, line_feed] = LINE_END;
        if self.half(end) & 0x00ff_ffff != u32::from_le_bytes([quote, bracket, line_feed, 0]) {
            return None;
        }
        let len = end.wrapping_sub(start);
        // What is no digit must be a minus where it stands first, and one point behind that. Both kinds
        // differ from line to line, so there is no branch on which of them are there.
        let marks = self.other >> (start % WINDOW_BYTES);
        let minus = marks as usize & 1;
        let whole_end = first(marks & !1);
        let points = marks & !1 & ((1 << (len % WINDOW_BYTES)) - 1);
        let point = usize::from(points != 0);
        let digits = len.wrapping_sub(minus + point);
        if points & points.wrapping_sub(1) != 0 || whole_end == minus || digits > VALUE_DIGITS_MAX {
            return None;
        }
        if (self.byte(start) == b'-') != (minus != 0)
            || (self.byte(start + whole_end) == b'.') != (point != 0)
        {
            return None;
        }
        Some(Value { start: start + minus, end, minus, whole: whole_end - minus, digits })
    }

    /// The value as the nearest float: both operands of the division are exact.
    #[inline(always)]
    fn number(&self, value: Value) -> f64 {
        // Longer values come in streams of their own, so this branch is guessed right.
        let mantissa = if value.digits < 8 { self.short(value) } else { self.long(value) };
        let magnitude = mantissa as f64 / POWERS_OF_TEN[(value.digits - value.whole) % 16];
        f64::from_bits(magnitude.to_bits() | (value.minus as u64) << 63)
    }

    /// The digits of a value of one to seven as a number: with a point they are eight bytes.
    #[inline(always)]
    fn short(&self, value: Value) -> i64 {
        let text = self.word(value.start) as u64;
        // Close the gap that the point leaves between the digits, and push what follows them out.
        let before_point = (1_u64 << (8 * value.whole as u32 % 64)) - 1;
        let digits = text & before_point | text >> 8 & !before_point;
        eight_digits(digits << ((64 - 8 * value.digits) % 64))
    }

    /// The same for up to 15 digits.
    #[inline(always)]
    fn long(&self, value: Value) -> i64 {
        let text = self.word(value.start);
        let before_point = (1_u128 << (8 * value.whole as u32 % 128)) - 1;
        let digits = text & before_point | text >> 8 & !before_point;
        let digits = digits << ((128 - 8 * value.digits) % 128);
        eight_digits(digits as u64) * 100_000_000 + eight_digits((digits >> 64) as u64)
    }
}

/// The place of the lowest bit; of the highest if there is none.
#[inline(always)]
fn first(bits: u32) -> usize {
    (bits | 1 << 31).trailing_zeros() as usize
}

/// The number that eight digits make, first digit in the lowest byte; bytes of zero count as `0`.
#[inline(always)]
fn eight_digits(text: u64) -> i64 {
    let ones = text & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = ones.wrapping_mul(10 << 8 | 1) >> 8 & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100 << 16 | 1) >> 16 & 0x0000_ffff_0000_ffff;
    (fours.wrapping_mul(10_000 << 32 | 1) >> 32) as i64
}

#[cfg(test)]
mod tests {
    use super::super::event::plain_number;
    use super::*;
    use proptest::prelude::*;

    /// A line as it is read.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Hit {
        secs: i64,
        value: f64,
        len: usize,
    }

    /// Enough behind a line to let the quick way look ahead.
    const PADDING: [u8; 80] = [b'['; 80];

    fn shape(line: &str) -> Option<Shape> {
        Shape::learn(line.as_bytes(), &EventLine::parse(line.as_bytes())?)
    }

    fn read(shape: &mut Shape, line: &str) -> Option<Hit> {
        let mut bytes = line.as_bytes().to_vec();
        bytes.push(b'\n');
        bytes.extend_from_slice(&PADDING);
        let (mut secs, mut values) = ([0; 1], [0.0; 1]);
        let (len, lines) = shape.read(&bytes, i64::MAX, &mut secs, &mut values);
        assert_eq!(len > 0, lines == 1);
        (lines == 1).then_some(Hit { secs: secs[0], value: values[0], len })
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
        for (time, value) in [
            ("1394047812.3", "1"),
            ("9999999999.999999", "-0.5"),
            ("1000000000", "99999999"),
            ("1000000000.5", "0.12345678901234"),
        ] {
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
            r#"["CounterGroup", 1394047812.35, "1234567890123456"]"#,
            r#"["CounterGroup", 1394047812.35, "[1]"]"#,
            r#"["CounterGroup", 1394047812.35, "1", 2]"#,
            r#"["CounterGroup", 1394047812.35, "1"] "#,
            r#"["CounterGroup", 1394047812.35, 1]"#,
            "",
            "[",
        ] {
            assert_eq!(read(&mut spaced, line), None, "{line}");
        }
        let near_the_end = spaced.read(SPACED.as_bytes(), i64::MAX, &mut [0], &mut [0.0]);
        assert_eq!(near_the_end, (0, 0), "too near to the end of the piece");
    }

    #[test]
    fn lines_are_read_up_to_the_room_and_up_to_the_end_of_time() {
        let lines = [SPACED, &SPACED.replace("812.", "813."), &SPACED.replace("812.", "814."), ""].join("\n");
        let bytes = [lines.as_bytes(), &PADDING].concat();
        let mut shape = shape(SPACED).expect("a usual shape");
        let line_bytes = SPACED.len() + 1;
        let mut secs = [0; 9];
        let lines = shape.read(&bytes, i64::MAX, &mut secs[..2], &mut [0.0; 9]);
        assert_eq!((lines, secs[..2].to_vec()), ((2 * line_bytes, 2), vec![1_394_047_812, 1_394_047_813]));
        let lines = shape.read(&bytes, 1_394_047_814, &mut secs, &mut [0.0; 9]);
        assert_eq!(lines, (2 * line_bytes, 2));
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
            line in r#"\["(CounterGroup|PercentileCounter)",? ?[0-9]{9,11}(\.[0-9]{0,7})?, ?"[-+]?[0-9]{0,16}([.eE\"][0-9]{0,14})?"\]? ?"#,
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
