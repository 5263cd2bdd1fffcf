//! The checker inside the cluster: a Job that posts and reads, asked and told through the API server's proxy.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use taba_e2e::api::{get, list, path};
use taba_e2e::check::Verdict;

use crate::kubectl::{apply, is_true, kubectl, kubectl_with, text, until};
use crate::taba::Taba;

const PORT: u16 = 8080;
const START: Duration = Duration::from_secs(120);
/// How long it tries to deliver what was begun, and waits for totals.
const PATIENCE_SECS: u64 = 240;
/// Delivery, two comparisons, and the end of a pod.
const END: Duration = Duration::from_secs(3 * PATIENCE_SECS + 60);

/// A checker that runs.
pub struct Checker {
    namespace: String,
    job: String,
    pod: String,
}

/// A moment of a checker's run, to count from.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    at_ms: u64,
    batches: u64,
}

/// What is asked of one.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Another one for each checker of a cluster.
    pub seed: u64,
    /// How many producers.
    pub producers: usize,
    /// How long each pauses after an acknowledgement.
    pub pause_ms: u64,
}

impl Moment {
    /// How many batches were acknowledged by then.
    pub const fn batches(self) -> u64 {
        self.batches
    }
}

impl Checker {
    /// Starts one and waits until its traffic flows. A cluster takes one at a time: each counts all that is there.
    pub fn start(taba: &Taba, wish: Wish) -> Result<Self> {
        let (namespace, job) = (taba.namespace.clone(), format!("check-{}-{}", taba.name, wish.seed));
        apply(&job_object(taba, &job, wish)?)?;
        let its_pods = path(&namespace, &format!("pods?labelSelector=job-name={job}"));
        let pod = until("the checker runs", START, || {
            let pods = list(&its_pods)?;
            let pod = pods.first().context("it has no pod")?;
            ensure!(is_true(pod, "Ready"), "its pod is not ready: {}", pod["status"]);
            Ok(text(pod, "/metadata/name").to_owned())
        })?;
        let checker = Self { namespace, job, pod };
        checker.flows()?;
        Ok(checker)
    }

    /// How it stands, with gaps counted from a moment on.
    fn state(&self, from_ms: u64) -> Result<Value> {
        get(&self.desk(&format!("state?from={from_ms}")))
    }

    fn desk(&self, what: &str) -> String {
        path(&self.namespace, &format!("pods/{}:{PORT}/proxy/{what}", self.pod))
    }

    /// Now.
    pub fn now(&self) -> Result<Moment> {
        let state = self.state(0)?;
        let number = |name: &str| state[name].as_u64().with_context(|| format!("no {name} in {state}"));
        Ok(Moment { at_ms: number("elapsed_ms")?, batches: number("batches")? })
    }

    /// The longest time without an acknowledgement since a moment, in ms.
    pub fn gap_since(&self, moment: Moment) -> Result<u64> {
        self.state(moment.at_ms)?["gap_ms"].as_u64().context("it tells the gap")
    }

    /// Waits until batches are acknowledged that were not before now.
    pub fn flows(&self) -> Result<()> {
        let before = until("the checker answers", START, || self.now())?;
        until("traffic flows", START, || {
            let batches = self.now()?.batches;
            ensure!(batches >= before.batches + 10, "{batches} batches, {} before", before.batches);
            Ok(())
        })
    }

    fn is_over(&self) -> Result<()> {
        let job = get(&path(&self.namespace, &format!("batch/v1 jobs/{}", self.job)))?;
        let is_over = is_true(&job, "Complete") || is_true(&job, "Failed");
        if is_over { Ok(()) } else { bail!("it goes on: {}", job["status"]) }
    }

    /// Ends it and gives its verdict.
    pub fn stop(self) -> Result<Verdict> {
        let stop = self.desk("stop");
        until("the checker takes the word", START, || {
            let told = kubectl_with(&["create", "--raw", &stop, "-f", "-"], "{}");
            // It may end before its answer has come through.
            told.map(drop).or_else(|error| self.is_over().map_err(|_| error))
        })?;
        until("the checker ends", END, || self.is_over())?;
        let log = kubectl(&["logs", "--namespace", &self.namespace, &self.pod])?;
        let tail = || log.lines().rev().take(10).collect::<Vec<_>>().join("\n");
        Verdict::from_log(&log).with_context(|| format!("the log ends (last line first) with\n{}", tail()))
    }
}

fn job_object(taba: &Taba, name: &str, wish: Wish) -> Result<Value> {
    Ok(json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": taba.namespace},
        "spec": {
            "backoffLimit": 0,
            "template": {"spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "securityContext": {
                    "runAsNonRoot": true,
                    "runAsUser": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": "check",
                    "image": "localhost/taba-check:test",
                    "args": [
                        format!("--url={}", taba.url_by_address()?),
                        format!("--seed={}", wish.seed),
                        format!("--producers={}", wish.producers),
                        format!("--pause={}", wish.pause_ms),
                        format!("--patience={PATIENCE_SECS}"),
                        format!("--listen=0.0.0.0:{PORT}"),
                    ],
                    "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
                    "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "capabilities": {"drop": ["ALL"]},
                        "readOnlyRootFilesystem": true,
                    },
                }],
            }},
        },
    }))
}
