//! Keepers, Redis and Sentinels as real processes, and what happens to acknowledged writes when they fail.

mod support;

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use support::keeper::Keeper;
use support::sentinel::Sentinel;
use support::shard::Shard;
use support::until;

#[test]
fn a_founded_shard_takes_writes_and_founding_again_changes_nothing() {
    let shard = Shard::founded(1);
    let first = shard.keepers[0].post("/found", &json!({}));
    let again = shard.keepers[0].post("/found", &json!({}));
    assert_eq!((first.0, &first.1), (200, &again.1));
    assert_eq!(shard.primary(), Some("a"));
    let writer = shard.writer();
    writer.until_more(100);
    shard.assert_holds(&writer.finish().acknowledged);
    let state = shard.keepers[0].state().expect("answers");
    assert_eq!((state["term"].as_u64(), state["in_sync"].as_array().map(Vec::len)), (Some(1), Some(3)));
}

#[test]
fn a_killed_primary_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut shard = Shard::founded(1);
    let writer = shard.writer();
    writer.until_more(200);
    writer.reset_gap();
    shard.keeper("a").kill();
    shard.until_primary_other_than("a");
    writer.until_more(200);
    shard.keeper("a").start();
    shard.until_whole();
    writer.until_more(200);
    // Not always the same: with so short a `down-after` a busy Sentinel may take the new primary, to which it
    // has just turned, for dead as well.
    until("a primary is open", || shard.primary());
    let ledger = writer.finish();
    println!(
        "kill -9 of the primary: {} acknowledged, longest gap {:?}",
        ledger.acknowledged.len(),
        ledger.longest_gap
    );
    shard.assert_holds(&ledger.acknowledged);
    until("the old primary holds all as well", || {
        let old = support::shard::held(&shard.keepers[0]);
        ledger.acknowledged.is_subset(&old).then_some(())
    });
}

/// As on Kubernetes, where a pod keeps its name and not its address.
#[test]
fn members_and_sentinels_know_each_other_by_name_and_sentinels_remember_after_a_restart() {
    let mut shard = Shard::founded_by_name(1);
    let named = |shard: &Shard, index: usize| {
        let asked = ["GET-MASTER-ADDR-BY-NAME", support::NAME];
        shard.sentinels[index].query::<(String, u16)>(&asked)
    };
    let own_id = |shard: &Shard| shard.sentinels[0].query::<String>(&["MYID"]);
    let first = shard.keepers[0].redis_port;
    assert_eq!(named(&shard, 0), Some((support::shard::HOST.to_owned(), first)));

    let id = own_id(&shard).expect("an identity");
    shard.keeper("a").kill();
    let new = shard.until_primary_other_than("a");
    let port = shard.keeper(new).redis_port;
    shard.sentinels[0].restart();
    until("the sentinel is back", || own_id(&shard));
    assert_eq!(own_id(&shard), Some(id), "it is still the same");
    assert_eq!(named(&shard, 0), Some((support::shard::HOST.to_owned(), port)), "it knows the new primary");
    shard.keeper("a").start();
    shard.until_whole();
}

#[test]
fn a_handover_under_load_loses_nothing_and_takes_little_time() {
    let mut shard = Shard::founded(1);
    let writer = shard.writer();
    writer.until_more(200);
    for to in ["b", "c", "a"] {
        writer.reset_gap();
        let from = shard.primary().expect("open");
        let answer = shard.keeper(from).post("/handover", &json!({ "to": to }));
        assert_eq!((answer.0, answer.1["primary"].as_str()), (200, Some(to)), "{answer:?}");
        writer.until_more(200);
        println!("handover {from} to {to}: {answer:?}, longest gap {:?}", writer.longest_gap());
        assert_eq!(shard.until_primary(), to);
        shard.until_whole();
    }
    shard.assert_holds(&writer.finish().acknowledged);
}

#[test]
fn a_handover_to_a_member_that_is_not_in_sync_is_refused_and_the_primary_stays() {
    let mut shard = Shard::founded(1);
    let writer = shard.writer();
    shard.keeper("c").kill();
    until("c left the set", || {
        let state = shard.keeper("a").state()?;
        (state["in_sync"].as_array()?.len() == 2).then_some(())
    });
    let answer = shard.keeper("a").post("/handover", &json!({ "to": "c" }));
    assert_eq!(answer.0, 409, "{answer:?}");
    writer.until_more(100);
    assert_eq!(shard.primary(), Some("a"));
    shard.assert_holds(&writer.finish().acknowledged);
}

