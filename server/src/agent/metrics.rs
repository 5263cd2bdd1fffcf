//! Metrics of the agent, read when `/metrics` is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use taba_client::delivery::Tally;
use taba_core::{BadCounts, BadReason};

use super::intake::Intake;
use crate::metrics::ConnectionMetrics;

/// What the agent's HTTP side counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Posts taken in.
    pub posts: AtomicU64,
    /// Events taken in. Batches passed on under their own id count too.
    pub events: AtomicU64,
    /// Posts answered with 400, 408, 413 or 415.
    pub refused: AtomicU64,
    /// Posts answered with 503 because a bound was reached.
    pub at_capacity: AtomicU64,
    /// Open and refused connections.
    pub connections: ConnectionMetrics,
    bad: Mutex<BadCounts>,
}

impl Counters {
    /// Counts a post that was taken in.
    pub fn taken(&self, events: u64, bad: &BadCounts) {
        self.posts.fetch_add(1, Ordering::Relaxed);
        self.events.fetch_add(events, Ordering::Relaxed);
        if bad.total() > 0 {
            self.bad.lock().merge(bad);
        }
    }
}

/// Writes everything a scrape sees.
struct AgentCollector {
    intake: Arc<Intake>,
    counters: Arc<Counters>,
}

/// A registry with the agent's metrics. Labels: `endpoint` (one per server configured), `reason` (ten).
#[must_use]
pub fn registry(intake: Arc<Intake>, counters: Arc<Counters>) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(AgentCollector { intake, counters }));
    registry
}

impl std::fmt::Debug for AgentCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AgentCollector")
    }
}

impl Collector for AgentCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.encode_intake(&mut encoder)?;
        self.encode_bad(&mut encoder)?;
        self.encode_delivery(&mut encoder)?;
        self.encode_endpoints(&mut encoder)
    }
}

impl AgentCollector {
    fn encode_intake(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        counter(encoder, "taba_agent_posts", "Posts taken in", load(&self.counters.posts))?;
        counter(encoder, "taba_agent_events", "Events taken in", load(&self.counters.events))?;
        counter(
            encoder,
            "taba_agent_posts_refused",
            "Posts answered with 400, 408, 413 or 415",
            load(&self.counters.refused),
        )?;
        let at_capacity = load(&self.counters.at_capacity);
        counter(encoder, "taba_agent_posts_at_capacity", "Posts answered with 503", at_capacity)?;
        let connections = &self.counters.connections;
        gauge(encoder, "taba_agent_connections", "Open connections", connections.open.get() as f64)?;
        let refused = connections.refused.get();
        let help = "Connections closed at once because too many were open";
        counter(encoder, "taba_agent_connections_refused", help, refused)?;
        let buffered = self.intake.buffered();
        gauge(
            encoder,
            "taba_agent_buffered_events",
            "Events not sealed into a batch yet",
            buffered.events as f64,
        )?;
        gauge(encoder, "taba_agent_buffer_fill_ratio", "Memory in use over its bound", self.intake.fill())?;
        let help = "Events taken in whose partial states could not be gathered; they are lost";
        counter(encoder, "taba_agent_events_ungathered", help, self.intake.events_ungathered())?;
        match &self.intake.spool {
            Some(spool) => {
                gauge(encoder, "taba_agent_spool_bytes", "Bytes of spool files", spool.bytes() as f64)
            }
            None => Ok(()),
        }
    }

    fn encode_bad(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let bad = *self.counters.bad.lock();
        let help = "Events not counted, by reason";
        let mut family =
            encoder.encode_descriptor("taba_agent_bad_events", help, None, MetricType::Counter)?;
        for reason in BadReason::ALL {
            let label = [("reason", reason.as_str())];
            ConstCounter::new(bad.get(reason)).encode(family.encode_family(&label)?)?;
        }
        Ok(())
    }

    fn encode_delivery(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let held = self.intake.delivery.load();
        gauge(encoder, "taba_agent_batches_held", "Batches no server has acknowledged", held.batches as f64)?;
        gauge(encoder, "taba_agent_batch_bytes_held", "Their bytes", held.bytes as f64)?;
        let stats = self.intake.delivery.stats();
        counter(encoder, "taba_agent_attempts", "Requests to servers, retries included", stats.attempts)?;
        let mut tally = |fate: &str, help: &str, tally: Tally| {
            let (batches, events) =
                (format!("taba_agent_batches_{fate}"), format!("taba_agent_events_{fate}"));
            counter(encoder, &batches, &format!("Batches {help}"), tally.batches)?;
            counter(encoder, &events, &format!("Events in batches {help}"), tally.events)
        };
        tally("acknowledged", "a server acknowledged", stats.acknowledged)?;
        tally("refused", "no server will ever take; they are lost", stats.refused)?;
        tally("expired", "that grew too old to be retried; they are lost", stats.expired)
    }

    fn encode_endpoints(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Whether an endpoint is in use (1) or only probed (0)";
        let mut family =
            encoder.encode_descriptor("taba_agent_endpoint_up", help, None, MetricType::Gauge)?;
        for (endpoint, load) in self.intake.delivery.endpoints() {
            let label = [("endpoint", endpoint)];
            ConstGauge::new(i64::from(load.healthy)).encode(family.encode_family(&label)?)?;
        }
        Ok(())
    }
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), std::fmt::Error> {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: f64,
) -> Result<(), std::fmt::Error> {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}
