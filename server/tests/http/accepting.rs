//! Which form of an answer each endpoint gives to which `Accept`, with the right content type.

use crate::lab::Lab;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_endpoint_answers_in_the_form_that_is_accepted() {
    let lab = Lab::start().await;
    lab.record("c", &[("t", "CounterGroup", "1")]).await;
    let aggregates = ["/tabs", "/projection", "/supertabs"];
    let lists = ["/clients", "/names", "/types", "/ids"];
    let cluster = ["/status", "/servers", "/latency"];
    let matrix = [
        // Accept, then what aggregates, lists and cluster endpoints answer.
        ("", TEXT, TEXT, TEXT),
        ("*/*", TEXT, TEXT, TEXT),
        ("text/plain", TEXT, TEXT, TEXT),
        ("application/json", JSON, JSON, JSON),
        ("application/json; charset=utf-8", JSON, JSON, JSON),
        ("text/html, application/json;q=0.9, */*;q=0.1", JSON, JSON, JSON),
        ("application/json;q=0.1, text/plain", TEXT, TEXT, TEXT),
        ("application/*", JSON, JSON, JSON),
        ("application/json-detailed", JSON, TEXT, JSON),
        ("image/png", TEXT, TEXT, JSON),
    ];
    for (accept, of_aggregates, of_lists, of_cluster) in matrix {
        for (paths, expected) in
            [(&aggregates[..], of_aggregates), (&lists[..], of_lists), (&cluster[..], of_cluster)]
        {
            for path in paths {
                let reply = lab.get_as(path, accept).await;
                assert_eq!(reply.header("content-type"), expected, "{path} with {accept:?}");
                if expected == JSON {
                    reply.json();
                }
            }
        }
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_detailed_form_lists_buckets() {
    let lab = Lab::start().await;
    lab.record("c", &[("t", "CounterGroup", "1")]).await;
    let detailed = lab.get_as("/tabs", "application/json-detailed").await.json();
    let parts = detailed["t"].as_array().expect("four windows and the percentiles");
    let lengths: Vec<usize> = parts[..4].iter().map(|buckets| buckets.as_array().unwrap().len()).collect();
    assert_eq!(lengths, [60, 60, 120, 96]);
    assert_eq!((parts.len(), &parts[4]["count"]), (5, &serde_json::json!(1)));
    lab.stop().await;
}
