//! Reads: the cluster's children by label, keepers and Sentinels at their pods' addresses.
//!
//! Children are listed anew at each look, so no decision rests on an old cache; the API server answers such
//! lists from memory. What it takes to find out is bounded by the size of one cluster.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;

use futures::StreamExt as _;
use futures::stream;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod as KubePod, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use taba_keeper::api::StateAnswer;

use super::pods::{is_new, pod};
use super::world::{Member, Pod, Sentinel, Servers, Set, Shard, World};
use crate::api::{Quantity, TabaCluster};
use crate::build::{
    CLUSTER_LABEL, COMPONENT_LABEL, KEEPER_PORT, MANAGER, MANAGER_LABEL, Names, Owned, Role, SENTINEL_PORT,
    Secrets, Valid,
};
use crate::keepers::{Keeper, Keepers};
use crate::sentinels::{self, MasterSeen};

/// Keepers and Sentinels asked at once.
const ASKED_AT_ONCE: usize = 32;

/// How many pods a Deployment gets that does not say how many.
const REPLICAS_UNCHOSEN: i32 = 1;

/// Objects with the cluster's labels.
#[derive(Clone, Debug, Default)]
pub struct Children {
    /// Of the kinds that the operator applies.
    pub owned: Owned,
    /// Volumes.
    pub claims: Vec<PersistentVolumeClaim>,
    /// Pods of StatefulSets and Deployments.
    pub pods: Vec<KubePod>,
}

/// Lists the children of the cluster `name`.
///
/// # Errors
/// If the API server refuses or does not answer.
pub async fn children(client: &Client, namespace: &str, name: &str) -> Result<Children, kube::Error> {
    let of_cluster = format!("{CLUSTER_LABEL}={name}");
    let managed = format!("{of_cluster},{MANAGER_LABEL}={MANAGER}");
    // The labels of claims come from a template that can never change, and name no manager.
    let claims = format!("{of_cluster},app.kubernetes.io/name=taba");
    let (owned, claims, pods) = tokio::try_join!(
        owned(client, namespace, &managed),
        list(client, namespace, &claims),
        list(client, namespace, &managed),
    )?;
    Ok(Children { owned, claims, pods })
}

async fn owned(client: &Client, namespace: &str, labels: &str) -> Result<Owned, kube::Error> {
    let (service_accounts, secrets, config_maps, services, network_policies) = tokio::try_join!(
        list(client, namespace, labels),
        list(client, namespace, labels),
        list(client, namespace, labels),
        list(client, namespace, labels),
        list(client, namespace, labels),
    )?;
    let (stateful_sets, deployments, pod_disruption_budgets, autoscalers) = tokio::try_join!(
        list(client, namespace, labels),
        list(client, namespace, labels),
        list(client, namespace, labels),
        list(client, namespace, labels),
    )?;
    Ok(Owned {
        service_accounts,
        secrets,
        config_maps,
        services,
        network_policies,
        stateful_sets,
        deployments,
        pod_disruption_budgets,
        autoscalers,
    })
}

async fn list<K>(client: &Client, namespace: &str, labels: &str) -> Result<Vec<K>, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    Ok(api.list(&ListParams::default().labels(labels)).await?.items)
}

impl Children {
    /// The Secrets by their names.
    #[must_use]
    pub fn secrets_by_name(&self) -> BTreeMap<String, Secret> {
        self.owned.secrets.iter().map(|secret| (secret.name_any(), secret.clone())).collect()
    }

    /// Sizes in the claim templates of the StatefulSets that exist.
    #[must_use]
    pub fn claim_sizes(&self) -> BTreeMap<String, Quantity> {
        let size = |set: &StatefulSet| {
            let claim = set.spec.as_ref()?.volume_claim_templates.as_ref()?.first()?.spec.clone()?;
            let size = claim.resources?.requests?.get("storage")?.0.clone();
            Some((set.name_any(), Quantity(size)))
        };
        self.owned.stateful_sets.iter().filter_map(size).collect()
    }

    /// Present numbers of pods of the Deployments that exist, where someone chose them.
    #[must_use]
    pub fn replicas(&self, names: &Names) -> BTreeMap<Role, i32> {
        let present = |role: Role| {
            let found = self.owned.deployments.iter().find(|one| one.name_any() == names.role(role))?;
            let number = found.spec.as_ref()?.replicas?;
            (number != REPLICAS_UNCHOSEN || is_size_chosen(found)).then_some((role, number))
        };
        Role::ALL.into_iter().filter_map(present).collect()
    }

