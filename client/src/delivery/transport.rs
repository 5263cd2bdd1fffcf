//! One attempt: posts a batch to an endpoint and says how it went.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::Duration;

use tracing::{debug, warn};
use ureq::http::Response;

use super::batch::{Body, SealedBatch};
use super::scheduler::Outcome;

/// Longest answer body that is read, in bytes. Answers to posts are empty or one line of text; a longer
/// one costs the connection its reuse and nothing else.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Time limits of one attempt. A silent peer holds one sender for at most their sum.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To connect. Defaults to 3 s.
    pub connect: Duration,
    /// To send the request. Defaults to 30 s.
    pub send: Duration,
    /// From the end of the request to the end of the answer. Defaults to 30 s.
    pub answer: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let (connect, send) = (Duration::from_secs(3), Duration::from_secs(30));
        Self { connect, send, answer: Duration::from_secs(30) }
    }
}

/// Keeps connections alive and posts batches over them.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    http: ureq::Agent,
}

impl Transport {
    pub fn new(timeouts: Timeouts, connections_per_endpoint: usize) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent("taba/0.1")
            .max_idle_connections(1024)
            .max_idle_connections_per_host(connections_per_endpoint)
            .max_idle_age(Duration::from_secs(60))
            .timeout_resolve(Some(timeouts.connect))
            .timeout_connect(Some(timeouts.connect))
            .timeout_send_request(Some(timeouts.send))
            .timeout_send_body(Some(timeouts.send))
            .timeout_recv_response(Some(timeouts.answer))
            .timeout_recv_body(Some(timeouts.answer))
            .build();
        Self { http: config.new_agent() }
    }

    /// Posts a batch to `endpoint` (scheme, host and port).
    pub fn send(&self, endpoint: &str, batch: &SealedBatch) -> Outcome {
        match &batch.body {
            Body::Memory(bytes) => self.post(endpoint, batch, bytes),
            Body::File { path, offset, bytes } => match read_file(path, *offset, *bytes) {
                Ok(body) => self.post(endpoint, batch, &body),
                Err(error) => {
                    warn!(%error, path = %path.display(), "batch file cannot be read; dropped");
                    Outcome::Refused
                }
            },
        }
    }

    fn post(&self, endpoint: &str, batch: &SealedBatch, body: &[u8]) -> Outcome {
        let mut request = self.http.post(format!("{endpoint}{}", batch.path));
        if let Some(content_type) = batch.content_type {
            request = request.header("Content-Type", content_type);
        }
        if let Some(encoding) = batch.content_encoding {
            request = request.header("Content-Encoding", encoding);
        }
        if let Some(id) = &batch.id {
            request = request.header("Idempotency-Key", id.to_string());
        }
        match request.send(body) {
            Ok(answer) => classify(answer, endpoint, batch),
            Err(error) => {
                debug!(%error, endpoint, "endpoint did not answer");
                Outcome::Unreachable
            }
        }
    }
}

fn read_file(path: &std::path::Path, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut body = Vec::new();
    file.take(bytes).read_to_end(&mut body)?;
    if body.len() as u64 == bytes { Ok(body) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn classify(mut answer: Response<ureq::Body>, endpoint: &str, batch: &SealedBatch) -> Outcome {
    let status = answer.status().as_u16();
    let retry_after = retry_after(&answer);
    // Reading the answer to its end is what lets the connection be used again.
    let text = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).lossy_utf8(true).read_to_string();
    match status {
        200 => Outcome::Acknowledged,
        400 | 409 | 413 | 415 => {
            let (id, reason) = (batch.id.as_ref().map(ToString::to_string), text.unwrap_or_default());
            warn!(endpoint, status, ?id, events = batch.events, reason, "batch was refused; dropped");
            Outcome::Refused
        }
        429 | 502 | 503 => Outcome::Busy(retry_after),
        _ => {
            warn!(endpoint, status, "endpoint gave an unexpected answer; will retry");
            Outcome::Failed
        }
    }
}

/// `Retry-After` in seconds; its date form is left to the usual back-off.
fn retry_after(answer: &Response<ureq::Body>) -> Option<Duration> {
    let value = answer.headers().get("Retry-After")?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}
