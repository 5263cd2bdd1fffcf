//! Primaries that forget, change, close, lie or go away.

use bytes::Bytes;
use regex::Regex;
use taba_core::{State, TabType};

use super::*;
use crate::pipeline::Pipeline;
use crate::query::{Queries, Selector};
use crate::store::TabChange;

#[tokio::test]
async fn scripts_are_loaded_again_when_the_shard_forgot_them() {
    let subject = TestStore::on(1, |_| {});
    let forget = || subject.lab.shards[0].primary().ask::<()>(&["SCRIPT", "FLUSH", "SYNC"]);
    let tabs = [tab_in(Vbucket(1))];
    for sequence in 1..=5 {
        forget();
        let accepted = subject.accept(&format!("p/{sequence}"), batch(&[&tabs[0]], 1)).await;
        assert_eq!(accepted.unwrap(), Accepted::New);
        forget();
        assert_eq!(subject.entries(Vbucket(1)).await, 1);
        forget();
        let token = subject.own(Vbucket(1)).await;
        forget();
        subject.store().commit(Vbucket(1), token, Commit::default()).await.unwrap();
        forget();
        assert_eq!(subject.store().discard_queue(Vbucket(1)).await.unwrap(), 1);
    }
    assert!(subject.redis().ready(), "it is no reason to look for the primary again");
}

