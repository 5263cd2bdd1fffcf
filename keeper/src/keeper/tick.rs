//! The loop: look at the own Redis, set right what must be right, decide, begin what was decided.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::address::Address;
use crate::decide::Millis;
use crate::decide::priority::{Standing, priority};
use crate::decide::role::{Facts, Next, next};
use crate::disk::Unsettled;
use crate::redis::FENCE;
use crate::redis::local::LocalError;

use super::core::Core;
use super::{Keeper, KeeperError};

/// Time between two looks.
const TICK: Duration = Duration::from_millis(100);

/// How often an open primary pings its replicas.
const PING_SECS: u64 = 1;

/// The same while the replication offset must stand still.
pub(super) const PING_NEVER_SECS: u64 = 86_400;

/// How long a member without its link waits for whom it follows. Less than Sentinel takes to replace a primary that is
/// gone, for one that waits may be of no use to it.
const UNSERVED_MS: Millis = 2_000;

/// How often a position is noted: longer than Redis takes to put a write on disk, which is 1 s, and 2 s more
/// if the disk is slow.
const NOTE_POSITION_TICKS: u64 = 100;

impl Keeper {
    pub(super) async fn tick_forever(self: Arc<Self>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for count in 0_u64.. {
            ticks.tick().await;
            let mut core = self.core().await;
            if let Err(error) = self.tick(&mut core).await {
                core.waiting_for = error.to_string();
                tracing::debug!(%error, "a look at redis failed");
            }
            if count % NOTE_POSITION_TICKS == 0 {
                self.note_position(&mut core);
            }
            self.publish(&core);
            self.ticked.store(self.now(), Ordering::Relaxed);
        }
    }

    async fn tick(self: &Arc<Self>, core: &mut Core) -> Result<(), KeeperError> {
        self.look(core).await?;
        self.note_start(core)?;
        self.notice_demotion(core).await?;
        self.refuse_strangers(core).await?;
        self.give_up_link(core).await?;
        self.settle(core).await?;
        self.set_right(core).await?;
        if core.open.is_some() {
            self.keep_in_sync_set(core).await;
        }
        let decided = self.decide(core);
        self.begin(core, decided);
        Ok(())
    }

    /// Looks at the own Redis. Afterwards `core.observed` is of now, or none.
    pub(super) async fn look(&self, core: &mut Core) -> Result<(), LocalError> {
        // Sentinel ends all connections of a Redis whose role it changes, so one may have to be made again.
        let first = self.local.observe().await;
        let observed = match first {
            Err(error) if error.is_disconnected() => self.local.observe().await,
            first => first,
        };
        let observed = match observed {
            Ok(observed) => observed,
            Err(error) => {
                core.observed = None;
                return Err(error);
            }
        };
        let now = self.now();
        if observed.run_id != core.run_id {
            // Another process: whatever was set in the last one is gone.
            core.run_id.clone_from(&observed.run_id);
            core.open = None;
            core.closing = None;
            core.data_seen = false;
            core.last_position = None;
            core.owes = core.notes().unsettled == Some(Unsettled::Owing);
            core.heard = now;
        }
        if observed.link_up {
            core.heard = now;
        }
        core.observed = Some(observed);
        Ok(())
    }

    /// Once per process, when its data are there: what they are worth.
    fn note_start(&self, core: &mut Core) -> Result<(), KeeperError> {
        if core.data_seen || core.is_loading() {
            return Ok(());
        }
        core.data_seen = true;
        let data_id = core.shard().map(|shard| (shard.id.clone(), shard.name.clone()));
        let Some((id, name)) = data_id else { return Ok(()) };
        if name != self.config.shard || core.notes().shard_id.as_ref().is_some_and(|noted| *noted != id) {
            let why = format!("the data belong to shard {name} ({id})");
            core.data_seen = false;
            return Err(KeeperError::Conflict(why));
        }
        let held = core.position().unwrap_or_default();
        tracing::info!(term = held.term, writes = held.writes, unsettled = ?core.notes().unsettled, "data found");
        let has_lost = held < core.notes().held;
        if has_lost {
            tracing::error!(held = ?core.notes().held, found = ?held, "the disk has lost data; they do not count");
        }
        core.disk.change(|notes| {
            notes.shard_id = Some(id);
            // These data come from the disk, so they are on disk.
            if notes.unsettled == Some(Unsettled::Behind) {
                notes.unsettled = None;
            }
            if has_lost {
                notes.unsettled = Some(Unsettled::Owing);
            }
        })?;
        core.owes = core.notes().unsettled.is_some();
        Ok(())
    }

