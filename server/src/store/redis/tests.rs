//! The store over Redis shards under the conformance suite, on real Redis and Sentinel processes; what only
//! it promises stands in the modules.

mod lab;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use taba_core::VbucketCount;

use super::{RedisOptions, RedisStore};
use crate::store::Store;
use crate::store::conformance::{Factory, Subject};
use lab::Lab;

/// A store over shards of its own.
struct TestStore {
    lab: Lab,
    options: RedisOptions,
    // `None` only while it is being reopened.
    store: Option<Arc<dyn Store>>,
}

impl TestStore {
    fn new(lab: Lab, vbuckets: VbucketCount, change: impl FnOnce(&mut RedisOptions)) -> Self {
        let mut options = lab.options(vbuckets);
        change(&mut options);
        let store: Arc<dyn Store> = Arc::new(RedisStore::open(options.clone()).expect("usable options"));
        Self { lab, options, store: Some(store) }
    }
}

#[async_trait]
impl Subject for TestStore {
    fn store(&self) -> &Arc<dyn Store> {
        self.store.as_ref().expect("an open store")
    }

    async fn reopen(&mut self) {
        self.store = None;
        let store = RedisStore::open(self.options.clone()).expect("usable options");
        self.store = Some(Arc::new(store));
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
