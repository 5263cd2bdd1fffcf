//! Specs that are let in and cannot work: the cluster goes on, a condition says what is wrong, and a good spec is
//! all it takes.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::bed::Stage;
use crate::checker::Checker;
use crate::kubectl::{condition, is_true};
use crate::taba::{Taba, conditions, small};

/// One after the other, on the same cluster.
pub fn what_cannot_work_is_told_and_a_good_spec_heals_it(stage: &mut Stage) -> Result<()> {
    let taba = stage.taba("main", &small())?;
    let checker = stage.checker(&taba)?;
    a_bad_image(stage, &taba, &checker)?;
    a_pod_that_fits_nowhere(&taba)?;
    stage.judge(checker).map(drop)
}

fn a_bad_image(stage: &mut Stage, taba: &Taba, checker: &Checker) -> Result<()> {
    for (bad, good) in [
        (json!({"image": "localhost/taba:no-such"}), json!({"image": "localhost/taba:test2"})),
        (
            json!({"redis": {"image": "localhost/redis:no-such"}}),
            json!({"redis": {"image": "localhost/redis:test2"}}),
        ),
    ] {
        let moment = checker.now()?;
        taba.patch(&bad)?;
        degraded(taba, &["PodErrImagePull", "PodImagePullBackOff"], "no-such")?;
        checker.flows()?;
        taba.patch(&good)?;
        let took = taba.settled()?;
        checker.flows()?;
        let gap = checker.gap_since(moment)?;
        stage.note(format!("{bad}, then {good}: healed in {:.0} s, gap {gap} ms", took.as_secs_f64()));
    }
    Ok(())
}

fn a_pod_that_fits_nowhere(taba: &Taba) -> Result<()> {
    let to = |selector: Value| json!({"frontend": {"podTemplate": {"nodeSelector": selector}}});
    taba.patch(&to(json!({"example.org/no-such": "node"})))?;
    degraded(taba, &["PodUnschedulable"], "frontend")?;
    taba.patch(&to(Value::Null))?;
    taba.settled().map(drop)
}

/// Waits until it is told, with one of these reasons and a word; the cluster serves all the while.
fn degraded(taba: &Taba, reasons: &[&str], word: &str) -> Result<()> {
    taba.wait("says what is wrong", || {
        let object = taba.object()?;
        let said = condition(&object, "Degraded").cloned().unwrap_or_default();
        let is_said = reasons.iter().any(|reason| said["reason"] == *reason)
            && said["message"].as_str().is_some_and(|message| message.contains(word));
        ensure!(is_true(&object, "Degraded") && is_said, "{}", conditions(&object));
        Ok(())
    })?;
    let object = taba.object()?;
    ensure!(is_true(&object, "Available"), "it does not serve: {}", conditions(&object));
    Ok(())
}
