//! Asking a keeper: `GET /state` and the commands.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A keeper's answer to `GET /state`, as far as the lab looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whether its Redis is a primary that takes writes.
    pub open: bool,
    /// The term of its data.
    pub term: u64,
    /// `primary` or `replica`, as the keeper says it.
    pub role: String,
    /// Members of the in-sync set as it knows it.
    pub in_sync: Vec<String>,
    /// Whether its link to the primary is up.
    pub link_up: bool,
    /// Whether its copy is settled on disk.
    pub settled: bool,
    /// Why its shard is closed, if it is.
    pub waiting_for: String,
}

impl State {
    /// Reads an answer.
    #[must_use]
    pub fn of(answer: &Value) -> Self {
        let flag = |name: &str| answer.get(name).and_then(Value::as_bool).unwrap_or(false);
        Self {
            open: flag("open"),
            term: number(answer.get("term")),
            role: text(answer.get("role")),
            in_sync: list(answer.get("in_sync")),
            link_up: flag("link_up"),
            settled: flag("settled"),
            waiting_for: text(answer.get("waiting_for")),
        }
    }
}

fn number(value: Option<&Value>) -> u64 {
    match value {
        Some(Value::String(digits)) => digits.parse().unwrap_or(0),
        Some(value) => value.as_u64().unwrap_or(0),
        None => 0,
    }
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(Value::Array(items)) if items.is_empty() => String::new(),
        Some(other) => other.to_string(),
    }
}

/// A list, or words with commas between them.
fn list(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => items.iter().map(|item| text(Some(item))).collect(),
        Some(Value::String(words)) => {
            words.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// A keeper's interface.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddrV4,
    token: String,
    agent: ureq::Agent,
}

impl Client {
    /// The interface at this address.
    #[must_use]
    pub fn new(address: SocketAddrV4, token: &str, patience: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(patience))
            .http_status_as_error(false)
            // A connection kept open across a kill or a cut tells nothing.
            .max_idle_connections(0)
            .build();
        Self { address, token: token.to_owned(), agent: config.into() }
    }

    /// Its state.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn state(&self) -> Result<State> {
        let url = format!("http://{}/state", self.address);
        let answer = self.agent.get(url).header("Authorization", self.bearer()).call();
        let answer = answer.context("ask a keeper")?;
        let status = answer.status();
        let text = answer.into_body().read_to_string().context("read a keeper's answer")?;
        if status != 200 {
            bail!("keeper answers {status}: {text}");
        }
        Ok(State::of(&serde_json::from_str(&text).context("parse a keeper's answer")?))
    }

    /// Gives a command; what the keeper says to it.
    ///
    /// # Errors
    /// If it refuses or does not answer.
    pub fn command(&self, path: &str, body: &Value) -> Result<String> {
        let request = self.agent.post(format!("http://{}{path}", self.address));
        let request = request.header("Authorization", self.bearer()).content_type("application/json");
        let answer = request.send(body.to_string()).with_context(|| format!("post {path}"))?;
        let status = answer.status();
        let text = answer.into_body().read_to_string().with_context(|| format!("read answer to {path}"))?;
        if status != 200 {
            bail!("{path}: {status} {}", text.trim());
        }
        Ok(text)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_whether_lists_are_lists_or_words() {
        let state = State::of(&serde_json::json!({
            "open": true, "term": 7, "role": "primary", "in_sync": "a:1,b:2", "link_up": false,
            "settled": true, "waiting_for": null,
        }));
        assert_eq!(state.in_sync, ["a:1", "b:2"]);
        assert_eq!((state.open, state.term, state.waiting_for.as_str()), (true, 7, ""));
        let other = State::of(&serde_json::json!({"in_sync": ["a", "b"], "term": "12"}));
        assert_eq!((other.in_sync.len(), other.term), (2, 12));
    }
}
