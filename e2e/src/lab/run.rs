//! One run: start a cluster, let traffic flow, carry out the seed's plan, wait until all is whole again,
//! and compare what is shown with what was acknowledged.

use std::path::Path;
use std::sync::Arc;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::argv::Programs;
use super::books::{Books, Difference};
use super::cluster::{Cluster, Size};
use super::fault::Kind;
use super::host::{REDIS_PORT, SERVER_PORT};
use super::inject::{Scene, Struck};
use super::net::Mode;
use super::pace::Pace;
use super::plan::Plan;
use super::reader::{Counts, Readers};
use super::report::{FaultGap, Outcome};
use super::tap::Tap;
use super::timeline::Timeline;
use super::traffic::{Routes, Traffic};
use super::verdict;
use super::watch::Watch;

/// How long, in fair time, a cluster may take to be whole after the last fault is made good. A deposed primary
/// is turned into a replica by Sentinel only after ten seconds, and Sentinels look at replicas every ten.
pub const CONVERGENCE: Duration = Duration::from_secs(45);
/// Longest wait for some acknowledgements, and for a complete answer, while everything is whole.
const FLOWING: Duration = Duration::from_secs(20);
/// Batches before the first fault.
const WARM_UP_BATCHES: usize = 40;
/// Batches after everything is whole.
const COOL_DOWN_BATCHES: usize = 20;

/// How long producers may go on retrying after the end. Everything is whole by then, or will not be.
const LAST_BATCHES: Duration = Duration::from_secs(60);

/// What a run is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The plan.
    pub plan: Plan,
    /// What separates hosts.
    pub mode: Mode,
    /// How big the cluster is.
    pub size: Size,
    /// Which programs it runs.
    pub programs: Programs,
}

/// Runs; whatever goes wrong is in the outcome. Its timeline goes to standard error.
#[must_use]
pub fn run(folder: &Path, options: &Options) -> Outcome {
    let timeline = Arc::new(Timeline::aloud());
    let books = Arc::new(Books::new(timeline.start()));
    let mut outcome = Outcome::new(&options.plan);
    let result = Cluster::new(
        folder,
        options.mode,
        size(options),
        options.programs.clone(),
        options.plan.has(Kind::ClockJump),
        Arc::clone(&timeline),
    )
    .and_then(|cluster| on_cluster(&Arc::new(cluster), options, &books, &mut outcome));
    if let Err(error) = result {
        outcome.errors.push(format!("{error:#}"));
    }
    let violations = timeline.violations();
    outcome.broken = violations.len() as u64;
    outcome.errors.extend(violations);
    outcome.errors.extend(panics(&folder.join("logs")));
    outcome.acknowledged = books.total().values().map(|total| total.count).sum();
    outcome
}

/// As asked for, but what only a shard survives that writes to all its members meets such a shard.
fn size(options: &Options) -> Size {
    let mut size = options.size.clone();
    if options.plan.has(Kind::KeepOne) {
        size.min_in_sync = size.replicas;
    }
    size
}

fn on_cluster(
    cluster: &Arc<Cluster>,
    options: &Options,
    books: &Arc<Books>,
    outcome: &mut Outcome,
) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let manager = service_manager(cluster, &stop);
    let watch = Watch::start(cluster);
    // Only connections that are opened after it go through a tap.
    let result = install_taps(cluster, &options.plan).and_then(|taps| {
        cluster.start().context("start the cluster")?;
        with_traffic(cluster, &watch, options, books, taps, outcome)
    });
    watch.stop();
    stop.store(true, Ordering::Relaxed);
    let _ = manager.join();
    result
}

/// Starts again what ends by itself.
pub fn service_manager(cluster: &Arc<Cluster>, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let (cluster, stop) = (Arc::clone(cluster), Arc::clone(stop));
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            cluster.restart_ended();
            std::thread::sleep(Duration::from_millis(200));
        }
    })
}

fn with_traffic(
    cluster: &Arc<Cluster>,
    watch: &Arc<Watch>,
    options: &Options,
    books: &Arc<Books>,
    taps: Vec<Arc<Tap>>,
    outcome: &mut Outcome,
) -> Result<()> {
    let timeline = &cluster.timeline;
    verdict::await_whole(cluster, watch, CONVERGENCE).context("be whole at the start")?;
    let routes =
        Arc::new(Routes { frontends: RwLock::new(cluster.frontend_urls()), agents: cluster.agent_urls() });
    let traffic = Traffic::start(&cluster.apps, options.plan.seed, &routes, books, timeline);
    let readers = Readers::start(&cluster.frontend_urls(), books, timeline);
    let scene = Scene {
        cluster: Arc::clone(cluster),
        watch: Arc::clone(watch),
        books: Arc::clone(books),
        routes,
        taps,
    };
    let played = play(&scene, &traffic, &options.plan, outcome)
        .and_then(|()| await_answer(&cluster.pace, readers.counts()).context("after the last fault"));
    // Even after a failure: what was begun must be acknowledged, and what was acknowledged be there.
    let finished = traffic.finish(LAST_BATCHES).context("finish the traffic");
    let counts = readers.finish();
    outcome.age_ms = counts.age_ms.load(Ordering::Relaxed);
    timeline.note(format!("readers: {counts:?}"));
    outcome.slowdown = cluster.pace.slowdown();
    timeline.note(format!("the machine slowed this down by {:.1}", outcome.slowdown));
    let compared = verdict::compare(cluster, &books.total()).context("compare with the ledger");
    if let Ok(difference) = &compared {
        note_difference(outcome, difference);
    }
    played.and(finished).and(compared.map(drop))
}

