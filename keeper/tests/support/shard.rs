//! Three Sentinels and three keepers.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::keeper::{Keeper, shared_flags};
use super::sentinel::{SENTINEL_PASSWORD, Sentinel};
use super::writer::Writer;
use super::{connect, free_port, until};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// A name that every machine resolves to itself.
pub const HOST: &str = "localhost";

/// All addresses of the family that the name resolves to first: Redis listens to one family.
fn unspecified_of_host() -> IpAddr {
    let first = (HOST, 0).to_socket_addrs().expect("it resolves").next().expect("to something");
    if first.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

pub struct Shard {
    pub keepers: Vec<Keeper>,
    pub sentinels: Vec<Sentinel>,
    // Removed last.
    _folder: TempDir,
}

impl Shard {
    /// Starts everything; nothing is founded.
    pub fn start(min_in_sync: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ports: Vec<_> = NAMES.iter().map(|_| (free_port(), free_port())).collect();
        let sentinels: Vec<_> = (0..3).map(|_| Sentinel::start(folder.path(), ports[0].0)).collect();
        let members: Vec<_> = NAMES
            .iter()
            .zip(&ports)
            .map(|(name, (redis, http))| format!("{name}=127.0.0.1:{redis}:{http}"))
            .collect();
        let places: Vec<_> =
            sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        let flags = shared_flags(folder.path(), &members.join(","), &places.join(","), min_in_sync);
        let keepers =
            NAMES.iter().zip(ports).map(|(name, ports)| Keeper::new(name, ports, folder.path(), &flags));
        let mut shard = Self { keepers: keepers.collect(), sentinels, _folder: folder };
        shard.keepers.iter_mut().for_each(Keeper::start);
        shard
    }

    /// Starts everything, each known to the others by name and never by address, and founds the shard.
    pub fn founded_by_name(min_in_sync: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ports: Vec<_> = NAMES.iter().map(|_| (free_port(), free_port())).collect();
        let by_name = |_| Sentinel::start_by_name(folder.path(), HOST, ports[0].0);
        let sentinels: Vec<_> = (0..3).map(by_name).collect();
        let members: Vec<_> = NAMES
            .iter()
            .zip(&ports)
            .map(|(name, (redis, http))| format!("{name}={HOST}:{redis}:{http}"))
            .collect();
        let places: Vec<_> = sentinels.iter().map(|sentinel| format!("{HOST}:{}", sentinel.port)).collect();
        let mut flags = shared_flags(folder.path(), &members.join(","), &places.join(","), min_in_sync);
        let password = folder.path().join("sentinel-password");
        std::fs::write(&password, SENTINEL_PASSWORD).expect("written");
        flags.push(format!("--sentinel-password-file={}", password.display()));
        let keepers = NAMES.iter().zip(ports).map(|(name, ports)| {
            Keeper::new(name, ports, folder.path(), &flags).listening_on(unspecified_of_host())
        });
        let mut shard = Self { keepers: keepers.collect(), sentinels, _folder: folder };
        shard.keepers.iter_mut().for_each(Keeper::start);
        shard.found();
        shard
    }

    /// Starts everything and founds the shard; all members are in sync and Sentinel knows them.
    pub fn founded(min_in_sync: usize) -> Self {
        let shard = Self::start(min_in_sync);
        shard.found();
        shard
    }

    fn found(&self) {
        until("the shard is founded", || {
            (self.keepers[0].call("POST", "/found", &json!({}))?.0 == 200).then_some(())
        });
        self.until_whole();
    }

    /// Waits until all members that run are in sync, and Sentinel could promote any replica.
    pub fn until_whole(&self) {
        until("all members are ready", || self.keepers.iter().all(Keeper::is_ready).then_some(()));
        until("sentinels know all", || self.sentinels.iter().all(|sentinel| sentinel.knows(2)).then_some(()));
        until("sentinels would promote any replica", || {
            let promotable = |sentinel: &Sentinel| {
                let replicas = sentinel
                    .query::<Vec<std::collections::HashMap<String, String>>>(&["REPLICAS", super::NAME])?;
                replicas
                    .iter()
                    .all(|replica| replica.get("slave-priority").is_some_and(|p| p == "100"))
                    .then_some(())
            };
            self.sentinels.iter().all(|sentinel| promotable(sentinel).is_some()).then_some(())
        });
    }

    pub fn keeper(&mut self, name: &str) -> &mut Keeper {
        self.keepers.iter_mut().find(|keeper| keeper.name == name).expect("a member")
    }

    /// The open member.
    pub fn primary(&self) -> Option<&'static str> {
        self.keepers.iter().find(|keeper| keeper.is_open()).map(|keeper| keeper.name)
    }

    /// Waits until a member other than `old` is open and Sentinels name it.
    pub fn until_primary_other_than(&self, old: &str) -> &'static str {
        until("another primary is open and named", || {
            let open = self.keepers.iter().find(|keeper| keeper.name != old && keeper.is_open())?;
            self.sentinels
                .iter()
                .all(|sentinel| sentinel.names() == Some(open.redis_port))
                .then_some(open.name)
        })
    }

    /// Waits until any member is open and Sentinels name it.
    pub fn until_primary(&self) -> &'static str {
        self.until_primary_other_than("nobody")
    }

    pub fn writer(&self) -> Writer {
        Writer::start(self.sentinels.iter().map(|sentinel| sentinel.port).collect())
    }

    /// Every acknowledged write is on the primary.
    #[track_caller]
    pub fn assert_holds(&self, acknowledged: &BTreeSet<u64>) {
        let name = self.until_primary();
        let primary = self.keepers.iter().find(|keeper| keeper.name == name).expect("a member");
        let held = held(primary);
        let lost: Vec<_> = acknowledged.difference(&held).collect();
        assert!(
            lost.is_empty(),
            "{} of {} acknowledged writes are lost: {lost:?}",
            lost.len(),
            acknowledged.len()
        );
    }
}

/// The writes that a member holds.
pub fn held(keeper: &Keeper) -> BTreeSet<u64> {
    let mut redis = connect(keeper.redis_port, "keeper", Duration::from_secs(5)).expect("connected");
    redis::cmd("HKEYS").arg("ledger").query(&mut redis).expect("the ledger")
}

impl Drop for Shard {
    #[allow(clippy::print_stderr, reason = "what a failed test leaves for its reader")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            for sentinel in &self.sentinels {
                let master =
                    sentinel.query::<std::collections::BTreeMap<String, String>>(&["MASTER", super::NAME]);
                eprintln!("--- sentinel {}: {master:?}", sentinel.port);
                eprintln!("{}", sentinel.log());
            }
            for keeper in &self.keepers {
                let log = keeper.log();
                let lines: Vec<_> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(60)..].join("\n");
                eprintln!("--- {} {:?}\n{tail}", keeper.name, keeper.state().map(|state| state.to_string()));
            }
        }
    }
}
