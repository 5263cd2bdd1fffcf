//! The client: handles to record with, and a thread that seals and hands over what was recorded.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use taba_core::wire::v2::{self, BatchWriter};
use taba_core::{BatchId, Part, ProducerId, TabType};
use tracing::warn;

use crate::builder::Builder;
use crate::clock;
use crate::delivery::{Body, Delivery, DeliveryStats, Load, Offered, SealedBatch};
use crate::recorder::Recorder;
use crate::tab::{NotRecorded, Tab};
use crate::value::Value;

/// Bytes of parts, before compression, at which a batch is sealed and the next one begun. A tab holds
/// at most 1 MiB, so a batch stays below 6 MiB.
const BATCH_BYTES: usize = 4 << 20;

/// Room a batch may need in the delivery store: [`BATCH_BYTES`], one tab, and the frame.
pub(crate) const BATCH_BYTES_MAX: u64 = 6 << 20;

/// Records events and hands them to Taba. Cheap to clone; the last clone to go flushes, for at most
/// [`Builder::drop_wait`].
///
/// Recording never waits for the network and never panics. What cannot be recorded is counted in
/// [`Client::stats`].
#[derive(Clone)]
pub struct Client {
    lifetime: Arc<Lifetime>,
}

struct Lifetime {
    shared: Arc<Shared>,
    drop_wait: Duration,
}

pub(crate) struct Shared {
    pub recorder: Recorder,
    pub delivery: Delivery,
    pub sealer: Mutex<Sealer>,
}

/// Gives batches their ids. Its lock keeps two flushes from sealing at once.
pub(crate) struct Sealer {
    pub producer: ProducerId,
    pub sequence: u64,
}

/// What a client did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Stats {
    /// Events recorded.
    pub recorded: u64,
    /// Events not recorded because their value, their tab's name or its type is not valid.
    pub bad: u64,
    /// Events not recorded because a bound was reached, or the client had gone.
    pub dropped: u64,
    /// Tabs known.
    pub tabs: usize,
    /// Memory of what is recorded and not sealed, in bytes.
    pub recording_bytes: usize,
    /// Batches not resolved yet.
    pub pending: Load,
    /// What became of the others.
    pub delivery: DeliveryStats,
}

/// Why a flush did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlushError {
    /// Not everything was acknowledged in time. It is still held and tried again.
    #[error("{} batches with {} events are not acknowledged yet", .0.batches, .0.events)]
    TimedOut(Load),
    /// Receivers refused some events for good, or they grew too old.
    #[error("{events} events were lost")]
    Lost {
        /// How many.
        events: u64,
    },
}

impl Client {
    /// Begins to configure a client that posts to an agent or server, such as `http://127.0.0.1:8279`.
    #[must_use]
    pub fn builder(endpoint: impl Into<String>) -> Builder {
        Builder::new(endpoint.into())
    }

    pub(crate) fn start(shared: Shared, flush_every: Duration, drop_wait: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(shared);
        let flusher = Arc::clone(&shared);
        thread::Builder::new().name("taba-flush".to_owned()).spawn(move || flusher.run(flush_every))?;
        Ok(Self { lifetime: Arc::new(Lifetime { shared, drop_wait }) })
    }

    /// A counter: how often and how much, with percentiles, over 1 minute to 1 day.
    #[must_use]
    pub fn counter(&self, tab: &str) -> Counter {
        Counter(self.number(tab, TabType::CounterGroup))
    }

    /// A distribution: percentiles over 1 minute to 1 day.
    #[must_use]
    pub fn percentile(&self, tab: &str) -> Percentile {
        Percentile(self.number(tab, TabType::PercentileGroup))
    }

    /// Sets a gauge; it holds for 48 hours or until it is set again.
    pub fn gauge(&self, tab: &str, value: impl Into<Value>) {
        self.json(tab, TabType::Gauge, &value.into().payload());
    }

    /// Sets a gauge that holds until `expiry` or until it is set again.
    pub fn gauge_until(&self, tab: &str, value: impl Into<Value>, expiry: SystemTime) {
        let payload = value.into().payload_until(clock::timestamp(expiry));
        self.json(tab, TabType::ExpiryGauge, &payload);
    }

    /// Appends to a buffer, which keeps the entry until `expiry` or until a thousand others live longer.
    pub fn buffer(&self, tab: &str, value: impl Into<Value>, expiry: SystemTime) {
        let payload = value.into().payload_until(clock::timestamp(expiry));
        self.json(tab, TabType::Buffer, &payload);
    }

