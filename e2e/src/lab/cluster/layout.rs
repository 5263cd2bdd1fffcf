//! Laying out a cluster: hosts, folders, secrets and command lines; nothing runs yet.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Cluster, Member, SENTINELS, Shard, Size, url};
use crate::lab::argv::{self, Common, MemberName, Programs};
use crate::lab::clock::Shim;
use crate::lab::daemon::{Daemon, Launch};
use crate::lab::host::{AGENT_PORT, KEEPER_PORT, REDIS_PORT, SENTINEL_PORT, SERVER_PORT, SharedHost};
use crate::lab::keeper;
use crate::lab::net::{self, Mode, Network};
use crate::lab::pace::Pace;
use crate::lab::timeline::Timeline;

/// Room for the data of a Redis: a run writes some MB, and an append-only file is rewritten beside itself.
const DISK_MEGABYTES: u32 = 96;
/// Servers of each role that can be added to those a lab starts with.
const SPARE_SERVERS: usize = 1;
/// Longest time for a keeper's commands; a handover takes about one second.
const COMMAND_PATIENCE: Duration = Duration::from_secs(20);

/// A cluster while it is laid out.
pub(super) struct Layout<'a> {
    folder: &'a Path,
    mode: Mode,
    size: Size,
    network: Network,
    common: Common,
    shim: Option<Shim>,
}

impl<'a> Layout<'a> {
    pub(super) fn new(
        folder: &'a Path,
        mode: Mode,
        size: Size,
        programs: Programs,
        shift_clocks: bool,
    ) -> Result<Self> {
        let conf = folder.join("conf");
        for folder in [&conf, &folder.join("logs"), &folder.join("data")] {
            std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let common = Common {
            programs,
            sentinels: Vec::new(),
            shards: (0..size.shards).map(|shard| format!("s{shard}")).collect(),
            min_in_sync: size.min_in_sync.min(size.replicas),
            vbuckets: size.vbuckets,
            conf: conf.clone(),
        };
        common.write_secrets().context("write the secrets")?;
        let shim = shift_clocks.then(|| Shim::build(&conf)).transpose()?;
        let network = Network::new(mode)?;
        Ok(Self { folder, mode, size, network, common, shim })
    }

    pub(super) fn build(mut self, timeline: Arc<Timeline>) -> Result<Cluster> {
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
        let pace = Pace::start();
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
            pace,
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
                keeper: keeper::Client::new(own.keeper, &token, COMMAND_PATIENCE),
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