#[test]
fn a_primary_that_is_asked_to_stop_hands_over_first() {
    let mut shard = Shard::founded(1);
    let writer = shard.writer();
    writer.until_more(200);
    writer.reset_gap();
    assert!(shard.keeper("a").terminate(), "it ended well");
    shard.until_primary_other_than("a");
    writer.until_more(200);
    println!("SIGTERM of the primary: longest gap {:?}", writer.longest_gap());
    let log = shard.keeper("a").log();
    assert!(log.contains("handed over"), "{log}");
    shard.assert_holds(&writer.finish().acknowledged);
}

#[test]
fn a_replica_that_is_asked_to_stop_leaves_the_set_and_writes_go_on() {
    let mut shard = Shard::founded(1);
    let writer = shard.writer();
    writer.until_more(200);
    writer.reset_gap();
    assert!(shard.keeper("b").terminate(), "it ended well");
    let state = shard.keeper("a").state().expect("answers");
    assert_eq!(state["in_sync"].as_array().map(Vec::len), Some(2), "{state}");
    writer.until_more(100);
    println!("SIGTERM of a replica: longest gap {:?}", writer.longest_gap());
    shard.assert_holds(&writer.finish().acknowledged);
}

/// Breaks if a replica has to leave the in-sync set before it follows: without replicas nothing can be written, the
/// set neither, so each would wait for the other.
#[test]
fn replicas_that_all_restart_at_once_follow_again_and_writes_go_on() {
    let mut shard = Shard::founded(1);
    let writer = shard.writer();
    writer.until_more(200);
    writer.reset_gap();
    for name in ["b", "c"] {
        shard.keeper(name).kill();
    }
    for name in ["b", "c"] {
        shard.keeper(name).start();
    }
    shard.until_whole();
    writer.until_more(200);
    println!("SIGKILL of all replicas: longest gap {:?}", writer.longest_gap());
    shard.assert_holds(&writer.finish().acknowledged);
}

#[test]
fn a_primary_that_restarts_at_once_opens_again_with_all_its_data() {
    let mut shard = Shard::founded(1);
    let writer = shard.writer();
    writer.until_more(200);
    shard.keeper("a").kill();
    shard.keeper("a").start();
    until("writes go on", || shard.primary());
    writer.until_more(200);
    shard.assert_holds(&writer.finish().acknowledged);
}

#[test]
fn a_primary_that_comes_back_empty_wipes_nobody() {
    let mut shard = Shard::founded(1);
    let writer = shard.writer();
    writer.until_more(200);
    shard.keeper("a").kill();
    shard.keeper("a").wipe();
    shard.keeper("a").start();
    shard.until_primary_other_than("a");
    writer.until_more(200);
    let ledger = writer.finish();
    shard.assert_holds(&ledger.acknowledged);
    until("the empty member has everything again", || {
        shard.keepers[0]
            .is_ready()
            .then(|| support::shard::held(&shard.keepers[0]))
            .filter(|held| ledger.acknowledged.is_subset(held))
    });
}

#[test]
fn sentinels_that_only_watch_after_a_stop_hold_nobody_up() {
    let mut shard = Shard::founded(1);
    let writer = shard.writer();
    writer.until_more(200);
    for sentinel in &shard.sentinels[1..] {
        sentinel.signal(Signal::STOP);
        // Longer than the 2 s that Sentinel takes for a jump of its clock.
        std::thread::sleep(Duration::from_millis(2_200));
        sentinel.signal(Signal::CONT);
        until("the sentinel only watches", || sentinel.only_watches().then_some(()));
    }
    let named_a = || shard.sentinels.iter().all(|one| one.names() == shard.sentinels[0].names());
    until("sentinels agree", || named_a().then_some(()));
    shard.keeper("a").kill();
    shard.keeper("a").wipe();
    shard.keeper("a").start();
    shard.until_primary_other_than("a");
    assert!(shard.sentinels[1].only_watches(), "it took longer than Sentinel only watches");
    writer.until_more(200);
    shard.assert_holds(&writer.finish().acknowledged);
}

