//! Faults of data: disks that are lost or full, clocks that jump, an address that changes hands, and
//! more lost copies than the design survives, which must end in a refusal.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Scene, index, one};
use crate::lab::argv::MemberName;
use crate::lab::cluster::{Cluster, Member};
use crate::lab::host::{KEEPER_PORT, REDIS_PORT};
use crate::rng::Rng;

/// Longest wait for a dead replica to leave the in-sync set: Sentinel looks every ten seconds.
const SHRINK_PATIENCE: Duration = Duration::from_secs(30);

impl Scene {
    /// Kills a member, deletes its data and starts it again.
    pub(super) fn lose_data(&self, member: &Member, length: Duration) -> Result<()> {
        self.note(format!("kill {} and delete its data", member.daemon.name()));
        member.daemon.kill(false)?;
        member.wipe()?;
        std::thread::sleep(length.min(Duration::from_secs(5)));
        self.note(format!("start {} without data", member.daemon.name()));
        member.daemon.start()
    }

    pub(super) fn fill_disk(&self, length: Duration, rng: &mut Rng) -> Result<()> {
        let member = if rng.one_in(2) { self.a_primary(rng)? } else { self.a_replica(rng)? };
        let ballast = member.data.join("ballast");
        let written = fill(&ballast).context("fill a disk")?;
        self.note(format!("{}'s disk is full, with {written} bytes of ballast", member.daemon.name()));
        std::thread::sleep(length);
        self.note(format!("room on {}'s disk", member.daemon.name()));
        std::fs::remove_file(&ballast).context("make room")
    }

    /// Up to four minutes either way: an event that seems five minutes ahead is refused by design.
    pub(super) fn jump_clock(&self, length: Duration, rng: &mut Rng) -> Result<()> {
        let shim = self.cluster.shim.as_ref().context("clocks can be shifted")?;
        let daemons: Vec<_> = self.cluster.all().filter(|daemon| !self.cluster.is_spare(daemon)).collect();
        let host = one(&daemons, rng)?.host().name();
        let seconds = 5 + i64::try_from(rng.below(235)).unwrap_or(0);
        let seconds = if rng.one_in(2) { seconds } else { -seconds };
        self.note(format!("the clock of {host} jumps by {seconds} s"));
        shim.set(host, seconds)?;
        std::thread::sleep(length);
        self.note(format!("the clock of {host} jumps back"));
        shim.set(host, 0)
    }

    /// A replica of one shard dies, and a replica of another comes up at its address, with its data and
    /// its own shard's secrets. Neither shard may take it for the other's.
    pub(super) fn reuse_address(&self, length: Duration, rng: &mut Rng) -> Result<()> {
        let at = self.a_shard(rng);
        let other = (at + 1) % self.cluster.shards.len();
        if other == at {
            bail!("one shard has no other");
        }
        let (dead, stranger) = (self.replica_of(at, rng)?, self.replica_of(other, rng)?);
        let (dead_host, strange_host) = (dead.daemon.host(), stranger.daemon.host());
        self.note(format!("{} takes the address of {}", stranger.daemon.name(), dead.daemon.name()));
        dead.daemon.kill(false)?;
        stranger.daemon.kill(false)?;
        dead_host.remove_address(dead_host.address())?;
        strange_host.add_address(dead_host.address())?;
        self.cluster.network.forget_neighbours()?;
        let own = stranger.daemon.relaunch(at_address_of(&self.cluster, other, stranger, dead));
        stranger.daemon.start()?;
        std::thread::sleep(length.max(Duration::from_secs(2)));
        stranger.daemon.kill(false)?;
        stranger.daemon.relaunch(own);
        strange_host.remove_address(dead_host.address())?;
        dead_host.add_address(dead_host.address())?;
        self.cluster.network.forget_neighbours()?;
        self.note("both are back at their own addresses");
        stranger.daemon.start()?;
        dead.daemon.start()
    }

    fn replica_of(&self, shard: usize, rng: &mut Rng) -> Result<&Member> {
        let primary = self.primary_of(shard);
        let members = self.cluster.shards[shard].members.iter().enumerate();
        let replicas: Vec<_> = members.filter(|(at, _)| *at != primary).map(|(_, member)| member).collect();
        one(&replicas, rng).copied()
    }

