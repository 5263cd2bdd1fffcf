//! What the tests of states share.

use proptest::prelude::*;
use taba_core::{BadReason, Event, Format, Payload, State, TabType, Timestamp};

/// Not at the edge of any bucket: 10 s into a 15 s, a 30 s and a 900 s one.
pub const NOW: Timestamp = Timestamp::from_secs(1_795_371_310);

/// An event of some client.
#[derive(Clone, Debug)]
pub struct Sent {
    pub client: &'static str,
    pub time: Timestamp,
    pub ordinal: u32,
    pub payload: String,
}

impl Sent {
    pub fn new(time: Timestamp, payload: &str) -> Self {
        Self { client: "c1", time, ordinal: 0, payload: payload.to_owned() }
    }
}

pub fn at(secs: i64) -> Timestamp {
    NOW.plus_secs(secs)
}

pub fn try_fold(state: &mut State, sent: &Sent, now: Timestamp) -> Result<(), BadReason> {
    let event = Event { time: sent.time, ordinal: sent.ordinal, payload: Payload::Json(&sent.payload) };
    state.fold(sent.client, &event, now)
}

pub fn folded(tab_type: TabType, events: &[Sent]) -> State {
    let mut state = State::new(tab_type);
    for sent in events {
        try_fold(&mut state, sent, NOW).expect("a payload that fits");
    }
    state
}

pub fn merged(left: &State, right: &State) -> State {
    let mut merged = left.clone();
    merged.merge(right, NOW).expect("states of one type");
    merged
}

pub fn rendered(state: &State, now: Timestamp) -> String {
    rendered_as(state, now, Format::Plain)
}

pub fn rendered_as(state: &State, now: Timestamp, format: Format) -> String {
    let mut out = String::new();
    state.render(now, format, &mut out);
    out
}

pub fn encoded(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    bytes
}

/// Gives a body a valid header and checksum, as a hostile writer would.
pub fn sealed(tab_type: TabType, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1, tab_type as u8];
    bytes.extend_from_slice(body);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Equal in every answer from now on, and in bytes once what has expired is gone.
#[track_caller]
pub fn assert_same(left: &State, right: &State) {
    for later in [0, 1, 59, 60, 299, 600, 3_599, 3_700, 43_200, 86_399, 86_400, 90_000, 180_000] {
        for format in [Format::Plain, Format::Detailed] {
            assert_eq!(rendered_as(left, at(later), format), rendered_as(right, at(later), format));
        }
    }
    let (mut left, mut right) = (left.clone(), right.clone());
    left.expire(NOW);
    right.expire(NOW);
    assert_eq!(left, right);
}

pub fn any_type() -> impl Strategy<Value = TabType> {
    proptest::sample::select(TabType::ALL)
}

/// Event times before and a little after `NOW`, often close together and often at edges.
fn any_time() -> impl Strategy<Value = Timestamp> + Clone {
    prop_oneof![
        4 => -5_i64..=5,
        2 => -90_i64..=300,
        2 => -4_000_i64..=0,
        2 => -100_000_i64..=0,
        1 => proptest::sample::select(vec![-60, -61, -600, -601, -3600, -86_400, -86_401, -172_800]),
    ]
    .prop_map(at)
}

/// Integers, so that sums are exact: few distinct ones, or more than a sketch holds exactly.
fn any_number() -> impl Strategy<Value = i64> {
    prop_oneof![0_i64..5, -3_000_i64..3_000, -1_000_000_000_i64..1_000_000_000]
}

/// A payload that fits the type.
fn any_payload(tab_type: TabType) -> BoxedStrategy<String> {
    let expiry = (-100_i64..200_000).prop_map(|life| at(life).as_secs());
    let value = prop_oneof![Just("\"a\""), Just("\"b\""), Just("1.5"), Just("null"), Just("{\"k\": [1]}")];
    match tab_type {
        TabType::Gauge => value.prop_map(str::to_owned).boxed(),
        TabType::ExpiryGauge | TabType::Buffer => {
            (value, expiry).prop_map(|(value, expiry)| format!("[{value}, {expiry}]")).boxed()
        }
        _ => any_number().prop_map(|number| number.to_string()).boxed(),
    }
}

/// Events of one type, from none to more than a sketch holds exactly.
pub fn any_events(tab_type: TabType) -> impl Strategy<Value = Vec<Sent>> {
    let client = proptest::sample::select(vec!["c1", "c2", "c3"]);
    let event = (client, any_time(), 0_u32..4, any_payload(tab_type));
    let event =
        event.prop_map(|(client, time, ordinal, payload)| Sent { client, time, ordinal, payload }).boxed();
    prop_oneof![proptest::collection::vec(event.clone(), 0..8), proptest::collection::vec(event, 100..300)]
}
