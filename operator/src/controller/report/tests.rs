//! What conditions say of what was observed.

use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use taba_keeper::api::StateAnswer;

use super::*;
use crate::controller::plan::{Note, plan};
use crate::controller::world::{Member, Pod, Sentinel, Set};

fn cluster() -> TabaCluster {
    serde_json::from_value(json!({
        "apiVersion": "taba.dev/v1alpha1", "kind": "TabaCluster",
        "metadata": {"name": "main", "namespace": "ns", "uid": "u", "generation": 7},
        "spec": {}
    }))
    .expect("a cluster")
}

fn state(ordinal: usize) -> StateAnswer {
    serde_json::from_value(json!({
        "shard": "ns.main-s0", "shard_id": "id0", "member": format!("main-s0-{ordinal}"),
        "address": format!("h{ordinal}:6379"), "role": if ordinal == 0 { "primary" } else { "replica" },
        "open": ordinal == 0, "term": 3, "promised": {"term": 3, "candidate": "main-s0-0"},
        "position": {"term": 3, "writes": 9}, "settled": true, "fenced": false,
        "in_sync": ["h0:6379", "h1:6379", "h2:6379"], "in_sync_version": 1, "offset": 7, "link_up": true,
        "following": null, "lag_bytes": 1000, "redis_alive": true, "fresh": false, "leaving": false,
        "waiting_for": "", "redis_version": "7.0.15"
    }))
    .expect("a state")
}

fn healthy() -> World {
    let pod = |name: &str| Pod { name: name.to_owned(), is_ready: true, is_running: true, ..Pod::default() };
    let member = |ordinal: usize| Member {
        name: format!("main-s0-{ordinal}"),
        host: format!("h{ordinal}"),
        pod: Some(pod(&format!("main-s0-{ordinal}"))),
        keeper: Ok(state(ordinal)),
    };
    let servers = |role: &str| Servers {
        role: role.to_owned(),
        exists: true,
        wanted: 2,
        ready: 2,
        updated: 2,
        total: 2,
        starting: 0,
        is_young: false,
        is_observed: true,
        trouble: None,
    };
    let sentinel = |ordinal: usize| Sentinel {
        name: format!("main-sentinel-{ordinal}"),
        pod: Some(pod(&format!("main-sentinel-{ordinal}"))),
        masters: Ok(Vec::new()),
    };
    let set = Set { replicas: 3, is_observed: true, updated: 3, ready: 3 };
    World {
        shards: vec![Shard {
            index: 0,
            name: "s0".to_owned(),
            master: "ns.main-s0".to_owned(),
            recorded_id: Some("id0".to_owned()),
            min_in_sync: 1,
            set: Some(set.clone()),
            members: (0..3).map(member).collect(),
        }],
        sentinels: (0..3).map(sentinel).collect(),
        sentinel_set: Some(set),
        servers: ["frontend", "backend", "control"].map(servers).to_vec(),
    }
}

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).expect("a time"))
}

fn report(cluster: &TabaCluster, world: &World, problems: &[Problem], now: Time) -> TabaClusterStatus {
    let plan = plan(world);
    status(&Pass {
        cluster,
        world,
        plan: &plan,
        problems,
        has_written: false,
        is_whole: problems.is_empty(),
        image: "taba:1",
        selector: "a=b",
        now,
    })
}

fn find(status: &TabaClusterStatus, kind: ConditionType) -> (String, String) {
    let found = status.conditions.iter().find(|one| one.type_ == kind.as_str()).expect("always there");
    (found.status.clone(), found.reason.clone())
}

#[track_caller]
fn check(change: impl FnOnce(&mut World), expected: [(&str, &str); 3]) {
    let mut world = healthy();
    change(&mut world);
    let status = report(&cluster(), &world, &[], at(0));
    let kinds = [ConditionType::Available, ConditionType::Progressing, ConditionType::Degraded];
    let found = kinds.map(|kind| find(&status, kind));
    let found = found.each_ref().map(|(status, reason)| (status.as_str(), reason.as_str()));
    assert_eq!(found, expected, "{status:#?}");
}

const SERVING: (&str, &str) = ("True", "Serving");
const UP_TO_DATE: (&str, &str) = ("False", "UpToDate");
const AS_WANTED: (&str, &str) = ("False", "AsWanted");

#[test]
fn all_is_well() {
    check(|_| {}, [SERVING, UP_TO_DATE, AS_WANTED]);
}

