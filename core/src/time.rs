//! Points in time as data: microseconds since the Unix epoch, never read from a clock here.

/// A point in time, in microseconds since the Unix epoch (UTC). May be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

const MICROS_PER_SEC: i64 = 1_000_000;

impl Timestamp {
    /// A timestamp from microseconds since the epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// A timestamp from whole seconds since the epoch; saturates at the ends of the range.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(MICROS_PER_SEC))
    }

    /// A timestamp from seconds with a fraction, rounded to the nearest microsecond. `None` if it is
    /// not finite or does not fit.
    #[must_use]
    pub fn from_secs_f64(secs: f64) -> Option<Self> {
        let micros = (secs * MICROS_PER_SEC as f64).round();
        // 2^63 is exact as a float; every float below it and at or above its negative fits an i64.
        const END: f64 = 9_223_372_036_854_775_808.0;
        (-END..END).contains(&micros).then_some(Self(micros as i64))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SEC)
    }

    /// Seconds since the epoch with their fraction.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / MICROS_PER_SEC as f64
    }

    /// This moved later by whole seconds (earlier when negative); saturates.
    #[must_use]
    pub const fn plus_secs(self, secs: i64) -> Self {
        Self(self.0.saturating_add(secs.saturating_mul(MICROS_PER_SEC)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_round_down_before_the_epoch_too() {
        assert_eq!(Timestamp::from_micros(-1).as_secs(), -1);
        assert_eq!(Timestamp::from_micros(1_999_999).as_secs(), 1);
    }

    #[test]
    fn times_that_do_not_fit_are_refused() {
        assert_eq!(Timestamp::from_secs_f64(f64::NAN), None);
        assert_eq!(Timestamp::from_secs_f64(f64::INFINITY), None);
        assert_eq!(Timestamp::from_secs_f64(1e300), None);
        assert_eq!(
            Timestamp::from_secs_f64(1_394_047_812.35),
            Some(Timestamp::from_micros(1_394_047_812_350_000))
        );
    }
}
