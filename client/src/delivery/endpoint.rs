//! What is known of one endpoint: its load and whether it is trusted with work.

use std::time::{Duration, Instant};

use super::backoff::Backoff;

/// One receiver of batches.
#[derive(Clone, Debug, Default)]
pub(super) struct Endpoint {
    /// Requests under way.
    pub requests: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Their events.
    pub events: u64,
    /// Failures in a row; 0 means healthy.
    failures: u32,
    /// Out of rotation until then; after that one request at a time probes it.
    out_until: Option<Instant>,
    /// Counts outages, so that several requests failing together count as one failure.
    outage: u64,
}

/// Why an endpoint is left alone for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    pub backoff: Backoff,
    /// The receiver asked for at least this.
    pub at_least: Duration,
    /// Uniform in `0..1`.
    pub random: f64,
}

impl Endpoint {
    pub fn is_healthy(&self) -> bool {
        self.out_until.is_none()
    }

    pub fn outage(&self) -> u64 {
        self.outage
    }

    /// Whether one more request may start. A failed endpoint gets one probe at a time.
    pub fn has_room(&self, senders: usize, now: Instant) -> bool {
        match self.out_until {
            None => self.requests < senders,
            Some(until) => until <= now && self.requests == 0,
        }
    }

    /// When a failed endpoint may be probed, if nothing else stands in the way.
    pub fn probe_at(&self) -> Option<Instant> {
        self.out_until.filter(|_| self.requests == 0)
    }

    pub fn started(&mut self, bytes: u64, events: u64) {
        self.requests += 1;
        self.bytes += bytes;
        self.events += events;
    }

    pub fn ended(&mut self, bytes: u64, events: u64) {
        self.requests -= 1;
        self.bytes -= bytes;
        self.events -= events;
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.out_until = None;
    }

    /// Takes the endpoint out of rotation. `outage` is the count when the failed request started: a
    /// request that started before the present outage proves nothing new.
    pub fn failed(&mut self, outage: u64, pause: Pause, now: Instant) {
        if outage != self.outage {
            return;
        }
        let wait = pause.backoff.delay(self.failures, pause.random).max(pause.at_least);
        self.failures = self.failures.saturating_add(1);
        self.outage += 1;
        self.out_until = Some(now + wait);
    }
}
