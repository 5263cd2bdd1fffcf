//! What the server counts and measures about its HTTP side, for `/metrics`.
//!
//! Labels hold only fixed words: endpoints, status classes, reasons, limits. Never a name of a tab or a
//! client, so the number of series is bounded by this file.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use taba_core::BadCounts;

/// Upper bounds of the request duration histogram, in seconds: 0.25 ms to 8 s by factors of two.
const DURATION_BOUNDS: [f64; 16] = [
    0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0,
];

/// A limit that made the server refuse something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// `connections_max`.
    Connections,
    /// `posts_max`.
    Posts,
    /// `inflight_bytes_max`.
    InflightBytes,
    /// `queries_max`.
    Queries,
    /// `body_bytes_max`.
    BodyBytes,
    /// `inflated_bytes_max`.
    InflatedBytes,
    /// `parts_bytes_max`.
    PartsBytes,
    /// `body_idle_timeout`.
    BodyIdle,
    /// A bound of the store.
    Store,
}

impl Refusal {
    /// The limit as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections_max",
            Self::Posts => "posts_max",
            Self::InflightBytes => "inflight_bytes_max",
            Self::Queries => "queries_max",
            Self::BodyBytes => "body_bytes_max",
            Self::InflatedBytes => "inflated_bytes_max",
            Self::PartsBytes => "parts_bytes_max",
            Self::BodyIdle => "body_idle_timeout",
            Self::Store => "store",
        }
    }
}

impl EncodeLabelValue for Refusal {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

/// Labels of a finished request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    /// The path as it is routed, or `other`: about 25 values.
    endpoint: &'static str,
    /// `2xx` to `5xx`.
    status: &'static str,
}

/// Label of a duration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabel {
    endpoint: &'static str,
}

/// Label of bad events: one of [`taba_core::BadReason::ALL`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Label of refusals.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    limit: Refusal,
}

/// What is counted about connections.
#[derive(Clone, Debug, Default)]
pub struct ConnectionMetrics {
    /// Open ones.
    pub open: Gauge,
    /// Closed at once because too many were open.
    pub refused: Counter,
}

/// What the HTTP side counts and measures.
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<EndpointLabel, Histogram>,
    refused: Family<LimitLabel, Counter>,
    events_bad: Family<ReasonLabel, Counter>,
    /// Bytes of posted bodies as they came in, compressed or not.
    pub body_bytes: Counter,
    /// Events acknowledged and counted.
    pub events_accepted: Counter,
    /// Batches that had been stored before.
    pub batches_duplicate: Counter,
    connections: Gauge,
    /// How long posts took from their head to the acknowledgement, lately.
    pub accept_latency: Smoothed,
}

