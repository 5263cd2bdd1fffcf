//! Whether a cluster is whole again, and whether it shows exactly what was acknowledged.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::books::Difference;
use super::cluster::{Cluster, is_ready, url};
use super::host::SERVER_PORT;
use super::reader;
use super::watch::Watch;
use crate::producer::Ledger;

const PATIENCE: Duration = Duration::from_secs(5);
/// Longest wait for the last acknowledged events to be shown after a cluster is whole. What an agent
/// acknowledged may wait there for its next attempt.
const VISIBLE: Duration = Duration::from_secs(20);

/// Every shard is open with all members in sync, every server ready, every vbucket owned.
///
/// # Errors
/// What is not.
pub fn whole(cluster: &Cluster, watch: &Watch) -> Result<()> {
    for shard in 0..cluster.shards.len() {
        whole_shard(cluster, watch, shard)?;
    }
    let size = &cluster.size;
    let backends = &cluster.backends[..size.backends];
    for server in cluster.frontends.iter().take(size.frontends).chain(backends) {
        is_ready(server).with_context(|| format!("{} is not ready", server.name()))?;
    }
    let mut owned = 0;
    for backend in backends {
        owned += vbuckets_owned(&url(backend, SERVER_PORT))?;
    }
    if owned != u64::from(size.vbuckets) {
        bail!("{owned} of {} vbuckets are owned", size.vbuckets);
    }
    Ok(())
}

/// Waits until everything is whole, and notes what is not whenever that changes.
///
/// # Errors
/// What is not whole when patience ends.
pub fn await_whole(cluster: &Cluster, watch: &Watch, patience: Duration) -> Result<()> {
    let mut noted = String::new();
    cluster.pace.until(patience, || {
        let outcome = whole(cluster, watch);
        if let Err(error) = &outcome {
            let why = format!("not whole: {error:#}");
            if why != noted {
                cluster.timeline.note(&*why);
                noted = why;
            }
        }
        outcome
    })
}

/// One member is open, in the highest term there was, and all are in sync with it.
///
/// # Errors
/// What is not so.
pub fn whole_shard(cluster: &Cluster, watch: &Watch, at: usize) -> Result<()> {
    let shard = &cluster.shards[at];
    let states = watch.shard(at).with_context(|| format!("a keeper of {} does not answer", shard.name))?;
    let open: Vec<_> = states.iter().filter(|state| state.open).collect();
    let [primary] = open[..] else { bail!("{} has {} open members", shard.name, open.len()) };
    if primary.term < watch.highest_term(at) {
        bail!("{} is open in term {} after {}", shard.name, primary.term, watch.highest_term(at));
    }
    if primary.in_sync.len() != shard.members.len() {
        bail!("in sync in {}: {:?}", shard.name, primary.in_sync);
    }
    for (state, member) in states.iter().zip(&shard.members).filter(|(state, _)| !state.open) {
        if !state.link_up || state.term != primary.term {
            bail!("{} does not follow: {state:?}", member.daemon.name());
        }
    }
    Ok(())
}

fn vbuckets_owned(server: &str) -> Result<u64> {
    let http = reader::http(PATIENCE);
    let answer = http.get(format!("{server}/status")).header("Accept", "application/json").call();
    let text =
        answer.context("ask for the status")?.into_body().read_to_string().context("read the status")?;
    let status: Value = serde_json::from_str(&text).with_context(|| format!("parse the status: {text}"))?;
    let servers = status.get("servers").and_then(Value::as_object).context("a status names servers")?;
    Ok(servers.values().filter_map(|server| server.get("queues")).filter_map(Value::as_u64).sum())
}

/// How a server is asked for all totals: of all clients together, and merged from each.
pub const QUERIES: [&str; 2] = ["/tabs", "/tabs?re=1&client=."];

/// By how much the answer to one query differs from the ledger at the moment.
///
/// # Errors
/// If there is no answer, or it says that it is incomplete.
pub fn difference(http: &ureq::Agent, url: &str, ledger: &Ledger) -> Result<Difference> {
    let shown = reader::totals(http, url)?.context("the answer is incomplete")?;
    Ok(Difference::between(ledger, &shown))
}

/// Waits until every frontend shows exactly the ledger; if one does not, by how much it differs.
///
/// # Errors
/// If a frontend does not answer.
pub fn compare(cluster: &Cluster, ledger: &Ledger) -> Result<Difference> {
    let http = reader::http(PATIENCE);
    for frontend in cluster.frontend_urls() {
        for query in QUERIES {
            let url = format!("{frontend}{query}");
            let mut last = Difference::default();
            let equal = || {
                last = difference(&http, &url, ledger)?;
                if last.is_none() { Ok(()) } else { bail!("totals differ") }
            };
            if let Err(error) = cluster.pace.until(VISIBLE, equal) {
                if last.is_none() {
                    return Err(error.context(url));
                }
                last.lines.insert(0, url);
                return Ok(last);
            }
        }
    }
    Ok(Difference::default())
}
