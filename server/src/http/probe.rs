//! `/livez`, `/readyz` and `/metrics`: what orchestrators and monitoring ask.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text;

use super::App;
use super::failure::Failure;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `/livez`: the process answers.
pub async fn livez() -> &'static str {
    "ok\n"
}

/// `/readyz`: the process has reached the data once, owns what it should own and is not on its way out. Shards that go
/// away later are no reason to send nobody here: all servers lose them, and each answers what it can.
pub async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, Failure> {
    let not_ready = |why| Failure::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", why);
    if app.is_draining() {
        return Err(not_ready("draining"));
    }
    if !app.pipeline.was_reached() {
        return Err(not_ready("looking for the shards' primaries"));
    }
    if app.backend && !app.pipeline.is_caught_up() {
        return Err(not_ready("catching up"));
    }
    Ok("ok\n")
}

/// `/metrics`: everything in the registry, in OpenMetrics text.
pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut out = String::new();
    text::encode(&mut out, &app.registry).expect("a string takes everything");
    ([(header::CONTENT_TYPE, OPENMETRICS)], out).into_response()
}
