//! How fast the machine lets a lab run, so that a busy machine is not taken for a slow product.
//!
//! The kernel counts for every thread how long it ran and how long it waited for a processor. Their ratio
//! over all threads of the lab says by how much everything is slowed down. Bounds of runs are in *fair*
//! time, which passes more slowly on a machine that is busier than one lab makes it. What is measured and
//! published stays in real time, next to the slowdown it was measured under.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

const PERIOD: Duration = Duration::from_secs(1);
/// A lab alone on two processors waits about this much; bounds were chosen there.
const USUAL: f64 = 2.5;
/// However busy the machine, a second of fair time takes no longer than this many real ones.
const STRETCH_MAX: f64 = 8.0;
/// Less than this much work in a period says nothing.
const WORK_MIN: Duration = Duration::from_millis(20);

/// The pace of this lab, measured all the time.
#[derive(Debug, Default)]
pub struct Pace {
    /// Fair milliseconds since the start.
    fair_ms: AtomicU64,
    /// Nanoseconds that the lab's threads ran, and waited, since the start.
    ran_ns: AtomicU64,
    waited_ns: AtomicU64,
    stop: AtomicBool,
}

/// What each thread ran and waited, in nanoseconds.
type Sample = HashMap<u32, (u64, u64)>;

impl Pace {
    /// Begins to measure.
    #[must_use]
    pub fn start() -> Arc<Self> {
        let pace = Arc::new(Self::default());
        let measured = Arc::clone(&pace);
        std::thread::spawn(move || {
            let (mut before, mut at) = (sample(), Instant::now());
            while !measured.stop.load(Ordering::Relaxed) {
                std::thread::sleep(PERIOD);
                let (after, now) = (sample(), Instant::now());
                measured.add(now - at, difference(&before, &after));
                (before, at) = (after, now);
            }
        });
        pace
    }

    /// Ends the measuring.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn add(&self, real: Duration, (ran_ns, waited_ns): (u64, u64)) {
        self.ran_ns.fetch_add(ran_ns, Ordering::Relaxed);
        self.waited_ns.fetch_add(waited_ns, Ordering::Relaxed);
        let stretch = if Duration::from_nanos(ran_ns) < WORK_MIN {
            1.0
        } else {
            (slowdown(ran_ns, waited_ns) / USUAL).clamp(1.0, STRETCH_MAX)
        };
        let fair_ms = real.as_secs_f64() * 1000.0 / stretch;
        self.fair_ms.fetch_add(fair_ms as u64, Ordering::Relaxed);
    }

    /// Fair time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(self.fair_ms.load(Ordering::Relaxed))
    }

    /// By how much the lab was slowed down so far; 1 is not at all.
    #[must_use]
    pub fn slowdown(&self) -> f64 {
        slowdown(self.ran_ns.load(Ordering::Relaxed), self.waited_ns.load(Ordering::Relaxed))
    }

    /// Tries again and again until it works or so much fair time is over; then why it did not.
    ///
    /// # Errors
    /// The last error.
    pub fn until<T>(&self, patience: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let deadline = self.elapsed() + patience;
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(error) if self.elapsed() >= deadline => {
                    return Err(error.context(format!("not within {patience:?}")));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

fn slowdown(ran_ns: u64, waited_ns: u64) -> f64 {
    1.0 + waited_ns as f64 / ran_ns.max(1) as f64
}

/// Every thread that this process sees: in a sandbox, those of the lab.
fn sample() -> Sample {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Sample::new() };
    let threads = processes
        .flatten()
        .filter(|process| process.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|process| std::fs::read_dir(process.path().join("task")).ok())
        .flat_map(Iterator::flatten);
    threads
        .filter_map(|thread| {
            let number = thread.file_name().to_str()?.parse().ok()?;
            let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            let mut fields = text.split_whitespace().map(str::parse);
            Some((number, (fields.next()?.ok()?, fields.next()?.ok()?)))
        })
        .collect()
}

/// What the threads that are in both samples ran and waited between them.
fn difference(before: &Sample, after: &Sample) -> (u64, u64) {
    let both = after.iter().filter_map(|(thread, now)| Some((before.get(thread)?, now)));
    both.fold((0, 0), |(ran, waited), (then, now)| {
        (ran + now.0.saturating_sub(then.0), waited + now.1.saturating_sub(then.1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn fair_time_passes_more_slowly_on_a_busy_machine_and_never_stands_still() {
        let fair_ms = |ran, waited| {
            let pace = Pace::default();
            pace.add(SECOND, (ran, waited));
            pace.elapsed().as_millis()
        };
        assert_eq!(fair_ms(SECOND_NS, 0), 1000);
        assert_eq!(fair_ms(SECOND_NS, 4 * SECOND_NS), 500);
        assert_eq!(fair_ms(SECOND_NS, 1000 * SECOND_NS), 125);
        assert_eq!(fair_ms(0, SECOND_NS), 1000);
    }

    #[test]
    fn threads_that_came_or_went_do_not_count() {
        let before = Sample::from([(1, (10, 10)), (2, (5, 5))]);
        let after = Sample::from([(1, (30, 11)), (3, (99, 99))]);
        assert_eq!(difference(&before, &after), (20, 1));
    }

    #[test]
    fn this_process_is_seen_to_run() {
        let threads = sample();
        assert!(threads.values().any(|(ran, _)| *ran > 0), "the kernel counts");
    }
}
