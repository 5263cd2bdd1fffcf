//! What is measured, and the limits it is held against.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taba_e2e::bench::{Limit, Report, TURNS};
use taba_e2e::load::{Plan, Shape};
use taba_e2e::process::Server;
use taba_e2e::rng::Rng;
use taba_e2e::traffic::tab_name;
use tempfile::TempDir;

use crate::sender::Sender;

/// Events per second that `accept_http` is held against; half of it is the load behind the others.
const FULL_RATE: u64 = 10_000_000;
const HALF_RATE: u64 = FULL_RATE / 2;
/// Connections of a throughput run: enough to keep decoding while others wait for the disk.
const CONNECTIONS: u64 = 8;
/// Tabs and clients behind the query figures.
const LOADED_TABS: u64 = 30_000;
const LOADED_CLIENTS: u64 = 100;
/// Sets of 1,000 tabs that the load behind the query figures spreads over.
const TAB_SETS: u64 = LOADED_TABS / 1000;

/// A server over a data folder that goes with it.
struct Bench {
    server: Server,
    _data: TempDir,
}

impl Bench {
    fn start() -> Result<Self> {
        let data = tempfile::tempdir().context("make a data folder")?;
        let server = Server::start(&data.path().join("data"), &["--log-level", "warn"])?;
        Ok(Self { server, _data: data })
    }

    fn plan(&self, rate: u64, seconds: u64) -> Plan {
        let duration = Duration::from_secs(seconds);
        Plan { address: self.server.address(), connections: CONNECTIONS, rate, duration, shape: Shape::FULL }
    }

    /// Every tab of the query figures with a state of every client.
    fn load_tabs(&self) -> Result<()> {
        let shape = Shape { tabs: LOADED_TABS, events_per_tab: 1, tab_sets: 1 };
        let agent = ureq::Agent::new_with_defaults();
        let mut rng = Rng::new(11);
        for client in 0..LOADED_CLIENTS {
            let body = taba_e2e::load::body(&format!("loaded{client}"), 0, shape, &mut rng);
            agent.post(self.server.url("/post")).send(&body[..]).context("load a client")?;
        }
        self.wait_until_applied()
    }

    fn wait_until_applied(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let status = get(&self.server, "/status", "application/json")?;
            let status: serde_json::Value = serde_json::from_str(&status).context("parse the status")?;
            if status["max_age"].as_f64() == Some(0.0) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the queue was not applied in time: {status}");
            sleep(Duration::from_millis(50));
        }
    }

    fn half_load(&self, seconds: u64) -> Plan {
        let shape = Shape { tab_sets: TAB_SETS, ..Shape::FULL };
        Plan { connections: TAB_SETS, shape, ..self.plan(HALF_RATE, seconds) }
    }
}

fn get(server: &Server, path: &str, accept: &str) -> Result<String> {
    let answer = ureq::get(server.url(path)).header("Accept", accept).call().context("query")?;
    answer.into_body().read_to_string().context("read the answer")
}

/// Events per second from a sender process until acknowledged on disk.
pub fn accept_http(report: &mut Report) -> Result<()> {
    let bench = Bench::start()?;
    let mut rates = Vec::new();
    for turn in 0..=TURNS {
        let sent = Sender::start(&bench.plan(0, 4))?.finish()?;
        if turn > 0 {
            rates.push(sent.events as f64 / sent.seconds);
        }
    }
    bench.wait_until_applied()?;
    report.figure("accept_http", "events/s", Limit::AtLeast(FULL_RATE as f64), &rates);
    Ok(())
}

