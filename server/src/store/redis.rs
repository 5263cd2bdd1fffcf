//! The store over Redis shards: each a primary with replicas, found through Sentinel (`docs/shard.md`).
//!
//! ```text
//! accept ─▶ group per shard ─▶ lane: EVALSHA … EVALSHA WAIT ─▶ in-sync set has it ─▶ acknowledged
//! reads, leases, commits ─▶ links of their own, so that no WAIT holds them up
//! ```
//!
//! Every vbucket has one shard. What must be atomic is one script there (`scripts`); a batch over several
//! shards is one script on each, and its retry is skipped where it is in already. Each script is told the
//! term that its connection is bound to, so a connection to a primary that was replaced can do nothing.
//!
//! What waits for replicas: accepting and discarding, because their answers are promises. What does not:
//! leases and commits. A commit that a failover loses leaves the entries it consumed in the queue, because
//! both are one step of the replication stream, and the new term voids the lease of whoever counted on it.

mod acknowledge;
mod arrivals;
mod bind;
mod call;
mod changes;
mod lane;
mod link;
mod metrics;
mod names;
mod options;
mod reply;
mod scripts;
mod sentinel;
mod shard;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use taba_core::{Vbucket, VbucketCount};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use metrics::RedisMetrics;
pub use options::{Durability, Passwords, RedisOptions, RedisTls, Secret};

use shard::Shard;

/// Why options cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RedisOptionsError {
    /// There is no shard, or a name twice.
    #[error("shards must be named, each once")]
    Shards,
    /// Some shard would have no vbucket.
    #[error("{shards} shards cannot share {vbuckets} vbuckets")]
    MoreShardsThanVbuckets {
        /// How many shards.
        shards: usize,
        /// How many vbuckets.
        vbuckets: u16,
    },
    /// There is nobody to ask for a primary.
    #[error("at least one Sentinel is needed")]
    Sentinels,
    /// The authority's certificates cannot be used.
    #[error("failed to use the certificates of the authority: {what}")]
    Tls {
        /// What was tried.
        what: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// How a shard is doing, seen from here.
#[derive(Clone, Debug, Default)]
pub struct ShardStatus {
    /// Its name, which is its master name in Sentinel.
    pub name: String,
    /// The primary that connections are bound to; `None` while there is none.
    pub address: Option<String>,
    /// The term they are bound to.
    pub term: Option<u64>,
    /// Members of the in-sync set, the primary included, when it was last looked at.
    pub in_sync: u64,
    /// Why there is no primary, or what broke the last connection to it.
    pub error: Option<String>,
}

/// One shard that is away for so long must not keep a new server from serving the others.
const REACHED_AFTER: Duration = Duration::from_secs(60);

/// Whether every shard was bound to, or any after a while.
fn is_reached(mut was_bound: impl Iterator<Item = bool>, age: Duration) -> bool {
    if age < REACHED_AFTER { was_bound.all(|was| was) } else { was_bound.any(|was| was) }
}

/// A store over Redis shards. Dropping it stops its tasks; what it has acknowledged is stored.
pub struct RedisStore {
    vbuckets: VbucketCount,
    shards: Vec<Arc<Shard>>,
    metrics: RedisMetrics,
    opened: Instant,
    // Aborted when dropped.
    _tasks: JoinSet<()>,
}

impl RedisStore {
    /// Starts to look for the shards' primaries and returns at once: a shard that is away answers
    /// [`StoreError::Unavailable`](crate::store::StoreError::Unavailable) until it is found. Must be called
    /// within a Tokio runtime.
    ///
    /// # Errors
    /// [`RedisOptionsError`] if the options make no sense.
    pub fn open(options: RedisOptions) -> Result<Self, RedisOptionsError> {
        options.check()?;
        let dialer = link::Dialer::new(&options)?;
        let metrics = RedisMetrics::default();
        let (options, dialer) = (Arc::new(options), Arc::new(dialer));
        let mut tasks = JoinSet::new();
        let mut shards = Vec::new();
        for index in 0..options.shards.len() {
            shards.push(Shard::start(index, &options, &dialer, &metrics, &mut tasks));
        }
        Ok(Self { vbuckets: options.vbuckets, shards, metrics, opened: Instant::now(), _tasks: tasks })
    }

    /// Whether every shard's primary is known and connected.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.shards.iter().all(|shard| shard.present().is_some())
    }

    /// How each shard is doing, in their order.
    #[must_use]
    pub fn status(&self) -> Vec<ShardStatus> {
        self.shards.iter().map(|shard| shard.status()).collect()
    }

    /// What the store counts.
    #[must_use]
    pub fn metrics(&self) -> &RedisMetrics {
        &self.metrics
    }

    /// The shard of a vbucket; `None` if there is no such vbucket.
    fn shard(&self, vbucket: Vbucket) -> Option<&Arc<Shard>> {
        let at = self.shards.partition_point(|shard| shard.last() < vbucket);
        self.shards.get(at)
    }
}
