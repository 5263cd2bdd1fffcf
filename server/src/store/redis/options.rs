//! What a store over Redis shards is opened with.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use taba_core::VbucketCount;

use super::RedisOptionsError;

/// A password; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a password from being printed.
    #[must_use]
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Passwords of the shards. Each shard should have its own, so that an address that another shard's member
/// took over is refused.
#[derive(Clone, Debug, Default)]
pub enum Passwords {
    /// The shards ask for none.
    #[default]
    None,
    /// One for all shards.
    Shared(Secret),
    /// By shard name.
    PerShard(BTreeMap<String, Secret>),
}

impl Passwords {
    pub(super) fn of(&self, shard: &str) -> Option<&Secret> {
        match self {
            Self::None => None,
            Self::Shared(password) => Some(password),
            Self::PerShard(passwords) => passwords.get(shard),
        }
    }
}

/// TLS to shards and Sentinels.
#[derive(Clone, Debug)]
pub struct RedisTls {
    /// PEM file of the authorities that may sign the servers' certificates.
    pub ca_file: PathBuf,
    /// The name that certificates must be for. `None`: the host that is connected to.
    pub server_name: Option<String>,
}

/// What must hold a batch before it is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The primary and every replica of the in-sync set, in memory.
    #[default]
    Replicated,
    /// The primary alone. A failover may lose acknowledged batches.
    Primary,
    /// As `Replicated`, and each of them on its disk: survives a power cut of all at once.
    Fsync,
}

/// What a store over Redis shards is opened with.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// How many vbuckets the cluster has. Fixed when a shard first meets a server.
    pub vbuckets: VbucketCount,
    /// The shards' names in order; shard `i` of `S` owns vbuckets `i·V/S` to `(i+1)·V/S - 1`.
    pub shards: Vec<String>,
    /// The Sentinels, as `host:port`.
    pub sentinels: Vec<String>,
    /// User at the shards. `None`: the default user.
    pub user: Option<String>,
    /// Passwords at the shards.
    pub passwords: Passwords,
    /// User at the Sentinels. `None`: the default user.
    pub sentinel_user: Option<String>,
    /// Password at the Sentinels.
    pub sentinel_password: Option<Secret>,
    /// TLS to shards and Sentinels; `None`: plain TCP.
    pub tls: Option<RedisTls>,
    /// What must hold a batch before it is acknowledged.
    pub durability: Durability,
    /// Most bytes of a vbucket's queue, counting 64 for each entry. Beyond it batches are refused. Defaults
    /// to 16 MiB: with 256 vbuckets over two shards 2 GiB of memory each.
    pub queue_bytes_max: u64,
    /// How long a producer is remembered after its last batch, at least; at most twice that. Defaults to
    /// 48 h; producers retry a batch for at most 24 h.
    pub producer_retention: Duration,
    /// Most producers remembered per shard; batches of further ones are refused until old ones are
    /// forgotten. Defaults to 1,000,000: about 100 MB per shard when all are in use.
    pub producers_max: usize,
    /// How long an accepted batch may take to reach the in-sync set. Defaults to 2 s.
    pub ack_timeout: Duration,
    /// How long connecting, TLS and logging in may take together. Defaults to 1 s.
    pub connect_timeout: Duration,
    /// How long an answer may take. Commits get another second for each 16 MiB. Defaults to 2 s.
    pub response_timeout: Duration,
    /// How long a request waits for a primary that is being looked for. Defaults to 200 ms.
    pub unbound_wait: Duration,
    /// Connections per shard that accept batches. Defaults to 2: one group is under way to the replicas
    /// while the next one is written. On loopback, where replicas answer sooner than a group is written, one
    /// does as well.
    pub lanes: usize,
}

impl RedisOptions {
    /// The defaults, for these shards and Sentinels.
    #[must_use]
    pub fn new(vbuckets: VbucketCount, shards: Vec<String>, sentinels: Vec<String>) -> Self {
        Self {
            vbuckets,
            shards,
            sentinels,
            user: None,
            passwords: Passwords::None,
            sentinel_user: None,
            sentinel_password: None,
            tls: None,
            durability: Durability::default(),
            queue_bytes_max: 16 << 20,
            producer_retention: Duration::from_secs(48 * 3600),
            producers_max: 1_000_000,
            ack_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(2),
            unbound_wait: Duration::from_millis(200),
            lanes: 2,
        }
    }

    pub(super) fn check(&self) -> Result<(), RedisOptionsError> {
        let names: HashSet<&String> = self.shards.iter().collect();
        if self.shards.is_empty()
            || names.len() < self.shards.len()
            || self.shards.iter().any(String::is_empty)
        {
            return Err(RedisOptionsError::Shards);
        }
        let vbuckets = self.vbuckets.get();
        if self.shards.len() > usize::from(vbuckets) {
            return Err(RedisOptionsError::MoreShardsThanVbuckets { shards: self.shards.len(), vbuckets });
        }
        if self.sentinels.is_empty() {
            return Err(RedisOptionsError::Sentinels);
        }
        Ok(())
    }

    /// First and last vbucket of a shard.
    pub(super) fn placement(&self, shard: usize) -> (u16, u16) {
        let (count, shards) = (usize::from(self.vbuckets.get()), self.shards.len());
        let start = |shard: usize| u16::try_from(shard * count / shards).expect("at most the vbucket count");
        (start(shard), start(shard + 1) - 1)
    }
}
