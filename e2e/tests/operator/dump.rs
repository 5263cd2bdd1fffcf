//! What a failed scenario leaves for those who look for the cause, printed before it is removed.

use taba_e2e::api::{list, path};
use taba_e2e::runner::xtask;

use crate::bed::{OPERATOR_NAMESPACE, OPERATOR_PODS};
use crate::kubectl::{kubectl, text};

const TAIL: &str = "--tail=60";

/// Everything about a namespace.
pub fn namespace(namespace: &str) {
    eprintln!("\n==== namespace {namespace}");
    for words in [
        &["get", "pods", "--output=wide"][..],
        &["get", "persistentvolumeclaims"],
        &["get", "tabaclusters", "--output=yaml"],
        &["get", "events", "--sort-by=.lastTimestamp"],
    ] {
        show(namespace, words);
    }
    let pods = list(&path(namespace, "pods")).unwrap_or_default();
    for pod in &pods {
        let name = text(pod, "/metadata/name");
        show(namespace, &["logs", name, "--all-containers", "--prefix", TAIL]);
        let restarted = pod["status"]["containerStatuses"].as_array().is_some_and(|containers| {
            containers.iter().any(|container| container["restartCount"].as_u64().unwrap_or(0) > 0)
        });
        if restarted {
            show(namespace, &["logs", name, "--previous", TAIL]);
        }
    }
}

/// The operator and the nodes.
pub fn operator() {
    eprintln!("\n==== operator");
    show(OPERATOR_NAMESPACE, &["get", "pods", "--output=wide"]);
    show(OPERATOR_NAMESPACE, &["logs", "--selector", OPERATOR_PODS, "--prefix", "--tail=200"]);
    show(OPERATOR_NAMESPACE, &["get", "nodes"]);
}

fn show(namespace: &str, words: &[&str]) {
    eprintln!("---- kubectl {}", words.join(" "));
    let all = [&["kubectl", "--namespace", namespace, "--request-timeout=20s"], words].concat();
    // Whatever it says, also that it cannot.
    let _ = xtask(&all).status();
}

/// One line for each pod of a namespace, for errors.
pub fn pods(namespace: &str) -> String {
    let words = ["get", "pods", "--namespace", namespace, "--no-headers", "--request-timeout=20s"];
    kubectl(&words).unwrap_or_else(|error| format!("{error:#}"))
}
