//! The embedded store in child processes that are killed or run out of room.
//!
//! A child is this same program started with a role as its first argument, so the test has a main of
//! its own instead of the usual harness.

// Assertions are the point here, and the results are printed.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a test with its own main")]

#[path = "store_faults/full.rs"]
mod full;
#[path = "store_faults/kill.rs"]
mod kill;
#[path = "store_faults/ledger.rs"]
mod ledger;

type Test = (&'static str, fn());

const TESTS: [Test; 3] = [
    (
        "acknowledged_batches_survive_kill_9_exactly_once",
        kill::acknowledged_batches_survive_kill_9_exactly_once,
    ),
    (
        "a_file_size_limit_is_survived_without_a_restart",
        full::a_file_size_limit_is_survived_without_a_restart,
    ),
    ("a_full_disk_is_survived_without_a_restart", full::a_full_disk_is_survived_without_a_restart),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("child-accept") => kill::child(&arguments[1..]),
        Some("child-limited") => full::limited_child(),
        Some("--list") => TESTS.iter().for_each(|(name, _)| println!("{name}: test")),
        _ => run(arguments.iter().find(|argument| !argument.starts_with('-')).map_or("", String::as_str)),
    }
}

/// Runs the tests whose name holds `filter`; a panic fails the process.
fn run(filter: &str) {
    let chosen: Vec<Test> = TESTS.into_iter().filter(|(name, _)| name.contains(filter)).collect();
    println!("running {} tests", chosen.len());
    for (name, test) in &chosen {
        test();
        println!("test {name} ... ok");
    }
    let filtered = TESTS.len() - chosen.len();
    println!("test result: ok. {} passed; 0 failed; 0 ignored; {filtered} filtered out", chosen.len());
}
