//! The HTTP interface (docs/shard.md, "Keeper"). Every call but the probes and `/metrics` needs the token.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use prometheus_client::encoding::text;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::api::{Failure, HandoverRequest};
use crate::keeper::{Keeper, KeeperError};

/// The bodies are a name or a number each.
const BODY_BYTES_MAX: usize = 16 * 1024;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type App = State<Arc<Keeper>>;
type Answer = Result<Response, KeeperError>;

/// All routes.
pub fn router(keeper: Arc<Keeper>) -> Router {
    let guarded = Router::new()
        .route("/state", get(async |State(keeper): App| Json(keeper.state())))
        .route("/found", post(found))
        .route("/handover", post(handover))
        .route("/fence", post(async |State(keeper): App| done(keeper.set_fence(true).await)))
        .route("/unfence", post(async |State(keeper): App| done(keeper.set_fence(false).await)))
        .route("/priority", post(priority))
        .route("/vote", post(vote))
        .route("/follow", post(follow))
        .route("/leave", post(leave))
        .route("/prefer", post(prefer))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&keeper), authorize));
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(guarded)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(keeper)
}

async fn authorize(State(keeper): App, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or("");
    if is_same(token.as_bytes(), keeper.config.token.as_bytes()) {
        return next.run(request).await;
    }
    failure(StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong".to_owned())
}

/// Compares without telling by its duration where the difference is.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn failure(status: StatusCode, error: String) -> Response {
    (status, Json(Failure { error })).into_response()
}

impl IntoResponse for KeeperError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Unavailable(_) | Self::Local(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Disk(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        failure(status, self.to_string())
    }
}

fn done(outcome: Result<(), KeeperError>) -> Answer {
    outcome.map(|()| Json(json!({})).into_response())
}

fn json<T: DeserializeOwned>(body: &Bytes) -> Result<T, KeeperError> {
    serde_json::from_slice(body)
        .map_err(|error| KeeperError::Conflict(format!("the body is not understood: {error}")))
}

/// Runs to its end even if the caller goes away: half a handover is worse than none.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, KeeperError>> + Send + 'static,
) -> Result<T, KeeperError> {
    let lost = |error| KeeperError::Unavailable(format!("the work ended: {error}"));
    tokio::spawn(work).await.map_err(lost)?
}

async fn found(State(keeper): App) -> Answer {
    Ok(Json(to_the_end(async move { keeper.found().await }).await?).into_response())
}

async fn handover(State(keeper): App, body: Bytes) -> Answer {
    let request: HandoverRequest = if body.is_empty() { HandoverRequest::default() } else { json(&body)? };
    Ok(Json(to_the_end(async move { keeper.hand_over(&request).await }).await?).into_response())
}

async fn priority(State(keeper): App, body: Bytes) -> Answer {
    done(keeper.set_priority(&json(&body)?).await)
}

async fn vote(State(keeper): App, body: Bytes) -> Answer {
    let request = json(&body)?;
    Ok(Json(to_the_end(async move { Ok(keeper.vote(&request).await) }).await?).into_response())
}

async fn follow(State(keeper): App, body: Bytes) -> Answer {
    let request = json(&body)?;
    done(to_the_end(async move { keeper.obey_follow(&request).await }).await)
}

async fn leave(State(keeper): App, body: Bytes) -> Answer {
    let request = json(&body)?;
    Ok(Json(to_the_end(async move { keeper.obey_leave(&request).await }).await?).into_response())
}

async fn prefer(State(keeper): App, body: Bytes) -> Answer {
    keeper.prefer(&json(&body)?).await;
    done(Ok(()))
}

async fn livez(State(keeper): App) -> Response {
    if keeper.is_live() {
        "ok\n".into_response()
    } else {
        failure(StatusCode::SERVICE_UNAVAILABLE, "stuck".to_owned())
    }
}

async fn readyz(State(keeper): App) -> Response {
    if keeper.is_ready() {
        return "ok\n".into_response();
    }
    failure(StatusCode::SERVICE_UNAVAILABLE, keeper.state().waiting_for)
}

async fn metrics(State(keeper): App) -> Response {
    let mut out = String::new();
    text::encode(&mut out, &keeper.metrics.registry).expect("a string takes everything");
    ([(header::CONTENT_TYPE, OPENMETRICS)], out).into_response()
}
