//! The checker as a program, against a server that keeps all, one that shows too much and one that loses: it is
//! only worth something if it ends with 1 when it must.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use taba_e2e::check::Verdict;
use taba_e2e::process::Server;

const PATIENCE: Duration = Duration::from_secs(60);

struct Checker {
    child: Child,
    desk: String,
}

impl Checker {
    /// Against `server`, giving up after `patience_secs`.
    fn start(server: &Server, folder: &Path, seed: u64, patience_secs: u64) -> Self {
        let file = folder.join(format!("desk-{seed}"));
        let child = Command::new(env!("CARGO_BIN_EXE_taba-check"))
            .args(["--url", &server.url(""), "--seed", &seed.to_string(), "--listen", "127.0.0.1:0"])
            .args(["--patience", &patience_secs.to_string(), "--listen-file"])
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the checker starts");
        let mut checker = Self { child, desk: String::new() };
        wait_for("the checker's desk", || {
            checker.desk = std::fs::read_to_string(&file).unwrap_or_default();
            checker.desk.contains(':')
        });
        checker.wait_for_batches(20);
        checker
    }

    fn state(&self) -> serde_json::Value {
        let url = format!("http://{}/state", self.desk);
        let text = ureq::get(&url).call().expect("the desk answers").into_body().read_to_string();
        serde_json::from_str(&text.expect("it answers in full")).expect("in JSON")
    }

    fn wait_for_batches(&self, more: u64) {
        let batches = || self.state()["batches"].as_u64().expect("it counts batches");
        let goal = batches() + more;
        wait_for("batches are acknowledged", || batches() >= goal);
    }

    /// Says stop, and gives the exit status and what it came to.
    fn stop(mut self) -> (Option<i32>, Verdict) {
        ureq::post(format!("http://{}/stop", self.desk)).send("{}").expect("the desk takes it");
        let mut status = None;
        wait_for("the checker's end", || {
            status = self.child.try_wait().expect("it is a child of ours");
            status.is_some()
        });
        let mut log = String::new();
        let mut output = self.child.stdout.take().expect("its output is piped");
        std::io::Read::read_to_string(&mut output, &mut log).expect("it printed text");
        (status.and_then(|status| status.code()), Verdict::from_log(&log).expect("it printed a verdict"))
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn server(folder: &Path) -> Server {
    Server::start(&folder.join("data"), &[]).expect("the server starts")
}

#[test]
fn a_server_that_keeps_everything_passes_twice_and_the_second_run_finds_what_the_first_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(folder.path());
    let (status, first) = Checker::start(&server, folder.path(), 1, 30).stop();
    assert_eq!((status, first.lost, first.doubled, first.found), (Some(0), 0, 0, 0), "{first:?}");
    assert!(first.acknowledged >= 20 * 40 && first.gap_ms > 0, "{first:?}");
    let (status, second) = Checker::start(&server, folder.path(), 2, 30).stop();
    assert_eq!((status, second.found), (Some(0), first.acknowledged), "{second:?}");
    assert!(second.acknowledged > second.found, "{second:?}");
}

#[test]
fn one_event_that_was_counted_twice_ends_it_with_1() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(folder.path());
    let checker = Checker::start(&server, folder.path(), 3, 5);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let event = format!("1\n\nproducer0\n\ntab1\n[\"CounterGroup\", {:.2}, \"1\"]\n\n\n", now.as_secs_f64());
    ureq::post(server.url("/post")).send(event).expect("the server takes it");
    checker.wait_for_batches(20);
    let (status, verdict) = checker.stop();
    assert_eq!((status, verdict.lost, verdict.doubled), (Some(1), 0, 1), "{verdict:?}");
}

#[test]
fn a_tab_that_is_lost_ends_it_with_1_and_is_missed_in_answers_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(folder.path());
    let checker = Checker::start(&server, folder.path(), 4, 5);
    // An answer may lack what was acknowledged in the last five seconds, so most must be older.
    wait_for("events that every answer must hold", || {
        let state = checker.state();
        let at_least = |name: &str, least: u64| state[name].as_u64().is_some_and(|number| number >= least);
        at_least("batches", 400) && at_least("elapsed_ms", 15_000)
    });
    ureq::post(server.url("/delete?name=tab1")).send("").expect("the server takes it");
    wait_for("an answer that lacks it", || {
        checker.state()["violations"].as_array().is_some_and(|violations| !violations.is_empty())
    });
    let (status, verdict) = checker.stop();
    assert!(status == Some(1) && verdict.lost > 0 && verdict.doubled == 0, "{verdict:?}");
    assert!(verdict.violations.iter().any(|said| said.contains("tab1 shows")), "{verdict:?}");
}
