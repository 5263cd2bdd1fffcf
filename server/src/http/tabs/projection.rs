//! `/projection` in its two orders: lines go by tab, JSON nests tabs within clients.

use std::vec;

use taba_core::{State, Timestamp};

use super::Rendering;
use crate::http::answer::{Joined, Missing, Source, push_json_string};
use crate::http::failure::Failure;
use crate::http::walk::Walk;
use crate::query::{Queries, Selector};
use crate::store::StoreError;

/// States rendered per step; the detailed form is about 12 kB each.
const STEP_STATES: usize = 32;

/// Text: `(TabName, ClientID): state` per line, by tab and then by client.
pub(super) struct ByTab {
    queries: Queries,
    walk: Walk,
    clients: Selector,
    rendering: Rendering,
    now: Timestamp,
    tab: String,
    /// Rest of the tab's states.
    states: vec::IntoIter<(String, State)>,
}

impl ByTab {
    pub(super) fn new(
        queries: &Queries,
        names: Selector,
        clients: Selector,
        rendering: Rendering,
        missing: Missing,
    ) -> Self {
        Self {
            queries: queries.clone(),
            walk: Walk::new(queries.clone(), names, clients.clone(), missing),
            clients,
            rendering,
            now: crate::clock::now(),
            tab: String::new(),
            states: Vec::new().into_iter(),
        }
    }
}

impl Source for ByTab {
    async fn write(&mut self, out: &mut String) -> Result<bool, StoreError> {
        if self.states.len() == 0 {
            let Some(tab) = self.walk.next(1).await?.pop() else { return Ok(false) };
            match self.queries.projection(&tab.name, &self.clients).await {
                Ok(states) => self.states = states.into_iter(),
                Err(error) => self.walk.missing.add_tab(&tab.name, &error),
            }
            self.tab = tab.name;
        }
        for (client, state) in self.states.by_ref().take(STEP_STATES) {
            out.push('(');
            out.push_str(&self.tab);
            out.push_str(", ");
            out.push_str(&client);
            out.push_str("): ");
            self.rendering.push(&state, self.now, out);
            out.push('\n');
        }
        Ok(true)
    }

    fn missing(&self) -> &Missing {
        &self.walk.missing
    }
}

/// JSON: an object of clients, each an object of tabs. Reads client by client, so that no more than one
/// client's page of names is held.
pub(super) struct ByClient {
    queries: Queries,
    names: Selector,
    rendering: Rendering,
    now: Timestamp,
    missing: Missing,
    clients: vec::IntoIter<String>,
    outer: Joined,
    /// The client being written.
    open: Option<OpenClient>,
}

struct OpenClient {
    id: String,
    walk: Walk,
    inner: Joined,
    begun: bool,
}

impl ByClient {
    pub(super) async fn new(
        queries: &Queries,
        names: Selector,
        clients: &Selector,
        rendering: Rendering,
        mut missing: Missing,
    ) -> Result<Self, Failure> {
        let clients = queries.clients(clients).await.map_err(|error| Failure::from_store(&error))?;
        missing.add(clients.missing);
        Ok(Self {
            queries: queries.clone(),
            names,
            rendering,
            now: crate::clock::now(),
            missing,
            clients: clients.value.into_iter(),
            outer: Joined::json("{", ",", "}"),
            open: None,
        })
    }

    fn next_client(&mut self) -> Option<OpenClient> {
        let id = self.clients.next()?;
        let only = Selector::Names([id.clone()].into());
        let walk = Walk::new(self.queries.clone(), self.names.clone(), only, self.missing.clone());
        Some(OpenClient { id, walk, inner: Joined::json("{", ",", "}"), begun: false })
    }
}

impl Source for ByClient {
    async fn write(&mut self, out: &mut String) -> Result<bool, StoreError> {
        let Some(mut client) = self.open.take().or_else(|| self.next_client()) else {
            self.outer.end(out);
            return Ok(false);
        };
        let tabs = client.walk.next(STEP_STATES).await?;
        let last = tabs.is_empty();
        let only = Selector::Names([client.id.clone()].into());
        for tab in tabs {
            let states = match self.queries.projection(&tab.name, &only).await {
                Ok(states) => states,
                Err(error) => {
                    client.walk.missing.add_tab(&tab.name, &error);
                    continue;
                }
            };
            for (id, state) in states {
                if !client.begun {
                    self.outer.item(out);
                    push_json_string(out, &id);
                    out.push_str(": ");
                    client.begun = true;
                }
                client.inner.item(out);
                push_json_string(out, &tab.name);
                out.push_str(": ");
                self.rendering.push(&state, self.now, out);
            }
        }
        self.missing = client.walk.missing.clone();
        if !last {
            self.open = Some(client);
        } else if client.begun {
            client.inner.end(out);
        }
        Ok(true)
    }

    fn missing(&self) -> &Missing {
        &self.missing
    }
}
