//! The all-clients state of a tab is the merge of its clients' states, whatever was posted.

use std::fmt::Write as _;
use std::time::Instant;

use futures::future::join_all;
use taba_core::{Event, Payload, State, TabType, VbucketCount};
use taba_server::store::{Commit, Store, TabChange};
use tempfile::TempDir;

use crate::lab::{Lab, PATIENCE, VBUCKETS, body, now_secs, open_store};

/// A line for tab `n`: one of each type, at some time of the last two hours. Values are whole numbers, so
/// that sums are the same in any order.
fn tab_block(n: usize, salt: usize) -> String {
    let (tab_type, time) = (TabType::ALL[n], now_secs() - ((salt * salt * 37 + n) % 7200) as i64);
    let payload = match tab_type {
        TabType::Gauge => format!("\"\\\"v{}\\\"\"", salt % 3),
        TabType::ExpiryGauge | TabType::Buffer => {
            format!("\"[\\\"v{}\\\", {}]\"", salt % 5, now_secs() + 3600 + salt as i64)
        }
        _ => format!("\"[{}]\"", salt % 100),
    };
    let good = format!("[\"{}\", {time}, {payload}]", tab_type.as_str());
    // Now and then a line that is bad or of another tab's type stands in between.
    let other = TabType::ALL[(n + 3) % TabType::ALL.len()].as_str();
    let bad = match salt % 4 {
        0 => "no JSON\n".to_owned(),
        1 => format!("[\"{other}\", {time}, \"1\"]\n"),
        _ => String::new(),
    };
    format!("tab.{n}\n{good}\n{bad}{good}\n\n")
}

fn traffic(salt: usize) -> String {
    let mut text = format!("1\n\nclient.{}\n\n", salt % 5);
    for n in 0..TabType::ALL.len() {
        text += &tab_block(n, salt);
    }
    writeln!(text, "\nclient.{}\n", salt % 3).unwrap();
    for n in (0..TabType::ALL.len()).step_by(2) {
        text += &tab_block(n, salt + 1);
    }
    text + "\n"
}

/// Compares `/tabs` with the merge of all clients. Windows move on between two answers, so a comparison
/// counts only if the first answer still is the same after the second.
async fn assert_agreement(lab: &Lab, when: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = lab.get("/tabs").await.body;
        let merged = lab.get("/tabs?re&client=.*").await.body;
        if lab.get("/tabs").await.body == all {
            assert_eq!(all.lines().count(), TabType::ALL.len(), "{when}: {all}");
            assert_eq!(all, merged, "{when}");
            return;
        }
        assert!(Instant::now() < deadline, "{when}: the answer never stood still");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_clients_equal_the_merge_of_clients_after_any_traffic() {
    let lab = Lab::start_busy(TempDir::new().unwrap()).await;
    for round in 0..20 {
        let posts = (0..8).map(|n| {
            let (lab, salt) = (&lab, round * 8 + n);
            async move {
                let text = traffic(salt);
                let key = format!("p{}:1/{round}", n % 4);
                let key = [("Idempotency-Key", key.as_str())];
                // Half of the batches have an id, and of each such two one is a repetition.
                let headers: &[_] = if n % 2 == 0 { &key } else { &[] };
                assert_eq!(lab.post("/post", headers, text.as_bytes()).await.status, 200);
                let broken = format!("{text}d\nunreadable\n");
                assert_eq!(lab.post("/post", &[], broken.as_bytes()).await.status, 400);
            }
        });
        join_all(posts).await;
        lab.applied().await;
        assert_agreement(&lab, "while commits wait").await;
    }
    assert!(lab.metric("taba_batches_duplicate_total").await > 0.0);
    assert!(lab.metric("taba_apply_events_dropped_total{reason=\"type_mismatch\"}").await > 0.0);
    lab.committed().await;
    assert_agreement(&lab, "after the last commit").await;
    lab.sweep("/check", "check").await;
    assert_eq!(lab.metric("taba_sweep_mismatches_total").await, 0.0);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_events_of_new_tabs_and_clients_posted_at_once_all_count() {
    let lab = Lab::start_busy(TempDir::new().unwrap()).await;
    let clients: Vec<String> = (0..50).map(|n| format!("c.{n:02}")).collect();
    let posts = clients.iter().map(|client| {
        let text = body(client, &[("t", "TotalsCounter", "1"), ("t", "TotalsCounter", "1")]);
        let lab = &lab;
        async move { assert_eq!(lab.post("/post", &[], text.as_bytes()).await.status, 200) }
    });
    join_all(posts).await;
    lab.applied().await;
    let expected = "t: {\"count\": 100, \"total\": 100.00, \"average\": 1.00}\n";
    assert_eq!(lab.get("/tabs").await.body, expected);
    lab.committed().await;
    assert_eq!(lab.get("/tabs").await.body, expected);
    let each = lab.get_as("/projection", "application/json").await.json();
    for client in &clients {
        assert_eq!(each[client]["t"]["count"], 2, "{client}");
    }
    lab.stop().await;
}

/// An encoded state of that many events.
fn encoded(tab_type: TabType, events: u32) -> bytes::Bytes {
    let now = taba_server::clock::now();
    let mut state = State::new(tab_type);
    for ordinal in 0..events {
        state.fold("c", &Event { time: now, ordinal, payload: Payload::Number(1.0) }, now).unwrap();
    }
    let mut out = Vec::new();
    state.encode(&mut out);
    out.into()
}

/// Stores a tab of two clients with two events each, and with another count for all clients.
async fn store_false_tab(store: &impl Store, tab: &str, tab_type: TabType, events: u32) {
    let vbucket = VbucketCount::new(VBUCKETS).unwrap().of(tab);
    let lease = store.lease(vbucket, "earlier", PATIENCE).await.unwrap().unwrap();
    let clients = ["c1", "c2"].map(|client| (client.to_owned(), Some(encoded(tab_type, 2)))).to_vec();
    let aggregate = Some(encoded(tab_type, events));
    let change = TabChange { tab: tab.to_owned(), aggregate, clients, delete: false };
    let commit = Commit { changes: vec![change], marks: lease.marks };
    store.commit(vbucket, lease.token, commit).await.unwrap();
    store.release(vbucket, lease.token).await.unwrap();
}

/// How many events of the last day, or of all time, a query counts in each of the two tabs.
async fn counts(lab: &Lab) -> [u64; 2] {
    let day = lab.get("/v2/query?tab=day&windows=1d").await.json();
    let all = lab.get_as("/tabs?name=all", "application/json").await.json();
    [&day["tabs"][0]["windows"][0]["count"], &all["all"]["count"]].map(|count| count.as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_finds_and_repairs_an_all_clients_state_that_is_wrong() {
    let folder = TempDir::new().unwrap();
    let store = open_store(&folder);
    store_false_tab(&store, "day", TabType::CounterGroup, 9).await;
    store_false_tab(&store, "all", TabType::TotalsCounter, 3).await;
    drop(store);
    let lab = Lab::start_busy(folder).await;
    lab.sweep("/check", "check").await;
    assert_eq!(lab.metric("taba_sweep_mismatches_total").await, 2.0);
    assert_eq!(counts(&lab).await, [9, 3]);
    lab.sweep("/check?dry=false", "check").await;
    assert_eq!(counts(&lab).await, [4, 4]);
    lab.sweep("/check", "check").await;
    assert_eq!(lab.metric("taba_sweep_mismatches_total").await, 4.0);
    lab.stop().await;
}
