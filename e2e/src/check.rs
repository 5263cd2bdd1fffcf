//! The checker as a program of its own: numbered producers and a reader against one URL, until it is told to
//! stop; then everything begun is repeated until acknowledged, and totals must equal the ledger, to the event.
//!
//! ```text
//! producers ──▶ URL ◀── reader        desk: GET /state, POST /stop
//!      └──▶ books ◀─────────┘               stop ─▶ finish ─▶ converge ─▶ verdict, one line of JSON
//! ```
//!
//! It runs as a Job inside a cluster, so its traffic takes the way that an application's takes. What the server
//! holds already when it starts counts as acknowledged, so that one run may follow another.

pub mod desk;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

pub use self::verdict::Verdict;
use crate::lab::books::{Books, Difference};
use crate::lab::reader::{self, Counts, Readers, Reading};
use crate::lab::timeline::Timeline;
use crate::lab::traffic::{Place, Routes, Traffic};
use crate::lab::verdict::{QUERIES, difference};
use crate::producer::{Ledger, count};

/// As the lab's bound, with room for a machine that runs a whole Kubernetes beside.
const FRESHNESS: Duration = Duration::from_secs(5);
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// What is checked, and for how long patience lasts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it is: `http://main.metrics:8300`.
    pub url: String,
    /// Of the producers' numbers and names. Two runs against one server need two.
    pub seed: u64,
    /// How many producers.
    pub producers: usize,
    /// From an acknowledgement to a producer's next batch; the reader asks a quarter as often.
    pub pause: Duration,
    /// Longest wait for the first complete answer, for the last acknowledgement, and for totals that are equal.
    pub patience: Duration,
}

/// A run that goes on, as its desk shows it.
#[derive(Debug)]
pub struct Run {
    options: Options,
    found: u64,
    books: Arc<Books>,
    counts: Arc<Counts>,
    timeline: Arc<Timeline>,
}

/// A run and what drives it.
#[derive(Debug)]
pub struct Started {
    /// What is known of it.
    pub run: Arc<Run>,
    traffic: Traffic,
    readers: Readers,
}

/// Reads what is there and starts the traffic.
///
/// # Errors
/// If the server gives no complete answer in time.
pub fn start(options: &Options) -> Result<Started> {
    let url = &options.url;
    let before = first_answer(options)?;
    let timeline = Arc::new(Timeline::aloud());
    let books = Arc::new(Books::new(timeline.start()));
    books.sending(&before);
    books.acknowledged(&before, true);
    let routes = Arc::new(Routes { frontends: vec![url.clone()].into(), agents: Vec::new() });
    let places = (0..options.producers).map(|_| -> Place { Box::new(|| Ok(())) }).collect();
    let traffic = Traffic::start_at(places, options.pause, options.seed, &routes, &books, &timeline);
    let reading = Reading { freshness: FRESHNESS, pause: 4 * options.pause };
    let readers = Readers::start_reading(reading, std::slice::from_ref(url), &books, &timeline);
    let counts = Arc::clone(readers.counts());
    let run = Run { options: options.clone(), found: count(&before), books, counts, timeline };
    Ok(Started { run: Arc::new(run), traffic, readers })
}

fn first_answer(options: &Options) -> Result<Ledger> {
    let http = reader::http(REQUEST_PATIENCE);
    let url = format!("{}{}", options.url, QUERIES[0]);
    until(options.patience, PAUSE, || reader::totals(&http, &url)?.context("the answer is incomplete"))
        .context("wait for a first complete answer")
}

impl Started {
    /// Lets the traffic flow until somebody says stop, then judges.
    ///
    /// # Errors
    /// If a batch cannot be delivered, or the server does not answer any more.
    pub fn finish(self, stop: &Receiver<()>) -> Result<Verdict> {
        let Self { run, traffic, readers } = self;
        // A sender that is gone says stop as well.
        let _ = stop.recv();
        let stopped_ms = run.elapsed_ms();
        run.timeline.note("stop");
        let finished = traffic.finish(run.options.patience);
        let begun = Instant::now();
        let _ = readers.finish();
        finished.context("deliver what was begun")?;
        run.timeline.note("everything is acknowledged");
        let ledger = run.books.total();
        let difference = run.converge(&ledger)?;
        Ok(Verdict {
            seed: run.options.seed,
            found: run.found,
            acknowledged: count(&ledger),
            lost: difference.lost,
            doubled: difference.doubled,
            gap_ms: run.books.gap_ms(0, stopped_ms),
            convergence_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            differing: difference.lines,
            violations: run.timeline.violations(),
        })
    }
}

impl Run {
    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.timeline.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How it stands, and the longest time without an acknowledgement since `from` ms after the start.
    #[must_use]
    pub fn state(&self, from_ms: u64) -> Value {
        let counted = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let now_ms = self.elapsed_ms();
        json!({
            "seed": self.options.seed,
            "found": self.found,
            "acknowledged": count(&self.books.total()),
            "batches": self.books.batches(),
            "elapsed_ms": now_ms,
            "gap_ms": self.books.gap_ms(from_ms.min(now_ms), now_ms),
            "complete": counted(&self.counts.complete),
            "incomplete": counted(&self.counts.incomplete),
            "refused": counted(&self.counts.refused),
            "violations": self.timeline.violations(),
        })
    }

    /// Waits until every query shows exactly the ledger; if one does not, by how much it differs.
    fn converge(&self, ledger: &Ledger) -> Result<Difference> {
        let http = reader::http(REQUEST_PATIENCE);
        for query in QUERIES {
            let url = format!("{}{query}", self.options.url);
            let mut last = None;
            let equal = until(self.options.patience, PAUSE, || {
                let found = difference(&http, &url, ledger)?;
                let is_none = found.is_none();
                last = Some(found);
                if is_none { Ok(()) } else { bail!("totals differ") }
            });
            match (equal, last) {
                (Ok(()), _) => {}
                (Err(_), Some(mut found)) if !found.is_none() => {
                    found.lines.insert(0, url);
                    return Ok(found);
                }
                (Err(error), _) => return Err(error.context(url)),
            }
        }
        Ok(Difference::default())
    }
}

/// Tries until it works, at most for `patience`, with a pause between tries.
///
/// # Errors
/// What was wrong at the last try.
pub fn until<T>(patience: Duration, pause: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("not within {patience:?}")));
            }
            Err(_) => std::thread::sleep(pause),
        }
    }
}
