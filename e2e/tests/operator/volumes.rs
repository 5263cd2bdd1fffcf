//! Data that go away, all at once or with the power.

use anyhow::{Result, ensure};
use taba_e2e::api::{get, path};

use crate::bed::Stage;
use crate::checker::Checker;
use crate::kill::{delete, pick};
use crate::kubectl::{kubectl, text};
use crate::taba::{Pod, Taba, kill, small};

/// One after the other, on the same cluster.
pub fn data_go_away_and_come_back(stage: &mut Stage) -> Result<()> {
    let taba = stage.taba("main", &small())?;
    let checker = stage.checker(&taba)?;
    a_lost_volume_is_filled_again(stage, &taba, &checker)?;
    everything_stops_at_once_and_comes_back(stage, &taba, &checker)?;
    stage.judge(checker).map(drop)
}

/// A replica's, then the primary's: another member holds everything that was acknowledged.
fn a_lost_volume_is_filled_again(stage: &mut Stage, taba: &Taba, checker: &Checker) -> Result<()> {
    for (what, victim) in [("a replica", "replica"), ("the primary", "primary")] {
        let pod = pick(taba, victim)?;
        let moment = checker.now()?;
        let claim = format!("data-{}", pod.name);
        let before = volume(taba, &claim)?;
        kubectl(&[
            "delete",
            "persistentvolumeclaim",
            &claim,
            "--namespace",
            &taba.namespace,
            "--wait=false",
        ])?;
        // With the power: deletion by force alone would let a primary hand over first.
        kill(&[&pod])?;
        delete(&taba.namespace, &pod.name, true)?;
        taba.healed_after(&pod)?;
        ensure!(volume(taba, &claim)? != before, "{claim} is the old one");
        checker.flows()?;
        stage.note(format!("the volume of {what} was lost: gap {} ms", checker.gap_since(moment)?));
    }
    Ok(())
}

fn volume(taba: &Taba, claim: &str) -> Result<String> {
    let claim = get(&path(&taba.namespace, &format!("persistentvolumeclaims/{claim}")))?;
    Ok(text(&claim, "/metadata/uid").to_owned())
}

/// By SIGKILL, after which all pods start again in whatever order, and by deletion, after which all have other
/// addresses.
fn everything_stops_at_once_and_comes_back(stage: &mut Stage, taba: &Taba, checker: &Checker) -> Result<()> {
    for way in ["killed", "deleted"] {
        let before = taba.pods()?;
        let moment = checker.now()?;
        if way == "killed" {
            kill(&before.iter().collect::<Vec<_>>())?;
        } else {
            let selector =
                format!("--selector=app.kubernetes.io/name=taba,app.kubernetes.io/instance={}", taba.name);
            let words = ["delete", "pods", &selector, "--namespace", &taba.namespace, "--wait=false"];
            kubectl(&[&words[..], &["--grace-period=0", "--force"]].concat())?;
        }
        for pod in before.iter().filter(|pod| keeps_name(pod)) {
            taba.healed_after(pod)?;
        }
        checker.flows()?;
        stage.note(format!("all pods {way} at once: gap {} ms", checker.gap_since(moment)?));
    }
    Ok(())
}

fn keeps_name(pod: &Pod) -> bool {
    matches!(pod.component.as_str(), "redis" | "sentinel")
}
