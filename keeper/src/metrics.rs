//! What a keeper counts and measures, for `/metrics`. The only label is a member's name.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::api::StateAnswer;
use crate::redis::observed::Observed;

type Count = Counter<u64, AtomicU64>;
type Value = Gauge<i64, AtomicI64>;

/// A replica, by its address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Replica {
    replica: String,
}

/// All of it.
pub struct Metrics {
    /// What `/metrics` encodes.
    pub registry: Registry,
    /// Elections begun.
    pub elections: Count,
    /// Elections that did not open.
    pub elections_refused: Count,
    /// Terms opened.
    pub opens: Count,
    /// Changes of the in-sync set.
    pub grown: Count,
    /// Changes of the in-sync set.
    pub shrunk: Count,
    handovers: Count,
    handovers_failed: Count,
    redis_starts: Value,
    primary: Value,
    open: Value,
    settled: Value,
    redis_up: Value,
    link_up: Value,
    term: Value,
    offset: Value,
    in_sync: Value,
    gate_remaining: Gauge<f64, AtomicU64>,
    lag: Family<Replica, Value>,
    fork: Gauge<f64, AtomicU64>,
    aof_ok: Value,
    memory_used: Value,
    memory_max: Value,
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("taba_keeper"),
            elections: Count::default(),
            elections_refused: Count::default(),
            opens: Count::default(),
            grown: Count::default(),
            shrunk: Count::default(),
            handovers: Count::default(),
            handovers_failed: Count::default(),
            redis_starts: Value::default(),
            primary: Value::default(),
            open: Value::default(),
            settled: Value::default(),
            redis_up: Value::default(),
            link_up: Value::default(),
            term: Value::default(),
            offset: Value::default(),
            in_sync: Value::default(),
            gate_remaining: Gauge::default(),
            lag: Family::default(),
            fork: Gauge::default(),
            aof_ok: Value::default(),
            memory_used: Value::default(),
            memory_max: Value::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let counts = [
            ("elections", "Elections begun", &self.elections),
            ("elections_refused", "Elections that did not open", &self.elections_refused),
            ("opens", "Terms opened", &self.opens),
            ("in_sync_grown", "Members taken into the in-sync set", &self.grown),
            ("in_sync_shrunk", "Members that left the in-sync set", &self.shrunk),
            ("handovers", "Handovers done", &self.handovers),
            ("handovers_failed", "Handovers that failed and were undone", &self.handovers_failed),
        ];
        for (name, help, count) in counts {
            registry.register(name, help, count.clone());
        }
        let values = [
            ("redis_starts", "Starts of Redis by this keeper", &self.redis_starts),
            ("primary", "1 if Redis is a primary", &self.primary),
            ("open", "1 if open: takes writes", &self.open),
            ("settled", "1 if the data are whole and on disk", &self.settled),
            ("redis_up", "1 if Redis answers", &self.redis_up),
            ("link_up", "1 if the link to the primary is up", &self.link_up),
            ("term", "Term it is open in, or of its data", &self.term),
            ("in_sync_members", "Members of the in-sync set, as its data have it", &self.in_sync),
            ("aof_ok", "1 if the last write to the append-only file worked", &self.aof_ok),
        ];
        for (name, help, value) in values {
            registry.register(name, help, value.clone());
        }
        let sizes = [
            ("replication_offset", "Replication offset", &self.offset),
            ("memory_used", "Memory Redis uses", &self.memory_used),
            ("memory_max", "Memory Redis may use, 0 for no limit", &self.memory_max),
        ];
        for (name, help, size) in sizes {
            registry.register_with_unit(name, help, Unit::Bytes, size.clone());
        }
        registry.register_with_unit(
            "replica_lag",
            "What a replica has not acknowledged",
            Unit::Bytes,
            self.lag.clone(),
        );
        registry.register_with_unit(
            "gate_remaining",
            "How long reads stay open",
            Unit::Seconds,
            self.gate_remaining.clone(),
        );
        registry.register_with_unit(
            "fork",
            "How long Redis' last fork took",
            Unit::Seconds,
            self.fork.clone(),
        );
    }

    /// Counts a handover.
    pub fn handover(&self, succeeded: bool) {
        if succeeded { &self.handovers } else { &self.handovers_failed }.inc();
    }

    /// Sets how often Redis was started.
    pub fn redis_starts(&self, starts: u64) {
        self.redis_starts.set(starts as i64);
    }

    /// Takes over what one look saw.
    pub fn observe(&self, state: &StateAnswer, observed: Option<&Observed>) {
        self.primary.set(i64::from(state.role == "primary"));
        self.open.set(i64::from(state.open));
        self.settled.set(i64::from(state.settled));
        self.redis_up.set(i64::from(state.redis_alive));
        self.link_up.set(i64::from(state.link_up));
        self.term.set(state.term as i64);
        self.offset.set(state.offset as i64);
        self.in_sync.set(state.in_sync.len() as i64);
        self.lag.clear();
        let Some(observed) = observed else { return };
        for replica in &observed.replicas {
            let label = Replica { replica: replica.address.to_string() };
            self.lag.get_or_create(&label).set(observed.offset.saturating_sub(replica.offset) as i64);
        }
        self.fork.set(observed.fork_usec as f64 / 1e6);
        self.aof_ok.set(i64::from(observed.aof_write_ok));
        self.memory_used.set(observed.memory_used as i64);
        self.memory_max.set(observed.memory_max as i64);
        self.gate_remaining.set(if state.open { gate_remaining(observed) } else { 0.0 });
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Redis and keeper are on one host, so they have one clock.
fn gate_remaining(observed: &Observed) -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let gate_us = observed.shard.as_ref().map_or(0, |shard| shard.gate_us);
    gate_us.saturating_sub(now.as_micros() as u64) as f64 / 1e6
}
