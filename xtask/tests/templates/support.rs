//! Running Helm on the chart, and looking into what it renders.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The lower bound of the chart is met by this.
const KUBERNETES: &str = "1.34.0";
pub const NAMESPACE: &str = "taba-system";

/// Everything that can be switched on.
pub const ALL: [&str; 8] = [
    "replicas=2",
    "podDisruptionBudget.enabled=true",
    "networkPolicy.enabled=true",
    "monitoring.serviceMonitor.enabled=true",
    "monitoring.podMonitor.enabled=true",
    "monitoring.prometheusRule.enabled=true",
    "monitoring.dashboards.enabled=true",
    "monitoring.labels.release=prometheus",
];

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies below the root").to_owned()
}

pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn chart() -> PathBuf {
    root().join("charts/taba")
}

fn helm(words: &[&str], sets: &[&str]) -> Output {
    let program = std::env::var_os("TABA_HELM").expect("`cargo xtask test chart` runs this test");
    let mut command = Command::new(program);
    command.args(words).args(["--namespace", NAMESPACE]);
    for set in sets {
        command.args(["--set", set]);
    }
    // Nobody's repositories and plugins matter here.
    command.env("HELM_NO_PLUGINS", "1").output().expect("Helm runs")
}

fn template_as(release: &str, sets: &[&str]) -> Output {
    let chart = chart();
    helm(&["template", release, &chart.to_string_lossy(), "--kube-version", KUBERNETES], sets)
}

/// The text that Helm renders.
#[track_caller]
pub fn text_as(release: &str, sets: &[&str]) -> String {
    let output = template_as(release, sets);
    assert!(output.status.success(), "{sets:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("YAML is UTF-8")
}

/// The objects that Helm renders.
#[track_caller]
pub fn objects(sets: &[&str]) -> Vec<Value> {
    parse(&text_as("taba", sets))
}

/// The objects of a YAML text, without empty documents.
#[track_caller]
pub fn parse(text: &str) -> Vec<Value> {
    let documents = text.split("\n---\n");
    let values = documents.map(|document| serde_yaml::from_str(document.trim_start_matches("---\n")));
    values
        .map(|value: Result<Value, _>| value.expect("it is YAML"))
        .filter(|value| !value.is_null())
        .collect()
}

/// What Helm says when it refuses these values.
#[track_caller]
pub fn refusal(sets: &[&str]) -> String {
    let output = template_as("taba", sets);
    assert!(!output.status.success(), "accepted: {sets:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether `helm lint --strict` finds nothing, and what it says.
pub fn lint(sets: &[&str]) -> (bool, String) {
    let chart = chart();
    let output = helm(&["lint", "--strict", &chart.to_string_lossy(), "--kube-version", KUBERNETES], sets);
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `Kind/name`, in order.
pub fn names(objects: &[Value]) -> Vec<String> {
    let mut names: Vec<_> = objects
        .iter()
        .map(|object| format!("{}/{}", text(object, "/kind"), text(object, "/metadata/name")))
        .collect();
    names.sort();
    names
}

/// All objects of a kind.
pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The only object of a kind.
#[track_caller]
pub fn the<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    match of_kind(objects, kind)[..] {
        [object] => object,
        ref found => panic!("{} objects of kind {kind}", found.len()),
    }
}

/// The text at a JSON pointer.
#[track_caller]
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text at {pointer} of {value}"))
}

/// The operator's container.
#[track_caller]
pub fn operator(objects: &[Value]) -> &Value {
    the(objects, "Deployment").pointer("/spec/template/spec/containers/0").expect("it has a container")
}

/// The value of an environment variable of the operator.
#[track_caller]
pub fn variable<'a>(objects: &'a [Value], name: &str) -> Option<&'a str> {
    let variables = operator(objects)["env"].as_array().expect("it has variables");
    variables.iter().find(|variable| variable["name"] == name)?["value"].as_str()
}
