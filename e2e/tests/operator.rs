//! The operator on a real cluster: each scenario in a namespace of its own, under the checker's traffic.
//!
//! ```sh
//! cargo xtask test kubernetes                     # this and all other tests that need a cluster
//! TABA_XTASK=$PWD/target/debug/xtask cargo test -p taba-e2e --features kubernetes --test operator -- bare
//! ```
//!
//! Uses the cluster that is up, or else starts one and removes it. With `TABA_E2E_REUSE=1` the images and the chart
//! that are there are used as they are, with `TABA_E2E_IMAGES=there` the images. Those scenarios run whose names contain one of the arguments; what they
//! measured is printed at the end.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test program talks on both")]

#[path = "operator/bed.rs"]
mod bed;
#[path = "operator/checker.rs"]
mod checker;
#[path = "operator/client.rs"]
mod client;
#[path = "operator/dump.rs"]
mod dump;
#[path = "operator/kubectl.rs"]
mod kubectl;
#[path = "operator/taba.rs"]
mod taba;
#[path = "operator/turns.rs"]
mod turns;

#[path = "operator/apart.rs"]
mod apart;
#[path = "operator/bare.rs"]
mod bare;
#[path = "operator/broken.rs"]
mod broken;
#[path = "operator/change.rs"]
mod change;
#[path = "operator/delete.rs"]
mod delete;
#[path = "operator/kill.rs"]
mod kill;
#[path = "operator/nodes.rs"]
mod nodes;
#[path = "operator/rights.rs"]
mod rights;
#[path = "operator/scale.rs"]
mod scale;
#[path = "operator/upgrade.rs"]
mod upgrade;
#[path = "operator/volumes.rs"]
mod volumes;

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Result;
use bed::{Bed, Stage};
use taba_e2e::process::in_lanes;

type Scenario = (&'static str, fn(&mut Stage) -> Result<()>);

/// Alone: what all others take for granted.
const FIRST: [Scenario; 1] = [("bare", bare::a_bare_cluster_serves_the_first_tabas_body)];

/// Beside all others and in none of their lanes, for it hardly does anything but wait for autoscalers.
const WAITS: [&[Scenario]; 1] =
    [&[("autoscaling", scale::load_makes_servers_grow_and_calm_makes_them_shrink)]];

/// Rows beside each other, the longest first; each scenario touches only its own namespace, or what the others of
/// its row touch as well, until it is alone.
const BESIDE: [&[Scenario]; 11] = [
    // The harmed nodes.
    &[
        ("nodes", nodes::nodes_fail_in_every_way),
        ("apart", apart::clusters_do_not_meet_even_with_each_others_addresses),
    ],
    &[("change-shards", change::every_change_of_shards_restarts_only_what_it_must)],
    &[("change-servers", change::every_other_change_restarts_only_what_it_must)],
    // The operator.
    &[
        ("kill-operator", kill::an_operator_that_dies_again_and_again_ends_what_it_began),
        ("delete-orders", delete::nothing_is_left_or_stuck_in_whatever_order_things_go),
    ],
    &[
        ("broken", broken::what_cannot_work_is_told_and_a_good_spec_heals_it),
        ("rights", rights::pods_may_nothing_and_reach_only_what_they_need),
    ],
    &[("kill-pods", kill::each_kind_of_pod_dies_under_traffic)],
    &[("upgrade", upgrade::new_images_roll_under_traffic)],
    &[("data-lost", volumes::data_go_away_and_come_back)],
    &[("delete-retain", delete::retained_data_are_served_by_a_new_cluster_of_the_same_name)],
    // These are alone in the end, so nothing waits for their lanes. The second harms while what the first made goes.
    &[("ten", scale::ten_clusters_cost_the_operator_little)],
    &[("api-server", nodes::the_api_server_dies)],
];
/// How many of these rows at a time.
const LANES: usize = 4;

fn main() -> ExitCode {
    // Words for the usual harness, such as --nocapture, mean nothing here.
    let wanted: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let bed = match Bed::prepare() {
        Ok(bed) => bed,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let play = Play { bed, wanted, done: Mutex::default() };
    let begin = Instant::now();
    play.beside_each_other(&[(1, &[&FIRST])]);
    play.beside_each_other(&[(1, &WAITS), (LANES, &BESIDE)]);
    play.sweep();
    play.report(begin.elapsed().as_secs_f64())
}

/// What is played, and what came of it so far.
struct Play {
    bed: Bed,
    /// Parts of names; empty: all.
    wanted: Vec<String>,
    done: Mutex<Done>,
}

#[derive(Default)]
struct Done {
    passed: usize,
    failed: Vec<&'static str>,
    figures: Vec<String>,
}

impl Play {
    fn chosen<'a>(&'a self, scenarios: &'a [Scenario]) -> impl Iterator<Item = &'a Scenario> {
        let is_wanted = |name: &str| self.wanted.iter().any(|word| name.contains(word.as_str()));
        scenarios.iter().filter(move |(name, _)| self.wanted.is_empty() || is_wanted(name))
    }

    /// Rows in so many lanes, and all of these beside each other.
    fn beside_each_other(&self, parts: &[(usize, &[&[Scenario]])]) {
        let rows = parts.iter().flat_map(|(_, rows)| rows.iter());
        // All at once: that nobody plays for a moment does not mean that nobody will.
        self.bed.turns.expect(rows.map(|row| self.chosen(row).count()).sum());
        std::thread::scope(|scope| {
            for &(lanes, rows) in parts {
                let play = |row: &&[Scenario]| self.chosen(row).for_each(|scenario| self.one(*scenario));
                scope.spawn(move || in_lanes(lanes, rows.iter(), play));
            }
        });
    }

    /// Something that hangs is no single scenario's fault to see.
    fn sweep(&self) {
        if let Err(error) = self.bed.turns.swept() {
            eprintln!("{error:#}");
            self.done.lock().expect("no lane panics here").failed.push("leaving nothing behind");
        }
    }

    fn one(&self, (name, scenario): Scenario) {
        let (outcome, mut measured) = self.bed.play(name, scenario);
        let mut done = self.done.lock().expect("no lane panics here");
        done.figures.append(&mut measured);
        match outcome {
            Ok(()) => done.passed += 1,
            Err(error) => {
                eprintln!("{name}: {error:#}");
                done.failed.push(name);
            }
        }
    }

    /// As the usual harness ends, so that `cargo xtask test` counts it.
    fn report(self, seconds: f64) -> ExitCode {
        let Done { passed, failed, figures } = self.done.into_inner().expect("no lane panicked");
        println!("\nmeasured:");
        figures.iter().for_each(|figure| println!("  {figure}"));
        let word = if failed.is_empty() { "ok" } else { "FAILED" };
        let all = FIRST.len() + WAITS.concat().len() + BESIDE.concat().len();
        let others = all.saturating_sub(passed + failed.len());
        println!("failed: {failed:?}");
        println!(
            "test result: {word}. {passed} passed; {} failed; 0 ignored; 0 measured; {others} filtered out; \
             finished in {seconds:.2}s",
            failed.len()
        );
        if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
