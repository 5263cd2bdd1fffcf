//! Alerts and dashboards ask for metrics that exist.

use std::collections::BTreeSet;

use serde_json::Value;

use super::support::{ALL, objects, read, root, the};

/// Sources that name metrics, by the prefix that a registry puts before them.
const PREFIXES: [(&str, &str); 3] = [
    ("taba_keeper_", "keeper/src/metrics.rs"),
    ("taba_store_", "server/src/store/redis/metrics.rs"),
    ("taba_operator_", "operator/src/metrics.rs"),
];
/// Sources that name metrics in full.
const WHOLE: [&str; 2] = ["server/src/metrics.rs", "server/src/pipeline/metrics.rs"];
/// What the encoding adds to a name.
const SUFFIXES: [&str; 6] = ["_total", "_bucket", "_count", "_sum", "_bytes", "_seconds"];

/// Words in an expression that begin as ours do; labels do not.
fn metrics_in(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words.filter(|word| word.starts_with("taba_") && *word != "taba_cluster").collect()
}

fn exists(metric: &str) -> bool {
    let prefix = PREFIXES.iter().find(|(prefix, _)| metric.starts_with(prefix));
    let (bare, sources): (_, &[&str]) = match prefix {
        Some((prefix, source)) => (metric.trim_start_matches(prefix), &[*source][..]),
        None => (metric, &WHOLE[..]),
    };
    let mut candidates = vec![bare.to_owned()];
    for _ in 0..2 {
        let shorter =
            candidates.iter().flat_map(|name| SUFFIXES.iter().filter_map(|suffix| name.strip_suffix(suffix)));
        let shorter: Vec<_> = shorter.map(str::to_owned).collect();
        candidates.extend(shorter);
    }
    sources.iter().any(|source| {
        let text = read(source);
        candidates.iter().any(|name| text.contains(&format!("\"{name}\"")))
    })
}

#[track_caller]
fn check(what: &str, expression: &str) {
    let metrics = metrics_in(expression);
    assert!(
        !metrics.is_empty() || expression.contains("kube_"),
        "{what} asks for nothing of ours: {expression}"
    );
    for metric in metrics {
        assert!(exists(metric), "{what}: nothing counts {metric}");
    }
}

#[test]
fn alerts_ask_for_metrics_that_exist_and_say_what_to_do() {
    let sets = [ALL.as_slice(), &["monitoring.prometheusRule.labels.team=a"]].concat();
    let objects = objects(&sets);
    let groups = the(&objects, "PrometheusRule")["spec"]["groups"].as_array().expect("groups").clone();
    let rules: Vec<Value> =
        groups.iter().flat_map(|group| group["rules"].as_array().cloned()).flatten().collect();
    assert!(rules.len() >= 12, "only {} alerts", rules.len());
    let mut names = BTreeSet::new();
    for rule in &rules {
        let name = rule["alert"].as_str().expect("an alert has a name");
        assert!(names.insert(name), "{name} is there twice");
        check(name, rule["expr"].as_str().expect("an alert has an expression"));
        assert!(matches!(rule["labels"]["severity"].as_str(), Some("critical" | "warning")), "{name}");
        assert_eq!(rule["labels"]["team"], "a", "{name}");
        for annotation in ["summary", "description"] {
            let text = rule["annotations"][annotation].as_str().unwrap_or_default();
            assert!(text.len() > 20 && text.ends_with('.'), "{name}: {annotation}");
        }
    }
}

#[test]
fn panels_ask_for_metrics_that_exist() {
    let objects = objects(&ALL);
    let data = the(&objects, "ConfigMap")["data"].as_object().expect("a ConfigMap has data").clone();
    assert!(!data.is_empty());
    for (file, text) in data {
        let dashboard: Value =
            serde_json::from_str(text.as_str().expect("text")).expect("a dashboard is JSON");
        let panels = dashboard["panels"].as_array().expect("panels");
        assert!(panels.len() >= 10, "{file}: only {} panels", panels.len());
        for panel in panels {
            let title = panel["title"].as_str().expect("a panel has a title");
            for target in panel["targets"].as_array().expect("targets") {
                check(title, target["expr"].as_str().expect("an expression"));
            }
        }
    }
}

#[test]
fn a_metric_that_nothing_counts_is_noticed() {
    assert!(exists("taba_keeper_memory_used_bytes") && exists("taba_apply_seconds_bucket"));
    assert!(!exists("taba_keeper_mood") && !exists("taba_apply_sorrow_total"));
    assert!(root().join("charts/taba/files/alerts.yaml").is_file());
}
