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
pub(crate) mod body;
mod cluster;
pub(crate) mod connection;
pub(crate) mod failure;
mod inflate;
mod lists;
mod maintain;
mod media;
mod params;
pub(crate) mod post;
mod probe;
mod tabs;
mod v2;
mod walk;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post as on_post};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;

use self::admission::{Admission, QueryPermit};
use self::answer::Missing;
use self::connection::ConnectionLimits;
use self::failure::Failure;
use self::media::{Group, Media};
use self::params::Params;
use crate::config::Limits;
use crate::metrics::HttpMetrics;
use crate::pipeline::Pipeline;
use crate::query::Queries;

/// Longest body with parameters; the first Taba read up to 102,400 bytes of one.
const PARAMS_BODY_BYTES_MAX: u64 = 102_400;

/// The paths that metrics tell apart; everything else counts as `other`.
const ENDPOINTS: [&str; 25] = [
    "/post",
    "/post_zip",
    "/tabs",
    "/projection",
    "/supertabs",
    "/clients",
    "/names",
    "/types",
    "/ids",
    "/status",
    "/servers",
    "/latency",
    "/recompute",
    "/gc",
    "/check",
    "/upgrade",
    "/flush_all",
    "/delete",
    "/v2/batch",
    "/v2/query",
    "/v2/tabs",
    "/v2/openapi.json",
    "/livez",
    "/readyz",
    "/metrics",
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
    /// Whether `/readyz` waits until the pipeline owns its vbuckets and has caught up with them.
    pub backend: bool,
}

/// Everything the endpoints need, shared by all connections.
pub struct App {
    pipeline: Arc<Pipeline>,
    queries: Queries,
    limits: Limits,
    admin_token: Option<String>,
    server_name: String,
    roles: Vec<&'static str>,
    backend: bool,
    metrics: Arc<HttpMetrics>,
    registry: Registry,
    admission: Admission,
    draining: AtomicBool,
    /// Where posts are folded.
    work: Handle,
}

impl App {
    /// An app over a pipeline. `registry` may hold metrics of other parts already; it is what `/metrics`
    /// shows. Posts are folded on the runtime that this is called in; connections and queries run where
    /// [`serve`] does.
    #[must_use]
    pub fn new(pipeline: Arc<Pipeline>, config: AppConfig, mut registry: Registry) -> Arc<Self> {
        let metrics = HttpMetrics::register(&mut registry);
        Arc::new(Self {
            queries: Queries::new(Arc::clone(&pipeline)),
            admission: Admission::new(&config.limits),
            pipeline,
            limits: config.limits,
            admin_token: config.admin_token,
            server_name: config.server_name,
            roles: config.roles,
            backend: config.backend,
            metrics,
            registry,
            draining: AtomicBool::new(false),
            work: Handle::current(),
        })
    }

    /// Runs a post's work on the threads for work, so that no query waits for it. If the client goes
    /// away meanwhile, its body breaks off and ends the work.
    async fn on_work<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.work.spawn(work).await.expect("a post does not panic, and its threads outlive the connections")
    }

    /// Says no on `/readyz` from here on, so that load balancers send new requests elsewhere.
    pub fn begin_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn admit_query(&self) -> Result<QueryPermit, Failure> {
        self.admission.query().map_err(Failure::at_capacity)
    }

    /// Nothing missing yet, of this server's vbuckets.
    fn missing(&self) -> Missing {
        Missing::new(self.pipeline.vbuckets())
    }

    /// Reads the parameters of a query from its URL and its body.
    async fn params(&self, request: Request, known: &[&str]) -> Result<(Params, HeaderMap), Failure> {
        let (head, body) = request.into_parts();
        let idle = self.limits.body_idle_timeout;
        let body = body::read_small(&head.headers, body, PARAMS_BODY_BYTES_MAX, idle).await?;
        let params = Params::read(head.uri.query(), &body, known)?;
        Ok((params, head.headers))
    }
}

/// Serves an app until `shutdown` becomes true (or its sender is gone), then stops accepting and lets open
/// requests finish for at most `grace`. Returns how many connections were cut because they did not.
pub async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    mut shutdown: watch::Receiver<bool>,
    grace: Duration,
) -> usize {
    let limits = ConnectionLimits {
        connections_max: app.limits.connections_max,
        head_timeout: app.limits.head_timeout,
        unread_timeout: app.limits.body_idle_timeout,
    };
    let metrics = app.metrics.connections();
    let stopped = async {
        // Without a sender nobody could stop the server later.
        let _ = shutdown.wait_for(|stop| *stop).await;
        app.begin_draining();
    };
    connection::serve(listener, router(Arc::clone(&app)), limits, metrics, stopped, grace).await
}

/// All routes over an app.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/post", on_post(post::plain))
        .route("/post_zip", on_post(post::zip))
        .route("/tabs", get(tabs::tabs).post(tabs::tabs))
        .route("/projection", get(tabs::projection).post(tabs::projection))
        .route("/supertabs", get(tabs::supertabs).post(tabs::supertabs))
        .route("/clients", get(lists::clients).post(lists::clients))
        .route("/names", get(lists::names).post(lists::names))
        .route("/types", get(lists::types).post(lists::types))
        .route("/ids", get(lists::ids).post(lists::ids))
        .route("/status", get(cluster::status).post(cluster::status))
        .route("/servers", get(cluster::servers).post(cluster::servers))
        .route("/latency", get(cluster::latency).post(cluster::latency))
        .merge(maintain::routes(&app))
        .merge(v2::routes())
        .route("/livez", get(probe::livez))
        .route("/readyz", get(probe::readyz))
        .route("/metrics", get(probe::metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), finish))
        .with_state(app)
}

async fn not_found(uri: Uri) -> Failure {
    Failure::not_found(format!("Not found: '{}'", uri.path()))
}

async fn method_not_allowed() -> Failure {
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed.")
}

/// Counts and times a request, counts what it was refused for, and writes errors under `/v2` as JSON.
async fn finish(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let endpoint = ENDPOINTS.into_iter().find(|endpoint| Some(*endpoint) == matched).unwrap_or("other");
    let wants_json =
        request.uri().path().starts_with("/v2/") && Group::Errors.choose(request.headers()) == Media::Json;
    let mut response = next.run(request).await;
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        if let Some(refusal) = failure.refusal {
            app.metrics.refused(refusal);
        }
        if wants_json {
            failure.rewrite(&mut response);
        }
    }
    app.metrics.request(endpoint, response.status().as_u16(), started.elapsed());
    response
}
