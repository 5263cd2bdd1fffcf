//! Accepting: all or none, and once.

use std::sync::Arc;

use taba_core::Vbucket;
use taba_core::batch::{SEQUENCE_MAX, SEQUENCE_WINDOW};

use super::{Subject, V, batch, batch_in_v, entries, events, id, marks, own, tab, vbuckets};
use crate::store::Accepted::{Duplicate, New};
use crate::store::{Commit, StoreError};

pub async fn an_accepted_batch_is_on_the_queues_of_its_vbuckets(subject: Box<dyn Subject>) {
    let store = subject.store();
    let (first, second) = (tab(Vbucket(0), 0), tab(Vbucket(3), 0));
    let outcome = store.accept(Some(&id("p", 1)), batch(&[&first, &second], 5)).await;
    assert_eq!(outcome.unwrap(), New);
    for vbucket in vbuckets().iter() {
        let expected: &[u64] = if [0, 3].contains(&vbucket.0) { &[5] } else { &[] };
        assert_eq!(events(store, vbucket).await, expected, "vbucket {}", vbucket.0);
    }
    let block = &entries(store, Vbucket(0)).await[0].block;
    let part = taba_core::part::iter(block).next().unwrap().unwrap();
    assert_eq!(part.tab(), first);
}

pub async fn a_repeated_batch_is_a_duplicate_and_changes_nothing(subject: Box<dyn Subject>) {
    let store = subject.store();
    assert_eq!(store.accept(Some(&id("p", 1)), batch_in_v(1)).await.unwrap(), New);
    for _ in 0..3 {
        assert_eq!(store.accept(Some(&id("p", 1)), batch_in_v(1)).await.unwrap(), Duplicate);
    }
    assert_eq!(events(store, V).await, [1]);
}

pub async fn batches_without_an_id_are_all_stored(subject: Box<dyn Subject>) {
    let store = subject.store();
    for _ in 0..3 {
        assert_eq!(store.accept(None, batch_in_v(1)).await.unwrap(), New);
    }
    assert_eq!(events(store, V).await, [1, 1, 1]);
}

pub async fn concurrent_repeats_of_a_batch_store_it_once(subject: Box<dyn Subject>) {
    let store = subject.store();
    let mut tasks = tokio::task::JoinSet::new();
    for send in 0..200_u64 {
        let store = Arc::clone(store);
        tasks.spawn(async move { store.accept(Some(&id("p", send % 20)), batch_in_v(send % 20)).await });
    }
    let outcomes = tasks.join_all().await;
    let new = outcomes.into_iter().map(Result::unwrap).filter(|outcome| *outcome == New).count();
    assert_eq!(new, 20);
    let mut stored = events(store, V).await;
    stored.sort_unstable();
    assert_eq!(stored, (0..20).collect::<Vec<_>>());
}

pub async fn reordered_sequences_are_told_from_duplicates(subject: Box<dyn Subject>) {
    let store = subject.store();
    for sequence in [10, 7, 300, 8, 299, 9, 0] {
        assert_eq!(store.accept(Some(&id("p", sequence)), batch_in_v(sequence)).await.unwrap(), New);
    }
    for sequence in [0, 7, 8, 9, 10, 299, 300] {
        assert_eq!(store.accept(Some(&id("p", sequence)), batch_in_v(sequence)).await.unwrap(), Duplicate);
    }
    assert_eq!(store.accept(Some(&id("p", 6)), batch_in_v(6)).await.unwrap(), New);
    assert_eq!(events(store, V).await, [10, 7, 300, 8, 299, 9, 0, 6]);
}

pub async fn the_window_ends_where_it_says(subject: Box<dyn Subject>) {
    let store = subject.store();
    let highest = 5000;
    store.accept(Some(&id("p", highest)), batch_in_v(1)).await.unwrap();
    let oldest = highest - SEQUENCE_WINDOW;
    assert_eq!(store.accept(Some(&id("p", oldest)), batch_in_v(2)).await.unwrap(), New);
    assert_eq!(store.accept(Some(&id("p", oldest)), batch_in_v(2)).await.unwrap(), Duplicate);
    let stale = store.accept(Some(&id("p", oldest - 1)), batch_in_v(3)).await;
    let expected = (oldest - 1, SEQUENCE_WINDOW);
    assert!(
        matches!(stale, Err(StoreError::StaleSequence { sequence, window }) if (sequence, window) == expected)
    );
    // One step further, what was just inside is too far behind.
    store.accept(Some(&id("p", highest + 1)), batch_in_v(4)).await.unwrap();
    let stale = store.accept(Some(&id("p", oldest)), batch_in_v(2)).await;
    assert!(matches!(stale, Err(StoreError::StaleSequence { .. })));
    assert_eq!(store.accept(Some(&id("p", SEQUENCE_MAX)), batch_in_v(5)).await.unwrap(), New);
    assert_eq!(store.accept(Some(&id("p", SEQUENCE_MAX)), batch_in_v(5)).await.unwrap(), Duplicate);
    assert_eq!(events(store, V).await, [1, 2, 4, 5]);
}

pub async fn producers_do_not_share_sequences(subject: Box<dyn Subject>) {
    let store = subject.store();
    for producer in ["a", "b", "a/1", "a:1"] {
        assert_eq!(store.accept(Some(&id(producer, 1)), batch_in_v(1)).await.unwrap(), New);
    }
    assert_eq!(store.accept(Some(&id("a/1", 1)), batch_in_v(1)).await.unwrap(), Duplicate);
}

pub async fn a_batch_without_parts_is_remembered(mut subject: Box<dyn Subject>) {
    let empty = || batch(&[], 0);
    assert_eq!(subject.store().accept(Some(&id("p", 1)), empty()).await.unwrap(), New);
    subject.reopen().await;
    assert_eq!(subject.store().accept(Some(&id("p", 1)), empty()).await.unwrap(), Duplicate);
}

pub async fn duplicates_are_told_after_a_restart_and_after_their_entries_are_gone(
    mut subject: Box<dyn Subject>,
) {
    for sequence in 1..=3 {
        subject.store().accept(Some(&id("p", sequence)), batch_in_v(sequence)).await.unwrap();
    }
    subject.reopen().await;
    let token = own(subject.store(), V).await;
    let last = entries(subject.store(), V).await[2].id;
    let commit = Commit { changes: Vec::new(), marks: marks(last, last) };
    subject.store().commit(V, token, commit).await.unwrap();
    subject.reopen().await;
    for sequence in 1..=3 {
        let again = subject.store().accept(Some(&id("p", sequence)), batch_in_v(sequence)).await;
        assert_eq!(again.unwrap(), Duplicate);
    }
    assert!(entries(subject.store(), V).await.is_empty());
}
