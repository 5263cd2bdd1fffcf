//! `taba top`: the tabs with most events per second over a window.

use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::ServerArgs;
use super::answer::{Query, Selection, Tab, Window};
use super::api::Api;
use super::error::CliError;
use super::output;
use super::table::{Align, Table, number};

/// Moves to the upper left corner and clears from there, so that a redraw does not flicker.
const REDRAW: &str = "\x1b[H\x1b[J";

#[derive(Args, Debug)]
pub(super) struct TopArgs {
    /// Only tabs that begin with a prefix followed by `*`.
    #[arg(value_name = "PREFIX*", default_value = "*", hide_default_value = true)]
    tabs: Selection,
    /// How many tabs to show.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    count: usize,
    /// Window to rank by: 1m, 10m, 1h or 1d.
    #[arg(short, long, value_name = "WINDOW", default_value = "1m", value_parser = ["1m", "10m", "1h", "1d"])]
    window: String,
    /// How often to look.
    #[arg(short, long, value_name = "DURATION", default_value = "2s", value_parser = super::duration)]
    interval: Duration,
    /// Show once and stop.
    #[arg(long)]
    once: bool,
    /// Print a line of JSON per look.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// One tab's window, ranked.
struct Busy {
    tab: String,
    tab_type: String,
    per_second: f64,
    window: Window,
}

pub(super) fn run(args: &TopArgs) -> Result<(), CliError> {
    let api = Api::new(&args.server.server);
    let query = Query { api: &api, clients: "", windows: &args.window, quantiles: "" };
    let mut tabs = query.tabs(&args.tabs)?;
    loop {
        show(args, &ranked(tabs, &args.window))?;
        if args.once {
            return Ok(());
        }
        thread::sleep(args.interval);
        tabs = super::patiently(args.interval, || query.tabs(&args.tabs))?;
    }
}

/// Tabs that have the window, busiest first, then by name.
fn ranked(tabs: Vec<Tab>, label: &str) -> Vec<Busy> {
    let busy = |tab: Tab| {
        let window = tab.windows.into_iter().find(|window| window.window == label)?;
        Some(Busy { per_second: window.per_second()?, tab: tab.tab, tab_type: tab.tab_type, window })
    };
    let mut ranked: Vec<Busy> = tabs.into_iter().filter_map(busy).collect();
    ranked.sort_by(|a, b| b.per_second.total_cmp(&a.per_second).then_with(|| a.tab.cmp(&b.tab)));
    ranked
}

fn show(args: &TopArgs, ranked: &[Busy]) -> Result<(), CliError> {
    if args.json {
        return output::print_json(&to_json(args, ranked));
    }
    let redraw = if output::is_terminal() && !args.once { REDRAW } else { "" };
    output::print(&format!("{redraw}{}", for_people(args, ranked)))
}

fn total_per_second(ranked: &[Busy]) -> f64 {
    ranked.iter().map(|busy| busy.per_second).sum()
}

fn for_people(args: &TopArgs, ranked: &[Busy]) -> String {
    let right = |name| (name, Align::Right);
    let mut table = Table::new(&[
        ("tab", Align::Left),
        ("type", Align::Left),
        right("events/s"),
        right("events"),
        right("mean"),
    ]);
    for busy in ranked.iter().take(args.count) {
        table.push(vec![
            busy.tab.clone(),
            busy.tab_type.clone(),
            number(busy.per_second),
            number(busy.window.count as f64),
            busy.window.mean().map_or_else(|| "-".to_owned(), number),
        ]);
    }
    let total = number(total_per_second(ranked));
    format!("{total} events/s over {}, tabs: {}\n\n{table}\n", args.window, ranked.len())
}

fn to_json(args: &TopArgs, ranked: &[Busy]) -> Value {
    let tabs: Vec<Value> = ranked
        .iter()
        .take(args.count)
        .map(|busy| {
            json!({
                "tab": busy.tab, "type": busy.tab_type, "events_per_second": busy.per_second,
                "count": busy.window.count, "sum": busy.window.sum,
            })
        })
        .collect();
    json!({"window": args.window, "events_per_second": total_per_second(ranked), "tabs": tabs})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tab(name: &str, label: &str, count: u64) -> Tab {
        let windows = json!([{"window": label, "seconds": 60, "count": count, "sum": 1.0}]);
        serde_json::from_value(json!({"tab": name, "type": "CounterGroup", "windows": windows}))
            .expect("a tab")
    }

    #[test]
    fn the_busiest_come_first_and_tabs_without_the_window_are_left_out() {
        let tabs =
            vec![tab("b", "1m", 60), tab("idle", "1m", 0), tab("totals", "all", 9), tab("a", "1m", 60)];
        let ranked = ranked(tabs, "1m");
        let names: Vec<&str> = ranked.iter().map(|busy| busy.tab.as_str()).collect();
        assert_eq!(names, ["a", "b", "idle"]);
        assert_eq!(total_per_second(&ranked), 2.0);
    }
}
