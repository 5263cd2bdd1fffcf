//! What the owner of a vbucket holds of one tab, rebuilt where somebody else is the owner: from stored
//! states and the log behind them, by the same code that the owner applies entries with.

use std::collections::BTreeSet;

use bytes::Bytes;
use taba_core::part::{self, Part};
use taba_core::{State, Vbucket};

use super::corrupt;
use crate::clock;
use crate::pipeline::cache::{Cache, CacheLimits};
use crate::store::{EntryId, Marks, QueueEntry, Store, StoreError};

/// Bytes of the log read at once.
const READ_BYTES_MAX: usize = 1 << 20;
/// How often reading starts again because the owner committed meanwhile.
pub(super) const TRIES_MAX: usize = 5;

/// How far back a replay begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// At the mark of the all-clients states: enough to answer for all clients together.
    Aggregates,
    /// At the mark of the per-client states.
    Clients,
}

/// The tab as the owner would hold it after all entries that are in the log now.
pub(super) async fn replay(
    store: &dyn Store,
    vbucket: Vbucket,
    tab: &str,
    from: From,
) -> Result<Cache, StoreError> {
    for _ in 0..TRIES_MAX {
        let marks = store.progress(vbucket).await?.marks;
        let cache = replay_from(store, vbucket, tab, begin(marks, from)).await?;
        // Entries leave the log and enter states in one step, which moves a mark: none moved, none missed.
        if begin(store.progress(vbucket).await?.marks, from) == begin(marks, from) {
            return Ok(cache);
        }
    }
    Err(moves_on())
}

/// Reading was overtaken by the owner's commits again and again.
pub(super) fn moves_on() -> StoreError {
    StoreError::Unavailable { what: "read a tab", source: "its owner commits all the time".into() }
}

fn begin(marks: Marks, from: From) -> Marks {
    match from {
        From::Aggregates => Marks { clients: marks.aggregates, ..marks },
        From::Clients => marks,
    }
}

async fn replay_from(
    store: &dyn Store,
    vbucket: Vbucket,
    tab: &str,
    marks: Marks,
) -> Result<Cache, StoreError> {
    let no_limits = CacheLimits { tabs_max: usize::MAX, aggregate_bytes_max: usize::MAX };
    let mut cache = Cache::new(marks, 0, no_limits);
    let stored = store.read_aggregates(vbucket, &[tab.to_owned()]).await?.into_iter().next().flatten();
    let stored = stored.map(|bytes| State::decode(&bytes)).transpose();
    cache.load(tab, stored.map_err(|error| corrupt(tab, &error))?);
    each_entry(store, vbucket, marks.clients, |entry| apply(&mut cache, entry, tab)).await?;
    Ok(cache)
}

/// Shows every entry of the log after a place, in order.
async fn each_entry(
    store: &dyn Store,
    vbucket: Vbucket,
    mut after: EntryId,
    mut see: impl FnMut(&QueueEntry) -> Result<(), StoreError> + Send,
) -> Result<(), StoreError> {
    loop {
        let entries = store.read_queue(vbucket, after, READ_BYTES_MAX).await?;
        let Some(last) = entries.last() else { return Ok(()) };
        after = last.id;
        entries.iter().try_for_each(&mut see)?;
    }
}

/// Tabs and clients in the log behind the per-client states, of clients that are wanted.
pub(super) async fn pending(
    store: &dyn Store,
    vbucket: Vbucket,
    is_wanted: impl Fn(&str) -> bool + Sync,
) -> Result<BTreeSet<(String, String)>, StoreError> {
    let mut found = BTreeSet::new();
    let after = store.progress(vbucket).await?.marks.clients;
    each_entry(store, vbucket, after, |entry| {
        for part in part::iter(&entry.block) {
            match part.map_err(|error| corrupt_entry(entry.id, &error))? {
                Part::State { tab, client, .. } if is_wanted(client) => {
                    found.insert((tab.to_owned(), client.to_owned()));
                }
                Part::State { .. } => {}
                Part::Delete { tab } => found.retain(|(deleted, _)| deleted != tab),
            }
        }
        Ok(())
    })
    .await?;
    Ok(found)
}

/// Applies the parts of an entry that are of the tab.
fn apply(cache: &mut Cache, entry: &QueueEntry, tab: &str) -> Result<(), StoreError> {
    let mut block = Vec::new();
    for part in part::iter(&entry.block) {
        let part = part.map_err(|error| corrupt_entry(entry.id, &error))?;
        if part.tab() == tab {
            Part::encode(&part, &mut block);
        }
    }
    let entry = QueueEntry { block: Bytes::from(block), ..entry.clone() };
    cache.apply(&entry, clock::now()).map_err(|error| corrupt_entry(entry.id, &error))
}

fn corrupt_entry(id: EntryId, error: &dyn std::error::Error) -> StoreError {
    StoreError::Corrupt { what: format!("queue entry {}: {error}", id.0) }
}
