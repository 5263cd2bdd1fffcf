//! Tables of what was observed and what follows from it.

use taba_keeper::address::Address;
use taba_keeper::api::StateAnswer;
use taba_keeper::disk::Promise;
use taba_keeper::shard::Position;

use super::*;
use crate::controller::world::{Sentinel, Set, Trouble};
use crate::sentinels::MasterSeen;

/// A shard of three, open at `a`, all in sync.
fn healthy(index: usize) -> Shard {
    let members = (0..3).map(|ordinal| member(index, ordinal)).collect();
    Shard {
        index,
        name: format!("s{index}"),
        master: format!("ns.main-s{index}"),
        recorded_id: Some(format!("id{index}")),
        min_in_sync: 1,
        set: Some(Set { replicas: 3, is_observed: true, updated: 3, ready: 3 }),
        members,
    }
}

fn host(shard: usize, ordinal: usize) -> String {
    format!("main-s{shard}-{ordinal}.main-s{shard}.ns.svc.cluster.local.")
}

fn member(shard: usize, ordinal: usize) -> Member {
    let name = format!("main-s{shard}-{ordinal}");
    let pod = Pod {
        name: name.clone(),
        uid: format!("uid-{shard}-{ordinal}"),
        is_ready: true,
        is_running: true,
        ..Pod::default()
    };
    Member { keeper: Ok(state(shard, ordinal)), host: host(shard, ordinal), pod: Some(pod), name }
}

fn state(shard: usize, ordinal: usize) -> StateAnswer {
    let is_primary = ordinal == 0;
    let address = |ordinal| Address::new(host(shard, ordinal), 6379);
    StateAnswer {
        shard: format!("ns.main-s{shard}"),
        shard_id: Some(format!("id{shard}")),
        member: format!("main-s{shard}-{ordinal}"),
        address: address(ordinal),
        role: if is_primary { "primary" } else { "replica" }.to_owned(),
        open: is_primary,
        term: 4,
        promised: Promise { term: 4, candidate: format!("main-s{shard}-0") },
        position: Position::default(),
        settled: true,
        fenced: false,
        in_sync: (0..3).map(address).collect(),
        in_sync_version: 1,
        offset: 0,
        link_up: true,
        following: None,
        lag_bytes: 0,
        redis_alive: true,
        fresh: false,
        leaving: false,
        waiting_for: String::new(),
        redis_version: "7.0.15".to_owned(),
    }
}

/// As before its founding.
fn fresh(index: usize) -> Shard {
    let mut shard = healthy(index);
    shard.recorded_id = None;
    for member in &mut shard.members {
        let state = answer(member);
        state.open = false;
        state.role = "replica".to_owned();
        state.shard_id = None;
        state.fresh = true;
        state.settled = false;
        state.in_sync.clear();
    }
    shard
}

fn answer(member: &mut Member) -> &mut StateAnswer {
    member.keeper.as_mut().expect("answers in these tests")
}

fn pod(member: &mut Member) -> &mut Pod {
    member.pod.as_mut().expect("there in these tests")
}

fn sentinel(ordinal: usize, named: &[String]) -> Sentinel {
    let seen = |(shard, host): (usize, &String)| MasterSeen {
        name: format!("ns.main-s{shard}"),
        host: host.clone(),
        ..MasterSeen::default()
    };
    Sentinel {
        name: format!("main-sentinel-{ordinal}"),
        pod: None,
        masters: Ok(named.iter().enumerate().map(seen).collect()),
    }
}

fn world(shards: Vec<Shard>) -> World {
    let named: Vec<_> = shards.iter().map(|shard| host(shard.index, 0)).collect();
    let sentinels = (0..3).map(|ordinal| sentinel(ordinal, &named)).collect();
    World { shards, sentinels, ..World::default() }
}

fn outdated(mut shard: Shard, ordinals: &[usize]) -> Shard {
    for &ordinal in ordinals {
        pod(&mut shard.members[ordinal]).is_outdated = true;
    }
    shard
}

/// The member drops out of the set, though its keeper answers.
fn out_of_sync(mut shard: Shard, ordinal: usize) -> Shard {
    let address = Address::new(host(shard.index, ordinal), 6379);
    for member in &mut shard.members {
        answer(member).in_sync.retain(|other| *other != address);
    }
    shard
}

fn silent(mut shard: Shard, ordinal: usize) -> Shard {
    shard = out_of_sync(shard, ordinal);
    shard.members[ordinal].keeper = Err("no answer in time".to_owned());
    shard
}

fn deletes(shard: usize, ordinal: usize, why: Why) -> Action {
    Action::DeletePod {
        shard,
        pod: format!("main-s{shard}-{ordinal}"),
        uid: format!("uid-{shard}-{ordinal}"),
        why,
    }
}

#[track_caller]
fn check(shards: Vec<Shard>, actions: &[Action], kinds: &[NoteKind]) {
    check_world(&world(shards), actions, kinds);
}