impl HttpMetrics {
    /// Makes the metrics and registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BOUNDS)),
            refused: Family::default(),
            events_bad: Family::default(),
            body_bytes: Counter::default(),
            events_accepted: Counter::default(),
            batches_duplicate: Counter::default(),
            connections: Gauge::default(),
            accept_latency: Smoothed::default(),
        };
        let requests = metrics.requests.clone();
        registry.register("taba_http_requests", "Requests answered, by endpoint and status class", requests);
        registry.register_with_unit(
            "taba_http_request_duration",
            "Time from a request's head to the head of its answer",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        let refused = metrics.refused.clone();
        registry.register("taba_http_refused", "Requests and connections refused, by limit", refused);
        registry.register(
            "taba_events_bad",
            "Events posted and not counted, by reason",
            metrics.events_bad.clone(),
        );
        registry.register_with_unit(
            "taba_http_body",
            "Bytes of posted bodies as sent",
            Unit::Bytes,
            metrics.body_bytes.clone(),
        );
        let events = metrics.events_accepted.clone();
        registry.register("taba_events_accepted", "Events acknowledged and counted", events);
        let duplicates = metrics.batches_duplicate.clone();
        registry.register("taba_batches_duplicate", "Batches that had been stored before", duplicates);
        registry.register("taba_http_connections", "Open connections", metrics.connections.clone());
        Arc::new(metrics)
    }

    /// Counts a request when the head of its answer is ready.
    pub fn request(&self, endpoint: &'static str, status: u16, duration: Duration) {
        let status = match status {
            ..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        self.requests.get_or_create(&RequestLabels { endpoint, status }).inc();
        self.durations.get_or_create(&EndpointLabel { endpoint }).observe(duration.as_secs_f64());
    }

    /// What the connections of a server count.
    #[must_use]
    pub fn connections(&self) -> ConnectionMetrics {
        let refused = LimitLabel { limit: Refusal::Connections };
        ConnectionMetrics {
            open: self.connections.clone(),
            refused: self.refused.get_or_create(&refused).clone(),
        }
    }

    /// Counts something refused at a limit.
    pub fn refused(&self, limit: Refusal) {
        self.refused.get_or_create(&LimitLabel { limit }).inc();
    }

    /// Counts events that were not counted as data.
    pub fn bad(&self, bad: &BadCounts) {
        for (reason, events) in bad.iter() {
            self.events_bad.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc_by(events);
        }
    }
}

/// An exponentially smoothed duration; each new value weighs an eighth.
#[derive(Debug, Default)]
pub struct Smoothed(AtomicU64);

impl Smoothed {
    /// Takes a value in. Two at once may lose one of them, which a smoothed value does not show.
    pub fn add(&self, value: Duration) {
        let value = u64::try_from(value.as_micros()).unwrap_or(u64::MAX >> 4);
        let old = self.0.load(Ordering::Relaxed);
        let new = if old == 0 { value } else { old - old / 8 + value / 8 };
        self.0.store(new, Ordering::Relaxed);
    }

    /// The smoothed value; zero before the first.
    #[must_use]
    pub fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// Lets something happen at most once in a while: log lines about bad events.
#[derive(Debug)]
pub struct Seldom {
    /// When it happened last, in whole seconds.
    last: AtomicI64,
    secs: i64,
}

impl Seldom {
    /// At most once in this many seconds.
    #[must_use]
    pub const fn every(secs: i64) -> Self {
        Self { last: AtomicI64::new(i64::MIN), secs }
    }

    /// Whether it may happen at `now_secs`; if so, it did.
    pub fn allows(&self, now_secs: i64) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        if now_secs < last.saturating_add(self.secs) {
            return false;
        }
        self.last.compare_exchange(last, now_secs, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use taba_core::BadReason;

    use super::*;

    #[test]
    fn metrics_are_written_with_their_labels() {
        let mut registry = Registry::default();
        let metrics = HttpMetrics::register(&mut registry);
        metrics.request("/post", 200, Duration::from_millis(3));
        metrics.refused(Refusal::Posts);
        let mut bad = BadCounts::default();
        bad.add(BadReason::Nan, 2);
        metrics.bad(&bad);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"taba_http_requests_total{endpoint="/post",status="2xx"} 1"#,
            r#"taba_http_refused_total{limit="posts_max"} 1"#,
            r#"taba_events_bad_total{reason="nan"} 2"#,
            r#"taba_http_request_duration_seconds_bucket{le="0.004",endpoint="/post"} 1"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn seldom_is_once_per_period() {
        let seldom = Seldom::every(10);
        let allowed: Vec<i64> = (0..30).filter(|second| seldom.allows(*second)).collect();
        assert_eq!(allowed, [0, 10, 20]);
    }

    #[test]
    fn smoothing_follows_the_values() {
        let smoothed = Smoothed::default();
        smoothed.add(Duration::from_millis(8));
        assert_eq!(smoothed.get(), Duration::from_millis(8));
        smoothed.add(Duration::from_millis(16));
        assert_eq!(smoothed.get(), Duration::from_millis(9));
    }
}
