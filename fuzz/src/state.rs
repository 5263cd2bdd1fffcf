//! Encoded states, as they come from clients, agents and the store.

use taba_core::{Format, State, Timestamp};

use crate::meter::{Bound, bounded};
use crate::{NOW, resealed};

/// A decoded state may be larger than its bytes: buckets are packed, and a bucket is at least a byte.
const DECODE_BOUND: Bound = Bound { base: 64 << 10, per_byte: 64 };
/// Rendering writes numbers with all their digits (1e308 has 309) and works on a copy of the state.
const USE_BOUND: Bound = Bound { base: 256 << 10, per_byte: 512 };

const DAY_SECS: i64 = 86_400;
const YEAR_SECS: i64 = 365 * DAY_SECS;

/// Decodes the input as it is and with a right checksum; what decodes is put through everything a
/// server does with a state.
pub fn state_decoder(input: &[u8]) {
    decode(input);
    if let Some(sealed) = resealed(input) {
        decode(&sealed);
    }
}

fn decode(bytes: &[u8]) {
    // Both read the header; neither may know a type the other does not.
    let peeked = State::peek_type(bytes);
    let Ok(state) = bounded(DECODE_BOUND, bytes.len(), || State::decode(bytes)) else { return };
    assert_eq!(peeked, Ok(state.tab_type()));

    let encoded = encode(&state);
    let again = State::decode(&encoded).expect("what encode writes, decode reads");
    assert_eq!(encode(&again), encoded, "encoding is not stable");

    for now in [Timestamp::from_secs(0), NOW, NOW.plus_secs(DAY_SECS), NOW.plus_secs(30 * YEAR_SECS)] {
        bounded(USE_BOUND, bytes.len(), || use_at(&state, &encoded, now));
    }
}

/// Merge, render, expire: nothing of it may panic on any state that decodes.
fn use_at(state: &State, encoded: &[u8], now: Timestamp) {
    let mut merged = state.clone();
    merged.merge(state, now).expect("both are of one type");
    let mut from_bytes = state.clone();
    from_bytes.merge_encoded(encoded, now).expect("the bytes decode");
    assert_eq!(encode(&merged), encode(&from_bytes), "merging bytes and merging states differ");

    let mut text = String::new();
    merged.render(now, Format::Plain, &mut text);
    merged.render(now, Format::Detailed, &mut text);
    for window in merged.windows(now) {
        let quantiles = window.sketch.iter().flat_map(|sketch| [0.0, 0.5, 1.0].map(|q| sketch.quantile(q)));
        assert!(quantiles.into_iter().all(f64::is_finite), "a quantile of finite numbers is not finite");
    }

    merged.drop_after(now);
    assert_eq!(merged.drop_after(now), 0, "dropping twice drops something twice");
    merged.expire(now);
    if merged.prunable(now) {
        assert!(merged.prunable(now.plus_secs(DAY_SECS)), "a prunable state came back to life");
    }
    State::decode(&encode(&merged)).expect("what encode writes, decode reads");
}

fn encode(state: &State) -> Vec<u8> {
    let mut out = Vec::new();
    state.encode(&mut out);
    out
}
