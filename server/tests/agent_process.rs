//! The agent as a process, between real posts and a real server or a peer that shows the bytes.

#[path = "agent_support/bounds.rs"]
mod bounds;
#[path = "agent_support/disk.rs"]
mod disk;
#[path = "../../client/tests/support/peer.rs"]
mod peer;
#[path = "agent_support/process.rs"]
mod process;

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use peer::{PATIENCE, Peer, Reply, Request, dead_address, eventually};
use process::{LossyProxy, Taba, body};
use taba_client::Client;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn spool_flags(spool: &Path) -> [&str; 2] {
    ["--spool", spool.to_str().expect("a plain path")]
}

/// The id of a batch and the events of each of its parts.
fn batch(request: &Request) -> (String, Vec<u64>) {
    let batch = taba_core::wire::v2::Batch::decode(&request.body).expect("a good batch");
    let block = batch.inflate(16 << 20).expect("good parts");
    let events = taba_core::part::iter(&block).map(|part| match part.expect("a good part") {
        taba_core::Part::State { events, .. } => events,
        taba_core::Part::Delete { .. } => panic!("nothing is deleted"),
    });
    (batch.id.to_string(), events.collect())
}

/// A post of about 4 kB, half of that once compressed: one event with random bits in it.
fn noisy_post(agent: &Taba, number: u32) -> Option<u16> {
    let noise: String = (0..250).map(|_| format!("{:016x}", rand::random::<u64>())).collect();
    let line = format!("[\"Gauge\", {}, \"\\\"{noise}\\\"\"]", process::now_secs());
    agent.post("/post", &[], format!("1\n\nc\n\ngauge{number}\n{line}\n\n\n").as_bytes())
}

/// Nothing that was acknowledged waits in the agent any more.
fn delivered(agent: &Taba) {
    eventually("the agent has delivered everything", || {
        // In the direction events move: asked the other way round, some could slip from one to the other.
        agent.metric("taba_agent_buffered_events") == 0.0 && agent.metric("taba_agent_batches_held") == 0.0
    });
}

/// 8.2.2: the first Taba added a batch again when an answer was lost.
#[test]
fn totals_are_exact_though_answers_are_lost() {
    let data = folder();
    let server = Taba::standalone(data.path());
    let proxy = LossyProxy::before(server.address);
    let agent = Taba::agent(&["--server", &proxy.url]);
    for round in 0..20 {
        let sent = agent.post("/post", &[], body(&format!("c{}", round % 3), "lossy", 50).as_bytes());
        assert_eq!(sent, Some(200));
        // A batch of its own for each round, so that many answers can be lost.
        delivered(&agent);
    }
    assert!(proxy.lost() >= 10, "{} answers were lost", proxy.lost());
    eventually("the total is there", || server.count("lossy") >= 1_000);
    assert_eq!(server.count("lossy"), 1_000);
    assert_eq!(agent.metric("taba_agent_events_refused_total"), 0.0);
}

/// 8.1.9: stopping the first Taba's agent dropped all it held.
#[test]
fn acknowledged_posts_survive_kill_9_exactly_once() {
    let (data, spool) = (folder(), folder());
    let server = Taba::standalone(data.path());
    let proxy = LossyProxy::before(server.address);
    let flags = [&["--server", proxy.url.as_str()][..], &spool_flags(spool.path())].concat();
    let mut acknowledged = 0;
    for round in 0..6 {
        let agent = Taba::agent(&flags);
        for number in 0..20 + round {
            let sent = agent.post("/post", &[], body("c", "killed", 10).as_bytes());
            assert_eq!(sent, Some(200), "post {number} of round {round}");
            acknowledged += 10;
        }
        agent.kill();
    }
    let agent = Taba::agent(&flags);
    delivered(&agent);
    eventually("the total is there", || server.count("killed") >= acknowledged);
    assert_eq!(server.count("killed"), acknowledged);
    eventually("the spool is empty", || agent.metric("taba_agent_spool_bytes") == 0.0);
    let left: Vec<_> = std::fs::read_dir(spool.path()).expect("the folder").flatten().collect();
    assert!(left.iter().all(|entry| entry.file_name() == "lock"), "{left:?}");
}

#[test]
fn a_spool_holds_on_to_posts_while_no_server_answers() {
    let (data, spool) = (folder(), folder());
    let dead = dead_address();
    let agent = Taba::agent(&[&["--server", dead.as_str()][..], &spool_flags(spool.path())].concat());
    for _ in 0..10 {
        assert_eq!(agent.post("/post", &[], body("c", "spooled", 10).as_bytes()), Some(200));
    }
    eventually("batches are sealed", || agent.metric("taba_agent_batches_held") >= 1.0);
    agent.kill();
    let server = Taba::standalone(data.path());
    let agent = Taba::agent(&[&["--server", server.url().as_str()][..], &spool_flags(spool.path())].concat());
    delivered(&agent);
    eventually("the total is there", || server.count("spooled") >= 100);
    assert_eq!(server.count("spooled"), 100);
}

