//! `PercentileGroup`: percentiles over four windows of four buckets each.
//!
//! The newest bucket is partly in the future, so a window covers 75 to 100 % of its label. Its lower edge
//! is strict: an event older than the oldest bucket is in no bucket of that window.

use std::fmt::Write as _;

use super::TabState;
use super::number::{self, STRING};
use super::ring::Ring;
use super::window::Span;
use crate::bad::BadReason;
use crate::state::{Event, Format, WindowSummary};
use crate::time::Timestamp;
use crate::wire::bytes::{Malformed, Reader};

const SPANS: [Span; 4] =
    [Span::new("1m", 15, 4), Span::new("10m", 150, 4), Span::new("1h", 900, 4), Span::new("1d", 21_600, 4)];

#[derive(Clone, Debug, Default)]
pub(crate) struct PercentileGroup {
    rings: [Ring; 4],
}

impl PercentileGroup {
    fn spans_mut(&mut self) -> impl Iterator<Item = (&mut Ring, Span)> {
        self.rings.iter_mut().zip(SPANS)
    }
}

impl TabState for PercentileGroup {
    fn clear(&mut self) {
        self.rings.iter_mut().for_each(Ring::clear);
    }

    fn fold(&mut self, _client: &str, event: &Event<'_>, now: Timestamp) -> Result<(), BadReason> {
        let value = number::of(event.payload)?;
        self.fold_numbers(&[event.time.as_secs()], &[value], now);
        Ok(())
    }

    fn fold_numbers(&mut self, secs: &[i64], values: &[f64], now: Timestamp) {
        let kept = SPANS.map(|span| span.kept(now));
        let mut values = values;
        for run in secs.chunk_by(|a, b| a == b) {
            let (of_run, rest) = values.split_at(run.len());
            values = rest;
            for ((ring, span), kept) in self.spans_mut().zip(&kept) {
                let number = span.number(run[0]);
                if kept.contains(&number) {
                    ring.sketch(number).insert_all(of_run);
                }
            }
        }
    }

    fn merge(&mut self, other: &Self, now: Timestamp) {
        for ((mine, span), theirs) in self.spans_mut().zip(&other.rings) {
            mine.merge(theirs, &span.kept(now));
        }
    }

    fn settle(&mut self) {
        self.rings.iter_mut().for_each(Ring::settle);
    }

    /// `ring{4}`
    fn encode(&self, out: &mut Vec<u8>) {
        self.rings.iter().for_each(|ring| ring.encode(out));
    }

    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        self.rings.iter_mut().try_for_each(|ring| ring.decode(reader))
    }

    fn render(&self, now: Timestamp, _format: Format, out: &mut String) {
        let mut separator = "{";
        for (ring, span) in self.rings.iter().zip(SPANS) {
            write!(out, r#"{separator}"{}": "#, span.label).expect(STRING);
            number::write_percentiles(out, &ring.total(&span.kept(now)));
            separator = ", ";
        }
        out.push('}');
    }

    fn windows(&self, now: Timestamp) -> Vec<WindowSummary> {
        let windows = self.rings.iter().zip(SPANS);
        let windows = windows.map(|(ring, span)| (span, ring.total(&span.kept(now))));
        windows.map(|(span, total)| WindowSummary::of_sketch(span.label, Some(span.secs()), total)).collect()
    }

    fn expire(&mut self, now: Timestamp) {
        self.spans_mut().for_each(|(ring, span)| ring.keep(&span.kept(now)));
    }

    /// The windows overlap, so the number of events is the largest that one of them lost.
    fn drop_after(&mut self, limit: Timestamp) -> u64 {
        let dropped = self.spans_mut().map(|(ring, span)| ring.drop_after(span.number(limit.as_secs())));
        dropped.max().unwrap_or_default()
    }

    fn prunable(&self, now: Timestamp) -> bool {
        self.rings.iter().zip(SPANS).all(|(ring, span)| !ring.holds(&span.kept(now)))
    }

    fn heap_bytes(&self) -> usize {
        self.rings.iter().map(Ring::heap_bytes).sum()
    }
}
