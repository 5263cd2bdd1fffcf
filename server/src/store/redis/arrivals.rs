//! Waking owners when their queues grow: one task per shard asks for all vbuckets at once.
//!
//! Reading every queue of 256 vbuckets to see that nothing is there would keep a core of the primary busy.
//! Instead one script tells, if anything changed at all, the next id of every queue. The primary tells when it is
//! time to ask again: whoever looked is told once when what was looked at is written. So a shard at rest is hardly
//! asked, a busy one every few milliseconds, and none if nobody waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use taba_core::Vbucket;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::bind::Bound;
use super::call::{CallError, run_tracked};
use super::reply;
use super::scripts::ARRIVALS;
use super::shard::Shard;
use crate::store::EntryId;

/// Least time between two looks: what it adds to the time until entries are applied.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// Most time: a connection that tells nothing any more is noticed by a look.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// After a look that failed, where there still is a connection.
const PAUSE_FAILED: Duration = Duration::from_millis(50);

/// What the script looks at.
const NEXT_KEY: &str = "taba:next";

/// What waiting owners of a shard's vbuckets share.
pub(super) struct Arrivals {
    first: u16,
    queues: Vec<Queue>,
    waiting: AtomicUsize,
    /// Somebody waits again.
    begun: Notify,
}

#[derive(Default)]
struct Queue {
    /// Id that the next entry will get, as far as known; 0: not known.
    next: AtomicU64,
    /// What the last reader found empty. Ids below the next may be gone, so they alone tell nothing.
    empty: Mutex<Option<Empty>>,
    arrived: Notify,
}

/// There is no entry after `after` and before `next`.
#[derive(Clone, Copy)]
struct Empty {
    after: EntryId,
    next: u64,
}

impl Queue {
    fn may_hold_after(&self, after: EntryId) -> bool {
        let next = self.next.load(Ordering::Acquire);
        let known_empty = self.empty.lock().is_some_and(|empty| after >= empty.after && next <= empty.next);
        next > after.0 + 1 && !known_empty
    }
}

impl Arrivals {
    pub(super) fn new((first, last): (u16, u16)) -> Self {
        let queues = (first..=last).map(|_| Queue::default()).collect();
        Self { first, queues, waiting: AtomicUsize::new(0), begun: Notify::new() }
    }

    fn queue(&self, vbucket: Vbucket) -> Option<&Queue> {
        self.queues.get(usize::from(vbucket.0.checked_sub(self.first)?))
    }

    /// Resolves when the queue may hold entries after `after`.
    pub(super) async fn wait(&self, vbucket: Vbucket, after: EntryId) {
        let Some(queue) = self.queue(vbucket) else { return };
        let arrived = queue.arrived.notified();
        tokio::pin!(arrived);
        // Registered before the look, so that an arrival between the two is not missed.
        arrived.as_mut().enable();
        if queue.may_hold_after(after) {
            return;
        }
        let _waiting = Waiting::begin(self);
        arrived.await;
    }

    /// Forgets what is known and makes everybody look again: it may be of another history.
    pub(super) fn reset(&self) {
        for queue in &self.queues {
            queue.next.store(0, Ordering::Release);
            *queue.empty.lock() = None;
            queue.arrived.notify_waiters();
        }
    }

    /// The id known as the next of a queue, to be asked before reading it.
    pub(super) fn next_known(&self, vbucket: Vbucket) -> u64 {
        self.queue(vbucket).map_or(0, |queue| queue.next.load(Ordering::Acquire))
    }

    /// Says that nothing was found after `after` when `next` had been known before.
    pub(super) fn note_empty(&self, vbucket: Vbucket, after: EntryId, next: u64) {
        if let Some(queue) = self.queue(vbucket) {
            *queue.empty.lock() = Some(Empty { after, next });
        }
    }

    fn note(&self, vbucket: Vbucket, next: u64) {
        if let Some(queue) = self.queue(vbucket)
            && queue.next.swap(next, Ordering::AcqRel) != next
        {
            queue.arrived.notify_waiters();
        }
    }
}

struct Waiting<'a>(&'a Arrivals);

impl<'a> Waiting<'a> {
    fn begin(arrivals: &'a Arrivals) -> Self {
        if arrivals.waiting.fetch_add(1, Ordering::AcqRel) == 0 {
            arrivals.begun.notify_one();
        }
        Self(arrivals)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Looks for arrivals for as long as the store lives.
pub(super) async fn watch_arrivals(shard: Arc<Shard>) {
    let arrivals = &shard.arrivals;
    let mut seen: Option<(Arc<Bound>, String)> = None;
    loop {
        if arrivals.waiting.load(Ordering::Acquire) == 0 {
            arrivals.begun.notified().await;
            continue;
        }
        let bound = shard.bound_some_day().await;
        // What was seen of another term says nothing of this one.
        let known = seen.as_ref().filter(|(of, _)| Arc::ptr_eq(of, &bound));
        let changes = known.map_or("", |(_, changes)| changes);
        match look(&shard, &bound, changes).await {
            Ok(Some(changes)) => seen = Some((Arc::clone(&bound), changes)),
            Ok(None) => {}
            Err(_) => {
                sleep(PAUSE_FAILED).await;
                continue;
            }
        }
        // What comes meanwhile is found in one look.
        sleep(PAUSE_MIN).await;
        tokio::select! {
            () = bound.changed.notified() => {}
            _ = bound.broken() => {}
            () = sleep(PAUSE_MAX) => {}
        }
    }
}

/// Looks at the next ids if the count of changes is another than the one known; gives the new one. If that changes
/// again, `bound.changed` tells.
async fn look(shard: &Shard, bound: &Arc<Bound>, known: &str) -> Result<Option<String>, CallError> {
    let mut command = ARRIVALS.call_with_key(NEXT_KEY, bound.term);
    command.arg(known);
    let answer = run_tracked(&bound.owners, &ARRIVALS, &command).await;
    let answer = answer.inspect_err(|error| shard.note(bound, error))?;
    let mut changes = None;
    for (field, value) in reply::pairs(answer)? {
        let field = reply::text(field)?;
        if field == "changes" {
            changes = Some(reply::text(value)?);
        } else if let Ok(vbucket) = field.parse() {
            shard.arrivals.note(Vbucket(vbucket), reply::number(&value)?);
        }
    }
    Ok(changes)
}
