//! Seeded faults under traffic, on a whole Taba of real processes: nothing acknowledged is lost, nothing
//! counts twice, no answer is silently incomplete, and everything is whole again within its bound.
//!
//! `cargo xtask faults` runs more of the same.

#![allow(clippy::print_stdout, reason = "what a failed test did is printed by the harness")]

use std::path::Path;

use taba_e2e::lab::campaign::{self, Failure, Listener, Options};
use taba_e2e::lab::fault::Kind;
use taba_e2e::lab::report::Outcome;
use taba_e2e::process::cluster_programs;
use taba_e2e::rng::seed;

/// As many consecutive seeds as it takes to meet every kind of fault.
const RUNS: u64 = 20;

struct Console;

impl Listener for Console {
    fn finished(&self, outcome: &Outcome, failure: Option<&Failure>) {
        println!("{}", outcome.json());
        if let Some(failure) = failure {
            println!("{}\nlogs: {}", failure.timeline, failure.folder.display());
            println!("repeat: cargo xtask faults --dev --runs 1 --seed {}", outcome.seed);
        }
    }

    fn note(&self, what: &str) {
        println!("{what}");
    }
}

#[test]
fn twenty_seeds_meet_every_fault_and_lose_and_double_nothing() {
    let lab = Path::new(env!("CARGO_BIN_EXE_taba-lab"));
    let mut options = Options::new(RUNS, seed(1), cluster_programs().to_owned());
    // A run keeps one to two cores busy.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    options.parallel = (cores / 2).clamp(1, 4);
    let mode = campaign::mode(&options, &Console);
    options.mode = Some(mode);
    let summary = campaign::run(lab, &options, &Console).expect("the lab runs");
    println!("{}", summary.markdown());
    campaign::judge(&summary, &options).expect("every run is as it must be");
    let met = summary.counts();
    for kind in Kind::all().filter(|kind| kind.is_possible(mode)) {
        assert!(met.contains_key(&kind), "{kind} was not met");
    }
}
