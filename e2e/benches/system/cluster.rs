//! Figures of a cluster: frontends, backends, and Redis primaries with a replica each, on loopback.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taba_e2e::bench::{Limit, Report, TURNS};
use taba_e2e::lab::argv::Programs;
use taba_e2e::lab::cluster::{Cluster, Size, url};
use taba_e2e::lab::daemon::Daemon;
use taba_e2e::lab::host::{KEEPER_PORT, SERVER_PORT};
use taba_e2e::lab::net::Mode;
use taba_e2e::lab::timeline::Timeline;
use taba_e2e::load::{Plan, Shape};
use taba_e2e::process::cluster_programs;
use taba_e2e::rng::Rng;
use taba_e2e::traffic::tab_name;
use tempfile::TempDir;

use crate::figures::{quantile, timed_get};
use crate::sender::Sender;

/// What the first Taba's whole cluster did, on one machine.
const GOAL: f64 = 10_000_000.0;
/// Events per second behind the figures of queries.
const LOAD: u64 = 2_000_000;
/// Events per second of each sender where growth is measured: far below what one server takes.
const GROWTH_LOAD: u64 = 1_000_000;
const CONNECTIONS: u64 = 8;
/// Ticks per second of the times in `/proc`.
const TICKS: f64 = 100.0;
/// Flags of the lab that make it commit more often than anyone would.
const HURRIED: [&str; 3] =
    ["--redis-commit-interval", "--pipeline-aggregate-commit-interval", "--pipeline-client-commit-interval"];

struct Bench {
    cluster: Cluster,
    _folder: TempDir,
}

/// CPU seconds of each part.
#[derive(Clone, Copy, Default)]
struct Cpu {
    servers: f64,
    primaries: f64,
    replicas: f64,
    senders: f64,
}

impl Cpu {
    /// What servers, primaries and replicas used after `before`.
    fn since(&self, before: &Self) -> [f64; 3] {
        [self.servers - before.servers, self.primaries - before.primaries, self.replicas - before.replicas]
    }
}

impl Bench {
    fn start(shards: usize, servers: usize) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let size = Size {
            shards,
            replicas: 1,
            frontends: servers,
            backends: servers,
            agents: 0,
            apps: 0,
            vbuckets: 64,
            min_in_sync: 1,
            down_after: Duration::from_secs(3),
        };
        let at = cluster_programs();
        let programs = Programs {
            taba: at.join("taba"),
            keeper: at.join("taba-keeper"),
            environment: vec![("TABA_LOG_LEVEL".to_owned(), "warn".to_owned())],
        };
        let timeline = Arc::new(Timeline::default());
        let cluster = Cluster::new(folder.path(), Mode::Loopback, size, programs, false, timeline)?;
        cluster.frontends.iter().chain(&cluster.backends).for_each(|server| calm(server));
        cluster.start()?;
        Ok(Self { cluster, _folder: folder })
    }

    fn plan(&self, server: usize, rate: u64, seconds: u64, tab_sets: u64) -> Plan {
        let address: SocketAddr = self.cluster.frontends[server].host().socket(SERVER_PORT).into();
        let shape = Shape { tab_sets, ..Shape::FULL };
        Plan { address, connections: CONNECTIONS, rate, duration: Duration::from_secs(seconds), shape }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", url(&self.cluster.frontends[0], SERVER_PORT))
    }

    fn cpu(&self) -> Result<Cpu> {
        let servers = self.cluster.frontends.iter().chain(&self.cluster.backends);
        let servers = servers.filter_map(|server| server.pid()).map(|pid| cpu_of(pid.as_raw_nonzero().get()));
        let mut cpu = Cpu {
            servers: servers.sum::<Result<f64>>()?,
            senders: cpu_of_ended_children()?,
            ..Cpu::default()
        };
        for member in self.cluster.members() {
            let Some(pid) = member.redis_pid() else { continue };
            let used = cpu_of(pid.as_raw_nonzero().get())?;
            if member.keeper.state()?.open { cpu.primaries += used } else { cpu.replicas += used }
        }
        Ok(cpu)
    }

    /// Until nothing that was accepted waits to be applied.
    fn wait_until_applied(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let answer = ureq::get(self.url("/status")).header("Accept", "application/json").call();
            let status = answer.context("ask for the status")?.into_body().read_to_string()?;
            let status: serde_json::Value = serde_json::from_str(&status).context("parse the status")?;
            if status["max_age"].as_f64() == Some(0.0) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the queue was not applied in time: {status}");
            sleep(Duration::from_millis(50));
        }
    }
}

