//! A small lenient JSON reader for payloads, in the dialect of the first Taba's clients.
//!
//! Beyond JSON it takes `NaN`, `Infinity` with a sign, a leading `+`, leading zeros, raw control
//! characters in strings, `\UXXXXXXXX`, and items of an array without a comma between them. `\/` and
//! unknown escapes keep their backslash. Integers keep their digits, however many.

use std::fmt::Write as _;

/// Arrays and objects may be nested this deep; deeper text is refused, because reading recurses.
const DEPTH_MAX: usize = 64;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without fraction and exponent: decimal digits, with a minus sign if negative, without
    /// leading zeros.
    Integer(String),
    /// Any other number, or NaN or infinite.
    Float(f64),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object, sorted by key; of equal keys the last one.
    Object(Vec<(String, Value)>),
}

/// Text that is not JSON, even leniently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not JSON at offset {offset}")]
pub struct BadJson {
    /// Byte offset of the first thing that cannot be read.
    pub offset: usize,
}

/// Reads one value and nothing after it but white space.
///
/// # Errors
/// [`BadJson`].
pub fn parse(text: &str) -> Result<Value, BadJson> {
    let mut parser = Parser { text, offset: 0 };
    let value = parser.value(0)?;
    parser.skip_space();
    if parser.offset == text.len() { Ok(value) } else { Err(parser.bad()) }
}

impl Value {
    /// Whether every number in it is finite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        match self {
            Self::Float(number) => number.is_finite(),
            Self::Array(items) => items.iter().all(Self::is_finite),
            Self::Object(members) => members.iter().all(|(_, value)| value.is_finite()),
            Self::Null | Self::Bool(_) | Self::Integer(_) | Self::String(_) => true,
        }
    }

    /// Appends the value as compact ASCII JSON: one text for equal values. It must be finite.
    pub fn write_compact(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
            Self::Integer(digits) => out.push_str(digits),
            // The debug form is the shortest that reads back the same, and always has a point or exponent.
            Self::Float(number) => write!(out, "{number:?}").expect("writing to a string cannot fail"),
            Self::String(text) => write_string(out, text),
            Self::Array(items) => {
                write_list(out, ['[', ']'], ",", items, Self::write_compact);
            }
            Self::Object(members) => write_list(out, ['{', '}'], ",", members, |(key, value), out| {
                write_string(out, key);
                out.push(':');
                value.write_compact(out);
            }),
        }
    }
}

/// Appends items between brackets.
pub(crate) fn write_list<T>(
    out: &mut String,
    [open, close]: [char; 2],
    separator: &str,
    items: &[T],
    write: impl Fn(&T, &mut String),
) {
    out.push(open);
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.push_str(separator);
        }
        write(item, out);
    }
    out.push(close);
}

/// Appends text as a JSON string of ASCII characters: whatever else is in it becomes `\uXXXX`.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").expect("writing to a string cannot fail");
                }
            }
        }
    }
    out.push('"');
}