#[test]
fn a_replica_without_a_link_for_long_is_promoted_all_the_same() {
    let mut shard = Shard::founded(1);
    let writer = shard.writer();
    writer.until_more(200);
    let ledger = writer.finish();
    // Nobody can choose another primary while the links break.
    shard.sentinels.iter_mut().for_each(Sentinel::kill);
    shard.keeper("a").kill();
    shard.keeper("a").wipe();
    shard.keeper("a").start();
    // Ten `down-after` and some more: too long for Sentinel.
    until("b has had no link for long", || {
        let mut b = shard.keeper("b").redis().ok()?;
        let info: String = redis::cmd("INFO").arg("replication").query(&mut b).ok()?;
        let line = info.lines().find_map(|line| line.strip_prefix("master_link_down_since_seconds:"))?;
        (line.trim().parse::<i64>().ok()? > 12).then_some(())
    });
    shard.sentinels.iter_mut().for_each(Sentinel::start_again);
    shard.until_primary_other_than("a");
    shard.assert_holds(&ledger.acknowledged);
}

/// As a primary does that has just opened a term, and is gone before a copy begins.
fn tell_to_copy_from_a(keeper: &Keeper, shard_id: &Value) {
    let vote = keeper.post(
        "/vote",
        &json!({"shard": support::NAME, "shard_id": shard_id, "term": 7, "candidate": "a", "founding": false}),
    );
    assert_eq!((&vote.1["granted"], &vote.1["settled"]), (&json!(true), &json!(true)), "{vote:?}");
    let told = keeper.post("/follow", &json!({"member": "a", "term": 7, "shard_id": shard_id}));
    assert_eq!(told.0, 200, "{told:?}");
    assert_eq!(keeper.state().expect("answers")["settled"], json!(false), "a copy may begin");
}

/// A failover may overtake a copy: a member that was told to follow is promoted before it could. Its data are what they
/// were, and in a shard whose every member must vote nobody opens unless they count.
#[test]
fn a_member_that_is_promoted_before_its_copy_began_counts_with_what_it_has() {
    let mut shard = Shard::founded(1);
    let id = shard.keepers[1].state().expect("answers")["shard_id"].clone();
    shard.sentinels.iter_mut().for_each(Sentinel::kill);
    shard.keeper("a").kill();
    shard.keeper("c").kill();
    let b = &shard.keepers[1];
    tell_to_copy_from_a(b, &id);
    let mut redis = b.redis().expect("it runs");
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut redis).expect("promoted");
    until("b counts", || (b.state()?["settled"] == json!(true)).then_some(()));
}

/// All copies wait for the same primary, and it is gone for good before one of them begins.
#[test]
fn a_primary_that_is_gone_before_any_copy_of_its_term_began_is_replaced() {
    let mut shard = Shard::founded(1);
    let writer = shard.writer();
    writer.until_more(200);
    let ledger = writer.finish();
    let id = shard.keepers[1].state().expect("answers")["shard_id"].clone();
    shard.sentinels.iter_mut().for_each(Sentinel::kill);
    shard.keeper("a").kill();
    shard.keepers[1..].iter().for_each(|keeper| tell_to_copy_from_a(keeper, &id));
    shard.sentinels.iter_mut().for_each(Sentinel::start_again);
    shard.until_primary_other_than("a");
    shard.assert_holds(&ledger.acknowledged);
    shard.keeper("a").start();
    shard.until_whole();
    shard.assert_holds(&ledger.acknowledged);
}

/// Redis stands still while it looks a name up, and would do so again and again for a link that cannot come up.
#[test]
fn a_replica_whose_primary_is_gone_asks_for_it_no_more_and_follows_again_once_it_is_back() {
    let mut shard = Shard::founded(1);
    shard.sentinels.iter_mut().for_each(Sentinel::kill);
    shard.keeper("a").kill();
    for keeper in &shard.keepers[1..] {
        let mut redis = keeper.redis().expect("it runs");
        until("it follows nobody", || {
            let role: String = redis::cmd("INFO").arg("replication").query(&mut redis).ok()?;
            role.contains("master_port:1\r").then_some(())
        });
        assert_eq!(keeper.state().expect("answers")["settled"], json!(true), "it has what it had");
    }
    shard.keeper("a").start();
    shard.sentinels.iter_mut().for_each(Sentinel::start_again);
    shard.until_whole();
}

