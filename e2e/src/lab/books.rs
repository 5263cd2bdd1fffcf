//! The ledger of a run while it runs: what was sent, what was acknowledged, and when.
//!
//! Invariant: a batch is in `sent` before its first byte leaves, and in `acknowledged` only after a 200.
//! An agent's 200 promises delivery, not storage, so it counts for the end and not for what a reader must
//! see meanwhile.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::producer::{Ledger, add_ledger};

/// The ledger of a run, shared by its producers and readers.
#[derive(Debug)]
pub struct Books {
    start: Instant,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    sent: Ledger,
    stored: Ledger,
    acknowledged: Ledger,
    /// Batches stored since the oldest moment that a reader may still ask for.
    recent: VecDeque<(Instant, Ledger)>,
    /// `stored` without `recent`.
    settled: Ledger,
    /// When batches were acknowledged by a frontend, in ms since the start.
    times: Vec<u64>,
}

/// How long batches are kept apart. More than the freshness bound and a request together.
const RECENT: Duration = Duration::from_secs(8);

impl Books {
    /// Empty books of a run that starts at `start`.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        Self { start, pages: Mutex::default() }
    }

    /// A batch is about to be sent for the first time.
    pub fn sending(&self, batch: &Ledger) {
        add_ledger(&mut self.lock().sent, batch);
    }

    /// A batch was acknowledged, by a frontend or (not `stored`) by an agent.
    pub fn acknowledged(&self, batch: &Ledger, stored: bool) {
        let now = Instant::now();
        let mut pages = self.lock();
        add_ledger(&mut pages.acknowledged, batch);
        if stored {
            add_ledger(&mut pages.stored, batch);
            pages.recent.push_back((now, batch.clone()));
            pages.times.push(u64::try_from((now - self.start).as_millis()).unwrap_or(u64::MAX));
        }
        while pages.recent.front().is_some_and(|(at, _)| now - *at > RECENT) {
            let Some((_, old)) = pages.recent.pop_front() else { break };
            add_ledger(&mut pages.settled, &old);
        }
    }

    /// What frontends had acknowledged at a moment not long ago.
    #[must_use]
    pub fn stored_at(&self, moment: Instant) -> Ledger {
        let pages = self.lock();
        let mut ledger = pages.settled.clone();
        for (_, batch) in pages.recent.iter().take_while(|(at, _)| *at <= moment) {
            add_ledger(&mut ledger, batch);
        }
        ledger
    }

    /// What was ever sent.
    #[must_use]
    pub fn sent(&self) -> Ledger {
        self.lock().sent.clone()
    }

    /// What was acknowledged, by whom ever.
    #[must_use]
    pub fn total(&self) -> Ledger {
        self.lock().acknowledged.clone()
    }

    /// How many batches frontends have acknowledged.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.lock().times.len()
    }

    /// The longest time without an acknowledgement by a frontend between two moments, in ms since the
    /// start. A gap that began before or ends after them counts as far as it lies between.
    #[must_use]
    pub fn gap_ms(&self, from: u64, to: u64) -> u64 {
        let pages = self.lock();
        let inside = pages.times.iter().copied().filter(|at| (from..=to).contains(at));
        let mut last = from;
        let mut longest = 0;
        for at in inside.chain([to]) {
            longest = longest.max(at.saturating_sub(last));
            last = at;
        }
        longest
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.pages.lock().expect("no holder of this lock panics")
    }
}

/// By how much an answer differs from the ledger: events that are missing and events too many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Acknowledged and not shown.
    pub lost: u64,
    /// Shown and not acknowledged.
    pub doubled: u64,
    /// One line for each tab that differs.
    pub lines: Vec<String>,
}

impl Difference {
    /// Compares what must be shown with what is.
    #[must_use]
    pub fn between(want: &Ledger, have: &Ledger) -> Self {
        let mut difference = Self::default();
        let mut tabs: Vec<_> = want.keys().chain(have.keys()).collect();
        tabs.sort();
        tabs.dedup();
        for tab in tabs {
            let (wanted, shown) =
                (want.get(tab).copied().unwrap_or_default(), have.get(tab).copied().unwrap_or_default());
            if wanted != shown {
                difference.lost += wanted.count.saturating_sub(shown.count);
                difference.doubled += shown.count.saturating_sub(wanted.count);
                difference.lines.push(format!(
                    "{tab}: acknowledged {} events (sum {}), shown {} (sum {})",
                    wanted.count, wanted.sum, shown.count, shown.sum
                ));
            }
        }
        difference
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.lines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::Total;

    fn ledger(count: u64) -> Ledger {
        Ledger::from([("tab".to_owned(), Total { count, sum: count })])
    }

    #[test]
    fn a_reader_sees_what_was_stored_by_then_and_an_agents_word_only_at_the_end() {
        let books = Books::new(Instant::now());
        books.sending(&ledger(2));
        books.sending(&ledger(3));
        books.acknowledged(&ledger(2), true);
        let between = Instant::now();
        std::thread::sleep(Duration::from_millis(1));
        books.acknowledged(&ledger(3), false);
        books.acknowledged(&ledger(4), true);
        assert_eq!(books.stored_at(between), ledger(2));
        assert_eq!(books.stored_at(Instant::now()), ledger(6));
        assert_eq!(books.total(), ledger(9));
        assert_eq!(books.sent(), ledger(5));
    }

    #[test]
    fn the_longest_gap_includes_both_ends() {
        let books = Books::new(Instant::now());
        books.lock().times = vec![100, 150, 700];
        assert_eq!(books.gap_ms(0, 1000), 550);
        assert_eq!(books.gap_ms(700, 1500), 800);
        assert_eq!(books.gap_ms(0, 120), 100);
    }

    #[test]
    fn lost_and_doubled_events_are_told_apart() {
        let mut have = ledger(5);
        have.insert("other".to_owned(), Total { count: 2, sum: 2 });
        let difference = Difference::between(&ledger(7), &have);
        assert_eq!((difference.lost, difference.doubled, difference.lines.len()), (2, 2, 2));
        assert!(Difference::between(&have, &have).is_none());
    }

    #[test]
    fn a_wrong_sum_is_a_difference_too() {
        let other = Ledger::from([("tab".to_owned(), Total { count: 5, sum: 6 })]);
        assert!(!Difference::between(&ledger(5), &other).is_none());
    }
}
