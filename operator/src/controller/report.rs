//! The status that follows from what was observed and planned: a pure function.
//!
//! Each condition answers one question. Its transition time moves only when its status does, and nothing in a
//! status grows by itself, so a cluster at rest has the same status at every look.

mod before;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use taba_keeper::api::StateAnswer;

use self::before::Before;
use super::plan::{NoteKind, Plan};
use super::world::{Pod, Sentinel, Servers, Shard, Trouble, World};
use crate::api::{ConditionType, RoleStatus, ShardStatus, TabaCluster, TabaClusterStatus};

#[cfg(test)]
mod tests;

/// Longest message of a condition; the API server takes 32 KiB, people less.
const MESSAGE_CHARS_MAX: usize = 1024;

/// Lag is reported in steps, or it would be a new status at every look.
const LAG_STEP_BYTES: u64 = 16 << 20;

/// What is known after a pass.
#[derive(Debug)]
pub struct Pass<'a> {
    /// The cluster.
    pub cluster: &'a TabaCluster,
    /// What was observed.
    pub world: &'a World,
    /// What was planned.
    pub plan: &'a Plan,
    /// What could not be done.
    pub problems: &'a [Problem],
    /// Objects were written in this pass, so what was observed is old.
    pub has_written: bool,
    /// The writing of objects did not end early.
    pub is_whole: bool,
    /// The image that the cluster keeps to.
    pub image: &'a str,
    /// The label selector of frontends.
    pub selector: &'a str,
    /// The time, for transitions.
    pub now: Time,
}

/// Something that could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// As a reason of a condition.
    pub reason: &'static str,
    /// In a sentence.
    pub message: String,
}

/// The answer to a condition's question.
struct Answer {
    is_true: bool,
    reason: String,
    message: String,
}

impl Answer {
    fn new(is_true: bool, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { is_true, reason: reason.into(), message: message.into() }
    }
}

/// The status after a pass.
#[must_use]
pub fn status(pass: &Pass<'_>) -> TabaClusterStatus {
    let Pass { cluster, world, .. } = pass;
    let open = world.shards.iter().filter(|shard| shard.primary().is_some()).count();
    let frontend = servers(world, "frontend");
    let work = work(pass);
    let missing = Missing::of(pass, work.is_some());
    let answers = [
        (ConditionType::Available, available(pass)),
        (ConditionType::Progressing, progressing(pass, work, &missing)),
        (ConditionType::Degraded, degraded(pass, &missing)),
    ];
    TabaClusterStatus {
        observed_generation: cluster.metadata.generation,
        conditions: conditions(cluster, answers, &pass.now),
        image: Some(pass.image.to_owned()),
        shards_ready: Some(format!("{open}/{}", world.shards.len())),
        shards: world.shards.iter().map(shard_status).collect(),
        sentinel: Some(sentinel_status(world)),
        frontend: frontend.map(role_status),
        backend: servers(world, "backend").map(role_status),
        control: servers(world, "control").map(role_status),
        replicas: frontend.map(|servers| servers.total),
        selector: Some(pass.selector.to_owned()),
    }
}

/// The status of a cluster that cannot be built: as it was, with the reason.
#[must_use]
pub fn stopped(cluster: &TabaCluster, reason: &str, why: &str, now: &Time) -> TabaClusterStatus {
    let old = cluster.status.clone().unwrap_or_default();
    let answers = [
        (ConditionType::Progressing, Answer::new(false, reason, why)),
        (ConditionType::Degraded, Answer::new(true, reason, why)),
    ];
    let mut changed = conditions(cluster, answers, now);
    let kept = old.conditions.iter().filter(|one| changed.iter().all(|new| new.type_ != one.type_));
    let kept: Vec<_> = kept.cloned().collect();
    changed.extend(kept);
    TabaClusterStatus { observed_generation: cluster.metadata.generation, conditions: changed, ..old }
}

fn conditions<const N: usize>(
    cluster: &TabaCluster,
    answers: [(ConditionType, Answer); N],
    now: &Time,
) -> Vec<Condition> {
    let old = cluster.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let condition = |(kind, answer): (ConditionType, Answer)| {
        let status = if answer.is_true { "True" } else { "False" };
        let before = old.iter().find(|one| one.type_ == kind.as_str() && one.status == status);
        Condition {
            type_: kind.as_str().to_owned(),
            status: status.to_owned(),
            reason: answer.reason,
            message: short(&answer.message),
            observed_generation: cluster.metadata.generation,
            last_transition_time: before.map_or_else(|| now.clone(), |one| one.last_transition_time.clone()),
        }
    };
    answers.into_iter().map(condition).collect()
}

