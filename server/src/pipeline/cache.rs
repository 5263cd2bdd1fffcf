//! What the owner of one vbucket holds in memory: all-clients states, ready to answer queries, and the
//! parts that the stored per-client states do not include yet.
//!
//! Pure: no store, no clock, no task. The owner reads entries and calls [`Cache::apply`]; queries look
//! in under the same lock; commits take [`Cache::encode_dirty`] and [`Cache::freeze`]. On any doubt about
//! the store the whole cache is thrown away and rebuilt from the marks, so nothing here must survive.
//!
//! Parts per client are kept as slices of their queue entries and merged when they are committed or
//! asked for: most clients' parts are never looked at in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use taba_core::part::{self, Part};
use taba_core::{BadCounts, BadReason, State, TabType, Timestamp};

use crate::store::{EntryId, Marks, QueueEntry, TabInfo};

type Map<V> = HashMap<String, V, foldhash::fast::RandomState>;

/// Parts of one client that wait for their commit. Merged into one when there are this many, so that a
/// busy client costs a query no more than this many merges, about 30 µs.
const CLIENT_PARTS_MAX: usize = 64;

/// Parts of one tab by client.
pub type ClientParts = Map<Vec<Bytes>>;

/// Clients and their parts.
pub type ListedParts = Vec<(String, Vec<Bytes>)>;

/// Parts under way into the store: every entry up to `mark` and after the clients' mark.
#[derive(Debug)]
pub struct Frozen {
    /// The clients' mark after the commit.
    pub mark: EntryId,
    /// Tab → client → parts.
    pub tabs: Map<ClientParts>,
}

/// Bounds of one vbucket's cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheLimits {
    /// Most tabs; events of further ones are dropped and counted.
    pub tabs_max: usize,
    /// Memory for all-clients states, in bytes; the least recently touched are dropped after a commit.
    pub aggregate_bytes_max: usize,
}

/// What the cache knows of an all-clients state.
#[derive(Debug)]
enum Aggregate {
    NotLoaded,
    Absent,
    Present(Box<State>),
}

#[derive(Debug)]
struct Tab {
    aggregate: Aggregate,
    /// Memory of the aggregate when it was last measured, in bytes.
    aggregate_bytes: usize,
    dirty: bool,
    /// Deleted since the last commit: whatever the store holds of the tab is void.
    deleted: bool,
    /// The commit round of the last change or query, for eviction.
    touched: u64,
    pending: ClientParts,
}

impl Tab {
    fn new(aggregate: Aggregate) -> Self {
        Self {
            aggregate,
            aggregate_bytes: 0,
            dirty: false,
            deleted: false,
            touched: 0,
            pending: Map::default(),
        }
    }
}

/// A changed all-clients state on its way to the store.
#[derive(Debug)]
pub struct DirtyTab {
    /// The tab.
    pub tab: String,
    /// Its encoded state; `None` if it is gone.
    pub aggregate: Option<Bytes>,
    /// Whether the tab was deleted since the last commit.
    pub deleted: bool,
}

/// What a query finds of an all-clients state.
#[derive(Debug)]
pub enum Found {
    /// The state, complete up to the last applied entry.
    Present(Box<State>),
    /// There is none, whatever the store says.
    Absent,
    /// Not in memory: what the store has is complete.
    AskStore,
}

/// What memory knows of a tab's clients that stored states may lack. Marks move only to points where
/// everything applied so far was set aside, so a stored mark tells exactly which of it is included.
#[derive(Debug, Default)]
pub struct Overlay {
    /// The last applied entry: states read at this mark or later include all of this.
    pub applied: EntryId,
    /// The tab was deleted: states read at an earlier mark are void.
    pub deleted: bool,
    /// Parts under way into the store: states read at this mark or later include them.
    pub frozen: Option<(EntryId, ListedParts)>,
    /// Parts applied since.
    pub pending: ListedParts,
}

/// The memory of one vbucket's owner.
#[derive(Debug)]
pub struct Cache {
    limits: CacheLimits,
    tabs: Map<Tab>,
    tab_count: usize,
    applied: EntryId,
    committed: Marks,
    frozen: Option<Arc<Frozen>>,
    round: u64,
    pending_bytes: u64,
    aggregate_bytes: usize,
    deletions: u64,
    deletion_waits: bool,
    bad: BadCounts,
}

