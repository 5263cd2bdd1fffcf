//! Configuration: every field with its effect, unit, default and edge values where it is declared.

use std::time::Duration;

/// Limits of what one server takes in at once (design invariant 7). At a limit the answer is 503 with
/// `Retry-After`, or an event is dropped and counted.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most open connections; further ones are closed at once. Defaults to 16,384.
    pub connections_max: usize,
    /// Longest request body as sent, in bytes. Defaults to 256 MiB; longer ones get 413.
    pub body_bytes_max: u64,
    /// Longest request body after decompression, in bytes. Defaults to 512 MiB; longer ones get 413.
    pub inflated_bytes_max: u64,
    /// Longest event line, in bytes; a longer one is one bad event. Defaults to 1 MiB.
    pub line_bytes_max: usize,
    /// Most bytes of partial states one body may fold into. Defaults to 64 MiB; more gets 413.
    pub parts_bytes_max: usize,
    /// Most bytes of parts held by all open requests and unfinished writes together; beyond it new posts
    /// get 503 before their body is read. Defaults to 256 MiB.
    pub inflight_bytes_max: usize,
    /// Most posts under way at once; beyond it new ones get 503 before their body is read. Defaults to 512.
    pub posts_max: usize,
    /// Most queries under way at once; beyond it new ones get 503. Defaults to 256.
    pub queries_max: usize,
    /// How long a client may take to send its request head, in seconds. Defaults to 10 s.
    pub head_timeout: Duration,
    /// How long a client may pause while it sends a body, in seconds. Defaults to 30 s.
    pub body_idle_timeout: Duration,
    /// How far ahead of the server's clock an event may lie, in seconds. Defaults to 300 s.
    pub future_tolerance: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            body_bytes_max: 256 << 20,
            inflated_bytes_max: 512 << 20,
            line_bytes_max: 1 << 20,
            parts_bytes_max: 64 << 20,
            inflight_bytes_max: 256 << 20,
            posts_max: 512,
            queries_max: 256,
            head_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(30),
            future_tolerance: Duration::from_secs(300),
        }
    }
}

/// How queues are applied to states.
#[derive(Clone, Debug)]
pub struct PipelineConfig {
    /// How often the all-clients states are committed, in seconds. Defaults to 5 s; owners answer queries
    /// from memory in between.
    pub aggregate_commit_interval: Duration,
    /// How often the per-client states are committed, in seconds. Defaults to 30 s. Longer means fewer
    /// writes, a longer queue and a longer replay after a crash.
    pub client_commit_interval: Duration,
    /// Queue bytes per server after which per-client states are committed at once. Defaults to 512 MiB.
    pub client_commit_bytes: u64,
    /// Memory for all-clients states kept ready, in bytes. Defaults to 1 GiB.
    pub cache_bytes_max: usize,
    /// How long a lease on a vbucket lasts without renewal, in seconds. Defaults to 10 s.
    pub lease_ttl: Duration,
    /// How often every tab is looked at for states that can be dropped, in seconds. Defaults to 3,600 s.
    pub prune_interval: Duration,
    /// Most clients one tab may have; events of further ones are dropped and counted. Defaults to 100,000.
    pub clients_per_tab_max: usize,
    /// Most tabs one vbucket may have; events of further ones are dropped and counted. Defaults to 1,000,000.
    pub tabs_per_vbucket_max: usize,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            aggregate_commit_interval: Duration::from_secs(5),
            client_commit_interval: Duration::from_secs(30),
            client_commit_bytes: 512 << 20,
            cache_bytes_max: 1 << 30,
            lease_ttl: Duration::from_secs(10),
            prune_interval: Duration::from_secs(3600),
            clients_per_tab_max: 100_000,
            tabs_per_vbucket_max: 1_000_000,
        }
    }
}
