//! `cargo xtask up --sample`: the chart, a small Taba, and what to try with it.

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::access::Access;
use super::step;
use crate::{images, process};

const OPERATOR_NAMESPACE: &str = "taba-system";
const NAMESPACE: &str = "taba-sample";
const NAME: &str = "main";

/// First start on a busy machine: volumes, elections, readiness of everything in turn.
const PATIENCE: Duration = Duration::from_secs(300);

/// Installs and waits until Taba is Available. `registry` is where images come from if the cluster is not ours.
pub fn install(access: &Access, registry: Option<&str>, quick: bool) -> Result<()> {
    let begin = Instant::now();
    let (image, redis) = match registry {
        None if access.is_given() => {
            bail!("images reach a given cluster through a registry: add --registry registry.example/taba:TAG")
        }
        None => {
            (format!("{}:{}", images::TABA, images::TAG), Some(format!("{}:{}", images::REDIS, images::TAG)))
        }
        Some(target) => (target.to_owned(), None),
    };
    step("images", || {
        images::run(&images::Options { quick, push: registry.map(str::to_owned), names: Vec::new() })
    })?;
    step("the operator", || install_operator(access, &image))?;
    step("a Taba", || install_sample(access, &sample(redis.as_deref())))?;
    println!("\nTaba is Available, {:.0} s after the beginning. Next:", begin.elapsed().as_secs_f64());
    let kubectl = if access.is_given() { "kubectl" } else { "cargo xtask kubectl" };
    let inside = format!("{kubectl} --namespace {NAMESPACE} exec deployment/{NAME}-frontend -- taba");
    println!("  {kubectl} --namespace {NAMESPACE} get tabaclusters");
    println!("  {inside} record hello 1");
    println!("  {inside} query hello");
    Ok(())
}

fn install_operator(access: &Access, image: &str) -> Result<()> {
    let (repository, tag) = image.rsplit_once(':').context("the image has a tag")?;
    let mut helm = access.helm()?;
    helm.args(["upgrade", "--install", "taba", "charts/taba", "--namespace", OPERATOR_NAMESPACE]);
    helm.args(["--create-namespace", "--wait", "--timeout", "180s"]);
    helm.arg("--set").arg(format!("image.repository={repository},image.tag={tag}"));
    process::output(&mut helm).map(|_| ())
}

fn install_sample(access: &Access, manifest: &str) -> Result<()> {
    let mut apply = access.kubectl()?;
    apply.args(["apply", "--server-side", "--filename", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = apply.spawn().context("failed to start kubectl")?;
    let mut input = child.stdin.take().context("standard input is piped")?;
    input.write_all(manifest.as_bytes()).context("failed to write to kubectl")?;
    drop(input);
    if !child.wait().context("failed to wait for kubectl")?.success() {
        bail!("kubectl did not take the sample:\n{manifest}");
    }
    let mut wait = access.kubectl()?;
    wait.args(["wait", "--namespace", NAMESPACE, "--for=condition=Available"]);
    wait.arg(format!("--timeout={}s", PATIENCE.as_secs())).arg(format!("tabacluster/{NAME}"));
    process::output(&mut wait).map(|_| ()).inspect_err(|_| {
        for words in [["get", "tabaclusters", "--output=yaml"], ["get", "pods", "--output=wide"]] {
            let shown = access
                .kubectl()
                .map(|mut kubectl| kubectl.args(["--namespace", NAMESPACE]).args(words).status());
            let _ = shown;
        }
    })
}

/// A namespace that admits only restricted pods, and the smallest Taba; in our cluster with the image it has.
fn sample(redis: Option<&str>) -> String {
    let spec = redis.map_or_else(
        || "spec: {}\n".to_owned(),
        |image| format!("spec:\n  redis:\n    image: {image}\n    storage: {{size: 1Gi}}\n"),
    );
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n  labels: \
         {{pod-security.kubernetes.io/enforce: restricted}}\n---\n\
         apiVersion: taba.dev/v1alpha1\nkind: TabaCluster\nmetadata: {{name: {NAME}, namespace: {NAMESPACE}}}\n{spec}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebodys_cluster_gets_the_smallest_taba_and_ours_the_image_it_has() {
        assert!(sample(None).ends_with("metadata: {name: main, namespace: taba-sample}\nspec: {}\n"));
        assert!(sample(Some("localhost/redis:test")).contains("    image: localhost/redis:test\n"));
    }
}
