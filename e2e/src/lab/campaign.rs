//! A campaign: runs of consecutive seeds, each in a sandbox of its own, some at a time.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::fault::Kind;
use super::net::Mode;
use super::plan::Plan;
use super::report::{Outcome, Summary};
use super::sandbox::{self, Sandbox};

/// Longest a run may take, on a very busy machine; usually it is a quarter of a minute.
const RUN_PATIENCE: Duration = Duration::from_secs(900);

/// Defects that the programs can be built with.
pub const MUTANTS: [&str; 6] =
    ["no_dedupe", "wait_one", "no_token", "pop_before_apply", "bare_failover", "no_votes"];

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many runs.
    pub runs: u64,
    /// The first seed.
    pub seed: u64,
    /// Runs at a time.
    pub parallel: usize,
    /// Only this kind of fault.
    pub kind: Option<Kind>,
    /// How long a primary may be silent before Sentinel calls it down.
    pub down_after: Duration,
    /// The folder of `taba` and `taba-keeper`.
    pub programs: PathBuf,
    /// A mutant to break the product with.
    pub mutant: Option<String>,
    /// Namespaces, unless told otherwise or there are none.
    pub mode: Option<Mode>,
    /// Keeps the folder of every run, not only of failed ones.
    pub keep: bool,
}

impl Options {
    /// Some runs from a seed with the programs of a folder.
    #[must_use]
    pub fn new(runs: u64, seed: u64, programs: PathBuf) -> Self {
        Self {
            runs,
            seed,
            parallel: 1,
            kind: None,
            down_after: Duration::from_secs(1),
            programs,
            mutant: None,
            mode: None,
            keep: false,
        }
    }
}

/// What a campaign says while it runs.
pub trait Listener: Sync {
    /// A run is over. A failed one comes with its timeline and the folder of its logs.
    fn finished(&self, outcome: &Outcome, failure: Option<&Failure>);
    /// Something that is no run.
    fn note(&self, what: &str);
}

/// What is left of a failed run.
#[derive(Debug)]
pub struct Failure {
    /// What happened when.
    pub timeline: String,
    /// Its folder, with a log of each process.
    pub folder: PathBuf,
}

/// Runs a campaign with the lab's own program.
///
/// # Errors
/// If a sandbox cannot be made. A failed run is in the summary.
pub fn run(lab: &Path, options: &Options, listener: &impl Listener) -> Result<Summary> {
    for swept in sandbox::sweep()? {
        listener.note(&format!("removed what a killed lab left: {}", swept.display()));
    }
    let mode = mode(options, listener);
    // Loopback ports are of the whole machine.
    let parallel = if mode == Mode::Loopback { 1 } else { options.parallel.max(1) };
    let (next, summary, error) = (AtomicU64::new(0), Mutex::new(Summary::default()), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..parallel {
            scope.spawn(|| {
                while let Some(seed) = take(&next, options) {
                    match one(lab, options, mode, seed) {
                        Ok((outcome, failure)) => {
                            listener.finished(&outcome, failure.as_ref());
                            let caught = options.mutant.is_some() && outcome.is_wrong();
                            summary.lock().expect("no holder of this lock panics").add(outcome);
                            if caught {
                                next.store(options.runs, Ordering::SeqCst);
                            }
                        }
                        Err(why) => {
                            *error.lock().expect("no holder of this lock panics") = Some(why);
                            next.store(options.runs, Ordering::SeqCst);
                        }
                    }
                }
            });
        }
    });
    if let Some(why) = error.into_inner().expect("no holder of this lock panics") {
        return Err(why);
    }
    Ok(summary.into_inner().expect("no holder of this lock panics"))
}

/// Which mode a campaign runs in; says what is not possible in it.
pub fn mode(options: &Options, listener: &impl Listener) -> Mode {
    if let Some(mode) = options.mode {
        return mode;
    }
    let (mode, why) = sandbox::best_mode();
    if let Some(why) = why {
        let missing: Vec<_> = Kind::all().filter(|kind| !kind.is_possible(mode)).map(Kind::name).collect();
        listener.note(&format!(
            "NOT POSSIBLE on this machine, which allows no namespaces ({why}): {}",
            missing.join(", ")
        ));
    }
    mode
}

fn take(next: &AtomicU64, options: &Options) -> Option<u64> {
    let number = next.fetch_add(1, Ordering::SeqCst);
    (number < options.runs).then(|| options.seed.wrapping_add(number))
}

fn plan(seed: u64, options: &Options, mode: Mode) -> Plan {
    options.kind.map_or_else(|| Plan::new(seed), |kind| Plan::of_kind(kind, seed)).possible(mode)
}

fn one(lab: &Path, options: &Options, mode: Mode, seed: u64) -> Result<(Outcome, Option<Failure>)> {
    let mut arguments = vec!["inside-run".to_owned(), "--seed".to_owned(), seed.to_string()];
    let mut add = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
    add("--down-after-ms", options.down_after.as_millis().to_string());
    add("--programs", options.programs.to_string_lossy().into_owned());
    if let Some(kind) = options.kind {
        add("--kind", kind.name().to_owned());
    }
    if let Some(mutant) = &options.mutant {
        add("--mutant", mutant.clone());
    }
    let mut sandbox = Sandbox::start(lab, mode, &arguments, true)?;
    let outcome = sandbox.output(RUN_PATIENCE).and_then(|text| {
        let line = text.lines().last().context("a run prints its outcome")?;
        Outcome::parse(line)
    });
    let outcome = outcome.unwrap_or_else(|error| {
        let mut outcome = Outcome::new(&plan(seed, options, mode));
        outcome.errors.push(format!("{error:#}"));
        outcome
    });
    if outcome.is_ok() && !options.keep {
        return Ok((outcome, None));
    }
    let folder = sandbox.keep(&seed.to_string())?;
    let timeline = std::fs::read_to_string(folder.join("lab.log")).unwrap_or_default();
    let failure = (!outcome.is_ok()).then_some(Failure { timeline, folder });
    Ok((outcome, failure))
}

/// Fails unless every run was as it must be; for a mutant, unless one broke a promise.
///
/// # Errors
/// What is wrong.
pub fn judge(summary: &Summary, options: &Options) -> Result<()> {
    let failed = summary.failed();
    match &options.mutant {
        Some(mutant) if summary.wrong().is_empty() => {
            bail!("mutant {mutant} was not caught in {} runs", summary.outcomes().len())
        }
        Some(_) => Ok(()),
        None if failed.is_empty() => Ok(()),
        None => bail!("failed seeds: {failed:?}"),
    }
}
