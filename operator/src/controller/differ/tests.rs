//! What counts as a difference.

use serde_json::json;

use super::*;

#[track_caller]
fn check(wanted: &Value, live: &Value, expected: Option<&str>) {
    assert_eq!(difference(wanted, live).as_deref(), expected);
}

#[test]
fn what_the_api_server_adds_is_no_difference() {
    let wanted =
        json!({"kind": "Service", "spec": {"ports": [{"name": "http", "port": 80}], "selector": {}}});
    let live = json!({
        "metadata": {"uid": "1"},
        "spec": {"ports": [{"name": "http", "port": 80, "nodePort": 30000}], "type": "ClusterIP"},
        "status": {}
    });
    check(&wanted, &live, None);
}

#[test]
fn a_changed_or_missing_value_is_a_difference_with_its_place() {
    let wanted = json!({"spec": {"replicas": 3, "template": {"containers": [{"name": "a", "image": "x"}]}}});
    let mut live = wanted.clone();
    check(&wanted, &live, None);
    live["spec"]["template"]["containers"][0]["image"] = json!("y");
    check(&wanted, &live, Some("/spec/template/containers/0/image"));
    live["spec"]["replicas"] = json!(2);
    check(&wanted, &live, Some("/spec/replicas"));
    check(&wanted, &json!({}), Some("/spec"));
}

#[test]
fn entries_of_lists_are_found_by_name_wherever_others_put_them() {
    let wanted = json!({"containers": [{"name": "taba", "image": "x"}]});
    let live = json!({"containers": [{"name": "injected"}, {"name": "taba", "image": "x"}]});
    check(&wanted, &live, None);
    check(&json!({"args": ["--a", "--b"]}), &json!({"args": ["--a", "--c"]}), Some("/args/1"));
    check(&json!({"args": ["--a", "--b"]}), &json!({"args": ["--a"]}), Some("/args/1"));
}

#[test]
fn quantities_are_compared_by_their_worth() {
    for (wanted, live) in
        [("1000m", "1"), ("0.5", "500m"), ("1Gi", "1024Mi"), ("1.5Gi", "1536Mi"), ("1k", "1000")]
    {
        check(&json!({"cpu": wanted}), &json!({"cpu": live}), None);
    }
    check(&json!({"cpu": "1"}), &json!({"cpu": "2"}), Some("/cpu"));
    check(&json!({"name": "a1"}), &json!({"name": "a2"}), Some("/name"));
}

#[test]
fn a_hash_changes_with_what_is_wanted_and_says_nothing_of_secrets() {
    let of = |image: &str| hash(&json!({"kind": "Deployment", "spec": {"image": image}}));
    assert_ne!(of("x"), of("y"));
    let secret = |data: &str| hash(&json!({"kind": "Secret", "data": {"password": data}}));
    assert_eq!(secret("one"), secret("two"));
}
