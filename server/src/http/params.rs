//! Parameters of a query: from the query string, or else from a JSON object in the body.
//!
//! Both `&` and `;` separate, as they did in the first Taba; a repeated key's last value wins. Only keys
//! of the query string are checked against what the endpoint knows: the body may hold more.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};

use super::failure::Failure;
use crate::query::Selector;

/// Most parameters in one query string.
const PARAMS_MAX: usize = 100;

/// Memory a compiled pattern may take, in bytes. The default of the regex crate is ten times that, and
/// up to `queries_max` patterns live at once: 256 x 1 MiB = 256 MiB at worst.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// The parameters of one request.
#[derive(Debug, Default)]
pub struct Params {
    query: BTreeMap<String, String>,
    body: BTreeMap<String, String>,
}

impl Params {
    /// Reads the query string and the body; `known` are the keys the endpoint has.
    ///
    /// # Errors
    /// 400 for unknown keys, too many of them, bytes that are not UTF-8, or a body that is not an object
    /// of strings.
    pub fn read(query: Option<&str>, body: &[u8], known: &[&str]) -> Result<Self, Failure> {
        let query = parse_query(query.unwrap_or_default())?;
        let unknown: Vec<&str> =
            query.keys().map(String::as_str).filter(|key| !known.contains(key)).collect();
        if !unknown.is_empty() {
            return Err(Failure::bad_parameter(format!("Invalid parameters: {}", unknown.join(", "))));
        }
        Ok(Self { query, body: parse_body(body, known)? })
    }

    /// A parameter's value; `None` if it is absent.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.query.get(key).or_else(|| self.body.get(key)).map(String::as_str)
    }

    /// Whether a parameter is there, with whatever value.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// A comma-separated list; absent or empty gives no values.
    #[must_use]
    pub fn list(&self, key: &str) -> Vec<&str> {
        self.get(key)
            .map(|text| text.split(',').filter(|piece| !piece.is_empty()).collect())
            .unwrap_or_default()
    }

    /// The names that `key` selects: one pattern if `re` is there, else a comma-separated list. Absent or
    /// empty means all.
    ///
    /// # Errors
    /// 400 if the pattern is malformed or compiles to too much.
    pub fn selector(&self, key: &str) -> Result<Selector, Failure> {
        match self.get(key).unwrap_or_default() {
            "" => Ok(Selector::All),
            pattern if self.has("re") => Ok(Selector::Pattern(anchored(pattern)?)),
            _ => Ok(Selector::Names(self.list(key).into_iter().map(str::to_owned).collect())),
        }
    }
}

/// A pattern that matches from the start of a name, as the first Taba's did. The regex crate runs in
/// linear time, so no pattern can hold a thread for long.
///
/// # Errors
/// 400 if the pattern is malformed or compiles to too much.
pub fn anchored(pattern: &str) -> Result<Regex, Failure> {
    // The pattern is tried on its own first: `a)(b` must not become valid inside our group.
    let build = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .build()
            .map_err(|error| Failure::bad_parameter(format!("Invalid pattern: {error}")))
    };
    build(pattern)?;
    // A comment at the end (flag `x`) swallows the closing bracket; the line break ends the comment.
    build(&format!("^(?:{pattern})")).or_else(|_| build(&format!("^(?:{pattern}\n)")))
}

fn parse_query(query: &str) -> Result<BTreeMap<String, String>, Failure> {
    let mut params = BTreeMap::new();
    let pairs = query.split(['&', ';']).filter(|pair| !pair.is_empty());
    for (count, pair) in pairs.enumerate() {
        if count == PARAMS_MAX {
            return Err(Failure::bad_parameter(format!("More than {PARAMS_MAX} parameters")));
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        params.insert(percent_decode(key)?, percent_decode(value)?);
    }
    Ok(params)
}

fn percent_decode(text: &str) -> Result<String, Failure> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while place < bytes.len() {
        let escaped =
            (bytes[place] == b'%').then(|| bytes.get(place + 1..place + 3)).flatten().and_then(hex_byte);
        match (bytes[place], escaped) {
            (_, Some(byte)) => {
                decoded.push(byte);
                place += 3;
                continue;
            }
            (b'+', _) => decoded.push(b' '),
            // A stray `%` stands for itself, as browsers and the first Taba have it.
            (byte, _) => decoded.push(byte),
        }
        place += 1;
    }
    String::from_utf8(decoded).map_err(|_| Failure::bad_parameter("Parameters must be UTF-8".to_owned()))
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(digits[0])? << 4 | digit(digits[1])?)
}

