//! The part of the spec about Redis shards.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{PodTemplate, Quantity, Resources};

/// The store: shards, each a Redis primary with replicas.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.replicas < 0 || self.minInSync <= self.replicas").message(
        "redis.minInSync must not be above redis.replicas, because so many replicas must hold every write: lower \
         minInSync or raise replicas"
    ),
    validation = Rule::new("self.vbuckets < 1 || self.shards <= self.vbuckets").message(
        "redis.shards must not be above redis.vbuckets, because every shard needs a vbucket: raise vbuckets"
    ),
    validation = Rule::new("has(self.resources.limits.memory)").message(
        "redis.resources.limits.memory is needed, because Redis' maxmemory follows from it: set it, for instance \
         to 1Gi"
    ),
    validation = Rule::new(
        "!has(self.resources.limits.memory) || !isQuantity(string(self.resources.limits.memory)) || \
         quantity(string(self.resources.limits.memory)).compareTo(quantity('0')) < 1 || \
         quantity(string(self.resources.limits.memory)).compareTo(quantity('128Mi')) >= 0"
    ).message("redis.resources.limits.memory must be at least 128Mi: raise it")
)]
pub struct RedisSpec {
    /// Image with `redis-server` and `redis-cli`, Redis 7.0 or newer. It also runs the Sentinels.
    /// Default: `redis:7.2`. Changing it restarts Sentinels one by one, and the pods of one shard after the other:
    /// replicas first, the primary last, after a handover.
    #[serde(default = "image")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new(r"self.matches('^\\S+$')")
        .message("redis.image must be the name of an image, without blanks, such as redis:7.2"))]
    pub image: String,

    /// How many shards the data are spread over; each takes writes of its own. Default: 2. Cannot be changed
    /// yet.
    #[serde(default = "shards")]
    #[schemars(range(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self == oldSelf").message(
        "redis.shards cannot be changed yet, because data would have to move between shards: set it back, or make \
         a new TabaCluster with another number and let clients post to it"
    ))]
    pub shards: i32,

    /// Replicas of each shard, besides the primary. More survive more failures at once, and cost memory and a
    /// volume each. Default: 2. Can only grow, which restarts shard pods with a handover, so that they know the new
    /// ones.
    #[serde(default = "replicas")]
    #[schemars(range(min = 0, max = 7))]
    #[x_kube(validation = Rule::new("self >= oldSelf").message(
        "redis.replicas can only grow, because a member that is taken away may hold the only copy of a write: set \
         it back to the old number or higher"
    ))]
    pub replicas: i32,

    /// Replicas that must hold a write besides the primary; with fewer in sync, posts get 503 until enough
    /// are. 0 with `replicas` above 0 goes on with the primary alone. Default: 1. Cannot be changed yet.
    #[serde(default = "min_in_sync")]
    #[schemars(range(min = 0, max = 7))]
    #[x_kube(validation = Rule::new("self == oldSelf").message(
        "redis.minInSync cannot be changed yet, because members that count differently could elect a primary that \
         lacks a write: set it back, or make a new TabaCluster"
    ))]
    pub min_in_sync: i32,

    /// How many slots tabs are hashed into; shards and backends own slots. Default: 256. Can never be changed.
    #[serde(default = "vbuckets")]
    #[schemars(range(min = 1, max = 4096))]
    #[x_kube(validation = Rule::new("self == oldSelf").message(
        "redis.vbuckets can never be changed, because stored data are placed by it: set it back"
    ))]
    pub vbuckets: i32,

    /// The volume of each Redis.
    #[serde(default)]
    pub storage: StorageSpec,

    /// CPU and memory of each Redis. Redis may use 60 % of the memory limit for data (`maxmemory`); the rest is
    /// for what is written while it forks, and for buffers of replicas. Given, it replaces the default as a
    /// whole. Changing it restarts shard pods with a handover.
    #[serde(default = "Resources::of_redis")]
    pub resources: Resources,

    /// What is added to the pods of shards.
    #[serde(default)]
    #[schemars(extend("default" = {}))]
    pub pod_template: PodTemplate,
}

/// The volume of each Redis.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!isQuantity(string(self.size)) || quantity(string(self.size)).compareTo(quantity('0')) < 1 || \
         quantity(string(self.size)).compareTo(quantity('64Mi')) >= 0"
    ).message("storage.size must be at least 64Mi: raise it"),
    validation = Rule::new(
        "!isQuantity(string(self.size)) || quantity(string(self.size)).compareTo(quantity('0')) < 1 || \
         quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0"
    ).message("storage.size can only grow, because volumes cannot shrink: set it back to the old size or more"),
    validation = Rule::new(
        "has(self.storageClassName) == has(oldSelf.storageClassName) && \
         (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)"
    ).message(
        "storage.storageClassName cannot be changed, because a volume keeps its class: set it back, or make a new \
         TabaCluster"
    )
)]
pub struct StorageSpec {
    /// Bytes of each volume. Keep it at three times the memory limit or more: the append-only file is written
    /// anew beside the old one. Default: `10Gi`. Can only grow, and only if the storage class allows it.
    #[serde(default = "size")]
    pub size: Quantity,

    /// The storage class of the volumes. Default: the class that is the cluster's default. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

impl Default for RedisSpec {
    fn default() -> Self {
        Self {
            image: image(),
            shards: shards(),
            replicas: replicas(),
            min_in_sync: min_in_sync(),
            vbuckets: vbuckets(),
            storage: StorageSpec::default(),
            resources: Resources::of_redis(),
            pod_template: PodTemplate::default(),
        }
    }
}

impl Default for StorageSpec {
    fn default() -> Self {
        Self { size: size(), storage_class_name: None }
    }
}

fn image() -> String {
    "redis:7.2".to_owned()
}

const fn shards() -> i32 {
    2
}

const fn replicas() -> i32 {
    2
}

const fn min_in_sync() -> i32 {
    1
}

const fn vbuckets() -> i32 {
    256
}

fn size() -> Quantity {
    Quantity("10Gi".to_owned())
}
