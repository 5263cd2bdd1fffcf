//! Queues: order, bounds, what drops entries and what wakes owners.

use std::sync::Arc;
use std::time::Duration;

use taba_core::Vbucket;

use super::{LONG, Subject, V, batch_in_v, change, entries, events, id, marks, own, tab};
use crate::store::{Commit, EntryId, QueueDepth, StoreError};

async fn accept(subject: &dyn Subject, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        subject.store().accept(Some(&id("p", number)), batch_in_v(number)).await.unwrap();
    }
}

pub async fn entries_come_in_order_and_ids_grow(mut subject: Box<dyn Subject>) {
    accept(&*subject, 1..=20).await;
    for restarted in [false, true] {
        assert_eq!(events(subject.store(), V).await, (1..=20).collect::<Vec<_>>());
        let read = entries(subject.store(), V).await;
        assert!(read[0].id > EntryId(0));
        assert!(read.is_sorted_by(|a, b| a.id < b.id && a.accepted <= b.accepted));
        let rest = subject.store().read_queue(V, read[16].id, usize::MAX).await.unwrap();
        assert_eq!(
            rest.iter().map(|entry| entry.id).collect::<Vec<_>>(),
            [17, 18, 19].map(|at: usize| read[at].id)
        );
        if !restarted {
            subject.reopen().await;
        }
    }
}

pub async fn reading_stops_at_the_bound_but_gives_at_least_one(mut subject: Box<dyn Subject>) {
    accept(&*subject, 1..=5).await;
    let bytes = entries(subject.store(), V).await[0].block.len();
    for _ in 0..2 {
        for (bytes_max, expected) in [(0, 1), (1, 1), (bytes * 2, 2), (bytes * 3 - 1, 2), (bytes * 9, 5)] {
            let read = subject.store().read_queue(V, EntryId(0), bytes_max).await.unwrap();
            assert_eq!(read.len(), expected, "at most {bytes_max} bytes");
        }
        let last = entries(subject.store(), V).await[4].id;
        assert!(subject.store().read_queue(V, last, 100).await.unwrap().is_empty());
        subject.reopen().await;
    }
}

pub async fn depth_follows_accepts_and_commits(mut subject: Box<dyn Subject>) {
    assert_eq!(subject.store().queue_depth(V).await.unwrap(), QueueDepth::default());
    accept(&*subject, 1..=4).await;
    let read = entries(subject.store(), V).await;
    let bytes = read[0].block.len() as u64;
    assert_eq!(subject.store().queue_depth(V).await.unwrap(), QueueDepth { entries: 4, bytes: bytes * 4 });
    let token = own(subject.store(), V).await;
    let commit = Commit { changes: Vec::new(), marks: marks(read[2].id, read[0].id) };
    subject.store().commit(V, token, commit).await.unwrap();
    for _ in 0..2 {
        let depth = subject.store().queue_depth(V).await.unwrap();
        assert_eq!(depth, QueueDepth { entries: 3, bytes: bytes * 3 });
        subject.reopen().await;
    }
    assert_eq!(subject.store().queue_depth(Vbucket(0)).await.unwrap(), QueueDepth::default());
}

pub async fn discarding_drops_what_no_state_holds_for_good(mut subject: Box<dyn Subject>) {
    accept(&*subject, 1..=3).await;
    assert_eq!(subject.store().discard_queue(V).await.unwrap(), 3);
    assert_eq!(subject.store().discard_queue(V).await.unwrap(), 0);
    accept(&*subject, 4..=4).await;
    for _ in 0..2 {
        assert_eq!(events(subject.store(), V).await, [4]);
        subject.reopen().await;
    }
    // What was dropped stays known: a retry does not bring it back.
    accept(&*subject, 1..=4).await;
    assert_eq!(events(subject.store(), V).await, [4]);
}

pub async fn discarding_keeps_what_aggregates_hold(mut subject: Box<dyn Subject>) {
    accept(&*subject, 1..=4).await;
    let read = entries(subject.store(), V).await;
    let token = own(subject.store(), V).await;
    let commit = Commit { changes: vec![change(&tab(V, 0), 1, &[])], marks: marks(read[2].id, read[0].id) };
    subject.store().commit(V, token, commit).await.unwrap();
    assert_eq!(subject.store().discard_queue(V).await.unwrap(), 1);
    accept(&*subject, 5..=5).await;
    for _ in 0..2 {
        assert_eq!(events(subject.store(), V).await, [2, 3, 5]);
        subject.reopen().await;
    }
}

pub async fn discarding_takes_the_lease_away(subject: Box<dyn Subject>) {
    accept(&*subject, 1..=1).await;
    let token = own(subject.store(), V).await;
    assert_eq!(subject.store().discard_queue(V).await.unwrap(), 1);
    let refused = subject.store().commit(V, token, Commit::default()).await;
    assert!(matches!(refused, Err(StoreError::Fenced(V))));
    let lease = subject.store().lease(V, "other", LONG).await.unwrap().expect("a free lease");
    assert!(lease.token > token);
}

pub async fn waiting_ends_when_an_entry_comes(subject: Box<dyn Subject>) {
    accept(&*subject, 1..=1).await;
    let after = entries(subject.store(), V).await[0].id;
    let store = Arc::clone(subject.store());
    let waiting = tokio::spawn(async move {
        // May resolve too early, so it is asked until there is something.
        while store.read_queue(V, after, 1).await.unwrap().is_empty() {
            store.wait_for_entries(V, after).await;
        }
    });
    tokio::task::yield_now().await;
    accept(&*subject, 2..=2).await;
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("woken").unwrap();
}

pub async fn waiting_ends_at_once_when_an_entry_is_there(subject: Box<dyn Subject>) {
    accept(&*subject, 1..=1).await;
    let wait = subject.store().wait_for_entries(V, EntryId(0));
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("no wait");
}

pub async fn ids_grow_over_a_restart_with_an_empty_queue(mut subject: Box<dyn Subject>) {
    accept(&*subject, 1..=3).await;
    let last = entries(subject.store(), V).await[2].id;
    let token = own(subject.store(), V).await;
    let commit = Commit { changes: Vec::new(), marks: marks(last, last) };
    subject.store().commit(V, token, commit).await.unwrap();
    subject.reopen().await;
    accept(&*subject, 4..=4).await;
    let read = entries(subject.store(), V).await;
    assert_eq!(read.len(), 1);
    assert!(read[0].id > last);
}
