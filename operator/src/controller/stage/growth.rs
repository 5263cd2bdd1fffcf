//! Holds a growing shard back until its members know of those to come.
//!
//! A member that counts itself one of three elects with fewer votes than one of four. So while `replicas`
//! grows, the pods that are there learn of the new members first, one by one, and only when all of them have,
//! the StatefulSet makes the new pods. While these are missing nothing changes about who may elect whom: an
//! acknowledgement still needs old members.

use kube::ResourceExt as _;

use super::arguments;
use crate::build::{Names, Owned};
use crate::controller::observe::Children;
use crate::controller::world::World;

#[cfg(test)]
mod tests;

pub(super) fn stage(wanted: &mut Owned, names: &Names, live: &Children, world: &World) {
    for shard in &world.shards {
        let name = names.shard(shard.index);
        let Some(found) = live.stateful_set(&name).and_then(|set| set.spec.as_ref()) else { continue };
        let set = wanted.stateful_sets.iter_mut().find(|set| set.name_any() == name);
        let Some(spec) = set.and_then(|set| set.spec.as_mut()) else { continue };
        let present = found.replicas.unwrap_or(0);
        let grows = spec.replicas.is_some_and(|replicas| replicas > present) && present > 0;
        // A shard without data has nobody who could elect wrongly.
        let has_history = shard.recorded_id.is_some() || shard.primary().is_some();
        let all_know = arguments(found.template.spec.as_ref()) == arguments(spec.template.spec.as_ref())
            && shard.is_updated()
            && shard.is_whole();
        if grows && has_history && !all_know {
            spec.replicas = Some(present);
        }
    }
}