#[test]
fn sigterm_delivers_what_was_taken_in() {
    let data = folder();
    let server = Taba::standalone(data.path());
    let agent = Taba::agent(&["--server", &server.url(), "--flush-seconds", "3600"]);
    assert_eq!(agent.post("/post", &[], body("c", "drained", 7).as_bytes()), Some(200));
    assert!(agent.terminate());
    eventually("the total is there", || server.count("drained") >= 7);
    assert_eq!(server.count("drained"), 7);
}

#[test]
fn a_drain_is_bounded_while_no_server_answers() {
    let dead = dead_address();
    let agent = Taba::agent(&["--server", &dead, "--drain-seconds", "1"]);
    assert_eq!(agent.post("/post", &[], body("c", "t", 1).as_bytes()), Some(200));
    let began = Instant::now();
    assert!(agent.terminate());
    assert!(began.elapsed() < PATIENCE / 2, "the drain took {:?}", began.elapsed());
}

#[test]
fn a_post_with_a_key_counts_once_however_often_it_is_sent() {
    let data = folder();
    let server = Taba::standalone(data.path());
    let agent = Taba::agent(&["--server", &server.url()]);
    let post = body("c", "keyed", 5);
    for _ in 0..3 {
        assert_eq!(agent.post("/post", &[("Idempotency-Key", "app:1/1")], post.as_bytes()), Some(200));
        delivered(&agent);
    }
    assert_eq!(agent.post("/post", &[("Idempotency-Key", "app:1/2")], post.as_bytes()), Some(200));
    eventually("the total is there", || server.count("keyed") >= 10);
    delivered(&agent);
    assert_eq!(server.count("keyed"), 10);
    assert_eq!(agent.post("/post", &[("Idempotency-Key", "nonsense")], post.as_bytes()), Some(400));
}

#[test]
fn a_clients_batch_passes_through_unchanged_under_its_own_id() {
    let peer = Peer::start(|_, _| Reply::Status(200));
    let agent = Taba::agent(&["--server", &peer.url()]);
    let client = Client::builder(agent.url()).client_id("app").start().expect("a client");
    client.counter("t").increment();
    client.flush(PATIENCE).expect("the agent takes it");
    let request = peer.wait_for(1).remove(0);
    assert_eq!(request.line, "POST /v2/batch HTTP/1.1");
    let batch = taba_core::wire::v2::Batch::decode(&request.body).expect("a good batch");
    assert_eq!(request.header("Idempotency-Key"), Some(batch.id.to_string().as_str()));
    assert!(batch.id.producer.as_str().starts_with("app:"), "{}", batch.id);
    // What is no batch is refused at once rather than by a server later.
    assert_eq!(agent.post("/v2/batch", &[], b"no batch"), Some(400));
    let other = [("Idempotency-Key", "app:2/1")];
    assert_eq!(agent.post("/v2/batch", &other, &request.body), Some(400));
}

#[test]
fn small_posts_become_one_compact_batch() {
    let peer = Peer::start(|_, _| Reply::Status(200));
    let agent = Taba::agent(&["--server", &peer.url(), "--flush-seconds", "3600"]);
    for number in 0..100 {
        let sent = agent.post("/post", &[], body("c", &format!("t{}", number % 2), 10).as_bytes());
        assert_eq!(sent, Some(200));
    }
    assert!(agent.terminate());
    let requests = peer.requests();
    assert_eq!(requests.len(), 1);
    let (_, events) = batch(&requests[0]);
    assert_eq!(events, [500, 500]);
}

/// 8.3.5: batches of a dead endpoint never moved, and its backlog filled the agent.
#[test]
fn a_dead_server_costs_nothing_while_another_lives() {
    let peer = Peer::start(|_, _| Reply::Status(200));
    let dead = dead_address();
    let agent = Taba::agent(&["--server", &dead, "--server", &peer.url()]);
    for _ in 0..20 {
        assert_eq!(agent.post("/post", &[], body("c", "t", 1).as_bytes()), Some(200));
    }
    delivered(&agent);
    assert_eq!(agent.metric("taba_agent_events_acknowledged_total"), 20.0);
}

/// 8.3.6: 900 attempts a second, 69 % of a core and 1 MB of log a second against a refusing endpoint.
#[test]
fn a_refusing_server_is_asked_seldom() {
    let peer = Peer::start(|_, _| Reply::Status(503));
    let agent = Taba::agent(&["--server", &peer.url()]);
    let began = Instant::now();
    assert_eq!(agent.post("/post", &[], body("c", "t", 1).as_bytes()), Some(200));
    peer.wait_for(3);
    // "At capacity" without a word for how long means at least a second.
    assert!(began.elapsed() >= Duration::from_secs(2), "three attempts in {:?}", began.elapsed());
}

