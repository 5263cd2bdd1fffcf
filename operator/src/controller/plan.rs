//! What to do about shards: a pure function of what was observed.
//!
//! The rules, in this order, for each shard:
//! 1. A pod of an old template that does not run is replaced: it serves nobody, and its volume stays.
//! 2. A shard is founded once: when all members answer and none ever had data. Once the status has its
//!    identity, never again, whatever the members say.
//! 3. Without an open primary nothing is touched: keepers find the newest copy, and we say whom they wait for.
//! 4. Pods of an old template are replaced one at a time over the whole cluster, and only while every other
//!    member of the shard is in sync: replicas first, the primary last, after a handover.
//!
//! Planning again from what a plan brought about ends in an empty plan.

use super::world::{Member, Pod, Shard, World};

#[cfg(test)]
mod tests;

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask this member's keeper to make a new shard.
    Found {
        /// The shard's place.
        shard: usize,
        /// The member that becomes its primary.
        member: String,
    },
    /// Ask this primary's keeper for a handover to whichever replica is in sync.
    HandOver {
        /// The shard's place.
        shard: usize,
        /// The primary.
        from: String,
    },
    /// Delete this very pod; its StatefulSet makes a new one.
    DeletePod {
        /// The shard's place.
        shard: usize,
        /// Its name.
        pod: String,
        /// Which pod of this name.
        uid: String,
        /// Why.
        why: Why,
    },
}

/// Why a pod is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It runs an old template.
    Outdated,
    /// It runs an old template, or rather does not run.
    Broken,
}

/// Something that keeps a shard from being as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Which kind.
    pub kind: NoteKind,
    /// The shard.
    pub shard: String,
    /// In a sentence, for people.
    pub message: String,
}

/// Kinds of notes; each is a reason in a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteKind {
    /// Data that the shard is known to have had are gone from all members, or are another shard's. A person
    /// must look.
    DataLost,
    /// It takes no writes: keepers wait for someone.
    Closed,
    /// Pods are not there yet.
    Creating,
    /// It is about to be founded.
    Founding,
    /// Pods are being replaced.
    Rolling,
    /// Some member is not in sync, but its pod comes or goes and nothing is wrong with it.
    Returning,
    /// Some member is not in sync.
    BelowReplicas,
}

/// What to do, and what is not as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// By shard.
    pub notes: Vec<Note>,
}

impl Plan {
    fn note(&mut self, shard: &Shard, kind: NoteKind, message: String) {
        self.notes.push(Note { kind, shard: shard.name.clone(), message });
    }
}

/// Plans for all shards.
#[must_use]
pub fn plan(world: &World) -> Plan {
    let mut plan = Plan::default();
    let unsteady: Vec<usize> =
        world.shards.iter().filter(|shard| is_unsteady(shard)).map(|shard| shard.index).collect();
    for shard in &world.shards {
        let is_broken = replace_broken(shard, &mut plan);
        let others_steady = unsteady.iter().all(|index| *index == shard.index);
        // One roll at a time: an action that disturbs a shard keeps the next shards waiting.
        let is_calm = others_steady && !plan.actions.iter().any(disturbs);
        let next = plan_shard(world, shard, is_calm, &mut plan);
        plan.actions.extend(next.filter(|_| !is_broken));
    }
    plan
}

const fn disturbs(action: &Action) -> bool {
    matches!(action, Action::HandOver { .. } | Action::DeletePod { why: Why::Outdated, .. })
}

/// A founded shard that lacks a member: no other one is disturbed meanwhile.
fn is_unsteady(shard: &Shard) -> bool {
    shard.recorded_id.is_some() && !shard.is_whole()
}