/// Are posts taken and queries answered in full?
fn available(pass: &Pass<'_>) -> Answer {
    let world = pass.world;
    let closed: Vec<_> = world.shards.iter().filter(|shard| shard.primary().is_none()).collect();
    if !closed.is_empty() {
        let is_new = closed.iter().all(|shard| shard.recorded_id.is_none());
        let reason = if is_new { "ShardsNotFounded" } else { "ShardsClosed" };
        return Answer::new(false, reason, format!("no open primary: {}", names(&closed)));
    }
    let refusing: Vec<_> =
        world.shards.iter().filter(|shard| in_sync(shard).len() <= shard.min_in_sync).collect();
    if !refusing.is_empty() {
        let message = format!("too few members in sync to take posts: {}", names(&refusing));
        return Answer::new(false, "ShardsBelowMinInSync", message);
    }
    for (role, reason) in [("frontend", "NoFrontend"), ("backend", "NoBackend")] {
        let ready = servers(world, role).map_or(0, |servers| servers.ready);
        if ready == 0 {
            return Answer::new(false, reason, format!("no {role} is ready"));
        }
    }
    Answer::new(true, "Serving", "posts are taken and queries are answered in full")
}

/// Is the operator still at work on what the spec says?
fn progressing(pass: &Pass<'_>, work: Option<Answer>, missing: &Missing) -> Answer {
    if pass.cluster.spec.paused {
        return Answer::new(false, "Paused", "spec.paused is true: nothing is changed or healed");
    }
    if let Some(work) = work {
        return work;
    }
    if let Some((_, message)) = missing.expected.first() {
        return Answer::new(true, "StartingPods", message.clone());
    }
    if !pass.is_whole {
        return Answer::new(true, "Applying", "not all objects could be written");
    }
    if pass.has_written {
        return Answer::new(true, "Applying", "objects were written");
    }
    Answer::new(false, "UpToDate", "all objects are as the spec says")
}

/// What is under way, if anything is.
fn work(pass: &Pass<'_>) -> Option<Answer> {
    for (kind, reason) in [
        (NoteKind::Creating, "CreatingShards"),
        (NoteKind::Founding, "FoundingShards"),
        (NoteKind::Rolling, "ReplacingShardPods"),
    ] {
        if let Some(message) = notes(pass.plan, kind) {
            return Some(Answer::new(true, reason, message));
        }
    }
    let world = pass.world;
    let rolls = |servers: &&Servers| {
        !servers.exists
            || !servers.is_observed
            || servers.updated < servers.wanted
            || servers.total > servers.wanted
    };
    let rolling: Vec<_> = world.servers.iter().filter(rolls).map(|servers| servers.role.as_str()).collect();
    if !rolling.is_empty() {
        let message = format!("not all pods are new: {}", rolling.join(", "));
        return Some(Answer::new(true, "ReplacingServers", message));
    }
    if !world.sentinel_set.as_ref().is_some_and(|set| {
        set.is_observed && set.updated >= world.sentinels.len() && set.replicas == world.sentinels.len()
    }) {
        return Some(Answer::new(true, "ReplacingSentinels", "not all Sentinels are new"));
    }
    let grows = world.shards.iter().any(|shard| shard.present().count() < shard.members.len());
    grows.then(|| Answer::new(true, "AddingReplicas", "members are told of those to come"))
}

