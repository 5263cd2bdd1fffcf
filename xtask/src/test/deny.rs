//! The dependencies: licences, bans and sources always, advisories where their database can be had.
//!
//! The database is a git repository on a host of its own, out of reach of machines that see only a
//! package registry. There the rest is still checked and the report says that advisories were not.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::report::Outcome;
use crate::process;
use crate::system::{self, GIT};
use crate::tools::CARGO_DENY;

pub fn run() -> Result<Outcome> {
    let deny = CARGO_DENY.ensure()?;
    let check = |what: &[&str]| {
        let mut command = with_all_features(process::program(&deny));
        process::run(command.args(["check", "--hide-inclusion-graph"]).args(what))
            .context("dependencies break deny.toml")
    };
    check(&["licenses", "bans", "sources"])?;
    if let Err(why) = fetch_advisories(process::program(&deny)) {
        let note = format!("advisories of the dependencies: their database cannot be fetched ({why:#})");
        eprintln!("WARNING: NOT CHECKED: {note}");
        return Ok(Outcome { notes: vec![note], ..Outcome::default() });
    }
    check(&["--disable-fetch", "advisories"])?;
    Ok(Outcome::default())
}

fn fetch_advisories(deny: Command) -> Result<()> {
    system::ensure_programs(&[GIT])?;
    process::run(with_all_features(deny).args(["fetch", "db"]))
}

/// cargo-deny with our rules on the workspace, as it is locked.
fn with_all_features(mut deny: Command) -> Command {
    deny.args(["--locked", "--all-features"]).env("GIT_TERMINAL_PROMPT", "0");
    deny
}
