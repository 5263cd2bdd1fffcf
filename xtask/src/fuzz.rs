//! `cargo xtask fuzz`: runs the targets of `fuzz/` under libFuzzer, with the pinned stable toolchain.
//!
//! The compiler's coverage instrumentation works on stable; its address sanitizer does not. That is no
//! loss: our code is safe Rust, and the targets check for panics and for memory by themselves.

use anyhow::{Context as _, Result, anyhow};

use crate::process;
use crate::system::{self, C_COMPILER, CXX_COMPILER};
use crate::tools::CARGO_FUZZ;

/// What to fuzz and for how long.
#[derive(Debug)]
pub struct Options {
    /// These targets only; all if empty.
    pub targets: Vec<Target>,
    /// Seconds for each target.
    pub seconds: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { targets: Vec::new(), seconds: 60 }
    }
}

/// A fuzz target, by the name of its file in `fuzz/fuzz_targets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target(&'static str);

const TARGETS: [Target; 4] =
    [Target("v1_decoder"), Target("v2_decoder"), Target("state_decoder"), Target("zlib_body")];

/// Longest input libFuzzer makes. The limits that depend on length are far lower in the targets, and
/// longer inputs are slower without reaching more.
const INPUT_BYTES_MAX: u32 = 16 << 10;
/// One input may take this long before it counts as a hang; they take well under a millisecond.
const INPUT_SECONDS_MAX: u32 = 10;
/// All of a fuzzing process. Inputs are 16 KiB and may cost some MiB; the corpus stays below 100 MiB.
const MEMORY_MIB_MAX: u32 = 1024;

impl Target {
    /// The target of this name.
    ///
    /// # Errors
    /// The known names, if it is none of them.
    pub fn parse(name: &str) -> Result<Self> {
        let known = TARGETS.into_iter().find(|target| target.0 == name);
        known.ok_or_else(|| {
            anyhow!("no target {name:?}; there are {}", TARGETS.map(|known| known.0).join(", "))
        })
    }

    fn fuzz(self, seconds: u32) -> Result<()> {
        let corpus = format!("fuzz/corpus/{}", self.0);
        let regressions = format!("fuzz/regressions/{}", self.0);
        for folder in [&corpus, &regressions] {
            let folder = process::root().join(folder);
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("failed to make {}", folder.display()))?;
        }
        let mut fuzz = process::program(CARGO_FUZZ.ensure()?);
        fuzz.args([
            "fuzz",
            "run",
            "--fuzz-dir",
            "fuzz",
            "--sanitizer",
            "none",
            "--features",
            "libfuzzer",
            self.0,
            &corpus,
            &regressions,
        ]);
        fuzz.args(["--", "-print_final_stats=1", &format!("-max_total_time={seconds}")]);
        fuzz.args([format!("-max_len={INPUT_BYTES_MAX}"), format!("-timeout={INPUT_SECONDS_MAX}")]);
        process::run(fuzz.arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))).with_context(|| {
            format!("{} found something; keep the input in {regressions} once it is repaired", self.0)
        })
    }
}

/// Fuzzes the targets one after another.
///
/// # Errors
/// If a target cannot be built, or finds an input that breaks it.
pub fn run(options: &Options) -> Result<()> {
    system::ensure_programs(&[C_COMPILER, CXX_COMPILER])?;
    let targets: &[Target] = if options.targets.is_empty() { &TARGETS } else { &options.targets };
    targets.iter().try_for_each(|target| target.fuzz(options.seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_targets_are_those_that_have_a_file() {
        let mut files: Vec<_> = std::fs::read_dir(process::root().join("fuzz/fuzz_targets"))
            .expect("the folder of the targets")
            .map(|file| file.expect("a file").path().file_stem().expect("a name").to_owned())
            .collect();
        files.sort();
        let mut names = TARGETS.map(|target| target.0);
        names.sort_unstable();
        assert_eq!(files, names);
    }
}
