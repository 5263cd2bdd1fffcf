//! A whole Taba of real processes: shards of members (a keeper and its Redis each), Sentinels, frontends,
//! backends, agents, each on a host of its own, and the hosts of the producers.

mod layout;

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Pid;

use self::layout::Layout;
use super::argv::{Common, Programs};
use super::clock::Shim;
use super::daemon::{Daemon, child_named};
use super::host::{AGENT_PORT, SENTINEL_PORT, SERVER_PORT, SharedHost};
use super::keeper;
use super::net::{Mode, Network};
use super::pace::Pace;
use super::sentinel::Sentinel;
use super::timeline::Timeline;

/// Longest wait for each step of a start. All of them take some seconds.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Sentinels of every lab.
pub const SENTINELS: usize = 3;

/// How big a cluster is, and how its programs are found.
#[derive(Clone, Debug)]
pub struct Size {
    /// Shards.
    pub shards: usize,
    /// Replicas of each shard.
    pub replicas: usize,
    /// Frontends.
    pub frontends: usize,
    /// Backends.
    pub backends: usize,
    /// Agents.
    pub agents: usize,
    /// Hosts of producers.
    pub apps: usize,
    /// vbuckets.
    pub vbuckets: u32,
    /// Replicas that must hold a write before it is acknowledged.
    pub min_in_sync: usize,
    /// How long a primary may be silent before Sentinel calls it down.
    pub down_after: Duration,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            shards: 2,
            replicas: 2,
            frontends: 2,
            backends: 2,
            agents: 1,
            apps: 4,
            vbuckets: 16,
            min_in_sync: 1,
            down_after: Duration::from_secs(1),
        }
    }
}

/// A member of a shard.
#[derive(Debug)]
pub struct Member {
    /// The keeper; its Redis is its child.
    pub daemon: Arc<Daemon>,
    /// Its letter.
    pub letter: char,
    /// Where its Redis is.
    pub redis: SocketAddrV4,
    /// Its keeper's interface.
    pub keeper: keeper::Client,
    /// The folder of its data.
    pub data: PathBuf,
}

impl Member {
    /// Its Redis, if it runs.
    #[must_use]
    pub fn redis_pid(&self) -> Option<Pid> {
        child_named(self.daemon.pid()?, "redis-server")
    }

    /// Deletes its data; it must not run.
    ///
    /// # Errors
    /// If they cannot be deleted.
    pub fn wipe(&self) -> Result<()> {
        for entry in std::fs::read_dir(&self.data).context("list data")?.flatten() {
            let path = entry.path();
            let gone =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            gone.with_context(|| format!("delete {}", path.display()))?;
        }
        Ok(())
    }
}

/// A shard.
#[derive(Debug)]
pub struct Shard {
    /// Its name.
    pub name: String,
    /// Its members; the first was primary at first.
    pub members: Vec<Member>,
}

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its network.
    pub network: Network,
    /// What its command lines have in common.
    pub common: Common,
    /// How big it is.
    pub size: Size,
    /// Its shards.
    pub shards: Vec<Shard>,
    /// Its Sentinels.
    pub sentinels: Vec<Arc<Daemon>>,
    /// Its frontends; those beyond the size are spare.
    pub frontends: Vec<Arc<Daemon>>,
    /// Its backends; those beyond the size are spare.
    pub backends: Vec<Arc<Daemon>>,
    /// Its agents.
    pub agents: Vec<Arc<Daemon>>,
    /// Hosts of producers.
    pub apps: Vec<SharedHost>,
    /// Shifts clocks, where that was asked for.
    pub shim: Option<Shim>,
    /// What happens.
    pub timeline: Arc<Timeline>,
    /// How fast the machine lets it run.
    pub pace: Arc<Pace>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.pace.stop();
    }
}

impl Cluster {
    /// Lays out a cluster in `folder`; nothing runs yet.
    ///
    /// # Errors
    /// If the network or its files cannot be made.
    pub fn new(
        folder: &Path,
        mode: Mode,
        size: Size,
        programs: Programs,
        shift_clocks: bool,
        timeline: Arc<Timeline>,
    ) -> Result<Self> {
        Layout::new(folder, mode, size, programs, shift_clocks)?.build(timeline)
    }

