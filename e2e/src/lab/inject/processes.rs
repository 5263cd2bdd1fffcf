//! Faults of processes: killed, stopped for a while, told to end, all at once or one after another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Signal, kill_process};

use super::{STOP_PATIENCE, Scene, moment, one, shuffle};
use crate::lab::cluster::{Member, is_ready};
use crate::lab::daemon::Daemon;
use crate::lab::host::Link;
use crate::lab::run::CONVERGENCE;
use crate::lab::verdict;
use crate::rng::Rng;

impl Scene {
    /// Kills a process; a service manager starts it again after up to two seconds.
    pub(super) fn kill(&self, daemon: &Daemon, rng: &mut Rng) -> Result<()> {
        self.note(format!("kill {}", daemon.name()));
        daemon.kill(false)?;
        std::thread::sleep(moment(2000, rng));
        self.note(format!("start {}", daemon.name()));
        daemon.start()
    }

    /// Kills a Redis; what follows is its keeper's business.
    pub(super) fn kill_redis(&self, member: &Member) -> Result<()> {
        self.note(format!("kill the Redis of {}", member.daemon.name()));
        let redis = member.redis_pid().context("its Redis runs")?;
        kill_process(redis, Signal::KILL).context("kill a Redis")
    }

    pub(super) fn stop(&self, daemon: &Daemon, length: Duration) -> Result<()> {
        self.note(format!("stop {}", daemon.name()));
        daemon.signal(Signal::STOP)?;
        std::thread::sleep(length);
        self.note(format!("continue {}", daemon.name()));
        daemon.signal(Signal::CONT)
    }

    pub(super) fn stop_redis(&self, member: &Member, length: Duration) -> Result<()> {
        self.note(format!("stop the Redis of {}", member.daemon.name()));
        let redis = member.redis_pid().context("its Redis runs")?;
        kill_process(redis, Signal::STOP).context("stop a Redis")?;
        std::thread::sleep(length);
        self.note(format!("continue the Redis of {}", member.daemon.name()));
        // Its keeper may have ended it meanwhile, which is a way to survive.
        let _ = kill_process(redis, Signal::CONT);
        Ok(())
    }

    /// Stops a member's keeper and Redis, as when their machine stalls.
    pub(super) fn stop_member(&self, member: &Member, length: Duration) -> Result<()> {
        let redis = member.redis_pid().context("its Redis runs")?;
        kill_process(redis, Signal::STOP).context("stop a Redis")?;
        let stopped = self.stop(&member.daemon, length);
        let _ = kill_process(redis, Signal::CONT);
        stopped
    }

    pub(super) fn restart(&self, daemon: &Daemon) -> Result<()> {
        self.end(daemon);
        self.note(format!("start {}", daemon.name()));
        daemon.start()
    }

    /// Tells a process to end. One that takes too long is killed, as a service manager would do.
    pub(super) fn end(&self, daemon: &Daemon) {
        self.note(format!("end {}", daemon.name()));
        let began = Instant::now();
        match daemon.terminate(STOP_PATIENCE) {
            Ok(status) => {
                self.note(format!("{} ended: {status}, {} ms", daemon.name(), began.elapsed().as_millis()));
            }
            Err(error) => self.note(format!("{error:#}")),
        }
    }

    pub(super) fn stop_shard(&self, rng: &mut Rng) -> Result<()> {
        let shard = &self.cluster.shards[self.a_shard(rng)];
        let members: Vec<_> = shard.members.iter().map(|member| &member.daemon).collect();
        self.kill_and_start(members, rng)
    }

    pub(super) fn stop_all(&self, rng: &mut Rng) -> Result<()> {
        let all = self.cluster.all().filter(|daemon| !self.cluster.is_spare(daemon)).collect();
        self.kill_and_start(all, rng)
    }

    fn kill_and_start(&self, mut daemons: Vec<&Arc<Daemon>>, rng: &mut Rng) -> Result<()> {
        shuffle(&mut daemons, rng);
        for daemon in &daemons {
            daemon.kill(false)?;
        }
        self.note(format!("killed {} processes", daemons.len()));
        std::thread::sleep(moment(2000, rng));
        shuffle(&mut daemons, rng);
        for daemon in &daemons {
            self.note(format!("start {}", daemon.name()));
            daemon.start()?;
            std::thread::sleep(moment(3000 / daemons.len() as u64, rng));
        }
        Ok(())
    }

    /// A replica hears nothing for a moment in which the others go on; then these die with their machines, and the
    /// one that is left must open by itself. At last the others come back.
    pub(super) fn keep_one(&self, rng: &mut Rng) -> Result<()> {
        let at = self.a_shard(rng);
        let members = &self.cluster.shards[at].members;
        let primary = self.primary_of(at);
        let replicas: Vec<_> = (0..members.len()).filter(|member| *member != primary).collect();
        let kept = *one(&replicas, rng)?;
        let host = members[kept].daemon.host();
        self.note(format!("{} hears nothing; kill the others", host.name()));
        host.set_link(Link::DEAF)?;
        std::thread::sleep(Duration::from_millis(200) + moment(600, rng));
        let others: Vec<_> =
            members.iter().filter(|member| member.daemon.host().name() != host.name()).collect();
        for other in &others {
            // A kernel goes on sending for a dead process, a dead machine does not.
            other.daemon.host().set_link(Link::CUT)?;
            other.daemon.kill(false)?;
        }
        host.set_link(Link::default())?;
        let open = || {
            let state = self.watch.member(at, kept).context("the member that is left answers")?;
            ensure!(state.open, "it is closed: {}", state.waiting_for);
            Ok(())
        };
        let opened = self.cluster.pace.until(CONVERGENCE, open).context("the member that is left opens");
        for other in others {
            self.note(format!("start {}", other.daemon.name()));
            other.daemon.host().set_link(Link::default())?;
            other.daemon.start()?;
        }
        opened
    }

    /// Replicas first, one at a time, the primary last.
    pub(super) fn roll_shard(&self, rng: &mut Rng) -> Result<()> {
        let at = self.a_shard(rng);
        let primary = self.primary_of(at);
        let shard = &self.cluster.shards[at];
        let replicas = (0..shard.members.len()).filter(|member| *member != primary);
        for member in replicas.chain([primary]) {
            self.restart(&shard.members[member].daemon)?;
            self.cluster
                .pace
                .until(CONVERGENCE, || verdict::whole_shard(&self.cluster, &self.watch, at))
                .context("after a restart")?;
        }
        Ok(())
    }

    pub(super) fn roll_servers(&self) -> Result<()> {
        let size = &self.cluster.size;
        let frontends = self.cluster.frontends.iter().take(size.frontends);
        for server in frontends.chain(self.cluster.backends.iter().take(size.backends)) {
            self.restart(server)?;
            self.await_ready(server)?;
        }
        Ok(())
    }

    pub(super) fn roll_sentinels(&self) -> Result<()> {
        for sentinel in &self.cluster.sentinels {
            self.restart(sentinel)?;
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }

    pub(super) fn await_ready(&self, server: &Daemon) -> Result<()> {
        self.cluster
            .pace
            .until(CONVERGENCE, || is_ready(server))
            .with_context(|| format!("wait for {}", server.name()))
    }
}
