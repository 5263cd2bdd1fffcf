//! New images, rolled through a cluster that serves. `change` rolls templates.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::bed::Stage;
use crate::taba::{SETTLED, small_but};

const NEW_IMAGE: &str = "localhost/taba:test2";
const NEW_REDIS_IMAGE: &str = "localhost/redis:test2";

/// Two shards, so that the second one's turn is seen to come after the first one's.
pub fn new_images_roll_under_traffic(stage: &mut Stage) -> Result<()> {
    let taba = stage.taba("main", &small_but(&json!({"redis": {"shards": 2}})))?;
    let checker = stage.checker(&taba)?;
    let ids = |taba: &crate::taba::Taba| -> Result<Vec<serde_json::Value>> {
        let object = taba.object()?;
        let shards = object["status"]["shards"].as_array().cloned().unwrap_or_default();
        Ok(shards.into_iter().map(|shard| shard["shardId"].clone()).collect())
    };
    let before = ids(&taba)?;
    for (what, change) in [
        ("image of servers and keepers", json!({"image": NEW_IMAGE})),
        ("image of Redis", json!({"redis": {"image": NEW_REDIS_IMAGE}})),
    ] {
        let moment = checker.now()?;
        taba.patch(&change)?;
        let took = taba.settled()?;
        checker.flows()?;
        let gap = checker.gap_since(moment)?;
        stage.note(format!("{what}: rolled in {:.0} s, gap {gap} ms", took.as_secs_f64()));
        ensure!(took < SETTLED, "it took too long");
    }
    let images: BTreeSet<_> = taba.pods()?.into_iter().flat_map(|pod| pod.images).collect();
    let wanted = BTreeSet::from([NEW_IMAGE, NEW_REDIS_IMAGE].map(str::to_owned));
    ensure!(images == wanted, "pods run {images:?}");
    ensure!(ids(&taba)? == before, "a shard was founded anew");
    stage.judge(checker).map(drop)
}
