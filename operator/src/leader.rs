//! Which operator acts, by a Lease.
//!
//! The holder renews the Lease long before it ends, and takes itself for the holder only until
//! [`RENEW_DEADLINE`] after the beginning of its last renewal: others wait [`LEASE_DURATION`], so a holder
//! that was paused or cut off has stopped before another begins. Others never compare clocks: they wait so
//! long after they last saw the Lease change. Every write of the Lease carries the version it was read at.
//!
//! Whoever acts asks [`Leadership::check`] right before. What was sent and arrives late meets preconditions
//! of the API server (uid, resourceVersion) and of keepers (terms).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How long others wait after the last renewal. Clusters run on without an operator, so an API server that is
/// slow for some seconds should not cost one.
pub const LEASE_DURATION: Duration = Duration::from_secs(30);

/// How long after the beginning of its last renewal the holder acts.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(20);

/// Pause between two tries to get the Lease, or after one that failed.
const RETRY: Duration = Duration::from_secs(2);

/// Pause between two renewals.
const RENEW: Duration = Duration::from_secs(4);

/// Longest wait for the API server.
const CALL_TIMEOUT: Duration = Duration::from_secs(6);

/// This operator does not hold the Lease, or not any more.
#[derive(Debug, Error)]
#[error("another operator may be acting: the lease is not held")]
pub struct NotLeader;

/// Whether this operator may act. Clones share it.
#[derive(Clone, Debug)]
pub struct Leadership {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    begun: Instant,
    /// Milliseconds after `begun`; 0 means not held.
    held_until: AtomicU64,
}

impl Default for Leadership {
    fn default() -> Self {
        Self { inner: Arc::new(Inner { begun: Instant::now(), held_until: AtomicU64::new(0) }) }
    }
}

impl Leadership {
    /// Whether the Lease is certainly held.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.millis(Instant::now()) < self.inner.held_until.load(Ordering::Acquire)
    }

    /// Asked right before every act.
    ///
    /// # Errors
    /// If the Lease is not certainly held.
    pub fn check(&self) -> Result<(), NotLeader> {
        if self.is_held() { Ok(()) } else { Err(NotLeader) }
    }

    pub(crate) fn renewed(&self, begun: Instant) {
        self.inner.held_until.store(self.millis(begun + RENEW_DEADLINE), Ordering::Release);
    }

    fn drop_it(&self) {
        self.inner.held_until.store(0, Ordering::Release);
    }

    fn millis(&self, at: Instant) -> u64 {
        let passed = at.saturating_duration_since(self.inner.begun).as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// The Lease was last seen so, at this moment of the own clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    holder: Option<String>,
    version: Option<String>,
    duration: Duration,
    since: Instant,
}

/// What to do about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Write it, with the own name.
    Take,
    /// It is another's.
    Wait,
}

/// Who may take the Lease: its holder, or anyone if it is free or has not changed for its duration.
pub(crate) fn step(own: &str, seen: &Seen, now: Instant) -> Step {
    let is_free = seen.holder.as_deref().is_none_or(|holder| holder.is_empty() || holder == own);
    let is_over = now.saturating_duration_since(seen.since) >= seen.duration;
    if is_free || is_over { Step::Take } else { Step::Wait }
}

/// Takes and keeps the Lease.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    own: String,
    leadership: Leadership,
    seen: Option<Seen>,
}

