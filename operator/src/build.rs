//! From a spec to Kubernetes objects: pure functions that talk to nobody and read no clock.
//!
//! ```text
//! TabaCluster + Settings ──Valid::new──▶ Valid ──build(+ Facts)──▶ Objects
//! ```
//!
//! `Valid::new` is the only step that can refuse; `build` cannot fail. The same input gives the same bytes, so
//! applying twice writes nothing. What pods are made of is pinned by a test (`tests/golden`): a change there
//! restarts every cluster when the operator is upgraded, so it must be meant.

mod labels;
mod memory;
mod names;
mod network;
mod objects;
mod pods;
mod scaling;
mod secrets;
mod sentinel;
mod server;
mod services;
mod shard;
mod valid;
mod volumes;

pub use labels::{
    CLUSTER_LABEL, COMPONENT_LABEL, Component, MANAGER, MANAGER_LABEL, OPERATOR_NAME, SCRAPES_LABEL,
    SHARD_LABEL, selector_text,
};
pub use names::Names;
pub use objects::{Objects, Owned, WantedClaim, WantedReplicas};
pub use secrets::Secrets;
pub use sentinel::WatchSettings;
pub use valid::{Invalid, Role, Valid};

use std::collections::BTreeMap;

use crate::api::{Quantity, TabaCluster};

/// Port of Redis.
pub const REDIS_PORT: u16 = 6379;
/// Port of keepers.
pub const KEEPER_PORT: u16 = 8400;
/// Port of Sentinels.
pub const SENTINEL_PORT: u16 = 26379;
/// Port of servers.
pub const SERVER_PORT: u16 = 8300;

/// What the operator was started with, the same for all clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The namespace the operator's pods are in; they are let through to keepers, Sentinels and servers.
    pub operator_namespace: String,
    /// The domain of the names of Services, `cluster.local` unless the cluster was set up otherwise.
    pub cluster_domain: String,
}

/// What was seen in the world and is needed to build.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Image of servers and keepers, see [`image`].
    pub image: String,
    /// Passwords and tokens.
    pub secrets: Secrets,
    /// Sizes in the claim templates of the StatefulSets that exist, by their names: these templates cannot
    /// change, so volumes grow by their claims.
    pub claim_sizes: BTreeMap<String, Quantity>,
    /// Present `spec.replicas` of the Deployments that exist, where it was chosen: the number that Kubernetes gives
    /// a Deployment that was made and not yet scaled is none.
    pub replicas: BTreeMap<Role, i32>,
}

/// The image of servers and keepers: the spec's, else the one this cluster was made with, else `release`, the
/// operator's own. An upgraded operator so changes no cluster.
#[must_use]
pub fn image(cluster: &TabaCluster, release: &str) -> String {
    let wanted = cluster.spec.image.as_deref().filter(|image| !image.is_empty());
    let kept = cluster.status.as_ref().and_then(|status| status.image.as_deref());
    wanted.or(kept).unwrap_or(release).to_owned()
}

/// Everything that a cluster is made of.
#[must_use]
pub fn build(valid: &Valid, facts: &Facts) -> Objects {
    let mut objects = Objects::default();
    secrets::build(valid, &facts.secrets, &mut objects);
    pods::service_accounts(valid, &mut objects);
    network::build(valid, &mut objects);
    sentinel::build(valid, facts, &mut objects);
    for index in 0..valid.shards() {
        shard::build(valid, facts, index, &mut objects);
    }
    for role in Role::ALL {
        server::build(valid, facts, role, &mut objects);
        scaling::build(valid, facts, role, &mut objects);
    }
    objects
}
