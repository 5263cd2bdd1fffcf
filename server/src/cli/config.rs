//! `taba config`: shows what a server would run with.

use clap::Subcommand;

use super::error::CliError;
use super::output;
use crate::config::args::ConfigArgs;
use crate::config::{print, print_defaults};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the effective configuration as TOML, each value with where it comes from.
    ///
    /// Takes the flags, environment and file of `taba standalone`. Its output is a valid file; secrets
    /// are left out.
    Print {
        /// Print every setting with its meaning and default instead: an example to start a file from.
        #[arg(long)]
        defaults: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub(super) fn run(command: &ConfigCommand) -> Result<(), CliError> {
    match command {
        ConfigCommand::Print { defaults: true, .. } => output::print(&print_defaults()),
        ConfigCommand::Print { config, .. } => output::print(&print(&super::effective(config)?)),
    }
}
