//! The agent's HTTP side: posts of programs on this machine, status, metrics and probes.
//!
//! `/post` answers as the first Taba's agent did: 200 with an empty body, 400 for a body that cannot be
//! read or holds no event. One bad line is one bad event. Where a bound is reached the answer is 503; the
//! first Taba's agent answered 200 and threw the events away.

mod post;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post as on_post};
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use super::intake::Intake;
use super::metrics::{self, Counters};
use super::outgoing::Route;
use super::status::Status;
use crate::metrics::ConnectionMetrics;

/// Limits of posts. Memory of posts under way, beside the buffer: 32 × (8 MiB of parts + 8 MiB of window of
/// a compressed body) = 512 MiB at the very worst. Batches are looked into by two threads, 64 MiB each.
#[derive(Clone, Copy, Debug)]
pub struct PostLimits {
    /// Posts read at once; further ones wait.
    pub posts_max: usize,
    /// How long they wait before they get 503.
    pub permit_wait: Duration,
    /// Longest body as sent, in bytes.
    pub body_bytes_max: u64,
    /// Longest body once inflated, in bytes.
    pub inflated_bytes_max: u64,
    /// Most bytes one post may fold into, or be if it is a v2 batch.
    pub parts_bytes_max: usize,
    /// Longest event line, in bytes.
    pub line_bytes_max: usize,
    /// How long a program may pause while it sends a body.
    pub body_idle: Duration,
    /// How far in the future an event may lie.
    pub future_tolerance: Duration,
}

impl Default for PostLimits {
    fn default() -> Self {
        Self {
            posts_max: 32,
            permit_wait: Duration::from_secs(5),
            body_bytes_max: 256 << 20,
            inflated_bytes_max: 512 << 20,
            parts_bytes_max: 8 << 20,
            line_bytes_max: 1 << 20,
            body_idle: Duration::from_secs(30),
            future_tolerance: Duration::from_secs(300),
        }
    }
}

/// What the handlers share.
pub struct App {
    intake: Arc<Intake>,
    counters: Arc<Counters>,
    registry: Registry,
    limits: PostLimits,
    posts: Semaphore,
    draining: AtomicBool,
}

impl App {
    /// Handlers over an intake.
    #[must_use]
    pub fn new(intake: Arc<Intake>, limits: PostLimits) -> Arc<Self> {
        let counters = Arc::new(Counters::default());
        let registry = metrics::registry(Arc::clone(&intake), Arc::clone(&counters));
        let posts = Semaphore::new(limits.posts_max);
        Arc::new(Self { intake, counters, registry, limits, posts, draining: AtomicBool::new(false) })
    }

    /// Makes `/readyz` say that no more posts should come.
    pub fn begin_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Where connections are counted.
    #[must_use]
    pub fn connections(&self) -> ConnectionMetrics {
        self.counters.connections.clone()
    }

    /// The routes.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/post", on_post(post::v1))
            .route("/v2/batch", on_post(post::v2))
            .route("/status", get(status))
            .route("/metrics", get(scrape))
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            // Bodies are read piece by piece under limits of their own.
            .layer(DefaultBodyLimit::disable())
            .with_state(self)
    }
}

async fn status(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let status = Status::of(&app.intake, Route::of(app.intake.protocol()).path());
    if wants_json(&headers) { axum::Json(status).into_response() } else { status.text().into_response() }
}

/// JSON for everything that asks for it by name; text is the default, as it was.
fn wants_json(headers: &HeaderMap) -> bool {
    // The first Taba's agent only read a header that is literally called so.
    let values = headers.get_all(header::ACCEPT).iter().chain(headers.get_all("http-accept"));
    let mut ranges = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    ranges.any(|range| {
        let media = range.split(';').next().unwrap_or_default().trim();
        media.eq_ignore_ascii_case("application/json")
    })
}

async fn scrape(State(app): State<Arc<App>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &app.registry) {
        Ok(()) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Ready while posts are taken in.
async fn ready(State(app): State<Arc<App>>) -> Response {
    if app.draining.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    match app.intake.check_room(0) {
        Ok(()) => "ok\n".into_response(),
        Err(refusal) => (StatusCode::SERVICE_UNAVAILABLE, format!("{refusal}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_given_to_those_who_ask_for_it() {
        let asks = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a header value"));
            wants_json(&headers)
        };
        assert!(asks("accept", "application/json"));
        assert!(asks("accept", "text/html, application/json; q=0.9"));
        assert!(asks("http-accept", "application/json"));
        assert!(!asks("accept", "*/*"));
        assert!(!asks("accept", "text/plain"));
        assert!(!wants_json(&HeaderMap::new()));
    }
}
