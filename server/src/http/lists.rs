//! `/names`, `/types`, `/clients` and `/ids`: what there is, as sorted lines or as JSON.

use std::sync::Arc;
use std::vec;

use axum::extract::{Request, State};
use axum::response::Response;
use taba_core::name::stable_id;

use super::App;
use super::answer::{Joined, Missing, Source, push_json_string, respond};
use super::failure::Failure;
use super::media::{Group, Media};
use super::walk::Walk;
use crate::query::Selector;
use crate::store::{StoreError, TabInfo};

/// Items written per step: 512 names of at most 256 bytes are 128 KiB.
const STEP_ITEMS: usize = 512;

/// `/names`: the tabs' names.
pub async fn names(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let permit = app.admit_query()?;
    let (params, headers) = app.params(request, &["name", "client", "re"]).await?;
    let media = Group::Lists.choose(&headers);
    let walk =
        Walk::new(app.queries.clone(), params.selector("name")?, params.selector("client")?, app.missing());
    let joined = joined(media, "[", "]");
    respond(
        media,
        Tabs { walk, joined, item: if media == Media::Text { name_line } else { name_json } },
        permit,
    )
    .await
}

/// `/types`: the tabs' names and types.
pub async fn types(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let permit = app.admit_query()?;
    let (params, headers) = app.params(request, &["name", "re"]).await?;
    let media = Group::Lists.choose(&headers);
    let walk = Walk::new(app.queries.clone(), params.selector("name")?, Selector::All, app.missing());
    let joined = joined(media, "{", "}");
    respond(
        media,
        Tabs { walk, joined, item: if media == Media::Text { type_line } else { type_json } },
        permit,
    )
    .await
}

/// `/clients`: the Client IDs.
pub async fn clients(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let permit = app.admit_query()?;
    let (params, headers) = app.params(request, &["client", "re"]).await?;
    let media = Group::Lists.choose(&headers);
    let item: fn(&mut String, &str) = match media {
        Media::Text => |out, client| push_line(out, &[client]),
        Media::Json | Media::Detailed => push_json_string,
    };
    let source = Clients::read(&app, &params.selector("client")?, joined(media, "[", "]"), item).await?;
    respond(media, source, permit).await
}

/// `/ids`: a stable number per name and client, in the two lists of the first Taba.
pub async fn ids(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let permit = app.admit_query()?;
    let (_, headers) = app.params(request, &[]).await?;
    let media = Group::Lists.choose(&headers);
    let walk = Walk::new(app.queries.clone(), Selector::All, Selector::All, app.missing());
    let source = match media {
        Media::Text => Both::new(
            Tabs { walk, joined: Joined::json("Names:\n", "", ""), item: |out, tab| id_line(out, &tab.name) },
            Clients::read(&app, &Selector::All, Joined::json("Clients:\n", "", ""), id_line).await?,
            true,
        ),
        // Members are sorted: `clients` before `names`.
        Media::Json | Media::Detailed => Both::new(
            Tabs {
                walk,
                joined: Joined::json(", \"names\": {", ", ", "}}"),
                item: |out, tab| id_json(out, &tab.name),
            },
            Clients::read(&app, &Selector::All, Joined::json("{\"clients\": {", ", ", "}"), id_json).await?,
            false,
        ),
    };
    respond(media, source, permit).await
}

fn joined(media: Media, open: &'static str, close: &'static str) -> Joined {
    if media == Media::Text { Joined::lines() } else { Joined::json(open, ", ", close) }
}

fn push_line(out: &mut String, pieces: &[&str]) {
    pieces.iter().for_each(|piece| out.push_str(piece));
    out.push('\n');
}

fn name_line(out: &mut String, tab: &TabInfo) {
    push_line(out, &[&tab.name]);
}

fn name_json(out: &mut String, tab: &TabInfo) {
    push_json_string(out, &tab.name);
}

fn type_line(out: &mut String, tab: &TabInfo) {
    push_line(out, &[&tab.name, ": ", tab.tab_type.as_str()]);
}

fn type_json(out: &mut String, tab: &TabInfo) {
    push_json_string(out, &tab.name);
    out.push_str(": ");
    push_json_string(out, tab.tab_type.as_str());
}

fn id_line(out: &mut String, name: &str) {
    push_line(out, &["  ", name, ": ", &stable_id(name).to_string()]);
}

fn id_json(out: &mut String, name: &str) {
    push_json_string(out, name);
    out.push_str(": ");
    out.push_str(&stable_id(name).to_string());
}

/// A list of tabs.
struct Tabs {
    walk: Walk,
    joined: Joined,
    item: fn(&mut String, &TabInfo),
}

impl Source for Tabs {
    async fn write(&mut self, out: &mut String) -> Result<bool, StoreError> {
        let tabs = self.walk.next(STEP_ITEMS).await?;
        for tab in &tabs {
            self.joined.item(out);
            (self.item)(out, tab);
        }
        if tabs.is_empty() {
            self.joined.end(out);
        }
        Ok(!tabs.is_empty())
    }

    fn missing(&self) -> &Missing {
        &self.walk.missing
    }
}

/// A list of clients.
struct Clients {
    clients: vec::IntoIter<String>,
    joined: Joined,
    item: fn(&mut String, &str),
    missing: Missing,
}

impl Clients {
    async fn read(
        app: &App,
        clients: &Selector,
        joined: Joined,
        item: fn(&mut String, &str),
    ) -> Result<Self, Failure> {
        let answer = app.queries.clients(clients).await.map_err(|error| Failure::from_store(&error))?;
        let mut missing = app.missing();
        missing.add(answer.missing);
        Ok(Self { clients: answer.value.into_iter(), joined, item, missing })
    }
}

impl Source for Clients {
    async fn write(&mut self, out: &mut String) -> Result<bool, StoreError> {
        for client in self.clients.by_ref().take(STEP_ITEMS) {
            self.joined.item(out);
            (self.item)(out, &client);
        }
        let more = self.clients.len() > 0;
        if !more {
            self.joined.end(out);
        }
        Ok(more)
    }

    fn missing(&self) -> &Missing {
        &self.missing
    }
}

/// Both lists of `/ids`, one after the other.
struct Both {
    tabs: Tabs,
    clients: Clients,
    tabs_left: bool,
    clients_left: bool,
    tabs_first: bool,
}

impl Both {
    fn new(mut tabs: Tabs, clients: Clients, tabs_first: bool) -> Self {
        // One set for both: what either list misses is missing from the answer.
        tabs.walk.missing.add(clients.missing.iter());
        Self { tabs, clients, tabs_left: true, clients_left: true, tabs_first }
    }
}

impl Source for Both {
    async fn write(&mut self, out: &mut String) -> Result<bool, StoreError> {
        if self.tabs_left && (self.tabs_first || !self.clients_left) {
            self.tabs_left = self.tabs.write(out).await?;
        } else {
            self.clients_left = self.clients.write(out).await?;
        }
        Ok(self.tabs_left || self.clients_left)
    }

    fn missing(&self) -> &Missing {
        &self.tabs.walk.missing
    }
}
