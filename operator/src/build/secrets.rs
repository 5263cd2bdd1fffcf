//! Passwords and tokens: kept where they exist, made where they do not.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::labels::{Component, cluster_meta, meta};
use super::{Names, Objects, Role, Valid};

/// The key of a password in its Secret.
pub(super) const PASSWORD: &str = "password";
/// The key of a token in its Secret.
pub(super) const TOKEN: &str = "token";
/// The key of the passwords of all shards.
pub(super) const PASSWORDS: &str = "passwords";

/// Passwords and tokens of a cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    shards: Vec<String>,
    sentinel: String,
    keeper: String,
    admin: String,
}

impl Secrets {
    /// Keeps what `observed` has (by the names of Secrets, and of keys within) and takes the rest from `fresh`,
    /// which must give 1 to 512 random letters and digits.
    #[must_use]
    pub fn complete(
        names: &Names,
        shards: usize,
        observed: &BTreeMap<String, Secret>,
        mut fresh: impl FnMut() -> String,
    ) -> Self {
        let mut one = |secret: String, key| found(observed, &secret, key).unwrap_or_else(&mut fresh);
        Self {
            shards: (0..shards).map(|index| one(names.shard(index), PASSWORD)).collect(),
            sentinel: one(names.sentinel(), PASSWORD),
            keeper: one(names.keeper(), TOKEN),
            admin: one(names.admin(), TOKEN),
        }
    }

    /// The token of keepers' HTTP interface.
    #[must_use]
    pub fn keeper_token(&self) -> &str {
        &self.keeper
    }

    /// The password of a shard's Redis users.
    #[must_use]
    pub fn shard_password(&self, index: usize) -> &str {
        self.shards.get(index).map_or("", String::as_str)
    }

    /// The password of Sentinels.
    #[must_use]
    pub fn sentinel_password(&self) -> &str {
        &self.sentinel
    }

    /// The token of servers' administrative calls.
    #[must_use]
    pub fn admin_token(&self) -> &str {
        &self.admin
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

fn found(observed: &BTreeMap<String, Secret>, secret: &str, key: &str) -> Option<String> {
    let bytes = &observed.get(secret)?.data.as_ref()?.get(key)?.0;
    String::from_utf8(bytes.clone()).ok().filter(|text| !text.is_empty())
}

pub(super) fn build(valid: &Valid, secrets: &Secrets, objects: &mut Objects) {
    let names = &valid.names;
    let mut lines = String::new();
    for (index, password) in secrets.shards.iter().enumerate() {
        lines.push_str(&format!("{} {password}\n", names.master(index)));
        let meta = meta(valid, names.shard(index), Component::Shard(index));
        objects.owned.secrets.push(secret(meta, PASSWORD, password));
    }
    let sentinel = meta(valid, names.sentinel(), Component::Sentinel);
    objects.owned.secrets.push(secret(sentinel, PASSWORD, &secrets.sentinel));
    objects.owned.secrets.push(secret(cluster_meta(valid, names.passwords()), PASSWORDS, &lines));
    objects.owned.secrets.push(secret(cluster_meta(valid, names.keeper()), TOKEN, &secrets.keeper));
    let admin = meta(valid, names.admin(), Component::Server(Role::Control));
    objects.owned.secrets.push(secret(admin, TOKEN, &secrets.admin));
}

fn secret(
    metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    key: &str,
    text: &str,
) -> Secret {
    Secret {
        metadata,
        data: Some(BTreeMap::from([(key.to_owned(), ByteString(text.as_bytes().to_vec()))])),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exists_is_kept_and_the_rest_is_made() {
        let names = Names::new("main", "metrics", "cluster.local");
        let kept = secret(Default::default(), PASSWORD, "old");
        let observed = BTreeMap::from([("main-s1".to_owned(), kept)]);
        let mut made = 0;
        let secrets = Secrets::complete(&names, 2, &observed, || {
            made += 1;
            format!("new{made}")
        });
        assert_eq!(secrets.shards, ["new1", "old"]);
        assert_eq!((made, secrets.admin_token()), (4, "new4"));
        assert!(!format!("{secrets:?}").contains("old"), "secrets are not printed");
    }
}
