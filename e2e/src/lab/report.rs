//! What came of runs: one JSON object per run, and a summary of a campaign.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::fault::Kind;
use super::plan::Plan;

/// The longest time without an acknowledgement around one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultGap {
    /// The fault.
    pub kind: Kind,
    /// Milliseconds.
    pub gap_ms: u64,
    /// Whether another fault was under way too; then the gap is of both.
    pub overlaps: bool,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Its faults.
    pub faults: Vec<Kind>,
    /// Events that were acknowledged.
    pub acknowledged: u64,
    /// Events that were acknowledged and are not shown.
    pub lost: u64,
    /// Events that are shown and were not acknowledged, or more often than once.
    pub doubled: u64,
    /// Promises broken otherwise: two primaries, an answer that hides something, an old copy that opened.
    pub broken: u64,
    /// The longest time without an acknowledgement by a frontend.
    pub gap_ms: u64,
    /// The same around each fault.
    pub gaps: Vec<FaultGap>,
    /// From the end of the last fault until everything was whole.
    pub convergence_ms: u64,
    /// The longest time that something acknowledged waited for an owner to take it, as frontends said.
    pub age_ms: u64,
    /// By how much the machine slowed the run down; 1 is not at all.
    pub slowdown: f64,
    /// What went wrong.
    pub errors: Vec<String>,
}

impl Outcome {
    /// The outcome of a run that has not begun.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        Self {
            seed: plan.seed,
            faults: plan.faults.iter().map(|fault| fault.kind).collect(),
            acknowledged: 0,
            lost: 0,
            doubled: 0,
            broken: 0,
            gap_ms: 0,
            gaps: Vec::new(),
            convergence_ms: 0,
            age_ms: 0,
            slowdown: 1.0,
            errors: Vec::new(),
        }
    }

    /// Whether the run was as it must be.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.errors.is_empty() && !self.is_wrong()
    }

    /// Whether the product did what it must never do. A run that ran out of time shows nothing.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.lost > 0 || self.doubled > 0 || self.broken > 0
    }

    /// As one JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        let gaps: Vec<_> = self
            .gaps
            .iter()
            .map(|gap| json!({"fault": gap.kind.name(), "gap_ms": gap.gap_ms, "overlaps": gap.overlaps}))
            .collect();
        let names: Vec<_> = self.faults.iter().map(|kind| kind.name()).collect();
        let mut object = json!({
            "seed": self.seed,
            "faults": names,
            "acknowledged": self.acknowledged,
            "lost": self.lost,
            "doubled": self.doubled,
            "broken": self.broken,
            "gap_ms": self.gap_ms,
            "gaps": gaps,
            "convergence_ms": self.convergence_ms,
            "age_ms": self.age_ms,
            "slowdown": (self.slowdown * 10.0).round() / 10.0,
            "ok": self.is_ok(),
        });
        if !self.errors.is_empty() {
            object["error"] = json!(self.errors.join("\n"));
        }
        object
    }

    /// From one JSON object.
    ///
    /// # Errors
    /// If it is none of ours.
    pub fn parse(line: &str) -> Result<Self> {
        let object: Value = serde_json::from_str(line).context("parse an outcome")?;
        let number = |of: &Value, name: &str| {
            of.get(name).and_then(Value::as_u64).with_context(|| format!("an outcome has {name}"))
        };
        let kind = |name: &Value| name.as_str().and_then(Kind::parse).context("a fault has a known name");
        let list = |name: &str| object.get(name).and_then(Value::as_array).context("an outcome has lists");
        let gap = |gap: &Value| -> Result<FaultGap> {
            Ok(FaultGap {
                kind: kind(&gap["fault"])?,
                gap_ms: number(gap, "gap_ms")?,
                overlaps: gap["overlaps"].as_bool().unwrap_or(false),
            })
        };
        let error = object.get("error").and_then(Value::as_str);
        Ok(Self {
            seed: number(&object, "seed")?,
            faults: list("faults")?.iter().map(kind).collect::<Result<_>>()?,
            acknowledged: number(&object, "acknowledged")?,
            lost: number(&object, "lost")?,
            doubled: number(&object, "doubled")?,
            broken: number(&object, "broken")?,
            gap_ms: number(&object, "gap_ms")?,
            gaps: list("gaps")?.iter().map(gap).collect::<Result<_>>()?,
            convergence_ms: number(&object, "convergence_ms")?,
            age_ms: number(&object, "age_ms")?,
            slowdown: object.get("slowdown").and_then(Value::as_f64).context("an outcome has a slowdown")?,
            errors: error.map(str::to_owned).into_iter().collect(),
        })
    }
}

/// What came of a campaign.
#[derive(Debug, Default)]
pub struct Summary {
    outcomes: Vec<Outcome>,
}

