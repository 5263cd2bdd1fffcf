//! How long to stay away from something that failed: exponential with full jitter, between two bounds.

use std::time::Duration;

/// Bounds of the waiting time after failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Shortest wait. Attempts against one endpoint can therefore never exceed `1 / floor` a second.
    pub floor: Duration,
    /// Longest wait, however many failures there were.
    pub ceiling: Duration,
}

impl Default for Backoff {
    /// 0.1 s to 30 s: at most 10 attempts a second at first, and after nine failures in a row
    /// (0.1 s × 2⁹ > 30 s) about one every 15 s.
    fn default() -> Self {
        Self { floor: Duration::from_millis(100), ceiling: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The wait after `failures` in a row. `random` is uniform in `0..1`; it spreads the wait over all
    /// of `floor..=min(ceiling, floor × 2^failures)`, so that many senders do not come back together.
    #[must_use]
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let doubled = self.floor.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
        let longest = doubled.min(self.ceiling).max(self.floor);
        self.floor + (longest - self.floor).mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// forall failures, random: floor <= delay <= ceiling
        #[test]
        fn every_wait_lies_between_the_bounds(failures: u32, random in 0.0..1.0_f64) {
            let backoff = Backoff::default();
            let delay = backoff.delay(failures, random);
            prop_assert!(delay >= backoff.floor && delay <= backoff.ceiling);
        }

        /// forall n, random: delay(n) <= delay(n + 1)
        #[test]
        fn more_failures_never_shorten_the_wait(failures in 0_u32..100, random in 0.0..1.0_f64) {
            let backoff = Backoff::default();
            prop_assert!(backoff.delay(failures, random) <= backoff.delay(failures + 1, random));
        }
    }

    #[test]
    fn the_wait_spreads_over_the_whole_range() {
        let backoff = Backoff::default();
        assert_eq!(backoff.delay(3, 0.0), Duration::from_millis(100));
        assert_eq!(backoff.delay(3, 1.0), Duration::from_millis(800));
        assert_eq!(backoff.delay(30, 1.0), Duration::from_secs(30));
    }
}
