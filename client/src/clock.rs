//! The one place of the client that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use taba_core::Timestamp;

pub(crate) fn now() -> Timestamp {
    timestamp(SystemTime::now())
}

/// A system time as an event time; saturates at the ends of the range.
pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    let micros = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
    };
    Timestamp::from_micros(micros)
}
