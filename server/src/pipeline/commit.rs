//! Builds an owner's commits: changed all-clients states, and stored per-client states with the waiting
//! parts merged in.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;
use taba_core::{DecodeStateError, State, Vbucket};

use super::cache::{Cache, Frozen};
use crate::clock;
use crate::store::{Commit, Marks, Store, StoreError, TabChange};

/// States encoded or merged between two chances for other tasks: about 1 ms of work.
const STATES_PER_STEP: usize = 128;
/// All-clients states encoded under one lock of the cache: about 50 µs that a query may have to wait.
const STATES_PER_LOCK: usize = 8;

/// What a commit is made from.
pub(super) struct Source<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) vbucket: Vbucket,
    pub(super) cache: &'a Mutex<Option<Cache>>,
    pub(super) clients_per_tab_max: usize,
}

/// A commit, and how many clients it left out because their tab has too many.
pub(super) struct Built {
    pub(super) commit: Commit,
    pub(super) clients_over_limit: u64,
}

impl Source<'_> {
    /// A commit of the all-clients states alone.
    pub(super) async fn aggregates(&self) -> Built {
        let changes = self.dirty_tabs().await;
        let marks = self
            .with_cache(|cache| Marks { aggregates: cache.applied(), clients: cache.committed().clients });
        Built { commit: Commit { changes: changes.into_values().collect(), marks }, clients_over_limit: 0 }
    }

    /// A commit of everything applied so far.
    pub(super) async fn everything(&self) -> Result<Built, StoreError> {
        let mut changes = self.dirty_tabs().await;
        let frozen = self.with_cache(Cache::freeze);
        let clients_over_limit = self.merge_clients(&frozen, &mut changes).await?;
        let marks = Marks { aggregates: frozen.mark, clients: frozen.mark };
        Ok(Built { commit: Commit { changes: changes.into_values().collect(), marks }, clients_over_limit })
    }

    /// The owner is the only one that changes the cache, and it waits here: what is encoded in several
    /// steps is still one moment's state.
    async fn dirty_tabs(&self) -> HashMap<String, TabChange> {
        let names = self.with_cache(|cache| cache.dirty_tabs());
        let mut changes = HashMap::with_capacity(names.len());
        for step in names.chunks(STATES_PER_LOCK) {
            let now = clock::now();
            self.with_cache(|cache| {
                for dirty in step.iter().filter_map(|name| cache.encode_dirty(name, now)) {
                    let change = TabChange {
                        tab: dirty.tab.clone(),
                        aggregate: dirty.aggregate,
                        clients: Vec::new(),
                        delete: dirty.deleted,
                    };
                    changes.insert(dirty.tab, change);
                }
            });
            tokio::task::yield_now().await;
        }
        changes
    }

    async fn merge_clients(
        &self,
        frozen: &Frozen,
        changes: &mut HashMap<String, TabChange>,
    ) -> Result<u64, StoreError> {
        let mut pairs: Vec<(&str, &str, &[Bytes])> = Vec::new();
        for (tab, clients) in &frozen.tabs {
            pairs.extend(
                clients.iter().map(|(client, parts)| (tab.as_str(), client.as_str(), parts.as_slice())),
            );
        }
        // In key order, so that the store reads and writes its neighbours together.
        pairs.sort_unstable_by_key(|(tab, client, _)| (*tab, *client));
        let mut room = ClientRoom { source: self, left: HashMap::new() };
        let mut over_limit = 0;
        for step in pairs.chunks(STATES_PER_STEP) {
            over_limit += self.merge_step(step, changes, &mut room).await?;
            tokio::task::yield_now().await;
        }
        Ok(over_limit)
    }

    async fn merge_step(
        &self,
        step: &[(&str, &str, &[Bytes])],
        changes: &mut HashMap<String, TabChange>,
        room: &mut ClientRoom<'_>,
    ) -> Result<u64, StoreError> {
        let keys: Vec<_> =
            step.iter().map(|(tab, client, _)| ((*tab).to_owned(), (*client).to_owned())).collect();
        let stored = self.store.read_pairs(self.vbucket, &keys).await?;
        let mut over_limit = 0;
        for ((tab, client, parts), stored) in step.iter().zip(stored) {
            let change = changes.entry((*tab).to_owned()).or_insert_with(|| TabChange {
                tab: (*tab).to_owned(),
                aggregate: None,
                clients: Vec::new(),
                delete: false,
            });
            let stored = stored.filter(|_| !change.delete);
            if stored.is_none() && !room.take(tab, change.delete).await? {
                over_limit += 1;
                continue;
            }
            let state = merge_parts(stored.as_ref(), parts).map_err(|error| StoreError::Corrupt {
                what: format!("state of client {client} of tab {tab}: {error}"),
            })?;
            change.clients.push(((*client).to_owned(), Some(state)));
        }
        Ok(over_limit)
    }

    fn with_cache<R>(&self, look: impl FnOnce(&mut Cache) -> R) -> R {
        look(self.cache.lock().as_mut().expect("the owner keeps its cache for its whole term"))
    }
}

/// How many more clients each tab may have; asked of the store once per tab and commit.
struct ClientRoom<'a> {
    source: &'a Source<'a>,
    left: HashMap<String, usize>,
}

impl ClientRoom<'_> {
    async fn take(&mut self, tab: &str, deleted: bool) -> Result<bool, StoreError> {
        if !self.left.contains_key(tab) {
            let clients =
                if deleted { 0 } else { self.source.store.count_clients(self.source.vbucket, tab).await? };
            self.left.insert(tab.to_owned(), self.source.clients_per_tab_max.saturating_sub(clients));
        }
        let left = self.left.get_mut(tab).expect("it was put there above");
        let room = *left > 0;
        *left = left.saturating_sub(1);
        Ok(room)
    }
}

/// A stored state with parts merged in, encoded.
fn merge_parts(stored: Option<&Bytes>, parts: &[Bytes]) -> Result<Bytes, DecodeStateError> {
    let now = clock::now();
    let mut state = merged(stored, parts, now)?.ok_or(DecodeStateError::Malformed { offset: 0 })?;
    state.expire(now);
    let mut out = Vec::new();
    state.encode(&mut out);
    Ok(Bytes::from(out))
}

/// Merges parts into a stored state. A stored state of another type than the parts (left over from a tab
/// that was pruned and made anew) gives way to them. `None` if there is nothing to merge.
pub(crate) fn merged(
    stored: Option<&Bytes>,
    parts: &[Bytes],
    now: taba_core::Timestamp,
) -> Result<Option<State>, DecodeStateError> {
    let mut state = stored.map(|stored| State::decode(stored)).transpose()?;
    for part in parts {
        match &mut state {
            Some(state) if state.tab_type() == State::peek_type(part)? => state.merge_encoded(part, now)?,
            other => *other = Some(State::decode(part)?),
        }
    }
    Ok(state)
}
