//! Commands that ask a server.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use serde_json::Value;

use crate::process::{Server, eventually, fail, succeed, taba};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn what_is_recorded_is_listed_queried_and_ranked() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(data.path());
    let at = server.address.as_str();
    let printed = succeed(&["record", "visits", "2.5", "--client", "me", "--server", at]);
    assert!(printed.starts_with("acknowledged: CounterGroup visits 2.5 at "), "{printed}");
    let printed =
        json(&succeed(&["record", "version", "v1 beta", "--type", "Gauge", "--json", "--server", at]));
    assert_eq!(printed["value"], "v1 beta");

    let tabs = ["tabs", "--server", at];
    let listed = eventually("both tabs", || Some(succeed(&tabs)).filter(|text| text.lines().count() == 3));
    assert_eq!(listed, "tab      type\nversion  Gauge\nvisits   CounterGroup\n");

    let answer = json(&succeed(&["query", "vis*", "--json", "--server", at]));
    assert_eq!(answer["tabs"][0]["windows"][0]["sum"], 2.5);
    let text = succeed(&["query", "visits", "version", "--server", at]);
    assert!(
        text.contains("visits  (CounterGroup)\nwindow  events") && text.contains("{\"v1 beta\":1}"),
        "{text}"
    );
    let none = fail(&["query", "visits", "--clients", "nobody", "--server", at]);
    assert!(none.contains("no tab visits"), "{none}");

    let top = json(&succeed(&["top", "--once", "--json", "--server", at]));
    assert_eq!((&top["tabs"][0]["tab"], &top["tabs"][0]["count"]), (&Value::from("visits"), &Value::from(1)));
    assert!(succeed(&["top", "--once", "--server", at]).contains("visits  CounterGroup"));
    server.stop();
}

#[test]
fn tail_prints_a_line_for_a_change_and_stops_after_as_many_as_asked() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(data.path());
    let at = server.address.as_str();
    let mut tail = taba(&["tail", "vis*", "-n", "1", "--interval", "20ms", "--server", at])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // Only what comes after this note counts as a change.
    let mut note = String::new();
    let stderr = tail.stderr.take().expect("piped above");
    BufReader::new(stderr).read_line(&mut note).expect("a readable pipe");
    assert!(note.contains("watching; 0 tabs so far"), "{note}");

    succeed(&["record", "visits", "1", "--server", at]);
    eventually("tail to end", || tail.try_wait().expect("a child of ours"));
    let mut line = String::new();
    tail.stdout.take().expect("piped above").read_to_string(&mut line).expect("UTF-8");
    assert!(line.ends_with("Z  visits  +1  (1 in 1m)\n"), "{line}");
    server.stop();
}

#[test]
fn without_a_server_commands_say_what_to_do() {
    // Port 9 (discard) is served nowhere that tests run.
    let at = "127.0.0.1:9";
    let expected = "cannot connect to http://127.0.0.1:9; is `taba standalone` running there?";
    for args in
        [vec!["query", "x"], vec!["tabs"], vec!["top"], vec!["record", "x", "1", "--give-up-after", "0s"]]
    {
        let error = fail(&[args.as_slice(), &["--server", at]].concat());
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_a_server_would_not_count_is_refused_before_it_is_sent() {
    for (args, expected) in [
        (["record", "visits", "many"], "a CounterGroup takes a number"),
        (["record", "two words", "1"], "tab \"two words\": byte 0x20 at offset 3"),
    ] {
        let error = fail(&args);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_refused_configuration_names_place_and_remedy() {
    let error = fail(&["standalone", "--limits-head-timeout", "10"]);
    assert!(
        error.contains("flag --limits-head-timeout: limits.head_timeout is \"10\"; expected a duration"),
        "{error}"
    );
}
