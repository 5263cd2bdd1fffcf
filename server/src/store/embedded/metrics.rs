//! What the embedded store counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Counters of one store. None has labels.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    /// Batches stored.
    pub accepts: Counter,
    /// Batches that were stored before.
    pub duplicates: Counter,
    /// Batches refused because their sequence is too far behind.
    pub stale: Counter,
    /// Batches and commits refused because there was no room.
    pub full: Counter,
    /// Batches that could not be written for another reason.
    pub write_failures: Counter,
    /// Bytes of parts stored.
    pub accepted_bytes: Counter,
    /// Groups of batches written and synced; its count is the number of syncs.
    pub sync_seconds: Histogram,
    /// Bytes of log segments on disk.
    pub queue_bytes: Gauge,
    /// Commits of states.
    pub commits: Counter,
    /// How long a commit of states took.
    pub commit_seconds: Histogram,
    /// Times commits were made durable so that segments could be deleted.
    pub checkpoints: Counter,
    /// Times the state database was opened again after an error.
    pub reopens: Counter,
    /// Producers remembered.
    pub producers: Gauge,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        // From a sync on a fast disk to a commit of tens of megabytes on a slow one.
        let seconds = || Histogram::new([0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0]);
        Self {
            accepts: Counter::default(),
            duplicates: Counter::default(),
            stale: Counter::default(),
            full: Counter::default(),
            write_failures: Counter::default(),
            accepted_bytes: Counter::default(),
            sync_seconds: seconds(),
            queue_bytes: Gauge::default(),
            commits: Counter::default(),
            commit_seconds: seconds(),
            checkpoints: Counter::default(),
            reopens: Counter::default(),
            producers: Gauge::default(),
        }
    }
}

impl StoreMetrics {
    /// Makes the counters visible as `taba_store_…`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("taba_store");
        let counters = [
            ("accepts", "Batches stored", &self.accepts),
            ("duplicates", "Batches that were stored before", &self.duplicates),
            ("stale", "Batches refused because their sequence is too far behind", &self.stale),
            ("full", "Batches and commits refused because there was no room", &self.full),
            ("write_failures", "Batches that could not be written", &self.write_failures),
            ("commits", "Commits of states", &self.commits),
            ("checkpoints", "Times commits were made durable", &self.checkpoints),
            ("reopens", "Times the state database was opened again after an error", &self.reopens),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let accepted = self.accepted_bytes.clone();
        registry.register_with_unit("accepted", "Bytes of parts stored", Unit::Bytes, accepted);
        let (sync, commit) = (self.sync_seconds.clone(), self.commit_seconds.clone());
        registry.register_with_unit("sync", "Time to write and sync a group of batches", Unit::Seconds, sync);
        registry.register_with_unit("commit", "Time to commit states", Unit::Seconds, commit);
        let queue = self.queue_bytes.clone();
        registry.register_with_unit("queue", "Bytes of log segments on disk", Unit::Bytes, queue);
        registry.register("producers", "Producers remembered", self.producers.clone());
    }
}
