//! Voting: a promise on disk, then a Redis that can follow nobody of an older term, then the position.

use crate::api::{VoteAnswer, VoteRequest};
use crate::decide::votes::ACK_FRESH_MS;
use crate::disk::Promise;

use super::core::Core;
use super::{Keeper, KeeperError};

impl Keeper {
    /// `POST /vote`.
    pub async fn vote(&self, request: &VoteRequest) -> VoteAnswer {
        let sentinel_says_stay = self.is_wanted_primary(request).await;
        let mut core = self.core().await;
        let outcome = self.promise(&mut core, request, sentinel_says_stay).await;
        self.publish(&core);
        let promised = core.notes().promise.term;
        let member = self.config.own().name.clone();
        match outcome {
            Ok(vote) => VoteAnswer { member, promised, granted: true, ..vote },
            Err(error) => VoteAnswer { member, promised, reason: error.to_string(), ..VoteAnswer::default() },
        }
    }

    /// This member is open, healthy, and Sentinels go on naming it: whoever asks for votes is mistaken.
    async fn is_wanted_primary(&self, request: &VoteRequest) -> bool {
        let is_healthy = {
            let core = self.core().await;
            let is_acknowledged =
                core.acknowledged.is_some_and(|at| self.now().saturating_sub(at) < ACK_FRESH_MS);
            core.open.is_some() && !core.handing_over && core.observed.is_some() && is_acknowledged
        };
        let own = self.config.own();
        is_healthy
            && request.candidate != own.name
            && self.ask_sentinels().await.as_ref() == Some(&own.address)
    }

    async fn promise(
        &self,
        core: &mut Core,
        request: &VoteRequest,
        sentinel_says_stay: bool,
    ) -> Result<VoteAnswer, KeeperError> {
        self.may_promise(core, request, sentinel_says_stay)?;
        let promise = Promise { term: request.term, candidate: request.candidate.clone() };
        core.disk.change(|notes| notes.promise = promise)?;
        // From here on this member is not open, whether or not its Redis can be told.
        core.close();
        self.look(core).await?;
        let observed = core.observed.as_ref();
        let heard_ms = match observed {
            Some(observed) if observed.link_up => 0,
            _ => self.now().saturating_sub(core.heard),
        };
        if core.is_primary() {
            self.depose(core).await?;
        } else {
            self.local.follow_nobody().await?;
        }
        // Only now nothing of an older term can come in any more.
        self.look(core).await?;
        if core.is_loading() {
            return Err(KeeperError::Unavailable("redis loads its data".to_owned()));
        }
        self.settle(core).await?;
        if request.founding && !core.is_empty() {
            return Err(KeeperError::Conflict("has data".to_owned()));
        }
        tracing::info!(term = request.term, candidate = request.candidate, "promised");
        Ok(VoteAnswer {
            settled: core.is_settled() && core.data_seen,
            fresh: core.is_fresh(),
            position: core.position().unwrap_or_default(),
            heard_ms,
            ..VoteAnswer::default()
        })
    }

    fn may_promise(
        &self,
        core: &Core,
        request: &VoteRequest,
        sentinel_says_stay: bool,
    ) -> Result<(), KeeperError> {
        let refuse = |why: String| Err(KeeperError::Conflict(why));
        if request.shard != self.config.shard || self.config.member(&request.candidate).is_none() {
            return refuse("another shard".to_owned());
        }
        if let (Some(own), Some(theirs)) = (core.shard_id(), &request.shard_id)
            && own != theirs
        {
            return refuse(format!("belongs to shard {own}"));
        }
        let promise = &core.notes().promise;
        let is_again = request.term == promise.term && request.candidate == promise.candidate;
        if request.term <= promise.term && !is_again {
            return refuse(format!("term {} is promised to {}", promise.term, promise.candidate));
        }
        if sentinel_says_stay && core.open.is_some() && !core.handing_over {
            return refuse(format!("open in term {}, and named by sentinel", core.open.unwrap_or(0)));
        }
        if request.founding && !(core.is_fresh() && core.notes().unsettled.is_none()) {
            return refuse("has data, or had some".to_owned());
        }
        Ok(())
    }
}