#[test]
fn after_a_full_stop_the_newest_copy_wins_though_an_old_one_starts_first() {
    let mut shard = Shard::founded(1);
    let writer = shard.writer();
    writer.until_more(200);
    // From here on c is older than the others.
    shard.keeper("c").kill();
    writer.until_more(200);
    let ledger = writer.finish();
    shard.keeper("a").kill();
    shard.keeper("b").kill();
    // The old copy is alone, so Sentinel promotes it; it stays closed until one that has everything is there.
    shard.keeper("c").start();
    let state = until("sentinel promoted c and c asked for votes", || {
        let state = shard.keeper("c").state().filter(|state| state["role"] == "primary")?;
        (state["open"] == true || state["waiting_for"].as_str()?.contains("1 of 2 votes")).then_some(state)
    });
    assert_eq!(state["open"], false, "{state}");
    shard.keeper("b").start();
    assert_eq!(until("a member opens", || shard.primary()), "b");
    // Sentinels, which promoted c before, may have b hand over to it once it has everything.
    shard.assert_holds(&ledger.acknowledged);
    shard.keeper("a").start();
    shard.until_whole();
    shard.assert_holds(&ledger.acknowledged);
}

#[test]
fn an_empty_member_is_no_vote_and_the_shard_says_whom_it_waits_for() {
    let mut shard = Shard::founded(1);
    let writer = shard.writer();
    // b alone holds what is acknowledged beside a.
    shard.keeper("c").kill();
    until("c left the set", || {
        let state = shard.keeper("a").state()?;
        (state["in_sync"].as_array()?.len() == 2).then_some(())
    });
    writer.until_more(200);
    let ledger = writer.finish();
    shard.keeper("a").kill();
    shard.keeper("b").kill();
    shard.keeper("b").wipe();
    shard.keeper("b").start();
    shard.keeper("c").start();
    let why = until("someone says what is missing", || {
        let said = |name: &str| shard.keepers.iter().find(|k| k.name == name).map(Keeper::waiting_for);
        [said("b")?, said("c")?].into_iter().find(|why| why.contains("b has no data"))
    });
    assert!(why.contains("1 of 2 votes needed") && why.contains("a does not answer"), "{why}");
    assert_eq!(shard.primary(), None);
    // The one copy that is needed comes back.
    shard.keeper("a").start();
    shard.assert_holds(&ledger.acknowledged);
}

#[test]
fn a_primary_that_was_stopped_acknowledges_nothing_when_it_goes_on() {
    use rustix::process::{Signal, kill_process};
    let mut shard = Shard::founded(1);
    let writer = shard.writer();
    writer.until_more(200);
    let old = shard.keeper("a").redis_port;
    let mut stale = support::writer::Bound::to(old).expect("bound to a");
    let redis = shard.keeper("a").redis_pid().expect("runs");
    shard.keeper("a").signal(Signal::STOP);
    kill_process(redis, Signal::STOP).expect("stopped");
    shard.until_primary_other_than("a");
    writer.until_more(200);
    kill_process(redis, Signal::CONT).expect("goes on");
    let mut tries = 0;
    let acknowledged = (1_000_000..1_000_020)
        .filter(|write| {
            tries += 1;
            stale.write(*write).is_some()
        })
        .count();
    assert_eq!((acknowledged, tries), (0, 20));
    shard.keeper("a").signal(Signal::CONT);
    shard.until_whole();
    shard.assert_holds(&writer.finish().acknowledged);
}

#[test]
fn where_every_member_must_hold_a_write_any_one_of_them_may_go_on() {
    let mut shard = Shard::founded(2);
    let writer = shard.writer();
    writer.until_more(200);
    shard.keeper("a").kill();
    shard.until_primary_other_than("a");
    // Nothing is acknowledged by two of three.
    let two = writer.acknowledged();
    shard.keeper("a").start();
    shard.until_whole();
    writer.until_more(200);
    println!("{two} acknowledged when two of three were left");
    shard.assert_holds(&writer.finish().acknowledged);
}

