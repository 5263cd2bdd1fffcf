//! What the pipeline tells Prometheus.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use taba_core::BadCounts;

/// A reason label; its values are those of [`taba_core::BadReason`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReasonLabel {
    reason: &'static str,
}

/// What a sweep was for: `prune`, `check` or `upgrade`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct TaskLabel {
    task: &'static str,
}

/// Metrics of all owners in this process.
#[derive(Clone, Debug)]
pub struct PipelineMetrics {
    /// Queue entries applied.
    pub entries_applied: Counter,
    /// Seconds from accepted to applied, per entry.
    pub applied_seconds: Histogram,
    /// Events dropped while applying, by reason (at most one value per `BadReason`).
    pub events_dropped: Family<ReasonLabel, Counter>,
    /// Clients whose state is not kept because their tab has too many; their events count in the tab.
    pub clients_over_limit: Counter,
    /// Commits, all kinds.
    pub commits: Counter,
    /// Seconds per commit, encoding included.
    pub commit_seconds: Histogram,
    /// Sweeps that looked at every tab of a vbucket, by task.
    pub sweeps_finished: Family<TaskLabel, Counter>,
    /// States removed by sweeps.
    pub states_pruned: Counter,
    /// Tabs whose all-clients state differed from their clients' in a check.
    pub check_mismatches: Counter,
    /// Terms of ownership that ended in an error (fenced off, store away).
    pub terms_broken: Counter,
    /// Vbuckets owned and caught up.
    pub vbuckets_owned: Gauge,
}

impl PipelineMetrics {
    /// Registers all of them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::unregistered();
        let Self {
            entries_applied,
            applied_seconds,
            events_dropped,
            clients_over_limit,
            commits,
            commit_seconds,
            sweeps_finished,
            states_pruned,
            check_mismatches,
            terms_broken,
            vbuckets_owned,
        } = metrics.clone();
        registry.register("taba_apply_entries", "Queue entries applied", entries_applied);
        registry.register("taba_apply_seconds", "Seconds from accepted to applied", applied_seconds);
        registry.register("taba_apply_events_dropped", "Events dropped while applying", events_dropped);
        registry.register("taba_apply_clients_over_limit", "Clients not kept apart", clients_over_limit);
        registry.register("taba_commits", "Commits of states", commits);
        registry.register("taba_commit_seconds", "Seconds per commit", commit_seconds);
        registry.register("taba_sweep_finished", "Sweeps over all tabs of a vbucket", sweeps_finished);
        registry.register("taba_sweep_states_pruned", "States removed as dead", states_pruned);
        registry.register(
            "taba_sweep_mismatches",
            "All-clients states that differed in a check",
            check_mismatches,
        );
        registry.register("taba_terms_broken", "Terms of ownership that ended in an error", terms_broken);
        registry.register("taba_vbuckets_owned", "Vbuckets owned and caught up", vbuckets_owned);
        metrics
    }

    /// The same, seen by nobody.
    #[must_use]
    pub fn unregistered() -> Self {
        Self {
            entries_applied: Counter::default(),
            // 1 ms to 32 s.
            applied_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            events_dropped: Family::default(),
            clients_over_limit: Counter::default(),
            commits: Counter::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            sweeps_finished: Family::default(),
            states_pruned: Counter::default(),
            check_mismatches: Counter::default(),
            terms_broken: Counter::default(),
            vbuckets_owned: Gauge::default(),
        }
    }

    /// Counts a sweep that ended.
    pub fn add_sweep(&self, task: &'static str) {
        self.sweeps_finished.get_or_create(&TaskLabel { task }).inc();
    }

    /// Adds dropped events by reason.
    pub fn add_bad(&self, bad: &BadCounts) {
        for (reason, events) in bad.iter() {
            self.events_dropped.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc_by(events);
        }
    }
}
