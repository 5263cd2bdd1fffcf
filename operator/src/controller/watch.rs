//! What to set right at Sentinels: a pure function of what was observed, what was suspected before, and `now`.
//!
//! Sentinels repair most things among themselves within seconds, so such a fault must last before it is touched.
//! Settings they never do: a new spec comes to them in this way, at once.
//! The repair of a wrong entry is `REMOVE` and `MONITOR` of that entry at that one Sentinel, one at a time, and
//! only while a majority of the others names the open primary and no failover is under way. Never `RESET`: it
//! leaves Sentinels without replicas, and a primary that dies then has no successor.

use std::collections::BTreeMap;
use std::time::Duration;

use super::world::{Shard, World};
use crate::build::WatchSettings;
use crate::sentinels::{Command, MasterSeen};

#[cfg(test)]
mod tests;

/// Others' newer configurations correct a wrong address within 15 s.
const WRONG_ADDRESS_AFTER: Duration = Duration::from_secs(60);

/// Replicas and Sentinels that are gone look so for a while in every failover and restart.
const STRANGERS_AFTER: Duration = Duration::from_secs(180);

/// Between two repairs by `REMOVE`: the Sentinel must have found all others and all replicas again.
const BETWEEN_REPLACEMENTS: Duration = Duration::from_secs(30);

/// Something to set right at one Sentinel, about one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The Sentinel's pod.
    pub sentinel: String,
    /// The shard's place.
    pub shard: usize,
    /// What is wrong.
    pub fault: Fault,
    /// The primary it should watch, where it has to be told.
    pub host: Option<String>,
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The shard is not watched.
    Unwatched,
    /// A setting differs.
    Settings,
    /// Another primary is named than the open one.
    WrongAddress,
    /// Replicas or Sentinels are known that are none of ours.
    Strangers,
}

impl Fault {
    const fn lasts(self) -> Duration {
        match self {
            // Nobody but the operator sets these right.
            Self::Unwatched | Self::Settings => Duration::ZERO,
            Self::WrongAddress => WRONG_ADDRESS_AFTER,
            Self::Strangers => STRANGERS_AFTER,
        }
    }

    /// The entry is removed and made again.
    #[must_use]
    pub const fn replaces(self) -> bool {
        matches!(self, Self::WrongAddress | Self::Strangers)
    }
}

/// Since when which entries have been wrong, and when one was last replaced, by a clock that never goes back.
#[derive(Clone, Debug, Default)]
pub struct Suspicions {
    since: BTreeMap<(String, usize, Fault), Duration>,
    replaced: Option<Duration>,
}

impl Suspicions {
    /// An entry is about to be replaced.
    pub const fn replaces(&mut self, now: Duration) {
        self.replaced = Some(now);
    }
}

/// Plans repairs. What is suspected is kept in `suspicions`.
pub fn repairs(
    world: &World,
    settings: &WatchSettings,
    suspicions: &mut Suspicions,
    now: Duration,
) -> Vec<Repair> {
    let mut since = BTreeMap::new();
    let mut repairs = Vec::new();
    let rests = suspicions.replaced.is_some_and(|last| now.saturating_sub(last) < BETWEEN_REPLACEMENTS);
    let mut may_replace = !rests;
    for sentinel in &world.sentinels {
        let Ok(masters) = &sentinel.masters else { continue };
        for shard in &world.shards {
            let seen = masters.iter().find(|master| master.name == shard.master);
            let Some(fault) = fault(world, shard, settings, seen) else { continue };
            let key = (sentinel.name.clone(), shard.index, fault);
            let first = suspicions.since.get(&key).copied().unwrap_or(now);
            since.insert(key, first);
            if now.saturating_sub(first) < fault.lasts() {
                continue;
            }
            let repair = Repair { sentinel: sentinel.name.clone(), shard: shard.index, fault, host: None };
            match (fault, to_watch(world, shard)) {
                (Fault::Settings, _) => repairs.push(repair),
                (Fault::Unwatched, Some(host)) => repairs.push(Repair { host: Some(host), ..repair }),
                (_, Some(host)) if may_replace && others_agree(world, shard, &sentinel.name) => {
                    may_replace = false;
                    repairs.push(Repair { host: Some(host), ..repair });
                }
                _ => {}
            }
        }
    }
    suspicions.since = since;
    repairs
}

