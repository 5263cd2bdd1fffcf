//! Stored bytes are a contract: golden bytes per type and version, and how many there may be.

use taba_core::{State, TabType};

use crate::support::{NOW, Sent, at, encoded, folded};

fn hex(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines = hex.as_bytes().chunks(80).map(|line| std::str::from_utf8(line).expect("hex is ASCII"));
    lines.map(|line| format!("{line}\n")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("hex is ASCII");
        u8::from_str_radix(pair, 16).expect("hex digits")
    };
    digits.chunks(2).map(byte).collect()
}

/// The state encodes to the checked-in bytes, and they decode to it.
#[track_caller]
fn check(state: &State, golden: &str) {
    assert_eq!(hex(&encoded(state)), golden);
    assert_eq!(State::decode(&unhex(golden)).as_ref(), Ok(state));
}

/// Values waiting, exact, and as a histogram; two seconds, two three-hour buckets.
fn numbers(tab_type: TabType) -> State {
    let mut state = State::new(tab_type);
    state.fold_numbers(&[at(-8_000).as_secs()], &[-0.125], NOW);
    let many: Vec<f64> = (0..300).map(|value| f64::from(value) * 0.5).collect();
    state.fold_numbers(&vec![at(-30).as_secs(); many.len()], &many, NOW);
    state.fold_numbers(&[at(-1).as_secs(), NOW.as_secs()], &[7.25, 1e-3], NOW);
    state.settle();
    state
}

fn values(tab_type: TabType) -> State {
    let sent = |client, place: i64, value: &str| {
        let payload = match tab_type {
            TabType::Gauge => value.to_owned(),
            _ => format!("[{value}, {}.25]", at(3_600 + place).as_secs()),
        };
        Sent { client, time: at(place), ordinal: place.unsigned_abs() as u32, payload }
    };
    folded(
        tab_type,
        &[
            sent("host/1", -5, r#""≈ caf\u00e9""#),
            sent("host/2", -4, r#"{"b": [1.50, null], "a": 12345678901234567890123}"#),
            sent("host/3", 0, "-1"),
        ],
    )
}

#[test]
fn counter_groups_have_their_golden_bytes() {
    check(&numbers(TabType::CounterGroup), include_str!("golden/counter-group-v1.hex"));
}

#[test]
fn fresh_counter_groups_have_their_golden_bytes() {
    let mut state = State::new(TabType::CounterGroup);
    state.fold_numbers(&[at(-2).as_secs(), at(-2).as_secs(), NOW.as_secs()], &[2.5, -1.0, 1000.0], NOW);
    check(&state, include_str!("golden/counter-group-fresh-v1.hex"));
}

#[test]
fn percentile_groups_have_their_golden_bytes() {
    check(&numbers(TabType::PercentileGroup), include_str!("golden/percentile-group-v1.hex"));
}

#[test]
fn gauges_have_their_golden_bytes() {
    check(&values(TabType::Gauge), include_str!("golden/gauge-v1.hex"));
}

#[test]
fn expiry_gauges_have_their_golden_bytes() {
    check(&values(TabType::ExpiryGauge), include_str!("golden/expiry-gauge-v1.hex"));
}

#[test]
fn buffers_have_their_golden_bytes() {
    check(&values(TabType::Buffer), include_str!("golden/buffer-v1.hex"));
}

#[test]
fn totals_counters_have_their_golden_bytes() {
    check(&numbers(TabType::TotalsCounter), include_str!("golden/totals-counter-v1.hex"));
}

#[test]
fn percentile_counters_have_their_golden_bytes() {
    check(&numbers(TabType::PercentileCounter), include_str!("golden/percentile-counter-v1.hex"));
}

/// One (tab, client) after an hour of 100 events a second, values from 1 to 1,000 with two decimals.
#[test]
fn an_hour_of_steady_traffic_fits_in_3_kb_wherever_the_hour_begins() {
    for start in [0, 1_234, 9_000] {
        let now = at(start);
        let mut state = State::new(TabType::CounterGroup);
        let mut random = 11_u64;
        for second in now.as_secs() - 3_600..now.as_secs() {
            let values: Vec<f64> = (0..100)
                .map(|_| {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    (100 + (random >> 33) % 99_900) as f64 / 100.0
                })
                .collect();
            let mut part = State::new(TabType::CounterGroup);
            part.fold_numbers(&[second; 100], &values, now);
            state.merge(&part, now).expect("states of one type");
        }
        let bytes = encoded(&state).len();
        println!("state_bytes {bytes}");
        assert!(bytes <= 3_000, "{bytes} bytes");
    }
}
