//! A spec that has been read: everything the API server's rules promise, as values that cannot be wrong.
//!
//! Objects that were stored before a rule existed, or while the CRD was another, end here with a reason.

use std::fmt;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;
use serde::Serialize;
use thiserror::Error;

use super::memory::{self, ServerMemory};
use super::{Names, Settings};
use crate::api::{Quantity, QuantityError, RedisSpec, RoleSpec, TabaCluster, TabaClusterSpec};

/// Most members of a shard, which keepers hold to as well.
const REPLICAS_MAX: i32 = 7;
/// Most shards.
const SHARDS_MAX: i32 = 64;
/// Most Sentinels.
const SENTINELS_MAX: i32 = 9;

/// What servers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Take posts and answer queries.
    Frontend,
    /// Apply what was posted.
    Backend,
    /// Serve what the operator asks.
    Control,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Frontend, Self::Backend, Self::Control];

    /// As servers and labels have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Backend => "backend",
            Self::Control => "control",
        }
    }

    /// Its part of the spec.
    #[must_use]
    pub const fn spec(self, spec: &TabaClusterSpec) -> &RoleSpec {
        match self {
            Self::Frontend => &spec.frontend,
            Self::Backend => &spec.backend,
            Self::Control => &spec.control,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why nothing can be built.
#[derive(Debug, Error)]
pub enum Invalid {
    /// The object was not read from an API server.
    #[error("metadata.{0} is missing")]
    Metadata(&'static str),
    /// A number that no rule lets through.
    #[error("{field} is {found}, which must be from {min} to {max}")]
    Range {
        /// The field.
        field: &'static str,
        /// What it is.
        found: i32,
        /// Least.
        min: i32,
        /// Most.
        max: i32,
    },
    /// A quantity that is none.
    #[error("{field} cannot be read")]
    Quantity {
        /// The field.
        field: String,
        /// Why.
        source: QuantityError,
    },
    /// A duration that is none.
    #[error("sentinel.downAfter is `{0}`, which must be a number with ms, s or m")]
    Duration(String),
    /// A limit that other things follow from.
    #[error("redis.resources.limits.memory is needed, because Redis' maxmemory follows from it")]
    MemoryLimit,
}

/// A spec that can be built.
#[derive(Clone, Debug)]
pub struct Valid {
    /// Names of everything.
    pub names: Names,
    pub(super) spec: TabaClusterSpec,
    pub(super) owner: OwnerReference,
    pub(super) operator_namespace: String,
    pub(super) down_after: Duration,
    pub(super) maxmemory_bytes: u64,
    memory: [Option<ServerMemory>; 3],
}

impl Valid {
    /// Reads a cluster.
    ///
    /// # Errors
    /// If the spec holds something that the rules of the CRD would refuse.
    pub fn new(cluster: &TabaCluster, settings: &Settings) -> Result<Self, Invalid> {
        let name = cluster.metadata.name.as_deref().ok_or(Invalid::Metadata("name"))?;
        let namespace = cluster.metadata.namespace.as_deref().ok_or(Invalid::Metadata("namespace"))?;
        let owner = cluster.controller_owner_ref(&()).ok_or(Invalid::Metadata("uid"))?;
        let spec = cluster.spec.clone();
        check_numbers(&spec)?;
        let memory = Role::ALL.map(|role| server_memory(role, &spec));
        let [frontend, backend, control] = memory;
        Ok(Self {
            names: Names::new(name, namespace, &settings.cluster_domain),
            owner,
            operator_namespace: settings.operator_namespace.clone(),
            down_after: down_after(&spec.sentinel.down_after)?,
            maxmemory_bytes: maxmemory(&spec.redis)?,
            memory: [frontend?, backend?, control?],
            spec,
        })
    }

    /// How many shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        count(self.spec.redis.shards)
    }

    /// Members of each shard.
    #[must_use]
    pub fn members(&self) -> usize {
        count(self.spec.redis.replicas) + 1
    }

    /// How many Sentinels.
    #[must_use]
    pub fn sentinels(&self) -> usize {
        count(self.spec.sentinel.replicas)
    }

    /// What a role's servers may use, if they have a limit.
    pub(super) const fn server_memory(&self, role: Role) -> Option<ServerMemory> {
        self.memory[role as usize]
    }

    /// A role's part of the spec.
    pub(super) const fn role(&self, role: Role) -> &RoleSpec {
        role.spec(&self.spec)
    }
}

fn count(number: i32) -> usize {
    usize::try_from(number).expect("checked to be in a range above zero")
}

fn check_numbers(spec: &TabaClusterSpec) -> Result<(), Invalid> {
    let redis = &spec.redis;
    let ranges = [
        ("redis.shards", redis.shards, 1, SHARDS_MAX),
        ("redis.replicas", redis.replicas, 0, REPLICAS_MAX),
        ("redis.minInSync", redis.min_in_sync, 0, redis.replicas),
        ("redis.vbuckets", redis.vbuckets, redis.shards, 4096),
        ("sentinel.replicas", spec.sentinel.replicas, 1, SENTINELS_MAX),
    ];
    for (field, found, min, max) in ranges {
        if !(min..=max).contains(&found) {
            return Err(Invalid::Range { field, found, min, max });
        }
    }
    read("redis.storage.size", &redis.storage.size).map(drop)
}

fn maxmemory(redis: &RedisSpec) -> Result<u64, Invalid> {
    let limit = redis.resources.limits.memory.as_ref().ok_or(Invalid::MemoryLimit)?;
    Ok(memory::maxmemory(read("redis.resources.limits.memory", limit)?))
}

fn server_memory(role: Role, spec: &TabaClusterSpec) -> Result<Option<ServerMemory>, Invalid> {
    let Some(limit) = &role.spec(spec).resources.limits.memory else { return Ok(None) };
    read(&format!("{role}.resources.limits.memory"), limit).map(|bytes| Some(ServerMemory::of(bytes)))
}

fn read(field: &str, quantity: &Quantity) -> Result<u64, Invalid> {
    quantity.units().map_err(|source| Invalid::Quantity { field: field.to_owned(), source })
}

fn down_after(text: &str) -> Result<Duration, Invalid> {
    let wrong = || Invalid::Duration(text.to_owned());
    let end = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(end);
    let number: u32 = number.parse().map_err(|_| wrong())?;
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        _ => return Err(wrong()),
    };
    Ok(unit * number)
}
