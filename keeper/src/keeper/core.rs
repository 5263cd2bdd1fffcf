//! What a keeper knows of itself and changes as a whole.

use std::collections::HashMap;

use crate::address::Address;
use crate::api::StateAnswer;
use crate::config::Config;
use crate::decide::Millis;
use crate::decide::in_sync::Progress;
use crate::disk::{Disk, Notes};
use crate::redis::observed::Observed;
use crate::shard::{Position, ShardHash};

/// See the module.
pub(super) struct Core {
    /// What must not be forgotten.
    pub disk: Disk,
    /// The term in which this member is open. Never set while another member is promised.
    pub open: Option<u64>,
    /// A term that this member was open in and whose Redis could not be told yet that it no longer is.
    pub closing: Option<u64>,
    /// A handover has fenced this primary.
    pub handing_over: bool,
    /// The last look at the own Redis; none if it did not answer.
    pub observed: Option<Observed>,
    /// The process that was last seen, to notice another one.
    pub run_id: String,
    /// Whether this process has shown its data since it started.
    pub data_seen: bool,
    /// These data were read from a disk that may lack what this member has acknowledged.
    pub owes: bool,
    /// When the link to a primary was last seen up, or the process started.
    pub heard: Millis,
    /// How far replicas have come.
    pub progress: Progress,
    /// Since when a replica may enter the set again: what its keeper said before does not count.
    pub left: HashMap<Address, Millis>,
    /// When enough replicas last acknowledged.
    pub acknowledged: Option<Millis>,
    /// An operator keeps this member from being promoted.
    pub held_back: bool,
    /// Who should be promoted, and until when this is heeded.
    pub preferred: Option<(String, Millis)>,
    /// Since when another member has had a higher promise than the open term.
    pub outvoted: Option<Millis>,
    /// Since when the member that Sentinels name is not known to be open.
    pub leaderless: Option<Millis>,
    /// Since when there is no link, and whom this member follows is not known to be open.
    pub unserved: Option<Millis>,
    /// The highest term heard of.
    pub known_term: u64,
    /// Elections that failed in a row, and when the next may begin.
    pub failures: u32,
    pub elect_after: Millis,
    /// The position at the last time one was noted.
    pub last_position: Option<Position>,
    /// This member is about to stop, and must not be taken into the set.
    pub leaving: bool,
    /// What is missing.
    pub waiting_for: String,
}

impl Core {
    pub(super) fn new(disk: Disk) -> Self {
        Self {
            disk,
            open: None,
            closing: None,
            handing_over: false,
            observed: None,
            run_id: String::new(),
            data_seen: false,
            owes: false,
            heard: 0,
            progress: Progress::default(),
            left: HashMap::new(),
            acknowledged: None,
            held_back: false,
            preferred: None,
            outvoted: None,
            leaderless: None,
            unserved: None,
            known_term: 0,
            failures: 0,
            elect_after: 0,
            last_position: None,
            leaving: false,
            waiting_for: "redis does not answer".to_owned(),
        }
    }

    pub(super) const fn notes(&self) -> &Notes {
        self.disk.notes()
    }

    /// The hash, if Redis answers and has data.
    pub(super) fn shard(&self) -> Option<&ShardHash> {
        self.observed.as_ref()?.shard.as_ref()
    }

    pub(super) fn is_loading(&self) -> bool {
        self.observed.as_ref().is_some_and(|observed| observed.loading)
    }

    pub(super) fn is_primary(&self) -> bool {
        self.observed.as_ref().is_some_and(|observed| observed.is_primary)
    }

    pub(super) fn position(&self) -> Option<Position> {
        self.shard().map(|shard| shard.position)
    }

    /// The shard this member belongs to, by its notes or its data.
    pub(super) fn shard_id(&self) -> Option<&str> {
        self.notes().shard_id.as_deref().or_else(|| self.shard().map(|shard| shard.id.as_str()))
    }

    /// Own data are whole, on disk, and of the noted shard.
    pub(super) fn is_settled(&self) -> bool {
        let has_data = self.shard().is_some_and(|shard| Some(shard.id.as_str()) == self.shard_id());
        // A replica whose file cannot be written goes on in memory, and acknowledges.
        let is_written = self.observed.as_ref().is_some_and(|observed| observed.aof_write_ok);
        has_data && is_written && !self.is_loading() && self.notes().unsettled.is_none()
    }

    /// Stops being open, by its own word; Redis is told by `depose`.
    pub(super) fn close(&mut self) {
        if let Some(term) = self.open.take() {
            self.closing = Some(term);
        }
    }

    /// Redis answers and has no key.
    pub(super) fn is_empty(&self) -> bool {
        self.observed.as_ref().is_some_and(|observed| observed.empty && !observed.loading)
    }

    /// This member never held data that could count.
    pub(super) fn is_fresh(&self) -> bool {
        self.is_empty() && self.notes().settled_term == 0
    }

    pub(super) fn prefers_other(&self, own: &str, now: Millis) -> bool {
        self.preferred.as_ref().is_some_and(|(member, until)| member != own && now < *until)
    }

    pub(super) fn is_preferred(&self, own: &str, now: Millis) -> bool {
        self.preferred.as_ref().is_some_and(|(member, until)| member == own && now < *until)
    }

    /// What `GET /state` answers.
    pub(super) fn state(&self, config: &Config) -> StateAnswer {
        let observed = self.observed.as_ref();
        let shard = self.shard();
        let own = &config.own().address;
        let is_open = self.open.is_some() && observed.is_some();
        StateAnswer {
            shard: config.shard.clone(),
            shard_id: self.shard_id().map(ToOwned::to_owned),
            member: config.own().name.clone(),
            address: own.clone(),
            role: match observed {
                Some(observed) if observed.is_primary => "primary",
                Some(_) => "replica",
                None => "down",
            }
            .to_owned(),
            open: is_open,
            term: self.open.or_else(|| shard.map(|shard| shard.position.term)).unwrap_or(0),
            promised: self.notes().promise.clone(),
            position: shard.map_or(self.notes().held, |shard| shard.position),
            settled: self.is_settled(),
            fenced: observed.is_none_or(Observed::is_fenced),
            in_sync: shard.map(|shard| shard.in_sync.clone()).unwrap_or_default(),
            in_sync_version: shard.map_or(0, |shard| shard.in_sync_version),
            offset: observed.map_or(0, |observed| observed.offset),
            link_up: observed.is_some_and(|observed| observed.link_up || (is_open && observed.is_primary)),
            following: observed.and_then(|observed| observed.following.clone()),
            lag_bytes: observed.zip(shard).map_or(0, |(observed, shard)| lag(observed, shard, own)),
            redis_alive: observed.is_some(),
            fresh: self.is_fresh(),
            leaving: self.leaving,
            waiting_for: self.waiting_for.clone(),
            redis_version: observed.map(|observed| observed.version.clone()).unwrap_or_default(),
        }
    }
}

/// What the slowest replica of the set lacks.
fn lag(observed: &Observed, shard: &ShardHash, own: &Address) -> u64 {
    if !observed.is_primary {
        return 0;
    }
    let held = |member: &Address| {
        observed
            .replicas
            .iter()
            .find(|replica| replica.address == *member)
            .map_or(0, |replica| replica.offset)
    };
    let behind = shard
        .in_sync
        .iter()
        .filter(|member| *member != own)
        .map(|member| observed.offset.saturating_sub(held(member)));
    behind.max().unwrap_or(0)
}
