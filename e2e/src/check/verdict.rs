//! What a run of the checker came to: one line of JSON, written by the program and read by tests.

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Lines of differing tabs that are told; a run has 32 tabs.
const LINES_MAX: usize = 40;

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Its seed.
    pub seed: u64,
    /// Events that were there before it.
    pub found: u64,
    /// Events that were there or were acknowledged.
    pub acknowledged: u64,
    /// Acknowledged and not shown.
    pub lost: u64,
    /// Shown and not acknowledged.
    pub doubled: u64,
    /// The longest time without an acknowledgement while traffic flowed.
    pub gap_ms: u64,
    /// From the last acknowledgement until totals were equal.
    pub convergence_ms: u64,
    /// A line for each tab that differs.
    pub differing: Vec<String>,
    /// Answers that were silently incomplete, or showed more than was sent.
    pub violations: Vec<String>,
}

impl Verdict {
    /// Nothing lost, nothing doubled, no wrong answer on the way.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.differing.is_empty() && self.violations.is_empty()
    }

    /// The line.
    #[must_use]
    pub fn json(&self) -> String {
        let some = |lines: &[String]| lines.iter().take(LINES_MAX).cloned().collect::<Vec<_>>();
        json!({
            "seed": self.seed,
            "found": self.found,
            "acknowledged": self.acknowledged,
            "lost": self.lost,
            "doubled": self.doubled,
            "gap_ms": self.gap_ms,
            "convergence_ms": self.convergence_ms,
            "differing": some(&self.differing),
            "violations": some(&self.violations),
        })
        .to_string()
    }

    /// Reads the line, which is the last one of a log.
    ///
    /// # Errors
    /// If it is something else.
    pub fn from_log(log: &str) -> Result<Self> {
        let line = log.lines().rev().find(|line| line.starts_with('{')).context("no verdict in the log")?;
        let value: Value = serde_json::from_str(line).with_context(|| format!("parse {line}"))?;
        let number = |name: &str| value[name].as_u64().with_context(|| format!("no number {name} in {line}"));
        let lines = |name: &str| -> Result<Vec<String>> {
            let list = value[name].as_array().with_context(|| format!("no list {name} in {line}"))?;
            Ok(list.iter().map(|line| line.as_str().unwrap_or_default().to_owned()).collect())
        };
        Ok(Self {
            seed: number("seed")?,
            found: number("found")?,
            acknowledged: number("acknowledged")?,
            lost: number("lost")?,
            doubled: number("doubled")?,
            gap_ms: number("gap_ms")?,
            convergence_ms: number("convergence_ms")?,
            differing: lines("differing")?,
            violations: lines("violations")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_read_as_it_was_written_whatever_stands_before_it() {
        let verdict = Verdict {
            seed: 7,
            found: 1,
            acknowledged: 40,
            lost: 2,
            doubled: 3,
            gap_ms: 4,
            convergence_ms: 5,
            differing: vec!["tab1: 1, 2".to_owned()],
            violations: vec!["said \"much\"".to_owned()],
        };
        let log = format!("   12 ms  stop\n{}\n", verdict.json());
        assert_eq!(Verdict::from_log(&log).expect("a verdict"), verdict);
        assert!(!verdict.is_exact() && Verdict::default().is_exact());
        Verdict::from_log("error: not within 10s\n").expect_err("none was written");
    }
}
