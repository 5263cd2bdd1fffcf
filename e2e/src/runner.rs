//! The task runner, which the tests on Kubernetes drive the cluster with: `cargo xtask test kubernetes` starts
//! them and says where it is.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::check::until;

/// Written when the machine's cluster is whole.
const UP: &str = "/var/lib/taba-cluster/up";

/// Two that are harmed, and two for all that must not be.
const NODES: &str = "4";

/// The machine's cluster: the one that is up, else one that is started and in the end removed, also after a
/// failed assertion.
#[derive(Debug)]
pub struct Cluster {
    is_ours: bool,
}

impl Cluster {
    /// Sees to it that there is one.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn ensure() -> Result<Self> {
        let cluster = Self { is_ours: !Path::new(UP).exists() };
        if cluster.is_ours {
            run_aloud(&["up", "--nodes", NODES])?;
        }
        Ok(cluster)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = xtask(&["down"]).status();
        }
    }
}

/// The task runner that started this test, with words.
///
/// # Panics
/// If none did.
#[must_use]
pub fn xtask(words: &[&str]) -> Command {
    let runner = std::env::var_os("TABA_XTASK").expect("`cargo xtask test kubernetes` runs this test");
    let mut command = Command::new(runner);
    command.args(words).stdin(Stdio::null());
    command
}

/// What it prints.
///
/// # Errors
/// If it fails, with what it says.
pub fn run(words: &[&str]) -> Result<String> {
    finished(words, xtask(words).output().context("failed to start the task runner")?)
}

/// As [`run`], with a text on its standard input.
///
/// # Errors
/// If it fails, with what it says.
pub fn run_with(words: &[&str], input: &str) -> Result<String> {
    let mut child = xtask(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to start the task runner")?;
    // One that ends before it read everything says why by itself.
    let _ = child.stdin.take().context("no input")?.write_all(input.as_bytes());
    finished(words, child.wait_with_output().context("failed to wait for the task runner")?)
}

/// Runs a long task, which shows its progress by itself.
///
/// # Errors
/// If it fails.
pub fn run_aloud(words: &[&str]) -> Result<()> {
    let status = xtask(words).status().context("failed to start the task runner")?;
    ensure!(status.success(), "{words:?} ended with {status}");
    Ok(())
}

/// Waits until objects of a definition are taken. One that has just been made has no conditions, at which `kubectl wait`
/// gives up.
///
/// # Errors
/// If they are not within a minute.
pub fn established(definition: &str) -> Result<()> {
    until(Duration::from_secs(60), Duration::from_millis(200), || {
        let found: Value = serde_json::from_str(&run(&["kubectl", "get", definition, "--output=json"])?)?;
        let conditions = found["status"]["conditions"].as_array();
        let is_established = |one: &Value| one["type"] == "Established" && one["status"] == "True";
        let is_there = conditions.is_some_and(|conditions| conditions.iter().any(is_established));
        ensure!(is_there, "{definition} is not established: {}", found["status"]);
        Ok(())
    })
}

/// What a command with these words printed.
///
/// # Errors
/// If it failed, with what it said.
pub fn finished(words: &[&str], output: Output) -> Result<String> {
    let Output { status, stdout, stderr } = output;
    ensure!(status.success(), "{words:?} ended with {status}: {}", String::from_utf8_lossy(&stderr));
    Ok(String::from_utf8(stdout)?)
}
