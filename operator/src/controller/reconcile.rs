//! One pass over a cluster: observe → validate → build → apply → plan → act → report.
//!
//! Every pass begins anew from what is there, so it may end at any line, in any way, and the next one goes on.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action as Requeue;
use kube::{Api, ResourceExt as _};
use rand::RngExt as _;
use thiserror::Error;
use tokio::time::timeout;

use super::act::{ActError, Actor};
use super::apply::{Applier, ApplyError, Written};
use super::context::Context;
use super::events::Told;
use super::finish::finish;
use super::observe::{self, Children};
use super::plan::{Note, NoteKind, Plan, plan};
use super::report::{self, Pass, Problem};
use super::retained;
use super::stage::stage;
use super::watch;
use super::world::World;
use crate::api::{TabaCluster, TabaClusterStatus};
use crate::build::{self, Component, Facts, Role, Secrets, Valid, selector_text};
use crate::leader::NotLeader;

/// Longest pass; one handover fits in.
const PASS_TIMEOUT: Duration = Duration::from_secs(90);

/// Time between two passes, so that a hundred pods that start make some passes and not a hundred.
const REST: Duration = Duration::from_secs(1);

/// The next look at a cluster where something was just done.
const SOON: Duration = Duration::from_secs(1);

/// The next look at a cluster whose shards are being made: keepers cannot be watched, and founding waits for them.
const EXPECTANT: Duration = Duration::from_secs(2);

/// The next look at a cluster that is not as it should be.
const WATCHFUL: Duration = Duration::from_secs(4);

/// The next look at a cluster at rest: keepers and Sentinels cannot be watched, only asked.
const AT_REST: Duration = Duration::from_secs(30);

/// Longest wait after failures.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Acts that fail so often in a row are told in the status. Names and policies of new pods take some seconds to be
/// known everywhere, and an act is tried every second.
const FAILED_ACTS_TOLD: u32 = 10;

/// Letters and digits of passwords and tokens: 190 bits.
const SECRET_CHARS: usize = 32;

/// A pass did not come to its end.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// This operator may not act any more.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// Something cannot be read.
    #[error("read {what}: {source}")]
    Read {
        /// What.
        what: &'static str,
        /// Why.
        source: Box<kube::Error>,
    },
    /// Something cannot be written.
    #[error("{error}{}", cause(.error))]
    Apply {
        /// What and why.
        #[source]
        error: ApplyError,
    },
    /// The status cannot be written.
    #[error("write the status: {0}")]
    Status(#[source] Box<kube::Error>),
    /// It took too long.
    #[error("the pass did not end in time")]
    TimedOut,
}

fn cause(error: &ApplyError) -> String {
    std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default()
}

/// What a pass came to.
struct Outcome {
    status: TabaClusterStatus,
    told: Vec<Told>,
    next: Duration,
}

/// One pass, for kube's controller.
///
/// # Errors
/// If the pass did not come to its end.
pub async fn reconcile(cluster: Arc<TabaCluster>, context: Arc<Context>) -> Result<Requeue, ReconcileError> {
    context.leadership.check()?;
    let passed = context.remember(&cluster, |it| it.passed);
    if let Some(rest) = passed.and_then(|passed| REST.checked_sub(passed.elapsed())) {
        return Ok(Requeue::requeue(rest));
    }
    let begun = Instant::now();
    let outcome = match timeout(PASS_TIMEOUT, pass(&cluster, &context)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ReconcileError::TimedOut),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |passed| passed.as_secs_f64());
    context.metrics.pass(outcome.is_ok(), begun.elapsed(), now);
    context.remember(&cluster, |it| it.passed = Some(Instant::now()));
    match outcome? {
        Some(next) => {
            context.remember(&cluster, |it| it.failures = 0);
            let next = next.mul_f64(rand::rng().random_range(0.9..1.1));
            context.due(&cluster, next);
            Ok(Requeue::requeue(next))
        }
        None => {
            let namespace = cluster.namespace().unwrap_or_default();
            context.forget(&namespace, &cluster.name_any());
            Ok(Requeue::await_change())
        }
    }
}

