//! Faults of links: cut one way or both, slow, lossy, and replies that get lost at the worst moment.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{Scene, index, moment, one, shuffle};
use crate::lab::host::{Link, SharedHost};
use crate::rng::Rng;

/// Longest wait for a reply to lose: traffic may be waiting out another fault.
const REPLY_PATIENCE: Duration = Duration::from_secs(15);

/// Longer than leases last, and then some commits of who takes over.
const LATE_MIN: Duration = Duration::from_secs(3);
const LATE_MAX: Duration = Duration::from_secs(6);

impl Scene {
    /// Cuts hosts off, in a random direction.
    pub(super) fn cut(&self, hosts: &[&SharedHost], length: Duration, rng: &mut Rng) -> Result<()> {
        let (how, link) = *one(&[("in", Link::DEAF), ("out", Link::MUTE), ("in and out", Link::CUT)], rng)?;
        for host in hosts {
            self.note(format!("cut {} {how}", host.name()));
            host.set_link(link)?;
        }
        std::thread::sleep(length);
        for host in hosts {
            self.note(format!("heal {}", host.name()));
            host.set_link(Link::default())?;
        }
        Ok(())
    }

    /// One or two of them: with two gone, no failover can happen.
    pub(super) fn cut_sentinels(&self, length: Duration, rng: &mut Rng) -> Result<()> {
        let mut hosts: Vec<_> = self.cluster.sentinels.iter().map(|sentinel| sentinel.host()).collect();
        shuffle(&mut hosts, rng);
        hosts.truncate(1 + index(2, rng));
        self.cut(&hosts, length, rng)
    }

    pub(super) fn cut_agent(&self, length: Duration, rng: &mut Rng) -> Result<()> {
        let agent = one(&self.cluster.agents, rng)?;
        if self.cluster.network.mode() == crate::lab::net::Mode::Loopback || rng.one_in(3) {
            return self.stop(agent, length);
        }
        self.cut(&[agent.host()], length, rng)
    }

    /// Between a twentieth and half of what traffic needs at a busy host.
    pub(super) fn slow_link(&self, length: Duration, rng: &mut Rng) -> Result<()> {
        let bits_per_second = u32::try_from(200_000 + rng.below(1_800_000)).unwrap_or(200_000);
        let link = Link { bits_per_second, ..Link::default() };
        self.worsen(link, length, rng)
    }

    pub(super) fn lossy_link(&self, length: Duration, rng: &mut Rng) -> Result<()> {
        let lose = u8::try_from(2 + rng.below(34)).unwrap_or(2);
        self.worsen(Link { lose_in: lose, lose_out: lose, ..Link::default() }, length, rng)
    }

    fn worsen(&self, link: Link, length: Duration, rng: &mut Rng) -> Result<()> {
        let spare = |host: &&Arc<_>| self.cluster.daemon(SharedHost::as_ref(host).name()).is_none();
        let hosts: Vec<_> = self.cluster.network.hosts().iter().filter(|host| !spare(host)).collect();
        let host = *one(&hosts, rng)?;
        self.note(format!("{} gets {link:?}", host.name()));
        host.set_link(link)?;
        std::thread::sleep(length);
        self.note(format!("heal {}", host.name()));
        host.set_link(Link::default())
    }

    /// Holds back a commit, and whatever a backend sends after it, until others own its vbuckets and have committed; kills
    /// these, and lets it go.
    pub(super) fn late_commit(&self, length: Duration, rng: &mut Rng) -> Result<()> {
        let backends = &self.cluster.backends[..self.cluster.size.backends];
        let late = index(backends.len(), rng);
        let others: Vec<_> = (0..backends.len()).filter(|at| *at != late).map(|at| &backends[at]).collect();
        self.note(format!("hold what {} sends", backends[late].name()));
        if !self.taps[late].hold(REPLY_PATIENCE) {
            self.taps[late].let_go();
            bail!("no commit came that could be late");
        }
        std::thread::sleep(length.clamp(LATE_MIN, LATE_MAX));
        self.note("kill the other backends");
        let killed = others.iter().try_for_each(|other| other.kill(false));
        self.note(format!("let go what {} sent", backends[late].name()));
        self.taps[late].let_go();
        killed?;
        std::thread::sleep(moment(1000, rng));
        others.iter().try_for_each(|other| other.start())
    }

    /// Loses replies at random moments, and at least one.
    pub(super) fn lose_replies(&self, length: Duration, rng: &mut Rng) -> Result<()> {
        let lost = || self.taps.iter().map(|tap| tap.lost()).sum::<usize>();
        let before = lost();
        let times = 1 + rng.below(5);
        for _ in 0..times {
            one(&self.taps, rng)?.lose(1);
            std::thread::sleep(length.min(Duration::from_secs(3)) / u32::try_from(times).unwrap_or(1));
        }
        let some = || {
            if lost() > before {
                return Ok(());
            }
            // The host that was chosen may talk to nobody; any other will do.
            self.taps.iter().for_each(|tap| tap.lose(1));
            bail!("no reply came that could be lost")
        };
        let outcome = self.cluster.pace.until(REPLY_PATIENCE, some);
        self.taps.iter().for_each(|tap| tap.rest());
        self.note(format!("lost {} replies", lost() - before));
        outcome
    }
}
