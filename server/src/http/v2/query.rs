//! `GET /v2/query`: windows of numeric tabs with counts, sums and quantiles; values of the others.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use futures::{StreamExt, stream};
use serde::Serialize;
use serde_json::value::RawValue;
use taba_core::state::WindowSummary;
use taba_core::{Format, State as TabState, Timestamp};
use utoipa::ToSchema;

use super::{App, Completeness, ErrorBody, Failure, Page, Params, names, tab_selector};

/// Labels a window can have.
const WINDOWS: [&str; 6] = ["1m", "10m", "1h", "1d", "pct", "all"];

/// Most quantiles of one query.
const QUANTILES_MAX: usize = 32;

/// Bytes of rendered values after which a page ends early. With at most 1,000 tabs of 6 windows and 32
/// quantiles (about 10 kB each) an answer stays below 14 MiB and one value.
const VALUES_BYTES_MAX: usize = 4 << 20;

/// States read at once.
const READS: usize = 16;

/// A page of tabs and what they hold.
#[derive(Serialize, ToSchema)]
pub struct QueryAnswer {
    /// In name order.
    tabs: Vec<TabAnswer>,
    /// Give it as `after` to get the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    completeness: Completeness,
}

/// A tab over the clients asked for.
#[derive(Serialize, ToSchema)]
struct TabAnswer {
    tab: String,
    #[serde(rename = "type")]
    tab_type: &'static str,
    /// Of numeric types; empty for the others.
    windows: Vec<Window>,
    /// Of types that are not numeric: what their text form shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    value: Option<Box<RawValue>>,
}

/// One window of a numeric tab.
#[derive(Serialize, ToSchema)]
struct Window {
    /// `1m`, `10m`, `1h`, `1d`, `pct` or `all`.
    window: &'static str,
    /// Its length; null for all time.
    seconds: Option<u64>,
    count: u64,
    sum: f64,
    /// 0 if nothing was counted.
    average: f64,
    /// As asked for; empty if the type keeps no distribution for this window.
    quantiles: Vec<Quantile>,
    /// Bound on the relative error of the quantiles: 0 while they are exact; null without a distribution.
    relative_error: Option<f64>,
}

/// A quantile.
#[derive(Serialize, ToSchema)]
struct Quantile {
    q: f64,
    value: f64,
}

/// Answers with windows, or values, of the tabs asked for.
#[utoipa::path(
    get,
    path = "/v2/query",
    params(
        ("tab" = Option<String>, Query, description = "Comma-separated names"),
        ("prefix" = Option<String>, Query, description = "Only names that begin with this"),
        ("re" = Option<String>, Query, description = "Only names that this pattern matches from their start"),
        ("client" = Option<String>, Query, description = "Comma-separated Client IDs; all if absent"),
        ("windows" = Option<String>, Query, description = "Comma-separated labels; all windows if absent"),
        ("q" = Option<String>, Query, description = "Comma-separated quantiles, each 0 to 1"),
        ("limit" = Option<u32>, Query, description = "Tabs per page, 1 to 1000; 100 if absent"),
        ("after" = Option<String>, Query, description = "`next` of the page before")
    ),
    responses(
        (status = 200, description = "A page", body = QueryAnswer),
        (status = 400, description = "A parameter is unknown or malformed", body = ErrorBody),
        (status = 503, description = "At capacity, or no vbucket answered", body = ErrorBody)
    )
)]
pub async fn query(State(app): State<Arc<App>>, request: Request) -> Result<Json<QueryAnswer>, Failure> {
    let _permit = app.admit_query()?;
    let known = ["tab", "prefix", "re", "client", "windows", "q", "limit", "after"];
    let (params, _) = app.params(request, &known).await?;
    let (page, selector, clients) = (Page::read(&params)?, tab_selector(&params)?, names(&params, "client"));
    let wanted = Wanted::read(&params)?;
    let listed = app.queries.tabs(&selector, &clients, page.after.as_deref(), page.limit).await;
    let listed = listed.map_err(|error| Failure::from_store(&error))?;
    let mut missing = app.missing();
    missing.add(listed.missing);
    let mut next =
        listed.value.last().filter(|_| listed.value.len() == page.limit).map(|tab| tab.name.clone());
    let (queries, clients) = (&app.queries, &clients);
    let mut states = stream::iter(listed.value)
        .map(|tab| async move { (queries.aggregate(&tab.name, clients).await, tab.name) })
        .buffered(READS);
    let (mut tabs, mut values_bytes, now) = (Vec::new(), 0, crate::clock::now());
    while let Some((state, name)) = states.next().await {
        match state {
            Err(error) => missing.add_tab(&name, &error),
            // Deleted or pruned since it was listed.
            Ok(None) => {}
            Ok(Some(state)) => {
                let tab = wanted.answer(name, &state, now)?;
                values_bytes += tab.value.as_ref().map_or(0, |value| value.get().len());
                let full = values_bytes > VALUES_BYTES_MAX;
                tabs.push(tab);
                if full {
                    next = tabs.last().map(|tab| tab.tab.clone());
                    break;
                }
            }
        }
    }
    Ok(Json(QueryAnswer { tabs, next, completeness: (&missing).into() }))
}

