//! `taba tail`: watches tabs and prints a line for each that changed since the last look.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use taba_core::Timestamp;

use super::ServerArgs;
use super::answer::{Query, Selection, Tab, Window};
use super::api::Api;
use super::error::CliError;
use super::output;
use super::table::number;
use crate::clock;

#[derive(Args, Debug)]
pub(super) struct TailArgs {
    /// Tabs to watch: a name, or a prefix followed by `*`.
    #[arg(value_name = "TAB|PREFIX*", default_value = "*", hide_default_value = true)]
    tabs: Selection,
    /// How often to look.
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = super::duration)]
    interval: Duration,
    /// Stop after this many changes [default: never].
    #[arg(short = 'n', long, value_name = "COUNT")]
    changes: Option<u64>,
    /// Print a line of JSON per change.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// What a tab showed at the last look. Bounded by the number of tabs the server holds.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Counts(Vec<(String, u64)>),
    Value(Value),
}

/// How a tab differs from the last look.
#[derive(Debug, PartialEq)]
enum Change {
    Events(u64),
    Value,
}

pub(super) fn run(args: &TailArgs) -> Result<(), CliError> {
    let api = Api::new(&args.server.server);
    let query = Query { api: &api, clients: "", windows: "", quantiles: "" };
    let mut seen: HashMap<String, Seen> = HashMap::new();
    for tab in query.tabs(&args.tabs)? {
        seen.insert(tab.tab.clone(), Seen::of(&tab));
    }
    output::note(&format!("watching; {} tabs so far", seen.len()));
    let mut left = args.changes.unwrap_or(u64::MAX);
    while left > 0 {
        thread::sleep(args.interval);
        for tab in super::patiently(args.interval, || query.tabs(&args.tabs))? {
            let now = Seen::of(&tab);
            let change = now.differs_from(seen.get(&tab.tab));
            seen.insert(tab.tab.clone(), now);
            if let Some(change) = change.filter(|_| left > 0) {
                print(args, &tab, &change)?;
                left -= 1;
            }
        }
    }
    Ok(())
}

impl Seen {
    fn of(tab: &Tab) -> Self {
        match &tab.value {
            Some(value) => Self::Value(value.clone()),
            None => {
                Self::Counts(tab.windows.iter().map(|window| (window.window.clone(), window.count)).collect())
            }
        }
    }

    /// Windows forget old events while new ones come in, so the one that grew most is nearest to the
    /// truth; if none grew, nothing happened.
    fn differs_from(&self, before: Option<&Self>) -> Option<Change> {
        match (self, before) {
            (Self::Counts(counts), Some(Self::Counts(before))) => {
                let before: HashMap<&str, u64> =
                    before.iter().map(|(name, count)| (name.as_str(), *count)).collect();
                let grown = counts
                    .iter()
                    .map(|(name, count)| {
                        count.saturating_sub(before.get(name.as_str()).copied().unwrap_or(0))
                    })
                    .max();
                grown.filter(|events| *events > 0).map(Change::Events)
            }
            (Self::Counts(counts), _) => {
                counts.iter().map(|(_, count)| *count).max().filter(|events| *events > 0).map(Change::Events)
            }
            (now, before) => (Some(now) != before).then_some(Change::Value),
        }
    }
}

fn print(args: &TailArgs, tab: &Tab, change: &Change) -> Result<(), CliError> {
    let now = clock::now();
    if args.json {
        let events = if let Change::Events(events) = change { Some(*events) } else { None };
        return output::print_json(&json!({
            "time": now.as_secs_f64(), "tab": tab.tab, "type": tab.tab_type,
            "new_events": events, "value": tab.value,
        }));
    }
    output::print_line(&line(now, tab, change))
}

fn line(now: Timestamp, tab: &Tab, change: &Change) -> String {
    let what = match change {
        Change::Events(events) => {
            let recent = tab
                .windows
                .first()
                .map(|Window { window, count, .. }| format!("  ({} in {window})", number(*count as f64)));
            format!("+{}{}", number(*events as f64), recent.unwrap_or_default())
        }
        Change::Value => tab.value.as_ref().map(Value::to_string).unwrap_or_default(),
    };
    format!("{}  {}  {what}", time_of_day(now), tab.tab)
}

/// `HH:MM:SS` in UTC.
fn time_of_day(now: Timestamp) -> String {
    let secs = now.as_secs().rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}Z", secs / 3600, secs / 60 % 60, secs % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> Seen {
        Seen::Counts(counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect())
    }

    #[test]
    fn new_events_are_seen_while_old_ones_leave_their_windows() {
        let before = counts(&[("1m", 10), ("1d", 100)]);
        assert_eq!(counts(&[("1m", 4), ("1d", 103)]).differs_from(Some(&before)), Some(Change::Events(3)));
        assert_eq!(counts(&[("1m", 4), ("1d", 100)]).differs_from(Some(&before)), None);
        assert_eq!(before.differs_from(None), Some(Change::Events(100)));
    }

    #[test]
    fn values_change_when_they_differ() {
        let (old, new) = (Seen::Value(json!({"v1": 1})), Seen::Value(json!({"v2": 1})));
        assert_eq!(new.differs_from(Some(&old)), Some(Change::Value));
        assert_eq!(new.differs_from(Some(&new)), None);
    }

    #[test]
    fn times_of_day_are_utc() {
        assert_eq!(time_of_day(Timestamp::from_secs(1_394_047_812)), "19:30:12Z");
    }
}
