//! A small benchmark harness: figures with a unit and a limit, from interleaved runs.
//!
//! Machines drift: clocks change, neighbours come and go. So what is to be compared runs in turns
//! (subject, yardstick, subject, …), a ratio is taken within each turn, and the median over all turns
//! is the figure. The first turn warms up and is not counted. Time is the CPU time of the thread, so
//! that a core shared with others gives the figure of a whole one.

use std::hint::black_box;

use rustix::time::{ClockId, clock_gettime};

/// Turns that count.
pub const TURNS: usize = 7;

/// What a figure must reach.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// More is better.
    AtLeast(f64),
    /// Less is better.
    AtMost(f64),
    /// Reported only.
    None,
}

impl Limit {
    fn value(self) -> Option<f64> {
        match self {
            Self::AtLeast(limit) | Self::AtMost(limit) => Some(limit),
            Self::None => None,
        }
    }

    fn verdict(self, value: f64) -> &'static str {
        match self {
            Self::AtLeast(limit) if value >= limit => "pass",
            Self::AtMost(limit) if value <= limit => "pass",
            Self::None => "",
            _ => "FAIL",
        }
    }
}

/// Prints the names of the benchmarks, if the program was asked for them with `--list`, and says so.
#[must_use]
#[allow(clippy::print_stdout, reason = "the names are what was asked for")]
pub fn listed(names: &[&str]) -> bool {
    let asked = std::env::args().any(|argument| argument == "--list");
    if asked {
        names.iter().for_each(|name| println!("{name}"));
    }
    asked
}

/// The figures asked for on the command line, and how to print them.
pub struct Report {
    json: bool,
    names: Vec<String>,
    failed: bool,
}

impl Report {
    /// Reads `[--json] [NAME]...`; `--bench`, which cargo adds, is ignored.
    #[must_use]
    pub fn from_args() -> Self {
        let mut report = Self { json: false, names: Vec::new(), failed: false };
        for argument in std::env::args().skip(1) {
            match argument.as_str() {
                "--json" => report.json = true,
                "--bench" => {}
                _ => report.names.push(argument),
            }
        }
        report
    }

    /// Whether one of the figures was asked for, by its full name or by the part before its first dot.
    #[must_use]
    pub fn wants(&self, figures: &[&str]) -> bool {
        self.names.is_empty() || figures.iter().any(|figure| self.wants_one(figure))
    }

    fn wants_one(&self, figure: &str) -> bool {
        let base = figure.split('.').next().unwrap_or(figure);
        self.names.is_empty() || self.names.iter().any(|name| name == figure || name == base)
    }

    /// Prints a figure, if it was asked for, from its value in each turn, in its base unit.
    #[allow(clippy::print_stdout, reason = "the figures are what the program is for")]
    pub fn figure(&mut self, name: &str, unit: &str, limit: Limit, turns: &[f64]) {
        if !self.wants_one(name) {
            return;
        }
        let spread = Spread::of(turns);
        self.failed |= limit.verdict(spread.median) == "FAIL";
        if self.json {
            let limit = limit.value().map_or_else(|| "null".to_owned(), |limit| limit.to_string());
            println!(r#"{{"name":"{name}","value":{},"unit":"{unit}","limit":{limit}}}"#, spread.median);
            return;
        }
        let limit_text = match limit {
            Limit::AtLeast(limit) => format!(">= {}", short(limit)),
            Limit::AtMost(limit) => format!("<= {}", short(limit)),
            Limit::None => "-".into(),
        };
        println!(
            "{name:<34} {:>9} {unit:<9} limit {limit_text:<10} {:<5} min {} max {}",
            short(spread.median),
            limit.verdict(spread.median),
            short(spread.min),
            short(spread.max),
        );
    }

    /// Whether a printed figure missed its limit.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.failed
    }
}

/// Median and ends of the turns.
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(turns: &[f64]) -> Self {
        let mut sorted = turns.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (sorted[0], sorted[sorted.len() - 1]);
        Self { median: sorted[sorted.len() / 2], min, max }
    }
}

/// A number in three digits and a decimal prefix.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e9 => format!("{:.3}G", value / 1e9),
        size if size >= 1e6 => format!("{:.2}M", value / 1e6),
        size if size >= 1e4 => format!("{:.1}k", value / 1e3),
        size if size >= 10.0 => format!("{value:.0}"),
        _ => format!("{value:.3}"),
    }
}

/// Something to measure: one call does a fixed amount of work.
pub struct Subject<'a> {
    /// Units of work in one call, such as events.
    pub work: f64,
    /// Calls in one turn.
    pub calls: usize,
    /// The call; what it returns is kept from being optimised away.
    pub call: Box<dyn FnMut() -> u64 + 'a>,
}

impl<'a> Subject<'a> {
    /// A subject whose turns are `calls` calls of `work` units each.
    pub fn new(work: f64, calls: usize, call: impl FnMut() -> u64 + 'a) -> Self {
        Self { work, calls, call: Box::new(call) }
    }

    fn turn(&mut self) -> f64 {
        let start = cpu_secs();
        for _ in 0..self.calls {
            black_box((self.call)());
        }
        self.work * self.calls as f64 / (cpu_secs() - start)
    }
}

/// CPU time of this thread, in seconds.
fn cpu_secs() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Runs the subjects in turns and gives back each one's units per second in each turn.
pub fn in_turns<const N: usize>(mut subjects: [Subject<'_>; N]) -> [Vec<f64>; N] {
    let mut rates = [const { Vec::new() }; N];
    for turn in 0..=TURNS {
        for (subject, rates) in subjects.iter_mut().zip(&mut rates) {
            let rate = subject.turn();
            if turn > 0 {
                rates.push(rate);
            }
        }
    }
    rates
}

/// The ratio of two subjects within each turn.
#[must_use]
pub fn ratios(subject: &[f64], yardstick: &[f64]) -> Vec<f64> {
    subject.iter().zip(yardstick).map(|(subject, yardstick)| subject / yardstick).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_turn_is_not_counted() {
        let mut calls = 0;
        let [rates] = in_turns([Subject::new(1.0, 2, || {
            calls += 1;
            calls
        })]);
        assert_eq!(rates.len(), TURNS);
        assert_eq!(calls, 2 * (TURNS as u64 + 1));
    }

    #[test]
    fn the_median_is_of_the_turns_and_limits_know_their_direction() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]);
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 3.0));
        assert_eq!(Limit::AtLeast(2.0).verdict(1.9), "FAIL");
        assert_eq!(Limit::AtMost(2.0).verdict(1.9), "pass");
    }

    #[test]
    fn a_figure_is_found_by_its_name_and_by_its_family() {
        let report = Report { json: false, names: vec!["merge".into(), "inflate".into()], failed: false };
        assert!(report.wants(&["merge.Gauge"]) && report.wants(&["other", "inflate"]));
        assert!(!report.wants(&["merge_encoded.Gauge"]));
    }
}
