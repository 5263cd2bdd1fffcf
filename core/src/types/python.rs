//! Values as the first Taba's Python wrote them: `str` and `repr` of Python 2.7, and cjson's output.

use std::fmt::{self, Write as _};

use super::number::STRING;
use crate::json::{self, Value};

/// A float as Python's `repr`: the shortest text that reads back the same, with `.0` where it would
/// look like an integer.
pub(super) struct Repr(pub(super) f64);

/// A float as Python's `str` and as cjson: 12 significant digits.
pub(super) struct Str(pub(super) f64);

impl fmt::Display for Repr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_float(f, &format!("{:e}", self.0), 16)
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Python leaves one of the 12 digits for the `0` after the point.
        write_float(f, &format!("{:.11e}", self.0), 11)
    }
}

/// Writes a float given as `d.ddde±x`: with an exponent if there would be more than `digits_max` digits
/// before the point, or more than three zeros behind it.
fn write_float(f: &mut fmt::Formatter<'_>, scientific: &str, digits_max: i32) -> fmt::Result {
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return f.write_str(scientific);
    };
    let exponent: i32 = exponent.parse().map_err(|_| fmt::Error)?;
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let digits = mantissa.replace('.', "");
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        digits => digits,
    };
    f.write_str(sign)?;
    let before_point = exponent + 1;
    if before_point > digits_max || before_point <= -4 {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let sign = if exponent < 0 { '-' } else { '+' };
        return write!(f, "{first}{point}{rest}e{sign}{:02}", exponent.abs());
    }
    if before_point <= 0 {
        return write!(f, "0.{:0<width$}{digits}", "", width = -before_point as usize);
    }
    let before_point = before_point as usize;
    if digits.len() <= before_point {
        return write!(f, "{digits:0<before_point$}.0");
    }
    let (whole, fraction) = digits.split_at(before_point);
    write!(f, "{whole}.{fraction}")
}

/// Appends `str(value)`.
pub(super) fn write_str(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => out.push_str(text),
        Value::Float(number) => write!(out, "{}", Str(*number)).expect(STRING),
        other => write_repr(out, other),
    }
}

/// Appends `repr(value)`.
fn write_repr(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(truth) => out.push_str(if *truth { "True" } else { "False" }),
        Value::Integer(digits) => out.push_str(digits),
        Value::Float(number) => write!(out, "{}", Repr(*number)).expect(STRING),
        Value::String(text) => write_repr_of_string(out, text),
        Value::Array(items) => {
            json::write_list(out, ['[', ']'], ", ", items, |item, out| write_repr(out, item));
        }
        Value::Object(members) => json::write_list(out, ['{', '}'], ", ", members, |(key, value), out| {
            write_repr_of_string(out, key);
            out.push_str(": ");
            write_repr(out, value);
        }),
    }
}

fn write_repr_of_string(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    if !text.is_ascii() {
        out.push('u');
    }
    out.push(quote);
    for character in text.chars() {
        match (character, u32::from(character)) {
            ('\\', _) => out.push_str("\\\\"),
            ('\n', _) => out.push_str("\\n"),
            ('\r', _) => out.push_str("\\r"),
            ('\t', _) => out.push_str("\\t"),
            _ if character == quote => out.extend(['\\', quote]),
            (' '..='~', _) => out.push(character),
            (_, code @ 0..=0xff) => write!(out, "\\x{code:02x}").expect(STRING),
            (_, code @ 0x100..=0xffff) => write!(out, "\\u{code:04x}").expect(STRING),
            (_, code) => write!(out, "\\U{code:08x}").expect(STRING),
        }
    }
    out.push(quote);
}

/// Appends a value as cjson wrote it, but as valid JSON: characters beyond U+FFFF as two `\u` escapes.
pub(super) fn write_json(out: &mut String, value: &Value) {
    match value {
        Value::Float(number) => write!(out, "{}", Str(*number)).expect(STRING),
        Value::Array(items) => {
            json::write_list(out, ['[', ']'], ", ", items, |item, out| write_json(out, item));
        }
        Value::Object(members) => json::write_list(out, ['{', '}'], ", ", members, |(key, value), out| {
            json::write_string(out, key);
            out.push_str(": ");
            write_json(out, value);
        }),
        other => other.write_compact(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_python_prints_them() {
        let cases: [(f64, &str, &str); 14] = [
            (0.0, "0.0", "0.0"),
            (-0.0, "-0.0", "-0.0"),
            (1.0, "1.0", "1.0"),
            (1.5, "1.5", "1.5"),
            (-2.25, "-2.25", "-2.25"),
            (0.1 + 0.2, "0.30000000000000004", "0.3"),
            (1_394_047_812.345678, "1394047812.345678", "1394047812.35"),
            (0.1234567890123, "0.1234567890123", "0.123456789012"),
            (1e10, "10000000000.0", "10000000000.0"),
            (1e11, "100000000000.0", "1e+11"),
            (1_394_047_812_345.0, "1394047812345.0", "1.39404781234e+12"),
            (1e16, "1e+16", "1e+16"),
            (0.0001, "0.0001", "0.0001"),
            (0.000012, "1.2e-05", "1.2e-05"),
        ];
        for (number, repr, str) in cases {
            assert_eq!(Repr(number).to_string(), repr);
            assert_eq!(Str(number).to_string(), str);
        }
    }

    #[test]
    fn values_print_as_python_prints_them() {
        let cases = [
            ("null", "None"),
            ("true", "True"),
            ("1.50", "1.5"),
            (r#""it's""#, "it's"),
            (r#"{"a": 1}"#, "{'a': 1}"),
            (r#"[1, "x", null, 0.1]"#, "[1, 'x', None, 0.1]"),
            (r#"["it's", "\u00e9\n", "\u2248"]"#, r#"["it's", u'\xe9\n', u'\u2248']"#),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
        ];
        for (text, printed) in cases {
            let mut out = String::new();
            write_str(&mut out, &json::parse(text).expect("valid JSON"));
            assert_eq!(out, printed);
        }
    }
}
