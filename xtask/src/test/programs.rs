//! The programs of tests that cargo builds, run some at a time.
//!
//! `cargo test` runs one after the other, and most of ours wait for real servers to notice something, while cores have
//! nothing to do. Each runs in its package's folder as cargo would run it, and its output is shown when it has
//! ended, so that lines of several do not mix.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::report::Outcome;
use super::tally::Tally;
use crate::process;

/// Programs at a time: one that waits and one that computes.
const AT_A_TIME: usize = 2;

/// These have bounds in time: a campaign of faults uses all cores by itself, and Sentinels must keep their pace.
const ALONE: [&str; 2] = ["faults", "shard"];

/// These take longest, so of the others they begin first.
const FIRST: [&str; 2] = ["mutants", "taba_server"];

/// A program of tests.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    package: PathBuf,
    target: String,
    file: PathBuf,
}

/// What came of one.
struct Ran {
    status: ExitStatus,
    tally: Tally,
}

/// Builds what `cargo` names and runs it with some variables; all of it, whatever fails.
///
/// # Errors
/// If it cannot be built or started.
pub fn run(cargo: &mut Command, variables: &[(&str, OsString)]) -> Result<Outcome> {
    cargo.args(["--no-run", "--message-format=json-render-diagnostics"]);
    process::announce(cargo);
    let programs = found(&process::output(cargo)?)?;
    let is_alone = |program: &Program| ALONE.contains(&program.target.as_str());
    let (alone, mut others): (_, Vec<_>) = programs.into_iter().partition(is_alone);
    others.sort_by_key(|program| {
        FIRST.iter().position(|first| *first == program.target).unwrap_or(FIRST.len())
    });
    let mut outcome = side_by_side(1, alone, variables)?;
    outcome.add(side_by_side(AT_A_TIME, others, variables)?);
    Ok(outcome)
}

fn side_by_side(lanes: usize, programs: Vec<Program>, variables: &[(&str, OsString)]) -> Result<Outcome> {
    let waiting = Mutex::new(programs.into_iter());
    let next = || waiting.lock().expect("no lane panics here").next();
    let lane = || -> Result<Outcome> {
        let mut outcome = Outcome::default();
        while let Some(program) = next() {
            outcome.add(program.judged(variables)?);
        }
        Ok(outcome)
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        let mut all = Outcome::default();
        for lane in lanes {
            all.add(lane.join().expect("no lane panics")?);
        }
        Ok(all)
    })
}

/// The programs of tests in cargo's messages, one on each line.
fn found(messages: &str) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).with_context(|| format!("cargo says {line:?}"))?;
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
        let Some(file) = text("/executable").filter(|_| message["profile"]["test"] == true) else { continue };
        let manifest = Path::new(text("/manifest_path").context("an artifact without a manifest")?);
        let package = manifest.parent().context("a manifest without a folder")?.to_owned();
        let target = text("/target/name").context("an artifact without a name")?.to_owned();
        programs.push(Program { package, target, file: file.into() });
    }
    ensure!(!programs.is_empty(), "cargo built no program of tests");
    // Cargo names them as they were built, each time in another order.
    programs.sort_by_key(Program::name);
    Ok(programs)
}

impl Program {
    fn name(&self) -> String {
        let package = self.package.file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!("{package}/{}", self.target)
    }

    fn judged(&self, variables: &[(&str, OsString)]) -> Result<Outcome> {
        let begin = Instant::now();
        eprintln!("   {} runs", self.name());
        let Ran { status, tally } = self.ran(variables)?;
        let seconds = begin.elapsed().as_secs_f64();
        eprintln!("   {}: {} passed, {} failed in {seconds:.1} s", self.name(), tally.passed, tally.failed);
        let failure = super::failure(status, tally)?.map(|failure| format!("{}: {failure}", self.name()));
        Ok(Outcome { tally, failure, ..Outcome::default() })
    }

    fn ran(&self, variables: &[(&str, OsString)]) -> Result<Ran> {
        let (mut reader, writer) = std::io::pipe().context("failed to make a pipe")?;
        let mut child = {
            let mut command = process::program(&self.file);
            command.current_dir(&self.package).env("CARGO_MANIFEST_DIR", &self.package);
            command.envs(variables.iter().map(|(name, value)| (name, value)));
            // One pipe for both, so that lines stay in their order; only the program keeps this end of it.
            command.stdout(writer.try_clone().context("failed to share a pipe")?).stderr(writer);
            command.spawn().with_context(|| format!("failed to start {}", self.name()))?
        };
        let mut said = Vec::new();
        reader.read_to_end(&mut said).context("failed to read a program's output")?;
        let status = child.wait().context("failed to wait for a program of tests")?;
        let said = String::from_utf8_lossy(&said);
        let mut tally = Tally::default();
        said.lines().for_each(|line| tally.see(line));
        print!("{said}");
        Ok(Ran { status, tally })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_tests_are_found_in_cargos_messages() {
        let messages = [
            r#"{"reason":"build-script-executed","package_id":"a"}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","target":{"name":"a"},"profile":{"test":true},"executable":"/w/target/a"}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/w/b/Cargo.toml","target":{"name":"b"},"profile":{"test":false},"executable":"/w/target/b"}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/w/c/Cargo.toml","target":{"name":"faults"},"profile":{"test":true},"executable":"/w/target/c"}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/w/d/Cargo.toml","target":{"name":"d"},"profile":{"test":true},"executable":null}"#,
        ];
        let programs = found(&messages.join("\n")).expect("programs");
        let names: Vec<_> = programs.iter().map(Program::name).collect();
        assert_eq!(names, ["a/a", "c/faults"]);
        assert!(found("").is_err(), "nothing to run is no success");
    }
}
