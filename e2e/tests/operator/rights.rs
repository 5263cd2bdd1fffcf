//! What pods may and whom they reach: as little as works.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use taba_e2e::api::{list, path};
use taba_e2e::runner::xtask;

use crate::bed::Stage;
use crate::client::Client;
use crate::kubectl::{apply, text};
use crate::taba::{Pod, REDIS_IMAGE, Taba, small};

pub fn pods_may_nothing_and_reach_only_what_they_need(stage: &mut Stage) -> Result<()> {
    let outside = format!("{}-outside", stage.namespace());
    stage.add_namespace(&outside)?;
    the_namespace_admits_only_restricted_pods(&outside)?;
    let taba = stage.taba("main", &small())?;
    pods_have_no_token_and_only_their_own_secrets(&taba)?;
    their_accounts_may_nothing(&taba)?;
    strangers_reach_frontends_alone(&taba, &Client::start(&outside)?)
}

/// Or nothing would follow from Taba's pods being there.
fn the_namespace_admits_only_restricted_pods(namespace: &str) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "careless", "namespace": namespace},
        "spec": {"containers": [{"name": "careless", "image": REDIS_IMAGE}]},
    });
    let said = apply(&pod).err().context("a careless pod is let in")?;
    ensure!(format!("{said:#}").contains("restricted"), "{said:#}");
    Ok(())
}

fn pods_have_no_token_and_only_their_own_secrets(taba: &Taba) -> Result<()> {
    for pod in list(&path(&taba.namespace, "pods"))? {
        let name = text(&pod, "/metadata/name");
        ensure!(pod["spec"]["automountServiceAccountToken"] == json!(false), "{name} mounts a token");
        let mut secrets = Vec::new();
        find(&pod["spec"], &mut |key, value| match (key, value) {
            ("serviceAccountToken", _) => secrets.push("a token".to_owned()),
            ("secretKeyRef" | "secret", value) => secrets.push(text(value, "/name").to_owned()),
            _ => {}
        });
        let own =
            ["passwords", "sentinel", "admin", "keeper", "s0"].map(|part| format!("{}-{part}", taba.name));
        let others: Vec<_> = secrets.iter().filter(|secret| !own.contains(secret)).collect();
        ensure!(!secrets.is_empty() && others.is_empty(), "{name} has {secrets:?}");
    }
    Ok(())
}

/// Shows every named value within a value.
fn find(value: &Value, see: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                see(key, value);
                find(value, see);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| find(item, see)),
        _ => {}
    }
}

fn their_accounts_may_nothing(taba: &Taba) -> Result<()> {
    for account in ["server", "redis", "sentinel"] {
        for (verb, what) in [("get", "secrets"), ("list", "secrets"), ("list", "pods"), ("create", "pods")] {
            let namespace = &taba.namespace;
            let as_whom = format!("--as=system:serviceaccount:{namespace}:{}-{account}", taba.name);
            let asked = xtask(&["kubectl", "auth", "can-i", verb, what, "--namespace", namespace, &as_whom])
                .output()?;
            let said = String::from_utf8_lossy(&asked.stdout).into_owned();
            ensure!(said.trim() == "no", "may {account} {verb} {what}? {said}");
        }
    }
    Ok(())
}

fn strangers_reach_frontends_alone(taba: &Taba, stranger: &Client) -> Result<()> {
    let pods = taba.pods()?;
    // All at once, for silence takes its time.
    std::thread::scope(|scope| {
        let tried: Vec<_> = pods.iter().map(|pod| scope.spawn(|| is_as_allowed(pod, stranger))).collect();
        tried.into_iter().try_for_each(|tried| tried.join().expect("no thread panics"))
    })
}

fn is_as_allowed(pod: &Pod, stranger: &Client) -> Result<()> {
    let ports: &[u16] = match pod.component.as_str() {
        "redis" => &[6379, 8400],
        "sentinel" => &[26379],
        _ => &[8300],
    };
    ports.iter().try_for_each(|port| {
        let reached = stranger.reaches(&pod.ip, *port)?;
        ensure!(reached == (pod.component == "frontend"), "{} port {port}: reached {reached}", pod.name);
        Ok(())
    })
}