/// 8.3.7.
#[test]
fn a_refused_batch_is_counted_and_not_tried_again() {
    let peer = Peer::start(|number, _| Reply::Status(if number == 0 { 400 } else { 200 }));
    let agent = Taba::agent(&["--server", &peer.url()]);
    assert_eq!(agent.post("/post", &[], body("c", "t", 3).as_bytes()), Some(200));
    delivered(&agent);
    assert_eq!(agent.post("/post", &[], body("c", "t", 4).as_bytes()), Some(200));
    delivered(&agent);
    assert_eq!(peer.requests().len(), 2);
    assert_eq!(agent.metric("taba_agent_events_refused_total"), 3.0);
    assert_eq!(agent.metric("taba_agent_events_acknowledged_total"), 4.0);
}

/// 8.1.9: the first Taba's agent answered 200 when it was full, and threw the events away.
#[test]
fn a_full_agent_says_so_and_recovers() {
    let open = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&open);
    let peer = Peer::start(move |_, _| Reply::Status(if opened.load(Ordering::Acquire) { 200 } else { 503 }));
    let agent = Taba::agent(&["--server", &peer.url(), "--buffer-bytes", "1048576"]);
    // 1 MiB holds at most 512 of them.
    let taken = (0..5_000).take_while(|number| noisy_post(&agent, *number) == Some(200)).count();
    assert!((50..1_000).contains(&taken), "{taken} posts of 4 kB were taken into a buffer of 1 MiB");
    assert!(agent.metric("taba_agent_posts_at_capacity_total") >= 1.0);
    open.store(true, Ordering::Release);
    eventually("there is room again", || noisy_post(&agent, 5_000) == Some(200));
}

/// 8.1.10: one bad first line refused a whole flush, and the client then threw it away.
#[test]
fn only_what_cannot_be_read_at_all_is_refused() {
    let agent = Taba::agent(&["--flush-seconds", "0"]);
    let post = |body: &str| agent.post("/post", &[], body.as_bytes());
    assert_eq!(post("1\n\nc\n\nn\nnot json\n[\"CounterGroup\", 1394047812, \"1\"]\n\n\n"), Some(200));
    assert_eq!(agent.metric("taba_agent_events_total"), 1.0);
    assert_eq!(agent.metric("taba_agent_bad_events_total{reason=\"bad_json\"}"), 1.0);
    assert_eq!(post("1\n\nc\n\nn\nnot json\n\n\n"), Some(200));
    assert_eq!(post("2\n\nc\n\n"), Some(400));
    assert_eq!(post(""), Some(400));
    assert_eq!(post("1\n\n"), Some(400));
    assert_eq!(post("1\n\nc\n\nn\n\n\n"), Some(400));
    let huge = [("Content-Encoding", "br")];
    assert_eq!(agent.post("/post", &huge, b"x"), Some(415));
}

#[test]
fn status_has_both_forms_of_the_first_taba() {
    let agent = Taba::agent(&["--server", "http://127.0.0.1:1", "--flush-seconds", "0"]);
    assert_eq!(agent.post("/post", &[], body("c", "t", 4).as_bytes()), Some(200));
    let (status, text) = agent.get("/status");
    assert_eq!(status, 200);
    assert!(text.contains("\nall_events: 4\n") && text.contains("\nbuffered_events: 4\n"), "{text}");
    assert!(text.contains("  http://127.0.0.1:1/v2/batch: S: 750 |   +0 | B(     0,      0) | Q("), "{text}");
    let (_, json) = agent.get_as("/status", "application/json");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((json["all_events"].as_u64(), json["queued_requests"].as_u64()), (Some(4), Some(0)));
    assert_eq!(json["url_stats"]["http://127.0.0.1:1/v2/batch"]["shards"].as_u64(), Some(750));
    assert_eq!(agent.get("/livez"), (200, "ok\n".to_owned()));
}

#[test]
fn servers_of_the_first_taba_get_its_own_requests() {
    let peer = Peer::start(|number, _| Reply::Status(if number == 0 { 502 } else { 200 }));
    let agent = Taba::agent(&["--server", &peer.url(), "--server-protocol", "v1"]);
    let lines = "[\"CounterGroup\", 1394047812.35, \"1\"]\n[\"Gauge\",1,\"\\\"v\\\"\"]\n";
    let post = format!("1\n\nc1\n\nn1\n{lines}\n\n");
    let began = Instant::now();
    assert_eq!(agent.post("/post", &[], post.as_bytes()), Some(200));
    let requests = peer.wait_for(2);
    assert!(began.elapsed() >= Duration::from_secs(1), "502 was retried after {:?}", began.elapsed());
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(requests[1].line, "POST /post_zip HTTP/1.1");
    assert_eq!(requests[1].header("Content-Length"), Some(requests[1].body.len().to_string().as_str()));
    for absent in ["Content-Type", "Content-Encoding", "Idempotency-Key", "Transfer-Encoding"] {
        assert_eq!(requests[1].header(absent), None, "{absent}");
    }
    assert_eq!(requests[1].body[..2], [0x78, 0x9c]);
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(requests[1].body.as_slice()).read_to_string(&mut text).expect("zlib");
    assert_eq!(text, post);
    assert_eq!(agent.post("/v2/batch", &[], b"x"), Some(415));
}
