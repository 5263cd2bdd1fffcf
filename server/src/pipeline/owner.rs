//! The owner of one vbucket: takes its lease, applies its queue to the cache, commits.
//!
//! ```text
//! lease ──▶ read marks ──▶ ┌ read entries, apply ┐ ──▶ commit (all-clients states often, per client
//!   ▲                      └───── repeat ────────┘      states rarely) ──▶ renew ──▶ …
//!   └── any doubt (fenced off, outcome unknown): throw the cache away and start again
//! ```
//!
//! A crash anywhere costs nothing: entries leave the queue in the same atomic step that writes the
//! states they were merged into.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use taba_core::{State, Vbucket};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info, warn};

use super::Maintenance;
use super::cache::{Cache, CacheLimits};
use super::commit::{Built, Source};
use super::metrics::PipelineMetrics;
use super::ownership::{Share, Wanted};
use super::slot::Slot;
use super::sweep::Sweep;
use crate::clock;
use crate::config::PipelineConfig;
use crate::store::{EntryId, FencingToken, Lease, Marks, QueueEntry, Store, StoreError};

/// Bytes of queue entries read at once: about 1 ms of merging.
const READ_BYTES_MAX: usize = 256 << 10;
/// Shortest time between two reads of a queue: a quiet one is read at once, a busy one in larger pieces.
const READ_INTERVAL: Duration = Duration::from_millis(10);
/// When to try again if other vbuckets hold all commit slots.
const COMMIT_RETRY: Duration = Duration::from_millis(100);
/// Pause before a broken term is followed by the next.
const TERM_PAUSE: Duration = Duration::from_millis(500);

/// What all owners of a process share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) owner: Arc<str>,
    pub(super) config: Arc<PipelineConfig>,
    pub(super) metrics: PipelineMetrics,
    /// Bytes waiting for per-client commits over all vbuckets.
    pub(super) pending_bytes: Arc<AtomicU64>,
    /// Per-client commits under way at once: bounds the memory they take to two vbuckets' worth.
    pub(super) commit_slots: Arc<Semaphore>,
    /// Which vbuckets this process should own.
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) stop: watch::Receiver<bool>,
}

pub(super) struct Owner {
    pub(super) shared: Shared,
    pub(super) vbucket: Vbucket,
    pub(super) slot: Arc<Slot>,
    pub(super) requests: mpsc::Receiver<Maintenance>,
}

/// One term of ownership, from lease to loss.
struct Term<'a> {
    shared: &'a Shared,
    vbucket: Vbucket,
    slot: &'a Slot,
    token: FencingToken,
    read_at: Instant,
    renew_at: Instant,
    aggregates_at: Instant,
    clients_at: Instant,
    prune_at: Instant,
    sweep: Option<Sweep>,
    /// A sweep leaves tabs alone that wait for a commit, so it starts after the commit of this entry.
    sweep_after: EntryId,
    pending_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    Aggregates,
    Everything,
}

impl Owner {
    /// Owns the vbucket term after term until told to stop.
    pub(super) async fn run(mut self) {
        while !*self.shared.stop.borrow() {
            let ended = self.term().await;
            if self.slot.set_caught_up(false) {
                self.shared.metrics.vbuckets_owned.dec();
            }
            self.slot.set_leased_until(None);
            *self.slot.cache.lock() = None;
            if let Err(error) = ended {
                self.shared.metrics.terms_broken.inc();
                warn!(vbucket = self.vbucket.0, %error, "term of ownership ended");
                sleep(TERM_PAUSE).await;
            }
        }
    }

    async fn term(&mut self) -> Result<(), StoreError> {
        let Some(lease) = self.acquire().await? else { return Ok(()) };
        let mut term = Term::begin(&self.shared, self.vbucket, &self.slot, &lease).await?;
        let served = term.serve(&mut self.requests).await;
        term.forget_pending();
        served
    }

