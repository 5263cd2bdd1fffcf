//! Holds back what must not come everywhere at once.

mod durability;
mod growth;

use k8s_openapi::api::core::v1::PodSpec;

use super::observe::Children;
use super::world::World;
use crate::build::{Names, Objects};

/// Changes what is wanted where something else has to come first.
pub fn stage(objects: &mut Objects, names: &Names, live: &Children, world: &World) {
    durability::stage(&mut objects.owned, names, live, world);
    growth::stage(&mut objects.owned, names, live, world);
}

/// What a pod's main container is told.
fn arguments(pods: Option<&PodSpec>) -> &[String] {
    let container = pods.and_then(|pods| pods.containers.first());
    container.and_then(|container| container.args.as_deref()).unwrap_or_default()
}
