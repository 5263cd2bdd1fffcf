//! Readers that ask for all tabs all the time, and compare each answer with what it must and may hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::books::Books;
use super::timeline::Timeline;
use crate::checker;
use crate::producer::{Ledger, Total};

/// How old what an answer lacks may be: a complete answer holds at least what was acknowledged this long
/// before the question. It is a bound for runs under faults; without faults answers are fresher. With a request
/// it must be shorter than books keep batches apart.
pub const FRESHNESS: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(2);

/// The readers of a run: one for each server, so that one that does not answer holds up no other.
#[derive(Debug)]
pub struct Readers {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// How readers read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// As [`FRESHNESS`].
    pub freshness: Duration,
    /// From an answer to the next question.
    pub pause: Duration,
}

/// What came of the questions.
#[derive(Debug, Default)]
pub struct Counts {
    /// Answers that were complete, and compared.
    pub complete: AtomicU64,
    /// Answers that said they were incomplete.
    pub incomplete: AtomicU64,
    /// Refusals, and questions without an answer.
    pub refused: AtomicU64,
    /// How long complete answers took together, in ms.
    pub complete_ms: AtomicU64,
    /// The longest time that something acknowledged waited for an owner to take it, in ms.
    pub age_ms: AtomicU64,
}

impl Readers {
    /// Starts a reader for each server.
    #[must_use]
    pub fn start(urls: &[String], books: &Arc<Books>, timeline: &Arc<Timeline>) -> Self {
        Self::start_reading(Reading { freshness: FRESHNESS, pause: PAUSE }, urls, books, timeline)
    }

    /// As [`Readers::start`], in another way.
    #[must_use]
    pub fn start_reading(
        Reading { freshness, pause }: Reading,
        urls: &[String],
        books: &Arc<Books>,
        timeline: &Arc<Timeline>,
    ) -> Self {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let threads = urls
            .iter()
            .map(|url| {
                let reader = Reader {
                    http: http(PATIENCE),
                    url: url.clone(),
                    freshness,
                    books: Arc::clone(books),
                    counts: Arc::clone(&counts),
                    timeline: Arc::clone(timeline),
                };
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        reader.ask();
                        std::thread::sleep(pause);
                    }
                })
            })
            .collect();
        Self { stop, counts, threads }
    }

    /// What came of the questions so far.
    #[must_use]
    pub const fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Ends the readers.
    #[must_use]
    pub fn finish(self) -> Arc<Counts> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
        self.counts
    }
}

struct Reader {
    http: ureq::Agent,
    url: String,
    freshness: Duration,
    books: Arc<Books>,
    counts: Arc<Counts>,
    timeline: Arc<Timeline>,
}

impl Reader {
    fn ask(&self) {
        let Self { http, url, counts, .. } = self;
        let asked = Instant::now();
        let due = asked.checked_sub(self.freshness).map(|moment| self.books.stored_at(moment));
        let due = due.unwrap_or_default();
        match totals(http, &format!("{url}/tabs")) {
            Ok(Some(shown)) => {
                counts.complete.fetch_add(1, Ordering::Relaxed);
                let took_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
                counts.complete_ms.fetch_add(took_ms, Ordering::Relaxed);
                if let Some(difference) = outside(&shown, &due, &self.books.sent()) {
                    let bound = self.freshness;
                    let said = format!("{url} answered after {took_ms} ms, bound {bound:?}: {difference}");
                    self.timeline.violation(said);
                }
            }
            Ok(None) => _ = counts.incomplete.fetch_add(1, Ordering::Relaxed),
            Err(_) => _ = counts.refused.fetch_add(1, Ordering::Relaxed),
        }
        if let Ok(age_ms) = age_ms(http, url) {
            counts.age_ms.fetch_max(age_ms, Ordering::Relaxed);
        }
    }
}

/// How long the oldest entry of all queues has waited.
fn age_ms(http: &ureq::Agent, url: &str) -> Result<u64> {
    let answer = http.get(format!("{url}/status")).header("Accept", "application/json").call();
    let text = answer.context("ask for the status")?.into_body().read_to_string().context("read it")?;
    let status: serde_json::Value = serde_json::from_str(&text).context("parse the status")?;
    let seconds = status["max_age"].as_f64().context("a status has an age")?;
    Ok((seconds * 1000.0).round() as u64)
}

/// The first tab that holds less than is due or more than was ever sent.
fn outside(shown: &Ledger, due: &Ledger, sent: &Ledger) -> Option<String> {
    let of = |ledger: &Ledger, tab: &String| ledger.get(tab).copied().unwrap_or_default();
    let exceeds = |one: Total, other: Total| one.count > other.count || one.sum > other.sum;
    let tabs = due.keys().chain(shown.keys());
    tabs.into_iter().find_map(|tab| {
        let (shown, due, sent) = (of(shown, tab), of(due, tab), of(sent, tab));
        if exceeds(due, shown) {
            return Some(format!("{tab} shows {shown:?}, but {due:?} was acknowledged so long before"));
        }
        exceeds(shown, sent).then(|| format!("{tab} shows {shown:?}, but only {sent:?} was sent"))
    })
}

/// A client that gives up after `patience`.
#[must_use]
pub fn http(patience: Duration) -> ureq::Agent {
    let config =
        ureq::Agent::config_builder().timeout_global(Some(patience)).http_status_as_error(false).build();
    config.into()
}

/// The totals of a query; none if it says that it is incomplete.
///
/// # Errors
/// If it is refused or not answered.
pub fn totals(http: &ureq::Agent, url: &str) -> Result<Option<Ledger>> {
    let answer = http.get(url).header("Accept", "application/json").call().context("query the totals")?;
    let (status, incomplete) = (answer.status(), answer.headers().contains_key("Taba-Incomplete"));
    let text = answer.into_body().into_with_config().limit(64 << 20).read_to_string();
    let text = text.context("read the totals")?;
    if status != 200 {
        anyhow::bail!("{status}: {}", text.trim());
    }
    if incomplete { Ok(None) } else { checker::totals(&text).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(count: u64) -> Ledger {
        Ledger::from([("tab".to_owned(), Total { count, sum: 10 * count })])
    }

    #[test]
    fn answers_between_what_is_due_and_what_was_sent_are_right() {
        assert_eq!(outside(&ledger(5), &ledger(5), &ledger(9)), None);
        assert_eq!(outside(&ledger(9), &ledger(5), &ledger(9)), None);
        assert!(outside(&ledger(4), &ledger(5), &ledger(9)).is_some());
        assert!(outside(&ledger(10), &ledger(5), &ledger(9)).is_some());
        assert!(outside(&Ledger::new(), &ledger(1), &ledger(1)).is_some());
    }
}
