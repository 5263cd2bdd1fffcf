//! `PercentileCounter`: percentiles of all time.

use super::TabState;
use super::number;
use crate::bad::BadReason;
use crate::sketch::Sketch;
use crate::state::{Event, Format, WindowSummary};
use crate::time::Timestamp;
use crate::wire::bytes::{Malformed, Reader, put_zigzag};

#[derive(Clone, Debug, Default)]
pub(crate) struct PercentileCounter {
    sketch: Sketch,
    /// Whole second of the newest event; without meaning while the sketch is empty.
    newest_secs: i64,
}

impl PercentileCounter {
    fn saw(&mut self, secs: i64) {
        self.newest_secs = if self.sketch.is_empty() { secs } else { self.newest_secs.max(secs) };
    }
}

impl TabState for PercentileCounter {
    fn clear(&mut self) {
        self.sketch.clear();
    }

    fn fold(&mut self, _client: &str, event: &Event<'_>, now: Timestamp) -> Result<(), BadReason> {
        let value = number::of(event.payload)?;
        self.fold_numbers(&[event.time.as_secs()], &[value], now);
        Ok(())
    }

    fn fold_numbers(&mut self, secs: &[i64], values: &[f64], _now: Timestamp) {
        let Some(newest) = secs.iter().max() else { return };
        self.saw(*newest);
        self.sketch.insert_all(values);
    }

    fn merge(&mut self, other: &Self, _now: Timestamp) {
        if !other.sketch.is_empty() {
            self.saw(other.newest_secs);
            self.sketch.merge(&other.sketch);
        }
    }

    fn settle(&mut self) {
        self.sketch.settle();
    }

    /// `sketch [newest_secs:zigzag]`, the latter if there was an event.
    fn encode(&self, out: &mut Vec<u8>) {
        self.sketch.encode(out);
        if !self.sketch.is_empty() {
            put_zigzag(out, self.newest_secs);
        }
    }

    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        self.sketch.decode(reader)?;
        if !self.sketch.is_empty() {
            self.newest_secs = reader.zigzag()?;
        }
        Ok(())
    }

    fn render(&self, _now: Timestamp, _format: Format, out: &mut String) {
        number::write_percentiles(out, &self.sketch);
    }

    fn windows(&self, _now: Timestamp) -> Vec<WindowSummary> {
        let mut settled = self.sketch.clone();
        settled.settle();
        vec![WindowSummary::of_sketch("all", None, settled)]
    }

    fn expire(&mut self, _now: Timestamp) {}

    /// Events are not kept apart by time, so none is dropped; but none can keep the state alive for
    /// longer than one at the limit.
    fn drop_after(&mut self, limit: Timestamp) -> u64 {
        self.newest_secs = self.newest_secs.min(limit.as_secs());
        0
    }

    fn prunable(&self, now: Timestamp) -> bool {
        self.sketch.is_empty() || Timestamp::from_secs(self.newest_secs).plus_secs(super::IDLE_SECS_MAX) < now
    }

    fn heap_bytes(&self) -> usize {
        self.sketch.heap_bytes()
    }
}
