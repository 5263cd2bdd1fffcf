//! The delivery path: a bounded store of sealed batches and the threads that send them until each is
//! acknowledged, refused for good, or too old. The client and the agent share it.
//!
//! ```text
//! offer ──▶ Scheduler (which batch, which endpoint, when) ◀──▶ sender threads ──HTTP──▶ endpoints
//! ```
//!
//! All decisions are in [`scheduler`], which is pure; the threads here only wait, send and report. A
//! batch keeps its id and bytes over all attempts, so a lost answer never counts twice.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing::warn;

mod backoff;
mod batch;
mod endpoint;
pub mod scheduler;
mod transport;
mod window;

pub use backoff::Backoff;
pub use batch::{Body, Fate, SealedBatch};
pub use scheduler::{Arrival, EndpointLoad, Full, Load, Offered};
pub use transport::Timeouts;

use scheduler::{BatchInfo, Next, Rules, Scheduler, Ticket};
use transport::Transport;

/// Settings of a [`Delivery`].
#[derive(Clone, Debug)]
pub struct DeliveryConfig {
    /// Receivers, as `http://host:port`. At least one.
    pub endpoints: Vec<String>,
    /// Requests under way per endpoint, each with a thread of its own. 0 holds batches and sends
    /// nothing. Defaults to 2, so that one slow answer does not stop an endpoint.
    pub senders_per_endpoint: usize,
    /// Most bytes of batches held. Defaults to 64 MiB.
    pub bytes_max: u64,
    /// Most batches held. Defaults to 16,384, some 5 MB besides their bodies.
    pub batches_max: usize,
    /// How long a batch is retried. Defaults to 24 h; receivers remember ids for 48 h.
    pub retry_for: Duration,
    /// Waits after failures.
    pub backoff: Backoff,
    /// Time limits of one attempt.
    pub timeouts: Timeouts,
}

impl DeliveryConfig {
    /// The defaults, for these receivers.
    #[must_use]
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            senders_per_endpoint: 2,
            bytes_max: 64 << 20,
            batches_max: 16_384,
            retry_for: Duration::from_secs(24 * 3600),
            backoff: Backoff::default(),
            timeouts: Timeouts::default(),
        }
    }

    fn rules(&self) -> Rules {
        Rules {
            batches_max: self.batches_max,
            bytes_max: self.bytes_max,
            senders_per_endpoint: self.senders_per_endpoint,
            retry_for: self.retry_for,
            backoff: self.backoff,
            busy_wait_min: Duration::from_secs(1),
            busy_wait_max: Duration::from_secs(300),
        }
    }
}

/// What became of everything offered so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryStats {
    /// Requests sent, retries included.
    pub attempts: u64,
    /// Batches acknowledged, and their events.
    pub acknowledged: Tally,
    /// Batches a receiver can never accept, and their events. They are lost.
    pub refused: Tally,
    /// Batches that grew too old, and their events. They are lost.
    pub expired: Tally,
}

/// A number of batches and of the events in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Batches.
    pub batches: u64,
    /// Events.
    pub events: u64,
}

#[derive(Debug, Default)]
struct AtomicTally {
    batches: AtomicU64,
    events: AtomicU64,
}

#[derive(Debug, Default)]
struct Counters {
    attempts: AtomicU64,
    acknowledged: AtomicTally,
    refused: AtomicTally,
    expired: AtomicTally,
}

type OnResolved = Box<dyn Fn(&SealedBatch, Fate) + Send + Sync>;

struct State {
    scheduler: Scheduler,
    batches: HashMap<Arrival, Arc<SealedBatch>>,
    /// Resolved, but `on_resolved` has not returned yet. At most one per sender.
    settling: BTreeSet<Arrival>,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled when there may be something to send.
    work: Condvar,
    /// Signalled when a batch was resolved.
    resolved: Condvar,
    counters: Counters,
    transport: Transport,
    endpoints: Vec<String>,
    on_resolved: OnResolved,
}

/// Delivers batches in the background. Dropping it stops the senders at once; [`Delivery::drain`] first
/// to let them finish.
pub struct Delivery {
    shared: Arc<Shared>,
}