impl Cache {
    /// An empty cache for a queue applied up to `marks`, in a vbucket that has `tab_count` tabs.
    #[must_use]
    pub fn new(marks: Marks, tab_count: usize, limits: CacheLimits) -> Self {
        Self {
            limits,
            tabs: Map::default(),
            tab_count,
            applied: marks.clients,
            committed: marks,
            frozen: None,
            round: 0,
            pending_bytes: 0,
            aggregate_bytes: 0,
            deletions: 0,
            deletion_waits: false,
            bad: BadCounts::default(),
        }
    }

    /// The last applied entry.
    #[must_use]
    pub fn applied(&self) -> EntryId {
        self.applied
    }

    /// The marks in the store.
    #[must_use]
    pub fn committed(&self) -> Marks {
        self.committed
    }

    /// Bytes of applied entries that wait for their per-client commit.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    /// How many deletions were applied.
    #[must_use]
    pub fn deletions(&self) -> u64 {
        self.deletions
    }

    /// Whether a commit would change the all-clients states or the marks.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.applied > self.committed.aggregates
    }

    /// Whether entries wait for their per-client commit.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.applied > self.committed.clients
    }

    /// Takes the counts of events dropped since the last call.
    pub fn take_bad(&mut self) -> BadCounts {
        std::mem::take(&mut self.bad)
    }

    /// Tabs of an entry whose all-clients state has to be loaded before the entry can be applied.
    pub fn tabs_to_load<'a>(&'a self, block: &'a [u8]) -> impl Iterator<Item = &'a str> {
        let known =
            |tab: &str| self.tabs.get(tab).is_some_and(|tab| !matches!(tab.aggregate, Aggregate::NotLoaded));
        part::iter(block).map_while(Result::ok).map(|part| part.tab()).filter(move |tab| !known(tab))
    }

    /// Puts a tab's stored all-clients state into memory, unless a newer one is there.
    pub fn load(&mut self, tab: &str, state: Option<State>) {
        let round = self.round;
        let slot = self.tabs.entry_ref(tab).or_insert_with(|| Tab::new(Aggregate::NotLoaded));
        if matches!(slot.aggregate, Aggregate::NotLoaded) {
            slot.touched = round;
            slot.aggregate_bytes = state.as_ref().map_or(0, State::heap_bytes);
            self.aggregate_bytes += slot.aggregate_bytes;
            slot.aggregate = state.map_or(Aggregate::Absent, |state| Aggregate::Present(Box::new(state)));
        }
    }

    /// Applies the next queue entry. Its tabs must have been loaded.
    ///
    /// # Errors
    /// The entry's bytes cannot be read; what was read before the fault is applied.
    pub fn apply(&mut self, entry: &QueueEntry, now: Timestamp) -> Result<(), part::BadPart> {
        assert!(entry.id > self.applied, "entries are applied in order, once");
        let in_aggregates = entry.id <= self.committed.aggregates;
        let mut outcome = Ok(());
        for part in part::iter(&entry.block) {
            match part {
                Ok(Part::State { tab, client, events, state }) => {
                    self.apply_state(entry, in_aggregates, tab, client, events, state, now);
                }
                Ok(Part::Delete { tab }) => self.apply_delete(tab),
                Err(error) => outcome = Err(error),
            }
        }
        self.applied = entry.id;
        self.pending_bytes += entry.block.len() as u64;
        outcome
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one part and its place")]
    fn apply_state(
        &mut self,
        entry: &QueueEntry,
        in_aggregates: bool,
        tab: &str,
        client: &str,
        events: u64,
        state: &[u8],
        now: Timestamp,
    ) {
        let outcome = self.merge_into_tab(entry, in_aggregates, tab, client, state, now);
        // Entries that are in the all-clients states already were counted when they went in.
        if let Err(reason) = outcome
            && !in_aggregates
        {
            self.bad.add(reason, events);
        }
    }

    fn merge_into_tab(
        &mut self,
        entry: &QueueEntry,
        in_aggregates: bool,
        tab: &str,
        client: &str,
        state: &[u8],
        now: Timestamp,
    ) -> Result<(), BadReason> {
        let tab_type = State::peek_type(state).map_err(|_| BadReason::UnknownType)?;
        let slot =
            self.tabs.get_mut(tab).expect("the owner loads an entry's tabs before it applies the entry");
        slot.touched = self.round;
        if let Aggregate::Present(aggregate) = &mut slot.aggregate {
            if aggregate.tab_type() != tab_type {
                return Err(BadReason::TypeMismatch);
            }
            if !in_aggregates {
                aggregate.merge_encoded(state, now).map_err(|_| BadReason::BadPayload)?;
            }
        } else {
            // A tab that is in no all-clients state although the entry was applied: it was refused then.
            if in_aggregates || self.tab_count >= self.limits.tabs_max {
                return Err(BadReason::LimitReached);
            }
            let mut aggregate = State::new(tab_type);
            aggregate.merge_encoded(state, now).map_err(|_| BadReason::BadPayload)?;
            slot.aggregate = Aggregate::Present(Box::new(aggregate));
            self.tab_count += 1;
        }
        slot.dirty |= !in_aggregates;
        push_part(slot.pending.entry_ref(client).or_default(), entry.block.slice_ref(state), now);
        Ok(())
    }

    fn apply_delete(&mut self, tab: &str) {
        let slot =
            self.tabs.get_mut(tab).expect("the owner loads an entry's tabs before it applies the entry");
        if matches!(slot.aggregate, Aggregate::Present(_)) {
            self.tab_count = self.tab_count.saturating_sub(1);
        }
        slot.aggregate = Aggregate::Absent;
        self.aggregate_bytes -= std::mem::take(&mut slot.aggregate_bytes);
        slot.pending.clear();
        slot.dirty = true;
        slot.deleted = true;
        slot.touched = self.round;
        self.deletions += 1;
        self.deletion_waits = true;
    }

    /// Whether a deletion waits: then the next commit must be a full one, so that no later owner replays
    /// entries from before the deletion into states from after it.
    #[must_use]
    pub fn has_deletion(&self) -> bool {
        self.deletion_waits
    }

    /// Names of the tabs that changed since the last commit.
    #[must_use]
    pub fn dirty_tabs(&self) -> Vec<String> {
        self.tabs.iter().filter(|(_, tab)| tab.dirty).map(|(name, _)| name.clone()).collect()
    }

    /// One changed tab, encoded for the store.
    pub fn encode_dirty(&mut self, name: &str, now: Timestamp) -> Option<DirtyTab> {
        let tab = self.tabs.get_mut(name)?;
        let aggregate = match &mut tab.aggregate {
            Aggregate::Present(state) => {
                state.expire(now);
                let bytes = state.heap_bytes();
                self.aggregate_bytes = self.aggregate_bytes + bytes - tab.aggregate_bytes;
                tab.aggregate_bytes = bytes;
                let mut out = Vec::new();
                state.encode(&mut out);
                Some(Bytes::from(out))
            }
            _ => None,
        };
        Some(DirtyTab { tab: name.to_owned(), aggregate, deleted: tab.deleted })
    }

    /// Sets all pending parts aside for a commit that moves the clients' mark to the last applied entry.
    pub fn freeze(&mut self) -> Arc<Frozen> {
        let mut tabs = Map::default();
        for (name, tab) in self.tabs.iter_mut().filter(|(_, tab)| !tab.pending.is_empty()) {
            tabs.insert(name.clone(), std::mem::take(&mut tab.pending));
        }
        let frozen = Arc::new(Frozen { mark: self.applied, tabs });
        self.frozen = Some(Arc::clone(&frozen));
        frozen
    }

    /// The commit of everything applied so far succeeded.
    pub fn committed_up_to(&mut self, marks: Marks) {
        if marks.clients > self.committed.clients {
            self.frozen = None;
            self.pending_bytes = 0;
        }
        self.committed = marks;
        self.round += 1;
        self.deletion_waits = false;
        for tab in self.tabs.values_mut() {
            tab.dirty = false;
            tab.deleted = false;
        }
        // Names without a state are remembered only while the store may still say otherwise.
        self.tabs.retain(|_, tab| !matches!(tab.aggregate, Aggregate::Absent) || !tab.pending.is_empty());
        self.evict();
    }

    /// Drops clean all-clients states that were not touched for longest, down to the bound.
    fn evict(&mut self) {
        if self.aggregate_bytes <= self.limits.aggregate_bytes_max {
            return;
        }
        let mut by_age: Vec<(u64, String)> =
            self.tabs.iter().map(|(name, tab)| (tab.touched, name.clone())).collect();
        by_age.sort_unstable();
        for (_, name) in by_age {
            if self.aggregate_bytes <= self.limits.aggregate_bytes_max {
                break;
            }
            self.forget(&name);
        }
    }

    /// Drops a clean tab from memory; what the store has is complete.
    fn forget(&mut self, name: &str) {
        let Some(tab) = self.tabs.get_mut(name) else { return };
        self.aggregate_bytes -= tab.aggregate_bytes;
        tab.aggregate_bytes = 0;
        tab.aggregate = Aggregate::NotLoaded;
        if tab.pending.is_empty() {
            self.tabs.remove(name);
        }
    }

    /// A tab was removed from the store by a sweep.
    pub fn removed(&mut self, name: &str) {
        self.forget(name);
        self.tab_count = self.tab_count.saturating_sub(1);
    }

    /// Whether parts of the tab wait for a commit, or it changed since the last one.
    #[must_use]
    pub fn is_tab_busy(&self, tab: &str) -> bool {
        let frozen = self.frozen.as_ref().is_some_and(|frozen| frozen.tabs.contains_key(tab));
        frozen || self.tabs.get(tab).is_some_and(|tab| tab.dirty || !tab.pending.is_empty())
    }

    /// Replaces the all-clients state of a tab that is not busy: a repair, which the caller commits at
    /// once. Were the tab dirty, it would be so until the next event, and no sweep would look at it.
    pub fn replace_aggregate(&mut self, tab: &str, state: State) {
        let round = self.round;
        let slot = self.tabs.entry_ref(tab).or_insert_with(|| Tab::new(Aggregate::NotLoaded));
        let bytes = state.heap_bytes();
        self.aggregate_bytes = self.aggregate_bytes + bytes - slot.aggregate_bytes;
        slot.aggregate_bytes = bytes;
        slot.aggregate = Aggregate::Present(Box::new(state));
        slot.touched = round;
    }

    /// The all-clients state of a tab.
    #[must_use]
    pub fn aggregate(&self, tab: &str) -> Found {
        match self.tabs.get(tab).map(|tab| &tab.aggregate) {
            Some(Aggregate::Present(state)) => Found::Present(state.clone()),
            Some(Aggregate::Absent) => Found::Absent,
            Some(Aggregate::NotLoaded) | None => Found::AskStore,
        }
    }

    /// Parts of a tab that its stored per-client states may lack, of the clients that `wanted` picks.
    #[must_use]
    pub fn overlay(&self, tab: &str, wanted: impl Fn(&str) -> bool) -> Overlay {
        let pick = |parts: &ClientParts| {
            let picked = parts.iter().filter(|(client, _)| wanted(client));
            picked.map(|(client, parts)| (client.clone(), parts.clone())).collect()
        };
        let slot = self.tabs.get(tab);
        let deleted = slot.is_some_and(|slot| slot.deleted);
        let frozen = self.frozen.as_ref().filter(|_| !deleted);
        let frozen = frozen.and_then(|frozen| Some((frozen.mark, pick(frozen.tabs.get(tab)?))));
        let pending = slot.map(|slot| pick(&slot.pending)).unwrap_or_default();
        Overlay { applied: self.applied, deleted, frozen, pending }
    }

    /// Tabs in memory: `Some(type)` where there is a state, `None` where there is none whatever the store
    /// says. Tabs not in the answer are as the store has them.
    #[must_use]
    pub fn list_tabs(&self) -> BTreeMap<String, Option<TabType>> {
        let known = self.tabs.iter().filter_map(|(name, tab)| match &tab.aggregate {
            Aggregate::Present(state) => Some((name.clone(), Some(state.tab_type()))),
            Aggregate::Absent => Some((name.clone(), None)),
            Aggregate::NotLoaded => None,
        });
        known.collect()
    }

    /// A tab and its type, if it is in memory.
    #[must_use]
    pub fn tab_info(&self, name: &str) -> Option<TabInfo> {
        match &self.tabs.get(name)?.aggregate {
            Aggregate::Present(state) => Some(TabInfo { name: name.to_owned(), tab_type: state.tab_type() }),
            _ => None,
        }
    }

    /// Calls `visit` with every (tab, client) that has parts waiting for their commit.
    pub fn visit_pending(&self, mut visit: impl FnMut(&str, &str)) {
        let frozen = self.frozen.iter().flat_map(|frozen| frozen.tabs.iter());
        let pending = self.tabs.iter().map(|(tab, slot)| (tab, &slot.pending));
        for (tab, clients) in frozen.chain(pending) {
            for client in clients.keys() {
                visit(tab, client);
            }
        }
    }
}

/// Adds a part to a client's list and merges the list when it gets long.
fn push_part(parts: &mut Vec<Bytes>, part: Bytes, now: Timestamp) {
    parts.push(part);
    if parts.len() < CLIENT_PARTS_MAX {
        return;
    }
    if let Ok(mut state) = State::decode(&parts[0])
        && parts[1..].iter().all(|part| state.merge_encoded(part, now).is_ok())
    {
        let mut out = Vec::new();
        state.encode(&mut out);
        parts.clear();
        parts.push(Bytes::from(out));
    }
}

#[cfg(test)]
mod tests;
