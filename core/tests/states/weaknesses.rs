//! What the first Taba got wrong about types, one test each.

use taba_core::{BadReason, Format, State, TabType, Timestamp};

use crate::support::{NOW, Sent, at, folded, merged, rendered, rendered_as, try_fold};

#[test]
fn an_event_from_the_future_moves_no_window() {
    let mut state = folded(TabType::CounterGroup, &[Sent::new(at(-10), "5")]);
    try_fold(&mut state, &Sent::new(at(10 * 365 * 86_400), "1"), NOW).expect("a number");
    try_fold(&mut state, &Sent::new(at(200), "2"), NOW).expect("a number");
    assert!(rendered(&state, NOW).starts_with(r#"{"1m": {"count": 2, "total": 7.00"#));
    assert_eq!(state.drop_after(at(100)), 1);
    assert!(rendered(&state, NOW).starts_with(r#"{"1m": {"count": 1, "total": 5.00"#));
}

#[test]
fn sums_keep_more_than_32_bits() {
    for payload in ["16777217", "1394047812"] {
        let state = folded(TabType::CounterGroup, &[Sent::new(NOW, payload)]);
        let expected = format!(r#"{{"1m": {{"count": 1, "total": {payload}.00, "average": {payload}.00}}"#);
        assert!(rendered(&state, NOW).starts_with(&expected));
    }
}

#[test]
fn counter_group_percentiles_follow_the_last_day() {
    let mut state = State::new(TabType::CounterGroup);
    let old = vec![10.0; 100_000];
    state.fold_numbers(&vec![NOW.as_secs(); old.len()], &old, NOW);
    let tomorrow = at(90_000);
    state.fold_numbers(&[tomorrow.as_secs()], &[500.0], tomorrow);
    let pct = &state.windows(tomorrow)[4];
    let sketch = pct.sketch.as_ref().expect("percentiles have a sketch");
    assert_eq!((pct.label, pct.count, sketch.quantile(0.5)), ("pct", 1, 500.0));
}

#[test]
fn percentiles_show_the_tail() {
    let values: Vec<f64> = (1..=20_000).map(f64::from).collect();
    let mut state = State::new(TabType::PercentileGroup);
    state.fold_numbers(&vec![NOW.as_secs(); values.len()], &values, NOW);
    for window in state.windows(NOW) {
        let sketch = window.sketch.expect("every window has a sketch");
        for (q, exact) in [(0.99, 19_801.0), (0.999, 19_981.0)] {
            assert!((sketch.quantile(q) - exact).abs() <= exact * 0.0055, "{}", sketch.quantile(q));
        }
    }
}

#[test]
fn the_oldest_percentile_bucket_takes_no_older_events() {
    let state = folded(TabType::PercentileGroup, &[Sent::new(at(-700), "1")]);
    let counts: Vec<u64> = state.windows(NOW).iter().map(|window| window.count).collect();
    assert_eq!(counts, [0, 0, 1, 1]);
}

#[test]
fn an_expiry_gauge_keeps_the_newest_value_and_not_the_longest_lived() {
    let newest = format!("[\"new\", {}]", at(60).as_secs());
    let longest = format!("[\"old\", {}]", at(6_000).as_secs());
    let newest = folded(TabType::ExpiryGauge, &[Sent::new(NOW, &newest)]);
    let longest = folded(TabType::ExpiryGauge, &[Sent::new(at(-1), &longest)]);
    assert_eq!(rendered(&merged(&longest, &newest), NOW), r#"{"new": 1}"#);
    assert_eq!(rendered(&merged(&newest, &longest), NOW), r#"{"new": 1}"#);
}

#[test]
fn of_two_gauge_values_with_one_time_the_later_line_wins() {
    let mut first = Sent::new(NOW, "\"first\"");
    let mut second = Sent::new(NOW, "\"second\"");
    (first.ordinal, second.ordinal) = (8, 9);
    assert_eq!(rendered(&folded(TabType::Gauge, &[first.clone(), second.clone()]), NOW), r#"{"second": 1}"#);
    assert_eq!(rendered(&folded(TabType::Gauge, &[second, first]), NOW), r#"{"second": 1}"#);
}

#[test]
fn a_gauge_value_beyond_ascii_renders_as_json() {
    let state = folded(TabType::Gauge, &[Sent::new(NOW, r#""\u2248 caf\u00e9 \U0001f600""#)]);
    let text = rendered(&state, NOW);
    assert_eq!(text, r#"{"\u2248 caf\u00e9 \ud83d\ude00": 1}"#);
    let read: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
    assert_eq!(read["≈ café 😀"], 1);
}

#[test]
fn nan_and_infinity_are_refused_everywhere() {
    for tab_type in TabType::ALL {
        for word in ["NaN", "Infinity", "-Infinity", "1e999"] {
            let payload = match tab_type {
                TabType::ExpiryGauge | TabType::Buffer => format!("[{word}, {}]", at(60).as_secs()),
                _ => word.to_owned(),
            };
            let mut state = State::new(*tab_type);
            assert_eq!(try_fold(&mut state, &Sent::new(NOW, &payload), NOW), Err(BadReason::Nan));
            assert_eq!(state, State::new(*tab_type));
        }
    }
}

#[test]
fn sums_that_overflow_stay_finite() {
    let state = folded(TabType::TotalsCounter, &[Sent::new(NOW, "1e308"), Sent::new(NOW, "1e308")]);
    let other = folded(TabType::TotalsCounter, &[Sent::new(NOW, "-1e308"), Sent::new(NOW, "-1e308")]);
    assert!(merged(&state, &other).windows(NOW)[0].sum.is_finite());
    assert_eq!(state.windows(NOW)[0].sum, f64::MAX);
}

#[test]
fn a_buffer_shows_no_expired_entry() {
    let entry = |value: &str, life: i64| Sent::new(NOW, &format!("[\"{value}\", {}]", at(life).as_secs()));
    let state = folded(TabType::Buffer, &[entry("short", 5), entry("long", 50)]);
    assert_eq!(rendered(&state, at(4)), r#"[["long", 1795371310.0], ["short", 1795371310.0]]"#);
    assert_eq!(rendered(&state, at(5)), r#"[["long", 1795371310.0]]"#);
    assert_eq!(rendered(&state, at(50)), "[]");
    assert!(state.prunable(at(50)));
}

#[test]
fn a_totals_counter_takes_numbers_and_keeps_fractions() {
    let payloads = ["[4.7]", "-2.5", "true", "[0.25, \"rest\"]"];
    let events: Vec<Sent> = payloads.iter().map(|payload| Sent::new(NOW, payload)).collect();
    let state = folded(TabType::TotalsCounter, &events);
    assert_eq!(rendered(&state, NOW), r#"{"count": 4, "total": 3.45, "average": 0.86}"#);
    let mut state = state;
    assert_eq!(try_fold(&mut state, &Sent::new(NOW, "\"45\""), NOW), Err(BadReason::BadPayload));
}

#[test]
fn the_detailed_output_of_a_counter_group_ends_with_its_percentiles() {
    let state = folded(TabType::CounterGroup, &[Sent::new(NOW, "2.5"), Sent::new(at(120), "1100")]);
    let text = rendered_as(&state, NOW, Format::Detailed);
    assert!(text.starts_with("[[[1795371251.0, 0, 0.0], [1795371252.0, 0, 0.0], "));
    assert!(text.contains("[1795371309.0, 0, 0.0], [1795371310.0, 2, 1102.5]], [["));
    let pct = "[2.50, 1100.00, 1100.00, 1100.00, 1100.00, 1100.00, 1100.00]";
    assert!(text.ends_with(&format!(r#", {{"count": 2, "total": 1102.500000, "pct": {pct}}}]"#)));
    let read: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
    let rows: Vec<usize> = (0..4).map(|window| read[window].as_array().expect("rows").len()).collect();
    assert_eq!(rows, [60, 60, 120, 96]);
}

#[test]
fn a_percentile_counter_works() {
    let state = folded(TabType::PercentileCounter, &[Sent::new(NOW, "[100]"), Sent::new(NOW, "1000")]);
    let pct = "[100.00, 1000.00, 1000.00, 1000.00, 1000.00, 1000.00, 1000.00]";
    assert_eq!(rendered(&state, NOW), format!(r#"{{"count": 2, "total": 1100.000000, "pct": {pct}}}"#));
}

#[test]
fn all_time_states_are_prunable_after_90_days_without_an_event() {
    for tab_type in [TabType::TotalsCounter, TabType::PercentileCounter] {
        assert!(State::new(tab_type).prunable(NOW));
        let state = folded(tab_type, &[Sent::new(NOW, "1")]);
        assert!(!state.prunable(at(90 * 86_400)));
        assert!(state.prunable(at(90 * 86_400 + 1)));
    }
}

#[test]
fn a_payload_that_does_not_fit_is_refused_and_changes_nothing() {
    let cases: [(TabType, &[&str]); 5] = [
        (TabType::CounterGroup, &["", "null", "\"5\"", "[]", "[null]", "{}", "[1,]", "5 5", "{\"a\":1}"]),
        (TabType::PercentileGroup, &["[[1]]", "nope"]),
        (TabType::Gauge, &["", "[]", "[1,]", "\"open"]),
        (TabType::ExpiryGauge, &["1", "[1]", "[1, null]", "[1, 2, 3]", "[1, \"9\"]"]),
        (TabType::Buffer, &["\"bare\"", "[1]", "[1, 2, 3]", "{}"]),
    ];
    for (tab_type, payloads) in cases {
        for payload in payloads {
            let mut state = State::new(tab_type);
            let refused = try_fold(&mut state, &Sent::new(NOW, payload), NOW);
            assert_eq!(refused, Err(BadReason::BadPayload), "{tab_type:?} {payload}");
            assert_eq!(state, State::new(tab_type));
        }
    }
}

#[test]
fn gauge_values_print_as_python_printed_them() {
    let payloads = [
        ("null", "None"),
        ("true", "True"),
        ("+007", "7"),
        ("1.5", "1.5"),
        ("1394047812345.0", "1.39404781234e+12"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        (r#"{"b": [1, "x"], "a": null}"#, r"{'a': None, 'b': [1, 'x']}"),
        (r#"["first", "second"]"#, "first"),
        (r#""a\/b""#, r"a\\/b"),
    ];
    for (payload, key) in payloads {
        let state = folded(TabType::Gauge, &[Sent::new(NOW, payload)]);
        assert_eq!(rendered(&state, NOW), format!("{{\"{key}\": 1}}"));
        assert_eq!(rendered(&state, at(172_800)), "{}");
    }
}

#[test]
fn an_empty_state_renders_zeros() {
    let empty = |tab_type| rendered(&State::new(tab_type), Timestamp::from_secs(0));
    assert_eq!(empty(TabType::Gauge), "{}");
    assert_eq!(empty(TabType::Buffer), "[]");
    assert_eq!(empty(TabType::TotalsCounter), r#"{"count": 0, "total": 0.00, "average": 0.00}"#);
    let pct = "[0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00]";
    let none = format!(r#"{{"count": 0, "total": 0.000000, "pct": {pct}}}"#);
    assert_eq!(empty(TabType::PercentileCounter), none);
}
