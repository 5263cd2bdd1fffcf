//! The bodies of the HTTP interface, for keepers, the operator and people (docs/shard.md, "Keeper").

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::disk::Promise;
use crate::shard::Position;

/// Answer of `GET /state`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StateAnswer {
    /// The Sentinel master name.
    pub shard: String,
    /// The shard's identity, if this member belongs to one.
    pub shard_id: Option<String>,
    /// This member.
    pub member: String,
    /// Its Redis.
    pub address: Address,
    /// `primary`, `replica`, or `down`.
    pub role: String,
    /// Open as primary: takes writes.
    pub open: bool,
    /// The term it is open in, else the term of its data.
    pub term: u64,
    /// What it promised last.
    pub promised: Promise,
    /// How far its data go, where known.
    pub position: Position,
    /// Its data are whole and on disk.
    pub settled: bool,
    /// Takes no writes, or would take none if it were primary.
    pub fenced: bool,
    /// The in-sync set as its data have it.
    pub in_sync: Vec<Address>,
    /// The version of the set.
    pub in_sync_version: u64,
    /// Replication offset.
    pub offset: u64,
    /// A replica's link to its primary; true on an open primary.
    pub link_up: bool,
    /// Whom it replicates.
    pub following: Option<Address>,
    /// A primary: bytes that the slowest member of its set lacks. A replica: bytes it lacks, where its
    /// primary's keeper answers.
    pub lag_bytes: u64,
    /// Its Redis answers.
    pub redis_alive: bool,
    /// It never held data of any shard.
    pub fresh: bool,
    /// It is about to stop.
    pub leaving: bool,
    /// Why it is not open or not in the set; empty if all is well.
    pub waiting_for: String,
    /// Version of its Redis.
    pub redis_version: String,
}

/// Body of `POST /vote`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VoteRequest {
    /// The Sentinel master name.
    pub shard: String,
    /// The candidate's shard.
    pub shard_id: Option<String>,
    /// The term asked for.
    pub term: u64,
    /// The candidate's name.
    pub candidate: String,
    /// A founding: only a member without data may agree.
    #[serde(default)]
    pub founding: bool,
}

/// Answer of `POST /vote`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct VoteAnswer {
    /// Who answers.
    pub member: String,
    /// The promise was made.
    pub granted: bool,
    /// Why not.
    pub reason: String,
    /// The highest term promised.
    pub promised: u64,
    /// Counts as a vote: data whole, on disk, of this shard.
    pub settled: bool,
    /// Never held data.
    pub fresh: bool,
    /// How far its data go.
    pub position: Position,
    /// Milliseconds since its link to a primary was last up.
    pub heard_ms: u64,
}

/// Body of `POST /follow`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FollowRequest {
    /// The open primary's name.
    pub member: String,
    /// Its term.
    pub term: u64,
    /// Its shard.
    pub shard_id: String,
}

/// Body of `POST /leave` and `POST /prefer`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberRequest {
    /// The member meant.
    pub member: String,
}

/// Answer of `POST /leave`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaveAnswer {
    /// The member is not in the in-sync set of this primary, and enters only by new evidence.
    pub left: bool,
}

/// Body of `POST /handover`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HandoverRequest {
    /// Who should be primary; any replica in sync if absent.
    #[serde(default)]
    pub to: Option<String>,
}

/// Answer of `POST /handover`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HandoverAnswer {
    /// The new primary.
    pub primary: String,
    /// Its term.
    pub term: u64,
    /// How long writes were refused, as this member saw it.
    pub gap_ms: u64,
}

/// Answer of `POST /found`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FoundAnswer {
    /// The shard's identity.
    pub shard_id: String,
    /// Its term.
    pub term: u64,
}

/// Body of `POST /priority`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PriorityRequest {
    /// 0 keeps this member from being promoted, `null` gives the choice back.
    pub priority: Option<u32>,
}

/// Answer to what failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// What and why.
    pub error: String,
}
