//! `TotalsCounter`: count and sum of all time.

use super::TabState;
use super::number;
use crate::bad::BadReason;
use crate::columns::{self, COUNT_MAX, add_counts, add_sums};
use crate::state::{Event, Format, WindowSummary};
use crate::time::Timestamp;
use crate::wire::bytes::{Malformed, Reader, put_varint, put_zigzag};

#[derive(Clone, Debug, Default)]
pub(crate) struct TotalsCounter {
    count: u64,
    sum: f64,
    /// Time of the newest event; without meaning while `count` is 0.
    newest: Timestamp,
}

impl TotalsCounter {
    fn add(&mut self, count: u64, sum: f64, newest: Timestamp) {
        if count == 0 {
            return;
        }
        self.newest = if self.count == 0 { newest } else { self.newest.max(newest) };
        self.count = add_counts(self.count, count);
        self.sum = add_sums(self.sum, sum);
    }
}

impl TabState for TotalsCounter {
    fn clear(&mut self) {
        *self = Self::default();
    }

    fn fold(&mut self, _client: &str, event: &Event<'_>, _now: Timestamp) -> Result<(), BadReason> {
        let value = number::of(event.payload)?;
        self.add(1, value, Timestamp::from_secs(event.time.as_secs()));
        Ok(())
    }

    fn fold_numbers(&mut self, secs: &[i64], values: &[f64], _now: Timestamp) {
        let Some(newest) = secs.iter().max() else { return };
        self.add(values.len() as u64, columns::sum(values), Timestamp::from_secs(*newest));
    }

    fn merge(&mut self, other: &Self, _now: Timestamp) {
        self.add(other.count, other.sum, other.newest);
    }

    /// `count:varint [sum:values newest_secs:zigzag]`, the latter if there was an event.
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.count);
        if self.count > 0 {
            columns::put_series(out, std::iter::once(self.sum));
            put_zigzag(out, self.newest.as_secs());
        }
    }

    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let malformed = Malformed { offset: reader.offset() };
        self.count = reader.varint()?;
        if self.count > COUNT_MAX {
            return Err(malformed);
        }
        if self.count > 0 {
            columns::read_series(reader, 1, |_, sum| self.sum = sum)?;
            self.newest = Timestamp::from_secs(reader.zigzag()?);
        }
        Ok(())
    }

    fn render(&self, _now: Timestamp, _format: Format, out: &mut String) {
        number::write_totals(out, self.count, self.sum);
    }

    fn windows(&self, _now: Timestamp) -> Vec<WindowSummary> {
        vec![WindowSummary { label: "all", seconds: None, count: self.count, sum: self.sum, sketch: None }]
    }

    fn expire(&mut self, _now: Timestamp) {}

    /// Events are not kept apart by time, so none is dropped; but none can keep the state alive for
    /// longer than one at the limit.
    fn drop_after(&mut self, limit: Timestamp) -> u64 {
        self.newest = self.newest.min(Timestamp::from_secs(limit.as_secs()));
        0
    }

    fn prunable(&self, now: Timestamp) -> bool {
        self.count == 0 || self.newest.plus_secs(super::IDLE_SECS_MAX) < now
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}
