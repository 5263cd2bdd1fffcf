//! The Redis of this member: its configuration, its process, what it says, what it is told.

pub mod config;
pub mod info;
pub mod local;
pub mod observed;
pub mod process;

/// `min-replicas-to-write` of a fenced Redis: more replicas than there can be, so every write is refused at
/// once with `NOREPLICAS`.
pub const FENCE: u64 = 64;

/// `masteruser` of a Redis that must follow nobody. No primary has such a user.
pub const NOBODY: &str = "nobody";

/// The user by which replicas follow the primary `member` of `term`.
#[must_use]
pub fn replication_user(term: u64, member: &str) -> String {
    format!("repl.{term}.{member}")
}