#[test]
fn a_redis_that_dies_alone_is_started_again_and_copies_what_it_missed() {
    use rustix::process::{Signal, kill_process};
    let mut shard = Shard::founded(1);
    let writer = shard.writer();
    for name in ["b", "a"] {
        writer.until_more(200);
        let redis = shard.keeper(name).redis_pid().expect("runs");
        kill_process(redis, Signal::KILL).expect("killed");
        until("its keeper started another", || shard.keeper(name).redis_pid().filter(|new| *new != redis));
        shard.until_whole();
    }
    writer.until_more(200);
    shard.assert_holds(&writer.finish().acknowledged);
}

#[test]
fn after_a_full_stop_any_order_of_starting_ends_with_every_acknowledged_write() {
    let mut shard = Shard::founded(1);
    let writer = shard.writer();
    let mut order = ["a", "b", "c"];
    for round in 0..3 {
        writer.until_more(100);
        rand::seq::SliceRandom::shuffle(&mut order[..], &mut rand::rng());
        println!("round {round}: killed in order {order:?}");
        for name in order {
            shard.keeper(name).kill();
        }
        rand::seq::SliceRandom::shuffle(&mut order[..], &mut rand::rng());
        println!("round {round}: started in order {order:?}");
        for name in order {
            shard.keeper(name).start();
        }
        shard.until_whole();
    }
    writer.until_more(100);
    shard.assert_holds(&writer.finish().acknowledged);
}

#[test]
fn a_fence_stops_writes_survives_a_restart_and_is_lifted_by_word() {
    let mut shard = Shard::founded(1);
    let writer = shard.writer();
    writer.until_more(100);
    assert_eq!(shard.keeper("a").post("/fence", &json!({})).0, 200);
    let mut bound = support::writer::Bound::to(shard.keeper("a").redis_port).expect("bound to a");
    assert_eq!(bound.write(1_000_000), None);
    shard.keeper("a").kill();
    shard.keeper("a").start();
    let state = until("a answers", || shard.keeper("a").state().filter(|state| state["redis_alive"] == true));
    assert_eq!(state["fenced"], true);
    assert_eq!(shard.keeper("a").post("/unfence", &json!({})).0, 200);
    writer.until_more(100);
    shard.assert_holds(&writer.finish().acknowledged);
}

#[test]
fn strangers_are_refused_and_only_the_named_member_founds() {
    let mut shard = Shard::start(1);
    let refused = until("b knows whom sentinels name", || {
        let (status, body) = shard.keepers[1].call("POST", "/found", &json!({}))?;
        body["error"].as_str()?.contains("found the shard there").then_some(status)
    });
    assert_eq!(refused, 409);
    let url = format!("http://127.0.0.1:{}/state", shard.keeper("a").http_port);
    let error = ureq::get(&url).header("Authorization", "Bearer wrong").call().expect_err("refused");
    assert!(matches!(error, ureq::Error::StatusCode(401)), "{error}");
    let metrics = shard.keeper("a").call("GET", "/metrics", &json!(null)).expect("answers").1;
    assert!(metrics.as_str().expect("text").contains("taba_keeper_elections_total"), "{metrics}");
}

/// The keeper had noted that it opens the shard, and died, or heard nothing from its Redis in time.
#[test]
fn a_founding_that_did_not_reach_redis_is_done_again() {
    let mut shard = Shard::start(1);
    let founder = shard.keeper("a");
    until("its redis answers", || founder.redis_pid());
    founder.kill();
    let id = "0123456789abcdef0123456789abcdef";
    let promise = json!({"term": 1, "candidate": "a"});
    let notes = json!({"version": 1, "promise": promise, "shard_id": id, "founded": true, "settled_term": 1});
    std::fs::write(founder.data.join("keeper.json"), notes.to_string()).expect("written");
    founder.start();
    until("the shard is founded", || {
        (shard.keepers[0].call("POST", "/found", &json!({}))?.0 == 200).then_some(())
    });
    shard.until_whole();
    assert_eq!(shard.keepers[0].state().expect("a state")["shard_id"], id);
}