impl Summary {
    /// Adds a run.
    pub fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// All runs.
    #[must_use]
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// Seeds of runs that were not as they must be.
    #[must_use]
    pub fn failed(&self) -> Vec<u64> {
        self.outcomes.iter().filter(|outcome| !outcome.is_ok()).map(|outcome| outcome.seed).collect()
    }

    /// Seeds of runs in which the product did what it must never do.
    #[must_use]
    pub fn wrong(&self) -> Vec<u64> {
        self.outcomes.iter().filter(|outcome| outcome.is_wrong()).map(|outcome| outcome.seed).collect()
    }

    /// How often each kind was met.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Kind, usize> {
        let mut counts = BTreeMap::new();
        for kind in self.outcomes.iter().flat_map(|outcome| &outcome.faults) {
            *counts.entry(*kind).or_default() += 1;
        }
        counts
    }

    /// Gaps around faults of a kind that no other fault overlapped.
    fn lone_gaps(&self, kind: Kind) -> Vec<u64> {
        let gaps = self.outcomes.iter().flat_map(|outcome| &outcome.gaps);
        sorted(gaps.filter(|gap| gap.kind == kind && !gap.overlaps).map(|gap| gap.gap_ms))
    }

    /// The totals in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let sum = |of: fn(&Outcome) -> u64| self.outcomes.iter().map(of).sum::<u64>();
        format!(
            "{} runs, {} events acknowledged, {} lost, {} doubled, {} runs failed",
            self.outcomes.len(),
            sum(|outcome| outcome.acknowledged),
            sum(|outcome| outcome.lost),
            sum(|outcome| outcome.doubled),
            self.failed().len(),
        )
    }

    /// A table with a row for each kind of fault.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = format!("{}.\n\n", self.line());
        let convergence = sorted(self.outcomes.iter().map(|outcome| outcome.convergence_ms));
        let ages = sorted(self.outcomes.iter().map(|outcome| outcome.age_ms));
        let mut slowdowns: Vec<_> = self.outcomes.iter().map(|outcome| outcome.slowdown).collect();
        slowdowns.sort_by(f64::total_cmp);
        let median = slowdowns.get(slowdowns.len() / 2).copied().unwrap_or(1.0);
        let _ = writeln!(out, "Slowed down by the machine by {median:.1} (median; 1 is not at all).\n");
        let _ = writeln!(out, "Whole again after the last fault: {}.\n", percentiles(&convergence));
        let _ =
            writeln!(out, "Longest wait of something acknowledged for an owner: {}.\n", percentiles(&ages));
        out.push_str("| fault | times | alone | gap p50 ms | gap p90 ms | gap p99 ms | gap max ms |\n");
        out.push_str("|---|---|---|---|---|---|---|\n");
        for (kind, times) in self.counts() {
            let gaps = self.lone_gaps(kind);
            let _ = writeln!(
                out,
                "| {kind} | {times} | {} | {} | {} | {} | {} |",
                gaps.len(),
                percentile(&gaps, 50),
                percentile(&gaps, 90),
                percentile(&gaps, 99),
                percentile(&gaps, 100),
            );
        }
        out
    }
}

fn sorted(values: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values
}

fn percentiles(sorted: &[u64]) -> String {
    let of = |percent| percentile(sorted, percent);
    format!("p50 {} ms, p90 {} ms, p99 {} ms, max {} ms", of(50), of(90), of(99), of(100))
}

/// The smallest value that at least so many percent do not exceed.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        let mut outcome = Outcome::new(&Plan::new(4));
        outcome.acknowledged = 7;
        outcome.age_ms = 1234;
        outcome.gaps = vec![FaultGap { kind: outcome.faults[0], gap_ms: 900, overlaps: false }];
        outcome
    }

    #[test]
    fn an_outcome_survives_its_json() {
        let mut outcome = outcome();
        assert_eq!(Outcome::parse(&outcome.json().to_string()).expect("our own"), outcome);
        outcome.errors.push("something".to_owned());
        let read = Outcome::parse(&outcome.json().to_string()).expect("our own");
        assert!(!read.is_ok() && read == outcome);
    }

    #[test]
    fn lost_events_fail_a_run_without_any_error() {
        let mut outcome = outcome();
        assert!(outcome.is_ok());
        outcome.lost = 1;
        assert!(!outcome.is_ok());
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!([50, 90, 99, 100].map(|percent| percentile(&values, percent)), [100, 180, 198, 200]);
        assert_eq!(percentile(&[], 99), 0);
    }

    #[test]
    fn the_table_has_a_row_for_each_kind_that_was_met() {
        let mut summary = Summary::default();
        summary.add(outcome());
        let table = summary.markdown();
        assert_eq!(table.lines().filter(|line| line.starts_with("| ")).count(), 1 + outcome().faults.len());
        assert!(table.contains("| 1 | 1 | 900 | 900 | 900 | 900 |"));
    }
}
