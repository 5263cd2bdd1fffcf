//! What the store over Redis shards counts, per shard.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::store::Accepted;

/// Upper bounds of times, in seconds: from a call on loopback to a replica that hangs.
const SECONDS: [f64; 12] = [0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 2.5];
/// Upper bounds of batches per group.
const CALLS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// A shard's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabel {
    shard: String,
}

/// A shard's name, and one of the few words of [`super::call::CallError`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    shard: String,
    reason: &'static str,
}

/// Counters of one store, by shard.
#[derive(Clone, Debug)]
pub struct RedisMetrics {
    accepts: Family<ShardLabel, Counter>,
    duplicates: Family<ShardLabel, Counter>,
    accept_seconds: Family<ShardLabel, Histogram>,
    group_calls: Family<ShardLabel, Histogram>,
    write_seconds: Family<ShardLabel, Histogram>,
    slow_acknowledgements: Family<ShardLabel, Counter>,
    commits: Family<ShardLabel, Counter>,
    commit_seconds: Family<ShardLabel, Histogram>,
    bound: Family<ShardLabel, Gauge>,
    unbound: Family<ReasonLabel, Counter>,
    errors: Family<ReasonLabel, Counter>,
}

impl Default for RedisMetrics {
    fn default() -> Self {
        Self {
            accepts: Family::default(),
            duplicates: Family::default(),
            accept_seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            group_calls: Family::new_with_constructor(|| Histogram::new(CALLS)),
            write_seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            slow_acknowledgements: Family::default(),
            commits: Family::default(),
            commit_seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            bound: Family::default(),
            unbound: Family::default(),
            errors: Family::default(),
        }
    }
}

impl RedisMetrics {
    /// Makes the counters visible as `taba_store_…`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("taba_store");
        registry.register("accepts", "Batches stored", self.accepts.clone());
        registry.register("duplicates", "Batches that were stored before", self.duplicates.clone());
        registry.register_with_unit(
            "accept",
            "Time from a batch's coming to its acknowledgement",
            Unit::Seconds,
            self.accept_seconds.clone(),
        );
        registry.register("group_batches", "Batches written in one go", self.group_calls.clone());
        registry.register_with_unit(
            "group_write",
            "Time to write a group and to wait for replicas",
            Unit::Seconds,
            self.write_seconds.clone(),
        );
        registry.register(
            "slow_acknowledgements",
            "Groups proved to be held by the in-sync set by looking at offsets",
            self.slow_acknowledgements.clone(),
        );
        registry.register("commits", "Commits of states", self.commits.clone());
        registry.register_with_unit(
            "commit",
            "Time to commit states",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        registry.register("bound", "1 while the primary is known and connected", self.bound.clone());
        registry.register(
            "unbound",
            "Times the connections to a primary were dropped, by reason",
            self.unbound.clone(),
        );
        registry.register("errors", "Calls that did not do what was asked, by reason", self.errors.clone());
    }

    /// What one shard counts.
    pub(super) fn of(&self, shard: &str) -> ShardMetrics {
        let label = ShardLabel { shard: shard.to_owned() };
        ShardMetrics {
            shard: shard.to_owned(),
            accepts: self.accepts.get_or_create_owned(&label),
            duplicates: self.duplicates.get_or_create_owned(&label),
            accept_seconds: self.accept_seconds.get_or_create_owned(&label),
            group_calls: self.group_calls.get_or_create_owned(&label),
            write_seconds: self.write_seconds.get_or_create_owned(&label),
            slow_acknowledgements: self.slow_acknowledgements.get_or_create_owned(&label),
            commits: self.commits.get_or_create_owned(&label),
            commit_seconds: self.commit_seconds.get_or_create_owned(&label),
            bound: self.bound.get_or_create_owned(&label),
            unbound: self.unbound.clone(),
            errors: self.errors.clone(),
        }
    }
}

/// What one shard counts.
pub(super) struct ShardMetrics {
    shard: String,
    accepts: Counter,
    duplicates: Counter,
    accept_seconds: Histogram,
    group_calls: Histogram,
    write_seconds: Histogram,
    slow_acknowledgements: Counter,
    commits: Counter,
    commit_seconds: Histogram,
    bound: Gauge,
    unbound: Family<ReasonLabel, Counter>,
    errors: Family<ReasonLabel, Counter>,
}

impl ShardMetrics {
    fn reason(&self, reason: &'static str) -> ReasonLabel {
        ReasonLabel { shard: self.shard.clone(), reason }
    }

    pub(super) fn accepted(&self, accepted: Accepted, took: Duration) {
        match accepted {
            Accepted::New => self.accepts.inc(),
            Accepted::Duplicate => self.duplicates.inc(),
        };
        self.accept_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn group(&self, calls: usize) {
        self.group_calls.observe(calls as f64);
    }

    pub(super) fn written(&self, took: Duration) {
        self.write_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn slow_acknowledgement(&self) {
        self.slow_acknowledgements.inc();
    }

    pub(super) fn committed(&self, took: Duration) {
        self.commits.inc();
        self.commit_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn bound(&self) {
        self.bound.set(1);
    }

    pub(super) fn unbound(&self, reason: &'static str) {
        self.bound.set(0);
        self.unbound.get_or_create(&self.reason(reason)).inc();
    }

    pub(super) fn error(&self, kind: &'static str) {
        self.errors.get_or_create(&self.reason(kind)).inc();
    }
}