fn fault(world: &World, shard: &Shard, settings: &WatchSettings, seen: Option<&MasterSeen>) -> Option<Fault> {
    let Some(seen) = seen else { return Some(Fault::Unwatched) };
    let open = shard.primary().map(|(member, _)| member.host.as_str());
    if open.is_some_and(|host| host != seen.host) {
        return Some(Fault::WrongAddress);
    }
    let is_set = seen.quorum == settings.quorum
        && seen.down_after_ms == settings.down_after_ms
        && seen.failover_timeout_ms == settings.failover_timeout_ms
        && seen.parallel_syncs == settings.parallel_syncs;
    if !is_set {
        return Some(Fault::Settings);
    }
    let is_ours = |host: &String| shard.members.iter().any(|member| member.host == *host);
    let has_strangers =
        seen.other_sentinels + 1 > world.sentinels.len() || !seen.replicas.iter().all(is_ours);
    has_strangers.then_some(Fault::Strangers)
}

/// Whom a Sentinel should be told to watch: the open primary; before the founding the first member; else whom
/// other Sentinels name. All others know more than a Sentinel that was told, and their newer configuration wins.
fn to_watch(world: &World, shard: &Shard) -> Option<String> {
    if let Some((primary, _)) = shard.primary() {
        return Some(primary.host.clone());
    }
    if shard.recorded_id.is_none() {
        return shard.members.first().map(|member| member.host.clone());
    }
    let masters = world.sentinels.iter().filter_map(|sentinel| sentinel.masters.as_ref().ok());
    let named = masters.flatten().find(|master| master.name == shard.master);
    named.map(|master| master.host.clone())
}

/// A majority of all Sentinels, this one aside, names the open primary, takes it for up, and fails over nothing.
fn others_agree(world: &World, shard: &Shard, except: &str) -> bool {
    let Some((primary, _)) = shard.primary() else { return false };
    let seen: Vec<&MasterSeen> = world
        .sentinels
        .iter()
        .filter(|sentinel| sentinel.name != except)
        .filter_map(|sentinel| sentinel.masters.as_ref().ok())
        .filter_map(|masters| masters.iter().find(|master| master.name == shard.master))
        .collect();
    let agree = seen.iter().filter(|master| master.host == primary.host && !master.is_down());
    agree.count() * 2 > world.sentinels.len() && !seen.iter().any(|master| master.is_failing_over())
}

/// The commands of a repair. The login is set by each of them: whether a Sentinel has it cannot be seen, and one that
/// was told to watch and not yet how lacks it.
#[must_use]
pub fn commands(repair: &Repair, master: &str, settings: &WatchSettings, password: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    if repair.fault.replaces() {
        commands.push(Command::Remove { name: master.to_owned() });
    }
    let mut options = vec![("auth-user", "sentinel".to_owned()), ("auth-pass", password.to_owned())];
    if let Some(host) = &repair.host {
        commands.push(Command::Monitor {
            name: master.to_owned(),
            host: host.clone(),
            port: settings.port,
            quorum: settings.quorum,
        });
    } else {
        options.push(("quorum", settings.quorum.to_string()));
    }
    options.extend([
        ("down-after-milliseconds", settings.down_after_ms.to_string()),
        ("failover-timeout", settings.failover_timeout_ms.to_string()),
        ("parallel-syncs", settings.parallel_syncs.to_string()),
    ]);
    commands.push(Command::Set { name: master.to_owned(), options });
    commands
}
