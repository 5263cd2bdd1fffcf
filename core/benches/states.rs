//! What a state costs: fold a part of 50 events, encode it, merge it, decode and encode what is stored.
//!
//! A part is what one flush of one client folds into. A stored state has seen an hour of steady traffic:
//! 100 events a second, values from 1 to 1,000 with two decimals, from a fixed seed.

use std::hint::black_box;

use divan::Bencher;
use divan::counter::ItemsCount;
use taba_core::{Event, Payload, State, TabType, Timestamp};

const NOW: Timestamp = Timestamp::from_secs(1_795_371_250);
const PART_EVENTS: usize = 50;

fn main() {
    divan::main();
}

/// A small generator, so that every run measures the same values.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn value(&mut self) -> f64 {
        (100 + self.next(99_900)) as f64 / 100.0
    }
}

fn fold_second(state: &mut State, secs: i64, events: usize, random: &mut Random) {
    let tab_type = state.tab_type();
    if tab_type.takes_numbers() {
        let values: Vec<f64> = (0..events).map(|_| random.value()).collect();
        state.fold_numbers(&vec![secs; events], &values, NOW);
        return;
    }
    for ordinal in 0..events {
        let value = random.next(10);
        let json = match tab_type {
            TabType::Gauge => format!("\"value-{value}\""),
            _ => format!("[\"value-{value}\", {}]", secs + 86_400),
        };
        let event = Event {
            time: Timestamp::from_secs(secs),
            ordinal: ordinal as u32,
            payload: Payload::Json(&json),
        };
        state.fold(&format!("client-{}", random.next(100)), &event, NOW).expect("a payload that fits");
    }
}

fn part(tab_type: TabType) -> State {
    let mut state = State::new(tab_type);
    fold_second(&mut state, NOW.as_secs() - 1, PART_EVENTS, &mut Random(7));
    state
}

fn stored(tab_type: TabType) -> State {
    let mut state = State::new(tab_type);
    let mut random = Random(11);
    for second in NOW.as_secs() - 3600..NOW.as_secs() {
        fold_second(&mut state, second, 100, &mut random);
    }
    state.settle();
    state
}

fn encoded(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    bytes
}

const NUMERIC: [TabType; 4] =
    [TabType::CounterGroup, TabType::PercentileGroup, TabType::TotalsCounter, TabType::PercentileCounter];

/// Folds 50 events of one second into a cleared state; per event.
#[divan::bench(args = NUMERIC)]
fn fold_part(bencher: Bencher, tab_type: TabType) {
    let mut random = Random(7);
    let values: Vec<f64> = (0..PART_EVENTS).map(|_| random.value()).collect();
    let secs = vec![NOW.as_secs() - 1; PART_EVENTS];
    let mut state = State::new(tab_type);
    bencher.counter(ItemsCount::new(PART_EVENTS)).bench_local(|| {
        state.clear();
        state.fold_numbers(black_box(&secs), black_box(&values), NOW);
    });
}

/// Folds and encodes, as a frontend does; per event.
#[divan::bench(args = NUMERIC)]
fn fold_and_encode_part(bencher: Bencher, tab_type: TabType) {
    let mut random = Random(7);
    let values: Vec<f64> = (0..PART_EVENTS).map(|_| random.value()).collect();
    let secs = vec![NOW.as_secs() - 1; PART_EVENTS];
    let mut state = State::new(tab_type);
    let mut out = Vec::new();
    bencher.counter(ItemsCount::new(PART_EVENTS)).bench_local(|| {
        state.clear();
        state.fold_numbers(black_box(&secs), black_box(&values), NOW);
        out.clear();
        state.encode(&mut out);
        black_box(out.len())
    });
}

#[divan::bench(args = TabType::ALL)]
fn encode_part(bencher: Bencher, tab_type: TabType) {
    let state = part(tab_type);
    let mut out = Vec::new();
    bencher.bench_local(|| {
        out.clear();
        black_box(&state).encode(&mut out);
        black_box(out.len())
    });
}

/// Merges a decoded part into a stored state.
#[divan::bench(args = TabType::ALL)]
fn merge_part(bencher: Bencher, tab_type: TabType) {
    let (mut stored, mut part) = (stored(tab_type), part(tab_type));
    part.settle();
    bencher.bench_local(|| stored.merge(black_box(&part), NOW));
}

/// Merges an encoded part into a stored state, as an owner does.
#[divan::bench(args = TabType::ALL)]
fn merge_encoded_part(bencher: Bencher, tab_type: TabType) {
    let (mut stored, part) = (stored(tab_type), encoded(&part(tab_type)));
    bencher.bench_local(|| stored.merge_encoded(black_box(&part), NOW));
}

/// Merges two stored states, as a query over clients does.
#[divan::bench(args = TabType::ALL)]
fn merge_stored(bencher: Bencher, tab_type: TabType) {
    let (mut stored, other) = (stored(tab_type), stored(tab_type));
    bencher.bench_local(|| stored.merge(black_box(&other), NOW));
}

#[divan::bench(args = TabType::ALL)]
fn encode_stored(bencher: Bencher, tab_type: TabType) {
    let state = stored(tab_type);
    let mut out = Vec::new();
    bencher.bench_local(|| {
        out.clear();
        black_box(&state).encode(&mut out);
        black_box(out.len())
    });
}

#[divan::bench(args = TabType::ALL)]
fn decode_stored(bencher: Bencher, tab_type: TabType) {
    let bytes = encoded(&stored(tab_type));
    bencher.bench_local(|| State::decode(black_box(&bytes)));
}
