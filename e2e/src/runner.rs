//! The task runner, which the tests on Kubernetes drive the cluster with: `cargo xtask test kubernetes` starts
//! them and says where it is.

use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};

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

/// What a command with these words printed.
///
/// # Errors
/// If it failed, with what it said.
pub fn finished(words: &[&str], output: Output) -> Result<String> {
    let Output { status, stdout, stderr } = output;
    ensure!(status.success(), "{words:?} ended with {status}: {}", String::from_utf8_lossy(&stderr));
    Ok(String::from_utf8(stdout)?)
}
