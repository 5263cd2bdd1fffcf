//! What the operator counts about itself, for `/metrics`. Names are an interface.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Seconds; a pass over a cluster at rest takes some hundredths, one with a handover up to half a minute.
const PASS_BUCKETS: [f64; 10] = [0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 90.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    verb: &'static str,
    kind: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Act {
    act: &'static str,
    result: &'static str,
}

/// A condition of a cluster. As many as there are clusters, times three.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Question {
    namespace: String,
    cluster: String,
    condition: String,
}

/// All counters. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    passes: Family<Outcome, Counter>,
    pass_seconds: Histogram,
    writes: Family<Write, Counter>,
    acts: Family<Act, Counter>,
    conditions: Family<Question, Gauge>,
    leading: Gauge,
    clusters: Gauge,
    last_pass: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("taba_operator");
        let passes = Family::default();
        registry.register("passes", "Passes over a cluster, by result", passes.clone());
        let pass_seconds = Histogram::new(PASS_BUCKETS);
        let help = "How long passes took";
        registry.register_with_unit("pass_duration", help, Unit::Seconds, pass_seconds.clone());
        let writes = Family::default();
        registry.register("api_writes", "Objects written or deleted, by verb, kind, result", writes.clone());
        let acts = Family::default();
        registry.register("acts", "Acts on pods, keepers and Sentinels, by result", acts.clone());
        let conditions = Family::default();
        registry.register("condition", "Conditions of clusters: 1 is true, 0 false", conditions.clone());
        let leading = Gauge::default();
        registry.register("leading", "Whether this operator acts", leading.clone());
        let clusters = Gauge::default();
        registry.register("clusters", "Clusters that are looked after", clusters.clone());
        let last_pass = Gauge::default();
        let help = "When a pass last ended, in seconds since 1970";
        registry.register_with_unit("last_pass_timestamp", help, Unit::Seconds, last_pass.clone());
        Self {
            registry: Arc::new(registry),
            passes,
            pass_seconds,
            writes,
            acts,
            conditions,
            leading,
            clusters,
            last_pass,
        }
    }
}

const fn result(ok: bool) -> &'static str {
    if ok { "ok" } else { "error" }
}

impl Metrics {
    /// A pass ended, at `now` seconds since 1970.
    pub fn pass(&self, ok: bool, took: Duration, now: f64) {
        self.passes.get_or_create(&Outcome { result: result(ok) }).inc();
        self.pass_seconds.observe(took.as_secs_f64());
        self.last_pass.set(now);
    }

    /// An object was written, or not.
    pub fn write(&self, verb: &'static str, kind: &str, ok: bool) {
        let labels = Write { verb, kind: kind.to_owned(), result: result(ok) };
        self.writes.get_or_create(&labels).inc();
    }

    /// Something was done to a pod, a keeper or a Sentinel, or not.
    pub fn act(&self, act: &'static str, ok: bool) {
        self.acts.get_or_create(&Act { act, result: result(ok) }).inc();
    }

    /// A condition of a cluster.
    pub fn condition(&self, namespace: &str, cluster: &str, condition: &str, is_true: bool) {
        let labels = question(namespace, cluster, condition);
        self.conditions.get_or_create(&labels).set(i64::from(is_true));
    }

    /// A cluster is gone.
    pub fn forget(&self, namespace: &str, cluster: &str) {
        for condition in ["Available", "Progressing", "Degraded"] {
            self.conditions.remove(&question(namespace, cluster, condition));
        }
    }

    /// Whether this operator acts.
    pub fn leads(&self, leads: bool) {
        self.leading.set(i64::from(leads));
    }

    /// How many clusters are looked after.
    pub fn looks_after(&self, clusters: usize) {
        self.clusters.set(i64::try_from(clusters).unwrap_or(i64::MAX));
    }

    /// All of it, as Prometheus reads it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("a string takes everything");
        out
    }
}

fn question(namespace: &str, cluster: &str, condition: &str) -> Question {
    Question { namespace: namespace.to_owned(), cluster: cluster.to_owned(), condition: condition.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_is_gone_is_forgotten() {
        let metrics = Metrics::default();
        metrics.condition("ns", "main", "Available", true);
        let line = r#"taba_operator_condition{namespace="ns",cluster="main",condition="Available"} 1"#;
        assert!(metrics.text().contains(line), "{}", metrics.text());
        metrics.forget("ns", "main");
        assert!(!metrics.text().contains("main"));
    }

    #[test]
    fn writes_are_counted_by_kind() {
        let metrics = Metrics::default();
        metrics.write("apply", "Service", true);
        let line = r#"taba_operator_api_writes_total{verb="apply",kind="Service",result="ok"} 1"#;
        assert!(metrics.text().contains(line), "{}", metrics.text());
    }
}
