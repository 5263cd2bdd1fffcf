//! Figures of whole processes: a real server, a sender that is a process of its own, loopback between.
//!
//! Run by `cargo xtask bench`. The same program is the sender when its first argument is `--sender`.

#[path = "system/cluster.rs"]
mod cluster;
#[path = "system/figures.rs"]
mod figures;
#[path = "system/sender.rs"]
mod sender;

use anyhow::Result;
use taba_e2e::bench::{self, Report};

/// A benchmark and the figures it prints.
type Benchmark = (&'static [&'static str], fn(&mut Report) -> Result<()>);

const BENCHMARKS: &[Benchmark] = &[
    (&["accept_http"], figures::accept_http),
    (&["query_p50", "query_p99"], figures::query),
    (&["fresh"], figures::fresh),
    (&["memory"], figures::memory),
    (&["idle"], figures::idle),
    (
        &[
            "accept_redis",
            "accept_redis.sender",
            "accept_redis.servers",
            "accept_redis.primary",
            "accept_redis.replica",
            "apply_redis",
        ],
        cluster::accept,
    ),
    (&["query_redis_p50", "query_redis_p99", "fresh_redis"], cluster::query),
    (&["redis_bytes"], cluster::bytes),
    (
        &[
            "cpu_redis",
            "cpu_redis.servers",
            "cpu_redis.primaries",
            "cpu_redis.replicas",
            "cpu_redis.idle",
            "growth_shards",
            "growth_shards.servers",
            "growth_shards.primaries",
            "growth_shards.replicas",
            "growth_shards.idle",
            "growth_servers",
            "growth_servers.servers",
            "growth_servers.primaries",
            "growth_servers.replicas",
            "growth_servers.idle",
        ],
        cluster::growth,
    ),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [sender, address, numbers] = &arguments[..]
        && sender == "--sender"
    {
        return sender::run(address, numbers);
    }
    let names: Vec<&str> = BENCHMARKS.iter().flat_map(|(names, _)| names.iter().copied()).collect();
    if bench::listed(&names) {
        return Ok(());
    }
    let mut report = Report::from_args();
    for (names, run) in BENCHMARKS {
        if report.wants(names) {
            run(&mut report)?;
        }
    }
    if report.failed() {
        std::process::exit(1);
    }
    Ok(())
}