impl Elector {
    /// Of the Lease `name` in `namespace`, as `own`, which no other operator is called.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, own: String, leadership: Leadership) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), own, leadership, seen: None }
    }

    /// Returns when the Lease is held. `beat` is called at every try.
    pub async fn acquire(&mut self, beat: &(dyn Fn() + Sync)) {
        loop {
            beat();
            if self.attempt().await {
                tracing::info!(lease = self.name, own = self.own, "the lease is held");
                return;
            }
            sleep(RETRY).await;
        }
    }

    /// Keeps the Lease. Returns when it is lost, or, after giving it back, when `stop` says so.
    pub async fn keep(&mut self, mut stop: watch::Receiver<bool>, beat: &(dyn Fn() + Sync)) -> Kept {
        let mut pause = RENEW;
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {
                    self.release().await;
                    return Kept::Released;
                }
                () = sleep(pause) => {}
            }
            beat();
            pause = if self.attempt().await { RENEW } else { RETRY };
            if !self.leadership.is_held() {
                return Kept::Lost;
            }
        }
    }

    /// Whether the Lease is held afterwards.
    async fn attempt(&mut self) -> bool {
        match timeout(CALL_TIMEOUT, self.try_once()).await {
            Ok(Ok(held)) => held,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease cannot be read or written");
                false
            }
            Err(_) => {
                tracing::warn!("the API server does not answer about the lease");
                false
            }
        }
    }

    async fn try_once(&mut self) -> Result<bool, kube::Error> {
        let begun = Instant::now();
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            let made = self.api.create(&PostParams::default(), &self.lease(None)).await;
            return self.wrote(made, begun);
        };
        let seen = self.look(&lease, begun);
        if step(&self.own, &seen, begun) == Step::Wait {
            self.leadership.drop_it();
            return Ok(false);
        }
        let written = self.api.replace(&self.name, &PostParams::default(), &self.lease(Some(&lease))).await;
        self.wrote(written, begun)
    }

    fn wrote(&mut self, outcome: Result<Lease, kube::Error>, begun: Instant) -> Result<bool, kube::Error> {
        match outcome {
            Ok(lease) => {
                self.look(&lease, begun);
                self.leadership.renewed(begun);
                Ok(true)
            }
            // Someone else was faster; the next look tells who.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn look(&mut self, lease: &Lease, now: Instant) -> Seen {
        let spec = lease.spec.clone().unwrap_or_default();
        let version = lease.metadata.resource_version.clone();
        let since = match &self.seen {
            Some(seen) if seen.version == version => seen.since,
            _ => now,
        };
        let secs = spec.lease_duration_seconds.and_then(|secs| u64::try_from(secs).ok());
        let seen = Seen {
            holder: spec.holder_identity,
            version,
            duration: secs.map_or(LEASE_DURATION, Duration::from_secs),
            since,
        };
        self.seen = Some(seen.clone());
        seen
    }

    fn lease(&self, found: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let old = found.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let is_ours = old.holder_identity.as_deref() == Some(self.own.as_str());
        let transitions = old.lease_transitions.unwrap_or(0);
        let metadata = found.map_or_else(
            || ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            |lease| ObjectMeta { managed_fields: None, ..lease.metadata.clone() },
        );
        Lease {
            metadata,
            spec: Some(LeaseSpec {
                holder_identity: Some(self.own.clone()),
                lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
                acquire_time: if is_ours { old.acquire_time } else { Some(now.clone()) },
                renew_time: Some(now),
                lease_transitions: Some(if is_ours { transitions } else { transitions + 1 }),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Gives it back, so that the next operator need not wait.
    async fn release(&self) {
        self.leadership.drop_it();
        let released = async {
            let Some(mut lease) = self.api.get_opt(&self.name).await? else {
                return Ok::<(), kube::Error>(());
            };
            let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
            if holder.as_deref() != Some(self.own.as_str()) {
                return Ok(());
            }
            if let Some(spec) = &mut lease.spec {
                spec.holder_identity = Some(String::new());
            }
            lease.metadata.managed_fields = None;
            self.api.replace(&self.name, &PostParams::default(), &lease).await.map(drop)
        };
        match timeout(CALL_TIMEOUT, released).await {
            Ok(Ok(())) => tracing::info!("the lease is given back"),
            Ok(Err(error)) => tracing::warn!(%error, "the lease is not given back; it runs out"),
            Err(_) => tracing::warn!("the lease is not given back; it runs out"),
        }
    }
}

/// Why the Lease is not held any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It could not be renewed in time, or is another's.
    Lost,
    /// It was given back.
    Released,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(holder: Option<&str>, since: Instant) -> Seen {
        Seen { holder: holder.map(ToOwned::to_owned), version: None, duration: LEASE_DURATION, since }
    }

    #[test]
    fn a_lease_is_taken_only_if_it_is_free_or_ones_own_or_stands_still_for_its_duration() {
        let now = Instant::now();
        let later = now + LEASE_DURATION;
        let table = [
            (None, now, Step::Take),
            (Some(""), now, Step::Take),
            (Some("me"), now, Step::Take),
            (Some("other"), now, Step::Wait),
            (Some("other"), later - Duration::from_millis(1), Step::Wait),
            (Some("other"), later, Step::Take),
        ];
        for (holder, at, expected) in table {
            assert_eq!(step("me", &seen(holder, now), at), expected, "{holder:?}");
        }
    }

    #[test]
    fn leadership_ends_by_itself_before_others_may_take_over() {
        let leadership = Leadership::default();
        assert!(leadership.check().is_err(), "nothing is held at first");
        leadership.renewed(Instant::now());
        assert!(leadership.is_held());
        let long_ago = Instant::now().checked_sub(RENEW_DEADLINE);
        leadership.renewed(long_ago.expect("the machine has run for longer"));
        assert!(!leadership.is_held(), "a renewal that began {RENEW_DEADLINE:?} ago does not count");
        const { assert!(RENEW_DEADLINE.as_secs() < LEASE_DURATION.as_secs()) };
        leadership.renewed(Instant::now());
        leadership.drop_it();
        assert!(!leadership.is_held());
    }
}