    /// One replica is away, so the in-sync set is the primary and the other; then the primary dies and
    /// the other's disk is lost. No copy that is left has everything, so the shard must stay closed and
    /// say why, until the old primary is back.
    pub(super) fn lose_too_much(&self, length: Duration, rng: &mut Rng) -> Result<()> {
        let at = self.a_shard(rng);
        let members = &self.cluster.shards[at].members;
        let primary = self.primary_of(at);
        let mut others: Vec<_> = (0..members.len()).filter(|member| *member != primary).collect();
        let away = others.swap_remove(index(others.len(), rng));
        let [in_sync] = others[..] else { bail!("this fault needs two replicas") };
        self.note(format!("kill {}", members[away].daemon.name()));
        members[away].daemon.kill(false)?;
        self.cluster.pace.until(SHRINK_PATIENCE, || self.in_sync_of(at, primary, 2))?;
        self.await_batches(20)?;
        self.note(format!(
            "kill {} and {}, and delete the data of the latter",
            members[primary].daemon.name(),
            members[in_sync].daemon.name()
        ));
        members[primary].daemon.kill(false)?;
        members[in_sync].daemon.kill(false)?;
        members[in_sync].wipe()?;
        members[in_sync].daemon.start()?;
        members[away].daemon.start()?;
        let refused = self.must_stay_closed(at, primary, length.clamp(REFUSAL_MIN, REFUSAL_MAX));
        self.note(format!("start {}", members[primary].daemon.name()));
        members[primary].daemon.start()?;
        refused
    }

    fn in_sync_of(&self, shard: usize, member: usize, count: usize) -> Result<()> {
        let state = self.watch.member(shard, member).context("the primary answers")?;
        if state.in_sync.len() != count {
            bail!("the in-sync set is {:?}", state.in_sync);
        }
        Ok(())
    }

    fn await_batches(&self, count: usize) -> Result<()> {
        let before = self.books.batches();
        let some = || {
            if self.books.batches() >= before + count { Ok(()) } else { bail!("nothing is acknowledged") }
        };
        self.cluster.pace.until(SHRINK_PATIENCE, some)
    }

    /// Watches that no member but the dead one is open, and that one of them says why.
    fn must_stay_closed(&self, shard: usize, dead: usize, length: Duration) -> Result<()> {
        let name = &self.cluster.shards[shard].name;
        let alive = (0..self.cluster.shards[shard].members.len()).filter(|member| *member != dead);
        let alive: Vec<_> = alive.collect();
        let end = Instant::now() + length;
        let mut why = String::new();
        while Instant::now() < end {
            for state in alive.iter().filter_map(|member| self.watch.member(shard, *member)) {
                if state.open {
                    self.cluster.timeline.violation(format!("{name} opened without its newest copy"));
                    return Ok(());
                }
                if !state.waiting_for.is_empty() {
                    why = state.waiting_for;
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        if why.is_empty() {
            self.cluster.timeline.violation(format!("{name} stays closed, and no keeper says why"));
        }
        self.note(format!("{name} refuses: {why}"));
        Ok(())
    }
}

/// How long a shard must be seen to stay closed; a failover takes 2 to 3 s.
const REFUSAL_MIN: Duration = Duration::from_secs(5);
const REFUSAL_MAX: Duration = Duration::from_secs(8);

/// Writes until there is no room left, and then a byte at a time; gives how much.
fn fill(path: &std::path::Path) -> Result<u64> {
    let mut file = File::create(path).context("make ballast")?;
    let mut written = 0;
    for size in [1 << 20, 4096, 1] {
        let block = vec![0; size];
        while file.write_all(&block).is_ok() {
            written += size as u64;
        }
    }
    Ok(written)
}

/// How a member is started at the address of another shard's member.
fn at_address_of(
    cluster: &Cluster,
    shard: usize,
    stranger: &Member,
    dead: &Member,
) -> crate::lab::daemon::Launch {
    let shard = &cluster.shards[shard];
    let names: Vec<_> = shard
        .members
        .iter()
        .map(|member| {
            let host = if member.letter == stranger.letter { &dead.daemon } else { &member.daemon }.host();
            MemberName {
                letter: member.letter,
                redis: host.socket(REDIS_PORT),
                keeper: host.socket(KEEPER_PORT),
            }
        })
        .collect();
    let mut launch = cluster.common.keeper(&shard.name, stranger.letter, &names, &stranger.data);
    launch.environment = stranger.daemon.launch().environment;
    launch
}