    /// Seals everything recorded so far and waits until it is acknowledged.
    ///
    /// # Errors
    /// [`FlushError`].
    pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        self.lifetime.shared.flush(Instant::now() + timeout)
    }

    /// Numbers about the client itself.
    pub fn stats(&self) -> Stats {
        let Shared { recorder, delivery, .. } = &*self.lifetime.shared;
        Stats {
            recorded: recorder.counters.recorded.load(Ordering::Relaxed),
            bad: recorder.counters.bad.load(Ordering::Relaxed),
            dropped: recorder.counters.dropped.load(Ordering::Relaxed),
            tabs: recorder.tabs(),
            recording_bytes: recorder.bytes(),
            pending: delivery.load(),
            delivery: delivery.stats(),
        }
    }

    fn number(&self, tab: &str, tab_type: TabType) -> Number {
        let shared = Arc::clone(&self.lifetime.shared);
        let tab = shared.recorder.tab(tab, tab_type);
        Number { shared, tab }
    }

    fn json(&self, tab: &str, tab_type: TabType, payload: &str) {
        let recorder = &self.lifetime.shared.recorder;
        recorder.record_json(&recorder.tab(tab, tab_type), payload);
    }
}

#[derive(Clone)]
struct Number {
    shared: Arc<Shared>,
    tab: Result<Arc<Tab>, NotRecorded>,
}

impl Number {
    fn record(&self, value: f64) {
        self.shared.recorder.record_number(&self.tab, value);
    }
}

/// Records counts and amounts. Cheap to clone; keep it rather than asking for it again.
#[derive(Clone)]
pub struct Counter(Number);

impl Counter {
    /// Something happened once.
    pub fn increment(&self) {
        self.0.record(1.0);
    }

    /// Something happened with this amount.
    pub fn record(&self, amount: f64) {
        self.0.record(amount);
    }
}

/// Records values whose distribution matters. Cheap to clone; keep it rather than asking for it again.
#[derive(Clone)]
pub struct Percentile(Number);

impl Percentile {
    /// One value.
    pub fn record(&self, value: f64) {
        self.0.record(value);
    }

    /// One duration, in milliseconds.
    pub fn record_millis(&self, duration: Duration) {
        self.0.record(duration.as_secs_f64() * 1e3);
    }
}

impl Shared {
    fn run(&self, flush_every: Duration) {
        while !self.recorder.is_closed() {
            self.recorder.signal.wait(None, || self.recorder.is_dirty() || self.recorder.is_closed());
            self.recorder.signal.wait(Some(Instant::now() + flush_every), || self.recorder.is_closed());
            if !self.recorder.is_closed() {
                self.seal();
            }
        }
    }

    /// Seals what was recorded. `false`: the delivery store is full, the rest goes on being folded into
    /// the same bounded states and is sealed when there is room again.
    fn seal(&self) -> bool {
        let mut sealer = self.sealer.lock();
        if !self.delivery.has_room(BATCH_BYTES_MAX) {
            return false;
        }
        self.recorder.clear_dirty();
        let (mut writer, mut events_in_batch) = (BatchWriter::new(), 0);
        let client = self.recorder.client();
        let complete = self.recorder.take_all(clock::now(), |tab, events, state| {
            writer.push(&Part::State { tab, client, events, state });
            events_in_batch += events;
            if writer.bytes() < BATCH_BYTES {
                return true;
            }
            self.hand_over(&mut sealer, std::mem::take(&mut writer), std::mem::take(&mut events_in_batch));
            self.delivery.has_room(BATCH_BYTES_MAX)
        });
        if !writer.is_empty() {
            self.hand_over(&mut sealer, writer, events_in_batch);
        }
        complete
    }

    fn hand_over(&self, sealer: &mut Sealer, writer: BatchWriter, events: u64) {
        sealer.sequence += 1;
        let id = BatchId { producer: sealer.producer.clone(), sequence: sealer.sequence };
        let body = writer.finish(&id, clock::now());
        let batch = SealedBatch {
            id: Some(id),
            path: "/v2/batch",
            content_type: Some(v2::CONTENT_TYPE),
            content_encoding: None,
            body: Body::Memory(body.into()),
            events,
            age: Duration::ZERO,
        };
        match self.delivery.offer(batch) {
            Ok(Offered::Held(_) | Offered::Known) => {}
            Err(full) => {
                // Room was checked and only this thread adds, so this needs a batch above its bound.
                warn!(%full, events, "batch is larger than the room kept for it; dropped");
                self.recorder.counters.dropped.fetch_add(events, Ordering::Relaxed);
            }
        }
    }

    fn flush(&self, deadline: Instant) -> Result<(), FlushError> {
        let lost_before = self.lost();
        loop {
            let sealed_all = self.seal();
            let resolved = self.delivery.drain(deadline);
            if !resolved || (!sealed_all && Instant::now() >= deadline) {
                return Err(FlushError::TimedOut(self.delivery.load()));
            }
            if sealed_all {
                break;
            }
        }
        match self.lost() - lost_before {
            0 => Ok(()),
            events => Err(FlushError::Lost { events }),
        }
    }

    fn lost(&self) -> u64 {
        let stats = self.delivery.stats();
        stats.refused.events + stats.expired.events
    }
}

impl Drop for Lifetime {
    fn drop(&mut self) {
        self.shared.recorder.close();
        if let Err(error) = self.shared.flush(Instant::now() + self.drop_wait) {
            warn!(%error, "client ends with events that were not acknowledged");
        }
        self.shared.delivery.stop();
    }
}