fn play(scene: &Scene, traffic: &Traffic, plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let (books, timeline, pace) = (&scene.books, &scene.cluster.timeline, &scene.cluster.pace);
    let now = || u64::try_from(timeline.elapsed().as_millis()).unwrap_or(u64::MAX);
    await_batches(pace, books, traffic, WARM_UP_BATCHES).context("before the first fault")?;
    let from = now();
    timeline.note("traffic flows");
    let struck = scene.play(plan)?;
    let healed = Instant::now();
    timeline.note("everything is made good");
    let whole = verdict::await_whole(&scene.cluster, &scene.watch, CONVERGENCE);
    outcome.convergence_ms = u64::try_from(healed.elapsed().as_millis()).unwrap_or(u64::MAX);
    timeline.note("whole");
    let flowing = whole.with_context(|| format!("be whole within {CONVERGENCE:?}")).and_then(|()| {
        await_batches(pace, books, traffic, COOL_DOWN_BATCHES).context("after the last fault")
    });
    outcome.gap_ms = books.gap_ms(from, now());
    outcome.gaps = gaps(&struck, plan, books, now());
    flowing
}

/// The longest gap of each fault: from its strike to the next, or to the end.
fn gaps(struck: &[Struck], plan: &Plan, books: &Books, end: u64) -> Vec<FaultGap> {
    let overlaps = plan.overlap.is_some();
    struck
        .iter()
        .enumerate()
        .map(|(at, fault)| {
            let next = struck.get(at + 1).filter(|_| !overlaps).map_or(end, |next| next.from);
            FaultGap { kind: fault.kind, gap_ms: books.gap_ms(fault.from, next), overlaps }
        })
        .collect()
}

fn await_batches(pace: &Pace, books: &Books, traffic: &Traffic, count: usize) -> Result<()> {
    let before = books.batches();
    let some = || {
        if !traffic.is_whole() {
            bail!("a producer gave up");
        }
        if books.batches() >= before + count { Ok(()) } else { bail!("too few batches are acknowledged") }
    };
    pace.until(FLOWING, some)
}

fn await_answer(pace: &Pace, counts: &Counts) -> Result<()> {
    let complete = || counts.complete.load(Ordering::Relaxed);
    let before = complete();
    pace.until(
        FLOWING,
        || if complete() > before { Ok(()) } else { bail!("no query is answered completely") },
    )
}

fn install_taps(cluster: &Cluster, plan: &Plan) -> Result<Vec<Arc<Tap>>> {
    let size = &cluster.size;
    let mut hosts = Vec::new();
    if plan.has(Kind::LoseAcceptReply) {
        hosts.extend(cluster.frontends.iter().take(size.frontends).map(|server| server.host()));
    }
    if plan.has(Kind::LoseCommitReply) || plan.has(Kind::LateCommit) {
        hosts.extend(cluster.backends.iter().take(size.backends).map(|server| server.host()));
    }
    let redis = hosts.iter().map(|host| Tap::install(host, REDIS_PORT, Tap::SCRIPTS));
    let mut taps = redis.collect::<Result<Vec<_>>>()?;
    if plan.has(Kind::LosePostReply) {
        let senders = cluster.apps.iter().chain(cluster.agents.iter().map(|agent| agent.host()));
        for host in senders {
            taps.push(Tap::install(host, SERVER_PORT, Tap::POSTS)?);
        }
    }
    Ok(taps)
}

fn note_difference(outcome: &mut Outcome, difference: &Difference) {
    (outcome.lost, outcome.doubled) = (difference.lost, difference.doubled);
    if !difference.is_none() {
        outcome.errors.push(format!("the ledger differs:\n{}", difference.lines.join("\n")));
    }
}

/// Lines of logs in which one of our programs says that it panicked.
fn panics(logs: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(logs) else { return Vec::new() };
    let texts = entries.flatten().filter_map(|entry| {
        let text = std::fs::read(entry.path()).ok()?;
        Some((entry.file_name(), String::from_utf8_lossy(&text).into_owned()))
    });
    texts
        .flat_map(|(name, text)| {
            let lines = text.lines().filter(|line| line.contains("panicked at"));
            let name = name.to_string_lossy().into_owned();
            lines.map(|line| format!("{name}: {line}")).collect::<Vec<_>>()
        })
        .collect()
}
