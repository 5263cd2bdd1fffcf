//! The end of a pass: the status, if it changed, and Events about what was done and what changed.

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::context::Context;
use super::events::{self, Told};
use super::reconcile::ReconcileError;
use crate::api::{TabaCluster, TabaClusterStatus};

/// The field manager of statuses.
const STATUS_MANAGER: &str = "taba-operator-status";

/// Tells what was done, writes the status if it changed, and tells what changed.
pub(super) async fn finish(
    context: &Context,
    api: &Api<TabaCluster>,
    cluster: &TabaCluster,
    status: &TabaClusterStatus,
    told: &[Told],
) -> Result<(), ReconcileError> {
    let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
    for condition in &status.conditions {
        let is_true = condition.status == "True";
        context.metrics.condition(&namespace, &name, &condition.type_, is_true);
    }
    tell(context, cluster, told).await?;
    if cluster.status.as_ref() == Some(status) {
        return Ok(());
    }
    write_status(context, api, cluster, status).await?;
    tell(context, cluster, &events::changes(cluster.status.as_ref(), status)).await
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
