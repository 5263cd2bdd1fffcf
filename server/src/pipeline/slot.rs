//! The meeting place of a vbucket's owner with queries and status: the cache under its lock, and what
//! others wait for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use taba_core::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::cache::Cache;

/// One vbucket as the rest of the process sees it.
#[derive(Debug)]
pub(crate) struct Slot {
    /// `None` while this process does not own the vbucket.
    pub(super) cache: Mutex<Option<Cache>>,
    /// Until when nobody else can own the vbucket: the lease counted from before it was asked for.
    leased_until: Mutex<Option<Instant>>,
    /// Deletions applied so far in this term.
    pub(crate) deletions: watch::Sender<u64>,
    caught_up: AtomicBool,
    applied_latency_micros: AtomicU64,
}

impl Slot {
    pub(crate) fn new() -> Self {
        Self {
            cache: Mutex::new(None),
            leased_until: Mutex::new(None),
            deletions: watch::Sender::new(0),
            caught_up: AtomicBool::new(false),
            applied_latency_micros: AtomicU64::new(0),
        }
    }

    /// The cache, for queries: none while this process does not own the vbucket, has not yet caught up with
    /// its queue, or cannot be sure that nobody else owns it by now (it was paused, the store is away).
    pub(crate) fn owned_cache(&self) -> Option<MappedMutexGuard<'_, Cache>> {
        let cache = self.cache.lock();
        let leased = self.leased_until.lock().is_some_and(|until| Instant::now() < until);
        if !leased || !self.is_caught_up() {
            return None;
        }
        MutexGuard::try_map(cache, Option::as_mut).ok()
    }

    /// Notes how long the lease lasts; `None`: it is lost or given back.
    pub(super) fn set_leased_until(&self, until: Option<Instant>) {
        *self.leased_until.lock() = until;
    }

    /// Whether the owner has applied everything that was queued when its term began.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    pub(super) fn set_caught_up(&self, caught_up: bool) -> bool {
        self.caught_up.swap(caught_up, Ordering::AcqRel)
    }

    /// Notes that an entry accepted at `accepted` was applied at `now`.
    pub(super) fn note_applied(&self, accepted: Timestamp, now: Timestamp) -> Duration {
        let micros = |time: Timestamp| u64::try_from(time.as_micros()).unwrap_or(0);
        let latency = micros(now).saturating_sub(micros(accepted));
        self.applied_latency_micros.store(latency, Ordering::Relaxed);
        Duration::from_micros(latency)
    }

    /// How long the last applied entry had waited.
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_micros(self.applied_latency_micros.load(Ordering::Relaxed))
    }
}
