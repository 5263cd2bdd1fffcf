//! `taba tabs`: which tabs there are, and their types.

use clap::Args;
use serde::Deserialize;

use super::ServerArgs;
use super::answer::{Completeness, PAGE_TABS, Selection, walk};
use super::api::Api;
use super::error::CliError;
use super::output;
use super::table::{Align, Table};

#[derive(Args, Debug)]
pub(super) struct TabsArgs {
    /// Only this tab, or those that begin with a prefix followed by `*`.
    #[arg(value_name = "TAB|PREFIX*", default_value = "*", hide_default_value = true)]
    tabs: Selection,
    /// Print the server's JSON, one line per page of up to 1,000 tabs.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Deserialize)]
struct Page {
    tabs: Vec<Listed>,
    completeness: Completeness,
}

#[derive(Debug, Deserialize)]
struct Listed {
    name: String,
    #[serde(rename = "type")]
    tab_type: String,
}

pub(super) fn run(args: &TabsArgs) -> Result<(), CliError> {
    let api = Api::new(&args.server.server);
    let mut table = Table::new(&[("tab", Align::Left), ("type", Align::Left)]);
    let ask = |after: &str| {
        let asked = [args.tabs.param(), ("limit", PAGE_TABS), ("after", after)];
        let given: Vec<_> = asked.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        api.get("/v2/tabs", &given)
    };
    walk(ask, |page| {
        if args.json {
            return output::print_line(&page.text);
        }
        add(&mut table, &page.parse()?);
        Ok(())
    })?;
    if args.json { Ok(()) } else { output::print(&table.to_string()) }
}

fn add(table: &mut Table, page: &Page) {
    page.completeness.warn();
    for tab in &page.tabs {
        table.push(vec![tab.name.clone(), tab.tab_type.clone()]);
    }
}
