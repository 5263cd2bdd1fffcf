//! `cargo xtask test`: everything that must hold before a change lands.
//!
//! ```text
//! prepare what a stage needs ─▶ run it ─▶ its time ─▶ next stage, whatever came of it
//!                                                 all done ─▶ table, notes, "N passed, N failed"
//! ```
//!
//! A failed stage does not end the run, so that one run shows all there is to repair. Invariant: the
//! exit code is success only if every stage ran to its end and nothing in it failed; what could not be
//! checked is said in the table's notes and never called passed.

mod deny;
mod programs;
mod report;
mod tally;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::cluster;
use crate::images;
use crate::process;
use crate::quick;
use crate::system::{self, LAB, Program, REDIS};
use report::{Outcome, Report};
use tally::Tally;

/// What to check.
#[derive(Debug, Default)]
pub struct Options {
    /// All stages but the tests on Kubernetes.
    pub fast: bool,
    /// These stages only; all if empty.
    pub stages: Vec<Stage>,
}

/// One part of the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The sources are as rustfmt writes them.
    Format,
    /// Clippy and the compiler have no warning.
    Clippy,
    /// The documentation builds without a warning.
    Docs,
    /// Licences, sources, bans and advisories of the dependencies.
    Deny,
    /// The tests of the workspace.
    Tests,
    /// The examples in the documentation.
    Doctests,
    /// The Helm chart: what it renders, what it refuses, and whether the files made from it are up to date.
    Chart,
    /// The tests on a real Kubernetes.
    Kubernetes,
    /// The tests of the workspace without the end-to-end ones; only when named, since [`Stage::Tests`] has them.
    Unit,
}

impl Stage {
    const ALL: [Self; 8] = [
        Self::Format,
        Self::Clippy,
        Self::Docs,
        Self::Deny,
        Self::Tests,
        Self::Doctests,
        Self::Chart,
        Self::Kubernetes,
    ];
    const ONLY_WHEN_NAMED: [Self; 1] = [Self::Unit];

    /// The name it is asked for by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Clippy => "clippy",
            Self::Docs => "docs",
            Self::Deny => "deny",
            Self::Tests => "tests",
            Self::Doctests => "doctests",
            Self::Chart => "chart",
            Self::Kubernetes => "kubernetes",
            Self::Unit => "unit",
        }
    }

    /// The stage of this name.
    ///
    /// # Errors
    /// The known names, if it is none of them.
    pub fn parse(name: &str) -> Result<Self> {
        let names = || Self::known().map(Self::name).collect::<Vec<_>>().join(", ");
        let known = Self::known().find(|stage| stage.name() == name);
        known.ok_or_else(|| anyhow!("no stage {name:?}; there are {}", names()))
    }

    fn known() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().chain(Self::ONLY_WHEN_NAMED)
    }

    fn run(self, runner: &Path) -> Result<Outcome> {
        match self {
            Self::Format => format(),
            Self::Clippy => clippy(),
            Self::Docs => docs(),
            Self::Deny => deny::run(),
            Self::Tests => tests(&LAB, &[], Some(images::programs_of_tests()?)),
            Self::Doctests => doctests(),
            Self::Chart => chart(),
            Self::Kubernetes => kubernetes(runner),
            Self::Unit => tests(&[REDIS], &["--exclude", "taba-e2e"], None),
        }
    }
}