/// What is not there, each with a reason: because it starts or is replaced, or by accident.
#[derive(Default)]
struct Missing {
    expected: Vec<(&'static str, String)>,
    accidental: Vec<(&'static str, String)>,
}

impl Missing {
    fn of(pass: &Pass<'_>, works: bool) -> Self {
        let before = Before(pass.cluster.status.as_ref());
        let mut missing = Self::default();
        missing.add("ShardBelowReplicas", notes(pass.plan, NoteKind::BelowReplicas), false);
        missing.add("ShardBelowReplicas", notes(pass.plan, NoteKind::Returning), before.expects(works));
        let (coming, silent) = missing_sentinels(pass.world);
        missing.add("SentinelsMissing", silent, false);
        missing.add("SentinelsMissing", coming, before.expects(works));
        let short = |servers: &&Servers| servers.exists && servers.ready < servers.wanted;
        for servers in pass.world.servers.iter().filter(short) {
            let message = format!("{}: {} of {} ready", servers.role, servers.ready, servers.wanted);
            missing.add("ServersMissing", Some(message), before.expects_servers(servers, works));
        }
        missing
    }

    fn add(&mut self, reason: &'static str, message: Option<String>, is_expected: bool) {
        let list = if is_expected { &mut self.expected } else { &mut self.accidental };
        list.extend(message.map(|message| (reason, message)));
    }
}

/// Is something less than it should be?
fn degraded(pass: &Pass<'_>, missing: &Missing) -> Answer {
    let world = pass.world;
    let mut found: Vec<(String, String)> = Vec::new();
    let mut find = |reason: &str, message: Option<String>| {
        found.extend(message.map(|message| (reason.to_owned(), message)));
    };
    find("DataLost", notes(pass.plan, NoteKind::DataLost));
    find("ShardClosed", notes(pass.plan, NoteKind::Closed));
    for problem in pass.problems {
        find(problem.reason, Some(problem.message.clone()));
    }
    for (pod, trouble) in troubles(world) {
        find(&reason_of(trouble), Some(format!("pod {pod}: {}", trouble.message)));
    }
    for (reason, message) in &missing.accidental {
        find(reason, Some(message.clone()));
    }
    let Some((reason, _)) = found.first() else {
        return Answer::new(false, "AsWanted", "everything is as it should be");
    };
    let messages: Vec<_> = found.iter().map(|(_, message)| message.as_str()).collect();
    Answer::new(true, reason.clone(), messages.join("; "))
}

/// Those that come or go, and those that should answer.
fn missing_sentinels(world: &World) -> (Option<String>, Option<String>) {
    let silent =
        world.sentinels.iter().filter_map(|sentinel| Some((sentinel, sentinel.masters.as_ref().err()?)));
    let comes = |sentinel: &Sentinel| sentinel.pod.as_ref().is_none_or(Pod::comes_or_goes);
    let (coming, silent): (Vec<_>, Vec<_>) = silent.partition(|(sentinel, _)| comes(sentinel));
    let coming: Vec<_> = coming.into_iter().map(|(sentinel, _)| sentinel.name.as_str()).collect();
    let silent: Vec<_> =
        silent.into_iter().map(|(sentinel, why)| format!("{} ({why})", sentinel.name)).collect();
    let told = |what, names: String| (!names.is_empty()).then(|| format!("{what} {names}"));
    (told("waits for", coming.join(", ")), told("Sentinels that do not answer:", silent.join(", ")))
}

fn troubles(world: &World) -> impl Iterator<Item = (&str, &Trouble)> {
    let members = world.shards.iter().flat_map(|shard| &shard.members).map(|member| &member.pod);
    let sentinels = world.sentinels.iter().map(|sentinel| &sentinel.pod);
    let stateful = members
        .chain(sentinels)
        .filter_map(|pod| pod.as_ref().and_then(|pod| Some((pod.name.as_str(), pod.trouble.as_ref()?))));
    let servers = world.servers.iter().filter_map(|servers| servers.trouble.as_ref());
    stateful.chain(servers.map(|(pod, trouble)| (pod.as_str(), trouble)))
}

/// A reason must begin with a letter and hold letters and digits; Kubernetes' own do.
fn reason_of(trouble: &Trouble) -> String {
    let reason: String = trouble.reason.chars().filter(char::is_ascii_alphanumeric).collect();
    if reason == "Unschedulable" { "PodUnschedulable".to_owned() } else { format!("Pod{reason}") }
}

fn notes(plan: &Plan, kind: NoteKind) -> Option<String> {
    let of_kind = plan.notes.iter().filter(|note| note.kind == kind);
    let messages: Vec<_> = of_kind.map(|note| format!("{}: {}", note.shard, note.message)).collect();
    (!messages.is_empty()).then(|| messages.join("; "))
}

fn names(shards: &[&Shard]) -> String {
    shards.iter().map(|shard| shard.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn servers<'a>(world: &'a World, role: &str) -> Option<&'a Servers> {
    world.servers.iter().find(|servers| servers.role == role)
}

fn role_status(servers: &Servers) -> RoleStatus {
    RoleStatus {
        ready: Some(format!("{}/{}", servers.ready, servers.wanted)),
        updated: Some(servers.updated),
    }
}

fn sentinel_status(world: &World) -> RoleStatus {
    let ready = world.sentinels.iter().filter(|sentinel| sentinel.masters.is_ok()).count();
    let updated = world.sentinel_set.as_ref().map_or(0, |set| set.updated);
    RoleStatus {
        ready: Some(format!("{ready}/{}", world.sentinels.len())),
        updated: i32::try_from(updated).ok(),
    }
}

fn shard_status(shard: &Shard) -> ShardStatus {
    let primary = shard.primary();
    let waits = || {
        let whys = shard.members.iter().map(|member| format!("{}: {}", member.name, member.why()));
        short(&whys.collect::<Vec<_>>().join("; "))
    };
    ShardStatus {
        name: shard.name.clone(),
        // What was recorded stays: it is what keeps the shard from being founded again.
        shard_id: shard.recorded_id.clone().or_else(|| shard.data_id().map(ToOwned::to_owned)),
        primary: primary.map(|(member, _)| member.name.clone()),
        term: primary.and_then(|(_, state)| i64::try_from(state.term).ok()),
        in_sync: in_sync(shard),
        lag_bytes: primary.map(|(_, state)| steps(state)),
        waiting_for: primary.is_none().then(waits),
    }
}

fn steps(state: &StateAnswer) -> i64 {
    i64::try_from(state.lag_bytes / LAG_STEP_BYTES * LAG_STEP_BYTES).unwrap_or(i64::MAX)
}

fn in_sync(shard: &Shard) -> Vec<String> {
    let members = shard.members.iter().filter(|member| shard.is_in_sync(member));
    members.map(|member| member.name.clone()).collect()
}

fn short(message: &str) -> String {
    if message.chars().count() <= MESSAGE_CHARS_MAX {
        return message.to_owned();
    }
    let mut short: String = message.chars().take(MESSAGE_CHARS_MAX - 1).collect();
    short.push('…');
    short
}
