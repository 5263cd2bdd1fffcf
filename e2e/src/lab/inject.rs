//! Doing a fault to a cluster: finding its victim, striking, and making good again. When a fault returns,
//! everything it did is undone; what follows from it may still be under way.

mod data;
mod links;
mod moves;
mod processes;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::books::Books;
use super::cluster::{Cluster, Member};
use super::daemon::Daemon;
use super::fault::Kind;
use super::plan::{Fault, Plan};
use super::run::CONVERGENCE;
use super::tap::Tap;
use super::traffic::Routes;
use super::verdict;
use super::watch::Watch;
use crate::rng::Rng;

/// Longest graceful stop. A primary hands over first, a server drains.
const STOP_PATIENCE: Duration = Duration::from_secs(25);

/// Longest wait for a primary to strike.
const ROLE_PATIENCE: Duration = Duration::from_secs(5);

/// What faults need.
pub struct Scene {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// What its keepers say.
    pub watch: Arc<Watch>,
    /// What producers sent and got acknowledged.
    pub books: Arc<Books>,
    /// Where producers post.
    pub routes: Arc<Routes>,
    /// Taps on frontends, backends or producers, where the plan needs them.
    pub taps: Vec<Arc<Tap>>,
}

/// When a fault struck and when it was made good, in ms since the start of the run.
#[derive(Clone, Debug)]
pub struct Struck {
    /// Which kind.
    pub kind: Kind,
    /// The strike.
    pub from: u64,
    /// The end.
    pub to: u64,
}

impl Scene {
    /// Carries out a plan. When this returns everything is made good.
    ///
    /// # Errors
    /// If a fault cannot be done, or the cluster does not get whole before a fault that needs it to.
    pub fn play(&self, plan: &Plan) -> Result<Vec<Struck>> {
        let Some(overlap) = plan.overlap else {
            let mut struck = Vec::new();
            for (at, fault) in plan.faults.iter().enumerate() {
                if at > 0 {
                    std::thread::sleep(plan.pause);
                }
                struck.push(self.strike(fault)?);
            }
            return Ok(struck);
        };
        std::thread::scope(|scope| {
            let strikes: Vec<_> = plan
                .faults
                .iter()
                .enumerate()
                .map(|(at, fault)| {
                    scope.spawn(move || {
                        std::thread::sleep(overlap * u32::try_from(at).unwrap_or(0));
                        self.strike(fault)
                    })
                })
                .collect();
            strikes
                .into_iter()
                .map(|strike| strike.join().unwrap_or_else(|_| bail!("a fault panicked")))
                .collect()
        })
    }

    fn strike(&self, fault: &Fault) -> Result<Struck> {
        let kind = fault.kind;
        let now = || u64::try_from(self.cluster.timeline.elapsed().as_millis()).unwrap_or(u64::MAX);
        if kind.is_alone() {
            self.note("waiting until everything is whole");
            verdict::await_whole(&self.cluster, &self.watch, CONVERGENCE)
                .with_context(|| format!("before {kind}"))?;
        }
        self.note(format!("FAULT {kind} for {} ms", fault.length.as_millis()));
        let from = now();
        self.inject(fault).with_context(|| format!("do {kind}"))?;
        self.note(format!("end of {kind}"));
        Ok(Struck { kind, from, to: now() })
    }

