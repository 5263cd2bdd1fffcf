//! The fenced handover: no write is accepted that the next primary does not have.
//!
//! Sentinel sees only replicas in sync → fence → they have all → `SENTINEL FAILOVER` → the new primary asks
//! for votes, gets this member's, and opens. Whatever fails, the fence is lifted, if the term is still ours.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::address::Address;
use crate::api::{HandoverAnswer, HandoverRequest};
use crate::config::Member;
use crate::mutants::Mutant;
use crate::redis::FENCE;
use crate::sentinel::Failover;

use super::{Keeper, KeeperError};

/// Sentinel looks at a replica's priority every 10 s.
const SEEN_PATIENCE: Duration = Duration::from_secs(12);

/// The same when this member is about to stop.
const SEEN_PATIENCE_AT_STOP: Duration = Duration::from_secs(2);

/// Longest wait for replicas to have everything, with writes fenced.
const LAST_WRITE_PATIENCE: Duration = Duration::from_secs(2);

/// Longest wait for a new primary, with writes fenced.
const OPEN_PATIENCE: Duration = Duration::from_secs(6);

/// Pause between two looks at others.
const PAUSE: Duration = Duration::from_millis(20);

impl Keeper {
    /// `POST /handover`.
    pub async fn hand_over(&self, request: &HandoverRequest) -> Result<HandoverAnswer, KeeperError> {
        self.hand_over_within(request.to.as_deref(), SEEN_PATIENCE, false).await
    }

    /// The handover of a member that stops in any case.
    pub(super) async fn hand_over_at_stop(&self) -> Result<HandoverAnswer, KeeperError> {
        self.hand_over_within(None, SEEN_PATIENCE_AT_STOP, true).await
    }

    async fn hand_over_within(
        &self,
        to: Option<&str>,
        patience: Duration,
        stops: bool,
    ) -> Result<HandoverAnswer, KeeperError> {
        let busy = || KeeperError::Unavailable("a founding or handover is under way".to_owned());
        let _one_at_a_time = if stops {
            timeout(patience + LAST_WRITE_PATIENCE + OPEN_PATIENCE, self.moving.lock())
                .await
                .map_err(|_| busy())?
        } else {
            self.moving.try_lock().map_err(|_| busy())?
        };
        let (term, targets) = self.targets(to).await?;
        if !self.sentinels.has_quorum().await {
            return Err(KeeperError::Unavailable("no sentinel sees enough others for a failover".to_owned()));
        }
        if let Some(to) = to {
            self.prefer_everywhere(to).await;
        }
        if !Mutant::BareFailover.is_on() && !self.sentinels_see(&targets, patience).await && !stops {
            return Err(KeeperError::Unavailable(
                "sentinels have a failover under way, or would choose a replica that is not in sync"
                    .to_owned(),
            ));
        }
        let outcome = self.fence_and_fail_over(term, &targets).await;
        self.end_handover(term, outcome.is_ok()).await;
        self.metrics.handover(outcome.is_ok());
        outcome
    }

    /// Who may be primary next: settled, linked replicas of the in-sync set.
    async fn targets(&self, to: Option<&str>) -> Result<(u64, Vec<Member>), KeeperError> {
        let core = self.core().await;
        let term = core.open.ok_or_else(|| KeeperError::Conflict("not the open primary".to_owned()))?;
        let set = core.shard().map(|shard| shard.in_sync.clone()).unwrap_or_default();
        drop(core);
        let view = self.view.read();
        let is_whole = |member: &Member| {
            view.heard(self.now()).any(|heard| {
                heard.state.member == member.name
                    && heard.state.settled
                    && !heard.state.leaving
                    && heard.state.link_up
                    && heard.state.promised.term == term
            })
        };
        let targets: Vec<_> = self
            .config
            .others()
            .filter(|member| to.is_none_or(|to| to == member.name))
            .filter(|member| set.contains(&member.address) && is_whole(member))
            .cloned()
            .collect();
        if targets.is_empty() {
            return Err(KeeperError::Conflict(format!("{} is not in sync", to.unwrap_or("no replica"))));
        }
        Ok((term, targets))
    }

