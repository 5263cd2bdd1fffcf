//! The one place of the server that reads the wall clock; everything below gets `now` as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use taba_core::Timestamp;

/// The present time by this machine's wall clock.
#[must_use]
pub fn now() -> Timestamp {
    let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
    };
    Timestamp::from_micros(micros)
}
