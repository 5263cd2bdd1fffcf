//! Several clusters side by side, which lose all their addresses to each other.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::bed::Stage;
use crate::kubectl::{kubectl, until};
use crate::nodes::{Uncordon, harmed_nodes, on_harmed_nodes};
use crate::taba::{Taba, small_but};

/// The nodes' folders. In its own each keeps the address it gave last, and gives the next one in turn, which nobody had.
const NODES: &str = "/var/lib/taba-cluster";
/// A member of a shard has ninety seconds to end.
const FREED: Duration = Duration::from_secs(180);
/// Rounds in which addresses may change owners. One is nearly always enough.
const ROUNDS: usize = 4;

/// Two in one namespace, and one in another that has the name of the first.
pub fn clusters_do_not_meet_even_with_each_others_addresses(stage: &mut Stage) -> Result<()> {
    let other = format!("{}-other", stage.namespace());
    stage.add_namespace(&other)?;
    // Where nobody else takes addresses.
    let spec = on_harmed_nodes(small_but(&json!({
        "redis": {"replicas": 1, "minInSync": 0}, "frontend": {"replicas": 1}, "backend": {"replicas": 1},
    })));
    let place = stage.namespace().to_owned();
    let clusters = [(place.as_str(), "main"), (place.as_str(), "second"), (other.as_str(), "main")]
        .map(|(namespace, name)| Taba::create(namespace, name, &spec))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    clusters.iter().try_for_each(|taba| taba.settled().map(drop))?;
    let ids = shard_ids(&clusters)?;
    let distinct: BTreeSet<_> = ids.iter().collect();
    ensure!(distinct.len() == clusters.len(), "shards share an identity: {ids:?}");

    let checkers = clusters.iter().map(|taba| stage.checker(taba)).collect::<Result<Vec<_>>>()?;
    let mut moved = 0;
    for _ in 0..ROUNDS {
        moved += exchange_addresses(&clusters)?;
        clusters.iter().try_for_each(|taba| taba.settled().map(drop))?;
        if moved > 0 {
            break;
        }
    }
    stage.note(format!("{moved} pods got the address of a pod of another cluster"));
    ensure!(moved > 0, "no address changed its owner, so nothing was tried");
    ensure!(shard_ids(&clusters)? == ids, "a shard has another identity");
    for checker in checkers {
        checker.flows()?;
        stage.judge(checker)?;
    }
    Ok(())
}

fn shard_ids(clusters: &[Taba]) -> Result<Vec<String>> {
    let id = |taba: &Taba| {
        let object = taba.object()?;
        object["status"]["shards"][0]["shardId"]
            .as_str()
            .map(str::to_owned)
            .context("a shard has an identity")
    };
    clusters.iter().map(id).collect()
}

/// Deletes all pods of all clusters at once; how many then have an address that was another cluster's. New pods start
/// only when all old addresses are free, or they would get others.
fn exchange_addresses(clusters: &[Taba]) -> Result<usize> {
    let before = owners(clusters)?;
    let nodes = harmed_nodes()?;
    let closed = nodes.iter().cloned().map(Uncordon::after_cordon).collect::<Result<Vec<_>>>()?;
    for namespace in clusters.iter().map(|taba| &taba.namespace).collect::<BTreeSet<_>>() {
        let words = ["delete", "pods", "--selector=app.kubernetes.io/name=taba", "--namespace", namespace];
        kubectl(&[&words[..], &["--grace-period=0", "--force", "--wait=false"]].concat())?;
    }
    let addresses: BTreeSet<_> = before.iter().flat_map(|(_, pods)| pods).map(|pod| &pod.ip[..]).collect();
    until("all addresses are free", FREED, || {
        let kept: Vec<_> =
            address_files(&nodes)?.into_iter().filter(|file| addresses.contains(name(file))).collect();
        ensure!(kept.is_empty(), "kept: {kept:?}");
        Ok(())
    })?;
    forget_last_addresses(&nodes)?;
    drop(closed);
    for (taba, (_, pods)) in clusters.iter().zip(&before) {
        for pod in pods.iter().filter(|pod| matches!(pod.component.as_str(), "redis" | "sentinel")) {
            taba.healed_after(pod)?;
        }
    }
    let had: BTreeMap<_, _> =
        before.iter().flat_map(|(at, pods)| pods.iter().map(move |pod| (pod.ip.clone(), *at))).collect();
    let after = owners(clusters)?;
    let has = after.iter().flat_map(|(at, pods)| pods.iter().map(move |pod| (pod.ip.clone(), *at)));
    Ok(has.filter(|(ip, at)| had.get(ip).is_some_and(|owner| owner != at)).count())
}

fn owners(clusters: &[Taba]) -> Result<Vec<(usize, Vec<crate::taba::Pod>)>> {
    clusters.iter().enumerate().map(|(at, taba)| Ok((at, taba.pods()?))).collect()
}

/// Makes nodes begin again with their lowest free addresses.
fn forget_last_addresses(nodes: &[String]) -> Result<()> {
    let files = address_files(nodes)?;
    let last: Vec<_> = files.iter().filter(|file| name(file).starts_with("last_reserved_ip")).collect();
    ensure!(!last.is_empty(), "no node keeps its last address in {NODES}");
    last.into_iter()
        .try_for_each(|file| fs::remove_file(file).with_context(|| format!("remove {}", file.display())))
}

/// What nodes keep about addresses: a file with the name of each that is in use, and one with the last.
fn address_files(nodes: &[String]) -> Result<Vec<PathBuf>> {
    let networks = nodes.iter().map(|node| {
        let folder = Path::new(NODES).join(node).join("cni/networks");
        fs::read_dir(&folder).with_context(|| format!("only a cluster of this machine: {}", folder.display()))
    });
    let networks = networks.collect::<Result<Vec<_>>>()?;
    let files =
        networks.into_iter().flatten().flatten().filter_map(|network| fs::read_dir(network.path()).ok());
    Ok(files.flatten().flatten().map(|file| file.path()).collect())
}

fn name(file: &Path) -> &str {
    file.file_name().and_then(OsStr::to_str).unwrap_or_default()
}
