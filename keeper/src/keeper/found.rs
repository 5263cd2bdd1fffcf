//! Founding a shard, and the operator's other words: fence, priority.

use std::fmt::Write as _;

use crate::api::{FoundAnswer, PriorityRequest, VoteAnswer};
use crate::shard::Position;

use super::core::Core;
use super::{Keeper, KeeperError};

impl Keeper {
    /// `POST /found`: makes a new shard with this member as primary, if all members answer and have no data.
    pub async fn found(&self) -> Result<FoundAnswer, KeeperError> {
        let busy = || KeeperError::Unavailable("a founding or handover is under way".to_owned());
        let _one_at_a_time = self.moving.try_lock().map_err(|_| busy())?;
        {
            let mut core = self.core().await;
            self.look(&mut core).await?;
            self.forget_unfinished_founding(&mut core).await?;
            if let Some(shard) = core.shard() {
                return Ok(FoundAnswer { shard_id: shard.id.clone(), term: shard.position.term });
            }
            if !core.is_fresh() {
                return Err(KeeperError::Conflict("this member has data, or had some".to_owned()));
            }
        }
        self.is_founder_named().await?;
        self.ask_all_fresh().await?;
        let (term, mut request) = self.candidacy(true).await;
        request.shard_id = None;
        let own = self.vote(&request).await;
        let others = self.peers.post_all::<_, VoteAnswer>("/vote", &request).await;
        let answers = others.into_iter().map(|(member, answer)| {
            (
                member.name.clone(),
                answer.unwrap_or_else(|error| VoteAnswer {
                    reason: error.to_string(),
                    ..VoteAnswer::default()
                }),
            )
        });
        for (member, answer) in answers.chain([(self.config.own().name.clone(), own)]) {
            if !(answer.granted && answer.fresh) {
                return Err(KeeperError::Conflict(format!("{member} does not agree: {}", answer.reason)));
            }
        }
        let shard_id = self.open_founded(term).await?;
        tracing::info!(shard_id, term, "founded");
        self.tell_to_follow(term, shard_id.clone()).await;
        Ok(FoundAnswer { shard_id, term })
    }

    /// An earlier founding may have ended before Redis did its part, without an answer or with this keeper. Behind the
    /// fence what was sent then is refused from now on; if there is still no key, this member holds as little as before.
    /// One that has held data has noted its position some seconds later. Until then another member that holds what was
    /// acknowledged is not fresh; where none has to hold it, a machine that fails takes the last second with it anyway.
    async fn forget_unfinished_founding(&self, core: &mut Core) -> Result<(), KeeperError> {
        let notes = core.notes();
        let is_unfinished = notes.founded && notes.held == Position::default() && core.is_empty();
        if !is_unfinished || core.is_fresh() {
            return Ok(());
        }
        self.local.fence().await?;
        self.look(core).await?;
        if core.is_empty() {
            tracing::warn!("an earlier founding did not reach redis");
            core.disk.change(|notes| notes.settled_term = 0)?;
        }
        Ok(())
    }

    async fn is_founder_named(&self) -> Result<(), KeeperError> {
        match self.ask_sentinels().await {
            None => Err(KeeperError::Unavailable("no majority of sentinels names a primary".to_owned())),
            Some(named) if named != self.config.own().address => {
                Err(KeeperError::Conflict(format!("sentinels name {named}: found the shard there")))
            }
            Some(_) => Ok(()),
        }
    }

    /// Before anyone promises anything: the usual reasons against a founding.
    async fn ask_all_fresh(&self) -> Result<(), KeeperError> {
        for (member, answer) in self.peers.states().await {
            let name = &member.name;
            let state = answer.map_err(|error| KeeperError::Unavailable(format!("{name}: {error}")))?;
            if !state.redis_alive {
                return Err(KeeperError::Unavailable(format!("{name}: {}", state.waiting_for)));
            }
            if !state.fresh {
                return Err(KeeperError::Conflict(format!("{name} has data, or had some")));
            }
        }
        Ok(())
    }

    async fn open_founded(&self, term: u64) -> Result<String, KeeperError> {
        let mut core = self.core().await;
        // An earlier attempt may have noted an identity; the shard keeps it.
        let shard_id = core.notes().shard_id.clone().unwrap_or_else(new_id);
        core.disk.change(|notes| {
            notes.shard_id = Some(shard_id.clone());
            notes.founded = true;
        })?;
        self.open(&mut core, term, &shard_id, true).await?;
        self.publish(&core);
        Ok(shard_id)
    }

    /// `POST /fence` and `/unfence`: whether this member may take writes when it is open.
    pub async fn set_fence(&self, fenced: bool) -> Result<(), KeeperError> {
        let mut core = self.core().await;
        core.disk.change(|notes| notes.fenced = fenced)?;
        if fenced {
            self.local.fence().await?;
        } else if core.open.is_some() && !core.handing_over {
            self.local.set_min_replicas(self.config.min_in_sync as u64).await?;
        }
        self.look(&mut core).await?;
        self.publish(&core);
        Ok(())
    }

    /// `POST /priority`.
    pub async fn set_priority(&self, request: &PriorityRequest) -> Result<(), KeeperError> {
        let held_back = match request.priority {
            None => false,
            Some(0) => true,
            Some(other) => {
                return Err(KeeperError::Conflict(format!(
                    "priority {other}: only 0 and null have a meaning"
                )));
            }
        };
        self.core().await.held_back = held_back;
        Ok(())
    }
}

fn new_id() -> String {
    let bytes: [u8; 16] = rand::random();
    bytes.iter().fold(String::new(), |mut id, byte| {
        write!(id, "{byte:02x}").expect("a string takes everything");
        id
    })
}
