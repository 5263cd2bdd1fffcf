//! One event line: `[type, seconds, "payload as JSON text", …]`, read in full generality.
//!
//! The order in which faults are looked for is part of the behaviour: a line that is no array of at
//! least three values is `bad_json` whatever else is wrong with it.

use super::json::{self, Scanner, Token};
use super::number::Decimal;
use crate::bad::BadReason;
use crate::time::Timestamp;

/// An event line cut into its first three values; elements beyond are skipped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EventLine<'a> {
    tab_type: Token<'a>,
    time: Token<'a>,
    payload: Token<'a>,
    /// Where the time starts in the line.
    pub(super) time_at: usize,
}

impl<'a> EventLine<'a> {
    /// Cuts a line. `None` if it is not an array of at least three values.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut scanner = Scanner::new(line);
        if !scanner.take(b'[') {
            return None;
        }
        let tab_type = element(&mut scanner, true)?;
        // To stand at the time's first byte, step over what `element` would skip before it.
        scanner.take(b',');
        scanner.skip_blanks();
        let time_at = scanner.at();
        let time = element(&mut scanner, true)?;
        let payload = element(&mut scanner, false)?;
        while let Some(token) = scanner.item(false)? {
            scanner.skip_rest(token)?;
        }
        scanner.at_end().then_some(Self { tab_type, time, payload, time_at })
    }

    /// The name of the type; `None` if it is not a string. Escapes are unfolded into `scratch`.
    pub fn type_name<'s>(&self, scratch: &'s mut String) -> Option<&'s str>
    where
        'a: 's,
    {
        text(self.tab_type, scratch)
    }

    /// When it happened: a number, or a string that holds one.
    ///
    /// # Errors
    /// [`BadReason::Nan`] if it is not finite, [`BadReason::BadTime`] if it is no time.
    pub fn time(&self) -> Result<Timestamp, BadReason> {
        let number = match self.time {
            Token::Number(number) => number,
            Token::NotFinite => return Err(BadReason::Nan),
            Token::Text { raw, .. } => written_time(raw.trim_ascii())?,
            _ => return Err(BadReason::BadTime),
        };
        match number.to_timestamp() {
            Some(time) => Ok(time),
            None if number.to_f64().is_finite() => Err(BadReason::BadTime),
            None => Err(BadReason::Nan),
        }
    }

    /// The payload's text. Escapes are unfolded into `scratch`.
    ///
    /// # Errors
    /// [`BadReason::BadPayload`] if it is not a string or an escape in it is malformed.
    pub fn payload<'s>(&self, scratch: &'s mut String) -> Result<&'s str, BadReason>
    where
        'a: 's,
    {
        text(self.payload, scratch).ok_or(BadReason::BadPayload)
    }

    /// The bytes of type, time and payload as written, if the payload and type hold no escape and the
    /// time is a plain number: lines of the shape that [`super::fast`] can learn.
    pub(super) fn plain_time(&self) -> Option<&'a [u8]> {
        match (self.tab_type, self.time, self.payload) {
            (Token::Text { .. }, Token::Number(time), Token::Text { escaped: false, .. }) => {
                Some(time.text())
            }
            _ => None,
        }
    }
}

/// The number in a payload that is a plain number, blanks around it allowed.
///
/// # Errors
/// [`BadReason::Nan`] if it is beyond all floats.
pub fn plain_number(payload: &str) -> Result<Option<f64>, BadReason> {
    let Some(number) = Decimal::parse(payload.trim_ascii().as_bytes()) else { return Ok(None) };
    let value = number.to_f64();
    if value.is_finite() { Ok(Some(value)) } else { Err(BadReason::Nan) }
}

fn element<'a>(scanner: &mut Scanner<'a>, first: bool) -> Option<Token<'a>> {
    let token = scanner.item(first)??;
    scanner.skip_rest(token)?;
    Some(token)
}

fn written_time(text: &[u8]) -> Result<Decimal<'_>, BadReason> {
    if let Some(number) = Decimal::parse(text) {
        return Ok(number);
    }
    let name = text.strip_prefix(b"+").or_else(|| text.strip_prefix(b"-")).unwrap_or(text);
    let names: [&[u8]; 3] = [b"nan", b"inf", b"infinity"];
    let not_finite = names.iter().any(|known| name.eq_ignore_ascii_case(known));
    Err(if not_finite { BadReason::Nan } else { BadReason::BadTime })
}

