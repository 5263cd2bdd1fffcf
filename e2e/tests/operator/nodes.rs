//! Parts of Kubernetes that fail under a cluster that serves. The checker runs on a node that does not fail.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use taba_e2e::api::{get, list};
use taba_e2e::runner::{run, xtask};

use crate::bed::Stage;
use crate::checker::{Checker, Moment};
use crate::kill::delete;
use crate::kubectl::{is_true, kubectl, text, until};
use crate::taba::{Taba, kill, merge, small};

/// A node that is silent for 20 s is not Ready.
const NOTICED: Duration = Duration::from_secs(120);
/// How long the API server is away: longer than leases last. Nobody can be asked for anything meanwhile.
const AWAY: Duration = Duration::from_secs(25);
/// Of the 240 that four producers post in that time; a failover costs a fifth of them.
const BATCHES_MIN: u64 = 100;
/// Long enough for every Sentinel to ask for many names, and to be asked by the next.
const DEAF: Duration = Duration::from_secs(10);
/// A Sentinel that waited for a name server does nothing for 30 s.
const CHOSEN: Duration = Duration::from_secs(20);
/// How long a drain may take; what it cannot evict by then, it must not.
const DRAIN: &str = "--timeout=30s";

/// Marks nodes that are harmed: only pods of scenarios that harm them go there, so that all others may run meanwhile.
pub const HARMED: &str = "example.org/harmed";
/// How many are harmed, and at least how many are not.
const NODES: (usize, usize) = (2, 2);

/// Sets the last nodes apart.
pub fn set_apart() -> Result<()> {
    let names = named("")?;
    ensure!(names.len() >= NODES.0 + NODES.1, "{names:?} are too few: `cargo xtask down` first");
    names[names.len() - NODES.0..].iter().try_for_each(|node| {
        kubectl(&["label", "node", node, &format!("{HARMED}=yes"), "--overwrite"])?;
        kubectl(&["taint", "node", node, &format!("{HARMED}=yes:NoExecute"), "--overwrite"]).map(drop)
    })
}

/// Waits until nothing that others need is on them.
pub fn are_apart() -> Result<()> {
    for node in harmed_nodes()? {
        until(&format!("{node} is empty"), NOTICED, || {
            let left = list(&format!("/api/v1/pods?fieldSelector=spec.nodeName={node}"))?.len();
            ensure!(left == 0, "{left} pods are there");
            Ok(())
        })?;
    }
    for namespace in ["kube-system", "local-path-storage"] {
        let words = ["rollout", "status", "deployment", "--namespace", namespace, "--timeout=180s"];
        kubectl(&words)?;
    }
    Ok(())
}

/// Nodes for those that harm them.
pub fn harmed_nodes() -> Result<Vec<String>> {
    named(&format!("?labelSelector={HARMED}"))
}

fn named(query: &str) -> Result<Vec<String>> {
    let nodes = list(&format!("/api/v1/nodes{query}"))?;
    Ok(nodes.iter().map(|node| text(node, "/metadata/name").to_owned()).collect())
}

/// A spec whose pods are all on harmed nodes; a checker is elsewhere.
pub fn on_harmed_nodes(mut spec: Value) -> Value {
    let there = json!({
        "nodeSelector": {HARMED: "yes"},
        "tolerations": [{"key": HARMED, "operator": "Exists"}],
    });
    let roles = ["redis", "sentinel", "frontend", "backend", "control"];
    let templates = roles.map(|role| (role.to_owned(), json!({"podTemplate": there})));
    merge(&mut spec, &Value::Object(templates.into_iter().collect()));
    spec
}

/// One after the other, on the same cluster: what one way left behind, the next one meets.
pub fn nodes_fail_in_every_way(stage: &mut Stage) -> Result<()> {
    let taba = stage.taba("main", &on_harmed_nodes(small()))?;
    let checker = stage.checker(&taba)?;
    a_node_is_cut_off_and_one_is_killed(stage, &taba, &checker)?;
    every_node_is_drained(stage, &taba, &checker)?;
    kubelets_die(stage, &taba, &checker)?;
    a_primary_is_lost_while_name_servers_are_silent(stage, &taba, &checker)?;
    stage.judge(checker).map(drop)
}

/// Nothing that Taba needs to serve asks it.
pub fn the_api_server_dies(stage: &mut Stage) -> Result<()> {
    let taba = stage.taba("main", &small())?;
    let checker = stage.checker(&taba)?;
    stage.alone(2);
    let moment = checker.now()?;
    let primary = taba.primary(0)?;
    let down = Harm::begin("control/kube-apiserver")?;
    // Sentinels and keepers have to do without the operator, which can see nothing.
    kill(&[&primary])?;
    std::thread::sleep(AWAY);
    down.end()?;
    let after = until("the checker answers", NOTICED, || checker.now())?;
    let meanwhile = after.batches() - moment.batches();
    ensure!(meanwhile > BATCHES_MIN, "only {meanwhile} batches while the API server was away");
    taba.healed_after(&primary)?;
    taba.settled()?;
    stage.note(format!("API server away: {meanwhile} batches meanwhile, {}", gap(&checker, moment)?));
    stage.judge(checker).map(drop)
}

/// Each until its node is not Ready.
fn kubelets_die(stage: &mut Stage, taba: &Taba, checker: &Checker) -> Result<()> {
    for node in harmed_nodes()? {
        let moment = checker.now()?;
        let down = Harm::begin(&format!("{node}/kubelet"))?;
        is_ready(&node, false)?;
        checker.flows()?;
        down.end()?;
        is_ready(&node, true)?;
        taba.settled()?;
        stage.note(format!("kubelet of {node} away: {}", gap(checker, moment)?));
    }
    Ok(())
}

