//! The pipeline: accept → queue → apply → query, over any store.
//!
//! Accepting hands a batch to the store and answers once it is durable. Behind it every vbucket has one
//! owner (`owner`) among the backends that are live (`ownership`), which merges its queue into states held
//! in a [`cache`] and commits them. Queries ([`crate::query`]) read the store and overlay what an owner in
//! this process holds in memory.

pub mod cache;
mod commit;
pub mod metrics;
mod owner;
mod ownership;
mod slot;
mod sweep;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use taba_core::{BatchId, Part, Parts, Timestamp, Vbucket, VbucketCount};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

pub(crate) use self::slot::Slot;
pub(crate) use self::sweep::overlaid;

use self::metrics::PipelineMetrics;
use self::owner::{Owner, Shared};
use self::ownership::{Ownership, Share, Wanted, nothing_wanted};
use crate::config::PipelineConfig;
use crate::store::{Accepted, Store, StoreError};

/// Maintenance requests waiting at one owner; a further one is dropped, because it asks for the same.
const REQUESTS_MAX: usize = 4;
/// Per-client commits under way at once in one process. Each holds one vbucket's encoded states.
const COMMITS_MAX: usize = 2;
/// Bytes of a vbucket's queue that [`Pipeline::status`] looks at.
pub const WAITING_BYTES_MAX: usize = 1 << 20;
/// How often [`Pipeline::delete_tab`] looks whether another process has applied it.
const DELETE_POLL: Duration = Duration::from_millis(100);
/// How long [`Pipeline::delete_tab`] waits for the owner.
const DELETE_WAIT: Duration = Duration::from_secs(5);

/// Accepts batches, and owns vbuckets: applies their queues to states.
pub struct Pipeline {
    store: Arc<dyn Store>,
    slots: Vec<Arc<Slot>>,
    requests: Vec<mpsc::Sender<Maintenance>>,
    wanted: watch::Receiver<Wanted>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Option<JoinSet<()>>>,
}

/// What the pipeline is doing, for `/status` and readiness.
#[derive(Clone, Copy, Debug, Default)]
pub struct PipelineStatus {
    /// Vbuckets this process owns and has caught up with.
    pub vbuckets_owned: usize,
    /// Queue entries not applied yet; counted up to [`WAITING_BYTES_MAX`] in each vbucket.
    pub entries_waiting: u64,
    /// Age of the oldest of them; zero if none waits.
    pub oldest_age: Duration,
    /// Bytes of queue entries, those that only wait for the per-client states included.
    pub queue_bytes: u64,
    /// Seconds from accepted to applied of the last entries, averaged over vbuckets.
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
    /// A pipeline that accepts and answers, and leaves owning vbuckets to other processes.
    #[must_use]
    pub fn without_owners(store: Arc<dyn Store>) -> Arc<Self> {
        let slots = store.vbuckets().iter().map(|_| Arc::new(Slot::new())).collect();
        let (_, wanted) = watch::channel(nothing_wanted(store.vbuckets()));
        let stop = watch::Sender::new(false);
        Arc::new(Self { store, slots, requests: Vec::new(), wanted, stop, tasks: Mutex::new(None) })
    }

    /// Starts a backend: announces itself as `owner` and owns its share of the store's vbuckets.
    #[must_use]
    pub fn start(
        store: Arc<dyn Store>,
        owner: &str,
        config: PipelineConfig,
        metrics: PipelineMetrics,
    ) -> Arc<Self> {
        let stop = watch::Sender::new(false);
        let wanted = watch::Sender::new(nothing_wanted(store.vbuckets()));
        let wanted_now = wanted.subscribe();
        let shared = Shared {
            store: Arc::clone(&store),
            owner: owner.into(),
            config: Arc::new(config),
            metrics,
            pending_bytes: Arc::new(AtomicU64::new(0)),
            commit_slots: Arc::new(Semaphore::new(COMMITS_MAX)),
            wanted: wanted.subscribe(),
            stop: stop.subscribe(),
        };
        let mut tasks = JoinSet::new();
        let (mut slots, mut requests) = (Vec::new(), Vec::new());
        for vbucket in store.vbuckets().iter() {
            let slot = Arc::new(Slot::new());
            let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
            slots.push(Arc::clone(&slot));
            requests.push(sender);
            tasks.spawn(Owner { shared: shared.clone(), vbucket, slot, requests: receiver }.run());
        }
        let ownership = Ownership {
            store: Arc::clone(&store),
            owner: Arc::clone(&shared.owner),
            ttl: shared.config.lease_ttl,
            wanted,
            stop: stop.subscribe(),
        };
        tasks.spawn(ownership.run());
        Arc::new(Self { store, slots, requests, wanted: wanted_now, stop, tasks: Mutex::new(Some(tasks)) })
    }