/// `/tabs?name=…` while events come in at half rate.
pub fn query(report: &mut Report) -> Result<()> {
    const SECONDS: u64 = 5;
    let bench = Bench::start()?;
    bench.load_tabs()?;
    let load = Sender::start(&bench.half_load((TURNS as u64 + 1) * SECONDS + 2))?;
    let agent = ureq::Agent::new_with_defaults();
    let mut rng = Rng::new(5);
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for turn in 0..=TURNS {
        let mut times = Vec::new();
        let end = Instant::now() + Duration::from_secs(SECONDS);
        while Instant::now() < end {
            let url = bench.server.url(&format!("/tabs?name={}", tab_name(rng.below(LOADED_TABS) as usize)));
            let (text, took) = timed_get(&agent, &url)?;
            times.push(took);
            ensure!(text.contains("\"1d\": {\"count\": "), "a loaded tab shows its counts: {text}");
            // About 200 queries a second.
            sleep(Duration::from_millis(5));
        }
        if turn > 0 {
            p50.push(quantile(&mut times, 0.50));
            p99.push(quantile(&mut times, 0.99));
        }
    }
    load.finish()?;
    report.figure("query_p50", "s", Limit::None, &p50);
    report.figure("query_p99", "s", Limit::AtMost(0.005), &p99);
    Ok(())
}

/// An answer, and the seconds it took.
pub fn timed_get(agent: &ureq::Agent, url: &str) -> Result<(String, f64)> {
    let started = Instant::now();
    let text = agent.get(url).call().context("query")?.into_body().read_to_string().context("read")?;
    Ok((text, started.elapsed().as_secs_f64()))
}

/// From acknowledged to visible, 99th percentile, at half rate.
pub fn fresh(report: &mut Report) -> Result<()> {
    const SAMPLES: u64 = 100;
    let bench = Bench::start()?;
    let load = Sender::start(&bench.plan(HALF_RATE, 60))?;
    let agent = ureq::Agent::new_with_defaults();
    let mut p99 = Vec::new();
    for turn in 0..=TURNS as u64 {
        let mut times = Vec::new();
        for sample in 0..SAMPLES {
            let tab = format!("fresh.{turn}.{sample}");
            let body = format!("1\n\nprobe\n\n{tab}\n[\"TotalsCounter\", 0, \"1\"]\n\n\n");
            agent.post(bench.server.url("/post")).send(&body).context("post")?;
            let acknowledged = Instant::now();
            let url = bench.server.url(&format!("/tabs?name={tab}"));
            while agent.get(&url).call().context("query")?.into_body().read_to_string()?.is_empty() {
                ensure!(acknowledged.elapsed() < Duration::from_secs(10), "{tab} never became visible");
            }
            times.push(acknowledged.elapsed().as_secs_f64());
        }
        if turn > 0 {
            p99.push(quantile(&mut times, 0.99));
        }
    }
    load.stop()?;
    report.figure("fresh", "s", Limit::AtMost(1.0), &p99);
    Ok(())
}

/// Resident memory 60 s after a tenfold spike, over that before it.
pub fn memory(report: &mut Report) -> Result<()> {
    const BASE_RATE: u64 = FULL_RATE / 10;
    const SPIKES: usize = 5;
    let bench = Bench::start()?;
    Sender::start(&bench.plan(BASE_RATE, 60))?.finish()?;
    let mut ratios = Vec::new();
    for _ in 0..SPIKES {
        let before = bench.server.resident_bytes()?;
        Sender::start(&bench.plan(FULL_RATE, 5))?.finish()?;
        Sender::start(&bench.plan(BASE_RATE, 60))?.finish()?;
        ratios.push(bench.server.resident_bytes()? as f64 / before as f64);
    }
    report.figure("memory", "ratio", Limit::AtMost(1.15), &ratios);
    Ok(())
}

/// Share of a core that a server with data uses when nothing comes in.
pub fn idle(report: &mut Report) -> Result<()> {
    const WINDOW: Duration = Duration::from_secs(12);
    const WINDOWS: usize = 5;
    let bench = Bench::start()?;
    bench.load_tabs()?;
    // Past the last commits of what was loaded.
    sleep(Duration::from_secs(40));
    let mut shares = Vec::new();
    for _ in 0..WINDOWS {
        let (started, before) = (Instant::now(), bench.server.cpu_time()?);
        sleep(WINDOW);
        let used = bench.server.cpu_time()? - before;
        shares.push(used.as_secs_f64() / started.elapsed().as_secs_f64());
    }
    report.figure("idle", "cores", Limit::AtMost(0.01), &shares);
    Ok(())
}

pub fn quantile(times: &mut [f64], q: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    let last = times.len().saturating_sub(1);
    times.get(((times.len() as f64 * q) as usize).min(last)).copied().unwrap_or(0.0)
}
