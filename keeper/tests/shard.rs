//! Keepers, Redis and Sentinels as real processes, and what happens to acknowledged writes when they fail.

mod support;

use serde_json::json;

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
    let new = shard.until_primary_other_than("a");
    writer.until_more(200);
    shard.keeper("a").start();
    shard.until_whole();
    writer.until_more(200);
    assert_eq!(shard.primary(), Some(new));
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