/// When to try again after a pass that failed: later each time, and not all clusters at once.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "kube's controller calls it so")]
pub fn error_policy(cluster: Arc<TabaCluster>, error: &ReconcileError, context: Arc<Context>) -> Requeue {
    let failures = context.remember(&cluster, |it| {
        it.failures = it.failures.saturating_add(1);
        it.failures
    });
    let after = backoff(failures, rand::rng().random_range(0.5..1.0));
    let namespace = cluster.namespace().unwrap_or_default();
    tracing::warn!(%error, failures, namespace, cluster = cluster.name_any(), "a pass failed");
    context.due(&cluster, after);
    Requeue::requeue(after)
}

/// `jitter` is from 0 to 1.
fn backoff(failures: u32, jitter: f64) -> Duration {
    let doubled = SOON.saturating_mul(1 << failures.min(10));
    doubled.min(BACKOFF_MAX).mul_f64(jitter)
}

/// When to look again; none if the cluster is gone or going.
async fn pass(cached: &TabaCluster, context: &Context) -> Result<Option<Duration>, ReconcileError> {
    let read = |what| move |source| ReconcileError::Read { what, source: Box::new(source) };
    let namespace = cached.namespace().unwrap_or_default();
    let api: Api<TabaCluster> = Api::namespaced(context.client.clone(), &namespace);
    // The cache may be behind, and whether a shard was founded is in the status.
    let found = api.get_opt(&cached.name_any()).await.map_err(read("the cluster"))?;
    let Some(cluster) = found.filter(|cluster| cluster.metadata.deletion_timestamp.is_none()) else {
        // Its children are owned by it, and go with it without our help.
        return Ok(None);
    };
    let valid = match Valid::new(&cluster, &context.settings) {
        Ok(valid) => valid,
        Err(error) => {
            let why = std::error::Error::source(&error).map(|source| format!("{error}: {source}"));
            let why = why.unwrap_or_else(|| error.to_string());
            let status = report::stopped(&cluster, "InvalidSpec", &why, &now());
            let again = finish(context, &api, &cluster, &status, &[]).await?;
            return Ok(Some(again.unwrap_or(AT_REST)));
        }
    };
    let name = cluster.name_any();
    let children = observe::children(&context.client, &namespace, &name).await;
    let children = children.map_err(read("its objects"))?;
    if let Some(why) = retained::misfit(&valid, &children) {
        let status = report::stopped(&cluster, "RetainedDataDiffers", &why, &now());
        let again = finish(context, &api, &cluster, &status, &[]).await?;
        return Ok(Some(again.unwrap_or(WATCHFUL)));
    }
    let outcome = work(context, &cluster, &valid, &children).await?;
    let again = finish(context, &api, &cluster, &outcome.status, &outcome.told).await?;
    Ok(Some(again.map_or(outcome.next, |again| again.min(outcome.next))))
}

