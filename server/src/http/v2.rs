//! The current API: `/v2`. JSON in answers and errors, described by `/v2/openapi.json`.

mod batch;
mod query;
mod tabs;

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::App;
use super::answer::Missing;
use super::failure::{ErrorBody, Failure};
use super::params::{Params, anchored};
use crate::query::Selector;

/// Most tabs of one page.
const LIMIT_MAX: usize = 1000;
/// Tabs of one page if the client does not say.
const LIMIT_DEFAULT: usize = 100;

/// The routes under `/v2`.
pub fn routes() -> Router<Arc<App>> {
    table().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods))
}

/// Every path under `/v2`; a test holds [`Api`] against it.
fn table() -> [(&'static str, MethodRouter<Arc<App>>); 4] {
    [
        ("/v2/batch", post(batch::batch)),
        ("/v2/openapi.json", get(openapi)),
        ("/v2/query", get(query::query).post(query::query)),
        ("/v2/tabs", get(tabs::tabs).post(tabs::tabs)),
    ]
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Taba", description = "Distributed metrics aggregation: post batches, query tabs."),
    paths(batch::batch, query::query, tabs::tabs, openapi),
    components(schemas(ErrorBody<'_>))
)]
struct Api;

/// This document.
#[utoipa::path(
    get,
    path = "/v2/openapi.json",
    responses((status = 200, description = "This document", content_type = "application/json", body = Object))
)]
async fn openapi() -> Response {
    static DOCUMENT: LazyLock<String> =
        LazyLock::new(|| Api::openapi().to_json().expect("the document holds nothing that JSON cannot"));
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

/// How much of the cluster an answer speaks for.
#[derive(Serialize, ToSchema)]
struct Completeness {
    /// Every vbucket that could hold something answered.
    complete: bool,
    /// How many did not.
    missing_vbuckets: u64,
    /// How many there are.
    vbuckets: u16,
}

impl From<&Missing> for Completeness {
    fn from(missing: &Missing) -> Self {
        let missing_vbuckets = missing.len() as u64;
        Self { complete: missing_vbuckets == 0, missing_vbuckets, vbuckets: missing.all() }
    }
}

/// Where a page begins and how long it is.
struct Page {
    after: Option<String>,
    limit: usize,
}

impl Page {
    fn read(params: &Params) -> Result<Self, Failure> {
        let limit = match params.get("limit") {
            None => LIMIT_DEFAULT,
            Some(limit) => limit
                .parse()
                .ok()
                .filter(|limit| (1..=LIMIT_MAX).contains(limit))
                .ok_or_else(|| Failure::bad_parameter(format!("limit must be 1 to {LIMIT_MAX}")))?,
        };
        Ok(Self { after: params.get("after").filter(|after| !after.is_empty()).map(str::to_owned), limit })
    }
}

/// Which tabs: at most one of `tab`, `prefix` and `re`.
fn tab_selector(params: &Params) -> Result<Selector, Failure> {
    let given = ["tab", "prefix", "re"].into_iter().filter_map(|key| Some((key, params.get(key)?)));
    let given: Vec<(&str, &str)> = given.filter(|(_, value)| !value.is_empty()).collect();
    match given.as_slice() {
        [] => Ok(Selector::All),
        [("tab", _)] => Ok(names(params, "tab")),
        [("prefix", prefix)] => Ok(Selector::Prefix((*prefix).to_owned())),
        [(_, pattern)] => Ok(Selector::Pattern(anchored(pattern)?)),
        _ => Err(Failure::bad_parameter("only one of tab, prefix and re may be given")),
    }
}

/// A comma-separated list of names; absent or empty means all.
fn names(params: &Params, key: &str) -> Selector {
    match params.list(key) {
        list if list.is_empty() => Selector::All,
        list => Selector::Names(list.into_iter().map(str::to_owned).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_documented() {
        let documented: Vec<String> = Api::openapi().paths.paths.into_keys().collect();
        assert_eq!(documented, table().map(|(path, _)| path));
    }
}