fn parse_body(body: &[u8], known: &[&str]) -> Result<BTreeMap<String, String>, Failure> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(BTreeMap::new());
    }
    let object: BTreeMap<String, serde_json::Value> = serde_json::from_slice(body)
        .map_err(|error| Failure::bad_parameter(format!("The body must be one JSON object: {error}")))?;
    let wanted = object.into_iter().filter(|(key, _)| known.contains(&key.as_str()));
    let text = |(key, value)| match value {
        serde_json::Value::String(value) => Ok((key, value)),
        _ => Err(Failure::bad_parameter(format!("Parameter {key} in the body must be a string"))),
    };
    wanted.map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["name", "client", "re", "raw"];

    fn read(query: &str, body: &str) -> Result<Params, String> {
        Params::read(Some(query), body.as_bytes(), &KNOWN).map_err(|failure| failure.message)
    }

    #[track_caller]
    fn check_name(query: &str, expected: Option<&str>) {
        assert_eq!(read(query, "").expect("valid parameters").get("name"), expected, "{query}");
    }

    #[test]
    fn keys_and_values_are_decoded() {
        check_name("name=a%3Bb%2Bc+d", Some("a;b+c d"));
        check_name("n%61me=x", Some("x"));
        check_name("name=a%zz%", Some("a%zz%"));
        check_name("name=", Some(""));
        check_name("name", Some(""));
        check_name("", None);
    }

    #[test]
    fn both_separators_work_and_the_last_of_a_key_wins() {
        check_name("name=a;name=b", Some("b"));
        check_name("name=a&&name=b;", Some("b"));
    }

    #[test]
    fn unknown_keys_are_named() {
        assert_eq!(read("name=a&foo=1", "").unwrap_err(), "Invalid parameters: foo");
        assert_eq!(read("zz=1&foo=1", "").unwrap_err(), "Invalid parameters: foo, zz");
    }

    #[test]
    fn a_hundred_parameters_are_the_most() {
        assert!(read(&"name=a&".repeat(100), "").is_ok());
        assert_eq!(read(&"name=a&".repeat(101), "").unwrap_err(), "More than 100 parameters");
    }

    #[test]
    fn the_body_fills_in_what_the_query_string_lacks() {
        let params = read("client=q", r#"{"name": "tot,gl", "client": "b", "else": 1}"#).expect("valid");
        assert_eq!((params.get("name"), params.get("client")), (Some("tot,gl"), Some("q")));
        assert_eq!(params.list("name"), ["tot", "gl"]);
    }

    #[test]
    fn bodies_that_are_no_object_of_strings_are_refused() {
        for body in ["name=a", "[1]", "{", r#"{"name": ["a"]}"#] {
            assert!(read("", body).is_err(), "{body}");
        }
    }

    #[test]
    fn patterns_match_from_the_start_only() {
        let Selector::Pattern(pattern) =
            read("re&name=a|b", "").expect("valid").selector("name").expect("valid")
        else {
            panic!("re makes a pattern");
        };
        assert!(pattern.is_match("bcd") && pattern.is_match("ab") && !pattern.is_match("cab"));
    }

    #[test]
    fn a_pattern_cannot_escape_its_anchor_or_grow_without_bound() {
        for pattern in ["a)(b", "a)|(?:b", "(", "(((a{100}){100}){100})"] {
            assert!(anchored(pattern).is_err(), "{pattern}");
        }
        let commented = anchored("(?x) a # everything after a").expect("a valid pattern");
        assert!(commented.is_match("ab") && !commented.is_match("ba"));
    }

    #[test]
    fn names_that_are_absent_or_empty_select_all() {
        for query in ["", "name=", "name=&re=", "re"] {
            assert!(matches!(read(query, "").expect("valid").selector("name"), Ok(Selector::All)), "{query}");
        }
    }
}
