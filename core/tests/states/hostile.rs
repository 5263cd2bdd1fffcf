//! Bytes and states from writers who mean harm, or that were damaged.

use proptest::prelude::*;
use taba_core::{DecodeStateError, Event, Payload, State, TabType};

use crate::support::{NOW, Sent, any_events, any_type, at, encoded, folded, rendered, sealed, try_fold};

/// Uses a state in every way; nothing may panic.
fn use_it(state: &State) {
    let mut state = state.clone();
    for later in [0, 86_400 * 365] {
        rendered(&state, at(later));
        assert!(state.windows(at(later)).iter().all(|window| window.sum.is_finite()));
        std::hint::black_box(state.prunable(at(later)));
    }
    let other = state.clone();
    state.merge(&other, NOW).expect("states of one type");
    state.drop_after(at(300));
    state.expire(NOW);
    State::decode(&encoded(&state)).expect("whatever was decoded encodes again");
}

proptest! {
    #[test]
    fn random_bodies_decode_or_are_refused(
        tab_type in any_type(),
        body in proptest::collection::vec(prop_oneof![any::<u8>(), 0_u8..4], 0..200),
    ) {
        if let Ok(state) = State::decode(&sealed(tab_type, &body)) {
            use_it(&state);
        }
    }

    #[test]
    fn damaged_states_are_refused_by_their_checksum(
        (tab_type, events) in any_type().prop_flat_map(|tab_type| (Just(tab_type), any_events(tab_type))),
        place: prop::sample::Index,
        bits in 1_u8..,
    ) {
        let mut bytes = encoded(&folded(tab_type, &events));
        let place = place.index(bytes.len());
        prop_assert!(State::decode(&bytes[..place]).is_err());
        bytes[place] ^= bits;
        prop_assert!(State::decode(&bytes).is_err());
        let mut untouched = State::new(tab_type);
        prop_assert!(untouched.merge_encoded(&bytes, NOW).is_err());
        prop_assert_eq!(untouched, State::new(tab_type));
    }

    /// The same with a checksum that fits, so that the body itself is read.
    #[test]
    fn damaged_bodies_decode_or_are_refused(
        (tab_type, events) in any_type().prop_flat_map(|tab_type| (Just(tab_type), any_events(tab_type))),
        place: prop::sample::Index,
        byte: u8,
        cut: prop::sample::Index,
    ) {
        let bytes = encoded(&folded(tab_type, &events));
        let mut body = bytes[2..bytes.len() - 4].to_vec();
        prop_assert!(State::decode(&sealed(tab_type, &body[..cut.index(body.len())])).is_err());
        let place = place.index(body.len());
        body[place] = byte;
        if let Ok(state) = State::decode(&sealed(tab_type, &body)) {
            use_it(&state);
        }
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

#[test]
fn header_errors_say_what_is_wrong() {
    assert_eq!(State::decode(&[1]).err(), Some(DecodeStateError::Malformed { offset: 1 }));
    assert_eq!(State::decode(&[2, 1, 0, 0, 0, 0]).err(), Some(DecodeStateError::Version(2)));
    assert_eq!(State::decode(&[1, 99, 0, 0, 0, 0]).err(), Some(DecodeStateError::Type(99)));
    assert_eq!(State::decode(&[1, 1, 0]).err(), Some(DecodeStateError::Malformed { offset: 3 }));
    let mut bytes = encoded(&State::new(TabType::Gauge));
    bytes[2] ^= 1;
    assert_eq!(State::decode(&bytes).err(), Some(DecodeStateError::Checksum));
    let trailing = sealed(TabType::Gauge, &[0, 0]);
    assert_eq!(State::decode(&trailing).err(), Some(DecodeStateError::Malformed { offset: 3 }));
}

#[test]
fn a_length_beyond_the_bytes_is_refused_before_anything_is_reserved() {
    for tab_type in TabType::ALL {
        let mut body = Vec::new();
        put_varint(&mut body, u64::MAX >> 1);
        body.extend([0; 8]);
        let bytes = sealed(*tab_type, &body);
        // A totals counter begins with a count, and this one is too large; all others with a length.
        assert!(State::decode(&bytes).is_err(), "{tab_type:?}");
    }
}

#[test]
fn buckets_absurdly_far_apart_do_not_outlive_a_merge() {
    let mut body = Vec::new();
    for first in [0, NOW.as_secs() / 10, NOW.as_secs() / 30, 0] {
        // Two buckets with one event each, as far apart as it gets, and their sums.
        put_varint(&mut body, 2);
        put_zigzag(&mut body, first);
        put_varint(&mut body, 3);
        put_varint(&mut body, 0);
        put_varint(&mut body, 9_000_000_000_000 - first as u64);
        put_varint(&mut body, 1);
        body.extend([0, 2, 0]);
    }
    body.push(0);
    let hostile = State::decode(&sealed(TabType::CounterGroup, &body)).expect("well-formed bytes");
    let mut state = folded(TabType::CounterGroup, &[Sent::new(NOW, "5")]);
    let expected = state.clone();
    state.merge(&hostile, NOW).expect("states of one type");
    let minute = &state.windows(NOW)[0];
    assert_eq!((minute.count, minute.sum), (1, 5.0));
    assert!(state.heap_bytes() < 2 * expected.heap_bytes() + 1024);
}

#[test]
fn a_state_full_of_future_buckets_is_bounded_and_can_be_dropped() {
    let mut state = State::new(TabType::CounterGroup);
    for second in 0..20_000 {
        let mut part = State::new(TabType::CounterGroup);
        let later = at(second);
        part.fold_numbers(&[later.as_secs()], &[1.0], later);
        state.merge(&part, NOW).expect("states of one type");
    }
    assert_eq!(state.windows(NOW)[0].count, 3_601);
    assert!(state.heap_bytes() < 400_000);
    // The coarsest buckets that begin within the hour hold up to 900 s more.
    assert!((3_300..=4_200).contains(&state.drop_after(at(300))));
    assert_eq!(state.windows(NOW)[0].count, 301);
}

#[test]
fn counts_stop_instead_of_overflowing() {
    let mut body = Vec::new();
    put_varint(&mut body, 1 << 62);
    body.push(7);
    body.extend(f64::MAX.to_le_bytes());
    put_zigzag(&mut body, NOW.as_secs());
    let mut state = State::decode(&sealed(TabType::TotalsCounter, &body)).expect("the highest count");
    for _ in 0..8 {
        let other = state.clone();
        state.merge(&other, NOW).expect("states of one type");
    }
    let all = &state.windows(NOW)[0];
    assert_eq!((all.count, all.sum), (1 << 62, f64::MAX));
}

/// A histogram with `count` in each of two buckets whose indices lie `gap` apart.
fn histogram(halvings: u8, count: u64, gap: u64) -> Vec<u8> {
    let mut body = vec![2, halvings, 0, 0, 0, 1, 200, 1, 0];
    put_varint(&mut body, 2);
    put_zigzag(&mut body, -1000);
    put_varint(&mut body, (count << 1) + 1);
    put_varint(&mut body, 0);
    put_varint(&mut body, gap);
    body.extend([1, 0]);
    put_zigzag(&mut body, NOW.as_secs());
    sealed(TabType::PercentileCounter, &body)
}

#[test]
fn histograms_no_writer_can_make_are_refused() {
    assert!(State::decode(&histogram(0, 500, 10)).is_ok());
    assert!(State::decode(&histogram(0, 500, 60_000)).is_ok());
    assert!(State::decode(&histogram(0, 1 << 62, 10)).is_ok(), "the total stops, as it does in a merge");
    assert!(State::decode(&histogram(0, 60, 10)).is_err(), "so few values are exact");
    assert!(State::decode(&histogram(1, 500, 10)).is_err(), "coarse without need");
    assert!(State::decode(&histogram(9, 500, 10)).is_err(), "coarser than any float needs");
    assert!(State::decode(&histogram(0, 500, 600_000)).is_err(), "no float has this index");
    assert!(State::decode(&histogram(0, 1 << 63, 10)).is_err(), "no count is that high");
    assert!(State::decode(&histogram(0, 500, 0)).is_err(), "an empty gap is not canonical");
}

#[test]
fn a_histogram_with_two_far_buckets_takes_little_memory() {
    let state = State::decode(&histogram(0, 500, 60_000)).expect("well-formed bytes");
    assert!(state.heap_bytes() < 4096, "{}", state.heap_bytes());
}

#[test]
fn names_that_are_not_names_are_refused_in_gauges() {
    let gauge = |client: &[u8]| {
        let mut body = vec![1, client.len() as u8];
        body.extend(client);
        body.extend([1, b'5', 0, 0, 2]);
        State::decode(&sealed(TabType::Gauge, &body))
    };
    assert!(gauge(b"client").is_ok());
    assert!(gauge(b"").is_err());
    assert!(gauge(b"a b").is_err());
    assert!(gauge(b"\xff").is_err());
}

#[test]
fn a_gauge_of_too_many_clients_keeps_the_newest() {
    let mut state = State::new(TabType::Gauge);
    for place in 0..100_010_i64 {
        let event = Event { time: at(place - 100_010), ordinal: 0, payload: Payload::Json("1") };
        state.fold(&format!("client-{place}"), &event, NOW).expect("a gauge value");
    }
    assert_eq!(rendered(&state, NOW), r#"{"1": 100000}"#);
    state.expire(at(172_800 - 100_000 - 1));
    assert_eq!(rendered(&state, NOW), r#"{"1": 100000}"#);
}

#[test]
fn a_buffer_of_too_many_entries_keeps_those_that_live_longest() {
    let entries = |lives: std::ops::Range<i64>| {
        let sent = lives.map(|life| Sent::new(NOW, &format!("[{life}, {}]", at(life).as_secs())));
        folded(TabType::Buffer, &sent.collect::<Vec<_>>())
    };
    let mut state = entries(100..1_000);
    state.merge(&entries(900..2_000), NOW).expect("states of one type");
    let shown: serde_json::Value = serde_json::from_str(&rendered(&state, NOW)).expect("valid JSON");
    let shown = shown.as_array().expect("entries");
    assert_eq!((shown.len(), &shown[0][0], &shown[999][0]), (1_000, &1_999.into(), &1_000.into()));
}

#[test]
fn values_that_are_too_long_are_refused() {
    let payload = format!("\"{}\"", "x".repeat(5_000));
    let mut state = State::new(TabType::Gauge);
    assert!(try_fold(&mut state, &Sent::new(NOW, &payload), NOW).is_err());
}
