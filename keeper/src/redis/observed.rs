//! What the own Redis said at one moment.

use crate::address::Address;
use crate::shard::ShardHash;

use super::info::{Info, ReplicaLine};
use super::{FENCE, NOBODY};

/// One look at the own Redis.
#[derive(Clone, Debug)]
pub struct Observed {
    /// It is a primary.
    pub is_primary: bool,
    /// Whom it replicates, as a replica.
    pub following: Option<Address>,
    /// Its link is up.
    pub link_up: bool,
    /// Its replication offset: made as primary, applied as replica.
    pub offset: u64,
    /// Its replicas, as primary.
    pub replicas: Vec<ReplicaLine>,
    /// A copy of another's data is on its way to it.
    pub copying: bool,
    /// It reads a copy from disk or network, so its data are not there.
    pub loading: bool,
    /// Everything in memory is in the append-only file, or on its way there.
    pub aof_holds_all: bool,
    /// The last write to the append-only file worked.
    pub aof_write_ok: bool,
    /// Of this process.
    pub run_id: String,
    /// Of the program.
    pub version: String,
    /// Bytes.
    pub memory_used: u64,
    /// Bytes; 0 for no limit.
    pub memory_max: u64,
    /// Microseconds the last fork took.
    pub fork_usec: u64,
    /// `min-replicas-to-write`.
    pub min_replicas: u64,
    /// `replica-priority`.
    pub priority: u32,
    /// `masteruser`: whom it could follow.
    pub masteruser: String,
    /// `repl-ping-replica-period`.
    pub ping_secs: u64,
    /// What the data say about themselves.
    pub shard: Option<ShardHash>,
    /// No keys at all.
    pub empty: bool,
}

/// The settings an observation reads, in the order of `Observed`'s own.
pub(super) const SETTINGS: [&str; 4] =
    ["min-replicas-to-write", "replica-priority", "masteruser", "repl-ping-replica-period"];

impl Observed {
    pub(super) fn new(
        info: &str,
        settings: &dyn Fn(&str) -> String,
        shard: Option<ShardHash>,
        empty: bool,
    ) -> Self {
        let info = Info::new(info);
        let is_primary = info.text("role") == "master";
        let master = Address::new(info.text("master_host"), info.number("master_port") as u16);
        let rewriting = info.is_set("aof_rewrite_in_progress") || info.is_set("aof_rewrite_scheduled");
        Self {
            is_primary,
            following: (!is_primary && !master.host.is_empty()).then_some(master),
            link_up: info.text("master_link_status") == "up",
            offset: if is_primary {
                info.number("master_repl_offset")
            } else {
                info.number("slave_repl_offset")
            },
            replicas: info.replicas().collect(),
            copying: info.is_set("master_sync_in_progress"),
            loading: info.is_set("loading") || info.is_set("async_loading"),
            aof_holds_all: info.is_set("aof_enabled")
                && !rewriting
                && info.text("aof_last_bgrewrite_status") == "ok",
            aof_write_ok: info.text("aof_last_write_status") == "ok",
            run_id: info.text("run_id").to_owned(),
            version: info.text("redis_version").to_owned(),
            memory_used: info.number("used_memory"),
            memory_max: info.number("maxmemory"),
            fork_usec: info.number("latest_fork_usec"),
            min_replicas: settings(SETTINGS[0]).parse().unwrap_or(0),
            priority: settings(SETTINGS[1]).parse().unwrap_or(0),
            masteruser: settings(SETTINGS[2]),
            ping_secs: settings(SETTINGS[3]).parse().unwrap_or(0),
            shard,
            empty,
        }
    }

    /// It takes no writes, whoever asks.
    #[must_use]
    pub const fn is_fenced(&self) -> bool {
        self.min_replicas >= FENCE
    }

    /// It may begin to copy from a primary.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.masteruser != NOBODY
    }

    /// It points at another Redis.
    #[must_use]
    pub fn follows(&self, address: &Address) -> bool {
        self.following.as_ref() == Some(address)
    }
}
