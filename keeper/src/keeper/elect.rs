//! Elections: ask for votes, and open, or say what is missing, or send Sentinel to whoever has more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use crate::api::{FollowRequest, MemberRequest, VoteAnswer, VoteRequest};
use crate::decide::Millis;
use crate::decide::votes::{Answer, Ballot, Verdict, Vote, count};
use crate::mutants::Mutant;
use crate::peers::PeerError;
use crate::redis::local::LocalError;
use crate::sentinel::Failover;
use crate::shard::Position;

use super::{Keeper, KeeperError};

/// Pause after a failed election: the first, and the longest.
const BACK_OFF_MS: (Millis, Millis) = (200, 2_000);

/// What a keeper said longer ago than this is no reason to leave the field to it: it may have died.
const RECENT_MS: Millis = 500;

impl Keeper {
    /// Asks for votes, or, where own data can never be enough, only for another choice of Sentinel.
    pub(super) fn begin_election(self: &Arc<Self>, yields: bool) {
        if self.electing.swap(true, Ordering::SeqCst) {
            return;
        }
        let keeper = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = if yields { Err(keeper.yield_to(None).await) } else { keeper.elect().await };
            keeper.pace(outcome).await;
            keeper.electing.store(false, Ordering::SeqCst);
        });
    }

    /// Notes what became of an election, and when the next may begin.
    async fn pace(&self, outcome: Result<u64, KeeperError>) {
        let mut core = self.core().await;
        match outcome {
            Ok(term) => {
                tracing::info!(term, "open");
                core.failures = 0;
                core.waiting_for.clear();
            }
            Err(error) => {
                self.metrics.elections_refused.inc();
                if core.failures.is_power_of_two() || core.failures == 0 {
                    tracing::warn!(%error, failures = core.failures, "stays closed");
                }
                core.waiting_for = error.to_string();
                let pause = (BACK_OFF_MS.0 << core.failures.min(8)).min(BACK_OFF_MS.1);
                // Half of it at random, so that two candidates do not meet again.
                core.elect_after = self.now() + pause / 2 + rand::random_range(0..=pause / 2);
                core.failures += 1;
            }
        }
        self.publish(&core);
    }

    async fn elect(&self) -> Result<u64, KeeperError> {
        // Nobody is disturbed by a candidate that cannot win.
        if let Some(member) = self.known_better().await
            && !opens_anyhow()
        {
            return Err(self.yield_to(Some(&member)).await);
        }
        self.metrics.elections.inc();
        let (term, request) = self.candidacy(false).await;
        let own = self.vote(&request).await;
        if !own.granted {
            return Err(KeeperError::Unavailable(format!("own vote: {}", own.reason)));
        }
        let voted = own.position;
        let run_id = self.core().await.run_id.clone();
        let (primary, never_grew) = {
            let core = self.core().await;
            let primary = core.shard().and_then(|shard| shard.primary.clone());
            (primary, core.shard().is_some_and(crate::shard::ShardHash::never_grew))
        };
        let primary =
            primary.and_then(|address| self.config.member_at(&address)).map(|member| member.name.as_str());
        let own = ballot(&self.config.own().name, primary, Ok(own));
        let others = self.collect(&request, primary).await;
        let mut verdict = count(self.config.rules(), &own, &others, never_grew);
        if opens_anyhow() {
            verdict = Verdict::Open { wait_ms: 0 };
        }
        match verdict {
            Verdict::Open { wait_ms } => {
                sleep(Duration::from_millis(wait_ms)).await;
                self.open_after_votes(term, &run_id, voted).await
            }
            Verdict::Better(member) => Err(self.yield_to(Some(&member)).await),
            Verdict::Waiting(why) => Err(KeeperError::Unavailable(why)),
        }
    }

    /// The settled member that has more, by what keepers said a moment ago.
    async fn known_better(&self) -> Option<String> {
        let own = self.core().await.position().unwrap_or_default();
        let now = self.now();
        let view = self.view.read();
        let recent = view.heard(now).filter(|heard| now.saturating_sub(heard.asked) < RECENT_MS);
        let better = recent.filter(|heard| heard.state.settled && heard.state.position > own);
        better.max_by_key(|heard| heard.state.position).map(|heard| heard.state.member.clone())
    }

    /// The next term of this member, and the question to ask.
    pub(super) async fn candidacy(&self, founding: bool) -> (u64, VoteRequest) {
        let core = self.core().await;
        let own_term = core.notes().promise.term.max(core.position().unwrap_or_default().term);
        let term = self.config.rules().next_term(core.known_term.max(own_term), self.config.own_index);
        let request = VoteRequest {
            shard: self.config.shard.clone(),
            shard_id: core.shard_id().map(ToOwned::to_owned),
            term,
            candidate: self.config.own().name.clone(),
            founding,
        };
        (term, request)
    }

    async fn collect(&self, request: &VoteRequest, primary: Option<&str>) -> Vec<Ballot> {
        let mut ballots = Vec::new();
        let mut highest = 0;
        for (member, answer) in self.peers.post_all::<_, VoteAnswer>("/vote", request).await {
            highest = answer.as_ref().map_or(highest, |vote| vote.promised.max(highest));
            ballots.push(ballot(&member.name, primary, answer));
        }
        let mut core = self.core().await;
        core.known_term = core.known_term.max(highest);
        ballots
    }

    /// Opens with what was voted on: a Redis that was started again meanwhile may have less.
    async fn open_after_votes(&self, term: u64, run_id: &str, voted: Position) -> Result<u64, KeeperError> {
        let shard_id = {
            let mut core = self.core().await;
            self.look(&mut core).await?;
            if core.run_id != run_id || core.position().unwrap_or_default() < voted {
                return Err(KeeperError::Unavailable("redis started again during the election".to_owned()));
            }
            let id = core.shard_id().map(ToOwned::to_owned);
            let id = id.ok_or_else(|| KeeperError::Conflict("the shard was not founded".to_owned()))?;
            self.open(&mut core, term, &id, false).await?;
            self.publish(&core);
            id
        };
        self.tell_to_follow(term, shard_id).await;
        Ok(term)
    }

    /// Tells all others to follow. Who does not hear it learns it from Sentinel.
    pub(super) async fn tell_to_follow(&self, term: u64, shard_id: String) {
        let body = FollowRequest { member: self.config.own().name.clone(), term, shard_id };
        for (member, answer) in self.peers.post_all::<_, serde_json::Value>("/follow", &body).await {
            if let Err(error) = answer {
                tracing::info!(member = member.name, %error, "does not follow yet");
            }
        }
    }

    /// Someone has more: Sentinel should choose again, and can choose only that one if it is known.
    async fn yield_to(&self, member: Option<&str>) -> KeeperError {
        if let Some(member) = member {
            self.prefer_everywhere(member).await;
        }
        let member = member.unwrap_or("another member");
        let first = rand::random_range(0..self.config.sentinels.len());
        let outcome = self.sentinels.fail_over(first).await;
        tracing::info!(member, ?outcome, "asked sentinel to fail over to the member that has more");
        if outcome == Failover::NoReplica
            && let Err(error) = self.look_good_again().await
        {
            tracing::warn!(%error, "the own link looks broken for too long to sentinel");
        }
        KeeperError::Unavailable(format!("{member} has more; waiting for sentinel to choose it"))
    }

    /// Sentinel promotes no replica whose link broke more than ten `down-after` before the primary was seen
    /// to be down, and if that primary is up but closed, never will. So a member without a link forgets
    /// since when it has none.
    async fn look_good_again(&self) -> Result<(), LocalError> {
        let mut core = self.core().await;
        self.look(&mut core).await?;
        let is_cut = core.observed.as_ref().is_some_and(|observed| !observed.is_primary && !observed.link_up);
        if is_cut {
            self.local.forget_broken_link().await?;
        }
        Ok(())
    }

    /// Keeps all but one from being promoted for a while.
    pub(super) async fn prefer_everywhere(&self, member: &str) {
        let body = MemberRequest { member: member.to_owned() };
        self.prefer(&body).await;
        let _ = self.peers.post_all::<_, serde_json::Value>("/prefer", &body).await;
    }

    /// `POST /prefer`.
    pub async fn prefer(&self, request: &MemberRequest) {
        /// Longer than Sentinel takes to see a priority (10 s), and to choose by it.
        const PREFERRED_MS: Millis = 20_000;
        let mut core = self.core().await;
        core.preferred = Some((request.member.clone(), self.now() + PREFERRED_MS));
    }
}

/// Known defects, see there.
fn opens_anyhow() -> bool {
    Mutant::NoVotes.is_on() || Mutant::BareFailover.is_on()
}

fn ballot(member: &str, primary: Option<&str>, answer: Result<VoteAnswer, PeerError>) -> Ballot {
    let answer = match answer {
        Err(_) => Answer::Silent,
        Ok(vote) if vote.member != member => Answer::Refused("another keeper answers".to_owned()),
        Ok(vote) if !vote.granted => Answer::Refused(vote.reason),
        Ok(vote) => Answer::Granted(Vote {
            settled: vote.settled,
            fresh: vote.fresh,
            position: vote.position,
            heard_ms: vote.heard_ms,
        }),
    };
    Ballot { member: member.to_owned(), was_primary: primary == Some(member), answer }
}
