//! `/tabs`, `/projection` and `/supertabs`: rendered states, as lines or as JSON.

mod projection;
mod render;
mod supertabs;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use futures::{StreamExt, stream};
use taba_core::Timestamp;

use self::projection::{ByClient, ByTab};
use self::render::Rendering;
use super::App;
use super::admission::QueryPermit;
use super::answer::{Joined, Missing, Source, push_json_string, respond};
use super::failure::Failure;
use super::media::{Group, Media};
use super::params::Params;
use super::walk::Walk;
use crate::query::Selector;
use crate::store::StoreError;

const KNOWN: [&str; 4] = ["name", "client", "re", "raw"];

/// Tabs rendered per step. The detailed form is the longest, about 12 kB a tab: 400 kB.
const STEP_TABS: usize = 32;

/// States of tabs read at once within one step.
const READS: usize = 16;

/// A query about states, read and admitted.
struct Asked {
    names: Selector,
    clients: Selector,
    media: Media,
    rendering: Rendering,
    permit: QueryPermit,
    missing: Missing,
}

impl Asked {
    async fn read(app: &App, request: Request) -> Result<Self, Failure> {
        let permit = app.admit_query()?;
        let (params, headers) = app.params(request, &KNOWN).await?;
        let media = Group::Aggregates.choose(&headers);
        Ok(Self {
            names: params.selector("name")?,
            clients: params.selector("client")?,
            media,
            rendering: Rendering::new(&params, media),
            permit,
            missing: app.missing(),
        })
    }
}

/// `/tabs`: one aggregate per tab.
pub async fn tabs(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let asked = Asked::read(&app, request).await?;
    let source = Aggregates {
        walk: Walk::new(app.queries.clone(), asked.names, asked.clients.clone(), asked.missing),
        joined: if asked.media == Media::Text { Joined::lines() } else { Joined::json("{", ",", "}") },
        app,
        clients: asked.clients,
        media: asked.media,
        rendering: asked.rendering,
        now: crate::clock::now(),
    };
    respond(asked.media, source, asked.permit).await
}

/// `/projection`: one state per tab and client.
pub async fn projection(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let asked = Asked::read(&app, request).await?;
    let Asked { names, clients, media, rendering, permit, missing } = asked;
    match media {
        Media::Text => {
            respond(media, ByTab::new(&app.queries, names, clients, rendering, missing), permit).await
        }
        Media::Json | Media::Detailed => {
            let source = ByClient::new(&app.queries, names, &clients, rendering, missing).await?;
            respond(media, source, permit).await
        }
    }
}

/// `/supertabs`: one state over all matching tabs.
pub async fn supertabs(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let asked = Asked::read(&app, request).await?;
    let walk = Walk::new(app.queries.clone(), asked.names, asked.clients.clone(), asked.missing);
    let source = supertabs::merge(&app.queries, walk, &asked.clients, asked.media, asked.rendering).await?;
    respond(asked.media, source, asked.permit).await
}

struct Aggregates {
    app: Arc<App>,
    walk: Walk,
    clients: Selector,
    media: Media,
    rendering: Rendering,
    joined: Joined,
    now: Timestamp,
}

impl Source for Aggregates {
    async fn write(&mut self, out: &mut String) -> Result<bool, StoreError> {
        let tabs = self.walk.next(STEP_TABS).await?;
        if tabs.is_empty() {
            self.joined.end(out);
            return Ok(false);
        }
        let (queries, clients) = (&self.app.queries, &self.clients);
        let mut states = stream::iter(tabs)
            .map(|tab| async move { (queries.aggregate(&tab.name, clients).await, tab.name) })
            .buffered(READS);
        while let Some((state, name)) = states.next().await {
            match state {
                Err(error) => self.walk.missing.add_tab(&name, &error),
                // Deleted or pruned since its name was listed.
                Ok(None) => {}
                Ok(Some(state)) => {
                    self.joined.item(out);
                    if self.media == Media::Text {
                        out.push_str(&name);
                    } else {
                        push_json_string(out, &name);
                    }
                    out.push_str(": ");
                    self.rendering.push(&state, self.now, out);
                    if self.media == Media::Text {
                        out.push('\n');
                    }
                }
            }
        }
        Ok(true)
    }

    fn missing(&self) -> &Missing {
        &self.walk.missing
    }
}

impl Rendering {
    fn new(params: &Params, media: Media) -> Self {
        match (params.has("raw"), media) {
            (true, Media::Text) => Self::Hex,
            (true, _) => Self::HexString,
            (false, Media::Detailed) => Self::Detailed,
            (false, _) => Self::Plain,
        }
    }
}
