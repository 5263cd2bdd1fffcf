//! What the first Taba printed, as its users' programs read it.

use taba_core::{Event, Format, Payload, State, TabType, Timestamp};

const NOW: Timestamp = Timestamp::from_secs(1_795_371_250);

fn folded(tab_type: TabType, payloads: &[&str]) -> State {
    let mut state = State::new(tab_type);
    for (ordinal, payload) in payloads.iter().enumerate() {
        let event = Event { time: NOW, ordinal: ordinal as u32, payload: Payload::Json(payload) };
        state.fold("c1", &event, NOW).expect("a payload that fits");
    }
    state
}

fn rendered(state: &State, format: Format) -> String {
    let mut out = String::new();
    state.render(NOW, format, &mut out);
    out
}

#[track_caller]
fn check(tab_type: TabType, payloads: &[&str], expected: &str) {
    assert_eq!(rendered(&folded(tab_type, payloads), Format::Plain), expected);
}

#[test]
fn a_counter_group_of_two_values_renders_as_in_the_first_taba() {
    let window = r#"{"count": 2, "total": 1100.00, "average": 550.00}"#;
    let pct = "[100.00, 1000.00, 1000.00, 1000.00, 1000.00, 1000.00, 1000.00]";
    check(
        TabType::CounterGroup,
        &["100", "1000"],
        &format!(
            r#"{{"1m": {window}, "10m": {window}, "1h": {window}, "1d": {window}, "pct": {{"count": 2, "total": 1100.000000, "pct": {pct}}}}}"#
        ),
    );
}

#[test]
fn a_counter_group_takes_numbers_arrays_and_truth_values() {
    let window = r#"{"count": 3, "total": 3.00, "average": 1.00}"#;
    let pct = "[-5.00, 1.00, 7.00, 7.00, 7.00, 7.00, 7.00]";
    check(
        TabType::CounterGroup,
        &["-5", "[7]", "true"],
        &format!(
            r#"{{"1m": {window}, "10m": {window}, "1h": {window}, "1d": {window}, "pct": {{"count": 3, "total": 3.000000, "pct": {pct}}}}}"#
        ),
    );
}

#[test]
fn a_percentile_group_of_one_to_hundred_has_the_first_tabas_percentiles() {
    let payloads: Vec<String> = (1..=100).map(|value| value.to_string()).collect();
    let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
    let pct = "[26.00, 51.00, 76.00, 91.00, 96.00, 100.00, 100.00]";
    let window = format!(r#"{{"count": 100, "total": 5050.000000, "pct": {pct}}}"#);
    check(
        TabType::PercentileGroup,
        &payloads,
        &format!(r#"{{"1m": {window}, "10m": {window}, "1h": {window}, "1d": {window}}}"#),
    );
}

#[test]
fn a_totals_counter_keeps_fractions() {
    check(TabType::TotalsCounter, &["[3]", "[4.7]"], r#"{"count": 2, "total": 7.70, "average": 3.85}"#);
}

#[test]
fn a_gauge_counts_clients_by_value() {
    let mut state = State::new(TabType::Gauge);
    for client in ["c1", "c2"] {
        let event = Event { time: NOW, ordinal: 0, payload: Payload::Json("\"value\"") };
        state.fold(client, &event, NOW).expect("a string is a gauge value");
    }
    assert_eq!(rendered(&state, Format::Plain), r#"{"value": 2}"#);
}
