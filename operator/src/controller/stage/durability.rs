//! Members give what servers ask of them: `Fsync` comes to all members before the first server, and leaves all servers
//! before the first member. A server that asks for more than a primary gives does not bind to it.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::PodSpec;
use kube::ResourceExt as _;

use super::arguments;
use crate::build::{Names, Owned};
use crate::controller::observe::Children;
use crate::controller::world::{Servers, World};

#[cfg(test)]
mod tests;

const ASKED: &str = "--redis-durability=";
const GIVEN: &str = "--durability=";
const FSYNC: &str = "fsync";

pub(super) fn stage(wanted: &mut Owned, names: &Names, live: &Children, world: &World) {
    let shards: Vec<_> = world.shards.iter().map(|shard| names.shard(shard.index)).collect();
    let is_given = world.shards.iter().zip(&shards).all(|(shard, name)| {
        live.stateful_set(name).is_none_or(|set| is_told(members(set), GIVEN) && shard.is_updated())
    });
    let is_asked = live.owned.deployments.iter().any(|servers| is_told(pods(servers), ASKED))
        || world.servers.iter().any(is_rolling);
    if !is_given {
        for servers in &mut wanted.deployments {
            let found = live.owned.deployments.iter().find(|found| found.name_any() == servers.name_any());
            let template = servers.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
            put_off(template, found.and_then(pods), ASKED, |now| now == FSYNC);
        }
    }
    if is_asked {
        for set in wanted.stateful_sets.iter_mut().filter(|set| shards.contains(&set.name_any())) {
            let found = live.stateful_set(&set.name_any());
            let template = set.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
            put_off(template, found.and_then(members), GIVEN, |now| now != FSYNC);
        }
    }
}

/// Some pods may still run an older template.
fn is_rolling(servers: &Servers) -> bool {
    servers.exists && !(servers.is_observed && servers.updated == servers.total)
}

fn pods(servers: &Deployment) -> Option<&PodSpec> {
    servers.spec.as_ref()?.template.spec.as_ref()
}

fn members(set: &StatefulSet) -> Option<&PodSpec> {
    set.spec.as_ref()?.template.spec.as_ref()
}

fn is_told(pods: Option<&PodSpec>, what: &str) -> bool {
    told(pods, what) == Some(FSYNC)
}

fn told<'a>(pods: Option<&'a PodSpec>, what: &str) -> Option<&'a str> {
    arguments(pods).iter().find_map(|argument| argument.strip_prefix(what))
}

/// Leaves an argument as it is for now, if its new value is one that must wait.
fn put_off(wanted: Option<&mut PodSpec>, live: Option<&PodSpec>, what: &str, waits: impl Fn(&str) -> bool) {
    let Some(now) = told(live, what) else { return };
    let container = wanted.and_then(|pods| pods.containers.first_mut());
    let arguments = container.and_then(|container| container.args.as_mut()).into_iter().flatten();
    for argument in arguments {
        if argument.strip_prefix(what).is_some_and(&waits) {
            *argument = format!("{what}{now}");
        }
    }
}
