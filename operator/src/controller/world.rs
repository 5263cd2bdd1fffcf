//! What was observed, as plain values: all that decisions look at. No client, no clock.

use std::net::IpAddr;

use taba_keeper::api::StateAnswer;

use crate::sentinels::MasterSeen;

/// A cluster as it was observed.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The shards, all that are wanted.
    pub shards: Vec<Shard>,
    /// The Sentinels, all that are wanted.
    pub sentinels: Vec<Sentinel>,
    /// The StatefulSet of the Sentinels.
    pub sentinel_set: Option<Set>,
    /// Frontends, backends, control servers.
    pub servers: Vec<Servers>,
}

/// A shard.
#[derive(Clone, Debug)]
pub struct Shard {
    /// Its place among the shards.
    pub index: usize,
    /// `s0`.
    pub name: String,
    /// The Sentinel master name.
    pub master: String,
    /// The identity that the status has recorded: then the shard has been founded.
    pub recorded_id: Option<String>,
    /// Replicas that must hold a write besides the primary.
    pub min_in_sync: usize,
    /// Its StatefulSet.
    pub set: Option<Set>,
    /// Its members, all that are wanted.
    pub members: Vec<Member>,
}

/// A StatefulSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// `spec.replicas`.
    pub replicas: usize,
    /// Its controller has seen its newest spec, so `outdated` of pods is of now.
    pub is_observed: bool,
    /// Pods that run the newest template.
    pub updated: usize,
    /// Pods that are ready.
    pub ready: usize,
}

/// A member of a shard.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name, and that of its pod.
    pub name: String,
    /// The host it announces.
    pub host: String,
    /// Its pod.
    pub pod: Option<Pod>,
    /// What its keeper said, or why it said nothing.
    pub keeper: Result<StateAnswer, String>,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Which pod of this name.
    pub uid: String,
    /// Its address, once it has one.
    pub ip: Option<IpAddr>,
    /// It runs another template than the newest.
    pub is_outdated: bool,
    /// It is being deleted.
    pub is_terminating: bool,
    /// It is ready.
    pub is_ready: bool,
    /// Its main container runs.
    pub is_running: bool,
    /// It was made a short while ago, and none of its containers has ended yet.
    pub is_young: bool,
    /// Why it does not run, if Kubernetes says so.
    pub trouble: Option<Trouble>,
}

/// Why a pod does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// In one word, as Kubernetes has it: `Unschedulable`, `ImagePullBackOff`, `CrashLoopBackOff`.
    pub reason: String,
    /// In a sentence.
    pub message: String,
}

/// A Sentinel.
#[derive(Clone, Debug)]
pub struct Sentinel {
    /// Its pod's name.
    pub name: String,
    /// Its pod.
    pub pod: Option<Pod>,
    /// What it watches, or why it does not answer.
    pub masters: Result<Vec<MasterSeen>, String>,
}

/// Servers of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    /// The role.
    pub role: String,
    /// There is a Deployment.
    pub exists: bool,
    /// How many are wanted.
    pub wanted: i32,
    /// How many are ready.
    pub ready: i32,
    /// How many run the newest template.
    pub updated: i32,
    /// How many there are, old ones included.
    pub total: i32,
    /// How many are starting.
    pub starting: i32,
    /// The Deployment was made a short while ago, so its pods may still have to be.
    pub is_young: bool,
    /// The Deployment's controller has seen its newest spec.
    pub is_observed: bool,
    /// The first pod that does not run, and why.
    pub trouble: Option<(String, Trouble)>,
}

impl Shard {
    /// The member whose Redis is the open primary: of the highest term, should two say so.
    #[must_use]
    pub fn primary(&self) -> Option<(&Member, &StateAnswer)> {
        let answers = self.members.iter().filter_map(|member| Some((member, member.answer()?)));
        answers.filter(|(_, state)| state.open).max_by_key(|(_, state)| state.term)
    }

    /// Whether the member holds every acknowledged write, by its own word and the primary's.
    #[must_use]
    pub fn is_in_sync(&self, member: &Member) -> bool {
        let Some((primary, opened)) = self.primary() else { return false };
        let Some(state) = member.answer() else { return false };
        let is_steady = member.pod.as_ref().is_some_and(|pod| !pod.is_terminating);
        let is_linked = member.name == primary.name
            || (state.role == "replica" && state.link_up && state.promised.term == opened.term);
        is_steady
            && is_linked
            && state.redis_alive
            && state.settled
            && !state.leaving
            && state.shard_id == opened.shard_id
            && opened.in_sync.contains(&state.address)
    }

    /// The members whose pods the StatefulSet makes now. While a shard grows, those to come are told to the others first.
    pub fn present(&self) -> impl Iterator<Item = &Member> {
        let count = self.set.as_ref().map_or(0, |set| set.replicas);
        self.members.iter().take(count)
    }

    /// All members that the StatefulSet makes now are in sync.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.set.as_ref().is_some_and(|set| set.replicas > 0)
            && self.present().all(|member| self.is_in_sync(member))
    }

    /// Every pod runs the newest template.
    #[must_use]
    pub fn is_updated(&self) -> bool {
        self.set.as_ref().is_some_and(|set| set.is_observed)
            && self.present().all(|member| member.pod.as_ref().is_some_and(|pod| !pod.is_outdated))
    }

    /// The identity in the members' data, if they agree.
    #[must_use]
    pub fn data_id(&self) -> Option<&str> {
        self.primary().and_then(|(_, state)| state.shard_id.as_deref())
    }

    /// Members that do not do their part, each with the reason.
    pub fn missing(&self) -> impl Iterator<Item = (&Member, String)> {
        self.members.iter().filter(|member| !self.is_in_sync(member)).map(|member| (member, member.why()))
    }
}

impl Pod {
    /// It starts, or goes to make room for one that will, and nothing is wrong with it.
    #[must_use]
    pub const fn comes_or_goes(&self) -> bool {
        self.trouble.is_none() && (self.is_young || self.is_terminating)
    }
}

impl Member {
    /// What its keeper said.
    #[must_use]
    pub fn answer(&self) -> Option<&StateAnswer> {
        self.keeper.as_ref().ok()
    }

    /// What keeps it from doing its part.
    #[must_use]
    pub fn why(&self) -> String {
        match (&self.pod, &self.keeper) {
            (None, _) => "no pod".to_owned(),
            (Some(pod), _) if pod.is_terminating => "pod is ending".to_owned(),
            (Some(Pod { trouble: Some(trouble), .. }), Err(_)) => {
                format!("{}: {}", trouble.reason, trouble.message)
            }
            (Some(_), Err(why)) => format!("keeper: {why}"),
            (Some(_), Ok(state)) if !state.waiting_for.is_empty() => state.waiting_for.clone(),
            (Some(_), Ok(state)) if !state.redis_alive => "redis does not answer".to_owned(),
            (Some(_), Ok(state)) if state.open => "open, of an older term".to_owned(),
            (Some(_), Ok(state)) if !state.link_up => "no link to the primary".to_owned(),
            (Some(_), Ok(_)) => "catching up".to_owned(),
        }
    }
}
