//! HTTP to a Taba server: one connection pool, timeouts, and errors a person can act on.

use std::io;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::Agent;
use ureq::http::Response;

use super::error::CliError;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one request and its answer may take in all.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest answer read, in bytes: a page of 1,000 tabs is below 2 MiB.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Longest error text shown, in characters.
const MESSAGE_CHARS_MAX: usize = 300;

/// An answer in JSON, and where it came from.
pub(super) struct Json {
    url: String,
    /// As the server wrote it.
    pub(super) text: String,
}

impl Json {
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        serde_json::from_str(&self.text).map_err(|source| CliError::Answer { url: self.url.clone(), source })
    }
}

/// A server to ask.
pub(super) struct Api {
    agent: Agent,
    server: String,
}

impl Api {
    pub(super) fn new(server: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(EXCHANGE_TIMEOUT))
            .user_agent(concat!("taba/", env!("CARGO_PKG_VERSION")))
            .build();
        let scheme = if server.contains("://") { "" } else { "http://" };
        Self { agent: config.new_agent(), server: format!("{scheme}{}", server.trim_end_matches('/')) }
    }

    /// Asks for JSON and gives it back as the server wrote it. `params` are percent-encoded here.
    pub(super) fn get(&self, path: &str, params: &[(&str, &str)]) -> Result<Json, CliError> {
        let url = self.url(path, params);
        let answer = self.agent.get(&url).header("Accept", "application/json").call();
        let text = self.body(&url, answer)?;
        Ok(Json { url, text })
    }

    /// Posts a protocol v1 body under a batch id.
    pub(super) fn post(&self, path: &str, batch: &str, body: &[u8]) -> Result<Json, CliError> {
        let url = self.url(path, &[]);
        let answer =
            self.agent.post(&url).header("Idempotency-Key", batch).content_type("text/plain").send(body);
        let text = self.body(&url, answer)?;
        Ok(Json { url, text })
    }

    fn url(&self, path: &str, params: &[(&str, &str)]) -> String {
        let mut url = format!("{}{path}", self.server);
        for (index, (name, value)) in params.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            url.push_str(&format!("{separator}{name}={}", percent_encoded(value)));
        }
        url
    }

    /// The body of a good answer; anything else is an error.
    fn body(&self, url: &str, answer: Result<Response<ureq::Body>, ureq::Error>) -> Result<String, CliError> {
        let exchange = |source| CliError::Exchange { url: url.to_owned(), source };
        let answer = answer.map_err(|source| match source {
            source if is_connect(&source) => CliError::Connect { server: self.server.clone(), source },
            source => exchange(source),
        })?;
        let status = answer.status().as_u16();
        let body =
            answer.into_body().into_with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(exchange)?;
        let body = String::from_utf8_lossy(&body).into_owned();
        if status == 200 {
            return Ok(body);
        }
        Err(CliError::Status { url: url.to_owned(), status, message: message_of(&body) })
    }
}

/// The sentence in an error of the v2 API, or the start of whatever else was answered.
fn message_of(body: &str) -> String {
    let json: Option<Value> = serde_json::from_str(body).ok();
    let sentence = json.as_ref().and_then(|json| json.pointer("/error/message")).and_then(Value::as_str);
    sentence.unwrap_or(body.trim()).chars().take(MESSAGE_CHARS_MAX).collect()
}

/// Whether nobody was reached at all.
fn is_connect(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
        ureq::Error::Timeout(phase) => matches!(phase, ureq::Timeout::Connect | ureq::Timeout::Resolve),
        ureq::Error::Io(error) => {
            use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
            matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
        }
        _ => false,
    }
}

/// Text for a query string: letters, digits and `-._~` stand for themselves.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_show_the_sentence_of_the_v2_api_or_the_body_itself() {
        assert_eq!(message_of(r#"{"error": {"code": "full", "message": "Retry later."}}"#), "Retry later.");
        assert_eq!(message_of(" Not found\n"), "Not found");
    }

    #[test]
    fn parameters_are_encoded_and_servers_may_omit_the_scheme() {
        let api = Api::new("localhost:1/");
        assert_eq!(api.url("/v2/query", &[]), "http://localhost:1/v2/query");
        assert_eq!(
            api.url("/q", &[("tab", "a b&é"), ("n", "1")]),
            "http://localhost:1/q?tab=a%20b%26%C3%A9&n=1"
        );
    }
}
