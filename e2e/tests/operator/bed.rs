//! What all scenarios stand on: a cluster, the images, the operator, and a namespace for each.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use taba_e2e::api::{Proxy, list, path};
use taba_e2e::check::Verdict;
use taba_e2e::runner::{Cluster, run, run_aloud};

use crate::checker::{Checker, Wish};
use crate::dump;
use crate::kubectl::{apply, kubectl};
use crate::nodes::{are_apart, set_apart};
use crate::taba::Taba;
use crate::turns::Turns;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/taba");
/// Where the operator is.
pub const OPERATOR_NAMESPACE: &str = "taba-system";
/// Its Deployment.
pub const OPERATOR: &str = "deployment/taba-operator";
/// What finds its pods.
pub const OPERATOR_PODS: &str = "app.kubernetes.io/name=taba-operator";

/// As many as in the lab, each with some two batches of forty events a second: each repeats one through whatever
/// dies, what more would show, shows in the lab, and here the cores are for Kubernetes.
const PRODUCERS: usize = 4;
const PAUSE_MS: u64 = 400;

/// The cluster with the operator in it.
pub struct Bed {
    // Fields are dropped in this order.
    _proxy: Proxy,
    _cluster: Cluster,
    /// Who plays.
    pub turns: Arc<Turns>,
}

impl Bed {
    /// Brings images and the operator into the cluster.
    pub fn prepare() -> Result<Self> {
        let cluster = Cluster::ensure()?;
        let proxy = Proxy::start()?;
        // First, so that the operator comes to no node that is harmed.
        set_apart()?;
        std::thread::scope(|scope| {
            let apart = scope.spawn(are_apart);
            bring_operator()?;
            apart.join().expect("it does not panic")
        })?;
        Ok(Self { _proxy: proxy, _cluster: cluster, turns: Arc::default() })
    }

    /// Plays a scenario that is expected, in a namespace of its own; what came of it, and what it measured.
    pub fn play(&self, name: &str, scenario: fn(&mut Stage) -> Result<()>) -> (Result<()>, Vec<String>) {
        let begin = Instant::now();
        println!("test {name} ...");
        let mut stage = Stage::new(name, &self.turns);
        let outcome = stage.open().and_then(|()| scenario(&mut stage));
        if outcome.is_err() {
            stage.namespaces.iter().for_each(|namespace| dump::namespace(namespace));
            dump::operator();
        }
        // After a failure too: the next scenario needs the room.
        let outcome = outcome.and(stage.close());
        self.turns.ended(&mut stage.namespaces);
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {word}, {:.0} s", begin.elapsed().as_secs_f64());
        (outcome, stage.figures)
    }
}

/// Images and operator, as far as they are not said to be there.
fn bring_operator() -> Result<()> {
    let is_set = |name| std::env::var_os(name).is_some();
    if is_set("TABA_E2E_REUSE") {
        return Ok(());
    }
    if !is_set("TABA_E2E_IMAGES") {
        run_aloud(&["images", "--quick", "taba", "redis", "check"])?;
    }
    let namespace = ["--namespace", OPERATOR_NAMESPACE];
    let there =
        kubectl(&[&["get", OPERATOR, "--ignore-not-found", "--output=name"][..], &namespace].concat())?;
    let words = ["helm", "upgrade", "--install", "taba", CHART, "--namespace", OPERATOR_NAMESPACE];
    let set = ["--create-namespace", "--set", "image.repository=localhost/taba,image.tag=test"];
    run(&[&words[..], &set[..], &["--wait", "--timeout", "180s"]].concat())?;
    if !there.is_empty() {
        // The tag is the same, and the image may not be.
        kubectl(&[&["rollout", "restart", OPERATOR][..], &namespace].concat())?;
        kubectl(&[&["rollout", "status", OPERATOR, "--timeout=180s"][..], &namespace].concat())?;
    }
    Ok(())
}

