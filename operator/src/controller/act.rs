//! Does what was planned: asks keepers and Sentinels, deletes pods. Each act checks the Lease right before, and
//! meets a precondition at whoever carries it out: the pod's uid, the keeper's term.

use k8s_openapi::api::core::v1::Pod as KubePod;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client};
use thiserror::Error;

use super::events::Told;
use super::observe::keeper;
use super::plan::{Action, Why};
use super::watch::{Repair, commands};
use super::world::{Member, Shard, World};
use crate::build::{SENTINEL_PORT, Secrets, WatchSettings};
use crate::keepers::{KeeperError, Keepers};
use crate::leader::{Leadership, NotLeader};
use crate::metrics::Metrics;
use crate::sentinels::{self, SentinelError};

/// Something planned was not done.
#[derive(Debug, Error)]
pub enum ActError {
    /// This operator may not act any more.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The member is not where it was.
    #[error("{0} is gone")]
    Gone(String),
    /// A keeper did not do it.
    #[error("keeper of {member} {source}")]
    Keeper {
        /// The member.
        member: String,
        /// Why.
        source: KeeperError,
    },
    /// A Sentinel did not do it.
    #[error("{sentinel} {source}")]
    Sentinel {
        /// The Sentinel.
        sentinel: String,
        /// Why.
        source: SentinelError,
    },
    /// A pod was not deleted.
    #[error("delete pod {pod}")]
    Delete {
        /// The pod.
        pod: String,
        /// Why.
        source: Box<kube::Error>,
    },
}

/// Acts for one cluster.
pub struct Actor<'a> {
    /// The API server.
    pub client: &'a Client,
    /// The cluster's namespace.
    pub namespace: &'a str,
    /// Whether this operator may act.
    pub leadership: &'a Leadership,
    /// The client of keepers.
    pub keepers: &'a Keepers,
    /// Passwords and tokens.
    pub secrets: &'a Secrets,
    /// Where acts are counted.
    pub metrics: &'a Metrics,
}

impl Actor<'_> {
    /// Does one act, and says what to tell about it.
    ///
    /// # Errors
    /// If it was not done, or not certainly. Planning again from what is observed then tells.
    pub async fn act(&self, action: &Action, world: &World) -> Result<Told, ActError> {
        self.leadership.check()?;
        let (kind, outcome) = match action {
            Action::Found { shard, member } => ("found", self.found(&world.shards[*shard], member).await),
            Action::HandOver { shard, from } => {
                ("hand_over", self.hand_over(&world.shards[*shard], from).await)
            }
            Action::DeletePod { pod, uid, why, .. } => ("delete_pod", self.delete(pod, uid, *why).await),
        };
        self.metrics.act(kind, outcome.is_ok());
        outcome
    }

    /// Sets one entry of one Sentinel right.
    ///
    /// # Errors
    /// As [`Actor::act`].
    pub async fn repair(
        &self,
        repair: &Repair,
        world: &World,
        settings: &WatchSettings,
    ) -> Result<Told, ActError> {
        self.leadership.check()?;
        let outcome = self.repair_sentinel(repair, world, settings).await;
        self.metrics.act("repair_sentinel", outcome.is_ok());
        outcome
    }

    async fn found(&self, shard: &Shard, member: &str) -> Result<Told, ActError> {
        let keeper = keeper_of(shard, member)?;
        let answer = self.keepers.found(&keeper, self.secrets.keeper_token()).await;
        let answer = answer.map_err(|source| ActError::Keeper { member: member.to_owned(), source })?;
        tracing::info!(shard = shard.master, shard_id = answer.shard_id, member, "shard founded");
        Ok(Told::normal(
            "ShardFounded",
            "Found",
            format!("shard {} is founded, primary {member}", shard.name),
        ))
    }

    async fn hand_over(&self, shard: &Shard, from: &str) -> Result<Told, ActError> {
        let keeper = keeper_of(shard, from)?;
        let answer = self.keepers.hand_over(&keeper, self.secrets.keeper_token(), None).await;
        let answer = answer.map_err(|source| ActError::Keeper { member: from.to_owned(), source })?;
        tracing::info!(
            shard = shard.master,
            from,
            to = answer.primary,
            gap_ms = answer.gap_ms,
            "handed over"
        );
        let note = format!(
            "{from} handed shard {} over to {}, because its pod is to be replaced; writes waited {} ms",
            shard.name, answer.primary, answer.gap_ms
        );
        Ok(Told::normal("HandedOver", "HandOver", note))
    }

    async fn delete(&self, pod: &str, uid: &str, why: Why) -> Result<Told, ActError> {
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            ..DeleteParams::default()
        };
        let api: Api<KubePod> = Api::namespaced(self.client.clone(), self.namespace);
        let deleted = api.delete(pod, &params).await;
        deleted.map_err(|source| ActError::Delete { pod: pod.to_owned(), source: Box::new(source) })?;
        let cause = match why {
            Why::Outdated => "its template is old",
            Why::Broken => "its template is old and it does not run",
        };
        tracing::info!(pod, uid, cause, "pod deleted");
        Ok(Told::normal("PodReplaced", "DeletePod", format!("pod {pod} is replaced: {cause}")))
    }

    async fn repair_sentinel(
        &self,
        repair: &Repair,
        world: &World,
        settings: &WatchSettings,
    ) -> Result<Told, ActError> {
        let gone = || ActError::Gone(repair.sentinel.clone());
        let sentinel = world.sentinels.iter().find(|one| one.name == repair.sentinel).ok_or_else(gone)?;
        let ip = sentinel.pod.as_ref().and_then(|pod| pod.ip).ok_or_else(gone)?;
        let shard = &world.shards[repair.shard];
        let password = self.secrets.shard_password(repair.shard);
        let commands = commands(repair, &shard.master, settings, password);
        tracing::info!(sentinel = repair.sentinel, ?commands, "a sentinel is set right");
        sentinels::command(ip, SENTINEL_PORT, self.secrets.sentinel_password(), &commands)
            .await
            .map_err(|source| ActError::Sentinel { sentinel: repair.sentinel.clone(), source })?;
        let note = format!("{} is set right about shard {}: {:?}", repair.sentinel, shard.name, repair.fault);
        Ok(Told::normal("SentinelRepaired", "RepairSentinel", note))
    }
}

fn keeper_of(shard: &Shard, name: &str) -> Result<crate::keepers::Keeper, ActError> {
    let member = shard.members.iter().find(|member| member.name == name);
    let pod = member.and_then(|member: &Member| member.pod.as_ref());
    pod.and_then(|pod| keeper(&shard.master, pod)).ok_or_else(|| ActError::Gone(name.to_owned()))
}
