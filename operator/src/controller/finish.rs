//! The end of a pass: the status, if it changed, and Events about what was done and what changed.
//!
//! What a condition answers, who is primary and what must not be forgotten is written at once. Counts and messages
//! change with every pod that starts, so they are written at most once in a while.

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::context::Context;
use super::events::{self, Told};
use super::reconcile::ReconcileError;
use crate::api::{TabaCluster, TabaClusterStatus};

/// The field manager of statuses.
const STATUS_MANAGER: &str = "taba-operator-status";

/// Between two statuses that differ only in details.
const DETAIL_PAUSE: Duration = Duration::from_secs(5);

/// Tells what was done, writes the status if it changed, and tells what changed. Returns when to come again if
/// details are still to be written.
pub(super) async fn finish(
    context: &Context,
    api: &Api<TabaCluster>,
    cluster: &TabaCluster,
    status: &TabaClusterStatus,
    told: &[Told],
) -> Result<Option<Duration>, ReconcileError> {
    let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
    for condition in &status.conditions {
        let is_true = condition.status == "True";
        context.metrics.condition(&namespace, &name, &condition.type_, is_true);
    }
    tell(context, cluster, told).await?;
    if cluster.status.as_ref() == Some(status) {
        return Ok(None);
    }
    let passed = context.remember(cluster, |it| it.status_written).map(|written| written.elapsed());
    let is_urgent = cluster.status.as_ref().is_none_or(|old| without_details(old) != without_details(status));
    if let Some(rest) = passed.and_then(|passed| DETAIL_PAUSE.checked_sub(passed))
        && !is_urgent
    {
        return Ok(Some(rest));
    }
    write_status(context, api, cluster, status).await?;
    context.remember(cluster, |it| it.status_written = Some(Instant::now()));
    tell(context, cluster, &events::changes(cluster.status.as_ref(), status)).await?;
    Ok(None)
}

/// What of a status is written at once.
fn without_details(status: &TabaClusterStatus) -> TabaClusterStatus {
    let mut status = status.clone();
    for condition in &mut status.conditions {
        condition.message.clear();
    }
    for shard in &mut status.shards {
        shard.in_sync.clear();
        shard.lag_bytes = None;
        shard.waiting_for = None;
    }
    (status.sentinel, status.frontend, status.backend, status.control) = (None, None, None, None);
    status.replicas = None;
    status
}

async fn tell(context: &Context, cluster: &TabaCluster, told: &[Told]) -> Result<(), ReconcileError> {
    let about = cluster.object_ref(&());
    for one in told {
        context.leadership.check()?;
        let published = context.recorder.publish(&one.event(), &about).await;
        context.metrics.write("event", "Event", published.is_ok());
        if let Err(error) = published {
            tracing::warn!(%error, reason = one.reason, "an event is not published");
        }
    }
    Ok(())
}

/// Carries the version that was read, so that a status of an old look never replaces a newer one.
async fn write_status(
    context: &Context,
    api: &Api<TabaCluster>,
    cluster: &TabaCluster,
    status: &TabaClusterStatus,
) -> Result<(), ReconcileError> {
    context.leadership.check()?;
    let patch = json!({
        "apiVersion": TabaCluster::api_version(&()),
        "kind": TabaCluster::kind(&()),
        "metadata": {"name": cluster.name_any(), "resourceVersion": cluster.resource_version()},
        "status": status,
    });
    let params = PatchParams::apply(STATUS_MANAGER).force();
    let written = api.patch_status(&cluster.name_any(), &params, &Patch::Apply(&patch)).await;
    context.metrics.write("status", "TabaCluster", written.is_ok());
    written.map(drop).map_err(|source| ReconcileError::Status(Box::new(source)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{RoleStatus, ShardStatus};

    fn status() -> TabaClusterStatus {
        let shard = ShardStatus { name: "s0".to_owned(), ..ShardStatus::default() };
        TabaClusterStatus { shards: vec![shard], ..TabaClusterStatus::default() }
    }

    #[track_caller]
    fn check(is_detail: bool, change: impl FnOnce(&mut TabaClusterStatus)) {
        let mut changed = status();
        change(&mut changed);
        assert_ne!(changed, status(), "a change");
        assert_eq!(without_details(&changed) == without_details(&status()), is_detail);
    }

    #[test]
    fn counts_may_wait_and_identities_and_primaries_may_not() {
        check(true, |status| status.shards[0].in_sync = vec!["main-s0-1".to_owned()]);
        check(true, |status| status.frontend = Some(RoleStatus { ready: None, updated: Some(1) }));
        check(false, |status| status.shards[0].shard_id = Some("id".to_owned()));
        check(false, |status| status.shards[0].primary = Some("main-s0-1".to_owned()));
        check(false, |status| status.observed_generation = Some(2));
        check(false, |status| status.image = Some("taba:2".to_owned()));
    }
}
