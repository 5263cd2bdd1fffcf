//! Who gets another durability first.

use k8s_openapi::api::apps::v1::{DeploymentSpec, StatefulSetSpec};
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};
use kube::api::ObjectMeta;

use super::*;
use crate::controller::world::{Set, Shard};

fn template(argument: String) -> PodTemplateSpec {
    let args = Some(vec!["--first".to_owned(), argument]);
    let containers = vec![Container { args, ..Container::default() }];
    PodTemplateSpec { spec: Some(PodSpec { containers, ..PodSpec::default() }), ..PodTemplateSpec::default() }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

/// A shard that gives and backends that ask for something.
fn owned(given: &str, asked: &str) -> Owned {
    let set = StatefulSetSpec { template: template(format!("{GIVEN}{given}")), ..StatefulSetSpec::default() };
    let servers =
        DeploymentSpec { template: template(format!("{ASKED}{asked}")), ..DeploymentSpec::default() };
    Owned {
        stateful_sets: vec![StatefulSet {
            metadata: named("main-s0"),
            spec: Some(set),
            ..StatefulSet::default()
        }],
        deployments: vec![Deployment {
            metadata: named("main-backend"),
            spec: Some(servers),
            ..Deployment::default()
        }],
        ..Owned::default()
    }
}

/// Whether members and servers run what is written.
fn world(shard_is_updated: bool, servers_are_updated: bool) -> World {
    let shard = Shard {
        index: 0,
        name: "s0".to_owned(),
        master: "ns.main-s0".to_owned(),
        recorded_id: None,
        min_in_sync: 1,
        set: Some(Set { replicas: 0, is_observed: shard_is_updated, updated: 0, ready: 0 }),
        members: Vec::new(),
    };
    let servers = Servers {
        exists: true,
        is_observed: true,
        total: 2,
        updated: if servers_are_updated { 2 } else { 1 },
        ..Servers::default()
    };
    World { shards: vec![shard], servers: vec![servers], ..World::default() }
}

/// What members and servers are told, where `wanted` of both is to come in place of `live`.
fn staged(live: (&str, &str), wanted: (&str, &str), world: &World) -> (String, String) {
    let mut wanted = owned(wanted.0, wanted.1);
    let live = Children { owned: owned(live.0, live.1), ..Children::default() };
    stage(&mut wanted, &Names::new("main", "ns", "cluster.local"), &live, world);
    let given = told(members(&wanted.stateful_sets[0]), GIVEN).expect("members are told");
    let asked = told(pods(&wanted.deployments[0]), ASKED).expect("servers are told");
    (given.to_owned(), asked.to_owned())
}

fn both(given: &str, asked: &str) -> (String, String) {
    (given.to_owned(), asked.to_owned())
}

#[test]
fn fsync_comes_to_all_members_before_the_first_server() {
    let fsync = (FSYNC, FSYNC);
    for asked in ["replicated", "primary"] {
        let begins = staged(("replicated", asked), fsync, &world(true, true));
        assert_eq!(begins, both(FSYNC, asked), "the template is not written yet");
        let rolls = staged((FSYNC, asked), fsync, &world(false, true));
        assert_eq!(rolls, both(FSYNC, asked), "some members run the old one");
        assert_eq!(staged((FSYNC, asked), fsync, &world(true, true)), both(FSYNC, FSYNC));
    }
}

#[test]
fn fsync_leaves_all_servers_before_the_first_member() {
    for asked in ["replicated", "primary"] {
        let wanted = ("replicated", asked);
        let begins = staged((FSYNC, FSYNC), wanted, &world(true, true));
        assert_eq!(begins, both(FSYNC, asked), "the template is not written yet");
        let rolls = staged((FSYNC, asked), wanted, &world(true, false));
        assert_eq!(rolls, both(FSYNC, asked), "some servers run the old one");
        assert_eq!(staged((FSYNC, asked), wanted, &world(true, true)), both("replicated", asked));
    }
}

#[test]
fn nothing_else_waits() {
    let all_roll = world(false, false);
    let primary = ("replicated", "primary");
    assert_eq!(staged(("replicated", "replicated"), primary, &all_roll), both("replicated", "primary"));
    assert_eq!(staged((FSYNC, FSYNC), (FSYNC, FSYNC), &all_roll), both(FSYNC, FSYNC), "it is so already");
}

#[test]
fn a_cluster_that_is_made_has_nothing_to_wait_for() {
    let mut wanted = owned(FSYNC, FSYNC);
    let names = Names::new("main", "ns", "cluster.local");
    stage(&mut wanted, &names, &Children::default(), &world(false, false));
    assert_eq!(wanted, owned(FSYNC, FSYNC));
}
