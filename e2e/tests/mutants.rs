//! The campaigns of faults see what they are there for: known defects, put into the product on purpose, make
//! some run lose, double, or break another promise.

#![allow(clippy::print_stdout, reason = "what a failed test did is printed by the harness")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use taba_e2e::lab::campaign::{self, Failure, Listener, Options};
use taba_e2e::lab::fault::Kind;
use taba_e2e::lab::report::Outcome;
use taba_e2e::process::{campaign_lanes, in_lanes, mutant_programs};
use taba_e2e::rng::seed;

/// Within so many runs each defect must be seen.
const RUNS: u64 = 50;

/// Each defect, and the kind of fault that aims at it, where chance would take long; the longest first.
const DEFECTS: [(&str, Option<Kind>); 6] = [
    ("pop_before_apply", None),
    ("bare_failover", Some(Kind::LoneHandover)),
    ("no_token", Some(Kind::LateCommit)),
    ("no_votes", Some(Kind::LoseTooMuch)),
    ("wait_one", Some(Kind::KeepOne)),
    ("no_dedupe", None),
];

#[derive(Default)]
struct Count(AtomicUsize);

impl Listener for Count {
    fn finished(&self, outcome: &Outcome, failure: Option<&Failure>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        if let Some(failure) = failure {
            println!("{}", outcome.json());
            // Logs of a defect that is there on purpose help nobody.
            let _ = std::fs::remove_dir_all(&failure.folder);
        }
    }

    fn note(&self, what: &str) {
        println!("{what}");
    }
}

#[test]
fn defects_are_caught_within_fifty_runs() {
    let lab = Path::new(env!("CARGO_BIN_EXE_taba-lab"));
    // Beside each other, for where one is caught nothing more is to be run.
    in_lanes(campaign_lanes(), DEFECTS.into_iter(), |(mutant, kind)| is_caught(lab, mutant, kind));
}

fn is_caught(lab: &Path, mutant: &str, kind: Option<Kind>) {
    let mut options = Options::new(RUNS, seed(1), mutant_programs().to_owned());
    options.mutant = Some(mutant.to_owned());
    options.kind = kind;
    let count = Count::default();
    let summary = campaign::run(lab, &options, &count).expect("the lab runs");
    campaign::judge(&summary, &options).expect("the defect is noticed");
    println!("{mutant}: caught in seed {:?} of {} runs", summary.wrong(), count.0.into_inner());
}
