//! What the writer thread and all callers share: the log, the queues, the state database, and the rule
//! that after an error of the database the store starts over as after a crash, without a restart.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use taba_core::{Timestamp, Vbucket};
use tokio::sync::Notify;

use super::folder::Folder;
use super::lease::LeaseSlot;
use super::log::{Log, Segments};
use super::metrics::StoreMetrics;
use super::producers::Producers;
use super::queue::{Queue, Segment};
use super::recovery::{Recovered, recover};
use super::states::{Found, States, StatesError};
use super::{EmbeddedOptions, OpenError};
use crate::store::{Commit, EntryId, FencingToken, StoreError};

/// Bytes of states committed after which they are made durable even if no segment waits for it; bounds
/// what a crash replays and what the database holds back for it.
const UNDURABLE_BYTES_MAX: u64 = 256 << 20;

/// How long the store waits before it tries to open a failed database again.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// A vbucket's queue and who waits for it.
pub(super) struct VbucketQueue {
    pub(super) queue: Mutex<Queue>,
    pub(super) arrived: Notify,
    /// Async, so that a hand-over can wait for a commit under way without blocking a thread.
    pub(super) lease: std::sync::Arc<tokio::sync::Mutex<LeaseSlot>>,
}

/// The database, if it is open, and which opening of the folder this is.
struct Database {
    states: Option<States>,
    opening: u64,
    tried: Instant,
}

pub(super) struct Shared {
    pub(super) options: EmbeddedOptions,
    pub(super) metrics: StoreMetrics,
    pub(super) queues: Vec<VbucketQueue>,
    pub(super) producers: Mutex<Producers>,
    pub(super) log: Mutex<Log>,
    pub(super) segments: RwLock<Segments>,
    database: RwLock<Database>,
    database_broken: AtomicBool,
    undurable_bytes: AtomicU64,
    checkpointing: Mutex<()>,
    // Last, so that the folder is unlocked when all else is closed.
    folder: Folder,
}

