//! Every field that can change, changed on a cluster that serves: what restarts and what does not.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::bed::Stage;
use crate::checker::Checker;
use crate::kubectl::{condition, is_true};
use crate::taba::{Pod, Taba, conditions, small};

const SERVERS: [&str; 3] = ["backend", "control", "frontend"];
const SERVERS_AND_SHARDS: [&str; 4] = ["backend", "control", "frontend", "redis"];
const ALL: [&str; 5] = ["backend", "control", "frontend", "redis", "sentinel"];

/// A change, and the components whose pods it replaces.
type Change = (Value, &'static [&'static str]);

fn annotated(note: &str) -> Value {
    json!({"podTemplate": {"annotations": {"example.org/note": note}}})
}

/// Two changes to the same pods, so that these restart once.
fn and_memory(mut change: Value, limit: &str) -> Value {
    change["resources"] = json!({"limits": {"memory": limit}});
    change
}

fn of_shards() -> [Change; 6] {
    [
        (json!({"redis": and_memory(annotated("new"), "300Mi")}), &["redis"]),
        (json!({"durability": "Fsync"}), &SERVERS_AND_SHARDS),
        (json!({"durability": "Primary"}), &SERVERS_AND_SHARDS),
        // Before more pods go: what only a primary holds may be lost with it.
        (json!({"durability": "Replicated"}), &SERVERS),
        (json!({"redis": {"replicas": 3}}), &["redis"]),
        (json!({"deletionPolicy": "Delete"}), &[]),
    ]
}

fn of_others() -> [Change; 8] {
    [
        (json!({"frontend": {"replicas": 3}}), &[]),
        (json!({"frontend": {"resources": {"requests": {"cpu": "30m"}}}}), &["frontend"]),
        (json!({"backend": {"podTemplate": {"labels": {"team": "metrics"}}}}), &["backend"]),
        (json!({"control": annotated("new")}), &["control"]),
        (json!({"sentinel": {"downAfter": "4s"}}), &[]),
        (json!({"sentinel": and_memory(annotated("new"), "70Mi")}), &["sentinel"]),
        // All others are told more Sentinels; these are set another quorum while they run.
        (json!({"sentinel": {"replicas": 5}}), &SERVERS_AND_SHARDS),
        // Not Kubernetes' own default, which would change nothing.
        (json!({"imagePullPolicy": "Never"}), &ALL),
    ]
}

pub fn every_change_of_shards_restarts_only_what_it_must(stage: &mut Stage) -> Result<()> {
    let taba = stage.taba("main", &small())?;
    let checker = stage.checker(&taba)?;
    try_all(stage, &taba, &checker, &of_shards())?;
    a_volume_that_cannot_grow_is_told(&taba)?;
    stage.judge(checker).map(drop)
}

pub fn every_other_change_restarts_only_what_it_must(stage: &mut Stage) -> Result<()> {
    let taba = stage.taba("main", &small())?;
    let checker = stage.checker(&taba)?;
    try_all(stage, &taba, &checker, &of_others())?;
    paused_means_nothing_is_done(&taba)?;
    stage.judge(checker).map(drop)
}

fn try_all(stage: &mut Stage, taba: &Taba, checker: &Checker, changes: &[Change]) -> Result<()> {
    for (change, expected) in changes {
        let (before, moment) = (taba.pods()?, checker.now()?);
        taba.patch(change)?;
        let took = taba.settled().with_context(|| format!("after {change}"))?;
        checker.flows()?;
        let restarted = replaced(&before, &taba.pods()?);
        ensure!(restarted == expected.iter().copied().collect(), "{change} replaced pods of {restarted:?}");
        let gap = checker.gap_since(moment)?;
        stage.note(format!("{change}: {restarted:?} in {:.0} s, gap {gap} ms", took.as_secs_f64()));
    }
    Ok(())
}

/// Components of which a pod that was there is there no more, or lives another life.
fn replaced<'a>(before: &'a [Pod], after: &[Pod]) -> BTreeSet<&'a str> {
    let lives_on = |pod: &Pod| after.iter().any(|now| now.name == pod.name && !now.is_later_than(pod));
    before.iter().filter(|pod| !lives_on(pod)).map(|pod| pod.component.as_str()).collect()
}

fn paused_means_nothing_is_done(taba: &Taba) -> Result<()> {
    let before = taba.pods()?;
    taba.patch(&json!({"paused": true, "control": annotated("paused")}))?;
    taba.wait("says that it is paused", || {
        let object = taba.object()?;
        let is_new = object["status"]["observedGeneration"] == object["metadata"]["generation"];
        let is_paused = condition(&object, "Progressing").is_some_and(|one| one["reason"] == "Paused");
        ensure!(is_new && is_paused, "{}", conditions(&object));
        Ok(())
    })?;
    let touched = replaced(&before, &taba.pods()?);
    ensure!(touched.is_empty(), "paused, and {touched:?} were replaced");
    taba.patch(&json!({"paused": false}))?;
    taba.settled()?;
    let touched = replaced(&before, &taba.pods()?);
    ensure!(touched == BTreeSet::from(["control"]), "after the pause {touched:?} were replaced");
    Ok(())
}

/// Volumes of this cluster's class keep their size.
fn a_volume_that_cannot_grow_is_told(taba: &Taba) -> Result<()> {
    taba.patch(&json!({"redis": {"storage": {"size": "300Mi"}}}))?;
    taba.wait("says that volumes cannot grow", || {
        let object = taba.object()?;
        let said = condition(&object, "Degraded").is_some_and(|one| one["reason"] == "VolumeCannotGrow");
        ensure!(said && is_true(&object, "Available"), "{}", conditions(&object));
        Ok(())
    })
}
