//! The part of the spec about Sentinels.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{PodTemplate, Resources};

/// The Sentinels, which watch the shards and choose new primaries.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SentinelSpec {
    /// How many there are; more than half must agree on a new primary. Odd, at least 3. Default: 3. Can only
    /// grow, which restarts servers one by one and shard pods with a handover, so that they know the new ones.
    #[serde(default = "replicas")]
    #[schemars(range(max = 9))]
    #[x_kube(
        validation = Rule::new("self >= 3 && self % 2 == 1").message(
            "sentinel.replicas must be odd and at least 3, because more than half must agree: use 3 or 5"
        ),
        validation = Rule::new("self >= oldSelf").message(
            "sentinel.replicas can only grow, because Sentinels that are gone would still count in votes: set it \
             back to the old number or higher"
        )
    )]
    pub replicas: i32,

    /// How long a primary must be silent before Sentinels replace it: a number with `ms`, `s` or `m`, from 1s to
    /// 1m. Shorter heals faster and takes more pauses for deaths; above 2.7s a new primary need not wait for
    /// the old one to close. Default: `3s`. Changing it restarts nothing.
    #[serde(default = "down_after")]
    #[schemars(length(max = 8))]
    #[x_kube(validation = Rule::new(
        "self.matches('^[0-9]+(ms|s|m)$') && duration(self) >= duration('1s') && duration(self) <= duration('1m')"
    ).message("sentinel.downAfter must be a number with ms, s or m, from 1s to 1m, such as 3s"))]
    pub down_after: String,

    /// CPU and memory of each Sentinel. Given, it replaces the default as a whole. Changing it
    /// restarts Sentinels one by one.
    #[serde(default = "Resources::of_sentinel")]
    pub resources: Resources,

    /// What is added to the pods of Sentinels.
    #[serde(default)]
    #[schemars(extend("default" = {}))]
    pub pod_template: PodTemplate,
}

impl Default for SentinelSpec {
    fn default() -> Self {
        Self {
            replicas: replicas(),
            down_after: down_after(),
            resources: Resources::of_sentinel(),
            pod_template: PodTemplate::default(),
        }
    }
}

const fn replicas() -> i32 {
    3
}

fn down_after() -> String {
    "3s".to_owned()
}
