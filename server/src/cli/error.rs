//! What can go wrong in a command.

use std::io;

use crate::agent::AgentError;
use crate::config::ConfigError;
use crate::serve::ServeError;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server could not start or stop as it should.
    #[error(transparent)]
    Serve(ServeError),
    /// The agent could not start or stop as it should.
    #[error(transparent)]
    Agent(AgentError),
    /// An argument makes no sense.
    #[error("{0}")]
    Argument(String),
    /// Nobody answers at the address.
    #[error("cannot connect to {server}; is `taba standalone` running there?")]
    Connect {
        /// The server's URL.
        server: String,
        /// The cause.
        source: ureq::Error,
    },
    /// The connection broke or took too long.
    #[error("talk to {url}")]
    Exchange {
        /// What was requested.
        url: String,
        /// The cause.
        source: ureq::Error,
    },
    /// The server answered with an error.
    #[error("{url} answered {status}: {message}")]
    Status {
        /// What was requested.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The body, shortened.
        message: String,
    },
    /// The server's answer is not what this version expects.
    #[error("read the answer of {url}")]
    Answer {
        /// What was requested.
        url: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// The server will never count the event.
    #[error("the server did not count the event: {reasons}")]
    NotCounted {
        /// Its words for why.
        reasons: String,
    },
    /// No server acknowledged in time.
    #[error("not acknowledged after {attempts} attempts; it may or may not have been counted")]
    NotAcknowledged {
        /// How often it was sent.
        attempts: u32,
        /// What the last attempt met.
        source: Box<CliError>,
    },
    /// Standard output cannot be written.
    #[error("write to standard output")]
    Output(#[source] io::Error),
}

impl CliError {
    /// Whether the reader of our output went away, as `head` does: an end, not a failure.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether another attempt may go better: a server away, cut off, restarting or at a limit.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Exchange { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502..=504),
            _ => false,
        }
    }
}
