//! `cargo xtask chart`: the files of the chart that are made from others, and the plain YAML made from the chart.
//!
//! ```text
//! operator's types ─crdgen─▶ crds/ ─▶ charts/taba/files/crds/ ─helm template─▶ deploy/taba.yaml
//! ```
//!
//! `cargo xtask test chart` fails when one of them is not what this would write.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::cluster::Programs;
use crate::process;

/// The chart, from the workspace's root.
const CHART: &str = "charts/taba";
const CRDS: &str = "crds";
const PLAIN: &str = "deploy/taba.yaml";
/// Where the plain YAML puts the operator.
const NAMESPACE: &str = "taba-system";
/// Stands for the cluster that the plain YAML will meet; only the chart's lower bound looks at it.
const KUBERNETES: &str = "1.34.0";

const HEAD: &str = "\
# Taba's operator without Helm. No image is published yet, so say where you pushed yours (it is named twice):
#   sed 's#taba:0.1.0#registry.example/taba:0.1.0#' deploy/taba.yaml | kubectl apply --server-side --filename -
# Deleting these objects deletes the CRD, and with it every TabaCluster; their volumes stay unless they say `Delete`.
# Made by `cargo xtask chart` from charts/taba. Do not edit.
apiVersion: v1
kind: Namespace
metadata:
  name: taba-system
  labels:
    pod-security.kubernetes.io/enforce: restricted
";

/// Writes all of them.
///
/// # Errors
/// What could not be read, rendered or written.
pub fn write() -> Result<()> {
    for (file, text) in crds()? {
        put(&file, &text)?;
    }
    put(&process::root().join(PLAIN), &plain()?)
}

/// Finds out whether they are what `write` would write.
///
/// # Errors
/// Which are not.
pub fn check() -> Result<()> {
    let mut files = crds()?;
    files.push((process::root().join(PLAIN), plain()?));
    let stale: Vec<_> = files
        .iter()
        .filter(|(file, text)| fs::read_to_string(file).ok().as_ref() != Some(text))
        .map(|(file, _)| file.display().to_string())
        .collect();
    if !stale.is_empty() {
        bail!("stale: {}; run `cargo xtask chart`", stale.join(", "));
    }
    Ok(())
}

/// Helm: the one that `TABA_HELM` names, for trying others, else the one built from its Go module.
///
/// # Errors
/// If it cannot be built.
pub fn helm() -> Result<PathBuf> {
    match std::env::var_os("TABA_HELM") {
        Some(program) => Ok(PathBuf::from(program)),
        None => Programs::ensure_helm(),
    }
}

/// The CRDs' places in the chart, and their texts.
fn crds() -> Result<Vec<(PathBuf, String)>> {
    let folder = process::root().join(CRDS);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("failed to read {}", folder.display()))? {
        let path = entry.context("failed to read a folder")?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.file_name().context("a file has a name")?;
            let text =
                fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
            files.push((process::root().join(CHART).join("files/crds").join(name), text));
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("no CRD is in {}", folder.display());
    }
    Ok(files)
}

fn plain() -> Result<String> {
    let mut template = process::program(helm()?);
    template.args(["template", "taba", CHART, "--namespace", NAMESPACE, "--kube-version", KUBERNETES]);
    template.args(["--set", "test.enabled=false,crds.keep=false"]);
    Ok(format!("{HEAD}{}", without_helm(&process::output(&mut template)?)))
}

/// Without what only Helm reads, and without the claim that Helm looks after these objects.
fn without_helm(text: &str) -> String {
    let helms = |line: &&str| {
        let line = line.trim_start();
        ["# Source: ", "helm.sh/chart: ", "app.kubernetes.io/managed-by: Helm"]
            .iter()
            .any(|begin| line.starts_with(begin))
    };
    let lines: String = text.lines().filter(|line| !helms(line)).map(|line| format!("{line}\n")).collect();
    // Helm 4 puts an empty line before each.
    lines.replace("\n\n---\n", "\n---\n")
}

fn put(file: &Path, text: &str) -> Result<()> {
    let folder = file.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    fs::write(file, text).with_context(|| format!("failed to write {}", file.display()))?;
    println!("wrote {}", file.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_yaml_does_not_claim_to_be_helms() {
        let rendered = "---\n# Source: taba/templates/a.yaml\nmetadata:\n  labels:\n    helm.sh/chart: taba-0.1.0\n    \
                        app.kubernetes.io/managed-by: Helm\n    app.kubernetes.io/name: taba-operator\n";
        let plain = "---\nmetadata:\n  labels:\n    app.kubernetes.io/name: taba-operator\n";
        assert_eq!(without_helm(rendered), plain);
        assert_eq!(without_helm("a: b\n\n---\nc: d\n"), "a: b\n---\nc: d\n", "as Helm 4 has it");
    }
}
