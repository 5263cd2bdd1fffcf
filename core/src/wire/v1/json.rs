//! The JSON dialect of v1 (that of the cjson library the first Taba used), and its way to strict JSON.
//!
//! Beyond JSON it allows `NaN`, `Infinity` with a sign, a leading `+`, leading zeros, raw control bytes
//! in strings, `\UXXXXXXXX`, and a missing comma between items of an array. An escape it does not know
//! stays as it is, backslash included; that holds for `\/` too. Text that is not UTF-8 is read as one
//! code point per byte.

use super::number::Decimal;
use crate::bad::BadReason;

/// How deep arrays and objects may nest; below the limit of the strict parsers behind us.
const DEPTH_MAX: u32 = 100;

/// A value, scalars only as far as they are cheap to read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// A string, between its quotes.
    Text {
        /// As written.
        raw: &'a [u8],
        /// Whether it holds a backslash.
        escaped: bool,
    },
    /// A number.
    Number(Decimal<'a>),
    /// `NaN` or an infinity.
    NotFinite,
    /// `true`, `false` or `null`.
    Word(&'static str),
    /// The opening bracket of an array.
    Array,
    /// The opening brace of an object.
    Object,
}

/// Reads values from the front of a text.
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

const WORDS: [(&[u8], Token<'static>); 7] = [
    (b"true", Token::Word("true")),
    (b"false", Token::Word("false")),
    (b"null", Token::Word("null")),
    (b"NaN", Token::NotFinite),
    (b"Infinity", Token::NotFinite),
    (b"+Infinity", Token::NotFinite),
    (b"-Infinity", Token::NotFinite),
];

impl<'a> Scanner<'a> {
    /// A scanner at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.at
    }

    /// Skips blanks and says whether the text ends there.
    pub fn at_end(&mut self) -> bool {
        self.skip_blanks();
        self.at == self.bytes.len()
    }

    /// Skips blanks and takes `byte` if it is next.
    pub fn take(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let taken = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(taken);
        taken
    }

    /// Skips blanks.
    pub fn skip_blanks(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c)) {
            self.at += 1;
        }
    }

    /// The next scalar, or the bracket that opens an array or object.
    pub fn token(&mut self) -> Option<Token<'a>> {
        self.skip_blanks();
        let rest = &self.bytes[self.at..];
        let (token, len) = match rest.first()? {
            b'"' => text(rest)?,
            b'[' => (Token::Array, 1),
            b'{' => (Token::Object, 1),
            _ => match Decimal::scan(rest) {
                Some(number) => (Token::Number(number), number.text().len()),
                None => {
                    let (word, token) = WORDS.iter().find(|(word, _)| rest.starts_with(word))?;
                    (*token, word.len())
                }
            },
        };
        self.at += len;
        Some(token)
    }

    /// The next item of an array whose bracket was taken: `Some(None)` at its end. `first` is whether
    /// no item was read yet.
    pub fn item(&mut self, first: bool) -> Option<Option<Token<'a>>> {
        if self.take(b']') {
            return Some(None);
        }
        if !first {
            // The comma may be missing, but one at the end is an error: no token is a bracket.
            self.take(b',');
        }
        self.token().map(Some)
    }

    /// Skips what is left of a value after its first token.
    pub fn skip_rest(&mut self, token: Token<'_>) -> Option<()> {
        self.walk(token, DEPTH_MAX, &mut Discard)
    }

    fn walk(&mut self, token: Token<'_>, depth: u32, out: &mut impl Write) -> Option<()> {
        match token {
            Token::Array => self.walk_array(depth.checked_sub(1)?, out),
            Token::Object => self.walk_object(depth.checked_sub(1)?, out),
            scalar => out.scalar(scalar),
        }
    }

    fn walk_array(&mut self, depth: u32, out: &mut impl Write) -> Option<()> {
        out.mark('[');
        let mut first = true;
        while let Some(token) = self.item(first)? {
            if !first {
                out.mark(',');
            }
            first = false;
            self.walk(token, depth, out)?;
        }
        out.mark(']');
        Some(())
    }

    fn walk_object(&mut self, depth: u32, out: &mut impl Write) -> Option<()> {
        out.mark('{');
        let mut first = true;
        while !self.take(b'}') {
            if !first {
                self.take(b',').then_some(())?;
                out.mark(',');
            }
            first = false;
            let key = self.token().filter(|key| matches!(key, Token::Text { .. }))?;
            out.scalar(key)?;
            self.take(b':').then_some(())?;
            out.mark(':');
            let token = self.token()?;
            self.walk(token, depth, out)?;
        }
        out.mark('}');
        Some(())
    }
}

