//! Volumes of pods, and the claims of those that keep state.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSetPersistentVolumeClaimRetentionPolicy;
use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, KeyToPath, PersistentVolumeClaim, PersistentVolumeClaimSpec, ProjectedVolumeSource,
    SecretProjection, Volume, VolumeProjection, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Valid;
use super::labels::{Component, selector};
use crate::api::DeletionPolicy;

/// The volume that keeps state, in pods and in the names of claims.
pub(super) const DATA: &str = "data";
/// Where it is mounted.
pub(super) const DATA_PATH: &str = "/data";
/// The volume with secrets.
pub(super) const SECRETS: &str = "secrets";
/// Where it is mounted.
pub(super) const SECRETS_PATH: &str = "/etc/taba/secrets";

/// A file of the volume with secrets.
pub(super) struct SecretFile<'a> {
    pub(super) secret: String,
    pub(super) key: &'a str,
    pub(super) file: &'a str,
}

/// Secrets as files that only the pod's user reads. Only what the pod needs is in it.
pub(super) fn secrets(files: Vec<SecretFile<'_>>) -> Volume {
    let source = |file: SecretFile<'_>| VolumeProjection {
        secret: Some(SecretProjection {
            name: file.secret,
            items: Some(vec![KeyToPath { key: file.key.to_owned(), path: file.file.to_owned(), mode: None }]),
            optional: None,
        }),
        ..VolumeProjection::default()
    };
    Volume {
        name: SECRETS.to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(0o440),
            sources: Some(files.into_iter().map(source).collect()),
        }),
        ..Volume::default()
    }
}

pub(super) fn empty(name: &str, size: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { size_limit: Some(Quantity(size.to_owned())), medium: None }),
        ..Volume::default()
    }
}

/// What claims are made from. It can never change, so it holds nothing that a user may change.
pub(super) fn claim_template(valid: &Valid, component: Component, size: &str) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(DATA.to_owned()),
            labels: Some(selector(&valid.names, component)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(size.to_owned()))])),
                limits: None,
            }),
            storage_class_name: valid.spec.redis.storage.storage_class_name.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

/// Volumes never go because a set shrinks; with the set they go only if the user said so.
pub(super) fn retention(valid: &Valid) -> StatefulSetPersistentVolumeClaimRetentionPolicy {
    let when_deleted = match valid.spec.deletion_policy {
        DeletionPolicy::Retain => "Retain",
        DeletionPolicy::Delete => "Delete",
    };
    StatefulSetPersistentVolumeClaimRetentionPolicy {
        when_deleted: Some(when_deleted.to_owned()),
        when_scaled: Some("Retain".to_owned()),
    }
}
