//! Writes objects: by server-side apply, with a field manager of our own, and only where something differs.
//!
//! Only objects of this very cluster are written or deleted: an object of the same name that belongs to someone
//! else, or to a cluster of this name that was deleted just now, is left alone and reported. Deletions carry the
//! uid. Before each write the Lease is checked.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt as _};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;

use super::differ::{APPLIED, difference, hash};
use super::observe::Children;
use crate::api::Quantity;
use crate::build::Objects;
use crate::leader::{Leadership, NotLeader};
use crate::metrics::Metrics;

#[cfg(test)]
mod tests;

/// The field manager.
pub const FIELD_MANAGER: &str = "taba-operator";

/// The field manager of numbers of pods, which applying a Deployment without a number leaves alone.
const SCALE_MANAGER: &str = "taba-operator-scale";

/// Something could not be written.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// This operator may not act any more.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The name is in use.
    #[error("{kind} {name} belongs to {owner}")]
    Taken {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
        /// Whose it is.
        owner: String,
    },
    /// Someone else was faster; looking again will do.
    #[error("{kind} {name} has just been made by someone else")]
    Raced {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
    },
    /// The API server refused or did not answer.
    #[error("{verb} {kind} {name}")]
    Write {
        /// What was attempted.
        verb: &'static str,
        /// On which kind.
        kind: String,
        /// On which object.
        name: String,
        /// Why it did not work.
        source: Box<kube::Error>,
    },
}

/// Differences that applying does not remove, because the API server or a webhook puts them back: by uid, the
/// hash of what was applied and the place.
#[derive(Debug, Default)]
pub struct Futile(Mutex<BTreeMap<String, (String, String)>>);

impl Futile {
    /// Most objects remembered; forgetting one costs a write that changes nothing.
    const MAX: usize = 10_000;

    fn holds(&self, uid: &str, hash: &str, place: &str) -> bool {
        self.0.lock().get(uid).is_some_and(|(known, at)| known == hash && at == place)
    }

    fn note(&self, uid: String, hash: String, place: String) {
        let mut known = self.0.lock();
        if known.len() >= Self::MAX {
            known.clear();
        }
        known.insert(uid, (hash, place));
    }
}

/// Writes the objects of one cluster.
pub struct Applier<'a> {
    /// The API server.
    pub client: &'a Client,
    /// The cluster's namespace.
    pub namespace: &'a str,
    /// The cluster's uid.
    pub owner: &'a str,
    /// Whether this operator may act.
    pub leadership: &'a Leadership,
    /// What need not be tried again.
    pub futile: &'a Futile,
    /// Where writes are counted.
    pub metrics: &'a Metrics,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// `apply Service main`, and so on.
    pub writes: Vec<String>,
    /// What could not be done but keeps nothing else from being done.
    pub problems: Vec<ApplyError>,
    /// It did not end early: whatever differed was written.
    pub is_whole: bool,
}