#[track_caller]
fn check_world(world: &World, actions: &[Action], kinds: &[NoteKind]) {
    let planned = plan(world);
    assert_eq!(planned.actions, actions, "{planned:#?}");
    let noted: Vec<_> = planned.notes.iter().map(|note| note.kind).collect();
    assert_eq!(noted, kinds, "{planned:#?}");
}

#[test]
fn a_healthy_cluster_needs_nothing() {
    check(vec![healthy(0), healthy(1)], &[], &[]);
}

#[test]
fn a_shard_is_founded_when_all_members_answer_and_are_fresh() {
    let found = Action::Found { shard: 0, member: "main-s0-0".to_owned() };
    check(vec![fresh(0)], &[found], &[NoteKind::Founding]);
}

#[test]
fn a_shard_is_not_founded_while_a_member_is_silent_or_sentinels_name_no_one() {
    let mut one_silent = fresh(0);
    one_silent.members[2].keeper = Err("no answer in time".to_owned());
    check(vec![one_silent], &[], &[NoteKind::Creating]);

    let mut one_down = fresh(0);
    answer(&mut one_down.members[1]).redis_alive = false;
    check(vec![one_down], &[], &[NoteKind::Creating]);

    let mut unnamed = world(vec![fresh(0)]);
    for sentinel in &mut unnamed.sentinels[..2] {
        sentinel.masters = Err("no answer in time".to_owned());
    }
    check_world(&unnamed, &[], &[NoteKind::Founding]);
}

#[test]
fn a_founding_that_was_interrupted_is_finished() {
    let mut shard = fresh(0);
    let founder = answer(&mut shard.members[0]);
    founder.fresh = false;
    founder.shard_id = Some("id0".to_owned());
    check(vec![shard], &[Action::Found { shard: 0, member: "main-s0-0".to_owned() }], &[NoteKind::Founding]);
}

#[test]
fn volumes_that_were_kept_are_not_founded_over() {
    let mut shard = healthy(0);
    shard.recorded_id = None;
    answer(&mut shard.members[0]).open = false;
    check(vec![shard.clone()], &[], &[NoteKind::Closed]);
    // Even if all but one are empty.
    let mut one_left = fresh(0);
    answer(&mut one_left.members[1]).fresh = false;
    check(vec![one_left], &[], &[NoteKind::Closed]);
}

#[test]
fn a_shard_that_was_founded_is_never_founded_again() {
    let mut shard = fresh(0);
    shard.recorded_id = Some("id0".to_owned());
    check(vec![shard.clone()], &[], &[NoteKind::DataLost]);
    shard.members[0].keeper = Err("no answer in time".to_owned());
    check(vec![shard], &[], &[NoteKind::Closed]);
}

#[test]
fn data_of_another_shard_are_left_alone() {
    let mut shard = outdated(healthy(0), &[1]);
    shard.recorded_id = Some("other".to_owned());
    check(vec![shard], &[], &[NoteKind::DataLost]);
}

#[test]
fn replicas_are_replaced_one_at_a_time_and_the_primary_hands_over_last() {
    let all = outdated(healthy(0), &[0, 1, 2]);
    check(vec![all.clone()], &[deletes(0, 1, Why::Outdated)], &[NoteKind::Rolling]);

    let mut ending = all.clone();
    pod(&mut ending.members[1]).is_terminating = true;
    check(vec![ending], &[], &[NoteKind::Returning, NoteKind::Rolling]);

    let mut gone = silent(all, 1);
    gone.members[1].pod = None;
    check(vec![gone.clone()], &[], &[NoteKind::Returning, NoteKind::Rolling]);

    let mut starting = gone;
    starting.members[1].pod = Some(Pod { is_young: true, ..Pod::default() });
    check(vec![starting], &[], &[NoteKind::Returning, NoteKind::Rolling]);

    let catching_up = out_of_sync(outdated(healthy(0), &[0, 2]), 1);
    check(vec![catching_up], &[], &[NoteKind::BelowReplicas, NoteKind::Rolling]);

    let next = outdated(healthy(0), &[0, 2]);
    check(vec![next], &[deletes(0, 2, Why::Outdated)], &[NoteKind::Rolling]);

    let last = outdated(healthy(0), &[0]);
    let hand_over = Action::HandOver { shard: 0, from: "main-s0-0".to_owned() };
    check(vec![last], &[hand_over], &[NoteKind::Rolling]);
}

#[test]
fn a_primary_alone_is_deleted_without_a_handover() {
    let mut shard = outdated(healthy(0), &[0]);
    shard.members.truncate(1);
    if let Some(set) = &mut shard.set {
        set.replicas = 1;
    }
    check(vec![shard], &[deletes(0, 0, Why::Outdated)], &[NoteKind::Rolling]);
}

#[test]
fn one_shard_rolls_at_a_time() {
    let both = vec![outdated(healthy(0), &[0, 1, 2]), outdated(healthy(1), &[0, 1, 2])];
    check(both, &[deletes(0, 1, Why::Outdated)], &[NoteKind::Rolling, NoteKind::Rolling]);

    let first_unsteady = vec![silent(healthy(0), 1), outdated(healthy(1), &[1])];
    check(first_unsteady, &[], &[NoteKind::BelowReplicas, NoteKind::Rolling]);
}

