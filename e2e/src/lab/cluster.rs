//! A whole Taba of real processes: shards of members (a keeper and its Redis each), Sentinels, frontends,
//! backends, agents, each on a host of its own, and the hosts of the producers.

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Pid;

use super::argv::{self, Common, MemberName, Programs};
use super::clock::Shim;
use super::daemon::{Daemon, Launch, child_named};
use super::host::{AGENT_PORT, KEEPER_PORT, REDIS_PORT, SENTINEL_PORT, SERVER_PORT, SharedHost};
use super::keeper;
use super::net::{self, Mode, Network};
use super::sentinel::Sentinel;
use super::timeline::Timeline;

/// Longest wait for a cluster to start. It takes some seconds.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Room for the data of a Redis: a run writes some MB, and an append-only file is rewritten beside itself.
const DISK_MEGABYTES: u32 = 96;
/// Sentinels of every lab.
pub const SENTINELS: usize = 3;
/// Servers of each role that can be added to those a lab starts with.
const SPARE_SERVERS: usize = 1;

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
        let deadline = Instant::now() + START_PATIENCE;
        for shard in &self.shards {
            let first = shard.members.first().context("a shard has members")?;
            let found = || first.keeper.command("/found", &serde_json::json!({}));
            until(deadline, found).with_context(|| format!("found {}", shard.name))?;
            self.timeline.note(format!("founded {}", shard.name));
        }
        self.introduce_sentinels(deadline)?;
        let servers = self.frontends.iter().chain(&self.backends).filter(|server| !self.is_spare(server));
        for server in servers {
            until(deadline, || is_ready(server)).with_context(|| format!("start {}", server.name()))?;
        }
        self.timeline.note("servers are ready");
        Ok(())
    }

    /// Waits until every Sentinel knows all replicas and the other Sentinels. They ask for what is new
    /// every ten seconds; here more often until they know.
    fn introduce_sentinels(&self, deadline: Instant) -> Result<()> {
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
            until(deadline, || all_known(sentinel)).context("introduce the Sentinels")?;
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

/// Tries again and again until it works or time is up; then why it did not.
///
/// # Errors
/// The last error.
pub fn until<T>(deadline: Instant, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(error) if Instant::now() > deadline => return Err(error.context("time is up")),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// A cluster while it is laid out.
struct Layout<'a> {
    folder: &'a Path,
    mode: Mode,
    size: Size,
    network: Network,
    common: Common,
    shim: Option<Shim>,
}

impl<'a> Layout<'a> {
    fn new(folder: &'a Path, mode: Mode, size: Size, programs: Programs, shift_clocks: bool) -> Result<Self> {
        let conf = folder.join("conf");
        for folder in [&conf, &folder.join("logs"), &folder.join("data")] {
            std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let common = Common {
            programs,
            sentinels: Vec::new(),
            shards: (0..size.shards).map(|shard| format!("s{shard}")).collect(),
            min_in_sync: 1.min(size.replicas),
            vbuckets: size.vbuckets,
            conf: conf.clone(),
        };
        common.write_secrets().context("write the secrets")?;
        let shim = shift_clocks.then(|| Shim::build(&conf)).transpose()?;
        let network = Network::new(mode)?;
        Ok(Self { folder, mode, size, network, common, shim })
    }

    fn build(mut self, timeline: Arc<Timeline>) -> Result<Cluster> {
        let names = |kind: &str, count: usize| (0..count).map(|at| format!("{kind}{at}")).collect::<Vec<_>>();
        let sentinel_hosts = self.hosts(&names("sentinel", SENTINELS))?;
        self.common.sentinels =
            sentinel_hosts.iter().map(|host| host.socket(SENTINEL_PORT).to_string()).collect();
        let shards =
            (0..self.size.shards).map(|at| self.shard(&format!("s{at}"))).collect::<Result<Vec<_>>>()?;
        let sentinels = self.sentinels(&sentinel_hosts, &shards)?;
        let frontends = self.servers("frontend", self.size.frontends + SPARE_SERVERS)?;
        let backends = self.servers("backend", self.size.backends + SPARE_SERVERS)?;
        let urls: Vec<_> =
            frontends.iter().take(self.size.frontends).map(|server| url(server, SERVER_PORT)).collect();
        let agents = self.agents(&names("agent", self.size.agents), &urls)?;
        let apps = self.hosts(&names("app", self.size.apps))?;
        let Self { network, common, size, shim, .. } = self;
        Ok(Cluster {
            network,
            common,
            size,
            shards,
            sentinels,
            frontends,
            backends,
            agents,
            apps,
            shim,
            timeline,
        })
    }

    fn hosts(&mut self, names: &[String]) -> Result<Vec<SharedHost>> {
        names.iter().map(|name| self.network.add_host(name)).collect()
    }

    fn daemon(&self, host: &SharedHost, mut launch: Launch) -> Result<Arc<Daemon>> {
        if let Some(shim) = &self.shim {
            launch.environment.extend(shim.environment(host.name())?);
        }
        let log = self.folder.join("logs").join(format!("{}.log", host.name()));
        Ok(Arc::new(Daemon::new(host.name(), Arc::clone(host), self.mode, log, launch)))
    }

    fn shard(&mut self, name: &str) -> Result<Shard> {
        let letters: Vec<char> = ('a'..='z').take(self.size.replicas + 1).collect();
        let hosts =
            self.hosts(&letters.iter().map(|letter| format!("{name}-{letter}")).collect::<Vec<_>>())?;
        let names: Vec<_> = letters
            .iter()
            .zip(&hosts)
            .map(|(&letter, host)| MemberName {
                letter,
                redis: host.socket(REDIS_PORT),
                keeper: host.socket(KEEPER_PORT),
            })
            .collect();
        let members = names.iter().zip(&hosts).map(|(own, host)| {
            let data = self.disk(host.name())?;
            let launch = self.common.keeper(name, own.letter, &names, &data);
            let token = std::fs::read_to_string(self.common.token_file()).context("read the token")?;
            Ok(Member {
                daemon: self.daemon(host, launch)?,
                letter: own.letter,
                redis: own.redis,
                keeper: keeper::Client::new(own.keeper, &token, Duration::from_secs(20)),
                data,
            })
        });
        Ok(Shard { name: name.to_owned(), members: members.collect::<Result<_>>()? })
    }

    /// A small file system of its own, where that can be had, so that it can be filled.
    fn disk(&self, name: &str) -> Result<PathBuf> {
        let data = self.folder.join("data").join(name);
        std::fs::create_dir_all(&data).context("make a folder for data")?;
        if self.mode == Mode::Namespaces {
            let size = format!("size={DISK_MEGABYTES}m");
            let target = data.to_str().context("read a path")?;
            net::run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", target])?;
        }
        Ok(data)
    }

    fn sentinels(&self, hosts: &[SharedHost], shards: &[Shard]) -> Result<Vec<Arc<Daemon>>> {
        let watched: Vec<_> =
            shards.iter().map(|shard| (shard.name.clone(), shard.members[0].redis)).collect();
        let sentinel = |host: &SharedHost| {
            let folder = self.folder.join("data").join(host.name());
            std::fs::create_dir_all(&folder).context("make a folder for a Sentinel")?;
            let file = folder.join("sentinel.conf");
            let own = host.socket(SENTINEL_PORT);
            let text = argv::sentinel_configuration(own, &folder, &watched, self.size.down_after);
            std::fs::write(&file, text).context("write a Sentinel's configuration")?;
            self.daemon(host, self.common.sentinel(&file))
        };
        hosts.iter().map(sentinel).collect()
    }

    fn servers(&mut self, role: &str, count: usize) -> Result<Vec<Arc<Daemon>>> {
        let hosts = self.hosts(&(0..count).map(|at| format!("{role}{at}")).collect::<Vec<_>>())?;
        let server = |host| self.daemon(host, self.common.server(role, host.socket(SERVER_PORT)));
        hosts.iter().map(server).collect()
    }

    fn agents(&mut self, names: &[String], servers: &[String]) -> Result<Vec<Arc<Daemon>>> {
        let hosts = self.hosts(names)?;
        let agent = |host: &SharedHost| {
            let spool = self.folder.join("data").join(host.name());
            self.daemon(host, self.common.agent(host.socket(AGENT_PORT), servers, &spool))
        };
        hosts.iter().map(agent).collect()
    }
}
