//! What a run of `cargo xtask test` says at its end: a table of the stages, what could not be checked,
//! and the closing line, which CI systems read: `N passed, N failed[, N skipped]`.

use std::fmt;

use super::tally::Tally;

/// What came of one stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The tests it ran; none for a stage that is one check.
    pub tally: Tally,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// What it could not check.
    pub notes: Vec<String>,
}

impl Outcome {
    /// A stage that could not run or did not pass.
    pub fn failed(why: String) -> Self {
        Self { failure: Some(why), ..Self::default() }
    }

    /// Takes in what came of another part of the same stage.
    pub fn add(&mut self, other: Self) {
        self.tally.add(other.tally);
        self.notes.extend(other.notes);
        if let Some(failure) = other.failure {
            let before = self.failure.take().map(|before| format!("{before}; ")).unwrap_or_default();
            self.failure = Some(before + &failure);
        }
    }

    /// The outcome in one word.
    pub const fn word(&self) -> &'static str {
        if self.failure.is_some() { "FAILED" } else { "passed" }
    }
}

/// The outcomes of all stages of a run.
#[derive(Debug, Default)]
pub struct Report {
    stages: Vec<(&'static str, f64, Outcome)>,
}

impl Report {
    /// Adds a stage that took so many seconds.
    pub fn add(&mut self, stage: &'static str, seconds: f64, outcome: Outcome) {
        self.stages.push((stage, seconds, outcome));
    }

    /// Whether every stage passed.
    pub fn passed(&self) -> bool {
        self.stages.iter().all(|(_, _, outcome)| outcome.failure.is_none())
    }

    /// All tests together. A stage that failed without a failed test counts as one failure, so a failed
    /// run never closes with `0 failed`.
    fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        for (_, _, outcome) in &self.stages {
            sum.add(outcome.tally);
            if outcome.failure.is_some() && outcome.tally.failed == 0 {
                sum.failed += 1;
            }
        }
        sum
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for (stage, seconds, outcome) in &self.stages {
            write!(f, "{stage:<10}{seconds:>8.1} s  {}", outcome.word())?;
            match &outcome.failure {
                Some(why) => writeln!(f, ": {why}")?,
                None if outcome.tally.passed > 0 => writeln!(f, ", {} tests", outcome.tally.passed)?,
                None => writeln!(f)?,
            }
        }
        for note in self.stages.iter().flat_map(|(_, _, outcome)| &outcome.notes) {
            writeln!(f, "NOT CHECKED: {note}")?;
        }
        let Tally { passed, failed, skipped } = self.tally();
        write!(f, "\n{passed} passed, {failed} failed")?;
        if skipped > 0 {
            write!(f, ", {skipped} skipped")?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tested(passed: u64, failed: u64, skipped: u64) -> Outcome {
        let failure = (failed > 0).then(|| format!("{failed} tests failed"));
        Outcome { tally: Tally { passed, failed, skipped }, failure, notes: Vec::new() }
    }

    #[track_caller]
    fn check(outcomes: &[Outcome], passed: bool, closing: &str) {
        let mut report = Report::default();
        for outcome in outcomes {
            report.add("stage", 1.0, outcome.clone());
        }
        assert_eq!(report.passed(), passed);
        assert_eq!(report.to_string().lines().last(), Some(closing));
    }

    #[test]
    fn the_closing_line_counts_the_tests_of_all_stages() {
        check(&[Outcome::default(), tested(3, 0, 0), tested(4, 0, 0)], true, "7 passed, 0 failed");
        check(&[tested(3, 2, 1), tested(4, 0, 1)], false, "7 passed, 2 failed, 2 skipped");
    }

    #[test]
    fn a_failed_check_is_one_failure() {
        check(&[Outcome::failed("not formatted".into()), tested(3, 0, 0)], false, "3 passed, 1 failed");
    }

    #[test]
    fn what_was_not_checked_is_said() {
        let mut report = Report::default();
        let notes = vec!["advisories".to_owned()];
        report.add("deny", 1.0, Outcome { notes, ..Outcome::default() });
        assert!(report.to_string().contains("\nNOT CHECKED: advisories\n"));
    }
}
