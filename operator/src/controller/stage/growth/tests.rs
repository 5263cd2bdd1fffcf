//! When new members may come.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use kube::api::ObjectMeta;
use serde_json::json;

use super::*;
use crate::controller::world::{Member, Pod, Set, Shard};

fn set(replicas: i32, members: &str) -> StatefulSet {
    let container = Container { args: Some(vec![format!("--members={members}")]), ..Container::default() };
    let template = PodTemplateSpec {
        spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }),
        ..PodTemplateSpec::default()
    };
    StatefulSet {
        metadata: ObjectMeta { name: Some("main-s0".to_owned()), ..ObjectMeta::default() },
        spec: Some(StatefulSetSpec { replicas: Some(replicas), template, ..StatefulSetSpec::default() }),
        ..StatefulSet::default()
    }
}

/// A shard that grows from two members to three.
fn world(outdated: bool) -> World {
    let member = |ordinal: usize| Member {
        name: format!("main-s0-{ordinal}"),
        host: format!("h{ordinal}"),
        pod: (ordinal < 2).then(|| Pod { is_outdated: outdated, ..Pod::default() }),
        keeper: if ordinal < 2 { Ok(state(ordinal)) } else { Err("no pod".to_owned()) },
    };
    let shard = Shard {
        index: 0,
        name: "s0".to_owned(),
        master: "ns.main-s0".to_owned(),
        recorded_id: Some("id0".to_owned()),
        min_in_sync: 1,
        set: Some(Set { replicas: 2, is_observed: true, updated: 0, ready: 2 }),
        members: (0..3).map(member).collect(),
    };
    World { shards: vec![shard], ..World::default() }
}

fn state(ordinal: usize) -> taba_keeper::api::StateAnswer {
    serde_json::from_value(json!({
        "shard": "ns.main-s0", "shard_id": "id0", "member": format!("main-s0-{ordinal}"),
        "address": format!("h{ordinal}:6379"), "role": if ordinal == 0 { "primary" } else { "replica" },
        "open": ordinal == 0, "term": 3, "promised": {"term": 3, "candidate": "main-s0-0"},
        "position": {"term": 3, "writes": 9}, "settled": true, "fenced": false,
        "in_sync": ["h0:6379", "h1:6379"], "in_sync_version": 1, "offset": 7, "link_up": true,
        "following": null, "lag_bytes": 0, "redis_alive": true, "fresh": false, "leaving": false,
        "waiting_for": "", "redis_version": "7.0.15"
    }))
    .expect("a state")
}

/// How many pods the StatefulSet is to have, out of three wanted.
fn staged(live: &StatefulSet, world: &World) -> Option<i32> {
    let owned = |set: StatefulSet| Owned { stateful_sets: vec![set], ..Owned::default() };
    let mut wanted = owned(set(3, "a,b,c"));
    let live = Children { owned: owned(live.clone()), ..Children::default() };
    stage(&mut wanted, &Names::new("main", "ns", "cluster.local"), &live, world);
    wanted.stateful_sets[0].spec.as_ref().and_then(|spec| spec.replicas)
}

#[test]
fn new_members_come_when_all_others_know_of_them() {
    assert_eq!(staged(&set(2, "a,b"), &world(false)), Some(2), "the template is not written yet");
    assert_eq!(staged(&set(2, "a,b,c"), &world(true)), Some(2), "pods run the old one");
    assert_eq!(staged(&set(2, "a,b,c"), &world(false)), Some(3));
}

#[test]
fn new_members_wait_for_a_member_that_is_out_of_sync() {
    let mut world = world(false);
    world.shards[0].members[1].keeper = Err("no answer in time".to_owned());
    assert_eq!(staged(&set(2, "a,b,c"), &world), Some(2));
}

#[test]
fn a_shard_that_was_never_founded_grows_at_once() {
    let mut world = world(true);
    world.shards[0].recorded_id = None;
    for member in &mut world.shards[0].members {
        member.keeper = Err("no answer in time".to_owned());
    }
    assert_eq!(staged(&set(2, "a,b"), &world), Some(3));
}