/// A scenario's own part of the cluster.
pub struct Stage {
    name: String,
    namespaces: Vec<String>,
    figures: Vec<String>,
    seed: u64,
    turns: Arc<Turns>,
}

impl Stage {
    fn new(name: &str, turns: &Arc<Turns>) -> Self {
        let (name, namespaces) = (name.to_owned(), vec![format!("e2e-{name}")]);
        Self { name, namespaces, figures: Vec::new(), seed: 0, turns: Arc::clone(turns) }
    }

    /// Waits until no other scenario plays, for what harms or measures what all share. Those that wait go on by their
    /// places.
    pub fn alone(&self, place: u8) {
        println!("    {}: waits to be alone", self.name);
        self.turns.wait_to_be_alone(place);
        println!("    {}: is alone", self.name);
    }

    /// Waits until the operator has no cluster of scenarios that have ended.
    pub fn others_are_forgotten(&self) -> Result<()> {
        self.turns.forgotten()
    }

    fn open(&mut self) -> Result<()> {
        let namespace = self.namespace().to_owned();
        self.add_namespace(&namespace)
    }

    /// The scenario's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespaces[0]
    }

    /// Makes another namespace that only admits restricted pods, and is removed in the end.
    pub fn add_namespace(&mut self, name: &str) -> Result<()> {
        // What a failed run left would be taken for this one's.
        kubectl(&["delete", "namespace", name, "--ignore-not-found", "--timeout=180s"])?;
        if !self.namespaces.iter().any(|there| there == name) {
            self.namespaces.push(name.to_owned());
        }
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}))
    }

    /// Makes a cluster in the scenario's namespace and waits until it is as it should be.
    pub fn taba(&self, name: &str, spec: &Value) -> Result<Taba> {
        let taba = Taba::create(self.namespace(), name, spec)?;
        taba.settled()?;
        Ok(taba)
    }

    /// Starts the checker against a cluster.
    pub fn checker(&mut self, taba: &Taba) -> Result<Checker> {
        self.seed += 1;
        Checker::start(taba, Wish { seed: self.seed, producers: PRODUCERS, pause_ms: PAUSE_MS })
    }

    /// Starts one with more producers, as a load.
    pub fn busy_checker(&mut self, taba: &Taba) -> Result<Checker> {
        self.seed += 1;
        Checker::start(taba, Wish { seed: self.seed, producers: 8 * PRODUCERS, pause_ms: PAUSE_MS / 5 })
    }

    /// Keeps a figure for the end, and shows it.
    pub fn note(&mut self, what: impl AsRef<str>) {
        let figure = format!("{}: {}", self.name, what.as_ref());
        println!("    {figure}");
        self.figures.push(figure);
    }

    /// Ends a checker, which must have nothing to complain of, and keeps its figures.
    pub fn judge(&mut self, checker: Checker) -> Result<Verdict> {
        let verdict = checker.stop()?;
        let Verdict { acknowledged, lost, doubled, gap_ms, convergence_ms, .. } = &verdict;
        self.note(format!(
            "{acknowledged} acknowledged, {lost} lost, {doubled} doubled, longest gap {gap_ms} ms, \
             converged in {convergence_ms} ms"
        ));
        ensure!(verdict.is_exact(), "the checker complains: {verdict:?}");
        Ok(verdict)
    }

    /// Clusters first: of a namespace Kubernetes removes all pods before anything else, and meanwhile the operator would
    /// care for clusters whose pods go.
    fn close(&self) -> Result<()> {
        self.namespaces.iter().try_for_each(|namespace| {
            kubectl(&["delete", "tabaclusters", "--all", "--namespace", namespace, "--wait=false"])?;
            kubectl(&["delete", "namespace", namespace, "--ignore-not-found", "--wait=false"]).map(drop)
        })
    }
}

/// The operator's pods.
pub fn operator_pods() -> Result<Vec<Value>> {
    list(&path(OPERATOR_NAMESPACE, &format!("pods?labelSelector={OPERATOR_PODS}")))
}
