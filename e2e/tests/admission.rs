//! The rules of the CRD, on a real API server: what is let in, what is not, and what one is told.
//!
//! Specs are sent as `kubectl create --dry-run=server` sends them. Nothing but the objects that changes start from is
//! stored, and nobody acts on them. Uses the cluster that is up, or else starts one and removes it.

#[path = "admission/changes.rs"]
mod changes;
#[path = "admission/invalid.rs"]
mod invalid;
#[path = "admission/valid.rs"]
mod valid;

use anyhow::{Context as _, Result};
use hyper::Method;
use serde_json::Value;
use taba_e2e::api::{Proxy, get, send};
use taba_e2e::runner::{Cluster, established, run, xtask};

const NAMESPACE: &str = "admission";
const OBJECTS: &str = "/apis/taba.dev/v1alpha1/namespaces/admission/tabaclusters";
/// Nothing is stored, and unknown fields are refused.
const TRY: &str = "dryRun=All&fieldValidation=Strict";
const CRD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/tabaclusters.taba.dev.yaml");
const DEFINITION: &str = "crd/tabaclusters.taba.dev";

/// Removes what this test brought, also after a failed assertion: its namespace, and the definition, which Helm
/// would not take over from us.
struct Traces {
    was_defined: bool,
}

impl Traces {
    fn begin() -> Result<Self> {
        let found = run(&["kubectl", "get", DEFINITION, "--ignore-not-found", "-o", "name"])?;
        Ok(Self { was_defined: !found.is_empty() })
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        let words = ["kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false"];
        let _ = xtask(&words).status();
        if !self.was_defined {
            let _ = xtask(&["kubectl", "delete", DEFINITION, "--ignore-not-found"]).status();
        }
    }
}

#[test]
fn every_spec_gets_the_answer_it_deserves() -> Result<()> {
    let _cluster = Cluster::ensure()?;
    let _traces = Traces::begin()?;
    // As the chart installs it: where that was done, this changes nothing.
    run(&["kubectl", "apply", "--server-side", "--filename", CRD])?;
    established(DEFINITION)?;
    run(&["kubectl", "create", "namespace", NAMESPACE])?;
    let _proxy = Proxy::start()?;

    let wrong = [valid_specs()?, invalid_specs()?, changes()?].concat();
    assert!(wrong.is_empty(), "{} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

fn valid_specs() -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for spec in valid::SPECS {
        wrong.extend(create("main", spec)?.map(|said| format!("refused: {spec}\n  {said}")));
    }
    Ok(wrong)
}

fn invalid_specs() -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (name, spec, path, message) in invalid::NAMES {
        wrong.extend(check(&format!("{name} {spec}"), create(name, spec)?.as_ref(), path, message));
    }
    for (spec, path, message) in invalid::SPECS {
        wrong.extend(check(spec, create("main", spec)?.as_ref(), path, message));
    }
    Ok(wrong)
}

fn changes() -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (index, (old, news)) in changes::CHANGES.iter().enumerate() {
        let name = format!("from{index}");
        wrong.extend(send(&Method::POST, OBJECTS, &manifest(&name, "", old))?.map(|said| said.to_string()));
        let object = get(&format!("{OBJECTS}/{name}"))?;
        let version = object["metadata"]["resourceVersion"].as_str().context("an object has a version")?;
        for (new, expected) in *news {
            let said = replace(&name, version, new)?;
            let case = format!("{old} -> {new}");
            wrong.extend(match expected {
                Some((path, message)) => check(&case, said.as_ref(), path, message),
                None => said.map(|said| format!("refused: {case}\n  {said}")),
            });
        }
    }
    Ok(wrong)
}

/// What is wrong, unless it was refused at one place, with this message, and for no other reason.
fn check(case: &str, refusal: Option<&Value>, path: &str, message: &str) -> Option<String> {
    let Some(refusal) = refusal else { return Some(format!("let in: {case}")) };
    let said = refusal["message"].as_str().unwrap_or_default();
    // Of a type that is wrong the server also says that rules could not look at it.
    let counts = |cause: &&Value| !cause["message"].to_string().contains("rules were not checked");
    let causes =
        refusal["details"]["causes"].as_array().map_or(0, |causes| causes.iter().filter(counts).count());
    let is_right = causes < 2 && said.contains(path) && said.contains(message);
    (!is_right).then(|| format!("{case}\n  expected {path} and {message:?}\n  got {refusal}"))
}

#[test]
fn the_table_is_as_long_as_promised() {
    let changes = || changes::CHANGES.iter().flat_map(|(_, news)| news.iter());
    let refused = changes().filter(|(_, expected)| expected.is_some()).count();
    let allowed = changes().count() - refused;
    assert!(invalid::NAMES.len() + invalid::SPECS.len() + refused >= 60);
    assert!(valid::SPECS.len() + allowed >= 30);
}

fn manifest(name: &str, version: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: taba.dev/v1alpha1, kind: TabaCluster, \
         metadata: {{name: {name}, resourceVersion: '{version}'}}, spec: {spec}}}\n"
    )
}

fn create(name: &str, spec: &str) -> Result<Option<Value>> {
    send(&Method::POST, &format!("{OBJECTS}?{TRY}"), &manifest(name, "", spec))
}

fn replace(name: &str, version: &str, spec: &str) -> Result<Option<Value>> {
    send(&Method::PUT, &format!("{OBJECTS}/{name}?{TRY}"), &manifest(name, version, spec))
}
