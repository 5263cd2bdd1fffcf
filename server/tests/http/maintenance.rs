//! Maintenance: never by GET, behind the admin token if there is one, and it does what it says.

use std::cell::Cell;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use taba_server::config::Limits;
use tempfile::TempDir;

use crate::lab::{Lab, body, now_secs};

const ALL: [&str; 6] = ["/recompute", "/gc", "/check", "/upgrade", "/flush_all", "/delete"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_changed_by_get() {
    let lab = Lab::start_with(Limits::default(), Some("secret")).await;
    for path in ALL {
        for method in ["GET", "HEAD", "PUT"] {
            let reply = lab.send(method, path, &[], b"").await;
            assert_eq!(reply.status, 405, "{method} {path}");
            let allow = reply.header("allow");
            assert!(allow.contains("POST") && allow.contains("DELETE"), "{method} {path} allows {allow:?}");
        }
    }
    for path in ["/post", "/post_zip", "/v2/batch"] {
        let reply = lab.get(path).await;
        assert_eq!((reply.status, reply.header("allow")), (405, "POST"), "{path}");
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maintenance_needs_the_token_and_queries_do_not() {
    let lab = Lab::start_with(Limits::default(), Some("secret")).await;
    for path in ALL {
        for authorization in ["", "Bearer wrong", "Basic secret", "Bearer secret2"] {
            let headers: &[_] =
                if authorization.is_empty() { &[] } else { &[("Authorization", authorization)] };
            let reply = lab.post(path, headers, b"").await;
            assert_eq!(
                (reply.status, reply.header("www-authenticate")),
                (401, "Bearer"),
                "{path} {authorization}"
            );
        }
        let path = if path == "/delete" { "/delete?name=none" } else { path };
        for method in ["POST", "DELETE"] {
            let reply = lab.send(method, path, &[("Authorization", "Bearer secret")], b"").await;
            assert_eq!(reply.status, 200, "{method} {path}: {reply:?}");
        }
    }
    assert_eq!(lab.get("/tabs").await.status, 200);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn background_work_answers_started() {
    let lab = Lab::start().await;
    for path in ["/recompute", "/gc", "/check", "/check?dry=false", "/check?dry=true", "/upgrade"] {
        let reply = lab.post(path, &[], b"").await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "Started\n"), "{path}");
    }
    assert_eq!(lab.post("/gc?dry=false", &[], b"").await.status, 400);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delete_removes_the_named_tabs_and_nothing_else() {
    let lab = Lab::start().await;
    let events = ["a", "b", "c"].map(|name| (name, "Gauge", "1"));
    lab.record("client", &events).await;
    assert_eq!(lab.post("/delete", &[], b"").await.status, 400);
    assert_eq!(lab.get("/names").await.body, "a\nb\nc\n");
    let reply = lab.post("/delete?name=a,c,unknown", &[], b"").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
    assert_eq!(lab.get("/names").await.body, "b\n");
    let reply = lab.send("DELETE", "/delete", &[], br#"{"name": "b"}"#).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(lab.get("/names").await.body, "");
    // Its name and type are free again.
    lab.record("client", &[("a", "TotalsCounter", "2")]).await;
    assert_eq!(lab.get("/tabs").await.body, "a: {\"count\": 1, \"total\": 2.00, \"average\": 2.00}\n");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushing_the_queues_keeps_the_server_working() {
    let lab = Lab::start().await;
    lab.record("c", &[("t", "TotalsCounter", "1")]).await;
    let reply = lab.post("/flush_all", &[], b"").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
    lab.record("c", &[("after", "TotalsCounter", "1")]).await;
    lab.eventually("/names", "", |reply| reply.body.lines().any(|name| name == "after")).await;
    lab.stop().await;
}

/// A body whose events (tab, type, payload) happened `days` ago.
fn days_ago(days: i64, client: &str, events: &[(String, &str, String)]) -> String {
    let mut body = format!("1\n\n{client}\n\n");
    let time = now_secs() - days * 86_400;
    for (tab, tab_type, payload) in events {
        let payload = serde_json::to_string(payload).unwrap();
        writeln!(body, "{tab}\n[\"{tab_type}\", {time}, {payload}]\n").unwrap();
    }
    body + "\n"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_clients_and_types_that_nothing_shows_any_more_are_forgotten() {
    let lab = Lab::start_busy(TempDir::new().unwrap()).await;
    let expired = format!("[\"v\", {}]", now_secs() - 86_400);
    for client in ["old.1", "old.2"] {
        let events = [
            ("CounterGroup", "1"),
            ("PercentileGroup", "1"),
            ("Gauge", "1"),
            ("ExpiryGauge", &expired),
            ("Buffer", &expired),
        ];
        let of_days = |days: i64, events: &[(&'static str, &str)]| {
            let tab = |tab_type: &str| [format!("shared.{tab_type}"), format!("{client}.{tab_type}")];
            let events = events.iter().flat_map(|(tab_type, payload)| {
                tab(tab_type).map(|tab| (tab, *tab_type, (*payload).to_owned()))
            });
            days_ago(
                days,
                client,
                &events.chain([("alive".to_owned(), "CounterGroup", "7".to_owned())]).collect::<Vec<_>>(),
            )
        };
        let short_lived = of_days(2, &events);
        let long_lived = of_days(91, &[("TotalsCounter", "1"), ("PercentileCounter", "1")]);
        for body in [short_lived, long_lived] {
            assert_eq!(lab.post("/post", &[], body.as_bytes()).await.status, 200);
        }
    }
    lab.record("live", &[("alive", "CounterGroup", "1")]).await;
    lab.committed().await;
    assert_eq!(lab.get("/names").await.body.lines().count(), 3 * 7 + 1);
    assert_eq!(lab.get("/clients").await.body, "live\nold.1\nold.2\n");
    let alive = lab.get("/tabs?name=alive").await.body;
    lab.sweep("/gc", "prune").await;
    assert_eq!(lab.get("/names").await.body, "alive\n");
    assert_eq!(lab.get("/types").await.body, "alive: CounterGroup\n");
    assert_eq!(lab.get("/clients").await.body, "live\n");
    assert_eq!(lab.get("/ids").await.body.lines().count(), 4);
    assert!(alive.contains("\"1d\": {\"count\": 1, \"total\": 1.00"), "{alive}");
    assert!(lab.get("/tabs").await.body.contains("\"1d\": {\"count\": 1, \"total\": 1.00"));
    lab.stop().await;
}

/// Posts and queries until told to stop: how many events were posted, and the longest a query took.
async fn load_until(lab: &Lab, stop: &Cell<bool>) -> (usize, Duration) {
    let (mut posted, mut longest) = (0, Duration::ZERO);
    while !stop.get() {
        let event = body("live", &[("live", "TotalsCounter", "1")]);
        let query = async {
            let started = Instant::now();
            (lab.get("/tabs?name=live,dead.1").await.status, started.elapsed())
        };
        let (post, (status, elapsed)) = tokio::join!(lab.post("/post", &[], event.as_bytes()), query);
        assert_eq!((post.status, status), (200, 200));
        posted += 1;
        longest = longest.max(elapsed);
    }
    (posted, longest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_time_totals_keep_what_forgotten_clients_recorded() {
    let lab = Lab::start_busy(TempDir::new().unwrap()).await;
    let events = ["TotalsCounter", "PercentileCounter"].map(|name| (name.to_owned(), name, "1".to_owned()));
    let reply = lab.post("/post", &[], days_ago(91, "old", &events).as_bytes()).await;
    assert_eq!(reply.status, 200);
    let events = ["TotalsCounter", "PercentileCounter"].map(|name| (name, name, "1"));
    lab.record("live", &events).await;
    lab.committed().await;
    let totals = lab.get("/tabs").await.body;
    assert!(
        totals.contains("TotalsCounter: {\"count\": 2, ")
            && totals.contains("PercentileCounter: {\"count\": 2, ")
    );
    for (path, task) in [("/gc", "prune"), ("/check?dry=false", "check")] {
        lab.sweep(path, task).await;
        assert_eq!(lab.get("/clients").await.body, "live\n");
        assert_eq!(lab.get("/tabs").await.body, totals, "after {path}");
    }
    assert_eq!(lab.metric("taba_sweep_mismatches_total").await, 0.0);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pruning_thousands_of_states_under_load_holds_up_no_query() {
    let lab = Lab::start_busy(TempDir::new().unwrap()).await;
    let dead: Vec<_> = (0..1000).map(|n| (format!("dead.{n}"), "CounterGroup", "1".to_owned())).collect();
    for client in 0..10 {
        let body = days_ago(2, &format!("old.{client}"), &dead);
        assert_eq!(lab.post("/post", &[], body.as_bytes()).await.status, 200);
    }
    lab.applied().await;
    lab.committed().await;
    assert_eq!(lab.get("/names").await.body.lines().count(), 1000);
    let is_pruned = Cell::new(false);
    let prune = async {
        lab.sweep("/gc", "prune").await;
        is_pruned.set(true);
    };
    let ((), (posted, longest)) = tokio::join!(prune, load_until(&lab, &is_pruned));
    // The first Taba never answered again; the bound only allows for a busy machine.
    assert!(longest < Duration::from_secs(5), "a query took {longest:?}");
    assert_eq!(lab.metric("taba_sweep_states_pruned_total").await, 10_000.0);
    lab.applied().await;
    let live = format!("live: {{\"count\": {posted}, \"total\": {posted}.00, \"average\": 1.00}}\n");
    assert_eq!(lab.get("/tabs").await.body, live);
    assert_eq!(lab.get("/clients").await.body, "live\n");
    lab.stop().await;
}