/// The product's own intervals.
fn calm(server: &Daemon) {
    let mut launch = server.launch();
    while let Some(at) = launch.arguments.iter().position(|argument| HURRIED.contains(&argument.as_str())) {
        launch.arguments.drain(at..at + 2);
    }
    server.relaunch(launch);
}

/// With its ended children: Redis forks to rewrite its append-only file.
fn cpu_of(pid: i32) -> Result<f64> {
    ticks(&format!("/proc/{pid}/stat"), 11, 4)
}

/// Of the senders, which were waited for.
fn cpu_of_ended_children() -> Result<f64> {
    ticks("/proc/self/stat", 13, 2)
}

/// Times that follow each other in a `stat` file, in seconds; `first` counts from the state on.
fn ticks(path: &str, first: usize, count: usize) -> Result<f64> {
    let stat = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let (_, after_name) = stat.rsplit_once(')').context("find the name")?;
    let fields: Vec<f64> =
        after_name.split_whitespace().skip(first).take(count).flat_map(str::parse).collect();
    Ok(fields.iter().sum::<f64>() / TICKS)
}

/// From a sender process until acknowledged by primary and replica, and how the cores divide.
pub fn accept(report: &mut Report) -> Result<()> {
    let bench = Bench::start(1, 1)?;
    let (mut accepted, mut applied) = (Vec::new(), Vec::new());
    let mut cores = [const { Vec::new() }; 4];
    for turn in 0..=TURNS {
        let (before, started) = (bench.cpu()?, Instant::now());
        let sent = Sender::start(&bench.plan(0, 0, 4, 1))?.finish()?;
        let (after, took) = (bench.cpu()?, started.elapsed().as_secs_f64());
        bench.wait_until_applied()?;
        if turn == 0 {
            continue;
        }
        accepted.push(sent.events as f64 / sent.seconds);
        applied.push(sent.events as f64 / started.elapsed().as_secs_f64());
        let shares = [
            after.senders - before.senders,
            after.servers - before.servers,
            after.primaries - before.primaries,
            after.replicas - before.replicas,
        ];
        cores.iter_mut().zip(shares).for_each(|(cores, share)| cores.push(share / took));
    }
    report.figure("accept_redis", "events/s", Limit::AtLeast(GOAL), &accepted);
    let parts = ["sender", "servers", "primary", "replica"];
    for (part, cores) in parts.iter().zip(&cores) {
        report.figure(&format!("accept_redis.{part}"), "cores", Limit::None, cores);
    }
    report.figure("apply_redis", "events/s", Limit::None, &applied);
    Ok(())
}

