//! What the data say about themselves: the hash `taba:shard` and the position in it (docs/shard.md).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::address::Address;

/// The key of the hash.
pub const SHARD_KEY: &str = "taba:shard";

/// The fields a keeper reads, in the order in which it asks for them.
pub const FIELDS: [&str; 8] =
    ["id", "name", "term", "primary", "writes", "in_sync", "in_sync_version", "gate"];

/// How much of the shard's history a copy holds. Orders copies as Raft orders logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The term in which the last write was made.
    pub term: u64,
    /// How many writing scripts ran in all.
    pub writes: u64,
}

/// The hash as one copy holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardHash {
    /// The shard's identity, 32 hex digits.
    pub id: String,
    /// The Sentinel master name.
    pub name: String,
    /// Who opened the term.
    pub primary: Option<Address>,
    /// How far this copy has come.
    pub position: Position,
    /// The in-sync set, primary included.
    pub in_sync: Vec<Address>,
    /// Grows with each change of the set.
    pub in_sync_version: u64,
    /// Microseconds since 1970 until which reads may be answered.
    pub gate_us: u64,
}

impl ShardHash {
    /// Reads the values of [`FIELDS`]. `None` where the copy belongs to no shard.
    #[must_use]
    pub fn from_values(values: &[Option<String>]) -> Option<Self> {
        let fields: HashMap<&str, &String> = FIELDS
            .iter()
            .copied()
            .zip(values)
            .filter_map(|(name, value)| Some((name, value.as_ref()?)))
            .collect();
        let text = |name: &str| fields.get(name).map(|value| (*value).clone());
        let number = |name: &str| fields.get(name).and_then(|value| value.parse().ok()).unwrap_or(0);
        Some(Self {
            id: text("id")?,
            name: text("name").unwrap_or_default(),
            primary: text("primary").and_then(|value| value.parse().ok()),
            position: Position { term: number("term"), writes: number("writes") },
            in_sync: text("in_sync").map(|set| addresses(&set)).unwrap_or_default(),
            in_sync_version: number("in_sync_version"),
            gate_us: number("gate"),
        })
    }

    /// Whether no replica was ever in the in-sync set of this copy, so that nothing that had to be on a
    /// replica was ever acknowledged.
    #[must_use]
    pub fn never_grew(&self) -> bool {
        self.in_sync_version <= 1
    }
}

/// Reads `host:port,host:port`, leaving out what is neither.
fn addresses(text: &str) -> Vec<Address> {
    text.split(',').filter_map(|item| item.parse().ok()).collect()
}

/// Writes a set as it stands in the hash.
#[must_use]
pub fn joined(set: &[Address]) -> String {
    set.iter().map(Address::to_string).collect::<Vec<_>>().join(",")
}
