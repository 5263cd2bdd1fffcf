//! Queries: merge first, render last. An answer says how complete it is.
//!
//! A tab lives in one vbucket, so a query for a tab asks one store. What the owner in this process holds
//! in memory is newer than the store and is laid over it; the mark that comes with stored per-client
//! states says which waiting parts they already include, so nothing is counted twice or missed. Where
//! another process is the owner, the log takes the place of its memory (`replay`).

mod replay;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use regex::Regex;
use taba_core::{State, Vbucket};

use crate::clock;
use crate::pipeline::cache::{Found, Overlay};
use crate::pipeline::{Pipeline, overlaid};
use crate::store::{ClientStates, StoreError, TabInfo};

/// Names asked of a store at once while a list is built.
const LIST_PAGE: usize = 1000;
/// How far stored all-clients states may be behind before an answer is made from the log as well. Owners
/// commit more often than this, so it happens only while a vbucket changes hands.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// Which names a query asks for.
#[derive(Clone, Debug)]
pub enum Selector {
    /// All of them.
    All,
    /// These, if they exist.
    Names(BTreeSet<String>),
    /// Those that the pattern matches; anchor it to match from the start.
    Pattern(Regex),
    /// Those that begin with this.
    Prefix(String),
}

impl Selector {
    /// Whether it picks a name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Names(names) => names.contains(name),
            Self::Pattern(pattern) => pattern.is_match(name),
            Self::Prefix(prefix) => name.starts_with(prefix.as_str()),
        }
    }
}

/// An answer and how complete it is.
#[derive(Clone, Debug)]
#[must_use]
pub struct Answer<T> {
    /// What was found.
    pub value: T,
    /// Vbuckets that did not answer; empty means complete.
    pub missing: Vec<Vbucket>,
}

/// Reads states of any vbucket, from the owner's memory where this process is the owner.
#[derive(Clone)]
pub struct Queries {
    pipeline: Arc<Pipeline>,
}

impl Queries {
    /// Queries over what a pipeline's store holds.
    #[must_use]
    pub fn new(pipeline: Arc<Pipeline>) -> Self {
        Self { pipeline }
    }

