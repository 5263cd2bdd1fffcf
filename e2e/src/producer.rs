//! A producer that numbers its events: it posts v1 bodies under batch ids and repeats each until it is
//! acknowledged, through refusals, resets and restarts of the server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::rng::Rng;

/// Where the server is at the moment; a restarted server has another port.
pub type SharedAddress = Arc<RwLock<SocketAddr>>;

/// Longest time one batch may take to be acknowledged before a run has failed.
const BATCH_PATIENCE: Duration = Duration::from_secs(120);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// What a tab must show: events and their sum. Sums of whole numbers below 2^53 are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// How many events.
    pub count: u64,
    /// The sum of their values.
    pub sum: u64,
}

/// What was acknowledged, by tab.
pub type Ledger = BTreeMap<String, Total>;

/// Adds one ledger to another.
pub fn add_ledger(into: &mut Ledger, from: &Ledger) {
    for (tab, total) in from {
        let slot = into.entry(tab.clone()).or_default();
        slot.count += total.count;
        slot.sum += total.sum;
    }
}

/// All events of a ledger.
#[must_use]
pub fn count(ledger: &Ledger) -> u64 {
    ledger.values().map(|total| total.count).sum()
}

/// How a producer misbehaves, as senders behind a bad network do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habits {
    /// Sends every batch twice, even when the first was acknowledged.
    pub duplicates: bool,
    /// Sends batches in pairs, the later one first.
    pub reorders: bool,
}

/// One producer and what it got acknowledged.
pub struct Producer {
    name: String,
    start: u64,
    tabs: u64,
    events_per_batch: u64,
    habits: Habits,
    rng: Rng,
    next_event: u64,
    sequence: u64,
    unfinished: Option<Batch>,
    /// What was acknowledged so far.
    pub ledger: Ledger,
}

/// Numbered events under an id, and what they add to a ledger.
pub struct Batch {
    /// `producer/sequence`.
    pub id: String,
    /// A v1 body.
    pub body: String,
    /// Its events by tab.
    pub ledger: Ledger,
}

impl Producer {
    /// A producer named `name` that spreads its events over `tabs` tabs.
    #[must_use]
    pub fn new(name: &str, seed: u64, tabs: u64, events_per_batch: u64, habits: Habits) -> Self {
        let mut rng = Rng::new(seed);
        let start = rng.bits();
        Self {
            name: name.to_owned(),
            start,
            tabs,
            events_per_batch,
            habits,
            rng,
            next_event: 0,
            sequence: 0,
            unfinished: None,
            ledger: Ledger::new(),
        }
    }

    /// Posts batches until `stop`; returns when everything begun is acknowledged.
    ///
    /// # Errors
    /// If a batch is refused for good or not acknowledged in time.
    pub fn run(&mut self, server: &SharedAddress, stop: &AtomicBool, acknowledged: &AtomicU64) -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            self.send_next(server)?;
            acknowledged.fetch_add(self.events_per_batch, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes and sends the next batch (or pair of batches), until it is acknowledged.
    ///
    /// # Errors
    /// If a batch is refused for good or not acknowledged in time.
    pub fn send_next(&mut self, server: &SharedAddress) -> Result<()> {
        let first = self.unfinished.take().unwrap_or_else(|| self.make_batch());
        let mut batches = vec![first];
        if self.habits.reorders {
            batches.push(self.make_batch());
            batches.reverse();
        }
        for batch in batches {
            deliver(&batch, server)?;
            if self.habits.duplicates {
                deliver(&batch, server)?;
            }
            add_ledger(&mut self.ledger, &batch.ledger);
        }
        Ok(())
    }

    /// Posts one batch once. A refusal gives the status; the batch is kept and goes first next time.
    ///
    /// # Errors
    /// The status of the refusal, or 0 without an answer.
    pub fn try_next(&mut self, server: &SharedAddress) -> Result<(), u16> {
        let batch = self.unfinished.take().unwrap_or_else(|| self.make_batch());
        let address = *server.read().expect("no holder of this lock panics");
        match post(&batch, address).map(|answer| answer.status().as_u16()) {
            Ok(200) => {
                add_ledger(&mut self.ledger, &batch.ledger);
                Ok(())
            }
            refused => {
                self.unfinished = Some(batch);
                Err(refused.unwrap_or(0))
            }
        }
    }

    /// The next batch, not sent yet.
    pub fn make_batch(&mut self) -> Batch {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mut by_tab: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for _ in 0..self.events_per_batch {
            self.next_event += 1;
            let tab = format!("tab{}", self.rng.below(self.tabs));
            by_tab.entry(tab).or_default().push(self.next_event);
        }
        let mut body = format!("1\n\n{}\n\n", self.name);
        let mut ledger = Ledger::new();
        for (tab, numbers) in by_tab {
            body.push_str(&format!("{tab}\n"));
            for number in &numbers {
                body.push_str(&format!("[\"CounterGroup\", {:.2}, \"{number}\"]\n", now.as_secs_f64()));
            }
            body.push('\n');
            ledger.insert(tab, Total { count: numbers.len() as u64, sum: numbers.iter().sum() });
        }
        body.push('\n');
        self.sequence += 1;
        Batch { id: format!("{}:{:x}/{}", self.name, self.start, self.sequence), body, ledger }
    }
}

fn post(batch: &Batch, address: SocketAddr) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
    let config =
        ureq::Agent::config_builder().timeout_global(Some(REQUEST_TIMEOUT)).http_status_as_error(false);
    let agent: ureq::Agent = config.build().into();
    agent.post(format!("http://{address}/post")).header("Idempotency-Key", &batch.id).send(&batch.body)
}

/// Posts a batch until it is acknowledged.
fn deliver(batch: &Batch, server: &SharedAddress) -> Result<()> {
    let deadline = Instant::now() + BATCH_PATIENCE;
    loop {
        let address = *server.read().expect("no holder of this lock panics");
        match post(batch, address) {
            Ok(answer) if answer.status() == 200 => return Ok(()),
            Ok(answer) if answer.status().is_client_error() => {
                let status = answer.status();
                let why = answer.into_body().read_to_string().context("read the refusal")?;
                bail!("batch {} refused for good: {status} {why}", batch.id);
            }
            Ok(_) | Err(_) => {}
        }
        if Instant::now() > deadline {
            bail!("batch {} not acknowledged within {BATCH_PATIENCE:?}", batch.id);
        }
        std::thread::sleep(RETRY_PAUSE);
    }
}
