//! Which vbuckets this process should own: rendezvous hashing over the backends that are live.
//!
//! Every backend announces itself to the store again and again and reads who else did. Nobody assigns:
//! all that see the same backends come to the same answer, and while they do not, the lease of a vbucket
//! lets only one of them apply it. A store that cannot say who is live changes nothing.

use std::sync::Arc;
use std::time::Duration;

use taba_core::{Vbucket, VbucketCount};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use super::owner::told_to_stop;
use crate::store::{Enrolment, Store};

/// Who should own a vbucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// The store has not said who is live.
    Unknown,
    /// This process.
    Own,
    /// Another one.
    Other,
}

/// For each vbucket who should own it.
pub(super) type Wanted = Arc<[Share]>;

pub(super) struct Ownership {
    pub(super) store: Arc<dyn Store>,
    pub(super) owner: Arc<str>,
    pub(super) ttl: Duration,
    pub(super) wanted: watch::Sender<Wanted>,
    pub(super) stop: watch::Receiver<bool>,
}

/// Nothing is wanted before the store has said who is live.
pub(super) fn nothing_wanted(vbuckets: VbucketCount) -> Wanted {
    vbuckets.iter().map(|_| Share::Unknown).collect()
}

impl Ownership {
    /// Announces this process until told to stop, then withdraws it, so that others take over at once.
    pub(super) async fn run(mut self) {
        while !*self.stop.borrow() {
            let enrolments = self.store.enrol(&self.owner, self.ttl).await;
            self.update(&enrolments);
            tokio::select! {
                () = sleep(self.ttl / 3) => {}
                () = told_to_stop(&mut self.stop) => {}
            }
        }
        self.store.enrol(&self.owner, Duration::ZERO).await;
    }

    fn update(&self, enrolments: &[Enrolment]) {
        let mut wanted = self.wanted.borrow().to_vec();
        for Enrolment { vbuckets, live } in enrolments {
            match live {
                Ok(live) => self.choose(vbuckets, live, &mut wanted),
                Err(error) => warn!(%error, "cannot see which backends are live; keeping what is owned"),
            }
        }
        self.wanted.send_if_modified(|before| {
            let changed = **before != *wanted;
            if changed {
                info!(
                    vbuckets = wanted.iter().filter(|share| **share == Share::Own).count(),
                    "share of vbuckets changed"
                );
                *before = wanted.into();
            }
            changed
        });
    }

    fn choose(&self, vbuckets: &[Vbucket], live: &[String], wanted: &mut [Share]) {
        for vbucket in vbuckets {
            let owner = vbucket.rightful_owner(live.iter().map(String::as_str));
            let is_own = owner == Some(&*self.owner);
            wanted[usize::from(vbucket.0)] = if is_own { Share::Own } else { Share::Other };
        }
    }
}
