//! The `taba-operator` binary.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use taba_operator::run::RunArgs;
use taba_operator::{api, run};

/// Makes and heals Taba clusters on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "taba-operator", version)]
enum Command {
    /// Looks after clusters, until it is told to stop.
    Run(Box<RunArgs>),
    /// Writes the CRDs, made from the types in this program.
    Crdgen {
        /// The folder to write to.
        #[arg(long, default_value = "crds")]
        to: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Run(args) => run::run(*args),
        Command::Crdgen { to } => crdgen(&to),
    }
}

fn crdgen(to: &PathBuf) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    let path = to.join("tabaclusters.taba.dev.yaml");
    let text = api::crd_yaml().context("write the CRD as YAML")?;
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}
