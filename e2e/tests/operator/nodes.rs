//! Parts of Kubernetes that fail under a cluster that serves. The checker runs on a node that does not.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use taba_e2e::runner::{run, xtask};

use crate::bed::Stage;
use crate::checker::{Checker, Moment};
use crate::kubectl::{get, is_true, kubectl, list, text, until};
use crate::taba::{Taba, kill, small};

/// A node that is silent for 20 s is not Ready.
const NOTICED: Duration = Duration::from_secs(120);
/// How long the API server is away: longer than leases last. Nobody can be asked for anything meanwhile.
const AWAY: Duration = Duration::from_secs(25);
/// Of the 2,000 that four producers post in that time; a failover costs a fifth of them.
const BATCHES_MIN: u64 = 300;
/// How long a drain may take; what it cannot evict by then, it must not.
const DRAIN: &str = "--timeout=120s";

/// The API server first: nothing that Taba needs to serve asks it.
pub fn the_api_server_and_kubelets_die(stage: &mut Stage) -> Result<()> {
    let taba = stage.taba("main", &small())?;
    let mut checker = stage.checker(&taba, None)?;
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

    for node in nodes()? {
        stage.judge(checker)?;
        checker = beside(stage, &taba, &node)?;
        let moment = checker.now()?;
        let down = Harm::begin(&format!("{node}/kubelet"))?;
        is_ready(&node, false)?;
        checker.flows()?;
        down.end()?;
        is_ready(&node, true)?;
        taba.settled()?;
        stage
            .note(format!("kubelet of {node} away until the node was not Ready: {}", gap(&checker, moment)?));
    }
    stage.judge(checker).map(drop)
}

/// Each node once in both ways. Where most Sentinels were on it, posts wait until it is back.
pub fn a_node_is_cut_off_and_one_is_killed(stage: &mut Stage) -> Result<()> {
    let taba = stage.taba("main", &small())?;
    for node in nodes()? {
        let checker = beside(stage, &taba, &node)?;
        for (way, harm, repair) in [("cut off", "cut", "join"), ("killed", "kill", "start")] {
            let moment = checker.now()?;
            let here = taba.pods()?.iter().filter(|pod| pod.node == node).count();
            let harm = Harm::of(harm, &node, repair)?;
            is_ready(&node, false)?;
            harm.end()?;
            is_ready(&node, true)?;
            taba.settled()?;
            checker.flows()?;
            stage.note(format!("{node} with {here} pods {way}: {}", gap(&checker, moment)?));
        }
        stage.judge(checker)?;
    }
    Ok(())
}

/// A volume of this cluster stays on its node, so its pod waits there for the node, and budgets keep a drain from
/// taking a second one of its kind. What is evicted or refused, nothing may be lost and posts go on.
pub fn every_node_is_drained(stage: &mut Stage) -> Result<()> {
    let taba = stage.taba("main", &small())?;
    for node in nodes()? {
        let checker = beside(stage, &taba, &node)?;
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
        stage.note(format!("{node} drained ({word}) and back: {}", gap(&checker, moment)?));
        stage.judge(checker)?;
    }
    Ok(())
}

fn gap(checker: &Checker, moment: Moment) -> Result<String> {
    checker.flows()?;
    Ok(format!("gap {} ms", checker.gap_since(moment)?))
}

/// Their names, of which there must be two.
pub fn nodes() -> Result<Vec<String>> {
    let names: Vec<_> =
        list(&["nodes"])?.iter().map(|node| text(node, "/metadata/name").to_owned()).collect();
    ensure!(names.len() > 1, "one node is not enough: {names:?}");
    Ok(names)
}

/// A checker on another node than this one.
fn beside(stage: &mut Stage, taba: &Taba, node: &str) -> Result<Checker> {
    let other = nodes()?.into_iter().find(|other| other != node).context("there is another node")?;
    stage.checker(taba, Some(&other))
}

fn is_ready(node: &str, wanted: bool) -> Result<()> {
    until(&format!("{node} is Ready: {wanted}"), NOTICED, || {
        let found = get(&["node", node])?;
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
