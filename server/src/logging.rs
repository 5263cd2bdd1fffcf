//! Sets up the log: lines to standard error, so that standard output stays free for answers.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Starts logging for this process. Only the first call of a process has an effect.
pub fn init(config: &LogConfig) {
    let filter = EnvFilter::new(&config.level);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A second call, as by tests of one process, fails and changes nothing.
    let _ = match config.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}