    /// Waits until the vbucket is wanted here and its lease can be had; `None` if told to stop meanwhile.
    async fn acquire(&mut self) -> Result<Option<Lease>, StoreError> {
        let mut stop = self.shared.stop.clone();
        let (mut wanted, vbucket) = (self.shared.wanted.clone(), usize::from(self.vbucket.0));
        loop {
            tokio::select! {
                // Without a sender the process is on its way out, and `stop` says so.
                Ok(_) = wanted.wait_for(|wanted| wanted[vbucket] == Share::Own) => {}
                () = told_to_stop(&mut stop) => return Ok(None),
            }
            if let Some(lease) = self.shared.lease(self.vbucket, &self.slot).await? {
                return Ok(Some(lease));
            }
            tokio::select! {
                () = sleep(self.shared.config.lease_ttl / 4) => {}
                () = told_to_stop(&mut stop) => return Ok(None),
            }
        }
    }
}

impl Shared {
    /// Takes or renews a lease, and notes until when it certainly lasts: counted from before the asking.
    async fn lease(&self, vbucket: Vbucket, slot: &Slot) -> Result<Option<Lease>, StoreError> {
        let ttl = self.config.lease_ttl;
        let asked = Instant::now();
        let lease = self.store.lease(vbucket, &self.owner, ttl).await?;
        slot.set_leased_until(lease.as_ref().map(|_| asked + ttl));
        Ok(lease)
    }

    fn wants(&self, vbucket: Vbucket) -> bool {
        self.wanted.borrow()[usize::from(vbucket.0)] == Share::Own
    }
}

/// Resolves when the process is told to stop, or nobody is left to tell it.
pub(super) async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

impl<'a> Term<'a> {
    async fn begin(
        shared: &'a Shared,
        vbucket: Vbucket,
        slot: &'a Slot,
        lease: &Lease,
    ) -> Result<Self, StoreError> {
        let tab_count = shared.store.count_tabs(vbucket).await?;
        let vbuckets = usize::from(shared.store.vbuckets().get());
        let limits = CacheLimits {
            tabs_max: shared.config.tabs_per_vbucket_max,
            aggregate_bytes_max: shared.config.cache_bytes_max / vbuckets,
        };
        *slot.cache.lock() = Some(Cache::new(lease.marks, tab_count, limits));
        let now = Instant::now();
        // Spread over the interval, so that the vbuckets do not all commit at once.
        let stagger = |interval: Duration| now + interval.mul_f64(f64::from(vbucket.0 + 1) / vbuckets as f64);
        Ok(Self {
            shared,
            vbucket,
            slot,
            token: lease.token,
            read_at: now,
            renew_at: now + shared.config.lease_ttl / 3,
            aggregates_at: stagger(shared.config.aggregate_commit_interval),
            clients_at: stagger(shared.config.client_commit_interval),
            prune_at: stagger(shared.config.prune_interval),
            sweep: None,
            sweep_after: EntryId::default(),
            pending_bytes: 0,
        })
    }

    async fn serve(&mut self, requests: &mut mpsc::Receiver<Maintenance>) -> Result<(), StoreError> {
        let mut stop = self.shared.stop.clone();
        loop {
            let caught_up = self.apply_some().await?;
            if caught_up && !self.slot.set_caught_up(true) {
                self.shared.metrics.vbuckets_owned.inc();
            }
            let stopping = *stop.borrow();
            if caught_up && (stopping || !self.shared.wants(self.vbucket)) {
                return self.end().await;
            }
            self.renew_if_due().await?;
            self.commit_if_due().await?;
            self.sweep_some().await?;
            if !caught_up {
                tokio::task::yield_now().await;
                continue;
            }
            let applied = self.with_cache(|cache| cache.applied());
            tokio::select! {
                () = self.wait_for_entries(applied) => {}
                () = sleep_until(self.next_deadline()) => {}
                Some(request) = requests.recv() => self.begin_maintenance(request),
                () = told_to_stop(&mut stop), if !stopping => {}
            }
        }
    }

    async fn wait_for_entries(&self, applied: EntryId) {
        sleep_until(self.read_at).await;
        self.shared.store.wait_for_entries(self.vbucket, applied).await;
    }

    /// Applies what is queued, up to a bound. True if nothing was left.
    async fn apply_some(&mut self) -> Result<bool, StoreError> {
        let applied = self.with_cache(|cache| cache.applied());
        let entries =
            self.shared.store.read_owned_queue(self.vbucket, self.token, applied, READ_BYTES_MAX).await?;
        if entries.is_empty() {
            return Ok(true);
        }
        self.read_at = Instant::now() + READ_INTERVAL;
        self.load_tabs(&entries).await?;
        for entry in &entries {
            self.apply(entry);
        }
        let bad = self.with_cache(Cache::take_bad);
        self.shared.metrics.add_bad(&bad);
        self.note_pending();
        Ok(false)
    }

