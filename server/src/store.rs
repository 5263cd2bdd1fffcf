//! The store: where acknowledged data lives. One trait, so that the embedded store and the Redis
//! shards serve the same pipeline and pass the same conformance suite (`conformance`).
//!
//! ```text
//! frontend ──accept──▶ queue of each vbucket ──read_queue──▶ owner (lease) ──commit──▶ states
//! query ◀──────────────────────────────────────── read_*  ◀──────────────────────────────┘
//! ```
//!
//! A vbucket's queue is its log. Two marks per vbucket say how far it was applied: [`Marks::aggregates`]
//! for the all-clients states, [`Marks::clients`] (never ahead of the first) for the states per client.
//! Entries up to the clients' mark are dropped. A new owner replays what lies after each mark.

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
pub mod embedded;
pub mod redis;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use taba_core::{BatchId, Parts, TabType, Timestamp, Vbucket, VbucketCount};

/// Place of an entry in a vbucket's queue. Grows by at least one per entry; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub u64);

/// One queue entry: a block of parts (see [`taba_core::part::iter`]).
#[derive(Clone, Debug)]
pub struct QueueEntry {
    /// Its place.
    pub id: EntryId,
    /// When it was accepted, by the store's clock.
    pub accepted: Timestamp,
    /// The parts.
    pub block: Bytes,
}

/// How far a vbucket's queue was applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// All-clients states hold every entry up to here.
    pub aggregates: EntryId,
    /// Per-client states hold every entry up to here; never ahead of `aggregates`.
    pub clients: EntryId,
}

/// How far a vbucket was applied, and what it is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The marks.
    pub marks: Marks,
    /// When the oldest entry that no all-clients state holds was accepted; `None`: there is none.
    pub behind_since: Option<Timestamp>,
}

/// Grows at every hand-over of a vbucket. A write with a lower token than the last one granted is
/// refused, so a paused old owner cannot win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FencingToken(pub u64);

/// The right to apply a vbucket, until it expires by the store's clock.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Whose writes count.
    pub token: FencingToken,
    /// How far its queue was applied when the lease was granted.
    pub marks: Marks,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is stored.
    New,
    /// It was stored before; nothing changed.
    Duplicate,
}

/// One change of a tab in a [`Commit`].
#[derive(Clone, Debug)]
pub struct TabChange {
    /// The tab.
    pub tab: String,
    /// The new all-clients state. `None`: unchanged.
    pub aggregate: Option<Bytes>,
    /// New states per client; `None` removes the client's state.
    pub clients: Vec<(String, Option<Bytes>)>,
    /// Remove the all-clients state and all per-client states before the rest of this change is made.
    pub delete: bool,
}

/// What an owner writes in one atomic step.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Changed tabs.
    pub changes: Vec<TabChange>,
    /// The marks after this commit; entries up to `marks.clients` are dropped. Marks never go back.
    pub marks: Marks,
}

/// Stored per-client states and the mark they were read at, in one consistent step: whoever holds later
/// entries knows which of them the states already include.
#[derive(Clone, Debug, Default)]
pub struct ClientStates {
    /// The states hold every entry up to here.
    pub mark: EntryId,
    /// Client and encoded state.
    pub states: Vec<(String, Bytes)>,
}

/// A tab as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TabInfo {
    /// Its name.
    pub name: String,
    /// Its type.
    pub tab_type: TabType,
}

/// What waits in a vbucket's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Entries after the clients' mark.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A bound was reached (queue bytes, disk space); nothing was stored. Retry later.
    #[error("store is at capacity: {what}")]
    Full {
        /// Which bound.
        what: &'static str,
    },
    /// The batch's sequence is too far behind its producer's highest to tell whether it was counted.
    #[error("sequence {sequence} is more than {window} behind the highest of its producer")]
    StaleSequence {
        /// The refused sequence.
        sequence: u64,
        /// [`taba_core::batch::SEQUENCE_WINDOW`].
        window: u64,
    },
    /// The lease is lost: another owner has a higher token, or it expired. Drop all caches.
    #[error("lease on vbucket {} was lost", .0.0)]
    Fenced(Vbucket),
    /// The outcome is unknown or the store cannot be reached: retry with the same id.
    #[error("store is unavailable: {what}")]
    Unavailable {
        /// What was tried.
        what: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Stored bytes cannot be read.
    #[error("stored bytes are corrupt: {what}")]
    Corrupt {
        /// Which bytes.
        what: String,
    },
}

