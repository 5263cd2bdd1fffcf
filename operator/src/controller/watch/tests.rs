//! Tables of what Sentinels see and what is set right.

use taba_keeper::api::StateAnswer;

use super::*;
use crate::controller::world::{Member, Sentinel};

const SETTINGS: WatchSettings = WatchSettings {
    quorum: 2,
    down_after_ms: 3000,
    failover_timeout_ms: 9000,
    parallel_syncs: 3,
    port: 6379,
};

fn host(ordinal: usize) -> String {
    format!("main-s0-{ordinal}.main-s0.ns.svc.cluster.local.")
}

fn state(ordinal: usize) -> StateAnswer {
    serde_json::from_value(serde_json::json!({
        "shard": "ns.main-s0", "shard_id": "id0", "member": format!("main-s0-{ordinal}"),
        "address": format!("{}:6379", host(ordinal)), "role": "primary", "open": ordinal == 1, "term": 3,
        "promised": {"term": 3, "candidate": "main-s0-1"}, "position": {"term": 3, "writes": 9},
        "settled": true, "fenced": false, "in_sync": [], "in_sync_version": 1, "offset": 7, "link_up": true,
        "following": null, "lag_bytes": 0, "redis_alive": true, "fresh": false, "leaving": false,
        "waiting_for": "", "redis_version": "7.0.15"
    }))
    .expect("a state")
}

fn seen() -> MasterSeen {
    MasterSeen {
        name: "ns.main-s0".to_owned(),
        host: host(1),
        port: 6379,
        quorum: 2,
        other_sentinels: 2,
        replicas: Vec::new(),
        replica_count: 2,
        flags: "master".to_owned(),
        down_after_ms: 3000,
        failover_timeout_ms: 9000,
        parallel_syncs: 3,
    }
}

/// Open at the second member, and three Sentinels that see it so.
fn world() -> World {
    let member = |ordinal| Member {
        name: format!("main-s0-{ordinal}"),
        host: host(ordinal),
        pod: None,
        keeper: Ok(state(ordinal)),
    };
    let shard = Shard {
        index: 0,
        name: "s0".to_owned(),
        master: "ns.main-s0".to_owned(),
        recorded_id: Some("id0".to_owned()),
        min_in_sync: 1,
        set: None,
        members: (0..3).map(member).collect(),
    };
    let sentinel =
        |ordinal| Sentinel { name: format!("sentinel-{ordinal}"), pod: None, masters: Ok(vec![seen()]) };
    World { shards: vec![shard], sentinels: (0..3).map(sentinel).collect(), ..World::default() }
}

fn change(world: &mut World, sentinel: usize, change: impl FnOnce(&mut MasterSeen)) {
    change_at(&mut world.sentinels[sentinel], change);
}

fn change_at(sentinel: &mut Sentinel, change: impl FnOnce(&mut MasterSeen)) {
    change(&mut sentinel.masters.as_mut().expect("answers")[0]);
}

/// What is planned at the first look and after a fault has lasted for `later`.
#[track_caller]
fn check(world: &World, at_once: &[Fault], later_secs: u64, later: &[Fault]) {
    let mut suspicions = Suspicions::default();
    let faults = |repairs: Vec<Repair>| repairs.into_iter().map(|repair| repair.fault).collect::<Vec<_>>();
    let first = repairs(world, &SETTINGS, &mut suspicions, Duration::from_secs(1000));
    assert_eq!(faults(first), at_once, "at once");
    let second = repairs(world, &SETTINGS, &mut suspicions, Duration::from_secs(1000 + later_secs));
    assert_eq!(faults(second), later, "after {later_secs} s");
}

#[test]
fn sentinels_that_see_what_is_are_left_alone_for_ever() {
    check(&world(), &[], 1_000_000, &[]);
}

#[test]
fn a_shard_that_is_not_watched_is_watched_at_once() {
    let mut world = world();
    world.sentinels[2].masters = Ok(Vec::new());
    check(&world, &[Fault::Unwatched], 1, &[Fault::Unwatched]);
    let planned = repairs(&world, &SETTINGS, &mut Suspicions::default(), Duration::ZERO);
    assert_eq!(planned[0].host.as_deref(), Some(host(1).as_str()), "the open primary");
}

#[test]
fn before_the_founding_the_first_member_is_watched() {
    let mut world = world();
    world.shards[0].recorded_id = None;
    for member in &mut world.shards[0].members {
        member.keeper = Err("no answer in time".to_owned());
    }
    world.sentinels[0].masters = Ok(Vec::new());
    let planned = repairs(&world, &SETTINGS, &mut Suspicions::default(), Duration::ZERO);
    assert_eq!(planned[0].host.as_deref(), Some(host(0).as_str()));
}