/// What of each tab is asked for.
struct Wanted {
    /// Empty means all.
    windows: Vec<&'static str>,
    quantiles: Vec<f64>,
}

impl Wanted {
    fn read(params: &Params) -> Result<Self, Failure> {
        let window = |label: &str| {
            let known = WINDOWS.into_iter().find(|known| *known == label);
            known.ok_or_else(|| Failure::bad_parameter(format!("unknown window {label}")))
        };
        let quantile = |text: &str| {
            let quantile = text.parse().ok().filter(|q| (0.0..=1.0).contains(q));
            quantile
                .ok_or_else(|| Failure::bad_parameter(format!("quantile {text} is not a number from 0 to 1")))
        };
        let quantiles = params.list("q");
        if quantiles.len() > QUANTILES_MAX {
            return Err(Failure::bad_parameter(format!("more than {QUANTILES_MAX} quantiles")));
        }
        Ok(Self {
            windows: params.list("windows").into_iter().map(window).collect::<Result<_, _>>()?,
            quantiles: quantiles.into_iter().map(quantile).collect::<Result<_, _>>()?,
        })
    }

    fn answer(&self, tab: String, state: &TabState, now: Timestamp) -> Result<TabAnswer, Failure> {
        let windows = state.windows(now);
        let value = if windows.is_empty() { Some(rendered(state, now)?) } else { None };
        let wanted = |window: &WindowSummary| self.windows.is_empty() || self.windows.contains(&window.label);
        let windows = windows.iter().filter(|window| wanted(window)).map(|window| self.window(window));
        Ok(TabAnswer { tab, tab_type: state.tab_type().as_str(), windows: windows.collect(), value })
    }

    fn window(&self, summary: &WindowSummary) -> Window {
        let quantiles = summary
            .sketch
            .iter()
            .flat_map(|sketch| self.quantiles.iter().map(|q| Quantile { q: *q, value: sketch.quantile(*q) }));
        Window {
            window: summary.label,
            seconds: summary.seconds,
            count: summary.count,
            sum: summary.sum,
            average: if summary.count == 0 { 0.0 } else { summary.sum / summary.count as f64 },
            quantiles: quantiles.collect(),
            relative_error: summary.sketch.as_ref().map(taba_core::sketch::Sketch::relative_error),
        }
    }
}

fn rendered(state: &TabState, now: Timestamp) -> Result<Box<RawValue>, Failure> {
    let mut text = String::new();
    state.render(now, Format::Plain, &mut text);
    RawValue::from_string(text).map_err(|error| {
        let message = format!("a state does not render as JSON: {error}");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    })
}
