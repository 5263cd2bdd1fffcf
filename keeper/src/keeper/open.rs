//! Opening a term on the own Redis.

use crate::decide::in_sync::Progress;
use crate::decide::votes::GATE_AHEAD_MS;
use crate::disk::Promise;
use crate::redis::local::Opening;

use super::core::Core;
use super::{Keeper, KeeperError};

impl Keeper {
    /// Opens, if the term is still promised to this member. On an error it is fenced as before.
    pub(super) async fn open(
        &self,
        core: &mut Core,
        term: u64,
        shard_id: &str,
        founds: bool,
    ) -> Result<(), KeeperError> {
        let promise = Promise { term, candidate: self.config.own().name.clone() };
        if core.notes().promise != promise {
            let promise = &core.notes().promise;
            let why = format!("term {} was promised to {} meanwhile", promise.term, promise.candidate);
            return Err(KeeperError::Unavailable(why));
        }
        self.look(core).await?;
        if core.is_loading() || !(founds || core.is_settled()) {
            return Err(KeeperError::Unavailable("own data are not whole on disk".to_owned()));
        }
        core.disk.change(|notes| notes.settled_term = term)?;
        let outcome = self.open_redis(core, term, shard_id, founds).await;
        if let Err(error) = outcome {
            // Whatever was done is undone; what cannot be is set right by the next tick.
            let _ = self.local.fence().await;
            let _ = self.local.expel_replicas().await;
            return Err(error);
        }
        core.open = Some(term);
        core.closing = None;
        core.progress = Progress::default();
        core.left.clear();
        core.acknowledged = None;
        core.outvoted = None;
        core.preferred = None;
        core.handing_over = false;
        self.metrics.opens.inc();
        Ok(self.look(core).await?)
    }

    async fn open_redis(
        &self,
        core: &Core,
        term: u64,
        shard_id: &str,
        founds: bool,
    ) -> Result<(), KeeperError> {
        if !core.is_primary() {
            self.local.follow_no_one().await?;
        }
        self.local.admit_replicas(term, &self.config.own().name).await?;
        // Servers cannot write in between: the shard still has another term than theirs.
        self.local.set_min_replicas(0).await?;
        // Elsewhere reads open with the first acknowledgement. Until then the next candidate knows of no gate.
        let gate_ms = if self.config.min_in_sync == 0 { GATE_AHEAD_MS } else { 0 };
        self.local
            .open(&Opening {
                shard_id,
                name: &self.config.shard,
                term,
                members: self.config.members.len(),
                min_in_sync: self.config.min_in_sync,
                founds,
                gate_us: gate_ms * 1_000,
            })
            .await?;
        let is_fenced = core.notes().fenced;
        let min_replicas = if is_fenced { crate::redis::FENCE } else { self.config.min_in_sync as u64 };
        Ok(self.local.set_min_replicas(min_replicas).await?)
    }
}