/// A string token and its length with both quotes.
fn text(rest: &[u8]) -> Option<(Token<'_>, usize)> {
    let mut escaped = false;
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', &rest[at..])?;
        if rest[at] == b'"' {
            return Some((Token::Text { raw: &rest[1..at], escaped }, at + 1));
        }
        escaped = true;
        at += 2;
        if at > rest.len() {
            return None;
        }
    }
}

/// Where a walk over a value writes it.
trait Write {
    fn mark(&mut self, mark: char);
    fn scalar(&mut self, token: Token<'_>) -> Option<()>;
}

struct Discard;

impl Write for Discard {
    fn mark(&mut self, _: char) {}
    fn scalar(&mut self, _: Token<'_>) -> Option<()> {
        Some(())
    }
}

struct Strict<'a> {
    out: &'a mut String,
    not_finite: bool,
}

impl Write for Strict<'_> {
    fn mark(&mut self, mark: char) {
        self.out.push(mark);
    }

    fn scalar(&mut self, token: Token<'_>) -> Option<()> {
        match token {
            Token::Text { raw, .. } => {
                self.out.push('"');
                unescape(raw, &mut |text| push_escaped(text, self.out))?;
                self.out.push('"');
            }
            Token::Number(number) => {
                self.not_finite |= !number.to_f64().is_finite();
                number.write_json(self.out);
            }
            Token::NotFinite => self.not_finite = true,
            Token::Word(word) => self.out.push_str(word),
            Token::Array | Token::Object => {}
        }
        Some(())
    }
}

/// Writes a payload in the dialect as strict JSON into `out`, which is emptied first.
///
/// # Errors
/// [`BadReason::BadPayload`] if it is not even JSON of the dialect, [`BadReason::Nan`] if it holds a
/// number that is not finite.
pub fn to_strict(text: &str, out: &mut String) -> Result<(), BadReason> {
    out.clear();
    let mut scanner = Scanner::new(text.as_bytes());
    let mut strict = Strict { out, not_finite: false };
    let walked = scanner.token().and_then(|token| scanner.walk(token, DEPTH_MAX, &mut strict));
    if walked.is_none() || !scanner.at_end() {
        return Err(BadReason::BadPayload);
    }
    if strict.not_finite { Err(BadReason::Nan) } else { Ok(()) }
}

fn push_escaped(text: &str, out: &mut String) {
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
}

/// Gives the text of a string to `emit`, in runs. `None` if an escape is malformed.
pub fn unescape(raw: &[u8], emit: &mut impl FnMut(&str)) -> Option<()> {
    let is_utf8 = std::str::from_utf8(raw).is_ok();
    let mut rest = raw;
    loop {
        let run = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
        emit_run(&rest[..run], is_utf8, emit);
        if run == rest.len() {
            return Some(());
        }
        let (char, len) = escape(&rest[run + 1..])?;
        match char {
            Some(char) => emit(char.encode_utf8(&mut [0; 4])),
            // Not an escape we know: the backslash is text, and so is what follows.
            None => emit("\\"),
        }
        rest = &rest[run + 1 + len..];
    }
}

fn emit_run(run: &[u8], is_utf8: bool, emit: &mut impl FnMut(&str)) {
    if is_utf8 {
        emit(std::str::from_utf8(run).expect("cut at ASCII bytes only"));
    } else {
        for byte in run {
            emit(char::from(*byte).encode_utf8(&mut [0; 4]));
        }
    }
}

/// The character an escape stands for and the length of the escape after its backslash; no character
/// and length 0 if it is none of ours. `None` if it is cut off or out of range.
fn escape(rest: &[u8]) -> Option<(Option<char>, usize)> {
    let char = match rest.first()? {
        b'"' => '"',
        b'\\' => '\\',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode(rest),
        b'U' => return Some((Some(char::from_u32(hex(rest.get(1..9)?)?)?), 9)),
        _ => return Some((None, 0)),
    };
    Some((Some(char), 1))
}

