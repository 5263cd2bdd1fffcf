//! Bounds of the embedded store: what happens at each, and that it passes.

use prometheus_client::registry::Registry;
use taba_core::{BatchId, Part, Parts, Vbucket};

use super::*;
use crate::store::conformance::vbuckets;
use crate::store::{Accepted, Commit, EntryId, Marks, StoreError};

fn id(producer: &str, sequence: u64) -> BatchId {
    format!("{producer}/{sequence}").parse().unwrap()
}

fn parts(bytes: usize) -> Parts {
    let mut parts = Parts::new(vbuckets());
    parts.push(&Part::State { tab: "tab", client: "client", events: 1, state: &vec![0; bytes] });
    parts
}

async fn consume(store: &dyn Store, vbucket: Vbucket) {
    let lease = store.lease(vbucket, "owner", Duration::from_secs(60)).await.unwrap().unwrap();
    let entries = store.read_queue(vbucket, EntryId(0), usize::MAX).await.unwrap();
    let newest = entries.last().unwrap().id;
    let marks = Marks { aggregates: newest, clients: newest };
    store.commit(vbucket, lease.token, Commit { changes: Vec::new(), marks }).await.unwrap();
}

async fn fill(store: &dyn Store, bytes: usize, from: u64) -> u64 {
    for sequence in from.. {
        match store.accept(Some(&id("p", sequence)), parts(bytes)).await {
            Ok(outcome) => assert_eq!(outcome, Accepted::New),
            Err(StoreError::Full { what }) => {
                assert_eq!(what, "queue bytes");
                return sequence;
            }
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("sequences end later than the queue")
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_again_once_consumed() {
    for bytes in [100, 10_000, 90_000] {
        let subject = TestStore::new(vbuckets(), |options| options.queue_bytes_max = 100_000);
        let store = &**subject.store();
        let mut next = 1;
        for _ in 0..3 {
            let refused = fill(store, bytes, next).await;
            assert!(refused > next, "room for at least one of {bytes} bytes");
            let again = store.accept(Some(&id("p", refused - 1)), parts(bytes)).await;
            assert_eq!(again.unwrap(), Accepted::Duplicate, "a duplicate needs no room");
            consume(store, vbuckets().of("tab")).await;
            next = refused;
        }
    }
}

#[tokio::test]
async fn disk_kept_free_for_states_is_not_filled_with_parts() {
    let subject = TestStore::new(vbuckets(), |options| options.disk_reserve_bytes = u64::MAX);
    let refused = subject.store().accept(Some(&id("p", 1)), parts(10)).await;
    assert!(matches!(refused, Err(StoreError::Full { what: "disk space" })));
}

#[tokio::test]
async fn producers_beyond_the_bound_are_refused_until_old_ones_are_forgotten() {
    let subject = TestStore::new(vbuckets(), |options| {
        options.producers_max = 2;
        options.producer_retention = Duration::from_secs(100);
    });
    let accept = async |producer: &str| subject.store().accept(Some(&id(producer, 1)), parts(10)).await;
    accept("p0").await.unwrap();
    accept("p1").await.unwrap();
    assert!(matches!(accept("p2").await, Err(StoreError::Full { what: "producers" })));
    assert_eq!(accept("p0").await.unwrap(), Accepted::Duplicate);
    subject.pass(Duration::from_secs(200)).await;
    assert_eq!(accept("p2").await.unwrap(), Accepted::New);
}

#[tokio::test]
async fn producers_are_forgotten_after_the_retention_time() {
    let subject = TestStore::new(vbuckets(), |options| options.producer_retention = Duration::from_secs(100));
    let store = subject.store();
    store.accept(Some(&id("old", 1)), parts(10)).await.unwrap();
    subject.pass(Duration::from_secs(99)).await;
    assert_eq!(store.accept(Some(&id("old", 1)), parts(10)).await.unwrap(), Accepted::Duplicate);
    subject.pass(Duration::from_secs(10)).await;
    store.accept(Some(&id("other", 1)), parts(10)).await.unwrap();
    assert_eq!(store.accept(Some(&id("old", 1)), parts(10)).await.unwrap(), Accepted::New);
}

#[tokio::test]
async fn a_batch_cut_for_another_vbucket_count_is_refused() {
    let subject = TestStore::new(vbuckets(), |_| {});
    let mut parts = Parts::new(VbucketCount::new(4096).unwrap());
    for n in 0..10 {
        parts.push(&Part::Delete { tab: &format!("tab{n}") });
    }
    let refused = subject.store().accept(Some(&id("p", 1)), parts).await;
    assert!(matches!(refused, Err(StoreError::Corrupt { .. })));
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path(), EmbeddedOptions::new(vbuckets())).unwrap();
    for sequence in [1, 2, 1] {
        store.accept(Some(&id("p", sequence)), parts(10)).await.unwrap();
    }
    let mut registry = Registry::default();
    store.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in ["accepts_total 2", "duplicates_total 1", "sync_seconds_count 2", "producers 1"] {
        assert!(text.contains(&format!("taba_store_{line}\n")), "{line} in {text}");
    }
}
