//! What must hold a batch before it is acknowledged.

use super::*;
use crate::store::redis::Durability;

fn quick(options: &mut RedisOptions) {
    options.ack_timeout = Duration::from_millis(500);
}

#[tokio::test]
async fn a_batch_is_not_acknowledged_before_the_in_sync_set_has_it() {
    let subject = TestStore::on(3, quick);
    let parts = batch(&[&tab_in(Vbucket(1))], 1);
    subject.accept_at_last("p/1", &parts).await;
    let shard = &subject.lab.shards[0];
    shard.members[2].pause(true);
    // One replica has it, which is as many as must; but the set holds two.
    let refused = subject.accept("p/2", parts.clone()).await;
    assert!(is_unavailable(&refused), "{refused:?}");
    let refused = subject.accept("p/2", parts.clone()).await;
    assert!(is_unavailable(&refused), "a duplicate promises as much: {refused:?}");
    shard.primary().set("in_sync", &shard.in_sync(2));
    assert_eq!(subject.accept_at_last("p/2", &parts).await, Accepted::Duplicate);
    subject.accept_at_last("p/3", &parts).await;
    shard.members[2].pause(false);
    shard.primary().set("in_sync", &shard.in_sync(3));
    subject.accept_at_last("p/4", &parts).await;
    assert_eq!(subject.entries(Vbucket(1)).await, 4);
}

#[tokio::test]
async fn the_wrong_replicas_prove_nothing() {
    let subject = TestStore::on(3, quick);
    let parts = batch(&[&tab_in(Vbucket(1))], 1);
    subject.accept_at_last("p/1", &parts).await;
    let shard = &subject.lab.shards[0];
    let [primary, first, second] = &shard.members[..] else { panic!("three members") };
    // The set is primary and second; the second is the one that hangs.
    primary.set("in_sync", &format!("{},{}", primary.address(), second.address()));
    second.pause(true);
    let refused = subject.accept("p/2", parts.clone()).await;
    assert!(is_unavailable(&refused), "{refused:?}");
    second.pause(false);
    first.pause(true);
    assert_eq!(subject.accept_at_last("p/2", &parts).await, Accepted::Duplicate);
    first.pause(false);
}

#[tokio::test]
async fn too_few_in_sync_refuses_before_anything_is_written() {
    let subject = TestStore::on(2, quick);
    let parts = batch(&[&tab_in(Vbucket(1))], 1);
    subject.accept_at_last("p/1", &parts).await;
    let shard = &subject.lab.shards[0];
    shard.primary().set("in_sync", &shard.in_sync(1));
    let refused = subject.accept("p/2", parts.clone()).await;
    assert!(is_unavailable(&refused), "{refused:?}");
    assert_eq!(shard.primary().ask::<usize>(&["XLEN", "v1:q"]), 1);
    shard.primary().set("in_sync", &shard.in_sync(2));
    assert_eq!(subject.accept_at_last("p/2", &parts).await, Accepted::New);
}

#[tokio::test]
async fn queries_are_answered_while_batches_wait_for_replicas() {
    let subject = TestStore::on(2, |options| options.ack_timeout = Duration::from_secs(20));
    let parts = batch(&[&tab_in(Vbucket(1))], 1);
    subject.accept("p/1", parts.clone()).await.unwrap();
    subject.lab.shards[0].members[1].pause(true);
    let store = Arc::clone(subject.store());
    let waiting = tokio::spawn(async move { store.accept(Some(&id("p/2")), parts).await });
    let primary = subject.lab.shards[0].primary();
    Lab::until("writing", || primary.ask::<usize>(&["XLEN", "v1:q"]) == 2).await;
    assert_eq!(subject.entries(Vbucket(1)).await, 2);
    let token = subject.own(Vbucket(1)).await;
    subject.store().commit(Vbucket(1), token, Commit::default()).await.unwrap();
    assert!(!waiting.is_finished());
    subject.lab.shards[0].members[1].pause(false);
    assert_eq!(waiting.await.unwrap().unwrap(), Accepted::New);
}

#[tokio::test]
async fn the_primary_alone_is_enough_where_asked_for() {
    let subject = TestStore::on(2, |options| options.durability = Durability::Primary);
    subject.lab.shards[0].members[1].pause(true);
    let parts = batch(&[&tab_in(Vbucket(1))], 1);
    assert_eq!(subject.accept("p/1", parts).await.unwrap(), Accepted::New);
    subject.lab.shards[0].members[1].pause(false);
}

async fn error_of(subject: &TestStore, expected: &str) {
    let says_so = || subject.redis().status()[0].error.as_ref().is_some_and(|error| error.contains(expected));
    Lab::until(expected, says_so).await;
}

/// Members of a shard that writes through, or not; and whether this Redis can be asked for a sync.
#[tokio::test]
async fn fsync_is_refused_where_members_do_not_write_to_disk_first() {
    let subject = TestStore::on(2, |options| options.durability = Durability::Fsync);
    error_of(&subject, "needs `appendonly yes`").await;
    let members = &subject.lab.shards[0].members;
    for member in members {
        member.ask::<()>(&["CONFIG", "SET", "appendonly", "yes"]);
    }
    if !members[0].has_waitaof() {
        error_of(&subject, "needs `appendfsync always`").await;
    }
    for member in members {
        member.ask::<()>(&["CONFIG", "SET", "appendfsync", "always"]);
    }
    let parts = batch(&[&tab_in(Vbucket(1))], 1);
    subject.accept_at_last("p/1", &parts).await;
}
