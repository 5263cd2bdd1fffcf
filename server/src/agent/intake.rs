//! The heart of the agent: takes contributions in, seals them once per flush period, and hands the
//! batches to the delivery.
//!
//! ```text
//! add ──▶ journal (if there is a spool) ──▶ gather ──seal──▶ batches ──▶ delivery
//! pass ─────────────────────────────────────────────────▶ batch file ──▶ delivery
//! ```
//!
//! What was taken in is held until a server acknowledges it. So the only bound with an answer stands
//! here: where memory or the spool is full, the post is refused and the program may try again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use taba_client::delivery::{Body, Delivery, Offered, SealedBatch};
use taba_core::{BatchId, ProducerId, Timestamp};
use tracing::{error, warn};

use super::config::ServerProtocol;
use super::gather::{BATCH_BYTES, Contribution, Gather, Sealed};
use super::outgoing::Route;
use super::spool::{Journal, Record, Spool};
use crate::clock;

/// See the module's documentation.
pub struct Intake {
    protocol: ServerProtocol,
    buffer_bytes_max: u64,
    producer: ProducerId,
    sequence: AtomicU64,
    events_ungathered: AtomicU64,
    open: Mutex<Open>,
    wake: Condvar,
    stopping: AtomicBool,
    pub(super) delivery: Arc<Delivery>,
    pub(super) spool: Option<Arc<Spool>>,
}

/// The flush period under way.
struct Open {
    gather: Gather,
    journal: Option<Journal>,
    /// What was gathered but is not in the delivery yet.
    sealing: Held,
}

/// An amount of events and their memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Events.
    pub events: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A sealed flush period that could not be handed over yet.
#[derive(Default)]
pub(super) struct Backlog {
    /// Sealed, and to be written to the spool.
    unwritten: Option<Period>,
    /// Written, and to be offered; the oldest last.
    unsent: Vec<SealedBatch>,
}

/// A flush period that is over: its batches, and the journal that holds them until they are files.
struct Period {
    journal: Option<Journal>,
    sealed: Vec<Sealed>,
}

/// Why a post was not taken in. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The memory bound is reached.
    #[error("buffer is full")]
    BufferFull,
    /// The bound of the spool is reached.
    #[error("spool is full")]
    SpoolFull,
    /// The spool cannot be written.
    #[error("spool cannot be written")]
    Spool(#[source] io::Error),
}

impl Intake {
    /// An intake that has taken in nothing.
    #[must_use]
    pub fn new(
        protocol: ServerProtocol,
        buffer_bytes_max: u64,
        producer: ProducerId,
        delivery: Arc<Delivery>,
        spool: Option<Arc<Spool>>,
    ) -> Self {
        let open = Open { gather: Gather::new(protocol), journal: None, sealing: Held::default() };
        Self {
            protocol,
            buffer_bytes_max,
            producer,
            sequence: AtomicU64::new(0),
            events_ungathered: AtomicU64::new(0),
            open: Mutex::new(open),
            wake: Condvar::new(),
            stopping: AtomicBool::new(false),
            delivery,
            spool,
        }
    }

    /// Continues after ids that were given out at the start.
    pub fn continue_after(&self, sequence: u64) {
        self.sequence.store(sequence, Ordering::Relaxed);
    }

    /// What the servers speak.
    #[must_use]
    pub fn protocol(&self) -> ServerProtocol {
        self.protocol
    }

    /// Events taken in and not sealed, and their memory.
    #[must_use]
    pub fn buffered(&self) -> Held {
        self.open.lock().held()
    }

    /// Memory in use, as a fraction of the bound.
    #[must_use]
    pub fn fill(&self) -> f64 {
        self.memory(&self.open.lock()) as f64 / self.buffer_bytes_max as f64
    }

    /// Events taken in, by this run or an earlier one, that could not be gathered and are lost.
    #[must_use]
    pub fn events_ungathered(&self) -> u64 {
        let found_in_spool = self.spool.as_ref().map_or(0, |spool| spool.events_ungathered());
        found_in_spool + self.events_ungathered.load(Ordering::Relaxed)
    }

    /// Whether a post of `bytes` would be taken in now.
    ///
    /// # Errors
    /// [`Refusal`] if not.
    pub fn check_room(&self, bytes: usize) -> Result<(), Refusal> {
        self.admit(&self.open.lock(), bytes)
    }