impl Applier<'_> {
    /// Writes whatever differs, and deletes what is left over.
    ///
    /// # Errors
    /// At the first object that cannot be written. What was written before is in `written` all the same.
    pub async fn apply(
        &self,
        objects: &Objects,
        live: &Children,
        written: &mut Written,
    ) -> Result<(), ApplyError> {
        self.each(&objects.owned.service_accounts, &live.owned.service_accounts, written).await?;
        self.secrets(&objects.owned.secrets, &live.owned.secrets, written).await?;
        self.each(&objects.owned.config_maps, &live.owned.config_maps, written).await?;
        self.each(&objects.owned.services, &live.owned.services, written).await?;
        self.each(&objects.owned.network_policies, &live.owned.network_policies, written).await?;
        self.each(&objects.owned.pod_disruption_budgets, &live.owned.pod_disruption_budgets, written).await?;
        self.each(&objects.owned.stateful_sets, &live.owned.stateful_sets, written).await?;
        self.each(&objects.owned.deployments, &live.owned.deployments, written).await?;
        for wanted in &objects.replicas {
            self.scale(&wanted.deployment, wanted.replicas, written).await?;
        }
        self.each(&objects.owned.autoscalers, &live.owned.autoscalers, written).await?;
        for wanted in &objects.claims {
            self.grow(&wanted.claim, &wanted.size, live, written).await?;
        }
        // Never StatefulSets, Secrets and claims: they are or guard the data.
        self.sweep(&objects.owned.autoscalers, &live.owned.autoscalers, written).await?;
        self.sweep(&objects.owned.deployments, &live.owned.deployments, written).await?;
        self.sweep(&objects.owned.pod_disruption_budgets, &live.owned.pod_disruption_budgets, written)
            .await?;
        self.sweep(&objects.owned.network_policies, &live.owned.network_policies, written).await?;
        self.sweep(&objects.owned.services, &live.owned.services, written).await?;
        self.sweep(&objects.owned.config_maps, &live.owned.config_maps, written).await?;
        self.sweep(&objects.owned.service_accounts, &live.owned.service_accounts, written).await?;
        written.is_whole = true;
        Ok(())
    }

    async fn each<K: Child>(
        &self,
        wanted: &[K],
        live: &[K],
        written: &mut Written,
    ) -> Result<(), ApplyError> {
        for object in wanted {
            let name = object.name_any();
            let found = live.iter().find(|other| other.name_any() == name);
            self.one(object, found, written).await?;
        }
        Ok(())
    }

    async fn one<K: Child>(
        &self,
        wanted: &K,
        found: Option<&K>,
        written: &mut Written,
    ) -> Result<(), ApplyError> {
        let mut value = to_value(wanted);
        let hash = hash(&value);
        value["metadata"]["annotations"][APPLIED] = Value::String(hash.clone());
        let place = match found {
            Some(found) => {
                self.check_owner(found)?;
                let Some(place) = difference(&value, &to_value(found)) else { return Ok(()) };
                if self.futile.holds(&found.uid().unwrap_or_default(), &hash, &place) {
                    return Ok(());
                }
                Some(place)
            }
            None => {
                self.check_name_is_free::<K>(&wanted.name_any()).await?;
                None
            }
        };
        let (name, api) = (wanted.name_any(), self.api::<K>());
        self.leadership.check()?;
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let applied =
            self.wrote("apply", &name, api.patch(&name, &params, &Patch::Apply(&value)).await, written)?;
        if let (Some(found), Some(place)) = (found, place)
            && found.resource_version() == applied.resource_version()
        {
            tracing::warn!(kind = %K::kind(&()), name, place, "applying does not remove a difference");
            self.futile.note(applied.uid().unwrap_or_default(), hash, place);
        }
        Ok(())
    }

    /// Secrets are made and not applied at first, so that of two operators only one decides what is in them.
    async fn secrets(
        &self,
        wanted: &[Secret],
        live: &[Secret],
        written: &mut Written,
    ) -> Result<(), ApplyError> {
        for secret in wanted {
            let name = secret.name_any();
            let found = live.iter().find(|other| other.name_any() == name);
            if found.is_some() {
                self.one(secret, found, written).await?;
                continue;
            }
            let mut secret = secret.clone();
            let hash = hash(&to_value(&secret));
            secret.annotations_mut().insert(APPLIED.to_owned(), hash);
            self.check_name_is_free::<Secret>(&name).await?;
            self.leadership.check()?;
            let params =
                PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            match self.api::<Secret>().create(&params, &secret).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => {
                    return Err(ApplyError::Raced { kind: "Secret".to_owned(), name });
                }
                made => drop(self.wrote("create", &name, made, written)?),
            }
        }
        Ok(())
    }

    /// Applied and not merged: only so does the API server keep that the number was set, and who sets it later.
    async fn scale(&self, deployment: &str, replicas: i32, written: &mut Written) -> Result<(), ApplyError> {
        self.leadership.check()?;
        let scale = json!({
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": deployment, "namespace": self.namespace},
            "spec": {"replicas": replicas},
        });
        let params = PatchParams::apply(SCALE_MANAGER).force();
        let api: Api<Deployment> = self.api();
        let scaled = api.patch_scale(deployment, &params, &Patch::Apply(&scale)).await;
        let outcome = scaled.map_err(|source| write_error::<Deployment>("scale", deployment, source));
        self.metrics.write("scale", "Deployment", outcome.is_ok());
        outcome?;
        written.writes.push(format!("scale Deployment {deployment} to {replicas}"));
        Ok(())
    }

    /// Claims only grow; those that the storage class does not let grow are a problem to report, no more.
    async fn grow(
        &self,
        claim: &str,
        size: &str,
        live: &Children,
        written: &mut Written,
    ) -> Result<(), ApplyError> {
        let Some(found) = live.claims.iter().find(|found| found.name_any() == claim) else { return Ok(()) };
        if !is_smaller(found, size) {
            return Ok(());
        }
        self.leadership.check()?;
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({"spec": {"resources": {"requests": {"storage": size}}}}));
        let api: Api<PersistentVolumeClaim> = self.api();
        match self.wrote("grow", claim, api.patch(claim, &params, &patch).await, written) {
            Err(error @ ApplyError::Write { .. }) => written.problems.push(error),
            grown => drop(grown?),
        }
        Ok(())
    }

    /// Deletes what belongs to the cluster and is not wanted any more.
    async fn sweep<K: Child>(
        &self,
        wanted: &[K],
        live: &[K],
        written: &mut Written,
    ) -> Result<(), ApplyError> {
        for found in live {
            let name = found.name_any();
            let is_wanted = wanted.iter().any(|object| object.name_any() == name);
            if is_wanted || self.check_owner(found).is_err() || found.meta().deletion_timestamp.is_some() {
                continue;
            }
            self.leadership.check()?;
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: found.uid(), resource_version: None }),
                ..DeleteParams::background()
            };
            match self.api::<K>().delete(&name, &params).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                deleted => drop(self.wrote("delete", &name, deleted.map(|_| found.clone()), written)?),
            }
        }
        Ok(())
    }

    /// An object that the label does not find may still have the name.
    async fn check_name_is_free<K: Child>(&self, name: &str) -> Result<(), ApplyError> {
        let found = self.api::<K>().get_metadata_opt(name).await;
        match found.map_err(|source| write_error::<K>("look at", name, source))? {
            None => Ok(()),
            Some(found) => {
                let owner = owner(&found.metadata).map_or("nobody", |owner| owner.0);
                Err(taken::<K>(name, owner))
            }
        }
    }

    fn check_owner<K: Child>(&self, found: &K) -> Result<(), ApplyError> {
        match owner(found.meta()) {
            Some((_, uid)) if uid == self.owner => Ok(()),
            Some((name, _)) => Err(taken::<K>(&found.name_any(), name)),
            // Kept on purpose by `kubectl delete --cascade=orphan`: it is ours again.
            None => Ok(()),
        }
    }

    fn wrote<K: Child>(
        &self,
        verb: &'static str,
        name: &str,
        outcome: Result<K, kube::Error>,
        written: &mut Written,
    ) -> Result<K, ApplyError> {
        self.metrics.write(verb, &K::kind(&()), outcome.is_ok());
        let object = outcome.map_err(|source| write_error::<K>(verb, name, source))?;
        written.writes.push(format!("{verb} {} {name}", K::kind(&())));
        Ok(object)
    }

    fn api<K: Child>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), self.namespace)
    }
}

/// What is written.
trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug
{
}

impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
{
}

fn to_value<K: Serialize>(object: &K) -> Value {
    serde_json::to_value(object).expect("Kubernetes' objects are JSON")
}

fn taken<K: Child>(name: &str, owner: &str) -> ApplyError {
    ApplyError::Taken { kind: K::kind(&()).into_owned(), name: name.to_owned(), owner: owner.to_owned() }
}

fn write_error<K: Child>(verb: &'static str, name: &str, source: kube::Error) -> ApplyError {
    let kind = K::kind(&()).into_owned();
    ApplyError::Write { verb, kind, name: name.to_owned(), source: Box::new(source) }
}

/// Name and uid of the controller.
fn owner(meta: &kube::api::ObjectMeta) -> Option<(&str, &str)> {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    Some((owner.name.as_str(), owner.uid.as_str()))
}

fn is_smaller(claim: &PersistentVolumeClaim, size: &str) -> bool {
    let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    let units = |text: &str| Quantity(text.to_owned()).units().ok();
    let present = requests.and_then(|requests| units(&requests.get("storage")?.0));
    match (present, units(size)) {
        (Some(present), Some(wanted)) => present < wanted,
        _ => false,
    }
}