/// Runs the stages and prints what came of them.
///
/// # Errors
/// Never for a failed check: that is the exit code.
pub fn run(options: &Options) -> Result<ExitCode> {
    let stages: &[Stage] = match options {
        Options { stages, .. } if !stages.is_empty() => stages,
        Options { fast: true, .. } => Stage::ALL.split_last().map_or(&[], |(_kubernetes, others)| others),
        Options { .. } => &Stage::ALL,
    };
    // Later it may have another name, if somebody builds this program meanwhile.
    let runner = std::env::current_exe().context("failed to find our own program")?;
    let mut report = Report::default();
    for &stage in stages {
        eprintln!("\n== {}", stage.name());
        let start = Instant::now();
        let outcome = stage.run(&runner).unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            Outcome::failed(format!("{error:#}"))
        });
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("== {} {} in {seconds:.1} s", stage.name(), outcome.word());
        report.add(stage.name(), seconds, outcome);
    }
    if options.fast && !stages.contains(&Stage::Kubernetes) {
        println!("\nLEFT OUT by --fast: the tests on a real Kubernetes; `cargo xtask test` runs them too");
    }
    print!("{report}");
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn format() -> Result<Outcome> {
    system::ensure_component("rustfmt", "fmt")?;
    process::run(process::cargo().args(["fmt", "--all", "--check"]))
        .context("not formatted: run `cargo fmt --all`")?;
    Ok(Outcome::default())
}

fn clippy() -> Result<Outcome> {
    system::ensure_component("clippy", "clippy")?;
    let mut workspace = quick::cargo("clippy")?;
    workspace.args(["--workspace", "--all-targets"]);
    // The tests too that need a Kubernetes or Helm, which not every run compiles otherwise.
    workspace.args(["--features", "taba-e2e/kubernetes,xtask/chart", "--", "--deny", "warnings"]);
    process::run(&mut workspace)?;
    Ok(Outcome::default())
}

fn docs() -> Result<Outcome> {
    let mut doc = quick::cargo("doc")?;
    doc.env("RUSTDOCFLAGS", "--deny warnings");
    process::run(doc.args(["--workspace", "--no-deps", "--document-private-items"]))?;
    Ok(Outcome::default())
}

/// Tests at a time in a program of tests, for each core: many wait for real Redis and Sentinels to notice something.
const TESTS_A_CORE: usize = 3;

/// Servers and keepers are tested against real Redis. End-to-end tests run what is in `folder`.
fn tests(programs: &[Program], selection: &[&str], folder: Option<PathBuf>) -> Result<Outcome> {
    system::ensure_programs(programs)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut variables = vec![("RUST_TEST_THREADS", (cores * TESTS_A_CORE).to_string().into())];
    variables.extend(folder.map(|folder| ("TABA_PROGRAMS", folder.into_os_string())));
    let mut test = quick::cargo("test")?;
    test.arg("--workspace").args(selection);
    programs::run(test.args(["--lib", "--bins", "--tests", "--examples"]), &variables)
}

fn doctests() -> Result<Outcome> {
    count(quick::cargo("test")?.args(["--no-fail-fast", "--workspace", "--doc"]))
}

/// Needs Go, or Helm named by `TABA_HELM`.
fn chart() -> Result<Outcome> {
    let helm = crate::chart::helm()?;
    crate::chart::check()?;
    let selection = ["--workspace", "--features", "xtask/chart", "--test", "templates"];
    count(quick::cargo("test")?.args(selection).env("TABA_HELM", helm))
}

/// One cluster for all tests, and the tests of how it comes and goes around them.
fn kubernetes(runner: &Path) -> Result<Outcome> {
    // Built first, so that the tests' own waits do not count it.
    cluster::prepare().context("NOT RUN")?;
    let mut outcome = Outcome::default();
    if cluster::is_up() {
        let note = "that a cluster leaves no trace: one is up, which is used and left as it is; \
                    `cargo xtask down` first";
        outcome.notes.push(note.to_owned());
        on_a_cluster(runner, &mut outcome)?;
        return Ok(outcome);
    }
    outcome.add(run_e2e("kubernetes", &["half_way"], runner)?);
    cluster::up(&cluster::Options { nodes: Some(4), ..cluster::Options::default() })?;
    let ran = on_a_cluster(runner, &mut outcome);
    cluster::down().and(ran)?;
    outcome.add(run_e2e("kubernetes", &["brought_down"], runner)?);
    Ok(outcome)
}

