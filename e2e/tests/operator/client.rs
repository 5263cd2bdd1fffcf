//! A pod with a shell, for what must be asked from within the cluster.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use taba_e2e::api::{get, path};

use crate::kubectl::{apply, is_true, kubectl_with, until};

const START: Duration = Duration::from_secs(120);
const NAME: &str = "client";
const TRIES: usize = 3;

/// Such a pod.
pub struct Client {
    namespace: String,
}

impl Client {
    /// Starts it and waits until it is ready.
    pub fn start(namespace: &str) -> Result<Self> {
        apply(&pod(namespace))?;
        until("the client is ready", START, || {
            let pod = get(&path(namespace, &format!("pods/{NAME}")))?;
            ensure!(is_true(&pod, "Ready"), "{}", pod["status"]);
            Ok(())
        })?;
        Ok(Self { namespace: namespace.to_owned() })
    }

    /// Runs a script with an input; what it printed.
    pub fn run(&self, script: &str, input: &str) -> Result<String> {
        let words = ["exec", "--stdin", "--namespace", &self.namespace, NAME, "--", "sh", "-c", script];
        kubectl_with(&words, input)
    }

    /// Whether a port takes connections from here; one that a policy shields does not answer at all. Whatever else
    /// comes of it, a refusal too, says nothing about policies.
    pub fn reaches(&self, address: &str, port: u16) -> Result<bool> {
        let script = format!("nc -w 5 {address} {port} -e true 2>&1 && echo reached || true");
        // On a busy node what a program prints at its end may be lost on its way through kubelet and API server.
        for _ in 0..TRIES {
            match self.run(&script, "")?.trim() {
                "reached" => return Ok(true),
                "nc: timed out" => return Ok(false),
                "" => {}
                said => bail!("{address} port {port}: {said}"),
            }
        }
        bail!("{address} port {port}: nothing was said {TRIES} times")
    }
}

fn pod(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "client",
                "image": crate::taba::REDIS_IMAGE,
                "command": ["sleep", "100000"],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}