    pub(super) fn stateful_set(&self, name: &str) -> Option<&StatefulSet> {
        self.owned.stateful_sets.iter().find(|set| set.name_any() == name)
    }

    /// The pod of this name, if it is one of this StatefulSet's and not of an earlier one of its name.
    fn pod_of(&self, set: Option<&StatefulSet>, name: &str, now: Timestamp) -> Option<Pod> {
        let set = set?;
        let found = self.pods.iter().find(|pod| pod.name_any() == name)?;
        let uid = set.uid()?;
        found.owner_references().iter().any(|owner| owner.uid == uid).then(|| {
            let newest = set.status.as_ref().and_then(|status| status.update_revision.as_deref());
            pod(found, newest, now)
        })
    }
}

/// Whether someone set the number of pods. The API server keeps who applied a field, and its own default is nobody's:
/// so a Deployment that was made and not yet scaled is known from one that was scaled to that number.
fn is_size_chosen(deployment: &Deployment) -> bool {
    let entries = deployment.metadata.managed_fields.iter().flatten();
    let mut fields = entries.filter_map(|entry| entry.fields_v1.as_ref());
    fields.any(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
}

/// Looks at shards, Sentinels and servers, at the time `now`.
pub async fn world(
    cluster: &TabaCluster,
    valid: &Valid,
    children: &Children,
    secrets: &Secrets,
    keepers: &Keepers,
    now: Timestamp,
) -> World {
    let mut world = World {
        shards: (0..valid.shards()).map(|index| shard(cluster, valid, children, index, now)).collect(),
        sentinels: sentinels_of(valid, children, now),
        sentinel_set: children.stateful_set(&valid.names.sentinel()).map(set),
        servers: Role::ALL.into_iter().map(|role| servers(valid, children, role, now)).collect(),
    };
    ask_keepers(&mut world, secrets.keeper_token(), keepers).await;
    ask_sentinels(&mut world, secrets.sentinel_password(), valid.members() - 1).await;
    world
}

fn shard(cluster: &TabaCluster, valid: &Valid, children: &Children, index: usize, now: Timestamp) -> Shard {
    let names = &valid.names;
    let name = Names::shard_short(index);
    let found = children.stateful_set(&names.shard(index));
    let recorded = cluster.status.as_ref().and_then(|status| {
        status.shards.iter().find(|shard| shard.name == name).and_then(|shard| shard.shard_id.clone())
    });
    let member = |ordinal| {
        let name = names.member(index, ordinal);
        let pod = children.pod_of(found, &name, now);
        Member { host: names.member_host(index, ordinal), pod, name, keeper: Err("not asked".to_owned()) }
    };
    Shard {
        index,
        name,
        master: names.master(index),
        recorded_id: recorded,
        min_in_sync: usize::try_from(cluster.spec.redis.min_in_sync).unwrap_or(0),
        set: found.map(set),
        members: (0..valid.members()).map(member).collect(),
    }
}

fn set(set: &StatefulSet) -> Set {
    let status = set.status.clone().unwrap_or_default();
    let count = |number: Option<i32>| number.and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
    Set {
        replicas: count(set.spec.as_ref().and_then(|spec| spec.replicas)),
        is_observed: status.update_revision.is_some()
            && status.observed_generation >= set.metadata.generation,
        updated: count(status.updated_replicas),
        ready: count(status.ready_replicas),
    }
}

fn sentinels_of(valid: &Valid, children: &Children, now: Timestamp) -> Vec<Sentinel> {
    let found = children.stateful_set(&valid.names.sentinel());
    let sentinel = |ordinal| {
        let name = format!("{}-{ordinal}", valid.names.sentinel());
        Sentinel { pod: children.pod_of(found, &name, now), name, masters: Err("no pod".to_owned()) }
    };
    (0..valid.sentinels()).map(sentinel).collect()
}

fn servers(valid: &Valid, children: &Children, role: Role, now: Timestamp) -> Servers {
    let name = valid.names.role(role);
    let found = children.owned.deployments.iter().find(|one| one.name_any() == name);
    let status = found.and_then(|one| one.status.clone()).unwrap_or_default();
    let of_role = children
        .pods
        .iter()
        .filter(|pod| pod.labels().get(COMPONENT_LABEL).is_some_and(|component| component == role.as_str()));
    let of_role: Vec<_> = of_role.map(|found| pod(found, None, now)).collect();
    let starting = of_role.iter().filter(|pod| !pod.is_ready && !pod.is_terminating && pod.comes_or_goes());
    let starting = i32::try_from(starting.count()).unwrap_or(i32::MAX);
    let trouble = of_role.into_iter().find_map(|pod| Some((pod.name, pod.trouble?)));
    Servers {
        role: role.to_string(),
        exists: found.is_some(),
        wanted: found.and_then(|one| one.spec.as_ref()?.replicas).unwrap_or(0),
        ready: status.ready_replicas.unwrap_or(0),
        updated: status.updated_replicas.unwrap_or(0),
        total: status.replicas.unwrap_or(0),
        starting,
        is_young: found.is_some_and(|one| is_new(&one.metadata, now)),
        is_observed: found.is_some_and(|one| status.observed_generation >= one.metadata.generation),
        trouble,
    }
}

async fn ask_keepers(world: &mut World, token: &str, keepers: &Keepers) {
    let mut questions = Vec::new();
    for shard in &world.shards {
        let of_shard = shard.members.iter().enumerate();
        questions.extend(of_shard.map(|(place, member)| (shard.index, place, whom(&shard.master, member))));
    }
    let asked = questions.into_iter().map(|(shard, place, keeper)| async move {
        let answer = match keeper {
            Ok(keeper) => keepers.state(&keeper, token).await.map_err(|error| error.to_string()),
            Err(why) => Err(why),
        };
        (shard, place, answer)
    });
    let answers: Vec<(usize, usize, Result<StateAnswer, String>)> =
        stream::iter(asked).buffer_unordered(ASKED_AT_ONCE).collect().await;
    for (shard, place, answer) in answers {
        world.shards[shard].members[place].keeper = answer;
    }
}

fn whom(master: &str, member: &Member) -> Result<Keeper, String> {
    let pod = member.pod.as_ref().ok_or("no pod")?;
    Ok(keeper(master, pod).ok_or("the pod has no address yet")?)
}

/// The keeper in a pod.
#[must_use]
pub fn keeper(master: &str, pod: &Pod) -> Option<Keeper> {
    Some(Keeper { ip: pod.ip?, port: KEEPER_PORT, shard: master.to_owned(), member: pod.name.clone() })
}

async fn ask_sentinels(world: &mut World, password: &str, replicas_max: usize) {
    let places: Vec<_> = world.sentinels.iter().map(address).collect();
    let asked = places.into_iter().map(|place| async move {
        let look = sentinels::look(place?, SENTINEL_PORT, password, replicas_max).await;
        look.map_err(|error| error.to_string())
    });
    let answers: Vec<Result<Vec<MasterSeen>, String>> =
        stream::iter(asked).buffered(ASKED_AT_ONCE).collect().await;
    for (sentinel, answer) in world.sentinels.iter_mut().zip(answers) {
        sentinel.masters = answer;
    }
}

fn address(sentinel: &Sentinel) -> Result<IpAddr, String> {
    let pod = sentinel.pod.as_ref().ok_or("no pod")?;
    Ok(pod.ip.ok_or("the pod has no address yet")?)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// How many frontends there are by choice, if `fields` of their Deployment were set by someone.
    #[track_caller]
    fn check(replicas: i32, fields: &Value, expected: Option<i32>) {
        let deployment = serde_json::from_value(json!({
            "metadata": {
                "name": "main-frontend",
                "managedFields": [
                    {"manager": "taba-operator", "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}},
                    {"manager": "someone", "operation": "Update", "subresource": "scale", "fieldsV1": fields},
                ],
            },
            "spec": {"replicas": replicas, "selector": {}, "template": {}},
        }));
        let deployments = vec![deployment.expect("a Deployment")];
        let children = Children { owned: Owned { deployments, ..Owned::default() }, ..Children::default() };
        let chosen = children.replicas(&Names::new("main", "ns", "cluster.local"));
        assert_eq!(chosen.get(&Role::Frontend), expected.as_ref(), "{replicas} by {fields}");
    }

    #[test]
    fn the_number_of_a_deployment_that_was_made_and_not_yet_scaled_is_nobodys_choice() {
        let nothing = json!({"f:status": {"f:replicas": {}}});
        let number = json!({"f:spec": {"f:replicas": {}}});
        check(1, &nothing, None);
        check(1, &number, Some(1));
        check(5, &number, Some(5));
        // Whoever took the names of those who set fields away did not take the number away.
        check(5, &nothing, Some(5));
    }
}
