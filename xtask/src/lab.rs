//! `cargo xtask lab` and `cargo xtask faults`: build what the lab runs, and hand over to it.
//!
//! The lab to play with is a development build, which is there soonest. A campaign of faults measures
//! times as well, so it runs a release build, unless told otherwise with `--dev`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::process;
use crate::system::{self, LAB};

/// Packages with the programs of a cluster, and the lab's own.
const PACKAGES: [&str; 3] = ["taba-server", "taba-keeper", "taba-e2e"];

/// Gives a command to the lab.
///
/// # Errors
/// If it cannot be built or run.
pub fn play(arguments: Vec<OsString>) -> Result<ExitCode> {
    system::ensure_programs(&LAB)?;
    let folder = build(Profile::Dev)?;
    hand_over(&folder, arguments)
}

/// How to run a campaign.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Faults {
    dev: bool,
    mutant: bool,
    arguments: Vec<OsString>,
}

impl Faults {
    /// Takes what is for building; the rest is for the lab.
    #[must_use]
    pub fn parse(arguments: Vec<OsString>) -> Self {
        let mutant = arguments.iter().any(|word| word == "--mutant");
        let dev = arguments.iter().any(|word| word == "--dev");
        let arguments = arguments.into_iter().filter(|word| word != "--dev").collect();
        Self { dev, mutant, arguments }
    }
}

/// Runs a campaign.
///
/// # Errors
/// If it cannot be built or run. Failed runs are the exit code.
pub fn faults(options: &Faults) -> Result<ExitCode> {
    system::ensure_programs(&LAB)?;
    // What a defect does to times is of no interest.
    let profile = if options.dev || options.mutant { Profile::Dev } else { Profile::Release };
    let mut arguments = vec![OsString::from("faults")];
    arguments.extend(options.arguments.iter().cloned());
    hand_over(&build(profile)?, arguments)
}

#[derive(Clone, Copy, Debug)]
enum Profile {
    Dev,
    Release,
}

/// Builds the programs; gives their folder.
fn build(profile: Profile) -> Result<PathBuf> {
    let mut build = process::cargo();
    build.args(["build", "--locked", "--quiet", "--bins"]);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    if matches!(profile, Profile::Release) {
        build.arg("--release");
    }
    process::run(&mut build)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let name = if matches!(profile, Profile::Release) { "release" } else { "debug" };
    Ok(process::root().join(target).join(name))
}

fn hand_over(folder: &Path, arguments: Vec<OsString>) -> Result<ExitCode> {
    let mut lab = Command::new(folder.join("taba-lab"));
    let status = lab.args(arguments).status().context("failed to start the lab")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_building_is_taken_and_the_rest_handed_over() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let parsed = Faults::parse(words(&["--runs", "3", "--dev", "--mutant", "no_dedupe"]));
        let left = words(&["--runs", "3", "--mutant", "no_dedupe"]);
        assert_eq!(parsed, Faults { dev: true, mutant: true, arguments: left });
        assert_eq!(Faults::parse(words(&["--json"])).arguments, words(&["--json"]));
    }
}