async fn work(
    context: &Context,
    cluster: &TabaCluster,
    valid: &Valid,
    children: &Children,
) -> Result<Outcome, ReconcileError> {
    let secrets = Secrets::complete(&valid.names, valid.shards(), &children.secrets_by_name(), fresh_secret);
    let image = build::image(cluster, &context.release_image);
    let facts = Facts {
        image: image.clone(),
        secrets: secrets.clone(),
        claim_sizes: children.claim_sizes(),
        replicas: children.replicas(&valid.names),
    };
    let now = now();
    let world = observe::world(cluster, valid, children, &secrets, &context.keepers, now.0).await;
    let mut problems = Vec::new();
    let mut told = Vec::new();
    let written = if cluster.spec.paused {
        Written::default()
    } else {
        apply(context, cluster, valid, children, &facts, &world, &mut problems).await?
    };
    let planned = plan(&world);
    let mut acted = false;
    if !cluster.spec.paused && !has_templates(&written) {
        let outcomes = act(context, cluster, valid, &world, &planned, &secrets).await;
        acted = !outcomes.is_empty();
        settle(context, cluster, outcomes, &mut told, &mut problems)?;
    }
    let status = report::status(&Pass {
        cluster,
        world: &world,
        plan: &planned,
        problems: &problems,
        has_written: !written.writes.is_empty(),
        is_whole: written.is_whole,
        image: &image,
        selector: &selector_text(&valid.names, Component::Server(Role::Frontend)),
        now,
    });
    let next = if acted || !written.writes.is_empty() { SOON } else { pace(&status, &planned) };
    Ok(Outcome { status, told, next })
}

/// Pods are judged by templates, so what was observed before a template was written is of no use.
fn has_templates(written: &Written) -> bool {
    written.writes.iter().any(|write| write.contains("StatefulSet"))
}

/// Writes objects. What stands in the way of one cluster only is a problem to report.
async fn apply(
    context: &Context,
    cluster: &TabaCluster,
    valid: &Valid,
    children: &Children,
    facts: &Facts,
    world: &World,
    problems: &mut Vec<Problem>,
) -> Result<Written, ReconcileError> {
    let mut objects = build::build(valid, facts);
    stage(&mut objects, &valid.names, children, world);
    let applier = Applier {
        client: &context.client,
        namespace: valid.names.namespace(),
        owner: cluster.metadata.uid.as_deref().unwrap_or_default(),
        leadership: &context.leadership,
        futile: &context.futile,
        metrics: &context.metrics,
    };
    let mut written = Written::default();
    let ended = applier.apply(&objects, children, &mut written).await;
    if !written.writes.is_empty() {
        tracing::info!(cluster = cluster.name_any(), writes = ?written.writes, "objects written");
    }
    sort(written, ended, problems)
}

/// Sorts what writing came to. What was written stays so whatever ended it.
fn sort(
    written: Written,
    ended: Result<(), ApplyError>,
    problems: &mut Vec<Problem>,
) -> Result<Written, ReconcileError> {
    problems.extend(written.problems.iter().map(|error| problem("VolumeCannotGrow", error)));
    if let Err(error) = ended {
        problems.push(stopped(error)?);
    }
    Ok(written)
}

/// What ended the writing, if it concerns this cluster alone.
fn stopped(error: ApplyError) -> Result<Problem, ReconcileError> {
    match error {
        ApplyError::NotLeader(error) => Err(error.into()),
        ApplyError::Taken { .. } => Ok(problem("NameTaken", &error)),
        ApplyError::Write { .. } if is_refusal(&error) => Ok(problem("ApplyRefused", &error)),
        error => Err(ReconcileError::Apply { error }),
    }
}

/// The API server said no, so trying again at once does not help: quotas, admission, rights.
fn is_refusal(error: &ApplyError) -> bool {
    let ApplyError::Write { source, .. } = error else { return false };
    matches!(&**source, kube::Error::Api(status) if matches!(status.code, 400..=499) && status.code != 429)
}

fn problem(reason: &'static str, error: &ApplyError) -> Problem {
    let message = match error {
        ApplyError::Write { source, .. } => match &**source {
            kube::Error::Api(status) => format!("{error}: {}", status.message),
            source => format!("{error}: {source}"),
        },
        error => error.to_string(),
    };
    Problem { reason, message }
}

