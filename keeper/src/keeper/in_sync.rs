//! Keeping the in-sync set of an open primary.

use crate::address::Address;
use crate::api::{LeaveAnswer, MemberRequest};
use crate::decide::in_sync::{grown, shrunk, without};

use super::core::Core;
use super::{Keeper, KeeperError};

impl Keeper {
    /// Lets go who fell behind and takes in who caught up.
    pub(super) async fn keep_in_sync_set(&self, core: &mut Core) {
        let (Some(term), Some(observed), Some(shard)) =
            (core.open, core.observed.clone(), core.shard().cloned())
        else {
            return;
        };
        let now = self.now();
        let online = observed.replicas.iter().filter(|replica| replica.online);
        let acknowledged: Vec<_> = online.map(|replica| (replica.address.clone(), replica.offset)).collect();
        core.progress.observe(now, observed.offset, &acknowledged);
        if core.handing_over {
            return;
        }
        let own = &self.config.own().address;
        let set = &shard.in_sync;
        let smaller = shrunk(set, own, self.config.min_in_sync, &mut core.progress, now)
            .or_else(|| without(set, own, &self.unsettled(set)?, self.config.min_in_sync));
        let changed = match smaller {
            Some(smaller) => Some(smaller),
            None => {
                let ready = self.ready(core, term);
                grown(set, &ready, &core.progress, now)
            }
        };
        if let Some(new) = changed
            && let Err(error) = self.change_set(core, term, shard.in_sync_version, set, &new).await
        {
            tracing::debug!(%error, "the in-sync set stays");
        }
    }

    /// Replicas whose keepers say, later than they last left, that their copy is on disk and follows this term.
    fn ready(&self, core: &Core, term: u64) -> Vec<Address> {
        let own = self.config.own();
        let view = self.view.read();
        let is_ready = |heard: &&super::polls::Heard| {
            let state = &heard.state;
            let follows = state.promised.term == term && state.promised.candidate == own.name;
            let is_linked = state.link_up && state.following.as_ref() == Some(&own.address);
            let is_later = core.left.get(&state.address).is_none_or(|left| heard.asked > *left);
            follows && is_linked && state.settled && !state.leaving && is_later
        };
        view.heard(self.now()).filter(is_ready).map(|heard| heard.state.address.clone()).collect()
    }

    /// A member of the set whose keeper says that its data are not on disk any more.
    fn unsettled(&self, set: &[Address]) -> Option<Address> {
        let view = self.view.read();
        let mut heard = view.heard(self.now()).map(|heard| &heard.state);
        heard.find(|state| !state.settled && set.contains(&state.address)).map(|state| state.address.clone())
    }

    async fn change_set(
        &self,
        core: &mut Core,
        term: u64,
        version: u64,
        old: &[Address],
        new: &[Address],
    ) -> Result<(), KeeperError> {
        let new_version = self.local.set_in_sync(term, version, new).await?;
        let is_larger = new.len() > old.len();
        if is_larger { &self.metrics.grown } else { &self.metrics.shrunk }.inc();
        let members = crate::shard::joined(new);
        tracing::info!(
            version = new_version,
            members,
            "in-sync set {}",
            if is_larger { "grew" } else { "shrank" }
        );
        if let Some(shard) = core.observed.as_mut().and_then(|observed| observed.shard.as_mut()) {
            shard.in_sync = new.to_vec();
            shard.in_sync_version = new_version;
        }
        Ok(())
    }

    /// `POST /leave`: goes on without a member, if enough remain and the change can be written. Where it cannot, most
    /// likely because no replica is linked, nothing is acknowledged that would have to wait for the member. It follows
    /// either way: if it had to leave first, two that restart at once would wait for each other for ever.
    pub async fn obey_leave(&self, request: &MemberRequest) -> Result<LeaveAnswer, KeeperError> {
        let member = self.config.member(&request.member);
        let member = member.ok_or_else(|| KeeperError::Conflict(format!("no member {}", request.member)))?;
        let mut core = self.core().await;
        let Some(term) = core.open else {
            return Err(KeeperError::Conflict("not open".to_owned()));
        };
        core.left.insert(member.address.clone(), self.now());
        self.look(&mut core).await?;
        let Some(shard) = core.shard().cloned() else {
            return Err(KeeperError::Unavailable("own data cannot be read".to_owned()));
        };
        let own = &self.config.own().address;
        if let Some(smaller) = without(&shard.in_sync, own, &member.address, self.config.min_in_sync) {
            let changed =
                self.change_set(&mut core, term, shard.in_sync_version, &shard.in_sync, &smaller).await;
            if let Err(error) = changed {
                tracing::debug!(%error, member = member.name, "stays in the in-sync set");
            }
        }
        let left = core.open == Some(term)
            && core.shard().is_some_and(|shard| !shard.in_sync.contains(&member.address));
        self.publish(&core);
        Ok(LeaveAnswer { left })
    }
}