    /// How many vbuckets the store has; parts are cut by it.
    #[must_use]
    pub fn vbuckets(&self) -> VbucketCount {
        self.store.vbuckets()
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub(crate) fn slot(&self, vbucket: Vbucket) -> &Slot {
        &self.slots[usize::from(vbucket.0)]
    }

    /// Stores a batch. `Ok` is an acknowledgement: it is durable and will be counted exactly once.
    ///
    /// # Errors
    /// [`StoreError`]: not acknowledged.
    pub async fn accept(&self, id: Option<&BatchId>, parts: Parts) -> Result<Accepted, StoreError> {
        self.store.accept(id, parts).await
    }

    /// Deletes a tab in the order of its queue, and waits until queries of this process no longer show it.
    ///
    /// # Errors
    /// [`StoreError`]: not deleted, or not known to be.
    pub async fn delete_tab(&self, tab: &str) -> Result<(), StoreError> {
        let vbucket = self.vbuckets().of(tab);
        let mut deletions = self.slot(vbucket).deletions.subscribe();
        deletions.mark_unchanged();
        let mut parts = Parts::new(self.vbuckets());
        parts.push(&Part::Delete { tab });
        self.store.accept(None, parts).await?;
        let applied = async {
            if self.slot(vbucket).owned_cache().is_some() {
                let _ = deletions.changed().await;
                return Ok(());
            }
            // Another process is the owner: it has applied the deletion when nothing waits any more.
            while self.store.progress(vbucket).await?.behind_since.is_some() {
                tokio::time::sleep(DELETE_POLL).await;
            }
            Ok(())
        };
        tokio::time::timeout(DELETE_WAIT, applied).await.unwrap_or(Ok(()))
    }

    /// Drops everything queued and not yet applied. Returns how many entries that were.
    ///
    /// # Errors
    /// [`StoreError`]; some queues may have been dropped.
    pub async fn discard_queues(&self) -> Result<u64, StoreError> {
        let mut dropped = 0;
        for vbucket in self.vbuckets().iter() {
            dropped += self.store.discard_queue(vbucket).await?;
        }
        Ok(dropped)
    }

    /// Asks for maintenance; it runs in the background and logs what it did.
    pub fn maintain(&self, what: Maintenance) {
        for requests in &self.requests {
            // A full queue already holds requests of this kind.
            let _ = requests.try_send(what);
        }
    }

    /// Whether the store could be reached since the start.
    #[must_use]
    pub fn was_reached(&self) -> bool {
        self.store.was_reached()
    }

    /// Whether this process owns its share of the vbuckets and has applied what was queued before it did. Where
    /// there are few vbuckets for many backends, a share may be none: such a backend waits for others to go.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        let wanted = self.wanted.borrow();
        let is_in_place = |(slot, share): (&Arc<Slot>, &Share)| *share != Share::Own || slot.is_caught_up();
        wanted.iter().any(|share| *share != Share::Unknown)
            && self.slots.iter().zip(wanted.iter()).all(is_in_place)
    }

    /// What the pipeline is doing at `now`.
    ///
    /// # Errors
    /// [`StoreError`] if the store does not say what waits in its queues.
    pub async fn status(&self, now: Timestamp) -> Result<PipelineStatus, StoreError> {
        let mut status = PipelineStatus::default();
        let mut latency = Duration::ZERO;
        for (vbucket, slot) in self.vbuckets().iter().zip(&self.slots) {
            status.queue_bytes += self.store.queue_depth(vbucket).await?.bytes;
            status.vbuckets_owned += usize::from(slot.is_caught_up());
            let applied = slot.owned_cache().map(|cache| cache.applied());
            // Without a cache somebody else is the owner; everything after the stored mark waits.
            let after = match applied {
                Some(applied) => applied,
                None => self.store.progress(vbucket).await?.marks.aggregates,
            };
            let waiting = self.store.read_queue(vbucket, after, WAITING_BYTES_MAX).await?;
            status.entries_waiting += waiting.len() as u64;
            let age = waiting.first().map_or(0, |entry| now.as_micros() - entry.accepted.as_micros());
            let age = Duration::from_micros(u64::try_from(age).unwrap_or(0));
            status.oldest_age = status.oldest_age.max(age);
            latency += slot.latency();
        }
        status.applied_latency = latency / u32::from(self.vbuckets().get());
        Ok(status)
    }

    /// Waits until everything accepted so far was applied, commits it, gives all leases back and stops.
    pub async fn drain(&self) {
        self.stop.send_replace(true);
        let tasks = self.tasks.lock().take();
        if let Some(mut tasks) = tasks {
            while tasks.join_next().await.is_some() {}
        }
    }
}
