//! What others say: Sentinels, other keepers, and the thread that owns the Redis process.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use crate::address::Address;
use crate::api::{LeaveAnswer, MemberRequest, StateAnswer};
use crate::decide::Millis;
use crate::decide::role::Peer;
use crate::peers::PeerError;

use super::Keeper;

/// Pause between two questions to Sentinels or keepers.
const POLL_PAUSE: Duration = Duration::from_millis(150);

/// The same while all is well: Sentinels answer for many shards, and hundreds of shards that only ask each other
/// would take cores.
const CALM_PAUSE: Duration = Duration::from_millis(500);

/// What others said longer ago than this is no longer believed.
const BELIEVED_MS: Millis = 2_000;

/// What others said last.
#[derive(Default)]
pub(super) struct View {
    named: Option<(Address, Millis)>,
    peers: HashMap<String, Heard>,
}

/// A keeper's state, and when it was asked for.
pub(super) struct Heard {
    pub state: StateAnswer,
    pub asked: Millis,
}

impl View {
    /// Whom a majority of Sentinels names.
    pub(super) fn named(&self, now: Millis) -> Option<Address> {
        let (address, at) = self.named.as_ref()?;
        (now.saturating_sub(*at) < BELIEVED_MS).then(|| address.clone())
    }

    /// The keepers that answered lately.
    pub(super) fn heard(&self, now: Millis) -> impl Iterator<Item = &Heard> {
        self.peers.values().filter(move |heard| now.saturating_sub(heard.asked) < BELIEVED_MS)
    }

    /// The same, as the rule of roles wants it.
    pub(super) fn peers(&self, now: Millis) -> Vec<Peer> {
        let peer = |heard: &Heard| {
            let state = &heard.state;
            Peer {
                member: state.member.clone(),
                address: state.address.clone(),
                open: state.open.then_some(state.term),
                promised: state.promised.term,
                shard_id: state.shard_id.clone(),
                settled: state.settled,
            }
        };
        self.heard(now).map(peer).collect()
    }
}

impl Keeper {
    pub(super) async fn poll_sentinels_forever(self: Arc<Self>) {
        loop {
            self.ask_sentinels().await;
            sleep(if self.is_ready() { CALM_PAUSE } else { POLL_PAUSE }).await;
        }
    }

    /// Whom a majority of Sentinels names right now.
    pub(super) async fn ask_sentinels(&self) -> Option<Address> {
        let asked = self.now();
        let named = self.sentinels.named().await;
        self.view.write().named = named.clone().map(|address| (address, asked));
        named
    }

    pub(super) async fn poll_peers_forever(self: Arc<Self>) {
        loop {
            self.ask_peers().await;
            sleep(if self.is_whole() { CALM_PAUSE } else { POLL_PAUSE }).await;
        }
    }

    /// Asks all other keepers for their state.
    pub(super) async fn ask_peers(&self) {
        let asked = self.now();
        for (member, answer) in self.peers.states().await {
            // Whoever answers there must be the member meant, of the shard meant: addresses are reused.
            match answer {
                Ok(state) if state.shard == self.config.shard && state.member == member.name => {
                    self.view.write().peers.insert(member.name.clone(), Heard { state, asked });
                }
                Ok(_) => tracing::warn!(member = member.name, "another shard's keeper answers"),
                Err(PeerError::Reach(error)) => {
                    tracing::debug!(member = member.name, error, "a keeper cannot be reached");
                    self.view.write().peers.remove(&member.name);
                }
                Err(error) => {
                    tracing::debug!(member = member.name, %error, "a keeper does not say its state");
                }
            }
        }
    }

    /// Closes and says so as soon as Redis ends.
    pub(super) async fn watch_process(self: Arc<Self>) {
        let mut life = self.process.life();
        while life.changed().await.is_ok() {
            let is_running = life.borrow_and_update().is_running();
            self.metrics.redis_starts(life.borrow().starts);
            if is_running {
                continue;
            }
            let mut core = self.core().await;
            core.open = None;
            core.closing = None;
            core.observed = None;
            core.waiting_for = "redis ended".to_owned();
            self.publish(&core);
            drop(core);
            if !self.stopping.load(Ordering::Relaxed) {
                self.leave_everywhere().await;
            }
        }
    }

    /// Tells whoever is primary to go on without this member.
    pub(super) async fn leave_everywhere(&self) {
        let body = MemberRequest { member: self.config.own().name.clone() };
        let _ = self.peers.post_all::<_, LeaveAnswer>("/leave", &body).await;
    }
}
