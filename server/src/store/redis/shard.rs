//! One shard as the store sees it: its vbuckets, the connections bound to its primary, and the tasks that
//! keep them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, Value};
use taba_core::Vbucket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::ShardStatus;
use super::arrivals::{Arrivals, watch_arrivals};
use super::bind::{Bound, bind};
use super::call::{CallError, run, run_patiently};
use super::lane::{AcceptCall, accept_groups};
use super::link::{Dialer, Link};
use super::metrics::{RedisMetrics, ShardMetrics};
use super::options::RedisOptions;
use super::scripts::{COMMIT, Script};
use crate::store::Accepted;

/// Pauses between tries to bind.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A connection that lasted this long was good; the next try to bind is made at once.
const GOOD_AFTER: Duration = Duration::from_secs(5);
/// How often a bound connection is looked at, whether it is used or not.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Batches that wait for a lane. Their bytes are bounded where bodies are read.
const CALLS_MAX: usize = 256;

/// What a commit may take: a fraction of what primary and network do.
const COMMIT_BYTES_PER_SEC: f64 = 16.0 * 1024.0 * 1024.0;

/// Which of a shard's connections a script is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Query,
    Owner,
}

pub(super) struct Shard {
    index: usize,
    placement: (u16, u16),
    pub(super) options: Arc<RedisOptions>,
    pub(super) metrics: ShardMetrics,
    pub(super) arrivals: Arrivals,
    bound: watch::Sender<Option<Arc<Bound>>>,
    was_bound: AtomicBool,
    unbound_since: Mutex<Instant>,
    error: Mutex<Option<String>>,
    calls: mpsc::Sender<AcceptCall>,
}

impl Shard {
    /// Starts the tasks of a shard.
    pub(super) fn start(
        index: usize,
        options: &Arc<RedisOptions>,
        dialer: &Arc<Dialer>,
        metrics: &RedisMetrics,
        tasks: &mut JoinSet<()>,
    ) -> Arc<Self> {
        let placement = options.placement(index);
        let (sender, calls) = mpsc::channel(CALLS_MAX);
        let shard = Arc::new(Self {
            index,
            placement,
            options: Arc::clone(options),
            metrics: metrics.of(&options.shards[index]),
            arrivals: Arrivals::new(placement),
            bound: watch::Sender::new(None),
            was_bound: AtomicBool::new(false),
            unbound_since: Mutex::new(Instant::now()),
            error: Mutex::new(None),
            calls: sender,
        });
        tasks.spawn(stay_bound(Arc::clone(&shard), Arc::clone(dialer)));
        tasks.spawn(watch_arrivals(Arc::clone(&shard)));
        let calls = Arc::new(tokio::sync::Mutex::new(calls));
        for lane in 0..options.lanes.max(1) {
            tasks.spawn(accept_groups(Arc::clone(&shard), lane, Arc::clone(&calls)));
        }
        shard
    }

    pub(super) fn name(&self) -> &str {
        &self.options.shards[self.index]
    }

    pub(super) fn last(&self) -> Vbucket {
        Vbucket(self.placement.1)
    }

    pub(super) fn vbuckets(&self) -> Vec<Vbucket> {
        (self.placement.0..=self.placement.1).map(Vbucket).collect()
    }

    /// The bound connections, if there are any at this moment.
    pub(super) fn present(&self) -> Option<Arc<Bound>> {
        self.bound.borrow().clone()
    }

    /// Whether there ever were any.
    pub(super) fn was_bound(&self) -> bool {
        self.was_bound.load(Ordering::Relaxed)
    }

    /// The bound connections; waits a little for them. The time counts from when they were lost: a query
    /// over all vbuckets of a shard that is away must not wait for each.
    pub(super) async fn bound(&self) -> Result<Arc<Bound>, CallError> {
        if let Some(bound) = self.present() {
            return Ok(bound);
        }
        let deadline = *self.unbound_since.lock() + self.options.unbound_wait;
        self.bound_by(deadline).await
    }

