//! Which sequences the accept script takes for stored, against a set of all of them.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use taba_core::Vbucket;
use taba_core::batch::SEQUENCE_WINDOW;

use super::*;

/// How a producer's sequences go: mostly on, now and then back, seldom far.
fn next_sequence(rng: &mut StdRng, highest: u64) -> u64 {
    match rng.random_range(0..100) {
        0..45 => highest + 1,
        45..60 => highest + rng.random_range(1..20),
        60..62 => highest + rng.random_range(1..2 * SEQUENCE_WINDOW),
        62..64 => highest + SEQUENCE_WINDOW + rng.random_range(0..3) - 1,
        64..90 => highest.saturating_sub(rng.random_range(0..40)),
        90..97 => highest.saturating_sub(rng.random_range(0..SEQUENCE_WINDOW + 3)),
        _ => highest.saturating_sub(SEQUENCE_WINDOW + 1).wrapping_add(rng.random_range(0..3)),
    }
}

#[tokio::test]
async fn any_order_of_sequences_is_told_apart_as_a_set_of_all_would() {
    let subject = TestStore::on(1, |_| {});
    let tab = tab_in(Vbucket(1));
    for seed in 0..8 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut seen = BTreeSet::new();
        for step in 0..700 {
            let highest = seen.last().copied().unwrap_or(rng.random_range(0..3000));
            let sequence = next_sequence(&mut rng, highest);
            let outcome = subject.accept(&format!("p{seed}/{sequence}"), batch(&[&tab], 1)).await;
            let place = format!("seed {seed}, step {step}: {sequence} after {highest}: {outcome:?}");
            let is_stale = seen.last().is_some_and(|highest| *highest > sequence + SEQUENCE_WINDOW);
            match outcome {
                Err(StoreError::StaleSequence { sequence: told, .. }) => {
                    assert!(is_stale && told == sequence, "{place}");
                }
                Ok(Accepted::New) => assert!(!is_stale && seen.insert(sequence), "{place}"),
                Ok(Accepted::Duplicate) => assert!(!is_stale && seen.contains(&sequence), "{place}"),
                Err(_) => panic!("{place}"),
            }
        }
    }
}

/// Bytes of what a shard remembers of a producer.
fn remembered(subject: &TestStore, producer: &str) -> usize {
    subject.lab.shards[0].primary().ask(&["HSTRLEN", "taba:d1", producer])
}

#[tokio::test]
async fn sequences_in_order_take_few_bytes_and_any_others_no_more_than_a_window() {
    let subject = TestStore::on(1, |_| {});
    let tab = tab_in(Vbucket(1));
    let accept = async |producer: &str, sequence: u64| {
        let outcome = subject.accept(&format!("{producer}/{sequence}"), batch(&[&tab], 1)).await;
        assert_eq!(outcome.expect("an answer"), Accepted::New);
    };
    for sequence in 1..100 {
        accept("in-order", sequence).await;
    }
    for sequence in [1, 3, 2, 5, 4, 900, 700, 300].into_iter().chain((902..1200).step_by(2)) {
        accept("sparse", sequence).await;
    }
    assert_eq!(remembered(&subject, "in-order"), 16);
    assert_eq!(remembered(&subject, "sparse"), 8 + 1024 / 8);
    // Once nothing is missing within the window, it is a run again.
    for sequence in (1206..2230).rev() {
        accept("sparse", sequence).await;
    }
    accept("sparse", 2230).await;
    assert_eq!(remembered(&subject, "sparse"), 16);
}