/// The live backends of vbuckets that share a fate: one shard, or the whole of an embedded store.
#[derive(Debug)]
pub struct Enrolment {
    /// The vbuckets.
    pub vbuckets: Vec<Vbucket>,
    /// Names of the backends that announced themselves and are not expired.
    pub live: Result<Vec<String>, StoreError>,
}

/// Where acknowledged data lives. `Ok` from a write means stored as the durability rule says.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// How many vbuckets the store was made with; never changes.
    fn vbuckets(&self) -> VbucketCount;

    /// Whether data could be reached since the start. Before, no server that works should be given up for this one.
    fn was_reached(&self) -> bool;

    /// Puts the parts of one batch on their queues: all of them or none. With an id, a batch that was
    /// accepted before changes nothing.
    async fn accept(&self, id: Option<&BatchId>, parts: Parts) -> Result<Accepted, StoreError>;

    /// Announces a live backend for `ttl` and gives, for each group of vbuckets, all that are live. A zero
    /// `ttl` withdraws it. Announcements only say who should own what; leases say who does.
    async fn enrol(&self, owner: &str, ttl: Duration) -> Vec<Enrolment>;

    /// Takes or renews the lease of a vbucket for `owner` for `ttl`. `None`: another owner holds it.
    async fn lease(&self, vbucket: Vbucket, owner: &str, ttl: Duration) -> Result<Option<Lease>, StoreError>;

    /// Gives a lease back before it expires. A lost lease is no error.
    async fn release(&self, vbucket: Vbucket, token: FencingToken) -> Result<(), StoreError>;

    /// How far the vbucket was applied.
    async fn progress(&self, vbucket: Vbucket) -> Result<Progress, StoreError>;

    /// Reads queue entries after `after` in order, at least one if there is one, then until `bytes_max`.
    async fn read_queue(
        &self,
        vbucket: Vbucket,
        after: EntryId,
        bytes_max: usize,
    ) -> Result<Vec<QueueEntry>, StoreError>;

    /// As [`Store::read_queue`] for the vbucket's owner: refused unless `token` is the current one. So an
    /// owner never reads entries of a history that its cache is not of.
    async fn read_owned_queue(
        &self,
        vbucket: Vbucket,
        token: FencingToken,
        after: EntryId,
        bytes_max: usize,
    ) -> Result<Vec<QueueEntry>, StoreError>;

    /// Writes changed states and moves the marks, if `token` is the vbucket's current one: atomically.
    async fn commit(&self, vbucket: Vbucket, token: FencingToken, commit: Commit) -> Result<(), StoreError>;

    /// The stored all-clients states of tabs of one vbucket, in the order asked.
    async fn read_aggregates(
        &self,
        vbucket: Vbucket,
        tabs: &[String],
    ) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// The stored states of one tab: of the named clients, or of all, in client order.
    async fn read_clients(
        &self,
        vbucket: Vbucket,
        tab: &str,
        clients: Option<&[String]>,
    ) -> Result<ClientStates, StoreError>;

    /// Stored states of (tab, client) pairs of one vbucket, in the order asked.
    async fn read_pairs(
        &self,
        vbucket: Vbucket,
        pairs: &[(String, String)],
    ) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// How many clients have a state of the tab.
    async fn count_clients(&self, vbucket: Vbucket, tab: &str) -> Result<usize, StoreError>;

    /// How many tabs the vbucket has.
    async fn count_tabs(&self, vbucket: Vbucket) -> Result<usize, StoreError>;

    /// Tabs of a vbucket in name order, after `after`, at most `limit`.
    async fn list_tabs(
        &self,
        vbucket: Vbucket,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TabInfo>, StoreError>;

    /// Clients that have a state in the vbucket, in order, after `after`, at most `limit`.
    async fn list_clients(
        &self,
        vbucket: Vbucket,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError>;

    /// Tabs of the vbucket that a client has a state in, in order.
    async fn list_tabs_of_client(&self, vbucket: Vbucket, client: &str) -> Result<Vec<String>, StoreError>;

    /// What waits in the vbucket's queue.
    async fn queue_depth(&self, vbucket: Vbucket) -> Result<QueueDepth, StoreError>;

    /// Drops every queue entry that no committed all-clients state holds: an administrator's
    /// `/flush_all`. Returns how many. If there were any, the lease is taken away: an owner may have read
    /// them already, so it must drop its caches and take the lease again.
    async fn discard_queue(&self, vbucket: Vbucket) -> Result<u64, StoreError>;

    /// Resolves when the vbucket's queue may hold entries after `after`; may resolve too early.
    async fn wait_for_entries(&self, vbucket: Vbucket, after: EntryId);
}
