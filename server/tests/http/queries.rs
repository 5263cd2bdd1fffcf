//! Queries: parameters, formats, patterns, errors.

use std::time::{Duration, Instant};

use crate::lab::{Lab, body};

/// Two clients, four tabs of types whose renderings do not depend on the time.
async fn filled() -> Lab {
    let lab = Lab::start().await;
    lab.record("k1", &[("gl", "Gauge", "\"first\""), ("tot", "TotalsCounter", "3"), ("a;b+c", "Gauge", "1")])
        .await;
    lab.record(
        "k2",
        &[("gl", "Gauge", "\"zz\""), ("tot", "TotalsCounter", "4.5"), ("only.k2", "Gauge", "2")],
    )
    .await;
    lab
}

const TOT: &str = r#"{"count": 2, "total": 7.50, "average": 3.75}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_has_its_text_and_json_form() {
    let lab = filled().await;
    let mut forms = String::new();
    for path in ["/tabs", "/projection", "/supertabs?name=tot", "/clients", "/names", "/types", "/ids"] {
        for accept in ["text/plain", "application/json"] {
            let reply = lab.get_as(path, accept).await;
            assert_eq!(reply.status, 200);
            assert_eq!(reply.header("taba-incomplete"), "");
            forms.push_str(&format!("GET {path} as {accept}\n{}\n---\n", reply.body));
        }
    }
    insta::assert_snapshot!(forms);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_clients_and_patterns_choose() {
    let lab = filled().await;
    let names = [
        ("/names", "a;b+c\ngl\nonly.k2\ntot\n"),
        ("/names?name=", "a;b+c\ngl\nonly.k2\ntot\n"),
        ("/names?name=tot,gl,unknown", "gl\ntot\n"),
        ("/names?name=a%3Bb%2Bc", "a;b+c\n"),
        ("/names?client=k2", "gl\nonly.k2\ntot\n"),
        ("/names?client=k2&name=only.k2,a%3Bb%2Bc", "only.k2\n"),
        ("/names?client=nobody", ""),
        ("/names?re&name=o", "only.k2\n"),
        ("/names?re=false;name=.*t", "tot\n"),
        ("/names?re&name=gl|tot", "gl\ntot\n"),
        ("/names?re&client=k[1]", "a;b+c\ngl\ntot\n"),
        ("/names?name=tot&name=gl", "gl\n"),
        ("/clients?client=k1,zz", "k1\n"),
        ("/clients?re&client=.2", "k2\n"),
        ("/types?name=tot", "tot: TotalsCounter\n"),
        ("/types?re&name=a", "a;b+c: Gauge\n"),
    ];
    for (path, expected) in names {
        assert_eq!(lab.get(path).await.body, expected, "{path}");
    }
    let one = r#"tot: {"count": 1, "total": 3.00, "average": 3.00}"#;
    assert_eq!(lab.get("/tabs?name=tot&client=k1").await.body, format!("{one}\n"));
    assert_eq!(lab.get("/tabs?name=tot&client=k1,k2").await.body, format!("tot: {TOT}\n"));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_may_come_in_a_json_body() {
    let lab = filled().await;
    let names = async |path: &str, body: &str| {
        let reply = lab.post(path, &[], body.as_bytes()).await;
        (reply.status, reply.body)
    };
    assert_eq!(names("/names", r#"{"name": "tot,gl"}"#).await, (200, "gl\ntot\n".to_owned()));
    assert_eq!(names("/names?name=gl", r#"{"name": "tot", "client": "k1"}"#).await, (200, "gl\n".to_owned()));
    assert_eq!(names("/names", "").await.0, 200);
    for body in ["name=tot", "[\"tot\"]", r#"{"name": ["tot"]}"#, "{"] {
        assert_eq!(names("/names", body).await.0, 400, "{body}");
    }
    let long = format!("{{\"name\": \"{}\"}}", "a,".repeat(60_000));
    assert_eq!(names("/names", &long).await.0, 413);
    let reply = lab.send("GET", "/names", &[], br#"{"name": "tot"}"#).await;
    assert_eq!(reply.body, "tot\n");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_requests_get_clear_errors() {
    let lab = Lab::start().await;
    for (method, path, status, text) in [
        ("GET", "/tabs?foo=1", 400, "Invalid parameters: foo\n"),
        ("GET", "/clients?name=a", 400, "Invalid parameters: name\n"),
        ("GET", "/ids?name=a", 400, "Invalid parameters: name\n"),
        ("GET", "/nope", 404, "Not found: '/nope'\n"),
        ("GET", "/tabs/", 404, "Not found: '/tabs/'\n"),
        ("GET", "/", 404, "Not found: '/'\n"),
        ("PUT", "/tabs", 405, "Method not allowed.\n"),
        ("GET", "/post", 405, "Method not allowed.\n"),
    ] {
        let reply = lab.send(method, path, &[], b"").await;
        assert_eq!((reply.status, reply.body.as_str()), (status, text), "{method} {path}");
        assert_eq!(reply.header("content-type"), "text/plain; charset=utf-8", "{method} {path}");
    }
    for path in ["/tabs?re&name=(", "/names?re&name=a)(b", "/clients?re&client=[", "/tabs?name=%ff"] {
        assert_eq!(lab.get(path).await.status, 400, "{path}");
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_match_is_an_empty_answer_in_each_form() {
    let lab = Lab::start().await;
    for (path, text, json) in [
        ("/tabs", "", "{}"),
        ("/projection", "", "{}"),
        ("/supertabs", "\n", ""),
        ("/clients", "", "[]"),
        ("/names", "", "[]"),
        ("/types", "", "{}"),
        ("/ids", "Names:\nClients:\n", r#"{"clients": {}, "names": {}}"#),
    ] {
        assert_eq!(lab.get(path).await.body, text, "{path}");
        assert_eq!(lab.get_as(path, "application/json").await.body, json, "{path}");
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_answers_as_get_without_a_body() {
    let lab = filled().await;
    for path in ["/tabs", "/names", "/status", "/livez", "/nope"] {
        let (get, head) = (lab.get(path).await, lab.send("HEAD", path, &[], b"").await);
        assert_eq!((head.status, head.body.as_str()), (get.status, ""), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tabs_of_different_types_do_not_merge() {
    let lab = filled().await;
    assert_eq!(lab.get("/supertabs?name=tot").await.body, format!("{TOT}\n"));
    let merged = lab.get_as("/supertabs?name=gl,only.k2", "application/json").await.json();
    assert_eq!(merged.as_object().unwrap().len(), 2, "one value per client: {merged}");
    let reply = lab.get("/supertabs?name=gl,tot").await;
    assert_eq!(reply.status, 400);
    assert!(reply.body.contains("Gauge and TotalsCounter"), "{}", reply.body);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_gives_the_encoded_state_in_hexadecimal() {
    let lab = filled().await;
    let text = lab.get("/tabs?raw&name=tot").await.body;
    let hex = text.strip_prefix("tot: ").unwrap().trim_end();
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let mut rendered = String::new();
    let state = taba_core::State::decode(&bytes).unwrap();
    state.render(taba_server::clock::now(), taba_core::Format::Plain, &mut rendered);
    assert_eq!(rendered, TOT);
    assert_eq!(lab.get_as("/tabs?raw&name=tot", "application/json").await.json()["tot"], hex);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gauge_that_is_not_ascii_does_not_break_the_query_for_all_tabs() {
    let lab = filled().await;
    lab.record("k1", &[("utf8", "Gauge", "\"≈ 😀 \\\\ \\\"\"")]).await;
    let json = lab.get_as("/tabs", "application/json").await.json();
    assert_eq!(json.as_object().unwrap().len(), 5);
    assert_eq!(json["utf8"]["≈ 😀 \\ \""], 1);
    assert!(lab.get("/tabs").await.body.contains(TOT));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_that_would_backtrack_for_ever_is_quick() {
    let lab = Lab::start().await;
    let long = "a".repeat(200);
    lab.record("c", &[(&long, "Gauge", "1")]).await;
    let started = Instant::now();
    let reply = lab.get("/names?re&name=(a%2Ba%2B)%2Bb").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
    let huge = lab.get("/names?re&name=((a{1000}){1000}){1000}").await;
    assert_eq!(huge.status, 400);
    // Backtracking would take longer than the universe is old; the bound only allows for a busy machine.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tabs_come_whole_and_in_order_over_pages_and_pieces() {
    let lab = Lab::start().await;
    let names: Vec<String> = (0..3000).map(|n| format!("tab.{n:05}")).collect();
    let events: Vec<_> = names.iter().map(|name| (name.as_str(), "TotalsCounter", "1")).collect();
    lab.record("c", &events).await;
    let reply = lab.get("/tabs").await;
    assert_eq!(reply.header("transfer-encoding"), "chunked");
    let listed: Vec<&str> = reply.body.lines().map(|line| line.split_once(':').unwrap().0).collect();
    assert!(listed == names);
    for path in ["/tabs", "/types"] {
        assert_eq!(
            lab.get_as(path, "application/json").await.json().as_object().unwrap().len(),
            3000,
            "{path}"
        );
    }
    let by_client = lab.get_as("/projection", "application/json").await.json();
    assert_eq!(by_client["c"].as_object().unwrap().len(), 3000);
    assert_eq!(lab.get("/projection").await.body.lines().count(), 3000);
    assert_eq!(
        lab.get("/supertabs").await.body,
        "{\"count\": 3000, \"total\": 3000.00, \"average\": 1.00}\n"
    );
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_endpoints_speak_of_this_server() {
    let lab = Lab::start().await;
    lab.post("/post", &[], body("c", &[("t", "Gauge", "1")]).as_bytes()).await;
    let servers = lab.get("/servers").await;
    assert_eq!(servers.body, "taba_server.vm.28301: ['be', 'fe']\n");
    let servers = lab.get_as("/servers", "application/json").await;
    assert_eq!(servers.body, r#"{"taba_server.vm.28301": ["be", "fe"]}"#);
    let text = lab.get("/status").await.body;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "Servers: 1");
    assert!(lines[1].starts_with("Max Age: ") && lines[1].ends_with(" s"), "{text}");
    assert!(lines[2].starts_with("Tasks:   "), "{text}");
    assert_eq!(lines[4], "                     | R. Ld |  Wgt |  Qs | Tsks |  Age");
    assert!(lines[5].starts_with("taba_server.vm.28301 |    +0 | 1000 |  16 | "), "{text}");
    let status = lab.get_as("/status", "application/json").await.json();
    assert_eq!(status["servers"]["taba_server.vm.28301"]["queues"], 16);
    for key in ["cluster_aggregate", "enqueue_avg", "max_age", "processed_avg", "total_tasks"] {
        assert!(status[key].is_number(), "{key} in {status}");
    }
    let latency = lab.get_as("/latency", "application/json").await.json();
    assert!(latency["enqueue_avg"].as_f64().unwrap() > 0.0);
    let text = lab.get("/latency").await.body;
    let keys: Vec<&str> = text.lines().map(|line| line.split_once(": ").unwrap().0).collect();
    assert_eq!(keys, ["cluster_aggregate", "enqueue_avg", "processed_avg"]);
    lab.stop().await;
}
