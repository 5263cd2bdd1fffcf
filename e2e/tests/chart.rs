//! The Helm chart on a real API server: what it installs is taken, grants what it says, and goes without data.
//!
//! The operator itself need not run here: its image is none that the nodes have. `cargo xtask test kubernetes` runs
//! this, as root.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use taba_e2e::runner::{Cluster, established, run, xtask};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const RELEASE: &str = "taba";
const NAMESPACE: &str = "taba-system";
const ACCOUNT: &str = "--as=system:serviceaccount:taba-system:taba-operator";

#[test]
fn the_chart_installs_upgrades_rolls_back_and_goes_without_data() -> Result<()> {
    let _cluster = Cluster::ensure()?;
    let releases = run(&["helm", "list", "--all-namespaces", "--short"])?;
    ensure!(!releases.lines().any(|name| name == RELEASE), "the chart is installed: uninstall it first");
    let chart = format!("{ROOT}/charts/taba");

    the_plain_yaml_is_taken_by_the_api_server()?;
    let before = previous_chart()?;
    helm(&["install", RELEASE, &before.path().join("charts/taba").to_string_lossy(), "--create-namespace"])?;
    helm(&["upgrade", RELEASE, &chart])?;
    established("crd/tabaclusters.taba.dev")?;
    every_example_is_taken()?;
    the_operator_may_do_what_it_does_and_nothing_else()?;

    let to_blue = [
        "upgrade",
        RELEASE,
        &chart,
        "--set",
        "watchNamespaces={blue}",
        "--set",
        "networkPolicy.enabled=true",
    ];
    helm(&to_blue).expect_err("a namespace that is not there");
    run(&["kubectl", "create", "namespace", "blue"])?;
    helm(&to_blue)?;
    in_namespaced_mode_it_may_nothing_elsewhere()?;
    helm(&["rollback", RELEASE, "2"])?;
    the_operator_may_do_what_it_does_and_nothing_else()?;

    clusters_outlive_the_chart(&chart)
}

/// Whatever was there before the last change of the chart.
fn previous_chart() -> Result<tempfile::TempDir> {
    let git = |words: &[&str]| -> Result<Vec<u8>> {
        let output =
            Command::new("git").args(["-C", ROOT]).args(words).output().context("failed to start git")?;
        ensure!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    };
    let changes = String::from_utf8(git(&["log", "-2", "--format=%H", "--", "charts/taba"])?)?;
    let commit = changes.lines().next_back().context("no commit has the chart")?;
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("chart.tar");
    std::fs::write(&archive, git(&["archive", commit, "charts/taba"])?)?;
    let unpacked = Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(folder.path()).status()?;
    ensure!(unpacked.success(), "tar could not unpack the chart of {commit}");
    Ok(folder)
}

fn the_plain_yaml_is_taken_by_the_api_server() -> Result<()> {
    let file = format!("{ROOT}/deploy/taba.yaml");
    let said = run(&["kubectl", "apply", "--server-side", "--filename", &file])?;
    ensure!(said.lines().count() > 8, "{said}");
    run(&["kubectl", "delete", "--filename", &file])?;
    Ok(())
}

fn every_example_is_taken() -> Result<()> {
    let mut examples = 0;
    for entry in std::fs::read_dir(Path::new(ROOT).join("charts/taba/examples"))?.flatten() {
        let file = entry.path().to_string_lossy().into_owned();
        run(&["kubectl", "apply", "--dry-run=server", "--filename", &file])?;
        examples += 1;
    }
    ensure!(examples >= 3, "only {examples} examples");
    Ok(())
}

/// Whether the operator's account may; every question names verb and resource.
fn may(question: &[&str]) -> Result<bool> {
    let output = xtask(&[&["kubectl", "auth", "can-i", ACCOUNT], question].concat()).output()?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => anyhow::bail!("{question:?}: {other} {}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn the_operator_may_do_what_it_does_and_nothing_else() -> Result<()> {
    for question in [
        ["create", "statefulsets.apps", "--namespace=default"],
        ["patch", "persistentvolumeclaims", "--namespace=kube-public"],
        ["delete", "pods", "--namespace=default"],
        ["create", "leases.coordination.k8s.io", "--namespace=taba-system"],
    ] {
        ensure!(may(&question)?, "it may not: {question:?}");
    }
    ensure!(
        may(&["patch", "tabaclusters.taba.dev", "--subresource=status", "--namespace=default"])?,
        "no status"
    );
    for question in [
        ["create", "clusterroles.rbac.authorization.k8s.io", "--all-namespaces"],
        ["create", "pods", "--namespace=default"],
        ["delete", "persistentvolumeclaims", "--namespace=default"],
        ["create", "leases.coordination.k8s.io", "--namespace=default"],
        ["delete", "tabaclusters.taba.dev", "--namespace=default"],
        ["get", "nodes", "--all-namespaces"],
    ] {
        ensure!(!may(&question)?, "it may: {question:?}");
    }
    Ok(())
}

fn in_namespaced_mode_it_may_nothing_elsewhere() -> Result<()> {
    ensure!(may(&["list", "secrets", "--namespace=blue"])?, "nothing is granted");
    for namespace in ["--namespace=default", "--namespace=taba-system", "--namespace=kube-system"] {
        ensure!(!may(&["list", "secrets", namespace])?, "secrets of {namespace}");
    }
    let roles = run(&[
        "kubectl",
        "get",
        "clusterroles",
        "--selector=app.kubernetes.io/instance=taba",
        "--output=name",
    ])?;
    ensure!(roles.trim().is_empty(), "left over: {roles}");
    Ok(())
}

/// Uninstalling leaves definition and clusters; a later install takes them over.
fn clusters_outlive_the_chart(chart: &str) -> Result<()> {
    let example = format!("{ROOT}/charts/taba/examples/smallest.yaml");
    run(&["kubectl", "apply", "--filename", &example])?;
    let uid = || run(&["kubectl", "get", "tabacluster", "main", "--output=jsonpath={.metadata.uid}"]);
    let before = uid()?;
    helm(&["uninstall", RELEASE, "--wait"])?;
    let left = run(&["kubectl", "get", "deployments,roles", "--namespace", NAMESPACE, "--output=name"])?;
    ensure!(left.trim().is_empty(), "left over: {left}");
    ensure!(uid()? == before, "the cluster was made anew");
    helm(&["install", RELEASE, chart])?;
    ensure!(uid()? == before, "the cluster was made anew");
    helm(&["uninstall", RELEASE, "--wait"])?;
    run(&["kubectl", "delete", "--filename", &example])?;
    run(&["kubectl", "delete", "namespace", "blue"])?;
    Ok(())
}

fn helm(words: &[&str]) -> Result<String> {
    run(&[&["helm"], words, &["--namespace", NAMESPACE]].concat())
}