/// Each node once in both ways. Where most Sentinels were on it, posts wait until it is back.
fn a_node_is_cut_off_and_one_is_killed(stage: &mut Stage, taba: &Taba, checker: &Checker) -> Result<()> {
    for node in harmed_nodes()? {
        for (way, harm, repair) in [("cut off", "cut", "join"), ("killed", "kill", "start")] {
            let moment = checker.now()?;
            let here = taba.pods()?.iter().filter(|pod| pod.node == node).count();
            let harm = Harm::of(harm, &node, repair)?;
            is_ready(&node, false)?;
            harm.end()?;
            is_ready(&node, true)?;
            taba.settled()?;
            stage.note(format!("{node} with {here} pods {way}: {}", gap(checker, moment)?));
        }
    }
    Ok(())
}

/// Half of what is asked of name servers gets no answer, as when one of two is gone with its node; and then the primary
/// goes, for good until others have taken over.
fn a_primary_is_lost_while_name_servers_are_silent(
    stage: &mut Stage,
    taba: &Taba,
    checker: &Checker,
) -> Result<()> {
    let nodes = harmed_nodes()?;
    let deaf: Vec<_> = nodes.iter().map(|node| Harm::of("deafen", node, "hear")).collect::<Result<_>>()?;
    std::thread::sleep(DEAF);
    let moment = checker.now()?;
    let primary = taba.primary(0)?;
    let closed = Uncordon::after_cordon(primary.node.clone())?;
    kill(&[&primary])?;
    delete(&taba.namespace, &primary.name, true)?;
    let lost = Instant::now();
    taba.wait("has another primary", || {
        ensure!(taba.primary(0)?.name != primary.name, "it is {} still", primary.name);
        Ok(())
    })?;
    let chosen = lost.elapsed();
    checker.flows()?;
    stage.note(format!(
        "the primary was lost while every other question for a name was: another after {:.1} s, gap {} ms",
        chosen.as_secs_f64(),
        checker.gap_since(moment)?,
    ));
    drop(closed);
    deaf.into_iter().try_for_each(Harm::end)?;
    taba.healed_after(&primary)?;
    ensure!(chosen < CHOSEN, "Sentinels waited for name servers");
    Ok(())
}

/// A volume of this cluster stays on its node, so its pod waits there for the node, and budgets keep a drain from
/// taking a second one of its kind. What is evicted or refused, nothing may be lost and posts go on.
fn every_node_is_drained(stage: &mut Stage, taba: &Taba, checker: &Checker) -> Result<()> {
    for node in harmed_nodes()? {
        let moment = checker.now()?;
        let open = Uncordon(node.clone());
        let words =
            ["kubectl", "drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", DRAIN];
        let drained = xtask(&words).output().context("drain a node")?;
        let said = String::from_utf8_lossy(&drained.stderr).into_owned();
        ensure!(drained.status.success() || said.contains("disruption budget"), "drain: {said}");
        let left: Vec<_> = taba.pods()?.into_iter().filter(|pod| pod.node == node).collect();
        let stateless: Vec<_> =
            left.iter().filter(|pod| !matches!(pod.component.as_str(), "redis" | "sentinel")).collect();
        ensure!(stateless.is_empty(), "servers are left on {node}: {stateless:?}");
        checker.flows()?;
        drop(open);
        taba.settled()?;
        let word = if left.is_empty() { "whole".to_owned() } else { format!("but {}", left.len()) };
        stage.note(format!("{node} drained ({word}) and back: {}", gap(checker, moment)?));
    }
    Ok(())
}

fn gap(checker: &Checker, moment: Moment) -> Result<String> {
    checker.flows()?;
    Ok(format!("gap {} ms", checker.gap_since(moment)?))
}

fn is_ready(node: &str, wanted: bool) -> Result<()> {
    until(&format!("{node} is Ready: {wanted}"), NOTICED, || {
        let found = get(&format!("/api/v1/nodes/{node}"))?;
        ensure!(is_true(&found, "Ready") == wanted, "it is {}", !wanted);
        Ok(())
    })
}

/// Something that is broken until this ends, also when a scenario fails.
struct Harm {
    what: String,
    repair: Option<&'static str>,
}

impl Harm {
    fn begin(what: &str) -> Result<Self> {
        Self::of("kill", what, "start")
    }

    fn of(deed: &str, what: &str, repair: &'static str) -> Result<Self> {
        run(&["cluster", deed, what])?;
        Ok(Self { what: what.to_owned(), repair: Some(repair) })
    }

    fn end(mut self) -> Result<()> {
        self.repair()
    }

    fn repair(&mut self) -> Result<()> {
        let Some(repair) = self.repair.take() else { return Ok(()) };
        run(&["cluster", repair, &self.what]).map(drop)
    }
}

impl Drop for Harm {
    fn drop(&mut self) {
        if let Err(error) = self.repair() {
            eprintln!("{} stays broken: {error:#}", self.what);
        }
    }
}

/// A node that takes no pods until this ends.
pub struct Uncordon(String);

impl Uncordon {
    /// Lets it take none from now on.
    pub fn after_cordon(node: String) -> Result<Self> {
        let open = Self(node);
        kubectl(&["cordon", &open.0])?;
        Ok(open)
    }
}

impl Drop for Uncordon {
    fn drop(&mut self) {
        if let Err(error) = kubectl(&["uncordon", &self.0]) {
            eprintln!("{} takes no pods: {error:#}", self.0);
        }
    }
}