#[test]
fn a_member_that_alone_is_out_of_sync_is_replaced_though_another_shard_is_unsteady() {
    let shards = vec![silent(healthy(0), 1), out_of_sync(outdated(healthy(1), &[1]), 1)];
    let kinds = [NoteKind::BelowReplicas, NoteKind::BelowReplicas, NoteKind::Rolling];
    check(shards, &[deletes(1, 1, Why::Outdated)], &kinds);
}

#[test]
fn no_pod_is_deleted_while_two_others_are_out_of_sync() {
    let shard = out_of_sync(out_of_sync(outdated(healthy(0), &[0, 1, 2]), 1), 2);
    check(vec![shard], &[], &[NoteKind::BelowReplicas, NoteKind::Rolling]);
}

#[test]
fn a_pod_of_a_bad_template_is_replaced_by_a_better_one_even_if_others_are_missing() {
    let mut shard = silent(outdated(healthy(0), &[1]), 1);
    let bad = pod(&mut shard.members[1]);
    bad.is_running = false;
    bad.trouble = Some(Trouble { reason: "ImagePullBackOff".to_owned(), message: "no image".to_owned() });
    let kinds = [NoteKind::BelowReplicas, NoteKind::Rolling];
    check(vec![shard.clone()], &[deletes(0, 1, Why::Broken)], &kinds);

    // Not so a pod of the newest template: Kubernetes goes on trying.
    pod(&mut shard.members[1]).is_outdated = false;
    check(vec![shard], &[], &[NoteKind::BelowReplicas]);
}

#[test]
fn nothing_is_deleted_before_the_statefulset_is_observed() {
    let mut shard = outdated(healthy(0), &[0, 1, 2]);
    if let Some(set) = &mut shard.set {
        set.is_observed = false;
    }
    check(vec![shard], &[], &[NoteKind::Rolling]);
}

#[test]
fn after_a_full_stop_the_shard_is_left_to_its_keepers_and_the_note_says_whom_they_wait_for() {
    let mut shard = outdated(healthy(0), &[0, 1, 2]);
    for member in &mut shard.members {
        let state = answer(member);
        state.open = false;
        state.waiting_for = "1 of 2 votes: main-s0-2 is silent".to_owned();
    }
    let planned = plan(&world(vec![shard]));
    assert_eq!(planned.actions, []);
    assert_eq!(planned.notes[0].kind, NoteKind::Closed);
    assert!(planned.notes[0].message.contains("main-s0-2 is silent"), "{planned:#?}");
}

#[test]
fn members_to_come_do_not_hold_up_those_that_are_told_of_them() {
    // `replicas` grew to 3: the set still makes three pods, which must learn of the fourth first.
    let mut shard = outdated(healthy(0), &[0, 1, 2]);
    let mut to_come = member(0, 3);
    to_come.pod = None;
    to_come.keeper = Err("no pod".to_owned());
    shard.members.push(to_come);
    let kinds = [NoteKind::Returning, NoteKind::Rolling];
    check(vec![shard], &[deletes(0, 1, Why::Outdated)], &kinds);
}

#[test]
fn fresh_pods_of_an_old_template_are_replaced_at_once() {
    let shard = outdated(fresh(0), &[0, 1, 2]);
    let all = [0, 1, 2].map(|ordinal| deletes(0, ordinal, Why::Outdated));
    check(vec![shard], &all, &[NoteKind::Rolling]);
}

/// forall rolls: following the plan ends, disturbs one member at a time, and every pod is replaced.
#[test]
fn following_the_plan_replaces_every_pod_and_then_does_nothing() {
    let mut shards = vec![outdated(healthy(0), &[0, 1, 2]), outdated(healthy(1), &[0, 1, 2])];
    let mut steps = 0;
    loop {
        let planned = plan(&world(shards.clone()));
        let Some(action) = planned.actions.first() else { break };
        assert_eq!(planned.actions.len(), 1, "one disturbance at a time");
        match action {
            Action::DeletePod { shard, pod: name, .. } => {
                let shard = &mut shards[*shard];
                let is_primary = shard.primary().is_some_and(|(primary, _)| primary.name == *name);
                assert!(!is_primary, "an open primary is never deleted where it can hand over");
                let found = shard.members.iter_mut().find(|member| member.name == *name);
                pod(found.expect("a member")).is_outdated = false;
            }
            Action::HandOver { shard, from } => {
                for member in &mut shards[*shard].members {
                    let is_old = member.name == *from;
                    let is_new = !is_old && member.name.ends_with("-1");
                    let state = answer(member);
                    state.term = 5;
                    state.promised.term = 5;
                    state.open = is_new;
                    state.role = if is_new { "primary" } else { "replica" }.to_owned();
                }
            }
            Action::Found { .. } => panic!("nothing to found"),
        }
        steps += 1;
        assert!(steps < 20, "the plan does not end");
    }
    assert_eq!(steps, 8, "three pods and a handover of each shard");
    assert!(shards.iter().all(Shard::is_updated));
}