/// `/tabs?name=…` from a frontend that owns nothing, and how long an event takes to be seen there.
pub fn query(report: &mut Report) -> Result<()> {
    const QUERIES: usize = 300;
    const SAMPLES: usize = 50;
    let bench = Bench::start(1, 1)?;
    let seconds = 20 * (TURNS as u64 + 1);
    let load = Sender::start(&bench.plan(0, LOAD, seconds, 1))?;
    let agent = ureq::Agent::new_with_defaults();
    let mut rng = Rng::new(7);
    let (mut p50, mut p99, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..=TURNS {
        let mut times = Vec::new();
        for _ in 0..QUERIES {
            let url = bench.url(&format!("/tabs?name={}", tab_name(rng.below(1000) as usize)));
            times.push(timed_get(&agent, &url)?.1);
            sleep(Duration::from_millis(5));
        }
        let mut seen = Vec::new();
        for sample in 0..SAMPLES {
            let tab = format!("fresh.{turn}.{sample}");
            let body = format!("1\n\nprobe\n\n{tab}\n[\"TotalsCounter\", 0, \"1\"]\n\n\n");
            agent.post(bench.url("/post")).send(&body).context("post")?;
            let acknowledged = Instant::now();
            let url = bench.url(&format!("/tabs?name={tab}"));
            while timed_get(&agent, &url)?.0.is_empty() {
                ensure!(acknowledged.elapsed() < Duration::from_secs(10), "{tab} never became visible");
            }
            seen.push(acknowledged.elapsed().as_secs_f64());
        }
        if turn > 0 {
            p50.push(quantile(&mut times, 0.50));
            p99.push(quantile(&mut times, 0.99));
            fresh.push(quantile(&mut seen, 0.99));
        }
    }
    load.stop()?;
    report.figure("query_redis_p50", "s", Limit::None, &p50);
    report.figure("query_redis_p99", "s", Limit::AtMost(0.005), &p99);
    report.figure("fresh_redis", "s", Limit::AtMost(1.0), &fresh);
    Ok(())
}

/// Memory of a primary for each (tab, client), of 2,000 tabs with 50 clients and a few events each.
pub fn bytes(report: &mut Report) -> Result<()> {
    const TABS: u64 = 2_000;
    const CLIENTS: u64 = 50;
    let bench = Bench::start(1, 1)?;
    let before = bench.memory()?;
    let shape = Shape { tabs: TABS, events_per_tab: 5, tab_sets: 1 };
    let mut rng = Rng::new(11);
    for client in 0..CLIENTS {
        let body = taba_e2e::load::body(&format!("loaded{client}"), 0, shape, &mut rng);
        ureq::post(bench.url("/post")).send(&body[..]).context("load a client")?;
    }
    bench.wait_until_applied()?;
    // Past the commits of the per-client states, which empty the queue.
    sleep(Duration::from_secs(40));
    let bytes = (bench.memory()? - before) / (TABS * CLIENTS) as f64;
    report.figure("redis_bytes", "bytes", Limit::None, &[bytes]);
    Ok(())
}

impl Bench {
    /// Bytes that the first shard's primary uses.
    fn memory(&self) -> Result<f64> {
        let member =
            self.cluster.members().find(|member| member.keeper.state().is_ok_and(|state| state.open));
        let member = member.context("a primary is open")?;
        let text = ureq::get(format!("{}/metrics", url(&member.daemon, KEEPER_PORT))).call()?;
        let text = text.into_body().read_to_string()?;
        let line = text.lines().find_map(|line| line.strip_prefix("taba_keeper_memory_used_bytes "));
        line.context("the keeper says what Redis uses")?.trim().parse().context("read a number")
    }
}

/// CPU seconds of servers and Redis per million events, with four of something over one of it; how they divide,
/// and what a cluster without load takes.
pub fn growth(report: &mut Report) -> Result<()> {
    let one = Costs::measure(1, 1)?;
    one.report(report, "cpu_redis");
    report.figure("cpu_redis", "s/M", Limit::None, &one.sums());
    let base = quantile(&mut one.sums(), 0.5);
    for (name, shards, servers) in [("growth_shards", 4, 1), ("growth_servers", 1, 4)] {
        let costs = Costs::measure(shards, servers)?;
        let ratios: Vec<f64> = costs.sums().iter().map(|cost| cost / base).collect();
        report.figure(name, "ratio", Limit::AtMost(1.10), &ratios);
        costs.report(report, name);
    }
    Ok(())
}

/// Of servers, primaries and replicas: CPU seconds per million events in each turn, and cores at rest.
struct Costs {
    turns: Vec<[f64; 3]>,
    idle: f64,
}

impl Costs {
    fn measure(shards: usize, servers: usize) -> Result<Self> {
        const REST: Duration = Duration::from_secs(5);
        let bench = Bench::start(shards, servers)?;
        let before = bench.cpu()?;
        sleep(REST);
        let idle = bench.cpu()?.since(&before).iter().sum::<f64>() / REST.as_secs_f64();
        let mut turns = Vec::new();
        for turn in 0..=TURNS {
            let before = bench.cpu()?;
            // As much in all, however many servers share it.
            let plan = |server| bench.plan(server, GROWTH_LOAD / servers as u64, 5, 4);
            let senders: Vec<_> =
                (0..servers).map(|server| Sender::start(&plan(server))).collect::<Result<_>>()?;
            let sent = senders.into_iter().map(|sender| Ok(sender.finish()?.events)).sum::<Result<u64>>()?;
            bench.wait_until_applied()?;
            let used = bench.cpu()?.since(&before);
            if turn > 0 {
                turns.push(used.map(|used| used * 1e6 / sent as f64));
            }
        }
        Ok(Self { turns, idle })
    }

    fn sums(&self) -> Vec<f64> {
        self.turns.iter().map(|parts| parts.iter().sum()).collect()
    }

    fn report(&self, report: &mut Report, name: &str) {
        for (at, part) in ["servers", "primaries", "replicas"].iter().enumerate() {
            let costs: Vec<f64> = self.turns.iter().map(|parts| parts[at]).collect();
            report.figure(&format!("{name}.{part}"), "s/M", Limit::None, &costs);
        }
        report.figure(&format!("{name}.idle"), "cores", Limit::None, &[self.idle]);
    }
}