impl Shared {
    pub(super) fn open(path: &Path, options: EmbeddedOptions) -> Result<Self, OpenError> {
        let folder = Folder::open(path, options.vbuckets)?;
        let mut producers = Producers::new(options.producer_retention, options.producers_max);
        let (states, found) = open_states(&folder, &options)?;
        states.load_producers(|producer, row| producers.load(producer, row)).map_err(open_failed)?;
        let recovered = recover(&folder.log(), options.segment_bytes(), found.progress, &mut producers)?;
        let metrics = StoreMetrics::default();
        metrics.queue_bytes.set(gauge(recovered.segments.bytes()));
        metrics.producers.set(gauge(producers.len() as u64));
        let queues = recovered.queues.into_iter().map(|queue| VbucketQueue {
            queue: Mutex::new(queue),
            arrived: Notify::new(),
            lease: std::sync::Arc::default(),
        });
        Ok(Self {
            metrics,
            queues: queues.collect(),
            producers: Mutex::new(producers),
            log: Mutex::new(recovered.log),
            segments: RwLock::new(recovered.segments),
            database: RwLock::new(Database {
                states: Some(states),
                opening: found.opening,
                tried: Instant::now(),
            }),
            database_broken: AtomicBool::new(false),
            undurable_bytes: AtomicU64::new(0),
            checkpointing: Mutex::new(()),
            options,
            folder,
        })
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.options.clock)()
    }

    pub(super) fn log_folder(&self) -> std::path::PathBuf {
        self.folder.log()
    }

    pub(super) fn queue(&self, vbucket: Vbucket) -> Result<&VbucketQueue, StoreError> {
        let missing = || StoreError::Corrupt { what: format!("there is no vbucket {}", vbucket.0) };
        self.queues.get(usize::from(vbucket.0)).ok_or_else(missing)
    }

    /// As [`Shared::opening`], without blocking; `None` if the database has to be opened again.
    pub(super) fn opening_if_healthy(&self) -> Option<u64> {
        let database = self.database.try_read()?;
        (!self.database_broken.load(Ordering::Acquire)).then_some(database.opening)
    }

    /// Which opening of the folder this is; leases of an earlier one are void.
    pub(super) fn opening(&self) -> Result<u64, StoreError> {
        self.heal()?;
        Ok(self.database.read().opening)
    }

    /// Uses the database. No reopening happens meanwhile. Blocks.
    pub(super) fn with_states<T>(
        &self,
        what: &'static str,
        work: impl FnOnce(&States, u64) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        self.heal()?;
        let database = self.database.read();
        let Some(states) = &database.states else { return Err(closed(what)) };
        work(states, database.opening).map_err(|failure| self.failed(what, failure))
    }

    fn failed(&self, what: &'static str, failure: Failure) -> StoreError {
        let error = match failure {
            Failure::Refused(error) => return error,
            Failure::States(error) => error,
        };
        if error.breaks_database() {
            tracing::error!(%what, error = &error as &dyn std::error::Error, "state database failed");
            self.database_broken.store(true, Ordering::Release);
        }
        match error {
            error if error.is_full() => {
                self.metrics.full.inc();
                StoreError::Full { what: "disk space" }
            }
            StatesError::Corrupt(what) | StatesError::NotAState(what) => StoreError::Corrupt { what },
            StatesError::Database(_) => StoreError::Unavailable { what, source: Box::new(error) },
        }
    }

    /// Opens a failed database again and rebuilds the queues from the log, exactly as after a crash:
    /// commits since the last checkpoint are undone, their entries wait again, and all leases are void.
    fn heal(&self) -> Result<(), StoreError> {
        if !self.database_broken.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut database = self.database.write();
        if !self.database_broken.load(Ordering::Acquire) {
            return Ok(());
        }
        if database.states.is_none() && database.tried.elapsed() < REOPEN_PAUSE {
            return Err(closed("wait for the state database"));
        }
        database.states = None;
        database.tried = Instant::now();
        let mut log = self.log.lock();
        let reopened = self.start_over(&mut log).map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "state database stays closed");
            StoreError::Unavailable { what: "open the state database", source: Box::new(error) }
        })?;
        (database.states, database.opening) = (Some(reopened.0), reopened.1);
        self.database_broken.store(false, Ordering::Release);
        self.undurable_bytes.store(0, Ordering::Release);
        self.metrics.reopens.inc();
        tracing::warn!(opening = database.opening, "state database is open again");
        Ok(())
    }

    fn start_over(&self, log: &mut Log) -> Result<(States, u64), OpenError> {
        let (states, found) = open_states(&self.folder, &self.options)?;
        let mut producers = self.producers.lock();
        let segment_bytes = self.options.segment_bytes();
        let recovered = recover(&self.folder.log(), segment_bytes, found.progress, &mut producers)?;
        let Recovered { log: new_log, segments, queues } = recovered;
        *log = new_log;
        *self.segments.write() = segments;
        for (slot, queue) in self.queues.iter().zip(queues) {
            *slot.queue.lock() = queue;
            slot.arrived.notify_waiters();
        }
        Ok((states, found.opening))
    }

    /// Commits under a lease slot that the caller has locked. Blocks.
    pub(super) fn commit(
        &self,
        vbucket: Vbucket,
        lease: &LeaseSlot,
        token: FencingToken,
        commit: &Commit,
    ) -> Result<(), StoreError> {
        let slot = self.queue(vbucket)?;
        let started = Instant::now();
        self.with_states("commit states", |states, opening| {
            if !lease.allows(token, opening, self.now()) {
                return Err(Failure::Refused(StoreError::Fenced(vbucket)));
            }
            let mut progress = slot.queue.lock().progress.clone();
            progress.advance(commit.marks);
            states.commit(vbucket, &commit.changes, &progress)?;
            let mut queue = slot.queue.lock();
            queue.progress = progress;
            queue.drop_done();
            Ok(())
        })?;
        self.metrics.commits.inc();
        self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        let bytes = self.undurable_bytes.fetch_add(commit_bytes(commit), Ordering::AcqRel);
        self.checkpoint(bytes >= UNDURABLE_BYTES_MAX);
        Ok(())
    }

    /// Drops what no all-clients state holds yet. The lease slot is locked by the caller. Blocks.
    pub(super) fn discard(&self, vbucket: Vbucket, lease: &mut LeaseSlot) -> Result<u64, StoreError> {
        let slot = self.queue(vbucket)?;
        let dropped = self.with_states("discard a queue", |states, _| {
            let mut progress = slot.queue.lock().progress.clone();
            let newest = slot.queue.lock().newest();
            if newest <= progress.marks.aggregates {
                return Ok(0);
            }
            if !progress.discard(newest) {
                let what = "discards between two commits of per-client states";
                return Err(Failure::Refused(StoreError::Full { what }));
            }
            states.save_progress(vbucket.0, &progress)?;
            let mut queue = slot.queue.lock();
            queue.progress = progress;
            Ok(queue.drop_done())
        })?;
        if dropped > 0 {
            lease.revoke();
            self.checkpoint(false);
        }
        Ok(dropped)
    }

    /// Makes commits durable and deletes consumed segments, if there are any or it must be. A failure
    /// undoes nothing: it shows at the next use of the database, and the segments stay until then.
    pub(super) fn checkpoint(&self, forced: bool) {
        if !forced && self.segments.read().consumed().is_empty() {
            return;
        }
        let _one_at_a_time = self.checkpointing.lock();
        let result = self.with_states("make commits durable", |states, _| {
            // Taken before the producers: every record of a sealed segment is marked in them already.
            let consumed = self.segments.read().consumed();
            if consumed.is_empty() && !forced {
                return Ok(());
            }
            self.undurable_bytes.store(0, Ordering::Release);
            let changes = self.producers.lock().take_changes();
            if let Err(error) = states.checkpoint(&changes) {
                self.producers.lock().give_back(changes);
                return Err(error.into());
            }
            self.metrics.checkpoints.inc();
            self.delete(&consumed);
            Ok(())
        });
        if let Err(error) = result {
            tracing::warn!(error = &error as &dyn std::error::Error, "checkpoint failed");
        }
    }

    fn delete(&self, consumed: &[std::sync::Arc<Segment>]) {
        let segments = self.segments.read();
        for segment in consumed {
            if let Err(error) = segments.delete(&self.folder.log(), segment) {
                tracing::warn!(%error, segment = segment.number, "consumed segment could not be deleted");
            }
        }
        self.metrics.queue_bytes.set(gauge(segments.bytes()));
    }

    /// Whether an entry after `after` waits.
    pub(super) fn has_after(&self, vbucket: Vbucket, after: EntryId) -> bool {
        self.queue(vbucket).is_ok_and(|slot| slot.queue.lock().newest() > after)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nothing depends on it: it only spares the next start the replay.
        self.checkpoint(true);
    }
}

/// Why work on the database did not happen.
pub(super) enum Failure {
    States(StatesError),
    /// Not the database's doing.
    Refused(StoreError),
}

impl From<StatesError> for Failure {
    fn from(error: StatesError) -> Self {
        Self::States(error)
    }
}

fn open_states(folder: &Folder, options: &EmbeddedOptions) -> Result<(States, Found), OpenError> {
    States::open(&folder.states(), options.cache_bytes, options.vbuckets.get()).map_err(open_failed)
}

fn open_failed(error: StatesError) -> OpenError {
    match error {
        StatesError::Corrupt(what) => OpenError::Corrupt { what },
        error => OpenError::States { source: Box::new(error) },
    }
}

fn closed(what: &'static str) -> StoreError {
    StoreError::Unavailable { what, source: "the state database is closed after an error".into() }
}

fn commit_bytes(commit: &Commit) -> u64 {
    let bytes = |change: &crate::store::TabChange| {
        let clients = change.clients.iter().filter_map(|(_, state)| Some(state.as_ref()?.len()));
        change.aggregate.as_ref().map_or(0, bytes::Bytes::len) + clients.sum::<usize>()
    };
    commit.changes.iter().map(|change| bytes(change) as u64).sum()
}

pub(super) fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