fn plan_shard(world: &World, shard: &Shard, is_calm: bool, plan: &mut Plan) -> Option<Action> {
    let Some(set) = &shard.set else {
        plan.note(shard, NoteKind::Creating, "the StatefulSet is not there yet".to_owned());
        return None;
    };
    if let Some(message) = lost(shard) {
        plan.note(shard, NoteKind::DataLost, message);
        return None;
    }
    let Some((primary, _)) = shard.primary() else {
        closed(world, shard, plan);
        return None;
    };
    missing(shard, plan);
    if !set.is_observed {
        plan.note(
            shard,
            NoteKind::Rolling,
            "the StatefulSet's controller has not seen its spec yet".to_owned(),
        );
        return None;
    }
    let outdated = shard.present().filter(|member| member.pod.as_ref().is_some_and(|pod| pod.is_outdated));
    let names: Vec<_> = outdated.map(|member| member.name.as_str()).collect();
    if !names.is_empty() {
        plan.note(shard, NoteKind::Rolling, format!("pods of an old template: {}", names.join(", ")));
    }
    roll(shard, primary, is_calm)
}

/// Notes members that are not in sync. Of those that come back by themselves it says no reason: that changes with
/// every look.
fn missing(shard: &Shard, plan: &mut Plan) {
    let missing: Vec<_> = shard.missing().collect();
    if missing.is_empty() {
        return;
    }
    if missing.iter().all(|(member, _)| member.pod.as_ref().is_none_or(Pod::comes_or_goes)) {
        let names: Vec<_> = missing.iter().map(|(member, _)| member.name.as_str()).collect();
        plan.note(shard, NoteKind::Returning, format!("waits for {}", names.join(", ")));
    } else {
        let whys: Vec<_> = missing.iter().map(|(member, why)| format!("{} ({why})", member.name)).collect();
        plan.note(shard, NoteKind::BelowReplicas, format!("not in sync: {}", whys.join(", ")));
    }
}

/// The next step of replacing pods of an old template.
fn roll(shard: &Shard, primary: &Member, is_calm: bool) -> Option<Action> {
    let outdated: Vec<_> = shard.present().filter_map(|member| Some((member, old_pod(member)?))).collect();
    let others_in_sync =
        |member: &Member| shard.present().all(|other| other.name == member.name || shard.is_in_sync(other));
    let mut replicas = outdated.iter().filter(|(member, _)| member.name != primary.name);
    // A member that alone is out of sync goes first: replacing it takes nothing away.
    let alone = replicas.clone().find(|(member, _)| !shard.is_in_sync(member) && others_in_sync(member));
    if let Some((_, pod)) = alone {
        return Some(delete(shard, pod, Why::Outdated));
    }
    if !is_calm {
        return None;
    }
    if let Some((_, pod)) = replicas.find(|(member, _)| others_in_sync(member)) {
        return Some(delete(shard, pod, Why::Outdated));
    }
    let (member, pod) = outdated.iter().find(|(member, _)| member.name == primary.name)?;
    if outdated.len() > 1 || !shard.is_whole() {
        return None;
    }
    if shard.present().count() == 1 {
        return Some(delete(shard, pod, Why::Outdated));
    }
    Some(Action::HandOver { shard: shard.index, from: member.name.clone() })
}

/// The member's pod, if it runs an old template and is not on its way out.
fn old_pod(member: &Member) -> Option<&Pod> {
    member.pod.as_ref().filter(|pod| pod.is_outdated && !pod.is_terminating)
}

/// Whether there was one.
fn replace_broken(shard: &Shard, plan: &mut Plan) -> bool {
    let mut has_any = false;
    if !shard.set.as_ref().is_some_and(|set| set.is_observed) {
        return has_any;
    }
    for member in shard.present() {
        let Some(pod) = old_pod(member) else { continue };
        if !pod.is_running && member.keeper.is_err() {
            plan.actions.push(delete(shard, pod, Why::Broken));
            has_any = true;
        }
    }
    has_any
}

fn delete(shard: &Shard, pod: &Pod, why: Why) -> Action {
    Action::DeletePod { shard: shard.index, pod: pod.name.clone(), uid: pod.uid.clone(), why }
}

