//! What the operator reports.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The questions that conditions answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// Are posts taken and queries answered in full?
    Available,
    /// Is the operator still at work on what the spec says?
    Progressing,
    /// Is something less than it should be, though the cluster may still serve?
    Degraded,
}

impl ConditionType {
    /// As it stands in the status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "Available",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the operator last saw.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TabaClusterStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Available`: posts are taken and queries are answered in full. `Progressing`: the operator is at work on
    /// what the spec says. `Degraded`: something is less than it should be, though the cluster may still serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Image of the servers and keepers that this cluster keeps to while the spec names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,

    /// Shards with an open primary, of all, as in `2/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards_ready: Option<String>,

    /// The shards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub shards: Vec<ShardStatus>,

    /// Sentinel pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<RoleStatus>,

    /// Frontend pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frontend: Option<RoleStatus>,

    /// Backend pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<RoleStatus>,

    /// Control pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<RoleStatus>,

    /// Frontend pods, for the `scale` subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,

    /// The label selector of frontend pods, for the `scale` subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

/// One shard.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardStatus {
    /// Its name: `s0`, `s1`, and so on.
    pub name: String,

    /// Its identity, a random number that its data carry. Empty until it is founded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_id: Option<String>,

    /// The pod whose Redis is the open primary. None while no primary is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,

    /// The term the primary is open in; grows with every change of the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<i64>,

    /// Pods that hold every acknowledged write, the primary included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub in_sync: Vec<String>,

    /// Bytes that the slowest member in sync lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_bytes: Option<i64>,

    /// Why it is closed, and whom it waits for. Empty while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
}

/// Pods of one kind.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleStatus {
    /// Pods that are ready, of all wanted, as in `2/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,

    /// Pods that run what the spec says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<i32>,
}
