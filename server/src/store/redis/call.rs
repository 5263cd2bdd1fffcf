//! What can become of a command at a shard, and what each outcome means.

use std::time::Duration;

use redis::{Cmd, RedisError, ServerError, Value};
use taba_core::Vbucket;
use taba_core::batch::SEQUENCE_WINDOW;

use super::link::Link;
use super::scripts::Script;
use crate::store::StoreError;

/// Why a command did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum CallError {
    /// A bound of the shard was reached; nothing was stored.
    #[error("the shard is full: {0}")]
    Full(&'static str),
    /// The sequence is too far behind; nothing was stored.
    #[error("the sequence is too far behind")]
    Stale,
    /// The lease is lost; nothing was written.
    #[error("the lease is lost")]
    Fenced,
    /// The shard refused before it did anything.
    #[error("{code} {detail}")]
    Refused {
        /// First word of the error.
        code: String,
        /// The rest.
        detail: String,
    },
    /// Whether it was done is not known.
    #[error("{0}")]
    Broken(RedisError),
    /// It was done at the primary, and not known to be at the in-sync set.
    #[error("the in-sync set did not acknowledge in time")]
    Unacknowledged,
    /// The answer is none that the script gives.
    #[error("unexpected answer: {0}")]
    Unexpected(&'static str),
    /// No primary is known.
    #[error("no primary is known: {0}")]
    Unbound(String),
}

impl CallError {
    /// What an error that the shard answered means.
    pub(super) fn of_server(error: &ServerError) -> Self {
        let detail = error.details().unwrap_or_default();
        match error.code() {
            "TABAFULL" if detail.starts_with("producers") => Self::Full("producers"),
            "TABAFULL" => Self::Full("queue bytes"),
            "OOM" => Self::Full("memory of a shard"),
            "TABASTALE" => Self::Stale,
            "TABAFENCED" => Self::Fenced,
            code => Self::Refused { code: code.to_owned(), detail: detail.to_owned() },
        }
    }

    /// Why the connection is of no use any more, as a metric label; `None`: it is fine.
    pub(super) fn breaks(&self) -> Option<&'static str> {
        match self {
            Self::Broken(error) if error.is_timeout() => Some("timeout"),
            Self::Broken(_) => Some("connection"),
            Self::Unacknowledged => Some("unacknowledged"),
            Self::Unexpected(_) => Some("unexpected"),
            Self::Refused { code, .. } => match code.as_str() {
                "TABATERM" => Some("term"),
                "TABACLOSED" => Some("closed"),
                "TABAMOVED" => Some("moved"),
                "READONLY" => Some("readonly"),
                "NOREPLICAS" => Some("noreplicas"),
                "LOADING" => Some("loading"),
                "MASTERDOWN" => Some("masterdown"),
                // The shard's keeper knows better than a connection that has not noticed yet.
                "TABASYNC" => None,
                "BUSY" => None,
                _ => Some("refused"),
            },
            Self::Full(_) | Self::Stale | Self::Fenced | Self::Unbound(_) => None,
        }
    }

    /// As a metric label.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Full(_) => "full",
            Self::Stale => "stale",
            Self::Fenced => "fenced",
            Self::Refused { .. } => self.breaks().unwrap_or("refused"),
            Self::Broken(_) => self.breaks().unwrap_or("connection"),
            Self::Unacknowledged => "unacknowledged",
            Self::Unexpected(_) => "unexpected",
            Self::Unbound(_) => "unbound",
        }
    }

    /// The store's error for something tried on a vbucket.
    pub(super) fn on(self, what: &'static str, vbucket: Vbucket) -> StoreError {
        match self {
            Self::Fenced => StoreError::Fenced(vbucket),
            other => other.while_trying(what, 0),
        }
    }

    /// The store's error for something tried with a batch of this sequence.
    pub(super) fn while_trying(self, what: &'static str, sequence: u64) -> StoreError {
        match self {
            Self::Full(bound) => StoreError::Full { what: bound },
            Self::Stale => StoreError::StaleSequence { sequence, window: SEQUENCE_WINDOW },
            other => StoreError::Unavailable { what, source: Box::new(other) },
        }
    }
}

/// A value without the error that may be in its place.
pub(super) fn checked(value: Value) -> Result<Value, CallError> {
    match value {
        Value::ServerError(error) => Err(CallError::of_server(&error)),
        value => Ok(value),
    }
}

/// Whether an answer says that the script is not loaded.
pub(super) fn is_unloaded(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

/// Calls a script on a link. A shard forgets scripts when it restarts or is told to, so one that it does not
/// know is called again with its text: an unknown script did nothing.
pub(super) async fn run(link: &Link, script: &Script, command: &Cmd) -> Result<Value, CallError> {
    run_patiently(link, script, command, Duration::ZERO).await
}

/// As [`run`], on a link that tells when a key changes that the call names.
pub(super) async fn run_tracked(link: &Link, script: &Script, command: &Cmd) -> Result<Value, CallError> {
    let answer = link.send_tracked(command).await?;
    if is_unloaded(&answer) {
        return checked(link.send_tracked(&script.with_text(command)).await?);
    }
    checked(answer)
}

/// As [`run`], with more time for the answer.
pub(super) async fn run_patiently(
    link: &Link,
    script: &Script,
    command: &Cmd,
    more: Duration,
) -> Result<Value, CallError> {
    let answer = link.send_patiently(command, more).await?;
    if is_unloaded(&answer) {
        return checked(link.send_patiently(&script.with_text(command), more).await?);
    }
    checked(answer)
}
