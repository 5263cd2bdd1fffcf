//! Walks all tabs of a vbucket in small steps: to drop what is dead, to check the all-clients states
//! against the per-client states, or to rewrite states of older versions.
//!
//! A sweep runs inside the owner, between two reads of the queue, so it needs no locks of its own and
//! events keep flowing. It leaves tabs alone that have parts waiting: their next commit touches them
//! anyway, and removing a state that a replay would merge into again would be wrong.

use bytes::Bytes;
use taba_core::{Format, State, Timestamp, Vbucket};
use tracing::warn;

use super::cache::{Cache, Found};
use super::commit::merged;
use super::slot::Slot;
use crate::clock;
use crate::store::{Commit, FencingToken, Marks, Store, StoreError, TabChange};

/// Tabs looked at in one step.
const TABS_PER_STEP: usize = 16;

#[derive(Clone, Copy, Debug)]
enum Task {
    Prune,
    Check { repair: bool },
    Upgrade,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Tabs looked at.
    pub(super) tabs: u64,
    /// States removed.
    pub(super) pruned: u64,
    /// All-clients states that differed from the merge of their clients'.
    pub(super) mismatches: u64,
    /// States rewritten in the present version.
    pub(super) upgraded: u64,
}

/// A walk over all tabs of a vbucket.
#[derive(Debug)]
pub(super) struct Sweep {
    task: Task,
    after: Option<String>,
    report: Report,
}

struct Visit<'a> {
    store: &'a dyn Store,
    vbucket: Vbucket,
    slot: &'a Slot,
    now: Timestamp,
    clients_per_tab_max: usize,
}

impl Sweep {
    pub(super) fn prune() -> Self {
        Self { task: Task::Prune, after: None, report: Report::default() }
    }

    pub(super) fn check(repair: bool) -> Self {
        Self { task: Task::Check { repair }, after: None, report: Report::default() }
    }

    pub(super) fn upgrade() -> Self {
        Self { task: Task::Upgrade, after: None, report: Report::default() }
    }

    /// What it is for, as a metric's label.
    pub(super) fn name(&self) -> &'static str {
        match self.task {
            Task::Prune => "prune",
            Task::Check { .. } => "check",
            Task::Upgrade => "upgrade",
        }
    }

    pub(super) fn report(&self) -> Report {
        self.report
    }

    /// Looks at the next few tabs. True when all were looked at.
    pub(super) async fn step(
        &mut self,
        store: &dyn Store,
        vbucket: Vbucket,
        token: FencingToken,
        slot: &Slot,
        clients_per_tab_max: usize,
    ) -> Result<bool, StoreError> {
        let tabs = store.list_tabs(vbucket, self.after.as_deref(), TABS_PER_STEP).await?;
        let Some(last) = tabs.last() else { return Ok(true) };
        self.after = Some(last.name.clone());
        let visit = Visit { store, vbucket, slot, now: clock::now(), clients_per_tab_max };
        let mut changes = Vec::new();
        for tab in tabs {
            self.report.tabs += 1;
            let change = match self.task {
                Task::Prune => self.prune_tab(&visit, &tab.name).await?,
                Task::Upgrade => self.upgrade_tab(&visit, &tab.name).await?,
                Task::Check { repair } => self.check_tab(&visit, &tab.name, repair).await?,
            };
            changes.extend(change);
        }
        visit.commit(token, changes).await?;
        Ok(false)
    }

    async fn prune_tab(&mut self, visit: &Visit<'_>, tab: &str) -> Result<Option<TabChange>, StoreError> {
        if visit.with_cache(|cache| cache.is_tab_busy(tab)) {
            return Ok(None);
        }
        let clients = visit.store.read_clients(visit.vbucket, tab, None).await?.states;
        let all = clients.len();
        let mut dead = Vec::new();
        for (client, bytes) in clients {
            if decode(tab, &bytes)?.prunable(visit.now) {
                dead.push((client, None));
            }
        }
        self.report.pruned += dead.len() as u64;
        let delete = dead.len() == all && visit.aggregate_is_dead(tab).await?;
        if delete {
            return Ok(Some(TabChange { tab: tab.to_owned(), aggregate: None, clients: Vec::new(), delete }));
        }
        let change = TabChange { tab: tab.to_owned(), aggregate: None, clients: dead, delete };
        Ok(Some(change).filter(|change| !change.clients.is_empty()))
    }

    async fn upgrade_tab(&mut self, visit: &Visit<'_>, tab: &str) -> Result<Option<TabChange>, StoreError> {
        if visit.with_cache(|cache| cache.is_tab_busy(tab)) {
            return Ok(None);
        }
        let aggregate = visit.stored_aggregate(tab).await?;
        let aggregate = aggregate.map(|bytes| rewritten(tab, &bytes)).transpose()?.flatten();
        let mut clients = Vec::new();
        for (client, bytes) in visit.store.read_clients(visit.vbucket, tab, None).await?.states {
            if let Some(bytes) = rewritten(tab, &bytes)? {
                clients.push((client, Some(bytes)));
            }
        }
        self.report.upgraded += clients.len() as u64 + u64::from(aggregate.is_some());
        let change = TabChange { tab: tab.to_owned(), aggregate, clients, delete: false };
        Ok(Some(change).filter(|change| change.aggregate.is_some() || !change.clients.is_empty()))
    }

    /// Compares a tab's all-clients state with the merge of its clients' states, as a reader would see both.
    async fn check_tab(
        &mut self,
        visit: &Visit<'_>,
        tab: &str,
        repair: bool,
    ) -> Result<Option<TabChange>, StoreError> {
        if visit.with_cache(|cache| cache.is_tab_busy(tab)) {
            return Ok(None);
        }
        let Some(aggregate) = visit.aggregate(tab).await? else { return Ok(None) };
        let mut from_clients = State::new(aggregate.tab_type());
        let clients = visit.store.read_clients(visit.vbucket, tab, None).await?.states;
        // At the bound further clients count in the tab alone, so the two may rightly differ.
        if clients.len() >= visit.clients_per_tab_max {
            return Ok(None);
        }
        for (_, bytes) in clients {
            if from_clients.merge_encoded(&bytes, visit.now).is_err() {
                warn!(tab, "a client's state does not fit its tab");
            }
        }
        if agree(&aggregate, &from_clients, visit.now)
            || is_all_time_excess(&aggregate, &from_clients, visit.now)
        {
            return Ok(None);
        }
        self.report.mismatches += 1;
        warn!(tab, repair, "all-clients state differs from its clients' states");
        if !repair {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        from_clients.encode(&mut bytes);
        visit.with_cache(|cache| cache.replace_aggregate(tab, from_clients));
        let aggregate = Some(Bytes::from(bytes));
        Ok(Some(TabChange { tab: tab.to_owned(), aggregate, clients: Vec::new(), delete: false }))
    }
}

