//! Seeded faults under traffic, on a whole Taba of real processes: nothing acknowledged is lost, nothing
//! counts twice, no answer is silently incomplete, and everything is whole again within its bound.
//!
//! `cargo xtask faults` runs more of the same.

#![allow(clippy::print_stdout, reason = "what a failed test did is printed by the harness")]

use std::collections::BTreeMap;
use std::path::Path;

use taba_e2e::lab::campaign::{self, Failure, Listener, Options};
use taba_e2e::lab::fault::{ASKED_FOR, Kind};
use taba_e2e::lab::net::Mode;
use taba_e2e::lab::report::Outcome;
use taba_e2e::process::{campaign_lanes, cluster_programs, in_lanes};
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

/// One test, because runs beside each other would slow each other down.
#[test]
fn every_fault_is_met_and_nothing_is_lost_or_doubled() {
    let mode = campaign::mode(&options(), &Console);
    let met = run(&Options { mode: Some(mode), ..options() });
    for kind in Kind::drawn().filter(|kind| kind.is_possible(mode)) {
        assert!(met.contains_key(&kind), "{kind} was not met");
    }
    // Each kind beside others, for its last run would be alone; but loopback ports are of the whole machine.
    let lanes = if mode == Mode::Loopback { 1 } else { campaign_lanes() };
    in_lanes(lanes, ASKED_FOR.into_iter().filter(|kind| kind.is_possible(mode)), |kind| {
        run(&Options { mode: Some(mode), kind: Some(kind), runs: 2, parallel: 1, ..options() });
    });
}

fn options() -> Options {
    let mut options = Options::new(RUNS, seed(1), cluster_programs().to_owned());
    // Bounds are in time that slows with the machine.
    options.parallel = campaign_lanes();
    options
}

/// Runs a campaign, which must go well; gives how often each kind was met.
fn run(options: &Options) -> BTreeMap<Kind, usize> {
    let lab = Path::new(env!("CARGO_BIN_EXE_taba-lab"));
    let summary = campaign::run(lab, options, &Console).expect("the lab runs");
    println!("{}", summary.markdown());
    campaign::judge(&summary, options).expect("every run is as it must be");
    summary.counts()
}
