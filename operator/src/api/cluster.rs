//! The root of the API.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RedisSpec, RoleSpec, SentinelSpec, TabaClusterStatus};

/// What a Taba cluster is made of. Every field has a default that works: `spec: {}` is a whole cluster.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "taba.dev",
    version = "v1alpha1",
    kind = "TabaCluster",
    plural = "tabaclusters",
    singular = "tabacluster",
    shortname = "taba",
    category = "all",
    namespaced,
    status = "TabaClusterStatus",
    derive = "PartialEq",
    doc = "A Taba cluster: servers that take metrics and answer queries, and the Redis shards that store them.",
    scale(
        spec_replicas_path = ".spec.frontend.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Available",
        type_ = "string",
        description = "Whether posts are taken and queries are answered in full.",
        json_path = r#".status.conditions[?(@.type=="Available")].status"#
    ),
    printcolumn(
        name = "Shards",
        type_ = "string",
        description = "Redis shards with an open primary, of all.",
        json_path = ".status.shardsReady"
    ),
    printcolumn(
        name = "Frontends",
        type_ = "string",
        description = "Frontend pods that are ready, of all wanted.",
        json_path = ".status.frontend.ready"
    ),
    printcolumn(
        name = "Backends",
        type_ = "string",
        description = "Backend pods that are ready, of all wanted.",
        json_path = ".status.backend.ready"
    ),
    printcolumn(
        name = "Progressing",
        type_ = "string",
        description = "Why the operator is still at work, if it is.",
        json_path = r#".status.conditions[?(@.type=="Progressing")].reason"#,
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        description = "What keeps the cluster from being available, if anything does.",
        json_path = r#".status.conditions[?(@.type=="Available")].message"#,
        priority = 1
    ),
    printcolumn(name = "Image", type_ = "string", json_path = ".status.image", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new(
        "size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
    ).message(
        "metadata.name must have at most 40 lower-case letters, digits and dashes, begin with a letter and end \
         with a letter or digit, because Services and Pods are named after it: choose another name"
    ),
    validation = Rule::new(
        "!self.metadata.name.matches('-(s[0-9]+|sentinel|frontend|backend|control)$')"
    ).message(
        "metadata.name must not end in -s0, -s1, ..., -sentinel, -frontend, -backend or -control, because parts of \
         other clusters are named so: choose another name"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct TabaClusterSpec {
    /// Image with the programs `taba` and `taba-keeper`. Default: the release of the operator that first saw
    /// the cluster, which later operators keep, so that upgrading the operator restarts nothing. Set it to
    /// change the release; servers and Sentinels are then replaced one by one, and shard pods with a handover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new(r"self.matches('^\\S*$')")
        .message("image must be the name of an image, without blanks, such as registry.example/taba:1.2.3"))]
    pub image: Option<String>,

    /// When the images of this cluster are pulled. Default: Kubernetes' own, `Always` for tags named `latest`
    /// and `IfNotPresent` for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// Secrets with logins at image registries, in the cluster's namespace. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<SecretReference>,

    /// The store: shards, each a Redis primary with replicas.
    #[serde(default)]
    pub redis: RedisSpec,

    /// The Sentinels, which watch the shards and choose new primaries.
    #[serde(default)]
    #[schemars(extend("default" = {}))]
    pub sentinel: SentinelSpec,

    /// Servers that take posts and answer queries. `kubectl scale` changes their `replicas`.
    #[serde(default)]
    #[schemars(extend("default" = {}))]
    pub frontend: RoleSpec,

    /// Servers that apply what was posted to the stored states.
    #[serde(default)]
    #[schemars(extend("default" = {}))]
    pub backend: RoleSpec,

    /// Servers that the operator and administrators talk to.
    #[serde(default)]
    #[schemars(extend("default" = {}))]
    pub control: RoleSpec,

    /// Who holds an event before its post is acknowledged. Default: `Replicated`. Changing it restarts
    /// servers one by one, and to or from `Fsync` shard pods with a handover.
    #[serde(default)]
    pub durability: Durability,

    /// Whether the operator leaves this cluster alone: it changes nothing, heals nothing, and only reports.
    /// Pods keep running. Default: `false`.
    #[serde(default)]
    pub paused: bool,

    /// What happens to the volumes, and so to the data, when this object is deleted. Default: `Retain`.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// When images are pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// At every start of a pod.
    Always,
    /// If the node does not have it.
    IfNotPresent,
    /// Never: the node must have it.
    Never,
}

impl ImagePullPolicy {
    /// As pods spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// A Secret in the namespace of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Who holds an event before its post is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Durability {
    /// The primary and every replica in sync. No single failure loses an acknowledged event.
    #[default]
    Replicated,
    /// The primary alone. Fast, but its death loses what replicas had not received yet.
    Primary,
    /// The primary and every replica in sync, all on disk. Survives the loss of power everywhere at once.
    Fsync,
}

/// What happens to volumes when the cluster is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They stay. A new cluster with the same name and shape serves their data again.
    #[default]
    Retain,
    /// They are deleted, and the data with them.
    Delete,
}