#[test]
fn new_settings_are_set_at_once_and_as_long_as_they_differ() {
    #[track_caller]
    fn differs(change_to: impl Fn(&mut MasterSeen)) {
        let mut world = world();
        change(&mut world, 0, change_to);
        check(&world, &[Fault::Settings], 1, &[Fault::Settings]);
    }
    differs(|seen| seen.quorum = 1);
    differs(|seen| seen.down_after_ms = 4000);
    differs(|seen| seen.failover_timeout_ms = 12_000);
    differs(|seen| seen.parallel_syncs = 4);
}

#[test]
fn a_wrong_address_is_replaced_only_when_it_lasts() {
    let mut world = world();
    change(&mut world, 0, |seen| seen.host = host(2));
    check(&world, &[], 59, &[]);
    check(&world, &[], 60, &[Fault::WrongAddress]);
}

#[test]
fn nothing_is_replaced_while_others_disagree_or_a_failover_is_under_way() {
    let mut disagree = world();
    change(&mut disagree, 0, |seen| seen.host = host(2));
    change(&mut disagree, 1, |seen| seen.host = host(2));
    check(&disagree, &[], 600, &[]);

    let mut failing_over = world();
    change(&mut failing_over, 0, |seen| seen.host = host(2));
    change(&mut failing_over, 1, |seen| seen.flags = "master,failover_in_progress".to_owned());
    check(&failing_over, &[], 600, &[]);

    let mut closed = world();
    change(&mut closed, 0, |seen| seen.host = host(2));
    closed.shards[0].members[1].keeper = Err("no answer in time".to_owned());
    check(&closed, &[], 600, &[]);
}

#[test]
fn one_entry_is_replaced_at_a_time_with_a_rest_between() {
    let mut world = world();
    world.sentinels.push(Sentinel { name: "sentinel-3".to_owned(), pod: None, masters: Ok(vec![seen()]) });
    world.sentinels.push(Sentinel { name: "sentinel-4".to_owned(), pod: None, masters: Ok(vec![seen()]) });
    for ordinal in [0, 1] {
        change(&mut world, ordinal, |seen| seen.replicas = vec![host(0), host(2), "gone.example".to_owned()]);
    }
    let mut suspicions = Suspicions::default();
    let mut plan = |secs| {
        let now = Duration::from_secs(secs);
        let planned = repairs(&world, &SETTINGS, &mut suspicions, now);
        if !planned.is_empty() {
            suspicions.replaces(now);
        }
        planned.len()
    };
    assert_eq!([plan(1000), plan(1179), plan(1180), plan(1181), plan(1209), plan(1210)], [0, 0, 1, 0, 0, 1]);
}

#[test]
fn sentinels_that_are_gone_are_strangers() {
    let mut world = world();
    change(&mut world, 0, |seen| seen.other_sentinels = 4);
    check(&world, &[], 180, &[Fault::Strangers]);
}

/// The repairs of all faults, as commands.
fn all_commands() -> [(Fault, Vec<Command>); 4] {
    [Fault::Unwatched, Fault::Settings, Fault::WrongAddress, Fault::Strangers].map(|fault| {
        let host = (fault != Fault::Settings).then(|| host(1));
        let repair = Repair { sentinel: "sentinel-0".to_owned(), shard: 0, fault, host };
        (fault, commands(&repair, "ns.main-s0", &SETTINGS, "hunter2"))
    })
}

#[test]
fn a_sentinel_that_was_told_to_watch_and_not_yet_how_gets_the_login() {
    let mut told = world();
    change(&mut told, 0, |seen| {
        (seen.down_after_ms, seen.failover_timeout_ms, seen.parallel_syncs) = (30_000, 180_000, 1);
    });
    check(&told, &[Fault::Settings], 1, &[Fault::Settings]);
    for (fault, commands) in all_commands() {
        let Some(Command::Set { options, .. }) = commands.last() else { panic!("{fault:?}: {commands:?}") };
        let login = [("auth-user", "sentinel".to_owned()), ("auth-pass", "hunter2".to_owned())];
        assert!(login.iter().all(|option| options.contains(option)), "{fault:?}: {commands:?}");
    }
}

#[test]
fn no_repair_ever_resets() {
    for (fault, commands) in all_commands() {
        let removes = commands.iter().filter(|one| matches!(one, Command::Remove { .. })).count();
        let monitors = commands.iter().filter(|one| matches!(one, Command::Monitor { .. })).count();
        assert_eq!(removes, usize::from(fault.replaces()), "{fault:?}");
        assert_eq!(monitors, usize::from(fault != Fault::Settings), "{fault:?}");
        let text = format!("{commands:?}");
        assert!(!text.contains("RESET") && !text.contains("hunter2"), "{text}");
    }
}
