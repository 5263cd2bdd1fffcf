//! `GET /v2/tabs`: names and types, page by page.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, Completeness, ErrorBody, Failure, Page, names, tab_selector};

/// A page of tabs.
#[derive(Serialize, ToSchema)]
pub struct TabsAnswer {
    /// In name order.
    tabs: Vec<TabName>,
    /// Give it as `after` to get the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    completeness: Completeness,
}

/// A tab.
#[derive(Serialize, ToSchema)]
struct TabName {
    name: String,
    #[serde(rename = "type")]
    tab_type: &'static str,
}

/// Lists tabs in name order.
#[utoipa::path(
    get,
    path = "/v2/tabs",
    params(
        ("tab" = Option<String>, Query, description = "Comma-separated names"),
        ("prefix" = Option<String>, Query, description = "Only names that begin with this"),
        ("re" = Option<String>, Query, description = "Only names that this pattern matches from their start"),
        ("client" = Option<String>, Query, description = "Comma-separated Client IDs: only tabs one of them has"),
        ("limit" = Option<u32>, Query, description = "Tabs per page, 1 to 1000; 100 if absent"),
        ("after" = Option<String>, Query, description = "`next` of the page before")
    ),
    responses(
        (status = 200, description = "A page", body = TabsAnswer),
        (status = 400, description = "A parameter is unknown or malformed", body = ErrorBody),
        (status = 503, description = "At capacity, or no vbucket answered", body = ErrorBody)
    )
)]
pub async fn tabs(State(app): State<Arc<App>>, request: Request) -> Result<Json<TabsAnswer>, Failure> {
    let _permit = app.admit_query()?;
    let known = ["tab", "prefix", "re", "client", "limit", "after"];
    let (params, _) = app.params(request, &known).await?;
    let (page, selector) = (Page::read(&params)?, tab_selector(&params)?);
    let answer =
        app.queries.tabs(&selector, &names(&params, "client"), page.after.as_deref(), page.limit).await;
    let answer = answer.map_err(|error| Failure::from_store(&error))?;
    let mut missing = app.missing();
    missing.add(answer.missing);
    let next = answer.value.last().filter(|_| answer.value.len() == page.limit).map(|tab| tab.name.clone());
    let tabs =
        answer.value.into_iter().map(|tab| TabName { name: tab.name, tab_type: tab.tab_type.as_str() });
    Ok(Json(TabsAnswer { tabs: tabs.collect(), next, completeness: (&missing).into() }))
}