impl Delivery {
    /// Starts the sender threads. `on_resolved` is called from them once per batch, without a lock held.
    ///
    /// # Errors
    /// The operating system's, if it gives no thread.
    pub fn start(
        config: DeliveryConfig,
        on_resolved: impl Fn(&SealedBatch, Fate) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let threads = config.endpoints.len() * config.senders_per_endpoint;
        let scheduler = Scheduler::new(config.rules(), config.endpoints.len());
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                scheduler,
                batches: HashMap::new(),
                settling: BTreeSet::new(),
                closed: false,
            }),
            work: Condvar::new(),
            resolved: Condvar::new(),
            counters: Counters::default(),
            transport: Transport::new(config.timeouts, config.senders_per_endpoint),
            endpoints: config.endpoints,
            on_resolved: Box::new(on_resolved),
        });
        // Made before the threads: if one cannot start, dropping it stops the others.
        let delivery = Self { shared };
        for number in 0..threads {
            let shared = Arc::clone(&delivery.shared);
            thread::Builder::new().name(format!("taba-send-{number}")).spawn(move || shared.run())?;
        }
        Ok(delivery)
    }

    /// Takes a batch over. `Ok` means it is held here and will be tried until it is resolved.
    ///
    /// # Errors
    /// [`Full`]; the caller still has the events.
    pub fn offer(&self, batch: SealedBatch) -> Result<Offered, Full> {
        let info = BatchInfo {
            id: batch.id.clone(),
            bytes: batch.body.bytes(),
            events: batch.events,
            age: batch.age,
        };
        let mut state = self.shared.state.lock();
        let offered = state.scheduler.offer(info, Instant::now())?;
        if let Offered::Held(arrival) = offered {
            state.batches.insert(arrival, Arc::new(batch));
            self.shared.work.notify_one();
        }
        Ok(offered)
    }

    /// Whether a batch of this size would be taken.
    #[must_use]
    pub fn has_room(&self, bytes: u64) -> bool {
        self.shared.state.lock().scheduler.has_room(bytes)
    }

    /// What is held.
    #[must_use]
    pub fn load(&self) -> Load {
        self.shared.state.lock().scheduler.load()
    }

    /// What is under way to each endpoint, in the order of the settings.
    #[must_use]
    pub fn endpoints(&self) -> Vec<(String, EndpointLoad)> {
        let loads = self.shared.state.lock().scheduler.endpoint_loads();
        self.shared.endpoints.iter().cloned().zip(loads).collect()
    }

    /// Totals so far.
    #[must_use]
    pub fn stats(&self) -> DeliveryStats {
        let counters = &self.shared.counters;
        DeliveryStats {
            attempts: counters.attempts.load(Ordering::Relaxed),
            acknowledged: counters.acknowledged.read(),
            refused: counters.refused.read(),
            expired: counters.expired.read(),
        }
    }

    /// Waits until everything offered so far is resolved and `on_resolved` was told, at most until
    /// `deadline`. `false`: it is not.
    pub fn drain(&self, deadline: Instant) -> bool {
        let mut state = self.shared.state.lock();
        let newest = state.scheduler.newest();
        while !state.settled_up_to(newest) {
            if self.shared.resolved.wait_until(&mut state, deadline).timed_out() {
                return state.settled_up_to(newest);
            }
        }
        true
    }

    /// Tells the senders to end. One in the middle of a request ends after it; its time limits bound that.
    pub fn stop(&self) {
        self.shared.state.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.stop();
    }
}

impl State {
    fn settled_up_to(&self, arrival: Arrival) -> bool {
        let told = self.settling.first().is_none_or(|oldest| *oldest > arrival);
        told && self.scheduler.resolved_up_to(arrival)
    }
}

impl Shared {
    fn run(&self) {
        let mut state = self.state.lock();
        while !state.closed {
            match state.scheduler.next(Instant::now(), rand::random()) {
                Next::Send(ticket) => {
                    // One wake-up may have stood for several batches: pass it on.
                    self.work.notify_one();
                    self.attempt(&mut state, ticket);
                }
                Next::Expired(arrival) => self.settle(&mut state, arrival, Fate::Expired),
                Next::WaitUntil(at) => {
                    self.work.wait_until(&mut state, at);
                }
                Next::Wait => self.work.wait(&mut state),
            }
        }
    }

    fn attempt(&self, state: &mut MutexGuard<'_, State>, ticket: Ticket) {
        let batch = Arc::clone(&state.batches[&ticket.batch]);
        let endpoint = &self.endpoints[ticket.endpoint];
        self.counters.attempts.fetch_add(1, Ordering::Relaxed);
        let outcome = MutexGuard::unlocked(state, || self.transport.send(endpoint, &batch));
        if let Some(fate) = state.scheduler.report(ticket, outcome, Instant::now(), rand::random()) {
            self.settle(state, ticket.batch, fate);
        }
    }

    fn settle(&self, state: &mut MutexGuard<'_, State>, arrival: Arrival, fate: Fate) {
        let batch = state.batches.remove(&arrival).expect("a batch is settled once");
        state.settling.insert(arrival);
        MutexGuard::unlocked(state, || {
            self.counters.add(&batch, fate);
            if fate == Fate::Expired {
                let id = batch.id.as_ref().map(ToString::to_string);
                warn!(?id, events = batch.events, "batch grew too old; dropped");
            }
            (self.on_resolved)(&batch, fate);
        });
        state.settling.remove(&arrival);
        self.resolved.notify_all();
    }
}

impl Counters {
    fn add(&self, batch: &SealedBatch, fate: Fate) {
        let tally = match fate {
            Fate::Acknowledged => &self.acknowledged,
            Fate::Refused => &self.refused,
            Fate::Expired => &self.expired,
        };
        tally.batches.fetch_add(1, Ordering::Relaxed);
        tally.events.fetch_add(batch.events, Ordering::Relaxed);
    }
}

impl AtomicTally {
    fn read(&self) -> Tally {
        Tally { batches: self.batches.load(Ordering::Relaxed), events: self.events.load(Ordering::Relaxed) }
    }
}
