//! Pods that die, one after the other and each in two ways, and an operator that dies at its work.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use taba_e2e::api::{get, path};
use taba_e2e::rng::Rng;

use crate::bed::{OPERATOR_NAMESPACE, Stage, operator_pods};
use crate::kubectl::{kubectl, text, until};
use crate::taba::{Pod, Taba, kill, small};

const VICTIMS: [&str; 6] = ["frontend", "backend", "control", "sentinel", "replica", "primary"];

/// By SIGKILL, after which the pod starts again where it is, and by deletion, after which another one does.
#[derive(Clone, Copy, Debug)]
enum Way {
    Kill,
    Delete,
}

pub fn each_kind_of_pod_dies_under_traffic(stage: &mut Stage) -> Result<()> {
    let taba = stage.taba("main", &small())?;
    let checker = stage.checker(&taba)?;
    for victim in VICTIMS {
        for way in [Way::Kill, Way::Delete] {
            let pod = pick(&taba, victim)?;
            let moment = checker.now()?;
            match way {
                Way::Kill => kill(&[&pod])?,
                Way::Delete => delete(&taba.namespace, &pod.name, false)?,
            }
            taba.healed_after(&pod).with_context(|| format!("{way:?} {victim}"))?;
            checker.flows()?;
            stage.note(format!("{way:?} {victim}: gap {} ms", checker.gap_since(moment)?));
        }
    }
    stage.judge(checker).map(drop)
}

/// A pod of a component, or a `replica` or the `primary` of the first shard, as it is now.
pub fn pick(taba: &Taba, victim: &str) -> Result<Pod> {
    let primary = taba.primary(0)?;
    let pod = match victim {
        "primary" => Some(primary),
        "replica" => taba.pods_of("redis")?.into_iter().find(|pod| pod.name != primary.name),
        component => taba.pods_of(component)?.into_iter().next(),
    };
    pod.with_context(|| format!("no {victim} is there"))
}

/// Deletes a pod, `suddenly` as when its node is given up: another one of its name may start at once, while what ran
/// in this one still gets SIGTERM and its grace.
pub fn delete(namespace: &str, pod: &str, suddenly: bool) -> Result<()> {
    let force = if suddenly { &["--grace-period=0", "--force"][..] } else { &[] };
    kubectl(&[&["delete", "pod", pod, "--namespace", namespace, "--wait=false"], force].concat()).map(drop)
}

const DEATHS: usize = 3;
/// The Lease by which operators agree on who acts.
const LEASE: &str = "coordination.k8s.io/v1 leases/taba-operator";
/// A Lease that nobody gives back runs out after half a minute.
const LEADS: Duration = Duration::from_secs(180);

/// At moments that the seed chooses, while it replaces every pod there is.
pub fn an_operator_that_dies_again_and_again_ends_what_it_began(stage: &mut Stage) -> Result<()> {
    let taba = stage.taba("main", &small())?;
    let checker = stage.checker(&taba)?;
    let moment = checker.now()?;
    let mut rng = Rng::new(taba_e2e::rng::seed(5));
    taba.patch(&json!({"image": "localhost/taba:test2"}))?;
    for _ in 0..DEATHS {
        // One that only waits for the Lease has nothing to leave undone.
        let leader = until("an operator leads", LEADS, leader)?;
        std::thread::sleep(Duration::from_millis(rng.below(6000)));
        kill(&[&leader])?;
        // Another pod starts at once; this one's container would have to wait longer each time.
        delete(OPERATOR_NAMESPACE, &leader.name, true)?;
    }
    let took = taba.settled()?;
    let pods = taba.pods()?;
    let old: Vec<_> = pods.iter().filter(|pod| pod.images.contains(crate::taba::IMAGE)).collect();
    ensure!(old.is_empty(), "of the old image: {old:?}");
    checker.flows()?;
    let gap = checker.gap_since(moment)?;
    let secs = took.as_secs_f64();
    stage.note(format!(
        "{DEATHS} deaths during an upgrade, which ended {secs:.0} s after the last; gap {gap} ms"
    ));
    stage.judge(checker).map(drop)
}

/// The operator's pod that acts: a holder is called after its pod and its process.
fn leader() -> Result<Pod> {
    let lease = get(&path(OPERATOR_NAMESPACE, LEASE))?;
    let holder = text(&lease, "/spec/holderIdentity");
    let pods = operator_pods()?;
    let leader = pods.iter().map(Pod::read).find(|pod| holder.starts_with(&format!("{}_", pod.name)));
    leader.with_context(|| format!("the Lease is of {holder:?}"))
}