/// Why a person must look, if one must.
fn lost(shard: &Shard) -> Option<String> {
    let recorded = shard.recorded_id.as_deref()?;
    if let Some(found) = shard.data_id().filter(|found| *found != recorded) {
        return Some(format!("the data are of shard {found}, but this cluster's is {recorded}"));
    }
    let is_fresh = |member: &Member| member.answer().is_some_and(|state| state.fresh && state.redis_alive);
    (shard.primary().is_none() && shard.members.iter().all(is_fresh)).then(|| {
        format!(
            "all members are empty, but the shard was founded as {recorded}: bring the volumes back, or give the \
             data up by making a new TabaCluster"
        )
    })
}

/// No primary is open: found the shard, or say whom it waits for.
fn closed(world: &World, shard: &Shard, plan: &mut Plan) {
    let silent: Vec<_> = shard
        .members
        .iter()
        .filter(|member| !member.answer().is_some_and(|state| state.redis_alive))
        .map(|member| format!("{} ({})", member.name, member.why()))
        .collect();
    if shard.recorded_id.is_some() || shard.members.iter().any(has_data_to_keep(shard)) {
        let waits: Vec<_> =
            shard.members.iter().map(|member| format!("{}: {}", member.name, member.why())).collect();
        plan.note(shard, NoteKind::Closed, format!("no primary is open; {}", waits.join("; ")));
        return;
    }
    if replace_unfounded(shard, plan) {
        plan.note(
            shard,
            NoteKind::Rolling,
            "pods of an old template are replaced; they hold no data".to_owned(),
        );
        return;
    }
    if !silent.is_empty() {
        plan.note(shard, NoteKind::Creating, format!("waits for {}", silent.join(", ")));
        return;
    }
    let Some(founder) = shard.members.first() else { return };
    if !sentinels_name(world, shard, founder) {
        let message = format!("waits for most Sentinels to name {}", founder.name);
        plan.note(shard, NoteKind::Founding, message);
        return;
    }
    plan.note(shard, NoteKind::Founding, format!("{} founds the shard", founder.name));
    plan.actions.push(Action::Found { shard: shard.index, member: founder.name.clone() });
}

/// Whether a member has data other than what an interrupted founding left at the first member: founding again
/// finishes that, as keepers see to (docs/shard.md).
fn has_data_to_keep(shard: &Shard) -> impl Fn(&Member) -> bool {
    let founder = shard.members.first().map(|member| member.name.clone());
    let others_fresh =
        shard.members.iter().skip(1).all(|member| member.answer().is_none_or(|state| state.fresh));
    move |member| {
        let Some(state) = member.answer().filter(|state| state.redis_alive && !state.fresh) else {
            return false;
        };
        let is_interrupted =
            Some(&member.name) == founder.as_ref() && others_fresh && state.shard_id.is_some();
        !is_interrupted
    }
}

/// Pods of an old template that never had data are replaced at once.
fn replace_unfounded(shard: &Shard, plan: &mut Plan) -> bool {
    if !shard.set.as_ref().is_some_and(|set| set.is_observed) {
        return false;
    }
    let mut has_any = false;
    for member in shard.present() {
        let is_fresh = member.answer().is_some_and(|state| state.fresh);
        if let Some(pod) = old_pod(member).filter(|_| is_fresh) {
            plan.actions.push(delete(shard, pod, Why::Outdated));
            has_any = true;
        }
    }
    has_any
}

fn sentinels_name(world: &World, shard: &Shard, founder: &Member) -> bool {
    let naming = world.sentinels.iter().filter(|sentinel| {
        sentinel.masters.as_ref().is_ok_and(|masters| {
            masters.iter().any(|master| master.name == shard.master && master.host == founder.host)
        })
    });
    naming.count() * 2 > world.sentinels.len()
}