    /// Waits until no failover is under way, and no Sentinel that answers would promote anyone but the targets.
    async fn sentinels_see(&self, targets: &[Member], patience: Duration) -> bool {
        let is_target = |address: &Address| targets.iter().any(|target| target.address == *address);
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            let seen = self.sentinels.replicas().await;
            let is_right = |replicas: &Vec<crate::sentinel::SeenReplica>| {
                let mut promotable = replicas.iter().filter(|replica| replica.promotable).peekable();
                promotable.peek().is_some() && promotable.all(|replica| is_target(&replica.address))
            };
            if seen.len() * 2 > self.config.sentinels.len()
                && seen.iter().all(is_right)
                && !self.sentinels.is_failing_over().await
            {
                return true;
            }
            sleep(PAUSE * 5).await;
        }
        false
    }

    async fn fence_and_fail_over(
        &self,
        term: u64,
        targets: &[Member],
    ) -> Result<HandoverAnswer, KeeperError> {
        let fenced = Instant::now();
        if !Mutant::BareFailover.is_on() {
            let last = self.fence_for_handover(term).await?;
            self.wait_for_all(term, last, targets).await?;
        }
        let first = rand::random_range(0..self.config.sentinels.len());
        if self.sentinels.fail_over(first).await != Failover::Begun {
            return Err(KeeperError::Unavailable("no sentinel accepted the failover".to_owned()));
        }
        let (primary, term) = self.wait_for_open(term).await?;
        Ok(HandoverAnswer { primary, term, gap_ms: fenced.elapsed().as_millis() as u64 })
    }

    /// Closes the gate, then fences, then stops pings. Returns the replication offset of the last write.
    async fn fence_for_handover(&self, term: u64) -> Result<u64, KeeperError> {
        let mut core = self.core().await;
        if core.open != Some(term) {
            return Err(KeeperError::Conflict("no longer the open primary".to_owned()));
        }
        core.handing_over = true;
        // A fence set by hand refuses this too; then the gate was not renewed and is past.
        if let Err(error) = self.local.close_gate(term).await {
            tracing::debug!(%error, "the gate runs out by itself");
        }
        self.local.fence().await?;
        self.local.set_ping_secs(super::tick::PING_NEVER_SECS).await?;
        self.look(&mut core).await?;
        Ok(core.observed.as_ref().map_or(0, |observed| observed.offset))
    }

    /// Waits until every target has acknowledged the last write.
    async fn wait_for_all(&self, term: u64, last: u64, targets: &[Member]) -> Result<(), KeeperError> {
        let deadline = Instant::now() + LAST_WRITE_PATIENCE;
        while Instant::now() < deadline {
            let mut core = self.core().await;
            if core.open != Some(term) {
                return Err(KeeperError::Conflict("no longer the open primary".to_owned()));
            }
            self.look(&mut core).await?;
            let observed = core.observed.as_ref();
            let has_all = |target: &Member| {
                observed.is_some_and(|observed| {
                    let mut replicas = observed.replicas.iter();
                    replicas.any(|replica| replica.address == target.address && replica.offset >= last)
                })
            };
            if targets.iter().all(has_all) {
                return Ok(());
            }
            drop(core);
            // Without new writes a replica acknowledges only once a second. A wait for more replicas than
            // there are makes Redis ask them.
            let _ = self.local.wait(FENCE as usize, PAUSE).await;
        }
        Err(KeeperError::Unavailable("replicas did not catch up in time".to_owned()))
    }

    /// Waits until another member is open in a later term.
    async fn wait_for_open(&self, term: u64) -> Result<(String, u64), KeeperError> {
        let deadline = Instant::now() + OPEN_PATIENCE;
        while Instant::now() < deadline {
            self.ask_peers().await;
            let now = self.now();
            let opened = self.view.read().heard(now).find_map(|heard| {
                let state = &heard.state;
                (state.open && state.term > term).then(|| (state.member.clone(), state.term))
            });
            if let Some(opened) = opened {
                return Ok(opened);
            }
            sleep(PAUSE).await;
        }
        Err(KeeperError::Unavailable("no new primary opened in time".to_owned()))
    }

    /// Afterwards this member is closed, or, if the handover failed, open as before.
    async fn end_handover(&self, term: u64, succeeded: bool) {
        let mut core = self.core().await;
        if succeeded && core.open == Some(term) {
            // The new primary did without this member's vote.
            if let Err(error) = self.depose(&mut core).await {
                tracing::warn!(%error, "closing after the handover");
            }
        }
        core.handing_over = false;
        core.preferred = None;
        if core.open == Some(term) {
            // The next tick lifts the fence, and the gate is renewed. It does it again if this fails.
            let _ = self.local.set_min_replicas(self.config.min_in_sync as u64).await;
        }
        self.publish(&core);
    }
}
