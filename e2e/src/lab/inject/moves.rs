//! Planned changes under traffic: handover, and servers that come and go.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use super::{Scene, one};
use crate::lab::cluster::url;
use crate::lab::daemon::Daemon;
use crate::lab::host::SERVER_PORT;
use crate::lab::run::CONVERGENCE;
use crate::rng::Rng;

/// Longer than Sentinel takes to make a replica the primary.
const LONE: Duration = Duration::from_millis(2500);

impl Scene {
    /// Commands a handover until one is done: another fault may make the primary refuse at first.
    pub(super) fn handover(&self, rng: &mut Rng) -> Result<()> {
        let shard = self.a_shard(rng);
        let attempt = || {
            let primary = &self.cluster.shards[shard].members[self.primary_of(shard)];
            self.note(format!("handover of {}", primary.daemon.name()));
            let answer = primary.keeper.command("/handover", &serde_json::json!({}));
            match &answer {
                Ok(text) => self.note(format!("handed over: {}", text.trim())),
                Err(error) => self.note(format!("not handed over: {error:#}")),
            }
            answer
        };
        self.cluster.pace.until(CONVERGENCE, attempt).map(drop)
    }

    /// Sentinel needs a moment to make a replica the primary, and another until it tells the old one and the other
    /// replica. Again until a handover is under way in that time: at first the primary may refuse.
    pub(super) fn lone_handover(&self, rng: &mut Rng) -> Result<()> {
        let shard = self.a_shard(rng);
        self.cluster.pace.until(CONVERGENCE, || self.try_lone_handover(shard))
    }

    fn try_lone_handover(&self, shard: usize) -> Result<()> {
        let members = &self.cluster.shards[shard].members;
        let at = self.primary_of(shard);
        let primary = &members[at];
        let replicas = || members[..at].iter().chain(&members[at + 1..]);
        self.note(format!("stop the keepers of the replicas; handover of {}", primary.daemon.name()));
        replicas().try_for_each(|replica| replica.daemon.signal(Signal::STOP))?;
        std::thread::scope(|scope| {
            let answer = scope.spawn(|| primary.keeper.command("/handover", &serde_json::json!({})));
            std::thread::sleep(LONE);
            let is_under_way = !answer.is_finished();
            self.note("continue the keepers");
            replicas().try_for_each(|replica| replica.daemon.signal(Signal::CONT))?;
            let answer = answer.join().unwrap_or_else(|_| bail!("the command panicked"));
            self.note(format!("handover: {answer:?}"));
            ensure!(is_under_way, "refused: {answer:?}");
            Ok(())
        })
    }

    /// One backend more, then one less, then as before.
    pub(super) fn scale_backends(&self, length: Duration, rng: &mut Rng) -> Result<()> {
        let step = length.min(Duration::from_secs(4)) / 2;
        let usual = &self.cluster.backends[..self.cluster.size.backends];
        let spare = &self.cluster.backends[self.cluster.size.backends];
        self.note(format!("start {}", spare.name()));
        spare.start()?;
        self.await_ready(spare)?;
        std::thread::sleep(step);
        let leaving = one(usual, rng)?;
        self.end(leaving);
        std::thread::sleep(step);
        self.note(format!("start {}", leaving.name()));
        leaving.start()?;
        self.end(spare);
        Ok(())
    }

    /// One frontend more, then one less, then as before. Producers are told, as a balancer would.
    pub(super) fn scale_frontends(&self, length: Duration, rng: &mut Rng) -> Result<()> {
        let step = length.min(Duration::from_secs(4)) / 2;
        let usual = &self.cluster.frontends[..self.cluster.size.frontends];
        let spare = &self.cluster.frontends[self.cluster.size.frontends];
        self.note(format!("start {}", spare.name()));
        spare.start()?;
        self.await_ready(spare)?;
        self.publish(spare);
        std::thread::sleep(step);
        let leaving = one(usual, rng)?;
        self.withdraw(leaving);
        self.end(leaving);
        std::thread::sleep(step);
        self.note(format!("start {}", leaving.name()));
        leaving.start()?;
        self.await_ready(leaving).context("after it was scaled away")?;
        self.publish(leaving);
        self.withdraw(spare);
        self.end(spare);
        Ok(())
    }

    fn publish(&self, frontend: &Arc<Daemon>) {
        let mut urls = self.routes.frontends.write().expect("no holder of this lock panics");
        urls.push(url(frontend, SERVER_PORT));
    }

    fn withdraw(&self, frontend: &Arc<Daemon>) {
        let gone = url(frontend, SERVER_PORT);
        let mut urls = self.routes.frontends.write().expect("no holder of this lock panics");
        urls.retain(|url| *url != gone);
    }
}
