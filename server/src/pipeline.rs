//! The pipeline: accept → queue → apply → query, over any store.

use std::sync::Arc;
use std::time::Duration;

use taba_core::{BadCounts, BatchId, Parts, Timestamp, VbucketCount};

use crate::config::PipelineConfig;
use crate::store::{Accepted, Store, StoreError};

/// Accepts batches, and owns vbuckets: applies their queues to states.
pub struct Pipeline {
    store: Arc<dyn Store>,
}

/// What the pipeline is doing, for `/status` and `/metrics`.
#[derive(Clone, Debug, Default)]
pub struct PipelineStatus {
    /// Vbuckets this process owns.
    pub vbuckets_owned: usize,
    /// Queue entries not applied yet.
    pub entries_waiting: u64,
    /// Age of the oldest entry not applied yet; zero if none waits.
    pub oldest_age: Duration,
    /// Bytes of queue entries still held for the per-client states.
    pub queue_bytes: u64,
    /// Events dropped while applying, by reason.
    pub bad: BadCounts,
    /// Median seconds from accepted to applied, lately.
    pub applied_latency: Duration,
}

/// Maintenance a person may ask for; runs in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maintenance {
    /// Drop dead states and names now (`/gc`).
    Prune,
    /// Compare every all-clients state with its per-client states (`/check`); repair if asked to.
    Check {
        /// Rebuild what differs.
        repair: bool,
    },
    /// Rewrite states of older versions (`/upgrade`).
    Upgrade,
    /// Look at the ownership of vbuckets now (`/recompute`).
    Rebalance,
}

impl Pipeline {
    /// Starts the owners of a store's vbuckets.
    #[must_use]
    pub fn start(store: Arc<dyn Store>, _owner: String, _config: PipelineConfig) -> Arc<Self> {
        Arc::new(Self { store })
    }

    /// How many vbuckets the store has; parts are cut by it.
    #[must_use]
    pub fn vbuckets(&self) -> VbucketCount {
        self.store.vbuckets()
    }

    /// Stores a batch. `Ok` is an acknowledgement: it is durable and will be counted exactly once.
    ///
    /// # Errors
    /// [`StoreError`]: not acknowledged.
    pub async fn accept(&self, id: Option<&BatchId>, parts: Parts) -> Result<Accepted, StoreError> {
        self.store.accept(id, parts).await
    }

    /// Deletes a tab in the order of its queue, and waits until queries no longer show it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_tab(&self, _tab: &str) -> Result<(), StoreError> {
        todo!()
    }

    /// Drops everything queued and not yet applied. Returns how many entries that were.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn discard_queues(&self) -> Result<u64, StoreError> {
        todo!()
    }

    /// Asks for maintenance; it runs in the background and logs what it did.
    pub fn maintain(&self, _what: Maintenance) {
        todo!()
    }

    /// What the pipeline is doing.
    pub fn status(&self, _now: Timestamp) -> PipelineStatus {
        todo!()
    }

    /// Waits until everything accepted so far was applied, commits it, gives all leases back and stops.
    pub async fn drain(&self) {
        todo!()
    }
}