#[tokio::test]
async fn batches_are_counted_once_while_the_shard_forgets_scripts_all_the_time() {
    let subject = TestStore::on(1, |_| {});
    let tab = tab_in(Vbucket(1));
    let mut sending = tokio::task::JoinSet::new();
    for sender in 0..4 {
        let (store, parts) = (Arc::clone(subject.store()), batch(&[&tab], 1));
        sending.spawn(async move {
            for sequence in 1..=50 {
                let accepted = store.accept(Some(&id(&format!("p{sender}/{sequence}"))), parts.clone()).await;
                assert_eq!(accepted.unwrap(), Accepted::New);
            }
        });
    }
    while !sending.is_empty() {
        subject.lab.shards[0].primary().ask::<()>(&["SCRIPT", "FLUSH", "SYNC"]);
        while let Some(sent) = sending.try_join_next() {
            sent.unwrap();
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(subject.entries(Vbucket(1)).await, 200);
}

#[tokio::test]
async fn another_term_voids_leases_and_is_bound_to() {
    let subject = TestStore::on(1, |_| {});
    let parts = batch(&[&tab_in(Vbucket(1))], 1);
    subject.accept("p/1", parts.clone()).await.unwrap();
    let old = subject.own(Vbucket(1)).await;
    subject.lab.shards[0].primary().set("term", "2");
    let refused = subject.store().commit(Vbucket(1), old, Commit::default()).await;
    assert!(is_unavailable(&refused), "{refused:?}");
    assert_eq!(subject.accept_at_last("p/2", &parts).await, Accepted::New);
    assert_eq!(subject.redis().status()[0].term, Some(2));
    for _ in 0..2 {
        let refused = subject.store().commit(Vbucket(1), old, Commit::default()).await;
        assert!(matches!(refused, Err(StoreError::Fenced(Vbucket(1)))), "{refused:?}");
        let refused = subject.store().read_owned_queue(Vbucket(1), old, EntryId(0), 1).await;
        assert!(matches!(refused, Err(StoreError::Fenced(Vbucket(1)))), "{refused:?}");
        subject.store().release(Vbucket(1), old).await.unwrap();
    }
    // The old owner's name counts no more than another's.
    let lease = subject.store().lease(Vbucket(1), "other", Duration::from_secs(60)).await.unwrap();
    assert!(lease.expect("a void lease is free").token > old);
    assert_eq!(subject.entries(Vbucket(1)).await, 2);
}

#[tokio::test]
async fn whoever_waits_for_entries_is_woken_when_the_term_changes() {
    let subject = TestStore::on(1, |_| {});
    let token = subject.own(Vbucket(1)).await;
    let store = Arc::clone(subject.store());
    let waiting = tokio::spawn(async move {
        let read = async || store.read_owned_queue(Vbucket(1), token, EntryId(0), 1).await;
        loop {
            match read().await {
                Ok(entries) => assert!(entries.is_empty()),
                Err(error) => return error,
            }
            store.wait_for_entries(Vbucket(1), EntryId(0)).await;
        }
    });
    subject.lab.shards[0].primary().set("term", "2");
    let ended = tokio::time::timeout(lab::PATIENCE, waiting).await.expect("woken").unwrap();
    assert!(matches!(ended, StoreError::Fenced(_) | StoreError::Unavailable { .. }), "{ended}");
}

#[tokio::test]
async fn a_closed_gate_refuses_reads_and_no_batch() {
    let subject = TestStore::on(1, |options| options.unbound_wait = Duration::from_millis(300));
    let parts = batch(&[&tab_in(Vbucket(1))], 1);
    subject.accept_at_last("p/1", &parts).await;
    let primary = subject.lab.shards[0].primary();
    primary.set("gate", "1000");
    let store = subject.store();
    assert!(is_unavailable(&store.read_queue(Vbucket(1), EntryId(0), 1).await));
    assert!(is_unavailable(&store.progress(Vbucket(1)).await));
    assert!(is_unavailable(&store.read_aggregates(Vbucket(1), &["tab".to_owned()]).await));
    assert!(is_unavailable(&store.read_clients(Vbucket(1), "tab", None).await));
    assert!(is_unavailable(&store.list_tabs(Vbucket(1), None, 1).await));
    assert!(is_unavailable(&store.lease(Vbucket(1), "owner", Duration::from_secs(1)).await));
    assert_eq!(subject.accept_at_last("p/2", &parts).await, Accepted::New);
    primary.set("gate", "9000000000000000");
    Lab::until("binding", || subject.redis().ready()).await;
    assert_eq!(subject.entries(Vbucket(1)).await, 2);
}

#[tokio::test]
async fn a_primary_that_was_replaced_is_left_for_the_new_one() {
    let subject = TestStore::on(3, |_| {});
    let parts = batch(&[&tab_in(Vbucket(1))], 1);
    subject.accept("p/1", parts.clone()).await.unwrap();
    let token = subject.own(Vbucket(1)).await;
    let shard = &subject.lab.shards[0];
    let [old, new, third] = &shard.members[..] else { panic!("three members") };
    old.pause(true);
    open_term(2, new, &[new, third]);
    subject.lab.point_sentinel("s0", new.port());
    // The one that is gone answers nothing: this takes as long as a response may.
    assert_eq!(subject.accept_at_last("p/2", &parts).await, Accepted::New);
    assert_eq!(subject.redis().status()[0].address, Some(new.address()));
    assert_eq!(subject.entries(Vbucket(1)).await, 2);
    assert_eq!(subject.accept("p/1", parts.clone()).await.unwrap(), Accepted::Duplicate);
    let refused = subject.store().commit(Vbucket(1), token, Commit::default()).await;
    assert!(matches!(refused, Err(StoreError::Fenced(_))), "{refused:?}");
    old.pause(false);
}

#[tokio::test]
async fn a_primary_of_a_later_term_is_found_before_sentinel_names_it() {
    let subject = TestStore::on(3, |_| {});
    let parts = batch(&[&tab_in(Vbucket(1))], 1);
    subject.accept("p/1", parts.clone()).await.unwrap();
    let shard = &subject.lab.shards[0];
    subject.lab.until_known(shard).await;
    let [old, new, third] = &shard.members[..] else { panic!("three members") };
    open_term(2, new, &[new, third]);
    old.ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1000"]);
    assert_eq!(subject.accept_at_last("p/2", &parts).await, Accepted::New);
    let status = &subject.redis().status()[0];
    assert_eq!((status.address.clone(), status.term), (Some(new.address()), Some(2)));
    assert_eq!(subject.lab.named("s0"), old.port(), "sentinel was quicker");
    assert_eq!(subject.entries(Vbucket(1)).await, 2);
}

/// Breaks if those that prove to be primary are not taken by their term: Sentinel names the old one first.
#[tokio::test]
async fn of_two_open_primaries_the_one_of_the_later_term_is_bound_to() {
    let mut subject = TestStore::on(3, |_| {});
    let parts = batch(&[&tab_in(Vbucket(1))], 1);
    subject.accept("p/1", parts.clone()).await.unwrap();
    let shard = &subject.lab.shards[0];
    subject.lab.until_known(shard).await;
    let [old, new, third] = &shard.members[..] else { panic!("three members") };
    open_term(2, new, &[new, third]);
    let (old_port, new_address) = (old.port(), new.address());
    subject.reopen().await;
    assert_eq!(subject.accept_at_last("p/2", &parts).await, Accepted::New);
    let status = &subject.redis().status()[0];
    assert_eq!((status.address.clone(), status.term), (Some(new_address), Some(2)));
    assert_eq!(subject.lab.named("s0"), old_port, "sentinel was quicker");
}

/// What a keeper does when its Redis became primary.
fn open_term(term: u64, primary: &lab::Member, in_sync: &[&lab::Member]) {
    primary.ask::<()>(&["REPLICAOF", "NO", "ONE"]);
    primary.set("term", &term.to_string());
    primary.set("primary", &primary.address());
    primary.set("in_sync", &in_sync.iter().map(|member| member.address()).collect::<Vec<_>>().join(","));
    for follower in in_sync.iter().filter(|member| member.port() != primary.port()) {
        follower.ask::<()>(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    }
}

#[tokio::test]
async fn a_fenced_primary_refuses_before_anything_is_written() {
    let subject = TestStore::on(1, |_| {});
    let parts = batch(&[&tab_in(Vbucket(1))], 1);
    subject.accept("p/1", parts.clone()).await.unwrap();
    let primary = subject.lab.shards[0].primary();
    primary.ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    assert!(is_unavailable(&subject.accept("p/2", parts.clone()).await));
    assert_eq!(primary.ask::<usize>(&["XLEN", "v1:q"]), 1);
    primary.ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    assert_eq!(subject.accept_at_last("p/2", &parts).await, Accepted::New);
}

#[tokio::test]
async fn a_lost_answer_and_a_retry_count_once() {
    let subject = TestStore::on(1, |_| {});
    let primary = subject.lab.shards[0].primary();
    let proxy = proxy::Proxy::start(primary.port()).await;
    primary.set("primary", &format!("127.0.0.1:{}", proxy.port()));
    primary.set("term", "2");
    subject.lab.point_sentinel("s0", proxy.port());
    let tab = tab_in(Vbucket(1));
    for sequence in 1..=5 {
        let producer = format!("lost{sequence}");
        let parts = batch(&[&tab], 1);
        Lab::until("binding", || subject.redis().ready()).await;
        subject.accept_at_last(&format!("before/{sequence}"), &parts).await;
        proxy.lose_answer_to(&producer);
        let unknown = subject.accept(&format!("{producer}/1"), parts.clone()).await;
        assert!(is_unavailable(&unknown), "{unknown:?}");
        assert_eq!(proxy.lost(), sequence);
        assert_eq!(subject.accept_at_last(&format!("{producer}/1"), &parts).await, Accepted::Duplicate);
    }
    assert_eq!(subject.entries(Vbucket(1)).await, 10);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_was_done_once_or_not_at_all() {
    let subject = TestStore::on(1, |_| {});
    let primary = subject.lab.shards[0].primary();
    let proxy = proxy::Proxy::start(primary.port()).await;
    primary.set("primary", &format!("127.0.0.1:{}", proxy.port()));
    primary.set("term", "2");
    subject.lab.point_sentinel("s0", proxy.port());
    let tab = tab_in(Vbucket(1));
    subject.accept_at_last("p/1", &batch(&[&tab], 1)).await;
    let token = subject.own(Vbucket(1)).await;
    let state = Bytes::from_static(&[1, TabType::Gauge as u8]);
    let clients = vec![("needle-client".to_owned(), Some(state))];
    let change = TabChange { tab: tab.clone(), aggregate: None, clients, delete: false };
    let marks = Marks { aggregates: EntryId(1), clients: EntryId(1) };
    proxy.lose_answer_to("needle-client");
    let unknown = subject.store().commit(Vbucket(1), token, Commit { changes: vec![change], marks }).await;
    assert!(is_unavailable(&unknown), "{unknown:?}");
    let read = subject.store().read_clients(Vbucket(1), &tab, None).await.unwrap();
    assert_eq!((read.mark, read.states.len()), (EntryId(1), 1));
    assert_eq!(subject.entries(Vbucket(1)).await, 0);
}

/// Waits until a store says why it does not bind.
async fn refusal(subject: &TestStore, expected: &str) {
    let mut last = None;
    Lab::until(expected, || {
        last = subject.redis().status()[0].error.clone();
        last.as_ref().is_some_and(|error| error.contains(expected))
    })
    .await;
    assert!(!subject.redis().ready());
}

#[tokio::test]
async fn another_shard_at_the_address_is_refused() {
    let subject = TestStore::on(1, |options| options.unbound_wait = Duration::from_millis(200));
    let stranger = subject.lab.stranger("s9");
    Lab::until("binding", || subject.redis().ready()).await;
    subject.lab.point_sentinel("s0", stranger.primary().port());
    subject.lab.shards[0].primary().set("term", "2");
    let parts = batch(&[&tab_in(Vbucket(1))], 1);
    assert!(is_unavailable(&subject.accept("p/1", parts.clone()).await));
    refusal(&subject, "this is shard s9, not s0").await;
    assert!(is_unavailable(&subject.accept("p/1", parts).await));
    let written: Vec<String> = stranger.primary().ask(&["KEYS", "v*"]);
    assert!(written.is_empty(), "{written:?}");
}

#[tokio::test]
async fn a_member_that_did_not_open_the_term_is_refused() {
    let subject = TestStore::on(1, |options| options.unbound_wait = Duration::from_millis(200));
    Lab::until("binding", || subject.redis().ready()).await;
    let primary = subject.lab.shards[0].primary();
    primary.set("primary", "127.0.0.1:1");
    primary.set("term", "2");
    assert!(is_unavailable(&subject.accept("p/1", batch(&["tab"], 1)).await));
    refusal(&subject, "term 2 was opened by 127.0.0.1:1").await;
}

#[tokio::test]
async fn a_replica_is_refused() {
    let subject = TestStore::on(2, |options| options.unbound_wait = Duration::from_millis(200));
    Lab::until("binding", || subject.redis().ready()).await;
    let shard = &subject.lab.shards[0];
    shard.primary().set("primary", &shard.members[1].address());
    shard.primary().set("term", "2");
    subject.lab.point_sentinel("s0", shard.members[1].port());
    assert!(is_unavailable(&subject.accept("p/1", batch(&["tab"], 1)).await));
    refusal(&subject, "its role is slave").await;
}

#[tokio::test]
async fn a_shard_that_was_not_founded_is_refused() {
    let lab = Lab::start(1, 1);
    let _: usize = lab.shards[0].primary().ask(&["DEL", "taba:shard"]);
    let subject =
        TestStore::new(lab, vbuckets(), |options| options.unbound_wait = Duration::from_millis(200));
    refusal(&subject, "was not founded").await;
}

#[tokio::test]
async fn another_placement_is_refused_and_the_first_one_stays() {
    let mut subject = TestStore::on(1, |options| options.unbound_wait = Duration::from_millis(200));
    subject.accept_at_last("p/1", &batch(&[&tab_in(Vbucket(1))], 1)).await;
    subject.options.vbuckets = VbucketCount::new(8).unwrap();
    subject.reopen().await;
    refusal(&subject, "the shard has vbuckets 0 to 3 of 4").await;
    subject.options.vbuckets = vbuckets();
    subject.reopen().await;
    Lab::until("binding", || subject.redis().ready()).await;
    assert_eq!(subject.entries(Vbucket(1)).await, 1);
}

#[tokio::test]
async fn a_vbucket_that_moved_away_is_refused_by_the_shard_itself() {
    let subject = TestStore::on(1, |options| options.unbound_wait = Duration::from_millis(200));
    let tabs = [tab_in(Vbucket(1)), tab_in(Vbucket(2))];
    subject.accept_at_last("p/1", &batch(&[&tabs[0]], 1)).await;
    let primary = subject.lab.shards[0].primary();
    primary.set("last", "1");
    assert!(is_unavailable(&subject.accept("p/2", batch(&[&tabs[0], &tabs[1]], 1)).await));
    assert_eq!(primary.ask::<usize>(&["XLEN", "v1:q"]), 1, "all of a call or nothing");
    refusal(&subject, "the shard has vbuckets 0 to 1 of 4").await;
}

#[tokio::test]
async fn a_store_was_reached_once_every_shard_was_bound_to_whatever_comes_later() {
    let lab = Lab::start(2, 1);
    let pause = |shard: usize, paused| lab.shards[shard].primary().pause(paused);
    pause(1, true);
    let store = RedisStore::open(lab.options(vbuckets())).expect("usable options");
    Lab::until("the first shard is bound to", || store.status()[0].address.is_some()).await;
    assert!(!store.was_reached());
    pause(1, false);
    Lab::until("the second too", || store.was_reached()).await;
    pause(1, true);
    Lab::until("it is lost", || !store.ready()).await;
    assert!(store.was_reached());
    pause(1, false);
}

#[test]
fn after_a_while_one_shard_is_enough_and_none_never_is() {
    let later = Duration::from_secs(60);
    let before = later - Duration::from_millis(1);
    assert!(is_reached([true, true].into_iter(), Duration::ZERO));
    assert!(!is_reached([true, false].into_iter(), before));
    assert!(is_reached([true, false].into_iter(), later));
    assert!(!is_reached([false, false].into_iter(), later));
}

#[tokio::test]
async fn queries_say_which_vbuckets_are_away_and_do_not_wait_for_each() {
    let lab = Lab::start(2, 1);
    let subject = TestStore::new(lab, VbucketCount::new(256).unwrap(), |_| {});
    Lab::until("binding", || subject.redis().ready()).await;
    subject.lab.shards[1].primary().pause(true);
    let queries = Queries::new(Pipeline::without_owners(Arc::clone(subject.store())));
    let started = std::time::Instant::now();
    let answer = queries.tabs(&Selector::All, &Selector::All, None, 10).await.unwrap();
    assert_eq!(answer.missing, (128..256).map(Vbucket).collect::<Vec<_>>());
    assert!(started.elapsed() < lab::PATIENCE, "128 vbuckets, one wait");
    subject.lab.shards[1].primary().pause(false);
}

/// A batch with a state of a client for a tab, and the state.
fn first_state(tab: &str, client: &str) -> (Parts, Bytes) {
    let mut state = Vec::new();
    State::new(TabType::CounterGroup).encode(&mut state);
    let mut parts = Parts::new(vbuckets());
    parts.push(&Part::State { tab, client, events: 1, state: &state });
    (parts, state.into())
}

#[tokio::test]
async fn a_client_is_found_before_an_owner_elsewhere_has_stored_its_first_state() {
    let subject = TestStore::on(1, |_| {});
    let (vbucket, tab) = (Vbucket(1), tab_in(Vbucket(1)));
    let (parts, state) = first_state(&tab, "me");
    subject.accept_at_last("p/1", &parts).await;
    let newest = subject.store().read_queue(vbucket, EntryId(0), usize::MAX).await.unwrap()[0].id;
    let change = TabChange { tab: tab.clone(), aggregate: Some(state), clients: Vec::new(), delete: false };
    let marks = Marks { aggregates: newest, clients: EntryId(0) };
    let token = subject.own(vbucket).await;
    subject.store().commit(vbucket, token, Commit { changes: vec![change], marks }).await.unwrap();

    let queries = Queries::new(Pipeline::without_owners(Arc::clone(subject.store())));
    let named = |name: &str| Selector::Names([name.to_owned()].into());
    for clients in
        [named("me"), Selector::Pattern(Regex::new("^m").unwrap()), Selector::Prefix("m".to_owned())]
    {
        let tabs = queries.tabs(&Selector::All, &clients, None, 10).await.unwrap().value;
        assert_eq!(tabs.iter().map(|tab| &tab.name).collect::<Vec<_>>(), [&tab], "{clients:?}");
        assert_eq!(queries.clients(&clients).await.unwrap().value, ["me"], "{clients:?}");
    }
    assert!(queries.tabs(&Selector::All, &named("you"), None, 10).await.unwrap().value.is_empty());

    let mut deletion = Parts::new(vbuckets());
    deletion.push(&Part::Delete { tab: &tab });
    subject.accept_at_last("p/2", &deletion).await;
    assert!(queries.clients(&Selector::All).await.unwrap().value.is_empty(), "its only tab is deleted");
}