    async fn bound_by(&self, deadline: Instant) -> Result<Arc<Bound>, CallError> {
        let mut changes = self.bound.subscribe();
        let found = tokio::time::timeout_at(deadline, changes.wait_for(Option::is_some)).await;
        let found = found.ok().and_then(Result::ok).and_then(|bound| bound.clone());
        found.ok_or_else(|| {
            let why = self.error.lock().clone();
            CallError::Unbound(why.unwrap_or_else(|| "it is being looked for".to_owned()))
        })
    }

    /// Waits for bound connections for as long as it takes.
    pub(super) async fn bound_some_day(&self) -> Arc<Bound> {
        loop {
            if let Ok(bound) = self.bound_by(Instant::now() + Duration::from_secs(3600)).await {
                return bound;
            }
        }
    }

    /// Notes an error; if it says that the connections are of no use any more, drops them.
    pub(super) fn note(&self, bound: &Arc<Bound>, error: &CallError) {
        self.metrics.error(error.kind());
        let Some(reason) = error.breaks() else { return };
        *self.error.lock() = Some(error.to_string());
        self.bound.send_if_modified(|present| {
            let is_present = present.as_ref().is_some_and(|present| Arc::ptr_eq(present, bound));
            if is_present {
                *self.unbound_since.lock() = Instant::now();
                *present = None;
            }
            is_present
        });
        bound.break_off(reason);
    }

    /// Calls a script; `fill` adds its arguments after the term.
    pub(super) async fn call(
        &self,
        for_use: Use,
        script: &Script,
        fill: impl Fn(&mut Cmd) + Send + Sync,
    ) -> Result<Value, CallError> {
        let bound = self.bound().await.inspect_err(|error| self.metrics.error(error.kind()))?;
        self.call_on(&bound, for_use, script, fill).await
    }

    /// As [`Shard::call`] for reads, which may be done twice: once more if the connection was at fault.
    pub(super) async fn read(
        &self,
        script: &Script,
        fill: impl Fn(&mut Cmd) + Send + Sync,
    ) -> Result<Value, CallError> {
        match self.call(Use::Query, script, &fill).await {
            Err(error) if error.breaks().is_some() => self.call(Use::Query, script, fill).await,
            answer => answer,
        }
    }

    pub(super) async fn call_on(
        &self,
        bound: &Arc<Bound>,
        for_use: Use,
        script: &Script,
        fill: impl Fn(&mut Cmd) + Send + Sync,
    ) -> Result<Value, CallError> {
        let link: &Link = match for_use {
            Use::Query => &bound.queries,
            Use::Owner => &bound.owners,
        };
        let mut command = script.call(bound.term);
        fill(&mut command);
        run(link, script, &command).await.inspect_err(|error| self.note(bound, error))
    }

    /// Writes a commit; a large one gets more time.
    pub(super) async fn commit(
        &self,
        bound: &Arc<Bound>,
        command: &Cmd,
        bytes: usize,
    ) -> Result<(), CallError> {
        let more = Duration::from_secs(1).mul_f64(bytes as f64 / COMMIT_BYTES_PER_SEC);
        let written = run_patiently(&bound.owners, &COMMIT, command, more).await;
        written.map(drop).inspect_err(|error| self.note(bound, error))
    }

    /// Calls a script that writes, and waits until the in-sync set has it.
    pub(super) async fn call_durably(
        &self,
        script: &Script,
        fill: impl Fn(&mut Cmd) + Send + Sync,
    ) -> Result<Value, CallError> {
        let bound = self.bound().await.inspect_err(|error| self.metrics.error(error.kind()))?;
        let mut command = script.call(bound.term);
        fill(&mut command);
        let link = &bound.lanes[0];
        let write = async {
            let answer = run(link, script, &command).await?;
            let waited = match bound.wait(self.options.ack_timeout) {
                Some(wait) => Some(link.send(&wait).await?),
                None => None,
            };
            bound.acknowledged(link, waited, self.options.ack_timeout).await?;
            Ok(answer)
        };
        write.await.inspect_err(|error| self.note(&bound, error))
    }

