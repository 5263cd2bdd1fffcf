//! Names of objects, pods and hosts. They are stable: data and Sentinels remember them.

use super::volumes::DATA;
use super::{KEEPER_PORT, REDIS_PORT, Role, SENTINEL_PORT};

/// Names within one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    cluster: String,
    namespace: String,
    domain: String,
}

impl Names {
    /// Names of the cluster `cluster` in `namespace`.
    #[must_use]
    pub fn new(cluster: &str, namespace: &str, domain: &str) -> Self {
        Self { cluster: cluster.to_owned(), namespace: namespace.to_owned(), domain: domain.to_owned() }
    }

    /// The cluster, and the Service that posts and queries go to.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Short name of a shard, as in the status: `s0`.
    #[must_use]
    pub fn shard_short(index: usize) -> String {
        format!("s{index}")
    }

    /// StatefulSet, headless Service, budget and Secret of a shard.
    #[must_use]
    pub fn shard(&self, index: usize) -> String {
        self.with(&Self::shard_short(index))
    }

    /// What Sentinels, keepers and data call a shard. The namespace is in it, so that shards of two clusters with
    /// one name are never taken for each other.
    #[must_use]
    pub fn master(&self, index: usize) -> String {
        format!("{}.{}", self.namespace, self.shard(index))
    }

    /// A member of a shard, which is also the name of its pod.
    #[must_use]
    pub fn member(&self, shard: usize, ordinal: usize) -> String {
        format!("{}-{ordinal}", self.shard(shard))
    }

    /// A member's claim, as its StatefulSet names it.
    #[must_use]
    pub fn claim(&self, shard: usize, ordinal: usize) -> String {
        format!("{DATA}-{}", self.member(shard, ordinal))
    }

    /// The shard and the ordinal of the member that a claim is for.
    #[must_use]
    pub fn place_of(&self, claim: &str) -> Option<(usize, usize)> {
        let member = claim.strip_prefix(DATA)?.strip_prefix('-')?.strip_prefix(&self.cluster)?;
        let (shard, ordinal) = member.strip_prefix("-s")?.split_once('-')?;
        Some((shard.parse().ok()?, ordinal.parse().ok()?))
    }

    /// Where a member is reached, whatever address its pod has.
    #[must_use]
    pub fn member_host(&self, shard: usize, ordinal: usize) -> String {
        self.host(&self.member(shard, ordinal), &self.shard(shard))
    }

    /// The members of a shard, as keepers are told them.
    #[must_use]
    pub fn members(&self, shard: usize, count: usize) -> String {
        let member = |ordinal| {
            let (name, host) = (self.member(shard, ordinal), self.member_host(shard, ordinal));
            format!("{name}={host}:{REDIS_PORT}:{KEEPER_PORT}")
        };
        (0..count).map(member).collect::<Vec<_>>().join(",")
    }

    /// StatefulSet, headless Service, budget, ConfigMap and Secret of the Sentinels.
    #[must_use]
    pub fn sentinel(&self) -> String {
        self.with("sentinel")
    }

    /// Where a Sentinel is reached.
    #[must_use]
    pub fn sentinel_host(&self, ordinal: usize) -> String {
        let service = self.sentinel();
        self.host(&format!("{service}-{ordinal}"), &service)
    }

    /// All Sentinels, as keepers and servers are told them.
    #[must_use]
    pub fn sentinels(&self, count: usize) -> String {
        let one = |ordinal| format!("{}:{SENTINEL_PORT}", self.sentinel_host(ordinal));
        (0..count).map(one).collect::<Vec<_>>().join(",")
    }

    /// Deployment, autoscaler and budget of a role; for `control` also its Service.
    #[must_use]
    pub fn role(&self, role: Role) -> String {
        self.with(role.as_str())
    }

    /// The Secret with the passwords of all shards, a line each, for servers and Sentinels.
    #[must_use]
    pub fn passwords(&self) -> String {
        self.with("passwords")
    }

    /// The Secret with the token of keepers.
    #[must_use]
    pub fn keeper(&self) -> String {
        self.with("keeper")
    }

    /// The Secret with the administrators' token.
    #[must_use]
    pub fn admin(&self) -> String {
        self.with("admin")
    }

    /// The cluster's name with something behind.
    pub(super) fn with(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.cluster)
    }

    /// Absolute, with a dot at the end, so that no search list is tried, also for a pod that is gone: a slow
    /// answer about a name holds a Sentinel up.
    fn host(&self, pod: &str, service: &str) -> String {
        format!("{pod}.{service}.{}.svc.{}.", self.namespace, self.domain)
    }
}