impl Visit<'_> {
    async fn stored_aggregate(&self, tab: &str) -> Result<Option<Bytes>, StoreError> {
        let stored = self.store.read_aggregates(self.vbucket, &[tab.to_owned()]).await?;
        Ok(stored.into_iter().next().flatten())
    }

    async fn aggregate(&self, tab: &str) -> Result<Option<State>, StoreError> {
        match self.with_cache(|cache| cache.aggregate(tab)) {
            Found::Present(state) => Ok(Some(*state)),
            Found::Absent => Ok(None),
            Found::AskStore => {
                let stored = self.stored_aggregate(tab).await?;
                stored.map(|bytes| decode(tab, &bytes)).transpose()
            }
        }
    }

    async fn aggregate_is_dead(&self, tab: &str) -> Result<bool, StoreError> {
        Ok(self.aggregate(tab).await?.is_none_or(|state| state.prunable(self.now)))
    }

    /// Writes changes without moving the marks.
    async fn commit(&self, token: FencingToken, changes: Vec<TabChange>) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let gone: Vec<String> =
            changes.iter().filter(|change| change.delete).map(|change| change.tab.clone()).collect();
        let marks: Marks = self.with_cache(|cache| cache.committed());
        self.store.commit(self.vbucket, token, Commit { changes, marks }).await?;
        self.with_cache(|cache| gone.iter().for_each(|tab| cache.removed(tab)));
        Ok(())
    }

    fn with_cache<R>(&self, look: impl FnOnce(&mut Cache) -> R) -> R {
        look(self.slot.cache.lock().as_mut().expect("the owner keeps its cache for its whole term"))
    }
}

fn decode(tab: &str, bytes: &[u8]) -> Result<State, StoreError> {
    State::decode(bytes).map_err(|error| StoreError::Corrupt { what: format!("state of tab {tab}: {error}") })
}

/// A state in the present version, if it was written by an older one.
fn rewritten(tab: &str, bytes: &Bytes) -> Result<Option<Bytes>, StoreError> {
    if State::is_current(bytes) {
        return Ok(None);
    }
    let mut out = Vec::new();
    decode(tab, bytes)?.encode(&mut out);
    Ok(Some(Bytes::from(out)))
}

/// Whether two states tell a reader the same. Sums may differ by rounding, because floats were added in
/// another order.
fn agree(one: &State, other: &State, now: Timestamp) -> bool {
    let (ones, others) = (one.windows(now), other.windows(now));
    if ones.is_empty() && others.is_empty() {
        return rendered(one, now) == rendered(other, now);
    }
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
    ones.len() == others.len()
        && ones.iter().zip(&others).all(|(one, other)| one.count == other.count && close(one.sum, other.sum))
}

/// Whether an all-time state holds more events than its clients do: those of clients forgotten since, which
/// a repair would lose.
fn is_all_time_excess(aggregate: &State, from_clients: &State, now: Timestamp) -> bool {
    let (all, clients) = (aggregate.windows(now), from_clients.windows(now));
    !all.is_empty()
        && all.iter().zip(&clients).all(|(all, clients)| all.seconds.is_none() && all.count > clients.count)
}

fn rendered(state: &State, now: Timestamp) -> String {
    let mut out = String::new();
    state.render(now, Format::Plain, &mut out);
    out
}

/// Merges a client's stored state with parts that it lacks.
pub(crate) fn overlaid(
    stored: Option<&Bytes>,
    parts: &[Bytes],
    now: Timestamp,
) -> Result<Option<State>, StoreError> {
    merged(stored, parts, now)
        .map_err(|error| StoreError::Corrupt { what: format!("state of a client: {error}") })
}
