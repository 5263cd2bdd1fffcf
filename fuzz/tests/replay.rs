//! Every target on its seeds, on inputs that once broke it, and on random changes of both.
//!
//! Deterministic: the same inputs in the same order every time. An input that breaks a target is left
//! in `fuzz/artifacts/<target>/`; once repaired, it belongs in `fuzz/regressions/<target>/`.

#![allow(clippy::print_stderr, reason = "what a failed test did is printed by the harness")]

use std::fs;
use std::path::{Path, PathBuf};

use taba_core::State;
use taba_core::wire::v2::Batch;
use taba_fuzz::mutate::Mutator;
use taba_fuzz::{TARGETS, Target};

/// A few seconds of a debug build for all targets together.
const MUTATIONS_PER_TARGET: usize = 20_000;
/// Mutation may not grow an input beyond this.
const INPUT_BYTES_MAX: usize = 16 << 10;

fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target)
}

/// The files of a folder whose names start so, in the order of their names; none if it is missing.
fn files(folder: &Path, prefix: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)));
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("a readable file"))).collect()
}

fn inputs((target, _): Target) -> Vec<(PathBuf, Vec<u8>)> {
    let mut inputs = files(&folder("corpus", target), "seed-");
    assert!(!inputs.is_empty(), "{target} has no seeds");
    inputs.extend(files(&folder("regressions", target), ""));
    inputs
}

/// Runs a target on one input and keeps the input if that panics.
fn run((name, target): Target, origin: &str, input: &[u8]) {
    if let Err(panic) = std::panic::catch_unwind(|| target(input)) {
        let folder = folder("artifacts", name);
        let kept = folder.join(format!("replay-{}-bytes", input.len()));
        fs::create_dir_all(&folder).and_then(|()| fs::write(&kept, input)).expect("a writable folder");
        eprintln!("{name} broke on {origin}; the input is in {}", kept.display());
        std::panic::resume_unwind(panic);
    }
}

fn replay(target: Target) {
    for (path, input) in inputs(target) {
        run(target, &path.display().to_string(), &input);
    }
}

fn replay_mutations(target: Target) {
    let inputs: Vec<_> = inputs(target).into_iter().map(|(_, input)| input).collect();
    let mut mutator = Mutator::new(0x7aba);
    for number in 0..MUTATIONS_PER_TARGET {
        let input = mutator.mutated(&inputs, INPUT_BYTES_MAX);
        run(target, &format!("mutation {number}"), &input);
    }
}

#[test]
fn no_seed_or_past_finding_breaks_a_target() {
    TARGETS.into_iter().for_each(replay);
}

#[test]
fn no_mutation_breaks_the_v1_decoder() {
    replay_mutations(TARGETS[0]);
}

#[test]
fn no_mutation_breaks_the_v2_decoder() {
    replay_mutations(TARGETS[1]);
}

#[test]
fn no_mutation_breaks_the_state_decoder() {
    replay_mutations(TARGETS[2]);
}

#[test]
fn no_mutation_breaks_zlib_bodies() {
    replay_mutations(TARGETS[3]);
}

/// A format that changed without its seeds would leave fuzzing at the front door.
#[test]
fn committed_seeds_are_those_of_the_generator_and_still_decode() {
    let mut names: Vec<_> = taba_fuzz::seeds::all().into_iter().map(|(of, name, _)| (of, name)).collect();
    names.sort();
    let mut committed = Vec::new();
    for (target, _) in TARGETS {
        for (path, bytes) in files(&folder("corpus", target), "seed-") {
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            if target == "state_decoder" {
                State::decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}; {REWRITE}"));
            } else if target == "v2_decoder" && !name.ends_with("-parts") {
                Batch::decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}; {REWRITE}"));
            }
            committed.push((target, name));
        }
    }
    committed.sort();
    assert_eq!(committed, names, "{REWRITE}");
}

const REWRITE: &str = "write the seeds again with the example `write_seeds`";