async fn act(
    context: &Context,
    cluster: &TabaCluster,
    valid: &Valid,
    world: &World,
    planned: &Plan,
    secrets: &Secrets,
) -> Vec<Result<Told, ActError>> {
    let actor = Actor {
        client: &context.client,
        namespace: valid.names.namespace(),
        leadership: &context.leadership,
        keepers: &context.keepers,
        secrets,
        metrics: &context.metrics,
    };
    let mut outcomes = Vec::new();
    for action in &planned.actions {
        outcomes.push(actor.act(action, world).await);
    }
    let settings = valid.watch_settings();
    let passed = context.begun.elapsed();
    let repairs =
        context.remember(cluster, |it| watch::repairs(world, &settings, &mut it.suspicions, passed));
    for repair in &repairs {
        if repair.fault.replaces() {
            context.remember(cluster, |it| it.suspicions.replaces(passed));
        }
        outcomes.push(actor.repair(repair, world, &settings).await);
    }
    outcomes
}

/// Sorts what acts came to. A single refusal is ordinary: a failover may be under way.
fn settle(
    context: &Context,
    cluster: &TabaCluster,
    outcomes: Vec<Result<Told, ActError>>,
    told: &mut Vec<Told>,
    problems: &mut Vec<Problem>,
) -> Result<(), ReconcileError> {
    let has_any = !outcomes.is_empty();
    let mut failed = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(one) => told.push(one),
            Err(ActError::NotLeader(error)) => return Err(error.into()),
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(cluster = cluster.name_any(), %error, source, "an act failed");
                failed.push(error.to_string());
            }
        }
    }
    if !has_any {
        return Ok(());
    }
    let failures = context.remember(cluster, |it| {
        it.failed_acts = if failed.is_empty() { 0 } else { it.failed_acts.saturating_add(1) };
        it.failed_acts
    });
    if failures >= FAILED_ACTS_TOLD {
        problems.push(Problem { reason: "ActsRefused", message: failed.join("; ") });
    }
    Ok(())
}

/// How soon to look again.
fn pace(status: &TabaClusterStatus, planned: &Plan) -> Duration {
    let is = |kind: &str| status.conditions.iter().any(|one| one.type_ == kind && one.status == "True");
    let is_at_rest = is("Available") && !is("Progressing") && !is("Degraded");
    let is_new = |note: &Note| matches!(note.kind, NoteKind::Creating | NoteKind::Founding);
    match planned.notes.as_slice() {
        [] if is_at_rest => AT_REST,
        notes if notes.iter().any(is_new) => EXPECTANT,
        _ => WATCHFUL,
    }
}

fn fresh_secret() -> String {
    rand::rng().sample_iter(rand::distr::Alphanumeric).take(SECRET_CHARS).map(char::from).collect()
}

fn now() -> Time {
    // Kubernetes keeps seconds; what is finer would look like a change.
    let now = Timestamp::now().as_second();
    Time(Timestamp::from_second(now).expect("the clock is between the years -9999 and 9999"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_that_fail_are_tried_later_each_time_up_to_a_bound() {
        let secs = |failures| backoff(failures, 1.0).as_secs();
        assert_eq!([secs(1), secs(2), secs(5), secs(6), secs(1000)], [2, 4, 32, 60, 60]);
        assert_eq!(backoff(1, 0.5), Duration::from_secs(1));
    }

    #[test]
    fn a_template_written_before_a_taken_name_is_remembered() {
        let writes = vec!["apply StatefulSet main-s0".to_owned()];
        let taken = ApplyError::Taken {
            kind: "Deployment".to_owned(),
            name: "main-frontend".to_owned(),
            owner: "nobody".to_owned(),
        };
        let mut problems = Vec::new();
        let written = Written { writes, ..Written::default() };
        let written = sort(written, Err(taken), &mut problems).expect("a problem to report");
        assert!(has_templates(&written) && !written.is_whole);
        assert_eq!(problems[0].reason, "NameTaken");
    }

    #[test]
    fn secrets_are_long_and_plain_and_not_the_same_twice() {
        let (one, other) = (fresh_secret(), fresh_secret());
        assert_ne!(one, other);
        assert!(one.len() == SECRET_CHARS && one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
