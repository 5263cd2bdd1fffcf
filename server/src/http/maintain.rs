//! Maintenance: what changes or deletes. POST or DELETE only, and behind the admin token if there is one.

use std::hint::black_box;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use tracing::info;

use super::App;
use super::failure::Failure;
use crate::pipeline::Maintenance;

/// The maintenance routes, guarded.
pub fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    let guard = middleware::from_fn_with_state(Arc::clone(app), require_token);
    Router::new()
        .route("/recompute", background(Maintenance::Rebalance))
        .route("/gc", background(Maintenance::Prune))
        .route("/check", on(CHANGING, check))
        .route("/upgrade", background(Maintenance::Upgrade))
        .route("/flush_all", on(CHANGING, flush_all))
        .route("/delete", on(CHANGING, delete))
        .route_layer(guard)
}

const CHANGING: MethodFilter = MethodFilter::POST.or(MethodFilter::DELETE);

fn background(what: Maintenance) -> MethodRouter<Arc<App>> {
    on(CHANGING, move |State(app): State<Arc<App>>, request: Request| async move {
        app.params(request, &[]).await?;
        Ok::<_, Failure>(start(&app, what))
    })
}

async fn check(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (params, _) = app.params(request, &["dry"]).await?;
    Ok(start(&app, Maintenance::Check { repair: params.get("dry") == Some("false") }))
}

fn start(app: &App, what: Maintenance) -> Response {
    info!(?what, "maintenance asked for");
    app.pipeline.maintain(what);
    "Started\n".into_response()
}

async fn flush_all(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    app.params(request, &[]).await?;
    let entries = app.pipeline.discard_queues().await.map_err(|error| Failure::from_store(&error))?;
    info!(entries, "queues discarded by request");
    Ok(StatusCode::OK.into_response())
}

async fn delete(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (params, _) = app.params(request, &["name"]).await?;
    let names = params.list("name");
    if names.is_empty() {
        return Err(Failure::bad_parameter("Parameter name is missing: which tabs to delete"));
    }
    for name in names {
        app.pipeline.delete_tab(name).await.map_err(|error| Failure::from_store(&error))?;
        info!(tab = name, "tab deleted by request");
    }
    Ok(StatusCode::OK.into_response())
}

async fn require_token(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    // A method that is not allowed stays 405, whoever asks.
    let changing = matches!(request.method().as_str(), "POST" | "DELETE");
    match &app.admin_token {
        Some(token) if changing && !bears(&headers, token) => {
            Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", "An admin token is needed.")
                .into_response()
        }
        _ => next.run(request).await,
    }
}

fn bears(headers: &HeaderMap, token: &str) -> bool {
    let sent = headers.get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    match sent.split_at_checked("bearer ".len()) {
        Some((scheme, sent)) if scheme.eq_ignore_ascii_case(b"bearer ") => same(sent, token.as_bytes()),
        _ => false,
    }
}

/// Compares in a time that depends on the lengths alone, so that guesses cannot be refined byte by byte.
fn same(sent: &[u8], token: &[u8]) -> bool {
    let difference = sent.iter().zip(token).fold(0, |difference, (a, b)| black_box(difference | (a ^ b)));
    sent.len() == token.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_behind_bearer_opens() {
        let check = |value: &str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            assert_eq!(bears(&headers, "secret"), expected, "{value}");
        };
        check("Bearer secret", true);
        check("bearer secret", true);
        for wrong in
            ["", "secret", "Basic secret", "Bearer ", "Bearer secre", "Bearer secrets", "Bearer sEcret"]
        {
            check(wrong, false);
        }
        assert!(!bears(&HeaderMap::new(), "secret"));
    }
}
