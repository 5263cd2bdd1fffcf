//! The test vectors of the first Taba, byte for byte.

use crate::lab::{Lab, body};

const BODY: &str =
    "310a0a63310a0a6e310a5b22436f756e74657247726f7570222c20313339343034373831322e33352c202231225d0a0a0a";
const ZLIB: &str = "789c33e4e24a36e4e2ca33e48a5672ce2fcd2b492d722fca2f2d50d2513034b634313031b73034d23336d5515032548ae5e2e202002f110b48";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_bodies_are_taken_plain_and_zipped() {
    let lab = Lab::start().await;
    for (path, hex, length) in [("/post", BODY, 49), ("/post_zip", ZLIB, 57)] {
        let body = bytes(hex);
        assert_eq!(body.len(), length);
        let reply = lab.post(path, &[], &body).await;
        assert_eq!(
            (reply.status, reply.body.as_str(), reply.header("content-length")),
            (200, "", "0"),
            "{path}"
        );
    }
    assert_eq!(lab.metric("taba_events_accepted_total").await, 2.0);
    let counted = lab.post("/v2/batch", &[("Content-Type", "text/plain")], &bytes(BODY)).await;
    assert_eq!(counted.body, r#"{"events":1,"bad":{},"duplicate":false}"#);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checksum_of_the_example_is_checked() {
    let lab = Lab::start().await;
    let whole = bytes(ZLIB);
    let (stream, checksum) = whole.split_at(whole.len() - 4);
    assert_eq!(checksum, bytes("2f110b48"));
    let wrong = [stream, &bytes("2f110b49")].concat();
    assert_eq!(lab.post("/post_zip", &[], &wrong).await.status, 400);
    assert_eq!(lab.metric("taba_events_accepted_total").await, 0.0);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_renders_as_the_first_taba_did() {
    let lab = Lab::start().await;
    let percentiles: Vec<_> = (1..=100).map(|n: u32| n.to_string()).collect();
    let mut events = vec![
        ("ctr", "CounterGroup", "100"),
        ("ctr", "CounterGroup", "1000"),
        ("neg", "CounterGroup", "-5"),
        ("neg", "CounterGroup", "[7]"),
        ("neg", "CounterGroup", "true"),
        ("tot", "TotalsCounter", "[3]"),
        ("tot", "TotalsCounter", "[4.7]"),
        ("gl", "Gauge", "\"value\""),
    ];
    events.extend(percentiles.iter().map(|n| ("pg", "PercentileGroup", n.as_str())));
    lab.record("c1", &events).await;
    lab.record("c2", &[("gl", "Gauge", "\"value\"")]).await;
    let reply = lab.get("/tabs").await;
    let line = |tab: &str| {
        let mut lines = reply.body.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(name, _)| *name == tab).unwrap_or_else(|| panic!("no {tab} in {}", reply.body)).1
    };
    let window = r#"{"count": 2, "total": 1100.00, "average": 550.00}"#;
    let pct = r#"{"count": 2, "total": 1100.000000, "pct": [100.00, 1000.00, 1000.00, 1000.00, 1000.00, 1000.00, 1000.00]}"#;
    let expected =
        format!(r#"{{"1m": {window}, "10m": {window}, "1h": {window}, "1d": {window}, "pct": {pct}}}"#);
    assert_eq!(line("ctr"), expected);
    assert!(line("neg").contains("\"pct\": [-5.00, 1.00, 7.00, 7.00, 7.00, 7.00, 7.00]"), "{}", line("neg"));
    assert!(line("neg").contains(r#"{"count": 3, "total": 3.00, "average": 1.00}"#), "{}", line("neg"));
    assert!(line("pg").contains("[26.00, 51.00, 76.00, 91.00, 96.00, 100.00, 100.00]"), "{}", line("pg"));
    // The first Taba cut 4.7 to 4; fractions are kept here.
    assert_eq!(line("tot"), r#"{"count": 2, "total": 7.70, "average": 3.85}"#);
    assert_eq!(line("gl"), r#"{"value": 2}"#);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retried_batch_counts_once_and_a_batch_without_id_each_time() {
    let lab = Lab::start().await;
    let batch = body("c", &[("t", "TotalsCounter", "1")]);
    for _ in 0..3 {
        assert_eq!(lab.post("/post", &[("Idempotency-Key", "c:1f/1")], batch.as_bytes()).await.status, 200);
    }
    lab.applied().await;
    lab.eventually_is("/tabs?name=t", "t: {\"count\": 1, \"total\": 1.00, \"average\": 1.00}\n").await;
    assert_eq!(lab.metric("taba_batches_duplicate_total").await, 2.0);
    for _ in 0..2 {
        assert_eq!(lab.post("/post", &[], batch.as_bytes()).await.status, 200);
    }
    lab.eventually_is("/tabs?name=t", "t: {\"count\": 3, \"total\": 3.00, \"average\": 1.00}\n").await;
    for key in ["", "nothing", "c/x", "c/-1", "/1", "a b/1"] {
        let reply = lab.post("/post", &[("Idempotency-Key", key)], batch.as_bytes()).await;
        assert_eq!(reply.status, 400, "{key:?}: {reply:?}");
    }
    let window = taba_core::batch::SEQUENCE_WINDOW;
    let newest = format!("c:1f/{}", 2 * window);
    assert_eq!(lab.post("/post", &[("Idempotency-Key", &newest)], batch.as_bytes()).await.status, 200);
    assert_eq!(lab.post("/post", &[("Idempotency-Key", "c:1f/2")], batch.as_bytes()).await.status, 409);
    lab.stop().await;
}
