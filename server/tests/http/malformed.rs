//! Malformed input: where the first Taba lost whole bundles with 200, one bad event is one bad event here.

use std::time::{Duration, Instant};

use taba_server::config::Limits;

use crate::lab::{Lab, PATIENCE, body, now_secs};

/// Posts a body under `/v2/batch`, which says what it counted: (status, events, bad events by reason).
async fn counted(lab: &Lab, body: &str) -> (u16, u64, String) {
    let reply = lab.post("/v2/batch", &[("Content-Type", "text/plain")], body.as_bytes()).await;
    if reply.status != 200 {
        return (reply.status, 0, reply.json()["error"]["code"].as_str().unwrap().to_owned());
    }
    let answer = reply.json();
    (200, answer["events"].as_u64().unwrap(), answer["bad"].to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_framing_is_refused_as_a_whole_with_its_offset() {
    let lab = Lab::start().await;
    let good = format!("c\n\nkept\n[\"TotalsCounter\", {}, \"1\"]\n\n\n", now_secs());
    for (what, body) in [
        ("wrong version", format!("2\n\n{good}")),
        ("no blank line after the version", format!("1\n{good}")),
        ("no blank line after a client", format!("1\n\n{good}d\nname\n[\"Gauge\", 1, \"1\"]\n\n\n")),
    ] {
        let reply = lab.post("/post", &[], body.as_bytes()).await;
        assert_eq!(reply.status, 400, "{what}: {reply:?}");
        assert!(reply.body.contains("unreadable framing at byte "), "{what}: {reply:?}");
        assert_eq!(counted(&lab, &body).await, (400, 0, "bad_framing".to_owned()), "{what}");
    }
    lab.applied().await;
    assert_eq!(lab.get("/names").await.body, "");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_without_events_are_fine_and_have_no_effect() {
    let lab = Lab::start().await;
    for body in ["", "1\n\n", "1\n\nclient\n\n\n", "1\n\nclient\n\nname\n\n\n"] {
        assert_eq!(lab.post("/post", &[], body.as_bytes()).await.status, 200, "{body:?}");
        assert_eq!(counted(&lab, body).await, (200, 0, "{}".to_owned()), "{body:?}");
    }
    assert_eq!(lab.post("/post_zip", &[], b"").await.status, 200);
    lab.applied().await;
    assert_eq!(lab.get("/types").await.body, "");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crlf_bodies_are_taken() {
    let lab = Lab::start().await;
    let body = body("c", &[("crlf", "TotalsCounter", "2")]).replace('\n', "\r\n");
    assert_eq!(counted(&lab, &body).await, (200, 1, "{}".to_owned()));
    lab.eventually_is("/tabs?name=crlf", "crlf: {\"count\": 1, \"total\": 2.00, \"average\": 2.00}\n").await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_event_is_counted_by_its_reason_and_its_neighbours_are_kept() {
    let lab = Lab::start().await;
    let now = now_secs();
    let rows = [
        ("not JSON".to_owned(), "bad_json"),
        ("{\"no\": \"array\"}".to_owned(), "bad_json"),
        (format!("[\"CounterGroup\", {now}]"), "bad_json"),
        (format!("[\"CounterGroup\", {now}, \"\\\"text\\\"\"]"), "bad_payload"),
        (format!("[\"CounterGroup\", {now}, \"NaN\"]"), "nan"),
        ("[\"CounterGroup\", \"soon\", \"1\"]".to_owned(), "bad_time"),
        (format!("[\"CounterGroup\", {}, \"1\"]", now + 3600), "future"),
        (format!("[\"CounterGroup\", {now}000, \"1\"]"), "future"),
    ];
    for (line, reason) in &rows {
        for (first, place) in [(true, "first"), (false, "second")] {
            let good = format!("[\"CounterGroup\", {now}, \"1\"]");
            let lines = if first { format!("{line}\n{good}") } else { format!("{good}\n{line}") };
            let body = format!("1\n\nc\n\nn\n{lines}\n\n\n");
            let expected = (200, 1, format!("{{\"{reason}\":1}}"));
            assert_eq!(counted(&lab, &body).await, expected, "{line} as the {place} event");
        }
    }
    assert_eq!(lab.metric("taba_events_bad_total{reason=\"bad_payload\"}").await, 2.0);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_typo_in_a_type_or_a_name_without_events_claims_no_name() {
    let lab = Lab::start().await;
    let now = now_secs();
    let unknown = format!("1\n\nc\n\nn\n[\"ConterGroup\", {now}, \"1\"]\n\n\n");
    assert_eq!(counted(&lab, &unknown).await, (200, 0, "{\"unknown_type\":1}".to_owned()));
    assert_eq!(counted(&lab, "1\n\nc\n\nn\n\n\n").await, (200, 0, "{}".to_owned()));
    lab.record("c", &[("n", "Gauge", "1")]).await;
    assert_eq!(lab.get("/types").await.body, "n: Gauge\n");
    // Another type later does not change the tab, and is dropped where the tab's type is known.
    let other = body("c", &[("n", "CounterGroup", "1")]);
    assert_eq!(lab.post("/post", &[], other.as_bytes()).await.status, 200);
    lab.applied().await;
    assert_eq!(lab.get("/tabs?name=n").await.body, "n: {\"1\": 1}\n");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_outside_the_rules_are_counted_and_not_stored() {
    let lab = Lab::start().await;
    let event = format!("[\"Gauge\", {}, \"1\"]", now_secs());
    for (client, tab) in [("c", "a b"), ("c", "a,b"), ("c", "é"), ("c d", "t")] {
        let body = format!("1\n\n{client}\n\n{tab}\n{event}\n\nok\n{event}\n\n\n");
        let (status, events, bad) = counted(&lab, &body).await;
        assert_eq!(status, 200);
        let kept = u64::from(client == "c");
        assert_eq!((events, bad), (kept, format!("{{\"bad_name\":{}}}", 2 - kept)), "{client} {tab}");
    }
    lab.applied().await;
    assert_eq!(lab.get("/names").await.body, "ok\n");
    assert_eq!(lab.get("/clients").await.body, "c\n");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_zlib_stream_is_refused_on_post_zip() {
    let lab = Lab::start().await;
    let plain = body("c", &[("t", "Gauge", "1")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, plain.as_bytes()).unwrap();
    for body in [plain.into_bytes(), gzip.finish().unwrap()] {
        let reply = lab.post("/post_zip", &[("Content-Encoding", "gzip")], &body).await;
        assert_eq!(reply.status, 400, "{reply:?}");
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_posts_leave_nothing_running_and_no_slot_taken() {
    let lab = Lab::start_with(Limits { posts_max: 4, ..Limits::default() }, None).await;
    let runtime = tokio::runtime::Handle::current();
    let before = runtime.metrics().num_alive_tasks();
    for _ in 0..50 {
        for (path, body) in [("/post", "2\n\n"), ("/post", "1\n\nc\nn\n"), ("/post_zip", "no zlib")] {
            assert_eq!(lab.post(path, &[], body.as_bytes()).await.status, 400);
        }
    }
    // A connection's task ends a moment after its client has read the answer.
    let deadline = Instant::now() + PATIENCE;
    while runtime.metrics().num_alive_tasks() > before {
        assert!(Instant::now() < deadline, "{} tasks, before {before}", runtime.metrics().num_alive_tasks());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    lab.record("c", &[("t", "Gauge", "1")]).await;
    assert_eq!(lab.get("/tabs").await.body, "t: {\"1\": 1}\n");
    lab.stop().await;
}
