//! CPU and memory of a container.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::Quantity;

/// CPU and memory of a container.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new(
        "!(has(self.requests.cpu) && has(self.limits.cpu)) || \
         !(isQuantity(string(self.requests.cpu)) && isQuantity(string(self.limits.cpu))) || \
         quantity(string(self.requests.cpu)).compareTo(quantity(string(self.limits.cpu))) <= 0"
    ).message("resources.requests.cpu must not be above limits.cpu: lower the request or raise the limit"),
    validation = Rule::new(
        "!(has(self.requests.memory) && has(self.limits.memory)) || \
         !(isQuantity(string(self.requests.memory)) && isQuantity(string(self.limits.memory))) || \
         quantity(string(self.requests.memory)).compareTo(quantity(string(self.limits.memory))) <= 0"
    ).message("resources.requests.memory must not be above limits.memory: lower the request or raise the limit")
)]
pub struct Resources {
    /// What is set aside on the node. Default: what `limits` says.
    #[serde(default)]
    #[schemars(extend("default" = {}))]
    pub requests: ResourceList,

    /// What may be used at most. Default: no limit.
    #[serde(default)]
    #[schemars(extend("default" = {}))]
    pub limits: ResourceList,
}

/// CPU and memory.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceList {
    /// In cores, or in thousandths of a core as in `500m`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,

    /// In bytes, as in `512Mi`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
}

impl Resources {
    pub(super) fn of_redis() -> Self {
        Self::of("100m", "512Mi", "512Mi")
    }

    pub(super) fn of_sentinel() -> Self {
        Self::of("50m", "64Mi", "64Mi")
    }

    pub(super) fn of_server() -> Self {
        Self::of("200m", "512Mi", "512Mi")
    }

    fn of(cpu: &str, memory: &str, memory_limit: &str) -> Self {
        let quantity = |text: &str| Some(Quantity(text.to_owned()));
        Self {
            requests: ResourceList { cpu: quantity(cpu), memory: quantity(memory) },
            limits: ResourceList { cpu: None, memory: quantity(memory_limit) },
        }
    }
}
