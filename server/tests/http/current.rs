//! The current API under `/v2`, and that its OpenAPI document describes it.

use serde_json::{Value, json};
use taba_core::wire::v2::{BatchWriter, CONTENT_TYPE};
use taba_core::{Event, Part, Payload, State, TabType};

use crate::lab::{Lab, VBUCKETS, body};

/// A v2 batch under an id with one part: numbers folded for tab `t` of client `c`.
fn batch(id: &str, numbers: &[f64]) -> Vec<u8> {
    let now = taba_server::clock::now();
    let mut state = State::new(TabType::CounterGroup);
    for (ordinal, number) in numbers.iter().enumerate() {
        let event = Event { time: now, ordinal: ordinal as u32, payload: Payload::Number(*number) };
        state.fold("c", &event, now).unwrap();
    }
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    let mut writer = BatchWriter::new();
    writer.push(&Part::State { tab: "t", client: "c", events: numbers.len() as u64, state: &bytes });
    writer.finish(&id.parse().unwrap(), now)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_partial_states_count_once() {
    let lab = Lab::start().await;
    let bytes = batch("agent:1/1", &[1.0, 2.0, 3.0]);
    let as_batch = [("Content-Type", CONTENT_TYPE)];
    let first = lab.post("/v2/batch", &as_batch, &bytes).await;
    assert_eq!((first.status, first.body.as_str()), (200, r#"{"events":3,"bad":{},"duplicate":false}"#));
    let again = lab.post("/v2/batch", &as_batch, &bytes).await;
    assert_eq!(again.body, r#"{"events":3,"bad":{},"duplicate":true}"#);
    let agreeing = [("Content-Type", CONTENT_TYPE), ("Idempotency-Key", "agent:1/1")];
    assert_eq!(lab.post("/v2/batch", &agreeing, &bytes).await.json()["duplicate"], true);
    let differing = [("Content-Type", CONTENT_TYPE), ("Idempotency-Key", "agent:1/2")];
    let refused = lab.post("/v2/batch", &differing, &bytes).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (400, &json!("bad_idempotency_key")));
    lab.applied().await;
    let counted = lab.get("/v2/query?tab=t&windows=1h").await.json();
    assert_eq!(counted["tabs"][0]["windows"][0]["count"], 3);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_batches_are_refused_as_a_whole() {
    let lab = Lab::start().await;
    let bytes = batch("agent:1/1", &[1.0]);
    let as_batch = [("Content-Type", CONTENT_TYPE)];
    for cut in [0, 3, bytes.len() / 2, bytes.len() - 1] {
        let reply = lab.post("/v2/batch", &as_batch, &bytes[..cut]).await;
        assert_eq!(
            (reply.status, &reply.json()["error"]["code"]),
            (400, &json!("bad_batch")),
            "cut at {cut}"
        );
    }
    for content_type in ["", "application/json", "application/x-www-form-urlencoded"] {
        let headers: &[_] = if content_type.is_empty() { &[] } else { &[("Content-Type", content_type)] };
        assert_eq!(lab.post("/v2/batch", headers, &bytes).await.status, 415, "{content_type}");
    }
    lab.applied().await;
    assert_eq!(lab.get("/names").await.body, "");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_answer_windows_quantiles_values_and_completeness() {
    let lab = Lab::start().await;
    let hundred: Vec<String> = (1..=100).map(|n| n.to_string()).collect();
    let mut events: Vec<_> = hundred.iter().map(|n| ("lat", "CounterGroup", n.as_str())).collect();
    events.push(("mood", "Gauge", "\"fine\""));
    lab.record("c1", &events).await;
    lab.record("c2", &[("lat", "CounterGroup", "1000")]).await;
    let all = lab.get("/v2/query?q=0.5,0.99").await.json();
    assert_eq!(all["completeness"], json!({"complete": true, "missing_vbuckets": 0, "vbuckets": VBUCKETS}));
    assert_eq!(all["tabs"].as_array().unwrap().len(), 2);
    assert_eq!(all["tabs"][1], json!({"tab": "mood", "type": "Gauge", "windows": [], "value": {"fine": 1}}));
    let one = lab.get("/v2/query?tab=lat&client=c1&windows=1h,pct&q=0.5").await.json();
    let windows = one["tabs"][0]["windows"].as_array().unwrap();
    assert_eq!(windows.len(), 2, "{one}");
    for window in windows {
        assert_eq!(
            (&window["count"], &window["sum"], &window["average"]),
            (&json!(100), &json!(5050.0), &json!(50.5))
        );
    }
    let with_sketch = windows.iter().find(|window| !window["quantiles"].as_array().unwrap().is_empty());
    let window = with_sketch.expect("a window with a distribution");
    let error = window["relative_error"].as_f64().unwrap();
    assert!(error <= 0.0101, "{error}");
    let median = window["quantiles"][0]["value"].as_f64().unwrap();
    assert!((median - 51.0).abs() <= 1.0 + 51.0 * error, "{median}");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_follow_each_other_without_gap_or_overlap() {
    let lab = Lab::start().await;
    let names: Vec<String> = (0..25).map(|n| format!("p.{n:02}")).chain(["q".to_owned()]).collect();
    let events: Vec<_> = names.iter().map(|name| (name.as_str(), "TotalsCounter", "1")).collect();
    lab.record("c", &events).await;
    for (path, key) in [("/v2/tabs", "name"), ("/v2/query", "tab")] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = lab.get(&format!("{path}?prefix=p.&limit=10&after={after}")).await.json();
            let tabs = page["tabs"].as_array().unwrap();
            assert!(tabs.len() <= 10);
            seen.extend(tabs.iter().map(|tab| tab[key].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(seen, names[..25], "{path}");
    }
    let by_pattern = lab.get("/v2/tabs?re=q|p.0[12]").await.json();
    assert_eq!(by_pattern["tabs"].as_array().unwrap().len(), 3);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_objects_unless_text_is_asked_for() {
    let lab = Lab::start().await;
    for path in [
        "/v2/query?foo=1",
        "/v2/query?q=2",
        "/v2/query?q=x",
        "/v2/query?windows=2m",
        "/v2/query?limit=0",
        "/v2/tabs?limit=1001",
        "/v2/tabs?tab=a&prefix=b",
        "/v2/tabs?re=(",
    ] {
        let reply = lab.get(path).await;
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!("bad_parameter")), "{path}");
        assert_eq!(reply.header("content-type"), "application/json");
    }
    let reply = lab.get("/v2/nope").await;
    assert_eq!(reply.body, r#"{"error":{"code":"not_found","message":"Not found: '/v2/nope'"}}"#);
    let reply = lab.get("/v2/batch").await;
    assert_eq!((reply.status, reply.header("allow")), (405, "POST"));
    assert_eq!(reply.json()["error"]["code"], "method_not_allowed");
    let text = lab.get_as("/v2/query?foo=1", "text/plain").await;
    assert_eq!(text.body, "Invalid parameters: foo\n");
    lab.stop().await;
}

/// Checks a value against a schema of the document: types, members, items, references.
fn conforms(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema =
            document.pointer(reference.strip_prefix('#').unwrap()).expect("a reference that resolves");
        return conforms(document, schema, value, at);
    }
    let is = |name: &Value| match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("unknown type {other}"),
    };
    match &schema["type"] {
        Value::Null => {}
        Value::Array(names) => assert!(names.iter().any(is), "{at}: {value} is none of {names:?}"),
        name => assert!(is(name), "{at}: {value} is no {name}"),
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(value.get(name.as_str().unwrap()).is_some(), "{at}: {name} is missing");
    }
    if let (Some(properties), Some(members)) = (schema["properties"].as_object(), value.as_object()) {
        for (name, member) in members {
            let schema = properties.get(name).unwrap_or_else(|| panic!("{at}: {name} is not described"));
            conforms(document, schema, member, &format!("{at}.{name}"));
        }
    }
    for item in value.as_array().into_iter().flatten() {
        conforms(document, &schema["items"], item, &format!("{at}[]"));
    }
}

/// Checks an answer against what the document says of the path, method and status.
fn check_described(document: &Value, path: &str, method: &str, reply: &crate::lab::Reply) {
    let answer = &document["paths"][path][method]["responses"][reply.status.to_string()];
    let schema = &answer["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "{method} {path} does not describe {}", reply.status);
    conforms(document, schema, &reply.json(), path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_as_the_document_describes_them() {
    let lab = Lab::start().await;
    let reply = lab.get("/v2/openapi.json").await;
    assert_eq!(reply.header("content-type"), "application/json");
    let document = reply.json();
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths, ["/v2/batch", "/v2/openapi.json", "/v2/query", "/v2/tabs"]);
    let text = body("c", &[("n", "CounterGroup", "1"), ("b", "CounterGroup", "\"x\""), ("g", "Gauge", "1")]);
    let stored = lab.post("/v2/batch", &[("Content-Type", "text/plain")], text.as_bytes()).await;
    assert_eq!(stored.status, 200);
    check_described(&document, "/v2/batch", "post", &stored);
    lab.applied().await;
    for (path, query) in
        [("/v2/query", "?q=0.5,0.9"), ("/v2/query", "?limit=1"), ("/v2/tabs", "?limit=1"), ("/v2/tabs", "")]
    {
        let reply = lab.get(&format!("{path}{query}")).await;
        assert_eq!(reply.status, 200);
        check_described(&document, path, "get", &reply);
        check_described(&document, path, "get", &lab.get(&format!("{path}?foo")).await);
    }
    for (headers, body, status) in
        [(vec![("Content-Type", "text/plain")], "2\n\n", 400), (vec![("Content-Type", "image/png")], "", 415)]
    {
        let reply = lab.post("/v2/batch", &headers, body.as_bytes()).await;
        assert_eq!(reply.status, status);
        check_described(&document, "/v2/batch", "post", &reply);
    }
    lab.stop().await;
}
