//! Who may come in: counts posts, queries and the bytes that posts hold, before any of a body is read.
//!
//! Bytes are reserved by what the head says and corrected as the body inflates and folds, so the sum over
//! all posts never passes `inflight_bytes_max`, and a post that would pass it is turned away while
//! nothing of it is stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;
use crate::metrics::Refusal;

/// Reserved for a body whose length the head does not say.
const UNKNOWN_LENGTH_BYTES: usize = 64 << 10;

/// Counts what is under way.
#[derive(Debug)]
pub struct Admission {
    posts: Arc<Semaphore>,
    queries: Arc<Semaphore>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
    parts_bytes_max: usize,
}

/// The right to run one query; held until its answer is written.
#[derive(Debug)]
pub struct QueryPermit {
    _slot: OwnedSemaphorePermit,
}

/// The right to run one post, and the bytes it holds.
#[derive(Debug)]
pub struct PostPermit {
    _slot: OwnedSemaphorePermit,
    total: Arc<AtomicUsize>,
    bytes_max: usize,
    parts_bytes_max: usize,
    held: usize,
}

impl Admission {
    /// Nothing is under way yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let slots = |max: usize| Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
        Self {
            posts: slots(limits.posts_max),
            queries: slots(limits.queries_max),
            bytes: Arc::default(),
            bytes_max: limits.inflight_bytes_max,
            // One post alone must fit, however the two limits are set.
            parts_bytes_max: limits.parts_bytes_max.min(limits.inflight_bytes_max),
        }
    }

    /// Admits a post whose head says it has `length` bytes.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn post(&self, length: Option<u64>) -> Result<PostPermit, Refusal> {
        let slot = Arc::clone(&self.posts).try_acquire_owned().map_err(|_| Refusal::Posts)?;
        let mut permit = PostPermit {
            _slot: slot,
            total: Arc::clone(&self.bytes),
            bytes_max: self.bytes_max,
            parts_bytes_max: self.parts_bytes_max,
            held: 0,
        };
        permit.grow_to(
            length.map_or(UNKNOWN_LENGTH_BYTES, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        )?;
        Ok(permit)
    }

    /// Admits a query.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn query(&self) -> Result<QueryPermit, Refusal> {
        let slot = Arc::clone(&self.queries).try_acquire_owned().map_err(|_| Refusal::Queries)?;
        Ok(QueryPermit { _slot: slot })
    }
}

impl PostPermit {
    /// Holds at least `bytes`, as far as one body's parts may grow at all.
    ///
    /// # Errors
    /// [`Refusal::InflightBytes`] if all posts together would hold too much; this one holds what it held.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), Refusal> {
        let more = bytes.min(self.parts_bytes_max).saturating_sub(self.held);
        if more == 0 {
            return Ok(());
        }
        let grown = |total: usize| total.checked_add(more).filter(|total| *total <= self.bytes_max);
        match self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown) {
            Ok(_) => {
                self.held += more;
                Ok(())
            }
            Err(_) => Err(Refusal::InflightBytes),
        }
    }

    /// Holds exactly `bytes`: what the body folded into, no longer a guess.
    ///
    /// # Errors
    /// As [`PostPermit::grow_to`].
    pub fn settle(&mut self, bytes: usize) -> Result<(), Refusal> {
        let surplus = self.held.saturating_sub(bytes);
        self.held -= surplus;
        self.total.fetch_sub(surplus, Ordering::Relaxed);
        self.grow_to(bytes)
    }
}

impl Drop for PostPermit {
    fn drop(&mut self) {
        self.total.fetch_sub(self.held, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(posts_max: usize, inflight_bytes_max: usize) -> Admission {
        Admission::new(&Limits { posts_max, inflight_bytes_max, parts_bytes_max: 60, ..Limits::default() })
    }

    #[test]
    fn posts_beyond_the_limit_wait_for_a_slot() {
        let admission = admission(1, 100);
        let first = admission.post(Some(10)).expect("there is room");
        assert_eq!(admission.post(Some(10)).unwrap_err(), Refusal::Posts);
        drop(first);
        assert!(admission.post(Some(10)).is_ok());
    }

    #[test]
    fn bytes_are_shared_and_given_back() {
        let admission = admission(10, 100);
        let mut first = admission.post(Some(30)).expect("there is room");
        let second = admission.post(Some(50)).expect("there is room");
        assert_eq!(admission.post(Some(21)).unwrap_err(), Refusal::InflightBytes);
        assert_eq!(first.grow_to(51).unwrap_err(), Refusal::InflightBytes);
        first.grow_to(50).expect("there is room");
        first.settle(5).expect("less always fits");
        drop(second);
        assert_eq!(admission.bytes.load(Ordering::Relaxed), 5);
        drop(first);
        assert_eq!(admission.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn one_body_holds_no_more_than_its_parts_may() {
        let admission = admission(10, 100);
        let permit = admission.post(Some(u64::MAX)).expect("60 bytes fit");
        assert_eq!(permit.held, 60);
    }
}
