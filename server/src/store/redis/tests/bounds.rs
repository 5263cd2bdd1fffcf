//! Bounds: what happens at each, that nothing is half done, and that it passes.

use prometheus_client::registry::Registry;

use super::*;
use crate::store::TabChange;

/// Everything a shard holds besides its clock: to see that a refusal changed nothing.
fn contents(subject: &TestStore) -> Vec<(String, String)> {
    let primary = subject.lab.shards[0].primary();
    let mut keys: Vec<String> = primary.ask(&["KEYS", "*"]);
    keys.sort();
    let digest = |key: &String| primary.ask::<Vec<String>>(&["DEBUG", "DIGEST-VALUE", key]).join("");
    keys.iter().map(|key| (key.clone(), digest(key))).collect()
}

#[tokio::test]
async fn a_full_queue_refuses_the_whole_batch_and_takes_it_once_consumed() {
    let subject = TestStore::on(1, |options| options.queue_bytes_max = 10_000);
    let (full, other) = (tab_in(Vbucket(1)), tab_in(Vbucket(2)));
    for round in 0..3 {
        let mut sequence = round * 100;
        loop {
            sequence += 1;
            match subject.accept(&format!("p/{sequence}"), batch(&[&full], 1000)).await {
                Ok(accepted) => assert_eq!(accepted, Accepted::New),
                Err(StoreError::Full { what: "queue bytes" }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(sequence, round * 100 + 10, "nine of 1,000 bytes and their overhead fit");
        let before = contents(&subject);
        let both = batch(&[&full, &other], 1000);
        let refused = subject.accept(&format!("p/{sequence}"), both.clone()).await;
        assert!(matches!(refused, Err(StoreError::Full { what: "queue bytes" })));
        assert_eq!(contents(&subject), before);
        let again = subject.accept(&format!("p/{}", sequence - 1), batch(&[&full], 1000)).await;
        assert_eq!(again.unwrap(), Accepted::Duplicate, "a duplicate needs no room");
        subject.consume(Vbucket(1)).await;
        assert_eq!(subject.accept(&format!("p/{sequence}"), both).await.unwrap(), Accepted::New);
        subject.consume(Vbucket(1)).await;
    }
}

#[tokio::test]
async fn a_block_larger_than_the_bound_goes_into_an_empty_queue() {
    let subject = TestStore::on(1, |options| options.queue_bytes_max = 100);
    let tab = tab_in(Vbucket(1));
    assert_eq!(subject.accept("p/1", batch(&[&tab], 1000)).await.unwrap(), Accepted::New);
    assert!(matches!(subject.accept("p/2", batch(&[&tab], 1)).await, Err(StoreError::Full { .. })));
    subject.consume(Vbucket(1)).await;
    assert_eq!(subject.accept("p/2", batch(&[&tab], 1)).await.unwrap(), Accepted::New);
}

#[tokio::test]
async fn a_shard_out_of_memory_refuses_batches_and_still_takes_the_commits_that_make_room() {
    let subject = TestStore::on(1, |_| {});
    let tab = tab_in(Vbucket(1));
    subject.accept("p/1", batch(&[&tab], 1000)).await.unwrap();
    let primary = subject.lab.shards[0].primary();
    let token = subject.own(Vbucket(1)).await;
    primary.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let before = contents(&subject);
    let refused = subject.accept("p/2", batch(&[&tab, &tab_in(Vbucket(2))], 1000)).await;
    assert!(matches!(refused, Err(StoreError::Full { what: "memory of a shard" })), "{refused:?}");
    assert_eq!(contents(&subject), before);
    assert_eq!(subject.own(Vbucket(1)).await, token, "leases are renewed");
    assert_eq!(
        subject.store().enrol("owner", Duration::from_secs(9)).await[0].live.as_ref().unwrap(),
        &["owner"]
    );
    subject.consume(Vbucket(1)).await;
    assert_eq!(subject.entries(Vbucket(1)).await, 0);
    primary.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(subject.accept("p/2", batch(&[&tab], 1000)).await.unwrap(), Accepted::New);
}

#[tokio::test]
async fn producers_beyond_the_bound_are_refused_until_old_ones_are_forgotten() {
    let retention = Duration::from_millis(1500);
    let subject = TestStore::on(1, |options| {
        options.producers_max = 2;
        options.producer_retention = retention;
    });
    let tab = tab_in(Vbucket(1));
    let accept = async |id: &str| subject.accept(id, batch(&[&tab], 1)).await;
    accept("p0/1").await.unwrap();
    accept("p1/1").await.unwrap();
    assert!(matches!(accept("p2/1").await, Err(StoreError::Full { what: "producers" })));
    assert_eq!(accept("p0/1").await.unwrap(), Accepted::Duplicate);
    // In the next generation the one that is used is kept, and moved into it.
    subject.pass(retention).await;
    assert_eq!(accept("p0/1").await.unwrap(), Accepted::Duplicate, "remembered for longer than the time");
    assert_eq!(accept("p0/2").await.unwrap(), Accepted::New);
    subject.pass(retention).await;
    assert_eq!(accept("p2/1").await.unwrap(), Accepted::New);
    assert_eq!(accept("p0/2").await.unwrap(), Accepted::Duplicate);
    assert!(matches!(accept("p1/1").await, Err(StoreError::Full { what: "producers" })), "forgotten");
}

#[tokio::test]
async fn producers_of_the_generation_before_the_last_are_gone_for_good() {
    let retention = Duration::from_millis(500);
    let subject = TestStore::on(1, |options| options.producer_retention = retention);
    subject.accept("p/1", batch(&[&tab_in(Vbucket(1))], 1)).await.unwrap();
    let primary = subject.lab.shards[0].primary();
    assert_eq!(primary.ask::<usize>(&["EXISTS", "taba:d1"]), 1);
    // Nothing is accepted any more; Redis forgets by itself.
    Lab::until("forgetting", || primary.ask::<usize>(&["EXISTS", "taba:d1"]) == 0).await;
}

#[tokio::test]
async fn batches_and_states_of_many_megabytes_pass() {
    let subject = TestStore::on(1, |options| options.queue_bytes_max = 1 << 30);
    let tab = tab_in(Vbucket(1));
    subject.accept("p/1", batch(&[&tab], 30 << 20)).await.unwrap();
    subject.accept("p/2", batch(&[&tab], 1)).await.unwrap();
    let store = subject.store();
    let read = store.read_queue(Vbucket(1), EntryId(0), 1 << 20).await.unwrap();
    assert_eq!((read.len(), read[0].block.len() >> 20), (1, 30));
    let mut state = vec![1, taba_core::TabType::Gauge as u8];
    state.resize(5 << 20, 7);
    let clients = (0..6).map(|n| (format!("client{n}"), Some(state.clone().into()))).collect();
    let change =
        TabChange { tab: tab.clone(), aggregate: Some(state.clone().into()), clients, delete: false };
    let token = subject.own(Vbucket(1)).await;
    let commit = Commit { changes: vec![change], marks: Marks::default() };
    store.commit(Vbucket(1), token, commit).await.unwrap();
    let states = store.read_clients(Vbucket(1), &tab, None).await.unwrap().states;
    assert!(states.len() == 6 && states.iter().all(|(_, read)| *read == state));
}

#[tokio::test]
async fn tens_of_thousands_of_names_pass_the_scripts() {
    let subject = TestStore::on(1, |_| {});
    let tab = tab_in(Vbucket(1));
    let names: Vec<String> = (0..20_000).map(|n| format!("client{n:05}")).collect();
    let state = bytes::Bytes::from_static(&[1, taba_core::TabType::Gauge as u8]);
    let with = |state: Option<bytes::Bytes>| {
        let clients = names.iter().map(|name| (name.clone(), state.clone())).collect();
        TabChange { tab: tab.clone(), aggregate: None, clients, delete: false }
    };
    let store = subject.store();
    let token = subject.own(Vbucket(1)).await;
    let commit = async |change: TabChange| {
        let commit = Commit { changes: vec![change], marks: Marks::default() };
        store.commit(Vbucket(1), token, commit).await.unwrap();
        store.count_clients(Vbucket(1), &tab).await.unwrap()
    };
    assert_eq!(commit(with(Some(state.clone()))).await, 20_000);
    assert_eq!(store.list_clients(Vbucket(1), None, usize::MAX).await.unwrap(), names);
    let read = store.read_clients(Vbucket(1), &tab, Some(&names)).await.unwrap();
    assert_eq!(read.states.len(), 20_000);
    let pairs: Vec<_> = names.iter().map(|name| (tab.clone(), name.clone())).collect();
    assert!(store.read_pairs(Vbucket(1), &pairs).await.unwrap().iter().all(Option::is_some));
    assert_eq!(store.read_aggregates(Vbucket(1), &names).await.unwrap().len(), 20_000);
    assert_eq!(commit(with(None)).await, 0);
    assert_eq!(commit(with(Some(state))).await, 20_000);
    let delete = TabChange { tab: tab.clone(), aggregate: None, clients: Vec::new(), delete: true };
    assert_eq!(commit(delete).await, 0);
    assert!(store.list_clients(Vbucket(1), None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_batch_for_every_one_of_4096_vbuckets_is_one_call() {
    let vbuckets = VbucketCount::new(4096).unwrap();
    let subject = TestStore::new(Lab::start(1, 1), vbuckets, |_| {});
    let mut parts = Parts::new(vbuckets);
    for n in 0..60_000 {
        parts.push(&Part::Delete { tab: &format!("tab{n}") });
    }
    assert_eq!(parts.blocks().count(), 4096);
    assert_eq!(subject.accept("p/1", parts.clone()).await.unwrap(), Accepted::New);
    assert_eq!(subject.accept("p/1", parts).await.unwrap(), Accepted::Duplicate);
    assert_eq!(subject.entries(Vbucket(4095)).await, 1);
}

#[tokio::test]
async fn a_batch_cut_for_another_vbucket_count_is_refused() {
    let subject = TestStore::on(1, |_| {});
    let mut parts = Parts::new(VbucketCount::new(4096).unwrap());
    for n in 0..10 {
        parts.push(&Part::Delete { tab: &format!("tab{n}") });
    }
    assert!(matches!(subject.accept("p/1", parts).await, Err(StoreError::Corrupt { .. })));
}

/// How often waiting ends while time passes.
async fn wakes(subject: &TestStore, after: EntryId) -> usize {
    let mut wakes = 0;
    let passing = subject.pass(Duration::from_millis(300));
    tokio::pin!(passing);
    loop {
        tokio::select! {
            () = &mut passing => return wakes,
            () = subject.store().wait_for_entries(Vbucket(1), after) => {
                let token = subject.own(Vbucket(1)).await;
                let read = subject.store().read_owned_queue(Vbucket(1), token, after, 100).await;
                assert!(read.unwrap().is_empty());
                wakes += 1;
            }
        }
    }
}

#[tokio::test]
async fn waiting_does_not_end_again_and_again_over_entries_that_are_gone() {
    let subject = TestStore::on(1, |_| {});
    for sequence in 1..=3 {
        subject.accept(&format!("p/{sequence}"), batch(&[&tab_in(Vbucket(1))], 1)).await.unwrap();
    }
    assert_eq!(subject.store().discard_queue(Vbucket(1)).await.unwrap(), 3);
    let woken = wakes(&subject, EntryId(0)).await;
    assert!(woken <= 3, "{woken} wakes over a queue that stays empty");
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let subject = TestStore::on(1, |_| {});
    for sequence in [1, 2, 1] {
        subject.accept(&format!("p/{sequence}"), batch(&["tab"], 10)).await.unwrap();
    }
    subject.lab.shards[0].primary().set("term", "2");
    subject.accept_at_last("p/3", &batch(&["tab"], 10)).await;
    let mut registry = Registry::default();
    subject.redis().metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        r#"accepts_total{shard="s0"} 3"#,
        r#"duplicates_total{shard="s0"} 1"#,
        r#"accept_seconds_count{shard="s0"} 4"#,
        r#"unbound_total{shard="s0",reason="term"} 1"#,
        r#"bound{shard="s0"} 1"#,
    ] {
        assert!(text.contains(&format!("taba_store_{line}\n")), "{line} in {text}");
    }
}
