//! The API: `TabaCluster` of `taba.dev/v1alpha1`. Doc comments become the descriptions that `kubectl explain`
//! shows, so they speak to users.
//!
//! Invalid specs are refused by the API server, through rules in the schema (CEL), each with a message that
//! says what to do. A rule that compares with the old object (`oldSelf`) guards what cannot change.
//!
//! Defaults are in the schema too, so they are stored with the object when it is made: a later operator with
//! other defaults changes no cluster that is there. The API server holds a default to the rules before it fills in
//! what is within, so an object with rules about its fields has its default in full, and others have `{}`.

mod cluster;
mod crd;
mod pod;
mod quantity;
mod redis;
mod resources;
mod role;
mod sentinel;
mod status;

pub use cluster::{
    DeletionPolicy, Durability, ImagePullPolicy, SecretReference, TabaCluster, TabaClusterSpec,
};
pub use crd::{crd, crd_yaml};
pub use pod::PodTemplate;
pub use quantity::{Quantity, QuantityError};
pub use redis::{RedisSpec, StorageSpec};
pub use resources::{ResourceList, Resources};
pub use role::{Autoscaling, RoleSpec};
pub use sentinel::SentinelSpec;
pub use status::{ConditionType, RoleStatus, ShardStatus, TabaClusterStatus};