    fn inject(&self, fault: &Fault) -> Result<()> {
        let rng = &mut fault.rng();
        let length = fault.length;
        match fault.kind {
            Kind::KillPrimaryRedis => self.kill_redis(self.a_primary(rng)?),
            Kind::KillReplicaRedis => self.kill_redis(self.a_replica(rng)?),
            Kind::KillPrimary => self.kill(&self.a_primary(rng)?.daemon, rng),
            Kind::KillReplica => self.kill(&self.a_replica(rng)?.daemon, rng),
            Kind::KillSentinel => self.kill(one(&self.cluster.sentinels, rng)?, rng),
            Kind::KillFrontend => self.kill(self.a_frontend(rng)?, rng),
            Kind::KillBackend => self.kill(self.a_backend(rng)?, rng),
            Kind::KillAgent => self.kill(one(&self.cluster.agents, rng)?, rng),
            Kind::StopPrimaryRedis => self.stop_redis(self.a_primary(rng)?, length),
            Kind::StopReplicaRedis => self.stop_redis(self.a_replica(rng)?, length),
            Kind::StopKeeper => self.stop(&self.a_member(rng)?.daemon, length),
            Kind::StopPrimary => self.stop_member(self.a_primary(rng)?, length),
            Kind::StopServer => self.stop(self.a_server(rng)?, length),
            Kind::StopSentinel => self.stop(one(&self.cluster.sentinels, rng)?, length),
            Kind::CutPrimary => self.cut(&[self.a_primary(rng)?.daemon.host()], length, rng),
            Kind::CutReplica => self.cut(&[self.a_replica(rng)?.daemon.host()], length, rng),
            Kind::CutServer => self.cut(&[self.a_server(rng)?.host()], length, rng),
            Kind::CutSentinels => self.cut_sentinels(length, rng),
            Kind::CutAgent => self.cut_agent(length, rng),
            Kind::SlowLink => self.slow_link(length, rng),
            Kind::LossyLink => self.lossy_link(length, rng),
            Kind::RestartMember => self.restart(&self.a_member(rng)?.daemon),
            Kind::LoseReplicaData => self.lose_data(self.a_replica(rng)?, length),
            Kind::LosePrimaryData => self.lose_data(self.a_primary(rng)?, length),
            Kind::StopShard => self.stop_shard(rng),
            Kind::StopAll => self.stop_all(rng),
            Kind::DiskFull => self.fill_disk(length, rng),
            Kind::ClockJump => self.jump_clock(length, rng),
            Kind::ReuseAddress => self.reuse_address(length, rng),
            Kind::ScaleBackends => self.scale_backends(length, rng),
            Kind::ScaleFrontends => self.scale_frontends(length, rng),
            Kind::Handover => self.handover(rng),
            Kind::RollShard => self.roll_shard(rng),
            Kind::RollServers => self.roll_servers(),
            Kind::RollSentinels => self.roll_sentinels(),
            Kind::LoseAcceptReply | Kind::LoseCommitReply | Kind::LosePostReply => {
                self.lose_replies(length, rng)
            }
            Kind::LoseTooMuch => self.lose_too_much(length, rng),
            Kind::KeepOne => self.keep_one(rng),
            Kind::LoneHandover => self.lone_handover(rng),
            Kind::LateCommit => self.late_commit(length, rng),
        }
    }

    fn note(&self, what: impl Into<String>) {
        self.cluster.timeline.note(what);
    }

    fn a_shard(&self, rng: &mut Rng) -> usize {
        index(self.cluster.shards.len(), rng)
    }

    /// The number of a shard's primary. If none says it is, the first: some member must be struck.
    fn primary_of(&self, shard: usize) -> usize {
        let primary = || self.watch.primary(shard).context("no member is open");
        self.cluster.pace.until(ROLE_PATIENCE, primary).unwrap_or(0)
    }

    fn a_primary(&self, rng: &mut Rng) -> Result<&Member> {
        let shard = self.a_shard(rng);
        self.cluster.shards[shard].members.get(self.primary_of(shard)).context("a shard has a primary")
    }

    fn a_replica(&self, rng: &mut Rng) -> Result<&Member> {
        let shard = self.a_shard(rng);
        let members = self.cluster.shards[shard].members.iter().enumerate();
        let primary = self.primary_of(shard);
        let replicas: Vec<_> = members.filter(|(at, _)| *at != primary).map(|(_, member)| member).collect();
        one(&replicas, rng).copied()
    }

    fn a_member(&self, rng: &mut Rng) -> Result<&Member> {
        let members: Vec<_> = self.cluster.members().collect();
        one(&members, rng).copied()
    }

    fn a_frontend(&self, rng: &mut Rng) -> Result<&Arc<Daemon>> {
        one(&self.cluster.frontends[..self.cluster.size.frontends], rng)
    }

    fn a_backend(&self, rng: &mut Rng) -> Result<&Arc<Daemon>> {
        one(&self.cluster.backends[..self.cluster.size.backends], rng)
    }

    fn a_server(&self, rng: &mut Rng) -> Result<&Arc<Daemon>> {
        if rng.one_in(2) { self.a_frontend(rng) } else { self.a_backend(rng) }
    }
}

fn index(count: usize, rng: &mut Rng) -> usize {
    usize::try_from(rng.below(count.max(1) as u64)).unwrap_or(0)
}

/// One of several.
fn one<'a, T>(of: &'a [T], rng: &mut Rng) -> Result<&'a T> {
    of.get(index(of.len(), rng)).context("there is none")
}

/// In a random order.
fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
    for end in (1..items.len()).rev() {
        items.swap(end, index(end + 1, rng));
    }
}

/// At most so many milliseconds.
fn moment(up_to_ms: u64, rng: &mut Rng) -> Duration {
    Duration::from_millis(rng.below(up_to_ms))
}
