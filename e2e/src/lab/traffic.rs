//! Numbered producers: each on a host of its own, each batch under an id that it repeats by every route it
//! knows until one acknowledges.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::books::Books;
use super::host::SharedHost;
use super::timeline::Timeline;
use crate::producer::{Batch, Habits, Producer};
use crate::rng::Rng;

/// Tabs of all producers together: more than vbuckets, so that nearly all are used.
const TABS: u64 = 32;
const EVENTS_PER_BATCH: u64 = 40;
/// From an acknowledgement to the next batch, if nothing else is said.
pub const PAUSE: Duration = Duration::from_millis(50);
const RETRY_PAUSE: Duration = Duration::from_millis(15);
/// A server that stopped accepts connections and never answers; the next one does.
const REQUEST_PATIENCE: Duration = Duration::from_millis(1500);
/// Longest time for one batch, on a very busy machine; the end of a run is the usual bound.
const BATCH_PATIENCE: Duration = Duration::from_secs(600);
/// Batches under one producer id. A batch that waits in an agent may be overtaken by this many of its
/// producer, and servers tell them apart up to 1,024 (`docs/wire.md`).
const BATCHES_PER_START: u64 = 300;

/// Where batches can be posted.
#[derive(Debug, Default)]
pub struct Routes {
    /// URLs of frontends; they come and go.
    pub frontends: RwLock<Vec<String>>,
    /// URLs of agents.
    pub agents: Vec<String>,
}

/// Which routes a producer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Frontends only.
    Direct,
    /// Agents first, frontends when they refuse.
    Agent,
    /// Any, and now and then a second time after the acknowledgement.
    Restless,
}

/// Where a producer runs: what its thread does before anything else.
pub type Place = Box<dyn FnOnce() -> Result<()> + Send>;

/// The producers of a run.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    /// When producers give up, if the end is near.
    deadline: Arc<Mutex<Option<Instant>>>,
    running: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<Result<()>>>,
}

impl Traffic {
    /// Starts a producer on each host.
    #[must_use]
    pub fn start(
        hosts: &[SharedHost],
        seed: u64,
        routes: &Arc<Routes>,
        books: &Arc<Books>,
        timeline: &Arc<Timeline>,
    ) -> Self {
        let place = |host: &SharedHost| -> Place {
            let host = Arc::clone(host);
            Box::new(move || host.enter())
        };
        Self::start_at(hosts.iter().map(place).collect(), PAUSE, seed, routes, books, timeline)
    }

    /// Starts a producer in each place, which pauses for so long after each acknowledgement.
    #[must_use]
    pub fn start_at(
        places: Vec<Place>,
        pause: Duration,
        seed: u64,
        routes: &Arc<Routes>,
        books: &Arc<Books>,
        timeline: &Arc<Timeline>,
    ) -> Self {
        let deadline = Arc::default();
        let (stop, running) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(places.len())));
        let habits = [Habit::Direct, Habit::Restless, Habit::Direct, Habit::Agent];
        let threads = places
            .into_iter()
            .zip(habits.into_iter().cycle())
            .enumerate()
            .map(|(number, (enter, habit))| {
                let sender = Sender {
                    name: format!("producer{number}"),
                    habit,
                    routes: Arc::clone(routes),
                    books: Arc::clone(books),
                    rng: Rng::new(seed ^ (number as u64 + 1)),
                    turn: number,
                    pause,
                    http: http(),
                    end: Arc::clone(&deadline),
                };
                let (stop, running) = (Arc::clone(&stop), Arc::clone(&running));
                let timeline = Arc::clone(timeline);
                std::thread::spawn(move || {
                    let ended = enter().and_then(|()| sender.run(&stop));
                    if let Err(error) = &ended {
                        timeline.note(format!("a producer gave up: {error:#}"));
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                    ended
                })
            })
            .collect();
        Self { stop, deadline, running, threads }
    }

    /// Begins no further batch and waits until all begun are acknowledged, for at most `patience`.
    ///
    /// # Errors
    /// If one is not, or is refused for good.
    pub fn finish(self, patience: Duration) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        *self.deadline.lock().expect("no holder of this lock panics") = Some(Instant::now() + patience);
        for thread in self.threads {
            thread.join().unwrap_or_else(|_| bail!("a producer panicked"))?;
        }
        Ok(())
    }

    /// Whether all producers still run.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.running.load(Ordering::SeqCst) == self.threads.len()
    }
}

