//! The command line: one subcommand per thing a person or a service manager wants done.
//!
//! Answers go to standard output, everything else to standard error. Commands that ask a server are
//! plain HTTP clients; they never touch a data folder.

mod answer;
mod api;
mod config;
mod error;
mod output;
mod probe;
mod query;
mod record;
mod table;
mod tabs;
mod tail;
mod top;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub use error::CliError;

use crate::agent::{self, AgentArgs};
use crate::config::args::{ClusterArgs, ConfigArgs, StandaloneArgs};
use crate::config::{ConfigError, Loaded, load, parse_duration};
use crate::logging;
use crate::serve::{self, Mode};

const FIRST_MINUTE: &str = "\
The first minute, each line in its own terminal:

  taba standalone             a whole Taba on this machine, in the folder ./taba-data
  taba record visits 1        counts a visit; run it a few times
  taba query visits           shows it: the last minute, ten minutes, hour and day
  taba top                    watches the busiest tabs

Programs post events to http://127.0.0.1:8300/post. Each command explains itself: taba help COMMAND.";

/// Counts what your programs do, and answers within milliseconds.
///
/// Programs send events: a name (the tab), a value, a time. Taba folds them into small summaries per
/// tab, so that "how many in the last hour, and how slow were they" is one quick query, over any number
/// of machines.
#[derive(Debug, Parser)]
#[command(name = "taba", version, after_help = FIRST_MINUTE, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole Taba in this one process, with its data in a folder.
    ///
    /// An event that was acknowledged is on disk: it survives `kill -9` and power cuts. Stop with Ctrl-C
    /// or SIGTERM; what was accepted is applied first. A second signal stops at once, and loses nothing
    /// that was acknowledged either.
    Standalone(StandaloneArgs),
    /// Run a server of a cluster, on Redis shards that Sentinels watch.
    ///
    /// It holds nothing that it has acknowledged: start, stop and kill as many as you like. All servers are
    /// told the same Sentinels, shards and number of vbuckets. `taba-keeper` runs beside each Redis.
    Server(ClusterArgs),
    /// Take events of the programs on this machine and deliver them to Taba servers.
    ///
    /// Programs post to the agent and go on; it folds, compresses and retries until a server has
    /// acknowledged. Log lines follow TABA_LOG_LEVEL and TABA_LOG_FORMAT. Stop with Ctrl-C or SIGTERM;
    /// what it holds is delivered first.
    Agent(Box<AgentArgs>),
    /// Record one event and wait until it is stored.
    Record(record::RecordArgs),
    /// Show what was counted in tabs.
    Query(query::QueryArgs),
    /// List tabs and their types.
    Tabs(tabs::TabsArgs),
    /// Watch tabs change, a line per change.
    Tail(tail::TailArgs),
    /// Show the busiest tabs, again and again.
    Top(top::TopArgs),
    /// Ask a URL, and fail unless it answers 200: for images without curl.
    Probe(probe::ProbeArgs),
    /// Show the configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

/// Which server to ask.
#[derive(Args, Clone, Debug)]
struct ServerArgs {
    /// Server to talk to; for `record` an agent will do.
    #[arg(long, value_name = "URL", env = "TABA_SERVER", default_value = "http://127.0.0.1:8300")]
    server: String,
}

impl Cli {
    /// Does what the command line asks, until it is done or a signal ends it.
    ///
    /// # Errors
    /// [`CliError`]: what was attempted, on what, and why it did not work.
    pub fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::Standalone(StandaloneArgs(args)) => run_server(&args, Mode::Standalone),
            Command::Server(ClusterArgs(args)) => run_server(&args, Mode::Cluster),
            Command::Agent(args) => {
                logging::init(&effective(&ConfigArgs::default())?.config.log);
                run_agent(&args)
            }
            Command::Record(args) => record::run(&args),
            Command::Query(args) => query::run(&args),
            Command::Tabs(args) => tabs::run(&args),
            Command::Tail(args) => tail::run(&args),
            Command::Top(args) => top::run(&args),
            Command::Probe(args) => probe::run(&args),
            Command::Config(command) => config::run(&command),
        }
    }
}

fn run_server(args: &ConfigArgs, mode: Mode) -> Result<(), CliError> {
    let loaded = effective(args)?;
    logging::init(&loaded.config.log);
    serve::run(&loaded.config, mode).map_err(CliError::Serve)
}

fn run_agent(args: &AgentArgs) -> Result<(), CliError> {
    serve::raise_open_files();
    agent::run(args).map_err(CliError::Agent)
}

/// The configuration of this process, from its flags, its environment and the file they name.
fn effective(args: &ConfigArgs) -> Result<Loaded, ConfigError> {
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let environment: BTreeMap<_, _> =
        std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect();
    load(args, &environment)
}

/// Parses a duration flag.
fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as 500ms, 30s, 5m or 1h".to_owned())
}

/// Asks again and again while a server that did answer before cannot be reached or is at a limit, as
/// while it restarts.
fn patiently<T>(pause: Duration, mut ask: impl FnMut() -> Result<T, CliError>) -> Result<T, CliError> {
    let mut told = false;
    loop {
        match ask() {
            Err(error) if error.is_passing() => {
                if !std::mem::replace(&mut told, true) {
                    output::note(&format!("{error}; waiting for it"));
                }
                thread::sleep(pause);
            }
            outcome => return outcome,
        }
    }
}