    fn apply(&self, entry: &QueueEntry) {
        let now = clock::now();
        let (applied, deletions) = self.with_cache(|cache| (cache.apply(entry, now), cache.deletions()));
        if let Err(error) = applied {
            error!(vbucket = self.vbucket.0, entry = entry.id.0, %error, "queue entry cannot be read");
        }
        self.slot.deletions.send_if_modified(|seen| std::mem::replace(seen, deletions) != deletions);
        let latency = self.slot.note_applied(entry.accepted, now);
        self.shared.metrics.entries_applied.inc();
        self.shared.metrics.applied_seconds.observe(latency.as_secs_f64());
    }

    /// Reads the stored all-clients states of tabs that the entries touch for the first time.
    async fn load_tabs(&self, entries: &[QueueEntry]) -> Result<(), StoreError> {
        let mut names: Vec<String> = self.with_cache(|cache| {
            let tabs = entries.iter().flat_map(|entry| cache.tabs_to_load(&entry.block));
            tabs.map(str::to_owned).collect()
        });
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Ok(());
        }
        let stored = self.shared.store.read_aggregates(self.vbucket, &names).await?;
        for (name, stored) in names.iter().zip(stored) {
            let state = stored.map(|bytes| State::decode(&bytes)).transpose();
            let state = state
                .map_err(|error| StoreError::Corrupt { what: format!("state of tab {name}: {error}") })?;
            self.with_cache(|cache| cache.load(name, state));
        }
        Ok(())
    }

    async fn renew_if_due(&mut self) -> Result<(), StoreError> {
        if Instant::now() >= self.renew_at {
            self.renew().await?;
            self.renew_at = Instant::now() + self.shared.config.lease_ttl / 3;
        }
        Ok(())
    }

    async fn renew(&self) -> Result<(), StoreError> {
        let lease = self.shared.lease(self.vbucket, self.slot).await?;
        if lease.is_none_or(|lease| lease.token != self.token) {
            return Err(StoreError::Fenced(self.vbucket));
        }
        Ok(())
    }

    /// Does work that may take longer than the lease lasts, renewing it meanwhile.
    async fn while_renewing<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = sleep(self.shared.config.lease_ttl / 3) => self.renew().await?,
            }
        }
    }

    fn due(&self) -> Due {
        let now = Instant::now();
        let (dirty, pending, deletion) =
            self.with_cache(|cache| (cache.is_dirty(), cache.has_pending(), cache.has_deletion()));
        let full = self.shared.pending_bytes.load(Ordering::Relaxed) > self.shared.config.client_commit_bytes;
        if deletion || (pending && (now >= self.clients_at || full)) {
            Due::Everything
        } else if dirty && now >= self.aggregates_at {
            Due::Aggregates
        } else {
            Due::Nothing
        }
    }

    async fn commit_if_due(&mut self) -> Result<(), StoreError> {
        match self.due() {
            Due::Nothing => Ok(()),
            Due::Aggregates => self.commit(false).await,
            // Applying goes on while other vbuckets hold the slots.
            Due::Everything => match self.shared.commit_slots.try_acquire() {
                Ok(_slot) => self.commit(true).await,
                Err(_) => {
                    self.clients_at = Instant::now() + COMMIT_RETRY;
                    Ok(())
                }
            },
        }
    }

    async fn commit(&mut self, everything: bool) -> Result<(), StoreError> {
        let started = Instant::now();
        let (marks, clients_over_limit) = self.while_renewing(self.write_commit(everything)).await?;
        self.with_cache(|cache| cache.committed_up_to(marks));
        self.shared.metrics.clients_over_limit.inc_by(clients_over_limit);
        self.shared.metrics.commits.inc();
        self.shared.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        self.aggregates_at = started + self.shared.config.aggregate_commit_interval;
        if everything {
            self.clients_at = started + self.shared.config.client_commit_interval;
        }
        self.note_pending();
        Ok(())
    }

    /// Builds and writes a commit; gives the marks it moved to and how many clients it left out.
    async fn write_commit(&self, everything: bool) -> Result<(Marks, u64), StoreError> {
        let source = Source {
            store: &*self.shared.store,
            vbucket: self.vbucket,
            cache: &self.slot.cache,
            clients_per_tab_max: self.shared.config.clients_per_tab_max,
        };
        let Built { commit, clients_over_limit } =
            if everything { source.everything().await? } else { source.aggregates().await };
        let marks = commit.marks;
        self.shared.store.commit(self.vbucket, self.token, commit).await?;
        Ok((marks, clients_over_limit))
    }

    fn begin_maintenance(&mut self, request: Maintenance) {
        match request {
            Maintenance::Rebalance => {}
            Maintenance::Prune => self.begin_sweep(Sweep::prune()),
            Maintenance::Check { repair } => self.begin_sweep(Sweep::check(repair)),
            Maintenance::Upgrade => self.begin_sweep(Sweep::upgrade()),
        }
    }

    fn begin_sweep(&mut self, sweep: Sweep) {
        self.sweep = Some(sweep);
        self.sweep_after = self.with_cache(|cache| cache.applied());
        self.clients_at = Instant::now();
    }

    fn is_sweeping(&self) -> bool {
        self.sweep.is_some() && self.with_cache(|cache| cache.committed().clients) >= self.sweep_after
    }

    /// Takes one step of a sweep over all tabs, so that events keep flowing in between.
    async fn sweep_some(&mut self) -> Result<(), StoreError> {
        if self.sweep.is_none() && Instant::now() >= self.prune_at {
            self.prune_at = Instant::now() + self.shared.config.prune_interval;
            self.begin_sweep(Sweep::prune());
        }
        if !self.is_sweeping() {
            return Ok(());
        }
        let Some(sweep) = &mut self.sweep else { return Ok(()) };
        let Shared { store, config, .. } = self.shared;
        let clients_max = config.clients_per_tab_max;
        let done = sweep.step(&**store, self.vbucket, self.token, self.slot, clients_max).await?;
        if done {
            let (task, report) = (sweep.name(), sweep.report());
            self.sweep = None;
            self.shared.metrics.states_pruned.inc_by(report.pruned);
            self.shared.metrics.check_mismatches.inc_by(report.mismatches);
            self.shared.metrics.add_sweep(task);
            info!(vbucket = self.vbucket.0, task, ?report, "sweep finished");
        }
        Ok(())
    }

    fn next_deadline(&self) -> Instant {
        if self.is_sweeping() {
            return Instant::now();
        }
        let (dirty, pending) = self.with_cache(|cache| (cache.is_dirty(), cache.has_pending()));
        let mut deadline = self.renew_at.min(self.prune_at);
        if dirty {
            deadline = deadline.min(self.aggregates_at);
        }
        if pending {
            deadline = deadline.min(self.clients_at);
        }
        deadline
    }

    /// Commits everything and gives the lease back, so that the next owner starts at once.
    async fn end(&mut self) -> Result<(), StoreError> {
        if self.with_cache(|cache| cache.has_pending() || cache.is_dirty()) {
            let shared = self.shared;
            let slot = self.while_renewing(async { Ok(shared.commit_slots.acquire().await) }).await?;
            let _slot = slot.expect("the semaphore is never closed");
            self.commit(true).await?;
        }
        self.shared.store.release(self.vbucket, self.token).await
    }

    /// Keeps the process-wide sum of waiting bytes up to date.
    fn note_pending(&mut self) {
        let bytes = self.with_cache(|cache| cache.pending_bytes());
        self.shared.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.shared.pending_bytes.fetch_sub(self.pending_bytes, Ordering::Relaxed);
        self.pending_bytes = bytes;
    }

    fn forget_pending(&mut self) {
        self.shared.pending_bytes.fetch_sub(std::mem::take(&mut self.pending_bytes), Ordering::Relaxed);
    }

    fn with_cache<R>(&self, look: impl FnOnce(&mut Cache) -> R) -> R {
        look(self.slot.cache.lock().as_mut().expect("the owner keeps its cache for its whole term"))
    }
}
