//! Many servers, and many clusters.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use taba_e2e::api::{get, path, read};

use crate::bed::{OPERATOR_NAMESPACE, OPERATOR_PODS, Stage, operator_pods};
use crate::kubectl::{kubectl, text, until};
use crate::taba::{Taba, small_but};

/// The autoscaler looks every few seconds, at figures of the last quarter of a minute.
const GROWN: Duration = Duration::from_secs(300);
/// Two minutes of calm, then a pod every half a minute.
const SHRUNK: Duration = Duration::from_secs(600);
const MAX: u64 = 3;

/// With so small requests that a few producers are a load, and so large that calm is none: two servers at rest must use
/// less than one may, or they stay two.
pub fn load_makes_servers_grow_and_calm_makes_them_shrink(stage: &mut Stage) -> Result<()> {
    let role = |cpu: &str| {
        json!({
            "replicas": null,
            "autoscaling": {"minReplicas": 1, "maxReplicas": MAX, "cpuPercent": 60},
            "resources": {"requests": {"cpu": cpu, "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
        })
    };
    // Each backend needs some to own.
    let redis = json!({"vbuckets": 16});
    let change = json!({"redis": redis, "frontend": role("50m"), "backend": role("45m")});
    let taba = stage.taba("main", &small_but(&change))?;
    let roles = ["frontend", "backend"];
    let checker = stage.busy_checker(&taba)?;
    let begin = Instant::now();
    for role in roles {
        until(&format!("{role}s grow"), GROWN, || {
            let replicas = replicas(&taba, role)?;
            ensure!(replicas > 1, "{replicas} of it; {}", autoscaler(&taba, role)?);
            Ok(())
        })?;
        stage.note(format!("more than one {role} after {:.0} s of load", begin.elapsed().as_secs_f64()));
    }
    taba.settled()?;
    stage.judge(checker)?;
    let begin = Instant::now();
    for role in roles {
        until(&format!("{role}s shrink"), SHRUNK, || {
            let replicas = replicas(&taba, role)?;
            ensure!(replicas == 1, "{replicas} of it; {}", autoscaler(&taba, role)?);
            Ok(())
        })?;
        stage.note(format!("one {role} after {:.0} s of calm", begin.elapsed().as_secs_f64()));
    }
    taba.settled().map(drop)
}

fn replicas(taba: &Taba, role: &str) -> Result<u64> {
    let deployment = format!("apps/v1 deployments/{}-{role}", taba.name);
    get(&path(&taba.namespace, &deployment))?["spec"]["replicas"].as_u64().context("a number")
}

fn autoscaler(taba: &Taba, role: &str) -> Result<Value> {
    let autoscaler = format!("autoscaling/v2 horizontalpodautoscalers/{}-{role}", taba.name);
    Ok(get(&path(&taba.namespace, &autoscaler))?["status"].clone())
}

const CLUSTERS: usize = 10;
/// What the operator may use at rest, in thousandths of a core and in Mi; its memory limit is 256 Mi.
const REST_MAX: (u64, u64) = (200, 200);

/// Ten minutes of one cluster.
const SILENCE: Duration = Duration::from_secs(600 / CLUSTERS as u64);

/// How long the last writes for other clusters may take, and a pause without any that shows that they are over.
const DONE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(3);

/// Seventy pods: one member, three Sentinels and three servers each.
pub fn ten_clusters_cost_the_operator_little(stage: &mut Stage) -> Result<()> {
    let one = json!({"replicas": 1, "resources": tiny("128Mi")});
    let spec = small_but(&json!({
        "redis": {"replicas": 0, "minInSync": 0, "resources": tiny("128Mi")},
        "sentinel": {"resources": tiny("64Mi")},
        "frontend": one, "backend": one, "control": one,
    }));
    let begin = Instant::now();
    let clusters = (0..CLUSTERS)
        .map(|number| Taba::create(stage.namespace(), &format!("many{number}"), &spec))
        .collect::<Result<Vec<_>>>()?;
    clusters.iter().try_for_each(|taba| taba.settled().map(drop))?;
    stage.note(format!("{CLUSTERS} clusters settled in {:.0} s", begin.elapsed().as_secs_f64()));
    stage.alone(1);
    // What it still does for others is no cost of these.
    stage.others_are_forgotten()?;
    let before = until("the operator has done its work", DONE, || {
        let before = operator_writes()?;
        sleep(PAUSE);
        let after = operator_writes()?;
        ensure!(after == before, "{} writes in {PAUSE:?}", after - before);
        Ok(after)
    })?;
    sleep(SILENCE);
    let writes = operator_writes()? - before;
    stage.note(format!("{writes} writes for {CLUSTERS} idle clusters in {} s", SILENCE.as_secs()));
    ensure!(writes == 0, "the operator writes though nothing changes");
    // Figures are of a quarter of a minute that is over.
    let (cpu, memory) = until("the operator rests", Duration::from_secs(60), || {
        let (cpu, memory) = operator_usage()?;
        ensure!(cpu < REST_MAX.0 && memory < REST_MAX.1, "it uses {cpu}m CPU and {memory}Mi memory");
        Ok((cpu, memory))
    })?;
    stage.note(format!("the operator of {CLUSTERS} clusters uses {cpu}m CPU and {memory}Mi memory"));
    Ok(())
}

/// How often it wrote or tried to since it started: objects, status and Events.
fn operator_writes() -> Result<u64> {
    let pods = operator_pods()?;
    let pod = text(pods.first().context("no pod")?, "/metadata/name").to_owned();
    let metrics = read(&path(OPERATOR_NAMESPACE, &format!("pods/{pod}:8080/proxy/metrics")))?;
    let lines = metrics.lines().filter(|line| line.starts_with("taba_operator_api_writes_total{"));
    let counts = lines.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<u64>());
    counts.sum::<Result<u64, _>>().context("parse the operator's metrics")
}

/// Thousandths of a core, and Mi.
fn operator_usage() -> Result<(u64, u64)> {
    let said = kubectl(&[
        "top",
        "pods",
        "--selector",
        OPERATOR_PODS,
        "--namespace",
        OPERATOR_NAMESPACE,
        "--no-headers",
    ])?;
    let usage: Vec<_> = said.split_whitespace().collect();
    let [_, cpu, memory] = usage[..] else { bail!("not one line: {said}") };
    let cpu = cpu.strip_suffix('m').and_then(|number| number.parse().ok()).context("CPU in thousandths")?;
    let memory = memory.strip_suffix("Mi").and_then(|number| number.parse().ok()).context("memory in Mi")?;
    Ok((cpu, memory))
}

fn tiny(memory: &str) -> Value {
    json!({"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": memory}})
}
