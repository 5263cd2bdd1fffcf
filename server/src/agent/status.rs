//! `/status` of the agent, in both forms of the first Taba and with its field names.
//!
//! *buffered*: taken in, not sealed. *queued*: sealed, waiting. *pending*: being sent. Work that waits
//! belongs to no endpoint here, so per endpoint only what is being sent is above zero. *shards*: the
//! first Taba dealt 750 of them; here an endpoint in use counts as an even share of the 750.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use taba_client::delivery::{EndpointLoad, Load};

use super::intake::Intake;

const SHARDS: usize = 750;

/// What `/status` shows; the field order is that of the first Taba.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    queued_events: u64,
    buffer_pct: f64,
    all_events: u64,
    pending_requests: usize,
    buffered_events: u64,
    pending_events: u64,
    url_stats: BTreeMap<String, UrlStatus>,
    queued_requests: usize,
}

/// What it shows per endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UrlStatus {
    total_events: u64,
    pending_requests: usize,
    pending_events: u64,
    shards: usize,
    load_factor: i64,
    queued_events: u64,
    buffered_events: u64,
    queued_requests: usize,
}

impl Status {
    /// The present status of an agent.
    #[must_use]
    pub fn of(intake: &Intake, path: &str) -> Self {
        let endpoints = intake.delivery.endpoints();
        Self::new(intake.buffered().events, intake.fill(), intake.delivery.load(), &endpoints, path)
    }

    fn new(buffered: u64, fill: f64, held: Load, endpoints: &[(String, EndpointLoad)], path: &str) -> Self {
        let pending_requests = endpoints.iter().map(|(_, load)| load.requests).sum();
        let pending_events = endpoints.iter().map(|(_, load)| load.events).sum::<u64>();
        // A batch may be resolved between the two looks, so the difference may dip below zero.
        let queued_events = held.events.saturating_sub(pending_events);
        let url_stats = endpoints.iter().map(|(url, load)| {
            let status = UrlStatus {
                total_events: load.events,
                pending_requests: load.requests,
                pending_events: load.events,
                shards: shards(*load, endpoints),
                load_factor: load_factor(load.events, pending_events, endpoints.len()),
                queued_events: 0,
                buffered_events: 0,
                queued_requests: 0,
            };
            (format!("{url}{path}"), status)
        });
        Self {
            queued_events,
            buffer_pct: fill,
            all_events: buffered + queued_events + pending_events,
            pending_requests,
            buffered_events: buffered,
            pending_events,
            url_stats: url_stats.collect(),
            queued_requests: held.batches.saturating_sub(pending_requests),
        }
    }

    /// The text form.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!(
            "queued_events: {}\nbuffer_pct: {:?}\nall_events: {}\npending_requests: {}\n\
             buffered_events: {}\npending_events: {}\nqueued_requests: {}\nurl_stats:\n",
            self.queued_events,
            self.buffer_pct,
            self.all_events,
            self.pending_requests,
            self.buffered_events,
            self.pending_events,
            self.queued_requests,
        );
        for (url, stats) in &self.url_stats {
            writeln!(
                out,
                "  {url}: S: {:3} | {:>+4} | B({:6}, {:6}) | Q({:3}, {:6}) | P({:3}, {:6})",
                stats.shards,
                stats.load_factor,
                stats.total_events,
                stats.buffered_events,
                stats.queued_requests,
                stats.queued_events,
                stats.pending_requests,
                stats.pending_events,
            )
            .expect("writing to a string never fails");
        }
        out
    }
}

fn shards(load: EndpointLoad, endpoints: &[(String, EndpointLoad)]) -> usize {
    let healthy = endpoints.iter().filter(|(_, load)| load.healthy).count();
    if load.healthy { SHARDS / healthy } else { 0 }
}

/// Per mille of all events by which an endpoint deviates from the mean.
fn load_factor(events: u64, all: u64, endpoints: usize) -> i64 {
    if all == 0 {
        return 0;
    }
    let mean = all as f64 / endpoints as f64;
    ((events as f64 - mean) / all as f64 * 1000.0).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(requests: usize, events: u64, healthy: bool) -> EndpointLoad {
        EndpointLoad { requests, bytes: 0, events, healthy }
    }

    #[test]
    fn an_idle_agent_looks_like_the_first_tabas() {
        let endpoints = [("http://127.0.0.1:28300".to_owned(), load(0, 0, true))];
        let status = Status::new(0, 0.0, Load::default(), &endpoints, "/post_zip");
        let text = "queued_events: 0\nbuffer_pct: 0.0\nall_events: 0\npending_requests: 0\n\
                    buffered_events: 0\npending_events: 0\nqueued_requests: 0\nurl_stats:\n  \
                    http://127.0.0.1:28300/post_zip: S: 750 |   +0 | B(     0,      0) | Q(  0,      0) | P(  0,      0)\n";
        assert_eq!(status.text(), text);
        let json = r#"{"queued_events":0,"buffer_pct":0.0,"all_events":0,"pending_requests":0,"buffered_events":0,"pending_events":0,"url_stats":{"http://127.0.0.1:28300/post_zip":{"total_events":0,"pending_requests":0,"pending_events":0,"shards":750,"load_factor":0,"queued_events":0,"buffered_events":0,"queued_requests":0}},"queued_requests":0}"#;
        assert_eq!(serde_json::to_string(&status).expect("plain data"), json);
    }

    #[test]
    fn waiting_and_sending_are_told_apart() {
        let endpoints = [("a".to_owned(), load(2, 30, true)), ("b".to_owned(), load(0, 0, false))];
        let held = Load { batches: 5, bytes: 1, events: 100 };
        let status = Status::new(7, 0.5, held, &endpoints, "/v2/batch");
        assert_eq!((status.queued_events, status.pending_events, status.all_events), (70, 30, 107));
        assert_eq!((status.queued_requests, status.pending_requests), (3, 2));
        let (a, b) = (&status.url_stats["a/v2/batch"], &status.url_stats["b/v2/batch"]);
        assert_eq!((a.shards, a.load_factor, b.shards, b.load_factor), (750, 500, 0, -500));
    }
}