struct Parser<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Parser<'a> {
    fn bad(&self) -> BadJson {
        BadJson { offset: self.offset }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.offset).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.offset += 1;
        }
    }

    /// Takes a byte if it is next.
    fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.offset += usize::from(taken);
        taken
    }

    fn take_word(&mut self, word: &str, value: Value) -> Result<Value, BadJson> {
        if !self.text.as_bytes()[self.offset..].starts_with(word.as_bytes()) {
            return Err(self.bad());
        }
        self.offset += word.len();
        Ok(value)
    }

    fn value(&mut self, depth: usize) -> Result<Value, BadJson> {
        self.skip_space();
        if depth > DEPTH_MAX {
            return Err(self.bad());
        }
        match self.peek().ok_or(self.bad())? {
            b'"' => self.string().map(Value::String),
            b'[' => self.array(depth),
            b'{' => self.object(depth),
            b'n' => self.take_word("null", Value::Null),
            b't' => self.take_word("true", Value::Bool(true)),
            b'f' => self.take_word("false", Value::Bool(false)),
            b'N' => self.take_word("NaN", Value::Float(f64::NAN)),
            b'I' => self.take_word("Infinity", Value::Float(f64::INFINITY)),
            b'+' | b'-' | b'0'..=b'9' => self.number(),
            _ => Err(self.bad()),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, BadJson> {
        self.offset += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.take(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.take(b']') {
                return Ok(Value::Array(items));
            }
            // The comma may be missing, but none may stand before the end.
            self.take(b',');
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, BadJson> {
        self.offset += 1;
        let mut members: Vec<(String, Value)> = Vec::new();
        self.skip_space();
        if self.take(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.skip_space();
            let key = if self.peek() == Some(b'"') { self.string()? } else { return Err(self.bad()) };
            self.skip_space();
            if !self.take(b':') {
                return Err(self.bad());
            }
            members.push((key, self.value(depth + 1)?));
            self.skip_space();
            if self.take(b'}') {
                return Ok(Value::Object(sorted_members(members)));
            }
            if !self.take(b',') {
                return Err(self.bad());
            }
        }
    }

    fn number(&mut self) -> Result<Value, BadJson> {
        let bad = self.bad();
        let start = self.offset;
        let negative = self.take(b'-');
        if !negative {
            self.take(b'+');
        }
        if self.peek() == Some(b'I') {
            let infinity = if negative { f64::NEG_INFINITY } else { f64::INFINITY };
            return self.take_word("Infinity", Value::Float(infinity));
        }
        let digits = self.digits();
        if digits.is_empty() {
            return Err(bad);
        }
        let is_integer = !matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        if is_integer {
            return Ok(Value::Integer(canonical_integer(negative, digits)));
        }
        if self.take(b'.') {
            self.digits();
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'-') {
                self.take(b'+');
            }
            self.digits();
        }
        self.text[start..self.offset].parse().map(Value::Float).map_err(|_| bad)
    }

    fn digits(&mut self) -> &'a str {
        let start = self.offset;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.offset += 1;
        }
        &self.text[start..self.offset]
    }

    /// Reads a string; its opening quote is next.
    fn string(&mut self) -> Result<String, BadJson> {
        self.offset += 1;
        let mut string = String::new();
        loop {
            let rest = &self.text[self.offset..];
            let plain = memchr::memchr2(b'"', b'\\', rest.as_bytes()).ok_or(self.bad())?;
            string.push_str(&rest[..plain]);
            self.offset += plain;
            if self.take(b'"') {
                return Ok(string);
            }
            self.offset += 1;
            self.escape(&mut string)?;
        }
    }

    /// Reads what follows a backslash.
    fn escape(&mut self, string: &mut String) -> Result<(), BadJson> {
        let escaped = self.text[self.offset..].chars().next().ok_or(self.bad())?;
        self.offset += escaped.len_utf8();
        match escaped {
            '"' | '\\' => string.push(escaped),
            'n' => string.push('\n'),
            'r' => string.push('\r'),
            't' => string.push('\t'),
            'b' => string.push('\u{8}'),
            'f' => string.push('\u{c}'),
            'u' => {
                let unit = self.hex(4)?;
                string.push(self.character_of_unit(unit));
            }
            'U' => {
                let code = self.hex(8)?;
                string.push(char::from_u32(code).ok_or(self.bad())?);
            }
            other => string.extend(['\\', other]),
        }
        Ok(())
    }

    fn hex(&mut self, digits: usize) -> Result<u32, BadJson> {
        let hex = self.text.as_bytes().get(self.offset..self.offset + digits).ok_or(self.bad())?;
        let mut code = 0;
        for digit in hex {
            code = code << 4 | char::from(*digit).to_digit(16).ok_or(self.bad())?;
        }
        self.offset += digits;
        Ok(code)
    }

    /// The character of a UTF-16 unit, with the second half of a pair if it follows. A half without its
    /// other half is no character and reads as the replacement character.
    fn character_of_unit(&mut self, unit: u32) -> char {
        if let Some(character) = char::from_u32(unit) {
            return character;
        }
        let start = self.offset;
        if self.take(b'\\')
            && self.take(b'u')
            && let Ok(low @ 0xdc00..=0xdfff) = self.hex(4)
            && unit < 0xdc00
        {
            let code = 0x10000 + ((unit - 0xd800) << 10 | (low - 0xdc00));
            return char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        }
        self.offset = start;
        char::REPLACEMENT_CHARACTER
    }
}

fn canonical_integer(negative: bool, digits: &str) -> String {
    let digits = digits.trim_start_matches('0');
    match (negative, digits) {
        (_, "") => "0".to_owned(),
        (true, digits) => format!("-{digits}"),
        (false, digits) => digits.to_owned(),
    }
}

fn sorted_members(mut members: Vec<(String, Value)>) -> Vec<(String, Value)> {
    // Stable, so that of equal keys the last one in the text stays last; `dedup` keeps the first.
    members.reverse();
    members.sort_by(|a, b| a.0.cmp(&b.0));
    members.dedup_by(|later, first| later.0 == first.0);
    members
}

#[cfg(test)]
mod tests;