    /// Sentinel or a person made a replica of an open primary, or Redis could not be told before.
    async fn notice_demotion(&self, core: &mut Core) -> Result<(), KeeperError> {
        let is_demoted = core.open.is_some() && !core.is_primary();
        if is_demoted || core.closing.is_some() {
            self.depose(core).await?;
            self.look(core).await?;
        }
        Ok(())
    }

    /// A link to someone who is not promised can only come from a handshake that was under way.
    async fn refuse_strangers(&self, core: &mut Core) -> Result<(), KeeperError> {
        let Some(observed) = &core.observed else { return Ok(()) };
        if !observed.link_up {
            return Ok(());
        }
        let promised = self.config.member(&core.notes().promise.candidate);
        if !promised.is_some_and(|member| observed.follows(&member.address)) {
            tracing::warn!(following = ?observed.following, "link to a member that is not promised, cut");
            self.local.follow_nobody().await?;
            self.look(core).await?;
        }
        Ok(())
    }

    /// Follows nobody where the primary is gone. If a copy was to begin, this member might have been overwritten, and
    /// nobody may promote it; now it has what it had. If not, its Redis looks the primary's name up again and again, and
    /// stands still each time until a name server answers, for a link that could not come up. It follows again, and goes
    /// on from where it was, once this or another primary is open.
    async fn give_up_link(&self, core: &mut Core) -> Result<(), KeeperError> {
        let Some(observed) = &core.observed else { return Ok(()) };
        let now = self.now();
        let is_open = |member: &Address| {
            self.view.read().heard(now).any(|heard| heard.state.address == *member && heard.state.open)
        };
        let waits = !observed.link_up && !observed.copying && !observed.loading;
        let is_gone = |member: &Address| *member != Address::nobody() && !is_open(member);
        let is_unserved = waits && observed.following.as_ref().is_some_and(is_gone);
        core.unserved = if is_unserved { core.unserved.or(Some(now)) } else { None };
        if core.unserved.is_some_and(|since| now.saturating_sub(since) > UNSERVED_MS) {
            tracing::warn!(following = ?observed.following, "gone, cut");
            core.unserved = None;
            self.local.follow_nobody().await?;
            self.look(core).await?;
        }
        Ok(())
    }

    /// Notes that the data are on disk. First takes the user to follow with: from then on no copy can begin
    /// unless this keeper notes it before. A member that follows nobody settles as well: whatever it has in
    /// memory is then on disk, and was cut off at some point of the history.
    pub(super) async fn settle(&self, core: &mut Core) -> Result<(), KeeperError> {
        let Some(observed) = &core.observed else { return Ok(()) };
        // A primary: Sentinel promoted this member before it could copy what it was told to.
        if (observed.link_up || observed.is_primary) && observed.is_armed() {
            self.local.disarm().await?;
            self.look(core).await?;
        }
        let Some(observed) = &core.observed else { return Ok(()) };
        let link_up = observed.link_up;
        if link_up {
            core.owes = false;
        }
        let is_cut = observed.is_primary || observed.follows(&Address::nobody());
        let no_copy_begins = !observed.is_armed() && (link_up || is_cut) && !observed.loading;
        let is_on_disk = no_copy_begins && observed.aof_holds_all && observed.aof_write_ok;
        let id = core.shard().map(|shard| shard.id.clone());
        let is_ours = id.is_some() && id == core.notes().shard_id;
        if core.notes().unsettled.is_some() && is_on_disk && is_ours && !core.owes {
            core.disk.change(|notes| {
                notes.unsettled = None;
                if link_up {
                    notes.settled_term = notes.promise.term;
                }
            })?;
            tracing::info!(term = core.notes().promise.term, link_up, "settled");
        }
        Ok(())
    }

