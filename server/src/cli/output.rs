//! Standard output whose errors are reported instead of causing a panic.

use std::io::{self, IsTerminal as _, Write as _};

use super::error::CliError;

/// Writes text and pushes it out, so that a reader sees it at once.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::Output)
}

/// Writes a line.
pub(super) fn print_line(line: &str) -> Result<(), CliError> {
    print(&format!("{line}\n"))
}

/// Writes a value as one line of JSON.
pub(super) fn print_json(value: &serde_json::Value) -> Result<(), CliError> {
    print_line(&value.to_string())
}

/// Writes a line about what is going on, apart from the answer. Nothing is lost if nobody reads it.
pub(super) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "taba: {line}");
}

/// Whether a person looks at standard output.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}
