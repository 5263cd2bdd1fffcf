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

/// Both workspaces; the second has its own lock file.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "fuzz/Cargo.toml"];

pub fn run() -> Result<Outcome> {
    let deny = CARGO_DENY.ensure()?;
    let check = |manifest: &str, what: &[&str]| -> Result<()> {
        let mut command = on(process::program(&deny), manifest);
        process::run(command.args(["check", "--hide-inclusion-graph"]).args(what))
            .with_context(|| format!("dependencies of {manifest} break deny.toml"))
    };
    for manifest in MANIFESTS {
        check(manifest, &["licenses", "bans", "sources"])?;
    }
    if let Err(why) = fetch_advisories(process::program(&deny)) {
        let note = format!("advisories of the dependencies: their database cannot be fetched ({why:#})");
        eprintln!("WARNING: NOT CHECKED: {note}");
        return Ok(Outcome { notes: vec![note], ..Outcome::default() });
    }
    for manifest in MANIFESTS {
        check(manifest, &["--disable-fetch", "advisories"])?;
    }
    Ok(Outcome::default())
}

fn fetch_advisories(deny: Command) -> Result<()> {
    system::ensure_programs(&[GIT])?;
    process::run(on(deny, MANIFESTS[0]).args(["fetch", "db"]))
}

/// cargo-deny with our rules on one of our workspaces, as it is locked.
fn on(mut deny: Command, manifest: &str) -> Command {
    deny.args(["--locked", "--all-features", "--manifest-path", manifest]);
    deny.env("GIT_TERMINAL_PROMPT", "0");
    deny
}
