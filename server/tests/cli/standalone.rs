//! Starting and stopping.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::process::{Server, eventually, fail, succeed};

/// Events in the tab `load`, as soon as every vbucket answers.
fn count(server: &Server) -> u64 {
    let answer = eventually("a complete answer", || {
        let text = succeed(&["query", "load", "--json", "--server", &server.address]);
        let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        (answer["completeness"]["complete"] == true).then_some(answer)
    });
    answer["tabs"][0]["windows"][3]["count"].as_u64().expect("the window of a day")
}

/// Posts events one by one until the server refuses or goes away. `begun` and `acknowledged` bound what
/// it may have counted.
fn post_until_stopped(address: &str, producer: usize, begun: &AtomicU64, acknowledged: &AtomicU64) {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    for sequence in 1_u64.. {
        let now = taba_server::clock::now().as_secs_f64();
        let body = format!("1\n\nc{producer}\n\nload\n[\"CounterGroup\", {now}, \"1\"]\n\n\n");
        begun.fetch_add(1, Ordering::SeqCst);
        let answer = agent
            .post(format!("http://{address}/post"))
            .header("Idempotency-Key", format!("p{producer}/{sequence}"))
            .send(body);
        match answer {
            Ok(answer) if answer.status() == 200 => acknowledged.fetch_add(1, Ordering::SeqCst),
            _ => return,
        };
    }
}

#[test]
fn sigterm_under_load_drains_exits_0_and_a_restart_has_every_acknowledged_event() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let (begun, acknowledged) = (AtomicU64::new(0), AtomicU64::new(0));
    let server = Server::start(data.path());
    let address = server.address.clone();
    thread::scope(|scope| {
        for producer in 0..4 {
            let (address, begun, acknowledged) = (&address, &begun, &acknowledged);
            scope.spawn(move || post_until_stopped(address, producer, begun, acknowledged));
        }
        eventually("traffic", || (acknowledged.load(Ordering::SeqCst) > 50).then_some(()));
        server.stop();
    });
    let (begun, acknowledged) = (begun.into_inner(), acknowledged.into_inner());

    let server = Server::start(data.path());
    let counted = count(&server);
    assert!((acknowledged..=begun).contains(&counted), "{acknowledged} <= {counted} <= {begun}");
    server.stop();
}

#[test]
fn a_second_server_on_the_same_folder_is_refused() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let folder = data.path().to_str().expect("UTF-8");
    let server = Server::start(data.path());
    let error = fail(&["standalone", "--data", folder, "--listen", "127.0.0.1:0"]);
    assert!(error.contains(&format!("open data folder {folder}")), "{error}");
    assert!(error.contains("in use by another process"), "{error}");
    server.stop();
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(&data.path().join("first"));
    let other = data.path().join("second");
    let error = fail(&["standalone", "--data", other.to_str().expect("UTF-8"), "--listen", &server.address]);
    assert!(error.contains(&format!("listen on {}; another program is there", server.address)), "{error}");
    assert!(!other.exists(), "a refused start leaves nothing behind");
    server.stop();
}

#[test]
fn a_folder_of_another_vbucket_count_is_refused() {
    let data = tempfile::tempdir().expect("a temporary folder");
    Server::start(data.path()).stop();
    let folder = data.path().to_str().expect("UTF-8");
    let error = fail(&["standalone", "--data", folder, "--listen", "127.0.0.1:0", "--store-vbuckets", "8"]);
    assert!(error.contains("made with 64 vbuckets, not 8"), "{error}");
}

#[test]
fn a_second_signal_stops_at_once() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut server = Server::start(data.path());
    // A post that never ends keeps the first signal's drain waiting.
    let mut slow = TcpStream::connect(&server.address).expect("a listening server");
    slow.write_all(b"POST /post HTTP/1.1\r\nHost: taba\r\nContent-Length: 100\r\n\r\n1\n\n").expect("room");
    // Its connection was accepted before that of this question, which was answered.
    succeed(&["tabs", "--server", &server.address]);
    server.signal(Signal::TERM);
    server.wait_for_log("stopping");
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(130));
}