    /// Starts everything but the spare servers and waits until it serves.
    ///
    /// # Errors
    /// If it does not within a minute.
    pub fn start(&self) -> Result<()> {
        for daemon in self.all().filter(|daemon| !self.is_spare(daemon)) {
            daemon.start()?;
        }
        for shard in &self.shards {
            let first = shard.members.first().context("a shard has members")?;
            let found = || first.keeper.command("/found", &serde_json::json!({}));
            self.pace.until(START_PATIENCE, found).with_context(|| format!("found {}", shard.name))?;
            self.timeline.note(format!("founded {}", shard.name));
        }
        self.introduce_sentinels()?;
        let servers = self.frontends.iter().chain(&self.backends).filter(|server| !self.is_spare(server));
        for server in servers {
            self.pace
                .until(START_PATIENCE, || is_ready(server))
                .with_context(|| format!("start {}", server.name()))?;
        }
        self.timeline.note("servers are ready");
        Ok(())
    }

    /// Waits until every Sentinel knows all replicas and the other Sentinels. They ask for what is new
    /// every ten seconds; here more often until they know.
    fn introduce_sentinels(&self) -> Result<()> {
        let all_known = |sentinel: &Daemon| -> Result<()> {
            let mut sentinel = Sentinel::connect(sentinel_address(sentinel))?;
            sentinel.ask_info_every(Duration::from_millis(200))?;
            for shard in &self.shards {
                let known = sentinel.known(&shard.name)?;
                if known != (self.size.replicas, SENTINELS - 1) {
                    bail!("a Sentinel knows {known:?} replicas and Sentinels of {}", shard.name);
                }
            }
            sentinel.ask_info_every(Duration::from_secs(10))
        };
        for sentinel in &self.sentinels {
            self.pace.until(START_PATIENCE, || all_known(sentinel)).context("introduce the Sentinels")?;
        }
        self.timeline.note("Sentinels know everyone");
        Ok(())
    }

    /// Every process of the cluster that can be started, spare servers included.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Daemon>> {
        self.members().map(|member| &member.daemon).chain(self.stateless()).chain(&self.sentinels)
    }

    /// All members of all shards.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.shards.iter().flat_map(|shard| &shard.members)
    }

    fn stateless(&self) -> impl Iterator<Item = &Arc<Daemon>> {
        self.frontends.iter().chain(&self.backends).chain(&self.agents)
    }

    /// Whether a process is one that only runs while the cluster is scaled up.
    #[must_use]
    pub fn is_spare(&self, daemon: &Daemon) -> bool {
        let spare = |servers: &[Arc<Daemon>], count: usize| {
            servers.iter().skip(count).any(|server| server.name() == daemon.name())
        };
        spare(&self.frontends, self.size.frontends) || spare(&self.backends, self.size.backends)
    }

    /// The process of this name.
    #[must_use]
    pub fn daemon(&self, name: &str) -> Option<&Arc<Daemon>> {
        self.all().find(|daemon| daemon.name() == name)
    }

    /// The member of this name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members().find(|member| member.daemon.name() == name)
    }

    /// The URLs of the frontends that the cluster starts with.
    #[must_use]
    pub fn frontend_urls(&self) -> Vec<String> {
        self.frontends.iter().take(self.size.frontends).map(|frontend| url(frontend, SERVER_PORT)).collect()
    }

    /// The URLs of the agents.
    #[must_use]
    pub fn agent_urls(&self) -> Vec<String> {
        self.agents.iter().map(|agent| url(agent, AGENT_PORT)).collect()
    }

    /// Starts again what ended by itself, as a service manager would.
    pub fn restart_ended(&self) {
        for daemon in self.all() {
            if let Some(status) = daemon.ended_by_itself() {
                self.timeline.note(format!("{} ended by itself: {status}", daemon.name()));
            } else if !daemon.is_missing() {
                continue;
            }
            if let Err(error) = daemon.start() {
                self.timeline.note(format!("{} cannot be started: {error:#}", daemon.name()));
            }
        }
    }
}

/// The address of a Sentinel.
#[must_use]
pub fn sentinel_address(sentinel: &Daemon) -> SocketAddrV4 {
    sentinel.host().socket(SENTINEL_PORT)
}

/// The URL of a server or agent.
#[must_use]
pub fn url(daemon: &Daemon, port: u16) -> String {
    format!("http://{}", daemon.host().socket(port))
}

/// Whether a server says it is ready.
///
/// # Errors
/// If it does not, why.
pub fn is_ready(server: &Daemon) -> Result<()> {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(2))).build();
    let agent: ureq::Agent = config.into();
    agent.get(format!("{}/readyz", url(server, SERVER_PORT))).call().context("ask whether it is ready")?;
    Ok(())
}