    /// Tabs that match and, unless `clients` is [`Selector::All`], that one of the clients has a state
    /// in; in name order, after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if no vbucket answered.
    pub async fn tabs(
        &self,
        names: &Selector,
        clients: &Selector,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Answer<Vec<TabInfo>>, StoreError> {
        if let (Selector::Names(names), Selector::All) = (names, clients) {
            return self.named_tabs(names, after, limit).await;
        }
        let mut found = Gathered::default();
        for vbucket in self.pipeline.vbuckets().iter() {
            let tabs = match clients {
                Selector::All => self.tabs_of_vbucket(vbucket, names, after, limit).await,
                _ => self.tabs_of_clients(vbucket, names, clients, after, limit).await,
            };
            found.add(vbucket, tabs);
        }
        let mut answer = found.finish()?;
        answer.value.sort_unstable();
        answer.value.truncate(limit);
        Ok(answer)
    }

    async fn named_tabs(
        &self,
        names: &BTreeSet<String>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Answer<Vec<TabInfo>>, StoreError> {
        let mut found = Gathered::default();
        for name in names.iter().filter(|name| after.is_none_or(|after| name.as_str() > after)).take(limit) {
            let state = self.aggregate(name, &Selector::All).await;
            let info = state.map(|state| {
                Vec::from_iter(state.map(|state| TabInfo { name: name.clone(), tab_type: state.tab_type() }))
            });
            found.add(self.pipeline.vbuckets().of(name), info);
        }
        found.finish()
    }

    /// Matching tabs of one vbucket after `after`: enough of them to cut `limit` out of the union.
    async fn tabs_of_vbucket(
        &self,
        vbucket: Vbucket,
        names: &Selector,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TabInfo>, StoreError> {
        let cached = self.cached_tabs(vbucket);
        let is_wanted = |name: &str| names.matches(name) && after.is_none_or(|after| name > after);
        let newer = cached.iter().filter_map(|(name, tab_type)| {
            let tab_type = (*tab_type)?;
            is_wanted(name).then(|| TabInfo { name: name.clone(), tab_type })
        });
        let mut tabs: Vec<TabInfo> = newer.collect();
        let mut stored_tabs = 0;
        let mut cursor = start_of(names, after);
        loop {
            let page = self.pipeline.store().list_tabs(vbucket, cursor.as_deref(), LIST_PAGE).await?;
            let Some(last) = page.last() else { break };
            let past_prefix = matches!(names, Selector::Prefix(prefix) if last.name.as_str() > prefix.as_str() && !last.name.starts_with(prefix.as_str()));
            cursor = Some(last.name.clone());
            let is_last = page.len() < LIST_PAGE || past_prefix;
            let before = tabs.len();
            tabs.extend(
                page.into_iter().filter(|tab| is_wanted(&tab.name) && !cached.contains_key(&tab.name)),
            );
            stored_tabs += tabs.len() - before;
            if is_last || stored_tabs >= limit {
                break;
            }
        }
        Ok(tabs)
    }

    async fn tabs_of_clients(
        &self,
        vbucket: Vbucket,
        names: &Selector,
        clients: &Selector,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TabInfo>, StoreError> {
        let pending = self.pending(vbucket, clients).await?;
        let mut wanted = BTreeSet::new();
        for client in self.clients_of_vbucket(vbucket, clients, &pending).await? {
            wanted.extend(self.pipeline.store().list_tabs_of_client(vbucket, &client).await?);
        }
        wanted.extend(pending.into_iter().map(|(tab, _)| tab));
        wanted.retain(|tab| names.matches(tab));
        let tabs = self.tabs_of_vbucket(vbucket, &Selector::Names(wanted), after, limit).await?;
        Ok(tabs)
    }

    /// Client IDs that match, in order.
    ///
    /// # Errors
    /// [`StoreError`] if no vbucket answered.
    pub async fn clients(&self, clients: &Selector) -> Result<Answer<Vec<String>>, StoreError> {
        let mut found = Gathered::default();
        for vbucket in self.pipeline.vbuckets().iter() {
            let here = match self.pending(vbucket, clients).await {
                Ok(pending) => self.clients_of_vbucket(vbucket, clients, &pending).await,
                Err(error) => Err(error),
            };
            found.add(vbucket, here.map(Vec::from_iter));
        }
        let mut answer = found.finish()?;
        answer.value.sort_unstable();
        answer.value.dedup();
        Ok(answer)
    }

    async fn clients_of_vbucket(
        &self,
        vbucket: Vbucket,
        clients: &Selector,
        pending: &BTreeSet<(String, String)>,
    ) -> Result<BTreeSet<String>, StoreError> {
        let mut found: BTreeSet<String> = pending.iter().map(|(_, client)| client.clone()).collect();
        if let Selector::Names(names) = clients {
            for name in names {
                if !self.pipeline.store().list_tabs_of_client(vbucket, name).await?.is_empty() {
                    found.insert(name.clone());
                }
            }
            return Ok(found);
        }
        let mut cursor: Option<String> = None;
        loop {
            let page = self.pipeline.store().list_clients(vbucket, cursor.as_deref(), LIST_PAGE).await?;
            let is_last = page.len() < LIST_PAGE;
            cursor = page.last().cloned();
            found.extend(page.into_iter().filter(|client| clients.matches(client)));
            if is_last {
                return Ok(found);
            }
        }
    }

    /// One tab's state over the clients; `None` if there is nothing. [`Selector::All`] reads the
    /// all-clients state kept ready, anything else merges the clients' states.
    ///
    /// # Errors
    /// [`StoreError`] if its vbucket did not answer.
    pub async fn aggregate(&self, tab: &str, clients: &Selector) -> Result<Option<State>, StoreError> {
        if matches!(clients, Selector::All) {
            return self.all_clients(tab).await;
        }
        let now = clock::now();
        let mut merged: Option<State> = None;
        for (_, state) in self.projection(tab, clients).await? {
            match &mut merged {
                None => merged = Some(state),
                Some(merged) => merged.merge(&state, now).map_err(|error| corrupt(tab, &error))?,
            }
        }
        Ok(merged)
    }

    async fn all_clients(&self, tab: &str) -> Result<Option<State>, StoreError> {
        let vbucket = self.pipeline.vbuckets().of(tab);
        let cached = self.pipeline.slot(vbucket).owned_cache().map(|cache| cache.aggregate(tab));
        let cached = match cached {
            None if self.is_behind(vbucket).await? => {
                let from = replay::From::Aggregates;
                replay::replay(self.pipeline.store(), vbucket, tab, from).await?.aggregate(tab)
            }
            cached => cached.unwrap_or(Found::AskStore),
        };
        match cached {
            Found::Present(state) => return Ok(Some(*state)),
            Found::Absent => return Ok(None),
            Found::AskStore => {}
        }
        let stored = self.pipeline.store().read_aggregates(vbucket, &[tab.to_owned()]).await?;
        let stored = stored.into_iter().next().flatten();
        stored.map(|bytes| State::decode(&bytes)).transpose().map_err(|error| corrupt(tab, &error))
    }

    async fn is_behind(&self, vbucket: Vbucket) -> Result<bool, StoreError> {
        let since = self.pipeline.store().progress(vbucket).await?.behind_since;
        let behind_max = i64::try_from(BEHIND_MAX.as_micros()).unwrap_or(i64::MAX);
        Ok(since.is_some_and(|since| clock::now().as_micros() - since.as_micros() > behind_max))
    }

    /// Stored states of a tab's clients, and what they may lack. The overlay is taken first: what the store
    /// lacks when it is read afterwards is then certainly in it.
    async fn states_and_overlay(
        &self,
        vbucket: Vbucket,
        tab: &str,
        clients: &Selector,
    ) -> Result<(ClientStates, Overlay), StoreError> {
        let store = self.pipeline.store();
        let names = match clients {
            Selector::Names(names) => Some(Vec::from_iter(names.iter().cloned())),
            _ => None,
        };
        let wanted = |client: &str| clients.matches(client);
        for _ in 0..replay::TRIES_MAX {
            let owned = self.pipeline.slot(vbucket).owned_cache().map(|cache| cache.overlay(tab, wanted));
            let (overlay, mark) = match owned {
                Some(overlay) => (overlay, None),
                None => {
                    let cache = replay::replay(store, vbucket, tab, replay::From::Clients).await?;
                    (cache.overlay(tab, wanted), Some(cache.committed().clients))
                }
            };
            let stored = store.read_clients(vbucket, tab, names.as_deref()).await?;
            // A replay begins at one mark and fits only states that were read at the same.
            if mark.is_none_or(|mark| mark == stored.mark) {
                return Ok((stored, overlay));
            }
        }
        Err(replay::moves_on())
    }

    /// One tab's states per client that matches, in client order.
    ///
    /// # Errors
    /// [`StoreError`] if its vbucket did not answer.
    pub async fn projection(
        &self,
        tab: &str,
        clients: &Selector,
    ) -> Result<Vec<(String, State)>, StoreError> {
        let vbucket = self.pipeline.vbuckets().of(tab);
        let (mut stored, overlay) = self.states_and_overlay(vbucket, tab, clients).await?;
        stored.states.retain(|(client, _)| clients.matches(client));
        let now = clock::now();
        let mut states = Vec::new();
        for (client, (stored, parts)) in lay_over(stored, overlay) {
            if let Some(state) = overlaid(stored.as_ref(), &parts, now)? {
                states.push((client, state));
            }
        }
        Ok(states)
    }

    fn cached_tabs(&self, vbucket: Vbucket) -> BTreeMap<String, Option<taba_core::TabType>> {
        self.pipeline.slot(vbucket).owned_cache().map(|cache| cache.list_tabs()).unwrap_or_default()
    }

    /// Tabs and matching clients whose states the store may lack as yet. To be asked for before the store is: what
    /// is committed meanwhile is then found there.
    async fn pending(
        &self,
        vbucket: Vbucket,
        clients: &Selector,
    ) -> Result<BTreeSet<(String, String)>, StoreError> {
        if let Some(cache) = self.pipeline.slot(vbucket).owned_cache() {
            let mut found = BTreeSet::new();
            cache.visit_pending(|tab, client| {
                if clients.matches(client) {
                    found.insert((tab.to_owned(), client.to_owned()));
                }
            });
            return Ok(found);
        }
        replay::pending(self.pipeline.store(), vbucket, |client| clients.matches(client)).await
    }
}

/// Stored states and the parts that each of them lacks, by client.
fn lay_over(stored: ClientStates, overlay: Overlay) -> BTreeMap<String, (Option<Bytes>, Vec<Bytes>)> {
    let ClientStates { mark, states } = stored;
    let mut clients: BTreeMap<String, (Option<Bytes>, Vec<Bytes>)> = BTreeMap::new();
    let includes_all = mark >= overlay.applied;
    if includes_all || !overlay.deleted {
        clients.extend(states.into_iter().map(|(client, state)| (client, (Some(state), Vec::new()))));
    }
    if includes_all {
        return clients;
    }
    let frozen = overlay.frozen.filter(|(frozen_mark, _)| mark < *frozen_mark);
    for (client, parts) in frozen.into_iter().flat_map(|(_, clients)| clients).chain(overlay.pending) {
        clients.entry(client).or_default().1.extend(parts);
    }
    clients
}

/// Where a list may start: just before the first name that can match.
fn start_of(names: &Selector, after: Option<&str>) -> Option<String> {
    let prefix = match names {
        // The name just before the prefix itself in byte order would do; the prefix less its last
        // character is before it and simple.
        Selector::Prefix(prefix) => {
            prefix.char_indices().next_back().map(|(end, _)| prefix[..end].to_owned())
        }
        Selector::Names(names) => names
            .first()
            .and_then(|first| first.char_indices().next_back().map(|(end, _)| first[..end].to_owned())),
        _ => None,
    };
    prefix.filter(|prefix| !prefix.is_empty()).max(after.map(str::to_owned))
}

fn corrupt(tab: &str, error: &dyn std::error::Error) -> StoreError {
    StoreError::Corrupt { what: format!("state of tab {tab}: {error}") }
}

/// Collects what vbuckets answer; fails only if none did.
struct Gathered<T> {
    values: Vec<T>,
    missing: Vec<Vbucket>,
    answered: bool,
    error: Option<StoreError>,
}

impl<T> Default for Gathered<T> {
    fn default() -> Self {
        Self { values: Vec::new(), missing: Vec::new(), answered: false, error: None }
    }
}

impl<T> Gathered<T> {
    fn add(&mut self, vbucket: Vbucket, answer: Result<Vec<T>, StoreError>) {
        match answer {
            Ok(values) => {
                self.answered = true;
                self.values.extend(values);
            }
            Err(error) => {
                self.missing.push(vbucket);
                self.error = Some(error);
            }
        }
    }

    fn finish(self) -> Result<Answer<Vec<T>>, StoreError> {
        match self.error {
            Some(error) if !self.answered => Err(error),
            _ => Ok(Answer { value: self.values, missing: self.missing }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::EntryId;

    /// Client `a` with a part under way (entries up to 5) and one applied since (up to 7).
    fn overlay(deleted: bool) -> Overlay {
        let part = |name: &'static str| vec![("a".to_owned(), vec![Bytes::from_static(name.as_bytes())])];
        let frozen = (!deleted).then(|| (EntryId(5), part("frozen")));
        Overlay { applied: EntryId(7), deleted, frozen, pending: part("pending") }
    }

    /// What is merged for client `a` when its stored state was read at `mark`.
    fn merged_at(mark: u64, overlay: Overlay) -> Vec<Bytes> {
        let states = vec![("a".to_owned(), Bytes::from_static(b"stored"))];
        let mut clients = lay_over(ClientStates { mark: EntryId(mark), states }, overlay);
        let (stored, parts) = clients.remove("a").expect("the client is there");
        stored.into_iter().chain(parts).collect()
    }

    #[test]
    fn a_stored_state_is_joined_by_exactly_the_parts_after_its_mark() {
        assert_eq!(merged_at(3, overlay(false)), ["stored", "frozen", "pending"]);
        assert_eq!(merged_at(5, overlay(false)), ["stored", "pending"], "the commit under way was done");
        assert_eq!(merged_at(7, overlay(false)), ["stored"], "the next one was done as well");
    }

    #[test]
    fn what_was_stored_before_a_deletion_is_void_and_what_was_stored_after_it_is_not() {
        assert_eq!(merged_at(3, overlay(true)), ["pending"]);
        assert_eq!(merged_at(7, overlay(true)), ["stored"]);
    }
}
