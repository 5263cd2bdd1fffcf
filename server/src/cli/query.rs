//! `taba query`: what was counted in tabs, as tables for people or JSON as the server wrote it.

use clap::Args;

use super::ServerArgs;
use super::answer::{Query, Selection, Tab, Window};
use super::api::Api;
use super::error::CliError;
use super::output;
use super::table::{Align, Table, number};

#[derive(Args, Debug)]
pub(super) struct QueryArgs {
    /// Tabs to show: a name, or a prefix followed by `*` (in quotes, or the shell looks for files).
    #[arg(required = true, value_name = "TAB|PREFIX*")]
    tabs: Vec<Selection>,
    /// Percentiles to show, as fractions, separated by commas.
    #[arg(short, long, value_name = "LIST", default_value = "0.5,0.9,0.99")]
    quantiles: String,
    /// Only what these clients recorded, separated by commas.
    #[arg(long, value_name = "IDS", default_value = "", hide_default_value = true)]
    clients: String,
    /// Print the server's JSON, one line per page of up to 1,000 tabs.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn run(args: &QueryArgs) -> Result<(), CliError> {
    let api = Api::new(&args.server.server);
    let query = Query { api: &api, clients: &args.clients, windows: "", quantiles: &args.quantiles };
    for selection in &args.tabs {
        if args.json {
            query.pages(selection, |page| output::print_line(&page.text))?;
            continue;
        }
        let tabs = query.tabs(selection)?;
        if tabs.is_empty() {
            return Err(CliError::Argument(nothing_found(selection)));
        }
        for tab in &tabs {
            output::print(&for_people(tab))?;
        }
    }
    Ok(())
}

fn nothing_found(selection: &Selection) -> String {
    match selection {
        Selection::Tab(tab) => format!("no tab {tab}; `taba tabs` lists those there are"),
        Selection::Prefix(prefix) if prefix.is_empty() => {
            "there are no tabs; `taba record` makes one".to_owned()
        }
        Selection::Prefix(prefix) => {
            format!("no tab begins with {prefix}; `taba tabs` lists those there are")
        }
    }
}

/// A heading and a table of windows, or the value of a tab that is not numbers.
fn for_people(tab: &Tab) -> String {
    let heading = format!("{}  ({})\n", tab.tab, tab.tab_type);
    match &tab.value {
        Some(value) => format!("{heading}{value}\n\n"),
        None => format!("{heading}{}\n", windows_table(&tab.windows)),
    }
}

fn windows_table(windows: &[Window]) -> Table {
    // Windows may carry different percentiles or none; columns are those of the first that has any.
    let quantiles: Vec<f64> = windows
        .iter()
        .map(|window| &window.quantiles)
        .find(|found| !found.is_empty())
        .map_or_else(Vec::new, |found| found.iter().map(|quantile| quantile.q).collect());
    let names: Vec<String> = quantiles.iter().map(|q| percentile_name(*q)).collect();
    let fixed = [("window", Align::Left), ("events", Align::Right), ("per second", Align::Right)];
    let sums = [("sum", Align::Right), ("mean", Align::Right)];
    let percentiles = names.iter().map(|name| (name.as_str(), Align::Right));
    let mut table = Table::new(&fixed.into_iter().chain(sums).chain(percentiles).collect::<Vec<_>>());
    for window in windows {
        table.push(window_cells(window, &quantiles));
    }
    table
}

fn window_cells(window: &Window, quantiles: &[f64]) -> Vec<String> {
    let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
    let mut cells = vec![
        window.window.clone(),
        number(window.count as f64),
        optional(window.per_second()),
        number(window.sum),
        optional(window.mean()),
    ];
    cells.extend(quantiles.iter().map(|q| optional(window.quantile(*q))));
    cells
}

/// 0.5 is `p50`, 0.999 is `p99.9`.
fn percentile_name(q: f64) -> String {
    // Rounding hides that a hundred times a binary fraction is not quite a decimal one.
    format!("p{}", (q * 1e8).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_named_as_people_say_them() {
        assert_eq!([0.5, 0.99, 0.999, 0.07].map(percentile_name), ["p50", "p99", "p99.9", "p7"]);
    }

    #[test]
    fn tabs_show_their_windows_and_percentiles() {
        let json = serde_json::json!({"tab": "visits", "type": "CounterGroup", "windows": [
            {"window": "1m", "seconds": 60, "count": 3, "sum": 1500.0},
            {"window": "all", "seconds": null, "count": 4, "sum": 1501.0,
             "quantiles": [{"q": 0.5, "value": 500.0}, {"q": 0.99, "value": null}]},
        ]});
        let tab: Tab = serde_json::from_value(json).expect("a tab");
        let expected = "\
visits  (CounterGroup)
window  events  per second    sum   mean  p50  p99
1m           3        0.05  1,500    500    -    -
all          4           -  1,501  375.2  500    -

";
        assert_eq!(for_people(&tab), expected);
    }
}
