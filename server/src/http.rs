//! The HTTP side: the first Taba's endpoints as its clients know them, the current API under `/v2`, and
//! probes and metrics.
//!
//! ```text
//! connection ──▶ router ──▶ post  ──▶ admission ──▶ body ──▶ fold ──▶ Pipeline::accept
//!                       ├─▶ tabs, lists ──▶ Queries ──▶ answer, streamed in pieces
//!                       ├─▶ maintain ──▶ Pipeline::maintain
//!                       └─▶ v2, cluster, probe
//! ```
//!
//! Nothing here holds acknowledged data: a post is answered with 200 only after the pipeline stored it,
//! and a body that cannot be read to its end stores nothing.

mod admission;
mod answer;
mod body;
mod cluster;
mod connection;
mod failure;
mod inflate;
mod lists;
mod maintain;
mod media;
mod params;
mod post;
mod probe;
mod tabs;
mod v2;
mod walk;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post as on_post};
use prometheus_client::registry::Registry;

use self::admission::Admission;
pub use self::connection::serve;
use self::failure::Failure;
use crate::config::Limits;
use crate::metrics::{HttpMetrics, PipelineCollector};
use crate::pipeline::Pipeline;
use crate::query::Queries;

/// The paths that metrics tell apart; everything else counts as `other`.
const ENDPOINTS: [&str; 24] = [
    "/post", "/post_zip", "/tabs", "/projection", "/supertabs", "/clients", "/names", "/types", "/ids",
    "/status", "/servers", "/latency", "/recompute", "/gc", "/check", "/upgrade", "/flush_all", "/delete",
    "/v2/batch", "/v2/query", "/v2/tabs", "/v2/openapi.json", "/readyz", "/metrics",
];

/// What an [`App`] is told about the process it serves for.
#[derive(Clone, Debug)]
pub struct AppConfig {
    /// What it takes in at once.
    pub limits: Limits,
    /// What maintenance asks for as a bearer token; `None` leaves maintenance open.
    pub admin_token: Option<String>,
    /// `taba_server.<hostname>.<port>`, as `/status` and `/servers` name this process.
    pub server_name: String,
    /// `be` and `fe`, as `/servers` shows them.
    pub roles: Vec<&'static str>,
    /// Vbuckets the process must own before `/readyz` says yes; 0 if it is no backend.
    pub vbuckets_wanted: usize,
}

/// Everything the endpoints need, shared by all connections.
pub struct App {
    pipeline: Arc<Pipeline>,
    queries: Queries,
    limits: Limits,
    admin_token: Option<String>,
    server_name: String,
    roles: Vec<&'static str>,
    vbuckets_wanted: usize,
    metrics: Arc<HttpMetrics>,
    registry: Registry,
    admission: Admission,
    draining: AtomicBool,
    router: std::sync::OnceLock<Router>,
}

impl App {
    /// An app over a pipeline. `registry` may hold metrics of other parts already; it is what `/metrics`
    /// shows.
    #[must_use]
    pub fn new(pipeline: Arc<Pipeline>, config: AppConfig, mut registry: Registry) -> Arc<Self> {
        let metrics = HttpMetrics::register(&mut registry);
        registry.register_collector(Box::new(PipelineCollector::new(Arc::clone(&pipeline))));
        let app = Arc::new(Self {
            queries: Queries::new(Arc::clone(&pipeline)),
            admission: Admission::new(&config.limits),
            pipeline,
            limits: config.limits,
            admin_token: config.admin_token,
            server_name: config.server_name,
            roles: config.roles,
            vbuckets_wanted: config.vbuckets_wanted,
            metrics,
            registry,
            draining: AtomicBool::new(false),
            router: std::sync::OnceLock::new(),
        });
        app
    }
}
