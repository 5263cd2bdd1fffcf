//! Probes and `/metrics`. Liveness proves progress: the loop about the Lease turns, and every cluster was looked
//! at when it was due. So an operator whose watches are deaf or whose queue stands still is started again, and
//! one that has nothing to do is left alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::metrics::Metrics;

#[cfg(test)]
mod tests;

/// A look may be so late: one pass may take a minute and a half, and others may be waiting before it.
const OVERDUE: Duration = Duration::from_secs(240);

/// The loop about the Lease turns every 2 s, or 6 s if the API server does not answer.
const STILL: Duration = Duration::from_secs(60);

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What probes ask about. Clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    beat: Instant,
    /// Why it is not ready; nothing if it is.
    waits_for: Option<String>,
    /// When each cluster is to be looked at next, by namespace and name.
    due: BTreeMap<(String, String), Instant>,
}

impl Health {
    /// Not ready, and waiting for this.
    #[must_use]
    pub fn new(waits_for: &str, now: Instant) -> Self {
        let inner = Inner { beat: now, waits_for: Some(waits_for.to_owned()), due: BTreeMap::new() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// The loop about the Lease, or the one that waits for the API, has turned.
    pub fn beat(&self, now: Instant) {
        self.inner.lock().beat = now;
    }

    /// What is waited for.
    pub fn waits_for(&self, what: &str) {
        self.inner.lock().waits_for = Some(what.to_owned());
    }

    /// Nothing is waited for any more.
    pub fn ready(&self) {
        self.inner.lock().waits_for = None;
    }

    /// The cluster is to be looked at then.
    pub fn due(&self, namespace: &str, name: &str, at: Instant) {
        self.inner.lock().due.insert((namespace.to_owned(), name.to_owned()), at);
    }

    /// The cluster is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.inner.lock().due.remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// How many clusters are looked after.
    #[must_use]
    pub fn clusters(&self) -> usize {
        self.inner.lock().due.len()
    }

    /// Why there is no progress, if there is none.
    #[must_use]
    pub fn stuck(&self, now: Instant) -> Option<String> {
        let inner = self.inner.lock();
        let still = now.saturating_duration_since(inner.beat);
        if still > STILL {
            return Some(format!("nothing has moved for {} s", still.as_secs()));
        }
        let late = |at: &Instant| now.saturating_duration_since(*at) > OVERDUE;
        let ((namespace, name), _) = inner.due.iter().find(|(_, at)| late(at))?;
        Some(format!("the cluster {namespace}/{name} has not been looked at when it was due"))
    }
}

#[derive(Clone)]
struct App {
    health: Health,
    metrics: Metrics,
}

/// Serves until the process ends.
///
/// # Errors
/// If the address cannot be listened at.
pub async fn serve(at: SocketAddr, health: Health, metrics: Metrics) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show))
        .with_state(App { health, metrics });
    let listener = TcpListener::bind(at).await?;
    tracing::info!(%at, "probes and metrics are served");
    axum::serve(listener, router).await
}

async fn livez(State(app): State<App>) -> Response {
    answer(app.health.stuck(Instant::now()))
}

async fn readyz(State(app): State<App>) -> Response {
    let waits = app.health.inner.lock().waits_for.clone();
    answer(waits.map(|what| format!("waits for {what}")))
}

async fn show(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, OPENMETRICS)], app.metrics.text()).into_response()
}

fn answer(trouble: Option<String>) -> Response {
    match trouble {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}