    /// Takes in what a post adds. Once it returns, the events are this agent's to deliver.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn add(&self, contribution: &Contribution, now: Timestamp) -> Result<(), Refusal> {
        let mut open = self.open.lock();
        self.admit(&open, contribution.block.len())?;
        if let Some(spool) = &self.spool {
            let record = Record { block: &contribution.block };
            spool.append(&mut open.journal, self.protocol, &record).map_err(Refusal::Spool)?;
        }
        let was_idle = open.gather.events() == 0;
        // Trying again would bring the same block, and the states that were gathered twice.
        if let Err(bad) = open.gather.add(&contribution.block, now) {
            self.events_ungathered.fetch_add(bad.events, Ordering::Relaxed);
            error!(events = bad.events, "partial states cannot be gathered; their events are lost");
        }
        if was_idle || open.gather.bytes() >= BATCH_BYTES {
            self.wake.notify_all();
        }
        Ok(())
    }

    /// Takes in a batch that has an id already and passes it on under that id.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn pass(&self, batch: Sealed, created: Timestamp, now: Timestamp) -> Result<(), Refusal> {
        self.check_room(batch.body.len())?;
        let route = Route::of(self.protocol);
        let batch = match &self.spool {
            Some(spool) => spool.keep(route, batch, created).map_err(Refusal::Spool)?,
            None => in_memory(route, batch, age(created, now)),
        };
        match self.delivery.offer(batch.clone()) {
            Ok(Offered::Held(_)) => Ok(()),
            Ok(Offered::Known) => {
                self.forget(&batch);
                Ok(())
            }
            Err(_) => {
                self.forget(&batch);
                Err(Refusal::BufferFull)
            }
        }
    }

    /// Seals a batch of its own for an id from outside.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn add_under(
        &self,
        id: &BatchId,
        contribution: &Contribution,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let mut writer = taba_core::wire::v2::BatchWriter::new();
        writer.push_block(&contribution.block);
        let body = writer.finish(id, now);
        self.pass(Sealed { id: Some(id.clone()), body, events: contribution.events }, now, now)
    }

    /// Runs the flush periods until [`Intake::stop`], then seals what is left. Blocks its thread.
    pub(super) fn run(&self, flush_every: Duration) {
        let mut backlog = Backlog::default();
        while !self.stopping() {
            self.wait_for_events(&backlog, flush_every);
            self.flush(&mut backlog);
        }
        self.flush(&mut backlog);
        if !backlog.is_empty() {
            error!("agent ends with events that could not be handed over; a spool keeps them");
        }
    }

    /// Ends [`Intake::run`].
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        drop(self.open.lock());
        self.wake.notify_all();
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Sleeps until there is something to flush and a flush period has passed since, or a batch is full.
    fn wait_for_events(&self, backlog: &Backlog, flush_every: Duration) {
        let mut open = self.open.lock();
        while backlog.is_empty() && open.gather.events() == 0 && !self.stopping() {
            self.wake.wait(&mut open);
        }
        let due = Instant::now() + flush_every;
        // A batch that is full does not hurry while another one waits for room.
        while !self.stopping() && (open.gather.bytes() < BATCH_BYTES || !self.delivery.has_room(0)) {
            if self.wake.wait_until(&mut open, due).timed_out() {
                return;
            }
        }
    }

    /// Seals the period and hands its batches over, as far as there is room for them.
    fn flush(&self, backlog: &mut Backlog) {
        let now = clock::now();
        if backlog.is_empty() && self.delivery.has_room(0) {
            backlog.unwritten = self.take_period(now);
        }
        if let Some(period) = backlog.unwritten.take() {
            match self.write(period, now) {
                Ok(batches) => backlog.unsent = batches.into_iter().rev().collect(),
                Err(period) => backlog.unwritten = Some(period),
            }
        }
        while let Some(batch) = backlog.unsent.pop() {
            if self.delivery.offer(batch.clone()).is_err() {
                backlog.unsent.push(batch);
                return;
            }
        }
        if backlog.is_empty() {
            self.open.lock().sealing = Held::default();
        }
    }

    fn take_period(&self, now: Timestamp) -> Option<Period> {
        let mut open = self.open.lock();
        if open.gather.events() == 0 {
            return None;
        }
        let gather = std::mem::replace(&mut open.gather, Gather::new(self.protocol));
        let journal = open.journal.take();
        open.sealing = Held { events: gather.events(), bytes: gather.bytes() as u64 };
        drop(open);
        Some(Period { journal, sealed: gather.seal(now, || self.next_id()) })
    }

    /// Makes the batches safe; gives the period back if the disk does not take them.
    fn write(&self, period: Period, now: Timestamp) -> Result<Vec<SealedBatch>, Period> {
        let Period { journal, sealed } = period;
        let route = Route::of(self.protocol);
        let Some(spool) = &self.spool else {
            return Ok(sealed.into_iter().map(|batch| in_memory(route, batch, Duration::ZERO)).collect());
        };
        match spool.seal_journal(journal, route, &sealed, now) {
            Ok(batches) => Ok(batches),
            Err((journal, error)) => {
                warn!(%error, "batches cannot be written to the spool; will try again");
                Err(Period { journal, sealed })
            }
        }
    }

    fn next_id(&self) -> BatchId {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        BatchId { producer: self.producer.clone(), sequence }
    }

    fn admit(&self, open: &Open, bytes: usize) -> Result<(), Refusal> {
        if self.memory(open) + bytes as u64 > self.buffer_bytes_max {
            return Err(Refusal::BufferFull);
        }
        match &self.spool {
            Some(spool) if !spool.has_room(bytes, open.held().bytes) => Err(Refusal::SpoolFull),
            _ => Ok(()),
        }
    }

    /// With a spool, batches are files and cost no memory to speak of.
    fn memory(&self, open: &Open) -> u64 {
        let batches = if self.spool.is_some() { 0 } else { self.delivery.load().bytes };
        open.held().bytes + batches
    }

    fn forget(&self, batch: &SealedBatch) {
        if let Some(spool) = &self.spool {
            spool.forget(batch);
        }
    }
}

impl Open {
    fn held(&self) -> Held {
        Held {
            events: self.gather.events() + self.sealing.events,
            bytes: self.gather.bytes() as u64 + self.sealing.bytes,
        }
    }
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.unwritten.is_none() && self.unsent.is_empty()
    }
}

fn in_memory(route: Route, batch: Sealed, age: Duration) -> SealedBatch {
    route.batch(batch.id, Body::Memory(batch.body.into()), batch.events, age)
}

fn age(created: Timestamp, now: Timestamp) -> Duration {
    let micros = now.as_micros().saturating_sub(created.as_micros());
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
