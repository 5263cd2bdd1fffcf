//! Holds a growing shard back until its members know of those to come.
//!
//! A member that counts itself one of three elects with fewer votes than one of four. So while `replicas`
//! grows, the pods that are there learn of the new members first, one by one, and only when all of them have,
//! the StatefulSet makes the new pods. While these are missing nothing changes about who may elect whom: an
//! acknowledgement still needs old members.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt as _;

use super::observe::Children;
use super::world::World;
use crate::build::{Names, Objects};

#[cfg(test)]
mod tests;

/// Changes what is wanted of StatefulSets that must wait.
pub fn stage(objects: &mut Objects, names: &Names, live: &Children, world: &World) {
    for shard in &world.shards {
        let name = names.shard(shard.index);
        let Some(found) = live.stateful_set(&name) else { continue };
        let Some(wanted) = objects.owned.stateful_sets.iter_mut().find(|set| set.name_any() == name) else {
            continue;
        };
        let present = found.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
        let Some(spec) = wanted.spec.as_mut() else { continue };
        let grows = spec.replicas.is_some_and(|replicas| replicas > present) && present > 0;
        // A shard without data has nobody who could elect wrongly.
        let has_history = shard.recorded_id.is_some() || shard.primary().is_some();
        let all_know = arguments(found) == spec.template.spec.as_ref().map(first_arguments)
            && shard.is_updated()
            && shard.is_whole();
        if grows && has_history && !all_know {
            spec.replicas = Some(present);
        }
    }
}

/// What the keepers of a StatefulSet are told, the list of members with it.
fn arguments(set: &StatefulSet) -> Option<Vec<String>> {
    set.spec.as_ref()?.template.spec.as_ref().map(first_arguments)
}

fn first_arguments(spec: &k8s_openapi::api::core::v1::PodSpec) -> Vec<String> {
    spec.containers.first().and_then(|container| container.args.clone()).unwrap_or_default()
}