fn on_a_cluster(runner: &Path, outcome: &mut Outcome) -> Result<()> {
    // Beside each other, for they mostly wait; but two of them bring the same definition. The last one needs the images.
    let (beside, images) = std::thread::scope(|scope| {
        let images = scope.spawn(|| process::run(process::program(runner).args(E2E_IMAGES)));
        let cluster = scope.spawn(|| run_e2e("kubernetes", &["serves"], runner));
        let others = ["admission", "chart"].map(|test| run_e2e(test, &[], runner));
        let cluster = cluster.join().expect("it does not panic");
        (others.into_iter().chain([cluster]).collect::<Vec<_>>(), images.join().expect("it does not panic"))
    });
    images?;
    // Last, because it fills the cluster.
    for one in beside.into_iter().chain([run_e2e("operator", &[], runner)]) {
        outcome.add(one?);
    }
    Ok(())
}

/// What brings the images that the tests of the operator run.
const E2E_IMAGES: [&str; 5] = ["images", "--quick", "taba", "redis", "check"];

/// Runs a test program, which drives the cluster with `runner`.
fn run_e2e(test: &str, words: &[&str], runner: &Path) -> Result<Outcome> {
    let begin = Instant::now();
    let one =
        count(e2e(test)?.env("TABA_XTASK", runner).env("TABA_E2E_IMAGES", "there").arg("--").args(words))?;
    let test = [&[test], words].concat().join(" ");
    eprintln!("== kubernetes, {test}: {} in {:.1} s", one.word(), begin.elapsed().as_secs_f64());
    let failure = one.failure.map(|failure| format!("{test}: {failure}"));
    Ok(Outcome { failure, ..one })
}

/// A test program that needs a real Kubernetes.
fn e2e(test: &str) -> Result<Command> {
    let mut command = quick::cargo("test")?;
    // Of the whole workspace, as other tests are built: by itself it asks less of what it needs, which would be compiled
    // once more.
    command.args(["--workspace", "--features", "taba-e2e/kubernetes", "--test", test]);
    Ok(command)
}

/// Runs a `cargo test` and counts its tests.
fn count(command: &mut Command) -> Result<Outcome> {
    let mut tally = Tally::default();
    let status = process::run_seeing_lines(command, |line| tally.see(line))?;
    Ok(Outcome { tally, failure: failure(status, tally)?, ..Outcome::default() })
}

/// Why a program that counted tests failed, if it did.
fn failure(status: ExitStatus, tally: Tally) -> Result<Option<String>> {
    Ok(match (status.success(), tally.failed) {
        (true, 0) => None,
        (true, failed) => bail!("success is reported, but {failed} tests failed"),
        // A compiler error or a test program that died prints no result line.
        (false, 0) => Some(format!("ended with {status}")),
        (false, failed) => Some(format!("{failed} tests failed")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_is_found_by_its_name() {
        for stage in Stage::known() {
            assert_eq!(Stage::parse(stage.name()).ok(), Some(stage));
        }
        let error = Stage::parse("lint").expect_err("not a stage");
        assert!(
            error
                .to_string()
                .ends_with("format, clippy, docs, deny, tests, doctests, chart, kubernetes, unit")
        );
    }

    #[test]
    fn failing_tests_are_counted_and_a_dying_test_program_fails_the_stage() {
        let shell = |script: &str| count(process::program("sh").args(["-c", script])).expect("sh runs");
        let passed = shell("echo 'test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured'");
        assert_eq!((passed.tally, passed.failure), (Tally { passed: 2, failed: 0, skipped: 1 }, None));
        let failed = shell("echo 'test result: FAILED. 1 passed; 3 failed; 0 ignored'; exit 101");
        assert_eq!(failed.failure.as_deref(), Some("3 tests failed"));
        let died = shell("kill -9 $$");
        assert_eq!((died.tally, died.failure.is_some()), (Tally::default(), true));
    }

    #[test]
    fn success_that_contradicts_the_counted_failures_is_an_error() {
        let liar = count(process::program("sh").args(["-c", "echo 'test result: ok. 0 passed; 1 failed'"]));
        assert!(liar.is_err());
    }
}
