//! Following the open primary.
//!
//! A copy that begins may replace the data, and is in memory only until it is on disk. So the note comes
//! first, then the user to follow with, then the link. A member that may have acknowledged in this very
//! term leaves the in-sync set before, so that acknowledgements need not wait for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::api::{FollowRequest, LeaveAnswer, MemberRequest};
use crate::config::Member;
use crate::disk::{Promise, Unsettled};

use super::core::Core;
use super::{Keeper, KeeperError};

impl Keeper {
    /// Follows in a task of its own, because it may have to ask the primary first.
    pub(super) fn begin_following(self: &Arc<Self>, core: &mut Core, member: String, term: u64) {
        let Some(primary) = self.config.member(&member).cloned() else { return };
        let is_done = core.observed.as_ref().is_some_and(|observed| {
            observed.follows(&primary.address) && (observed.link_up || observed.is_armed())
        });
        if is_done && core.notes().promise == (Promise { term, candidate: member }) {
            core.failures = 0;
            let is_member =
                core.shard().is_some_and(|shard| shard.in_sync.contains(&self.config.own().address));
            core.waiting_for = match (core.is_settled(), is_member) {
                (true, true) => String::new(),
                (true, false) => format!("{} has not taken this member into the in-sync set", primary.name),
                (false, _) => format!("the copy from {} is not on disk yet", primary.name),
            };
            return;
        }
        if self.following.swap(true, Ordering::SeqCst) {
            return;
        }
        let keeper = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = keeper.leave_and_follow(&primary, term).await {
                keeper.cannot_follow(&primary, &error).await;
            }
            keeper.following.store(false, Ordering::SeqCst);
        });
    }

    async fn cannot_follow(&self, primary: &Member, error: &KeeperError) {
        let mut core = self.core().await;
        let why = format!("cannot follow {}: {error}", primary.name);
        if core.waiting_for != why {
            tracing::warn!(why, "waiting");
            core.waiting_for = why;
        }
    }

    async fn leave_and_follow(&self, primary: &Member, term: u64) -> Result<(), KeeperError> {
        let silent = |error| KeeperError::Unavailable(format!("its keeper: {error}"));
        // Asked anew: a primary that just died must not cost this member its vote (see `Unsettled::Owing`).
        let state = self.peers.state(primary).await.map_err(silent)?;
        let id = state.shard_id.filter(|_| state.open && state.term == term);
        let id = id.ok_or_else(|| KeeperError::Unavailable(format!("not open in term {term} any more")))?;
        if self.core().await.notes().settled_term == term {
            let body = MemberRequest { member: self.config.own().name.clone() };
            self.peers.post::<_, LeaveAnswer>(primary, "/leave", &body).await.map_err(silent)?;
        }
        let mut core = self.core().await;
        self.follow(&mut core, primary, term, &id).await?;
        self.publish(&core);
        Ok(())
    }

    /// `POST /follow`: the fast way after an election.
    pub async fn obey_follow(&self, request: &FollowRequest) -> Result<(), KeeperError> {
        let primary = self.config.member(&request.member);
        let primary =
            primary.ok_or_else(|| KeeperError::Conflict(format!("no member {}", request.member)))?;
        let mut core = self.core().await;
        self.look(&mut core).await?;
        self.follow(&mut core, primary, request.term, &request.shard_id).await?;
        self.publish(&core);
        Ok(())
    }

    /// Follows, if the promise and the shard allow it.
    async fn follow(
        &self,
        core: &mut Core,
        primary: &Member,
        term: u64,
        shard_id: &str,
    ) -> Result<(), KeeperError> {
        let refuse = |why: String| Err(KeeperError::Conflict(why));
        let wanted = Promise { term, candidate: primary.name.clone() };
        let promise = &core.notes().promise;
        if term < promise.term || (term == promise.term && *promise != wanted) {
            return refuse(format!("term {} is promised to {}", promise.term, promise.candidate));
        }
        if core.open.is_some_and(|open| open >= term) || primary.name == self.config.own().name {
            return refuse("this member is open in a later term".to_owned());
        }
        if core.is_loading() || !core.data_seen {
            return Err(KeeperError::Unavailable("redis loads its data".to_owned()));
        }
        match core.shard_id() {
            Some(own) if own != shard_id => return refuse(format!("belongs to shard {own}")),
            None if !core.is_empty() => return refuse("has data that belong to no shard".to_owned()),
            _ => {}
        }
        let observed = core.observed.as_ref();
        let is_linked =
            observed.is_some_and(|observed| observed.follows(&primary.address) && observed.link_up);
        if is_linked && *promise == wanted {
            return Ok(());
        }
        if core.is_primary() || core.open.is_some() {
            self.depose(core).await?;
        }
        let may_owe = core.notes().settled_term == term;
        core.disk.change(|notes| {
            notes.promise = wanted;
            notes.shard_id = Some(shard_id.to_owned());
            let is_owing = may_owe || notes.unsettled == Some(Unsettled::Owing);
            notes.unsettled = Some(if is_owing { Unsettled::Owing } else { Unsettled::Behind });
        })?;
        core.last_position = None;
        self.local.follow(&primary.address, term, &primary.name).await?;
        tracing::info!(member = primary.name, term, "following");
        core.failures = 0;
        core.preferred = None;
        Ok(self.look(core).await?)
    }

    /// An open primary, or one that was, stops being one for everybody: reads, writes, replicas.
    pub(super) async fn depose(&self, core: &mut Core) -> Result<(), KeeperError> {
        core.close();
        if let Some(term) = core.closing {
            tracing::info!(term, "closed");
            // A fence refuses this write as any other. Where a handover fenced, it closed the gate before.
            if !core.handing_over
                && let Err(error) = self.local.close_gate(term).await
            {
                tracing::debug!(%error, "the gate runs out by itself");
            }
        }
        self.local.fence().await?;
        self.local.expel_replicas().await?;
        self.local.expel_servers().await?;
        core.closing = None;
        Ok(())
    }
}