fn text<'s>(token: Token<'s>, scratch: &'s mut String) -> Option<&'s str> {
    let Token::Text { raw, escaped } = token else { return None };
    if !escaped && let Ok(text) = std::str::from_utf8(raw) {
        return Some(text);
    }
    scratch.clear();
    json::unescape(raw, &mut |run| scratch.push_str(run))?;
    Some(scratch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Type, microseconds and payload of a line, or why not.
    fn read(line: &[u8]) -> Result<(String, i64, String), BadReason> {
        let event = EventLine::parse(line).ok_or(BadReason::BadJson)?;
        let mut scratch = String::new();
        let tab_type = event.type_name(&mut scratch).ok_or(BadReason::UnknownType)?.to_owned();
        let micros = event.time()?.as_micros();
        Ok((tab_type, micros, event.payload(&mut scratch)?.to_owned()))
    }

    #[track_caller]
    fn check(line: &str, tab_type: &str, micros: i64, payload: &str) {
        assert_eq!(read(line.as_bytes()), Ok((tab_type.into(), micros, payload.into())), "{line}");
    }

    #[test]
    fn lines_are_read_as_the_first_tabas_clients_write_them() {
        check(r#"["typeA", 1234567890, "321"]"#, "typeA", 1_234_567_890_000_000, "321");
        check(r#"["typeA", 1234567890, "\"string_val\""]"#, "typeA", 1_234_567_890_000_000, "\"string_val\"");
        check(r#"["t", 1, "{\"key\": \"val\"}"]"#, "t", 1_000_000, r#"{"key": "val"}"#);
        let expiry = r#"["ExpiryGauge", 1795371576.87, "[\"value\", 1394047812.35]"]"#;
        check(expiry, "ExpiryGauge", 1_795_371_576_870_000, r#"["value", 1394047812.35]"#);
        check(r#"["CounterGroup",1394047812,"1"]"#, "CounterGroup", 1_394_047_812_000_000, "1");
    }

    #[test]
    fn the_lenient_forms_are_read() {
        check(r#" [ "t" , +1.50e0 ,"1" ] "#, "t", 1_500_000, "1");
        check(r#"["t" 007 "1"]"#, "t", 7_000_000, "1");
        check(r#"["t", "1394047812.35", "1"]"#, "t", 1_394_047_812_350_000, "1");
        check(r#"["t", " -5 ", "1", null, {"a": [1 2]}]"#, "t", -5_000_000, "1");
        check(r#"["\u0074", 1, "\"\\U0001f600\""]"#, "t", 1_000_000, r#""\U0001f600""#);
        check("[\"t\", 1, \"a\tb\u{7}\"]", "t", 1_000_000, "a\tb\u{7}");
        assert_eq!(read(b"[\"t\", 1, \"\xe9\"]"), Ok(("t".into(), 1_000_000, "é".into())));
        check("[\"t\", 1, \"é\"]", "t", 1_000_000, "é");
    }

    #[test]
    fn each_fault_has_its_reason() {
        let bad = |line: &str, reason| assert_eq!(read(line.as_bytes()), Err(reason), "{line}");
        for line in ["", "x", "{}", "[]", r#"["t"]"#, r#"["t", 1]"#, r#"["t", 1, "1",]"#, r#"["t", 1, "1""#] {
            bad(line, BadReason::BadJson);
        }
        for line in
            [r#"["t", 1, "1"] x"#, r#"["t", 1, "1", [1,]]"#, r#"["t",, "1"]"#, r#"["t", 1, "1]"#, "321"]
        {
            bad(line, BadReason::BadJson);
        }
        bad(r#"[1, 1, "1"]"#, BadReason::UnknownType);
        for time in ["null", "true", "[1]", "\"\"", "\"soon\"", "1e300", "-1e20"] {
            bad(&format!(r#"["t", {time}, "1"]"#), BadReason::BadTime);
        }
        for time in ["NaN", "-Infinity", "\"nan\"", "\"+inf\"", "1e999"] {
            bad(&format!(r#"["t", {time}, "1"]"#), BadReason::Nan);
        }
        for payload in ["1", "null", "[1]", r#""\u12""#] {
            bad(&format!(r#"["t", 1, {payload}]"#), BadReason::BadPayload);
        }
    }

    #[test]
    fn plain_numbers_are_told_from_other_payloads() {
        assert_eq!(plain_number(" 1.5e2 "), Ok(Some(150.0)));
        assert_eq!(plain_number("[1]"), Ok(None));
        assert_eq!(plain_number("NaN"), Ok(None));
        assert_eq!(plain_number("1e999"), Err(BadReason::Nan));
    }

    proptest! {
        /// forall type, time, payload, layout: a strict JSON line is read as serde_json reads it.
        #[test]
        fn strict_lines_are_read_as_a_json_library_reads_them(
            tab_type: String, secs in -1_000_000_000_000_i64..1_000_000_000_000, payload: String, extra: bool, pretty: bool,
        ) {
            let mut value = serde_json::json!([tab_type, secs, payload]);
            if extra {
                value.as_array_mut().expect("an array").push(serde_json::json!({"x": [1, 2]}));
            }
            let line = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let line = line.expect("prints");
            prop_assert_eq!(read(line.as_bytes()), Ok((tab_type, secs * 1_000_000, payload)));
        }

        /// forall bytes: no panic.
        #[test]
        fn any_bytes_are_read_or_refused(line in "[\\[\\]{}\",:0-9eE+.\\\\uU aNIn-]{0,40}") {
            let _ = read(line.as_bytes());
            let _ = read(format!("[\"t\", 1, {line}]").as_bytes());
        }
    }
}
