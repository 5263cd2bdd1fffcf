//! Merges the states of many tabs into one.

use axum::http::StatusCode;
use taba_core::State;

use super::Rendering;
use crate::http::answer::{Missing, Source};
use crate::http::failure::Failure;
use crate::http::media::Media;
use crate::http::walk::Walk;
use crate::query::{Queries, Selector};
use crate::store::StoreError;

/// Tabs per page of the walk.
const STEP_TABS: usize = 256;

/// A finished answer of one line.
pub(super) struct Line {
    text: String,
    missing: Missing,
}

impl Source for Line {
    async fn write(&mut self, out: &mut String) -> Result<bool, StoreError> {
        out.push_str(&self.text);
        Ok(false)
    }

    fn missing(&self) -> &Missing {
        &self.missing
    }
}

/// Merges and renders. Without any match the text is a lone line feed and the JSON is empty, as in the
/// first Taba.
pub(super) async fn merge(
    queries: &Queries,
    mut walk: Walk,
    clients: &Selector,
    media: Media,
    rendering: Rendering,
) -> Result<Line, Failure> {
    let now = crate::clock::now();
    let mut merged: Option<State> = None;
    loop {
        let tabs = walk.next(STEP_TABS).await.map_err(|error| Failure::from_store(&error))?;
        if tabs.is_empty() {
            break;
        }
        for tab in tabs {
            match (queries.aggregate(&tab.name, clients).await, &mut merged) {
                (Err(error), _) => walk.missing.add_tab(&tab.name, &error),
                (Ok(None), _) => {}
                (Ok(Some(state)), None) => merged = Some(state),
                (Ok(Some(state)), Some(merged)) => {
                    merged.merge(&state, now).map_err(|_| mixed(merged, &state))?;
                }
            }
        }
    }
    let mut text = String::new();
    if let Some(merged) = merged {
        rendering.push(&merged, now, &mut text);
    }
    if media == Media::Text {
        text.push('\n');
    }
    Ok(Line { text, missing: walk.missing })
}

fn mixed(one: &State, other: &State) -> Failure {
    let (one, other) = (one.tab_type().as_str(), other.tab_type().as_str());
    let message = format!("Tabs of different types cannot be merged: {one} and {other}");
    Failure::new(StatusCode::BAD_REQUEST, "mixed_types", message)
}
