//! Deletion: what stays, what goes, and that nothing hangs.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use taba_e2e::api::{list, path};

use crate::bed::{OPERATOR, OPERATOR_NAMESPACE, Stage, operator_pods};
use crate::kubectl::{condition, kubectl, text, until};
use crate::taba::{Taba, conditions, small, small_but};

const GONE: Duration = Duration::from_secs(180);
/// Three members of the shard and three Sentinels.
const CLAIMS: usize = 6;

pub fn retained_data_are_served_by_a_new_cluster_of_the_same_name(stage: &mut Stage) -> Result<()> {
    let taba = stage.taba("main", &small())?;
    let checker = stage.checker(&taba)?;
    let first = stage.judge(checker)?;
    let id = taba.object()?["status"]["shards"][0]["shardId"].clone();
    delete(&taba)?;
    emptied(&taba)?;
    ensure!(claims(&taba)? == CLAIMS, "{} claims are left", claims(&taba)?);

    // Whoever comes back with fewer members is told, and loses nothing.
    let taba = Taba::create(stage.namespace(), "main", &small_but(&json!({"redis": {"replicas": 1}})))?;
    taba.wait("says that the claims do not fit", || {
        let object = taba.object()?;
        let is_told =
            condition(&object, "Degraded").is_some_and(|one| one["reason"] == "RetainedDataDiffers");
        ensure!(is_told && taba.pods()?.is_empty(), "{}", conditions(&object));
        Ok(())
    })?;
    delete(&taba)?;

    let taba = stage.taba("main", &small())?;
    let now = taba.object()?["status"]["shards"][0]["shardId"].clone();
    ensure!(now == id, "another shard: {now} after {id}");
    let checker = stage.checker(&taba)?;
    let second = stage.judge(checker)?;
    ensure!(second.found == first.acknowledged, "{} events were found again", second.found);

    taba.patch(&json!({"deletionPolicy": "Delete"}))?;
    taba.settled()?;
    delete(&taba)?;
    emptied(&taba)?;
    until("its volumes are gone", GONE, || {
        let left = claims(&taba)?;
        ensure!(left == 0, "{left} claims are left");
        Ok(())
    })
}

pub fn nothing_is_left_or_stuck_in_whatever_order_things_go(stage: &mut Stage) -> Result<()> {
    // Before it ever was there.
    let taba = Taba::create(stage.namespace(), "main", &small())?;
    taba.wait("has pods", || {
        ensure!(!taba.pods()?.is_empty(), "none");
        Ok(())
    })?;
    delete(&taba)?;
    emptied(&taba)?;

    // Another one of its name at once, beside what the first one leaves.
    let taba = stage.taba("main", &small())?;
    delete(&taba)?;
    let taba = stage.taba("main", &small())?;

    // After the operator.
    let away = Away::begin()?;
    delete(&taba)?;
    emptied(&taba)?;
    drop(away);

    // With the namespace: its end is waited for where every scenario ends.
    stage.taba("main", &small()).map(drop)
}

/// The operator is away while this lives.
struct Away;

impl Away {
    fn begin() -> Result<Self> {
        let away = Self;
        scale(0)?;
        until("the operator is away", GONE, || {
            let left = operator_pods()?.len();
            ensure!(left == 0, "{left} pods are left");
            Ok(())
        })?;
        Ok(away)
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let back = scale(1);
        let words = ["rollout", "status", OPERATOR, "--namespace", OPERATOR_NAMESPACE, "--timeout=180s"];
        if let Err(error) = back.and_then(|()| kubectl(&words).map(drop)) {
            eprintln!("the operator is not back: {error:#}");
        }
    }
}

fn scale(replicas: u8) -> Result<()> {
    let replicas = format!("--replicas={replicas}");
    kubectl(&["scale", OPERATOR, "--namespace", OPERATOR_NAMESPACE, &replicas])?;
    Ok(())
}

fn delete(taba: &Taba) -> Result<()> {
    let words = ["delete", "tabacluster", &taba.name, "--namespace", &taba.namespace, "--timeout=60s"];
    kubectl(&words).map(drop)
}

/// Waits until all that the operator made is gone, volumes apart.
fn emptied(taba: &Taba) -> Result<()> {
    const KINDS: [&str; 10] = [
        "pods",
        "apps/v1 statefulsets",
        "apps/v1 deployments",
        "services",
        "secrets",
        "configmaps",
        "serviceaccounts",
        "policy/v1 poddisruptionbudgets",
        "networking.k8s.io/v1 networkpolicies",
        "autoscaling/v2 horizontalpodautoscalers",
    ];
    let selector =
        format!("labelSelector=app.kubernetes.io/name=taba,app.kubernetes.io/instance={}", taba.name);
    until("all objects are gone", GONE, || {
        KINDS.iter().try_for_each(|kind| {
            let left = list(&path(&taba.namespace, &format!("{kind}?{selector}")))?;
            let names: Vec<_> = left.iter().map(|object| text(object, "/metadata/name")).collect();
            ensure!(names.is_empty(), "{kind} left: {names:?}");
            Ok(())
        })
    })
}

fn claims(taba: &Taba) -> Result<usize> {
    Ok(list(&path(&taba.namespace, "persistentvolumeclaims"))?.len())
}
