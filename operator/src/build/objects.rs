//! What a build makes.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;

use super::Role;

/// Objects that belong to a cluster and are applied: those that it should have, or those that are there.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Owned {
    /// Without rights and without tokens in pods.
    pub service_accounts: Vec<ServiceAccount>,
    /// Passwords and tokens.
    pub secrets: Vec<Secret>,
    /// Sentinels' configuration.
    pub config_maps: Vec<ConfigMap>,
    /// Headless ones for members and Sentinels, and those for clients.
    pub services: Vec<Service>,
    /// Who may speak with whom.
    pub network_policies: Vec<NetworkPolicy>,
    /// One per shard, and the Sentinels.
    pub stateful_sets: Vec<StatefulSet>,
    /// One per role. Those that should be never say how many pods: see [`Objects::replicas`].
    pub deployments: Vec<Deployment>,
    /// How many pods may be evicted at once.
    pub pod_disruption_budgets: Vec<PodDisruptionBudget>,
    /// Of the roles that scale by load.
    pub autoscalers: Vec<HorizontalPodAutoscaler>,
}

/// What a build makes. Whatever carries the cluster's labels and is not here is left over.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Objects {
    /// To apply.
    #[serde(flatten)]
    pub owned: Owned,
    /// Numbers of pods to set through the `scale` subresource where another or none was chosen, after the Deployments
    /// are applied. Never part of the Deployments: a field that was applied and then is left out is reset to 1,
    /// so an autoscaler that takes over would begin at 1.
    pub replicas: Vec<WantedReplicas>,
    /// Sizes that existing claims must have at least. Claims that do not exist are none of our business.
    pub claims: Vec<WantedClaim>,
}

/// How many pods a Deployment should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WantedReplicas {
    /// The role.
    pub role: Role,
    /// The Deployment.
    pub deployment: String,
    /// The number.
    pub replicas: i32,
}

/// How large a volume should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WantedClaim {
    /// The PersistentVolumeClaim.
    pub claim: String,
    /// Its `spec.resources.requests.storage`.
    pub size: String,
}