fn http() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(REQUEST_PATIENCE))
        .timeout_connect(Some(Duration::from_millis(500)))
        .http_status_as_error(false);
    config.build().into()
}

struct Sender {
    name: String,
    habit: Habit,
    routes: Arc<Routes>,
    books: Arc<Books>,
    rng: Rng,
    /// Which route is next.
    turn: usize,
    pause: Duration,
    http: ureq::Agent,
    end: Arc<Mutex<Option<Instant>>>,
}

impl Sender {
    fn run(mut self, stop: &AtomicBool) -> Result<()> {
        let mut producer =
            Producer::new(&self.name, self.rng.bits(), TABS, EVENTS_PER_BATCH, Habits::default());
        let start = self.rng.bits();
        for number in 0_u64.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let mut batch = producer.make_batch();
            let (life, sequence) = (number / BATCHES_PER_START, number % BATCHES_PER_START);
            batch.id = format!("{}:{start:x}.{life}/{}", self.name, sequence + 1);
            self.books.sending(&batch.ledger);
            let stored = self.deliver(&batch)?;
            self.books.acknowledged(&batch.ledger, stored);
            if self.habit == Habit::Restless && self.rng.one_in(4) {
                // A late duplicate, by another route; whatever comes of it changes nothing.
                let route = self.route(true);
                let _ = self.post(&batch, &route.url);
            }
            std::thread::sleep(self.pause);
        }
        Ok(())
    }

    /// Posts a batch until it is acknowledged; whether a frontend did, and so has stored it.
    fn deliver(&mut self, batch: &Batch) -> Result<bool> {
        let deadline = Instant::now() + BATCH_PATIENCE;
        let mut is_retry = false;
        let mut last = String::new();
        let end = Arc::clone(&self.end);
        let end = || end.lock().expect("no holder of this lock panics").unwrap_or(deadline);
        while Instant::now() < deadline.min(end()) {
            let route = self.route(is_retry);
            match self.post(batch, &route.url) {
                Ok(200) => return Ok(route.is_frontend),
                Ok(status @ (429 | 500..)) => last = format!("status {status} from {}", route.url),
                Ok(status) => bail!("batch {} refused for good by {}: {status}", batch.id, route.url),
                Err(error) => last = format!("{error} from {}", route.url),
            }
            is_retry = true;
            std::thread::sleep(RETRY_PAUSE);
        }
        bail!("batch {} not acknowledged in time: {last}", batch.id)
    }

    fn post(&self, batch: &Batch, url: &str) -> Result<u16> {
        let post = self.http.post(format!("{url}/post")).header("Idempotency-Key", &batch.id);
        let answer = post.send(&batch.body).context("post a batch")?;
        let status = answer.status().as_u16();
        // Reading to the end lets the connection be used again.
        let _ = answer.into_body().read_to_string();
        Ok(status)
    }

    /// The next route: the same as last time until it fails.
    fn route(&mut self, is_retry: bool) -> Route {
        let frontends = self.routes.frontends.read().expect("no holder of this lock panics").clone();
        let agents = &self.routes.agents;
        if is_retry || self.habit == Habit::Restless {
            self.turn += 1;
        }
        let to_agent = match self.habit {
            Habit::Direct => false,
            Habit::Agent => !is_retry || self.turn.is_multiple_of(2),
            Habit::Restless => self.turn.is_multiple_of(4),
        };
        let (urls, is_frontend) =
            if to_agent && !agents.is_empty() { (agents, false) } else { (&frontends, true) };
        let url = urls.get(self.turn % urls.len().max(1)).cloned().unwrap_or_default();
        Route { url, is_frontend }
    }
}

struct Route {
    url: String,
    is_frontend: bool,
}