    /// Fence, priority and pings follow from what this member is.
    async fn set_right(&self, core: &Core) -> Result<(), KeeperError> {
        let Some(observed) = &core.observed else { return Ok(()) };
        let takes_writes = core.open.is_some() && !core.handing_over && !core.notes().fenced;
        let min_replicas = if takes_writes { self.config.min_in_sync as u64 } else { FENCE };
        if observed.min_replicas != min_replicas {
            self.local.set_min_replicas(min_replicas).await?;
        }
        let ping_secs = if core.handing_over { PING_NEVER_SECS } else { PING_SECS };
        if observed.ping_secs != ping_secs {
            self.local.set_ping_secs(ping_secs).await?;
        }
        let own = self.config.own();
        let now = self.now();
        let wanted = priority(Standing {
            in_sync: core.is_preferred(&own.name, now)
                || core.shard().is_some_and(|shard| shard.in_sync.contains(&own.address)),
            settled: core.is_settled(),
            held_back: core.held_back,
            other_preferred: core.prefers_other(&own.name, now),
        });
        if observed.priority != wanted {
            self.local.set_priority(wanted).await?;
        }
        Ok(())
    }

    fn decide(&self, core: &mut Core) -> Next {
        let now = self.now();
        let (named, peers) = {
            let view = self.view.read();
            (view.named(now), view.peers(now))
        };
        let highest = peers.iter().map(|peer| peer.promised.max(peer.open.unwrap_or(0))).max().unwrap_or(0);
        core.known_term = core.known_term.max(highest);
        let is_outvoted = core.open.is_some_and(|term| highest > term);
        core.outvoted = if is_outvoted { core.outvoted.or(Some(now)) } else { None };
        let is_open = |member: &Address| {
            core.open.is_some() && *member == self.config.own().address
                || peers.iter().any(|peer| peer.address == *member && peer.open.is_some())
        };
        let is_leaderless = named.as_ref().is_some_and(|named| !is_open(named));
        core.leaderless = if is_leaderless { core.leaderless.or(Some(now)) } else { None };
        // Whoever was preferred and is open needs it no longer, and the others may be promoted again.
        let is_done = |preferred: &(String, Millis)| {
            peers.iter().any(|peer| peer.member == preferred.0 && peer.open.is_some())
        };
        core.preferred = core.preferred.take().filter(|preferred| !is_done(preferred));
        let own = self.config.own();
        let observed = core.observed.as_ref();
        next(&Facts {
            me: &own.address,
            is_primary: core.is_primary(),
            link_up: observed.is_some_and(|observed| observed.link_up),
            loading: core.is_loading() || !core.data_seen,
            settled: core.is_settled(),
            fresh: core.is_empty() && core.notes().shard_id.is_none(),
            open: core.open,
            promised: core.notes().promise.term,
            promised_to_me: core.notes().promise.candidate == own.name,
            data: core.shard().and_then(|shard| Some((shard.position.term, shard.primary.as_ref()?))),
            shard_id: core.shard_id(),
            named: named.as_ref(),
            peers: &peers,
            leaderless_ms: core.leaderless.map_or(0, |since| now.saturating_sub(since)),
            outvoted_ms: core.outvoted.map_or(0, |since| now.saturating_sub(since)),
        })
    }

    fn begin(self: &Arc<Self>, core: &mut Core, decided: Next) {
        match decided {
            Next::Stay => core.waiting_for.clear(),
            Next::Wait(why) => core.waiting_for = why,
            Next::Follow { member, term } => self.begin_following(core, member, term),
            Next::Elect | Next::Yield if core.handing_over || self.now() < core.elect_after => {}
            Next::Elect => self.begin_election(false),
            Next::Yield => self.begin_election(true),
        }
    }

    /// Notes the position of the last time, which is on disk by now if the data have been settled since.
    fn note_position(&self, core: &mut Core) {
        let position = core.position().filter(|_| core.is_settled());
        let last = std::mem::replace(&mut core.last_position, position);
        if let (Some(last), Some(_)) = (last, position)
            && let Err(error) = core.disk.change(|notes| notes.held = last)
        {
            tracing::error!(%error, "the notes cannot be written");
        }
    }
}