    /// Hands a batch to the lanes and waits for what becomes of it.
    pub(super) async fn accept(
        &self,
        call: AcceptCall,
        outcome: AcceptOutcome,
    ) -> Result<Accepted, CallError> {
        let full = || CallError::Full("batches waiting for a shard");
        timeout(self.options.ack_timeout, self.calls.send(call))
            .await
            .map_err(|_| full())?
            .map_err(|_| stopped())?;
        outcome.await.unwrap_or_else(|_| Err(stopped()))
    }

    pub(super) fn status(&self) -> ShardStatus {
        let present = self.present();
        ShardStatus {
            name: self.name().to_owned(),
            address: present.as_ref().map(|bound| bound.address.clone()),
            term: present.as_ref().map(|bound| bound.term),
            in_sync: present.as_ref().map_or(0, |bound| bound.in_sync()),
            error: self.error.lock().clone(),
        }
    }
}

pub(super) type AcceptOutcome = oneshot::Receiver<Result<Accepted, CallError>>;

fn stopped() -> CallError {
    CallError::Unbound("the store was stopped".to_owned())
}

/// Binds again and again. An address is never remembered: every time Sentinels are asked.
async fn stay_bound(shard: Arc<Shard>, dialer: Arc<Dialer>) {
    let mut backoff = BACKOFF_MIN;
    loop {
        match bind(&dialer, &shard.options, shard.index).await {
            Ok(bound) => {
                let since = Instant::now();
                let reason = serve(&shard, Arc::new(bound)).await;
                warn!(shard = shard.name(), reason, "connections to the primary dropped");
                shard.metrics.unbound(reason);
                if since.elapsed() > GOOD_AFTER {
                    backoff = BACKOFF_MIN;
                }
            }
            Err(error) => shard.note_unbound(&error),
        }
        // Half of it by chance, so that many servers do not come all at once.
        sleep(backoff.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

impl Shard {
    fn note_unbound(&self, error: &CallError) {
        self.metrics.error(error.kind());
        let error = error.to_string();
        let mut last = self.error.lock();
        // One line per cause, not per try.
        if last.as_deref() != Some(&error) {
            warn!(shard = self.name(), error, "cannot bind to the primary");
        }
        *last = Some(error);
    }
}

/// Publishes bound connections until they are of no use any more; gives the reason.
async fn serve(shard: &Arc<Shard>, bound: Arc<Bound>) -> &'static str {
    info!(shard = shard.name(), address = bound.address, term = bound.term, "bound to the primary");
    *shard.error.lock() = None;
    shard.metrics.bound();
    shard.bound.send_replace(Some(Arc::clone(&bound)));
    shard.was_bound.store(true, Ordering::Relaxed);
    // Owners look again: what they knew may be of another history.
    shard.arrivals.reset();
    let reason = tokio::select! {
        reason = bound.broken() => reason,
        reason = watch(shard, &bound) => reason,
    };
    shard.bound.send_if_modified(|present| {
        // Whoever found the fault may have done it.
        let was_present = present.take().is_some();
        if was_present {
            *shard.unbound_since.lock() = Instant::now();
        }
        was_present
    });
    shard.arrivals.reset();
    reason
}

/// Looks at the primary from time to time, so that one that is gone is noticed before a request needs it.
async fn watch(shard: &Shard, bound: &Arc<Bound>) -> &'static str {
    loop {
        sleep(LOOK_INTERVAL).await;
        if let Err(error) = bound.look().await {
            shard.note(bound, &error);
            if let Some(reason) = error.breaks() {
                return reason;
            }
        }
    }
}
