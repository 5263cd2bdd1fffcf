//! What states cost: merging, encoding and decoding one of each type, and the size of a busy counter.

use taba_core::{Event, Payload, State, TabType, Timestamp};
use taba_e2e::bench::{Limit, Report, Subject, in_turns};
use taba_e2e::rng::Rng;
use taba_e2e::traffic::{EVENTS_PER_TAB, START_SECS, printed_value};

const TYPES: [TabType; 7] = [
    TabType::CounterGroup,
    TabType::PercentileGroup,
    TabType::Gauge,
    TabType::ExpiryGauge,
    TabType::Buffer,
    TabType::TotalsCounter,
    TabType::PercentileCounter,
];
/// Operations per turn.
const CALLS: usize = 20_000;

fn now() -> Timestamp {
    Timestamp::from_secs(START_SECS + 3)
}

/// A partial state as one block of a flush makes it.
fn partial(tab_type: TabType, seed: u64) -> State {
    let mut random = Rng::new(seed);
    let mut state = State::new(tab_type);
    for ordinal in 0..EVENTS_PER_TAB as u32 {
        let micros = START_SECS * 1_000_000 + random.below(200) as i64 * 10_000;
        let value = printed_value(&mut random);
        let payload = match tab_type {
            TabType::Gauge => format!("\"value {}\"", ordinal % 4),
            TabType::ExpiryGauge | TabType::Buffer => {
                format!("[{value}, {}]", START_SECS + 60 + i64::from(ordinal))
            }
            _ => value,
        };
        let payload = match payload.parse() {
            Ok(number) if tab_type.takes_numbers() => Payload::Number(number),
            _ => Payload::Json(&payload),
        };
        let event = Event { time: Timestamp::from_micros(micros), ordinal, payload };
        state.fold("web-frontend-17.example.net", &event, now()).expect("a payload of the type");
    }
    state
}

fn encoded(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    bytes
}

/// `merge`, `merge_encoded`, `encode` and `decode_state` for each type.
pub fn operations(report: &mut Report) {
    for tab_type in TYPES {
        let family = ["merge", "merge_encoded", "encode", "decode_state"];
        let names = family.map(|figure| format!("{figure}.{}", tab_type.as_str()));
        if !report.wants(&names.each_ref().map(String::as_str)) {
            continue;
        }
        let partials: Vec<_> = (0..16).map(|seed| partial(tab_type, seed)).collect();
        let bytes: Vec<_> = partials.iter().map(encoded).collect();
        let (mut whole, mut other_whole) = (State::new(tab_type), State::new(tab_type));
        let mut out = Vec::new();
        let mut next = (0..16).cycle();
        let (mut next_encoded, mut next_decoded) = (next.clone(), next.clone());
        let mut next_merged = next.clone();
        let mut at = move || next.next().expect("endless");
        let rates = in_turns([
            Subject::new(1.0, CALLS, || {
                whole.merge(&partials[next_merged.next().expect("endless")], now()).expect("one type");
                0
            }),
            Subject::new(1.0, CALLS, || {
                other_whole
                    .merge_encoded(&bytes[next_encoded.next().expect("endless")], now())
                    .expect("one type");
                0
            }),
            Subject::new(1.0, CALLS, || {
                out.clear();
                partials[at()].encode(&mut out);
                out.len() as u64
            }),
            Subject::new(1.0, CALLS, || {
                let state =
                    State::decode(&bytes[next_decoded.next().expect("endless")]).expect("sound bytes");
                state.tab_type() as u64
            }),
        ]);
        for (name, rate) in names.iter().zip(&rates) {
            report.figure(name, "states/s", Limit::None, rate);
        }
    }
}

/// `state_bytes`: a CounterGroup of one (tab, client) after an hour of ten events a second.
pub fn size(report: &mut Report) {
    if !report.wants(&["state_bytes"]) {
        return;
    }
    let mut random = Rng::new(11);
    let mut state = State::new(TabType::CounterGroup);
    let mut values = Vec::new();
    for secs in START_SECS..START_SECS + 3600 {
        values.clear();
        values.extend((0..10).map(|_| printed_value(&mut random).parse::<f64>().expect("a number")));
        state.fold_numbers(&[secs; 10], &values, Timestamp::from_secs(secs));
    }
    state.expire(Timestamp::from_secs(START_SECS + 3600));
    report.figure("state_bytes", "bytes", Limit::AtMost(3000.0), &[encoded(&state).len() as f64]);
}