/// `uXXXX`, or two of them where they are a surrogate pair. A lone surrogate is no character of ours
/// and becomes U+FFFD.
fn unicode(rest: &[u8]) -> Option<(Option<char>, usize)> {
    let high = hex(rest.get(1..5)?)?;
    if (0xd800..0xdc00).contains(&high) && rest.get(5..7) == Some(b"\\u") {
        let low = hex(rest.get(7..11)?)?;
        if (0xdc00..0xe000).contains(&low) {
            let point = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            return Some((char::from_u32(point), 11));
        }
    }
    Some((Some(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER)), 5))
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, BadReason>) {
        let mut out = String::from("left over");
        assert_eq!(to_strict(text, &mut out).map(|()| out.as_str()), expected, "{text}");
    }

    #[test]
    fn the_dialect_becomes_strict_json() {
        check(" [1, +2 \t,007] ", Ok("[1,2,7]"));
        check("[1 2[3]\"a\"]", Ok("[1,2,[3],\"a\"]"));
        check("{\"k\": [true, false, null], \"e\": {}}", Ok("{\"k\":[true,false,null],\"e\":{}}"));
        check(r#""\U0001f600\u2248\ud83d\ude00""#, Ok("\"😀≈😀\""));
        check(r#""a\/b \q""#, Ok(r#""a\\/b \\q""#));
        check("\"tab\tand\u{1}\"", Ok(r#""tab\tand\u0001""#));
        check(r#""\ud83d lone""#, Ok("\"\u{fffd} lone\""));
    }

    #[test]
    fn what_the_first_taba_refused_is_refused() {
        for text in [
            "",
            " ",
            "[1,]",
            "[,1]",
            "[1,,2]",
            "{\"a\":1,}",
            "{\"a\":1 \"b\":2}",
            "{1:2}",
            "1 2",
            "[1",
            "\"a",
        ] {
            check(text, Err(BadReason::BadPayload));
        }
        for text in ["nul", "\"\\u12\"", "\"\\U00110000\"", "\"\\", "]", "{\"a\"}", "{\"a\":}"] {
            check(text, Err(BadReason::BadPayload));
        }
    }

    #[test]
    fn numbers_that_are_not_finite_are_told_apart() {
        for text in ["NaN", "[1, -Infinity]", "{\"a\": +Infinity}", "Infinity", "1e999"] {
            check(text, Err(BadReason::Nan));
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_using_up_the_stack() {
        check(&"[".repeat(1_000_000), Err(BadReason::BadPayload));
        check(&format!("{}{}", "[".repeat(101), "]".repeat(101)), Err(BadReason::BadPayload));
        let deepest = format!("{}{}", "[".repeat(100), "]".repeat(100));
        check(&deepest, Ok(&deepest));
        assert!(serde_json::from_str::<serde_json::Value>(&deepest).is_ok());
    }

    #[test]
    fn bytes_that_are_not_utf8_are_one_code_point_each() {
        let mut text = String::new();
        unescape(b"caf\xe9 \\n", &mut |run| text.push_str(run)).expect("no escape is malformed");
        assert_eq!(text, "café \n");
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                proptest::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// forall v: read(to_strict(print(v))) == v, compact and pretty.
        #[test]
        fn strict_json_keeps_its_meaning(value in value()) {
            for text in [value.to_string(), serde_json::to_string_pretty(&value).expect("prints")] {
                // `\/` aside (never printed here), the dialect reads JSON as JSON.
                let mut out = String::new();
                prop_assert_eq!(to_strict(&text, &mut out), Ok(()));
                prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&out).expect("strict"), &value);
            }
        }

        /// forall text: what is accepted is strict JSON.
        #[test]
        fn whatever_is_accepted_comes_out_strict(text in "[\\[\\]{}\",:0-9eE+.\\\\/uU aNIn-]{0,24}") {
            let mut out = String::new();
            if to_strict(&text, &mut out).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok(), "{} from {}", out, text);
            }
        }
    }
}
