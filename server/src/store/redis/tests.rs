//! The store over Redis shards under the conformance suite, on real Redis and Sentinel processes; what only
//! it promises stands in the modules.

mod arrivals;
mod bounds;
mod durability;
mod faults;
mod lab;
mod proxy;
mod security;
mod shares;
mod window;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use taba_core::VbucketCount;

use taba_core::{BatchId, Part, Parts, Vbucket};

use super::{RedisOptions, RedisStore, is_reached};
use crate::store::conformance::{Factory, Subject, vbuckets};
use crate::store::{Accepted, Commit, EntryId, FencingToken, Marks, Store, StoreError};
use lab::Lab;

/// A store over shards of its own.
struct TestStore {
    lab: Lab,
    options: RedisOptions,
    // `None` only while it is being reopened.
    opened: Option<Opened>,
}

/// The same store twice.
struct Opened {
    redis: Arc<RedisStore>,
    store: Arc<dyn Store>,
}

impl Opened {
    fn open(options: &RedisOptions) -> Self {
        let redis = Arc::new(RedisStore::open(options.clone()).expect("usable options"));
        Self { store: redis.clone(), redis }
    }
}

impl TestStore {
    fn new(lab: Lab, vbuckets: VbucketCount, change: impl FnOnce(&mut RedisOptions)) -> Self {
        let mut options = lab.options(vbuckets);
        change(&mut options);
        let opened = Some(Opened::open(&options));
        Self { lab, options, opened }
    }

    /// One shard of so many members.
    fn on(members: usize, change: impl FnOnce(&mut RedisOptions)) -> Self {
        Self::new(Lab::start(1, members), vbuckets(), change)
    }

    fn redis(&self) -> &RedisStore {
        &self.opened.as_ref().expect("an open store").redis
    }

    async fn accept(&self, id: &str, parts: Parts) -> Result<Accepted, StoreError> {
        self.store().accept(Some(&self::id(id)), parts).await
    }

    /// Retries a batch as a producer does, until it is acknowledged.
    async fn accept_at_last(&self, id: &str, parts: &Parts) -> Accepted {
        let started = std::time::Instant::now();
        loop {
            match self.accept(id, parts.clone()).await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    assert!(started.elapsed() < lab::PATIENCE, "{error}: {:?}", self.redis().status());
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn entries(&self, vbucket: Vbucket) -> usize {
        self.store().read_queue(vbucket, EntryId(0), usize::MAX).await.expect("a readable queue").len()
    }

    async fn own(&self, vbucket: Vbucket) -> FencingToken {
        let lease = self.store().lease(vbucket, "owner", Duration::from_secs(3600)).await;
        lease.expect("a shard that answers").expect("nobody else owns it").token
    }

    /// Commits that everything queued was applied.
    async fn consume(&self, vbucket: Vbucket) {
        let token = self.own(vbucket).await;
        let entries = self.store().read_owned_queue(vbucket, token, EntryId(0), usize::MAX).await;
        let newest = entries.expect("a readable queue").last().map_or(EntryId(0), |entry| entry.id);
        let marks = Marks { aggregates: newest, clients: newest };
        let commit = Commit { changes: Vec::new(), marks };
        self.store().commit(vbucket, token, commit).await.expect("a commit");
    }
}

fn id(text: &str) -> BatchId {
    text.parse().expect("a valid id")
}

/// A batch with a part of so many bytes for each tab.
fn batch(tabs: &[&str], bytes: usize) -> Parts {
    let mut parts = Parts::new(vbuckets());
    for tab in tabs {
        parts.push(&Part::State { tab, client: "client", events: 1, state: &vec![0; bytes] });
    }
    parts
}

/// A tab of a vbucket.
fn tab_in(vbucket: Vbucket) -> String {
    let mut names = (0..).map(|number| format!("tab{number}"));
    names.find(|name| vbuckets().of(name) == vbucket).expect("names never end")
}

fn is_unavailable<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable { .. }))
}

#[async_trait]
impl Subject for TestStore {
    fn store(&self) -> &Arc<dyn Store> {
        &self.opened.as_ref().expect("an open store").store
    }

    async fn reopen(&mut self) {
        self.opened = None;
        self.opened = Some(Opened::open(&self.options));
    }

    async fn pass(&self, time: Duration) {
        self.lab.pass(time).await;
    }
}

/// One shard without replicas.
struct Single;

#[async_trait]
impl Factory for Single {
    async fn make(&self, vbuckets: VbucketCount) -> Box<dyn Subject> {
        Box::new(TestStore::new(Lab::start(1, 1), vbuckets, |_| {}))
    }
}

mod on_one_member {
    crate::store_conformance!(super::Single);
}

/// Two shards, each with a replica that must hold every write.
struct Replicated;

#[async_trait]
impl Factory for Replicated {
    async fn make(&self, vbuckets: VbucketCount) -> Box<dyn Subject> {
        Box::new(TestStore::new(Lab::start(2, 2), vbuckets, |_| {}))
    }
}

mod on_replicated_shards {
    crate::store_conformance!(super::Replicated);
}
