//! Development tasks: `cargo xtask test`, `bench`, `fuzz`, `lab`, `faults`, images, the chart, and a Kubernetes
//! for tests: `up`, `down`, `kubectl`, `helm`.
//!
//! One command for people and for CI, so that "it passes here" means the same everywhere. Each task
//! installs what it needs where that is possible and otherwise says exactly what is missing. Nothing
//! here is linked into Taba.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks on both")]

mod archive;
mod bench;
mod chart;
mod cluster;
mod fuzz;
mod images;
mod lab;
mod process;
mod quick;
mod system;
mod test;
mod tools;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt as _;

const USAGE: &str = "\
usage: cargo xtask TASK

  test [--fast] [STAGE]...       all checks, or the named stages:
                                 format clippy docs deny tests doctests chart kubernetes,
                                 and unit: the tests without the end-to-end ones
                                 --fast: all but kubernetes, which needs root and Go and takes longest
  bench [--json] [NAME]...       benchmarks, or the named ones; --json prints one object a line
  bench --list                   their names
  fuzz [TARGET] [--seconds N]    fuzz one target, or all in turn, N seconds each (60)
  lab up|status|kill|...|down    a whole Taba of real processes to play with; `lab --help` shows all
  faults [--runs N] [--seed S]   seeded faults under traffic, and a check to the event; --json prints
                                 one object a run, --markdown a table; `faults --help` shows all
  images [--quick] [--push IMAGE] [NAME]...
                                 Taba's image and one of Redis for tests, or the named ones of taba, redis and
                                 check, into target/images and every node of the cluster below, with the tags
                                 test and test2; --push brings Taba's to registry/name:tag
  chart                          write what is made from crds/ and the chart: its CRDs, deploy/taba.yaml
  up [--nodes N]                 use the cluster of KUBECONFIG or ~/.kube/config; without one, or with --nodes,
                                 start a real Kubernetes of N nodes (2) in namespaces of this machine
  up --sample [--registry IMAGE] and install the operator and a small Taba; a given cluster fetches its image
                                 from registry/name:tag, where it is pushed; --quick builds it faster
  down                           remove this machine's cluster without a trace
  cluster cut|join|kill|start|deafen|hear WHAT
                                 harm it and repair it: node2, node2/kubelet, control/kube-apiserver, pod/UID
  kubectl ARGUMENT...            kubectl of that cluster
  helm ARGUMENT...               Helm of that cluster
";

fn main() -> ExitCode {
    match run(lexopt::Parser::from_env()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: lexopt::Parser) -> Result<ExitCode> {
    match arguments.next()? {
        Some(Value(task)) => match task.to_str() {
            Some("test") => test::run(&test_options(&mut arguments)?),
            Some("bench") => bench::run(&bench_options(&mut arguments)?).map(|()| ExitCode::SUCCESS),
            Some("fuzz") => fuzz::run(&fuzz_options(&mut arguments)?).map(|()| ExitCode::SUCCESS),
            Some("lab") => lab::play(arguments.raw_args()?.collect()),
            Some("faults") => lab::faults(&lab::Faults::parse(arguments.raw_args()?.collect())),
            Some("images") => images::run(&images_options(&mut arguments)?).map(|()| ExitCode::SUCCESS),
            Some("chart") => {
                no_options(&mut arguments).and_then(|()| chart::write()).map(|()| ExitCode::SUCCESS)
            }
            Some("up") => cluster::up(&up_options(&mut arguments)?).map(|()| ExitCode::SUCCESS),
            Some("down") => {
                no_options(&mut arguments).and_then(|()| cluster::down()).map(|()| ExitCode::SUCCESS)
            }
            Some("cluster") => {
                let (deed, what) = harm_options(&mut arguments)?;
                cluster::harm(deed, &what).map(|()| ExitCode::SUCCESS)
            }
            Some(name @ ("kubectl" | "helm")) => {
                cluster::tool(name, &arguments.raw_args()?.collect::<Vec<_>>())
            }
            _ => bail!("unknown task {task:?}\n\n{USAGE}"),
        },
        Some(Long("help") | Short('h')) => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => Err(other.unexpected().into()),
        None => bail!("no task given\n\n{USAGE}"),
    }
}

fn test_options(arguments: &mut lexopt::Parser) -> Result<test::Options> {
    let mut options = test::Options::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("fast") => options.fast = true,
            Value(name) => options.stages.push(name.parse_with(test::Stage::parse)?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(options)
}

fn bench_options(arguments: &mut lexopt::Parser) -> Result<bench::Options> {
    let mut options = bench::Options::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("json") => options.json = true,
            Long("list") => options.list = true,
            Value(name) => options.names.push(name.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(options)
}

fn fuzz_options(arguments: &mut lexopt::Parser) -> Result<fuzz::Options> {
    let mut options = fuzz::Options::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("seconds") => {
                options.seconds = arguments.value()?.parse().context("--seconds takes a whole number")?;
            }
            Value(name) => options.targets.push(name.parse_with(fuzz::Target::parse)?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(options)
}

fn images_options(arguments: &mut lexopt::Parser) -> Result<images::Options> {
    let mut options = images::Options::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("quick") => options.quick = true,
            Long("push") => options.push = Some(arguments.value()?.string()?),
            Value(name) => options.names.push(name.parse_with(images::Name::parse)?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(options)
}

fn up_options(arguments: &mut lexopt::Parser) -> Result<cluster::Options> {
    let mut options = cluster::Options::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("nodes") => {
                let nodes = arguments.value()?.parse().context("--nodes takes a small whole number")?;
                options.nodes = Some(nodes);
            }
            Long("sample") => options.sample = true,
            Long("registry") => options.registry = Some(arguments.value()?.string()?),
            Long("quick") => options.quick = true,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(options)
}

fn harm_options(arguments: &mut lexopt::Parser) -> Result<(cluster::Deed, String)> {
    let deed = arguments.value()?.parse_with(cluster::Deed::parse)?;
    let what = arguments.value()?.string()?;
    no_options(arguments).map(|()| (deed, what))
}

fn no_options(arguments: &mut lexopt::Parser) -> Result<()> {
    match arguments.next()? {
        Some(argument) => Err(argument.unexpected().into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
