//! `cargo xtask bench`: builds and runs the benchmark programs of `e2e/benches`.
//!
//! Each program answers `--list` with the names of its benchmarks, one a line, and runs those named as
//! arguments. Standard output is theirs alone: with `--json` it is one object a line and nothing else;
//! whatever cargo says goes to standard error.

use anyhow::{Result, bail};

use crate::process;
use crate::system::{self, C_COMPILER};

/// What to measure.
#[derive(Debug, Default)]
pub struct Options {
    /// One JSON object a line instead of a table.
    pub json: bool,
    /// Only print the names.
    pub list: bool,
    /// These benchmarks only; all if empty.
    pub names: Vec<String>,
}

/// The benchmark programs: `core` measures functions, `system` whole processes.
const PROGRAMS: [&str; 2] = ["core", "system"];

/// A benchmark program and what it can measure.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    name: &'static str,
    benchmarks: Vec<String>,
}

/// Runs the benchmarks.
///
/// # Errors
/// If a name is unknown, or a program cannot be built or fails.
pub fn run(options: &Options) -> Result<()> {
    system::ensure_programs(&[C_COMPILER])?;
    let mut programs = Vec::new();
    for name in PROGRAMS {
        let names = process::output(cargo_bench(name).arg("--list"))?;
        programs.push(Program { name, benchmarks: names.lines().map(str::to_owned).collect() });
    }
    if options.list {
        programs.iter().flat_map(|program| &program.benchmarks).for_each(|name| println!("{name}"));
        return Ok(());
    }
    for (program, names) in choose(&programs, &options.names)? {
        let mut bench = cargo_bench(program);
        if options.json {
            bench.arg("--json");
        }
        process::run(bench.args(names))?;
    }
    Ok(())
}

fn cargo_bench(program: &str) -> std::process::Command {
    let mut command = process::cargo();
    command.args(["bench", "--locked", "--quiet", "--package", "taba-e2e", "--bench", program, "--"]);
    command
}

/// Which programs to run with which names: every program without names, or only those that know some.
fn choose<'a>(programs: &'a [Program], wanted: &'a [String]) -> Result<Vec<(&'static str, Vec<&'a str>)>> {
    let known: Vec<_> = programs.iter().flat_map(|program| &program.benchmarks).collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name)) {
        let known: Vec<_> = known.into_iter().map(String::as_str).collect();
        bail!("no benchmark {unknown:?}; there are {}", known.join(", "));
    }
    let mut chosen = Vec::new();
    for program in programs {
        let mine = wanted.iter().filter(|name| program.benchmarks.contains(name));
        let mine: Vec<_> = mine.map(String::as_str).collect();
        if wanted.is_empty() || !mine.is_empty() {
            chosen.push((program.name, mine));
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs() -> [Program; 2] {
        let program = |name, benchmarks: &[&str]| Program {
            name,
            benchmarks: benchmarks.iter().map(ToString::to_string).collect(),
        };
        [program("core", &["merge", "encode"]), program("system", &["query"])]
    }

    #[test]
    fn names_go_to_the_program_that_knows_them() {
        let wanted = ["encode".to_owned()];
        assert_eq!(choose(&programs(), &wanted).expect("a known name"), [("core", vec!["encode"])]);
        let all = choose(&programs(), &[]).map(|chosen| chosen.len());
        assert_eq!(all.expect("no names"), 2);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = choose(&programs(), &["decode".to_owned()]).expect_err("no such benchmark");
        assert_eq!(error.to_string(), "no benchmark \"decode\"; there are merge, encode, query");
    }
}
