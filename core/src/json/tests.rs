use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(text: &str, compact: &str) {
    let mut out = String::new();
    parse(text).expect("lenient JSON").write_compact(&mut out);
    assert_eq!(out, compact);
}

#[test]
fn plain_json_is_read() {
    check(
        " {\"b\" : [1, 2.50, -3e2, null], \"a\": {\"x\": true}}\n",
        r#"{"a":{"x":true},"b":[1,2.5,-300.0,null]}"#,
    );
    check("[]", "[]");
    check("{}", "{}");
    check(r#""a\"\\\n\r\t\b\f\u00e9""#, r#""a\"\\\n\r\t\b\f\u00e9""#);
}

#[test]
fn the_dialect_of_the_first_clients_is_read() {
    check("+5", "5");
    check("007", "7");
    check("-000", "0");
    check("[1 2 \"x\"[3]]", r#"[1,2,"x",[3]]"#);
    check("\"raw\tcontrol\ncharacters\"", r#""raw\tcontrol\ncharacters""#);
    check(r#""a\/b""#, r#""a\\/b""#);
    check(r#""\U0001f600""#, r#""\ud83d\ude00""#);
    check("123456789012345678901234567890", "123456789012345678901234567890");
    for (text, number) in
        [("Infinity", f64::INFINITY), ("+Infinity", f64::INFINITY), ("-Infinity", f64::NEG_INFINITY)]
    {
        assert_eq!(parse(text), Ok(Value::Float(number)));
    }
    assert!(!parse("[{\"a\": NaN}]").expect("NaN is a word").is_finite());
}

#[test]
fn pairs_of_escapes_are_one_character_and_halves_are_replaced() {
    check(r#""\ud83d\ude00""#, r#""\ud83d\ude00""#);
    check(r#""\ud83dx""#, r#""\ufffdx""#);
    check(r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#);
    check(r#""\ud83d\u0041""#, r#""\ufffdA""#);
}

#[test]
fn of_equal_keys_the_last_one_counts() {
    check(r#"{"a": 1, "b": 2, "a": 3}"#, r#"{"a":3,"b":2}"#);
}

#[test]
fn what_the_first_server_refused_is_refused_with_its_place() {
    let cases = [
        ("", 0),
        ("[1,]", 3),
        ("1 2", 2),
        ("[1", 2),
        ("{\"a\" 1}", 5),
        ("{\"a\": 1 \"b\": 2}", 8),
        ("{1: 2}", 1),
        ("\"open", 1),
        ("\"\\u12g4\"", 3),
        ("\"\\Uffffffff\"", 11),
        ("nul", 0),
        ("+", 0),
        (".5", 0),
        ("1e", 0),
    ];
    for (text, offset) in cases {
        assert_eq!(parse(text), Err(BadJson { offset }), "{text}");
    }
}

#[test]
fn nesting_has_a_bound() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(parse(&nested(DEPTH_MAX + 1)).is_ok());
    assert!(parse(&nested(DEPTH_MAX + 2)).is_err());
    assert!(parse(&"[".repeat(1 << 20)).is_err());
}

proptest! {
    #[test]
    fn no_text_panics(text in "[\\[\\]{}\":,\\\\ue0-9+.\\-a-fNI é😀]{0,40}") {
        let _ = parse(&text);
    }

    /// Whatever is read reads back the same from its compact text, which every JSON reader takes.
    #[test]
    fn compact_text_reads_back_the_same(number: f64, integer: i64, text in "\\PC{0,20}") {
        let number = if number.is_finite() { number } else { 0.0 };
        let value = Value::Array(vec![
            Value::Float(number),
            Value::Integer(integer.to_string()),
            Value::Object(vec![(text.clone(), Value::String(text.clone()))]),
        ]);
        let mut compact = String::new();
        value.write_compact(&mut compact);
        prop_assert!(compact.is_ascii());
        prop_assert_eq!(parse(&compact), Ok(value));
        let read: serde_json::Value = serde_json::from_str(&compact).expect("valid JSON");
        prop_assert_eq!(read[2][&text].as_str(), Some(text.as_str()));
    }
}
