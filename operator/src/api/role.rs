//! The part of the spec about servers of one role.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{PodTemplate, Resources};

/// Servers of one role.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.replicas) && has(self.autoscaling))").message(
        "replicas and autoscaling exclude each other: remove replicas to let the autoscaler choose, or autoscaling \
         to fix the number"
    ),
    validation = Rule::new(
        "!has(self.autoscaling) || has(self.resources.requests.cpu) || has(self.resources.limits.cpu)"
    ).message(
        "autoscaling compares the use of CPU with what is requested: set resources.requests.cpu, for instance to \
         500m"
    ),
    validation = Rule::new(
        "!has(self.autoscaling) || !has(self.autoscaling.memoryPercent) || \
         has(self.resources.requests.memory) || has(self.resources.limits.memory)"
    ).message(
        "autoscaling.memoryPercent compares the use of memory with what is requested: set \
         resources.requests.memory, for instance to 512Mi"
    )
)]
pub struct RoleSpec {
    /// How many pods run. Default: 2 when the cluster is made; while neither this nor `autoscaling` is set, the
    /// number is left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub replicas: Option<i32>,

    /// Lets the number of pods follow their load, through a HorizontalPodAutoscaler; needs the metrics server.
    /// The number at the time is kept when this is set or removed. Default: a fixed number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,

    /// CPU and memory of each pod. The server's caches and limits follow from the memory limit. Given, it replaces the
    /// default as a whole. Changing it replaces pods one by one.
    #[serde(default = "Resources::of_server")]
    pub resources: Resources,

    /// What is added to the pods.
    #[serde(default)]
    #[schemars(extend("default" = {}))]
    pub pod_template: PodTemplate,
}

/// Between which bounds and by what the number of pods moves. The highest number that any of the figures asks
/// for counts.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas").message(
    "autoscaling.minReplicas must not be above maxReplicas: lower minReplicas or raise maxReplicas"
))]
pub struct Autoscaling {
    /// Fewest pods. Default: 2.
    #[serde(default = "min_replicas")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: i32,

    /// Most pods. Default: 20.
    #[serde(default = "max_replicas")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,

    /// Use of CPU to keep to, in percent of what is requested, averaged over the pods. Default: 70.
    #[serde(default = "cpu_percent")]
    #[schemars(range(min = 1, max = 1000))]
    pub cpu_percent: i32,

    /// Use of memory to keep to, in percent of what is requested, averaged over the pods. Backends fill their
    /// caches however many there are, so this suits frontends. Default: memory does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub memory_percent: Option<i32>,
}

impl Default for RoleSpec {
    fn default() -> Self {
        Self {
            replicas: None,
            autoscaling: None,
            resources: Resources::of_server(),
            pod_template: PodTemplate::default(),
        }
    }
}

impl Default for Autoscaling {
    fn default() -> Self {
        Self {
            min_replicas: min_replicas(),
            max_replicas: max_replicas(),
            cpu_percent: cpu_percent(),
            memory_percent: None,
        }
    }
}

const fn min_replicas() -> i32 {
    2
}

const fn max_replicas() -> i32 {
    20
}

const fn cpu_percent() -> i32 {
    70
}