#[test]
fn a_lost_replica_degrades_and_the_cluster_serves_on() {
    check(
        |world| world.shards[0].members[2].keeper = Err("no answer in time".to_owned()),
        [SERVING, UP_TO_DATE, ("True", "ShardBelowReplicas")],
    );
}

fn starts(world: &mut World, ordinal: usize) {
    let member = &mut world.shards[0].members[ordinal];
    member.keeper = Err("cannot be reached".to_owned());
    member.pod = Some(Pod { is_young: true, ..Pod::default() });
}

/// A change of the world, and what two conditions say then: status and reason.
type Step<'a> = (&'a dyn Fn(&mut World), (&'a str, &'a str), (&'a str, &'a str));

/// The conditions of a cluster that sees these worlds, one after the other.
#[track_caller]
fn check_history(worlds: &[Step<'_>]) {
    let mut cluster = cluster();
    cluster.status = Some(report(&cluster, &healthy(), &[], at(0)));
    for (step, (change, progressing, degraded)) in worlds.iter().enumerate() {
        let mut world = healthy();
        change(&mut world);
        let status = report(&cluster, &world, &[], at(0));
        let kinds = [ConditionType::Progressing, ConditionType::Degraded].map(|kind| find(&status, kind));
        let found = kinds.each_ref().map(|(status, reason)| (status.as_str(), reason.as_str()));
        assert_eq!(found, [*progressing, *degraded], "step {step}: {status:#?}");
        cluster.status = Some(status);
    }
}

const BELOW: (&str, &str) = ("True", "ShardBelowReplicas");
const STARTING: (&str, &str) = ("True", "StartingPods");

/// Breaks if a planned roll warns of the pod that it replaces.
#[test]
fn a_pod_that_the_operator_replaces_is_progress_until_it_is_back() {
    let outdated = |world: &mut World, ordinal: usize| {
        let pod = world.shards[0].members[ordinal].pod.as_mut().expect("there");
        pod.is_outdated = true;
    };
    let rolling = ("True", "ReplacingShardPods");
    check_history(&[
        (&|world| outdated(world, 0), rolling, AS_WANTED),
        (
            &|world| {
                outdated(world, 0);
                world.shards[0].members[0].pod.as_mut().expect("there").is_terminating = true;
                world.shards[0].members[0].keeper.as_mut().expect("answers").open = false;
                world.shards[0].members[1].keeper.as_mut().expect("answers").open = true;
            },
            rolling,
            AS_WANTED,
        ),
        (&|world| starts(world, 2), STARTING, AS_WANTED),
        (&|_| (), UP_TO_DATE, AS_WANTED),
    ]);
}

/// Breaks if a pod that someone killed counts as replaced by plan.
#[test]
fn a_pod_that_was_lost_degrades_until_it_is_back() {
    check_history(&[
        (&|world| world.shards[0].members[2].pod = None, UP_TO_DATE, BELOW),
        (&|world| starts(world, 2), UP_TO_DATE, BELOW),
        (&|_| (), UP_TO_DATE, AS_WANTED),
    ]);
}

#[test]
fn servers_that_are_added_are_progress_and_servers_that_are_lost_are_not() {
    let short = |wanted: i32, ready: i32| {
        move |world: &mut World| {
            let servers = &mut world.servers[0];
            (servers.wanted, servers.total, servers.updated) = (wanted, wanted, wanted);
            (servers.ready, servers.starting) = (ready, wanted - ready);
        }
    };
    check_history(&[
        (&short(4, 2), STARTING, AS_WANTED),
        (&short(4, 3), STARTING, AS_WANTED),
        (&short(4, 4), UP_TO_DATE, AS_WANTED),
        (&short(4, 3), UP_TO_DATE, ("True", "ServersMissing")),
        (&short(4, 4), UP_TO_DATE, AS_WANTED),
    ]);
}

#[test]
fn a_new_cluster_waits_for_its_pods_and_is_not_degraded() {
    let change = |world: &mut World| {
        starts(world, 1);
        world.sentinels[0].masters = Err("no pod".to_owned());
        world.sentinels[0].pod = None;
        (world.servers[0].ready, world.servers[0].is_young) = (0, true);
    };
    check(change, [("False", "NoFrontend"), STARTING, AS_WANTED]);
}

#[test]
fn too_few_in_sync_means_no_posts() {
    let alone = |world: &mut World| {
        for ordinal in [1, 2] {
            world.shards[0].members[ordinal].keeper = Err("no answer in time".to_owned());
        }
    };
    check(alone, [("False", "ShardsBelowMinInSync"), UP_TO_DATE, ("True", "ShardBelowReplicas")]);
}

#[test]
fn a_closed_shard_is_unavailable_and_its_status_says_whom_it_waits_for() {
    let closed = |world: &mut World| {
        for member in &mut world.shards[0].members {
            let state = member.keeper.as_mut().expect("answers");
            state.open = false;
            state.waiting_for = "1 of 2 votes".to_owned();
        }
    };
    check(closed, [("False", "ShardsClosed"), UP_TO_DATE, ("True", "ShardClosed")]);
    let mut world = healthy();
    closed(&mut world);
    let shard = &report(&cluster(), &world, &[], at(0)).shards[0];
    assert!(shard.waiting_for.as_deref().is_some_and(|why| why.contains("main-s0-1: 1 of 2 votes")));
    assert_eq!(shard.shard_id.as_deref(), Some("id0"), "what was recorded stays");
}

#[test]
fn a_pod_that_cannot_be_scheduled_is_named() {
    let trouble = || Trouble { reason: "Unschedulable".to_owned(), message: "0/2 nodes".to_owned() };
    check(
        |world| {
            world.servers[1].ready = 1;
            world.servers[1].trouble = Some(("main-backend-x".to_owned(), trouble()));
        },
        [SERVING, UP_TO_DATE, ("True", "PodUnschedulable")],
    );
}

#[test]
fn servers_that_roll_are_progress() {
    check(|world| world.servers[0].updated = 1, [SERVING, ("True", "ReplacingServers"), AS_WANTED]);
    check(
        |world| {
            for servers in &mut world.servers {
                servers.ready = 0;
            }
        },
        [("False", "NoFrontend"), UP_TO_DATE, ("True", "ServersMissing")],
    );
}

#[test]
fn what_ends_the_writing_is_told_by_its_reason_and_leaves_work_to_do() {
    let problems = [Problem { reason: "NameTaken", message: "Service main belongs to nobody".to_owned() }];
    let status = report(&cluster(), &healthy(), &problems, at(0));
    assert_eq!(find(&status, ConditionType::Degraded).1, "NameTaken");
    assert_eq!(find(&status, ConditionType::Progressing), ("True".to_owned(), "Applying".to_owned()));
}

#[test]
fn the_transition_time_moves_only_with_the_status() {
    let mut cluster = cluster();
    let first = report(&cluster, &healthy(), &[], at(100));
    cluster.status = Some(first.clone());
    let second = report(&cluster, &healthy(), &[], at(200));
    assert_eq!(first, second, "nothing changed, so the same status is not written again");

    let mut world = healthy();
    world.shards[0].members[2].keeper = Err("no answer in time".to_owned());
    let third = report(&cluster, &world, &[], at(300));
    let time = |status: &TabaClusterStatus, kind: ConditionType| {
        let found = status.conditions.iter().find(|one| one.type_ == kind.as_str());
        found.map(|one| one.last_transition_time.clone())
    };
    assert_eq!(time(&third, ConditionType::Available), Some(at(100)));
    assert_eq!(time(&third, ConditionType::Degraded), Some(at(300)));
}

#[test]
fn small_changes_of_the_lag_are_no_new_status() {
    let mut world = healthy();
    let first = report(&cluster(), &world, &[], at(0));
    world.shards[0].members[0].keeper.as_mut().expect("answers").lag_bytes = 500_000;
    assert_eq!(first, report(&cluster(), &world, &[], at(0)));
}

#[test]
fn an_invalid_spec_keeps_the_rest_of_the_status() {
    let mut cluster = cluster();
    cluster.status = Some(report(&cluster, &healthy(), &[], at(100)));
    let status = stopped(&cluster, "InvalidSpec", "sentinel.downAfter is `x`", &at(200));
    assert_eq!(find(&status, ConditionType::Available), ("True".to_owned(), "Serving".to_owned()));
    assert_eq!(find(&status, ConditionType::Degraded), ("True".to_owned(), "InvalidSpec".to_owned()));
    assert_eq!(status.shards[0].shard_id.as_deref(), Some("id0"));
}

#[test]
fn messages_are_cut_and_notes_joined() {
    let note = |shard: &str| Note {
        kind: NoteKind::BelowReplicas,
        shard: shard.to_owned(),
        message: "x".repeat(2000),
    };
    let plan = Plan { actions: Vec::new(), notes: vec![note("s0"), note("s1")] };
    let joined = notes(&plan, NoteKind::BelowReplicas).expect("two");
    assert_eq!(short(&joined).chars().count(), MESSAGE_CHARS_MAX);
}
