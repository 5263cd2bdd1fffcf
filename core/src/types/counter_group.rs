//! `CounterGroup`: counts and sums over four windows, and percentiles over the last day.
//!
//! Percentiles come from eight sketches of three hours each, so they cover the last 21 to 24 hours and
//! never freeze.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use super::TabState;
use super::number::{self, STRING};
use super::python;
use super::ring::Ring;
use super::window::{Bucket, Span, Window};
use crate::bad::BadReason;
use crate::columns::{self, add_counts, add_sums};
use crate::state::{Event, Format, WindowSummary};
use crate::time::Timestamp;
use crate::wire::bytes::{Malformed, Reader};

const SPANS: [Span; 4] =
    [Span::new("1m", 1, 60), Span::new("10m", 10, 60), Span::new("1h", 30, 120), Span::new("1d", 900, 96)];
const PERCENTILES: Span = Span::new("pct", 10_800, 8);

/// The buckets of all spans, and of the percentiles, that a second falls in. Divides by constants, which
/// is several times faster than by the widths above; a test holds the two together.
#[inline]
fn numbers(second: i64) -> ([i64; 4], i64) {
    let of = [second, second.div_euclid(10), second.div_euclid(30), second.div_euclid(900)];
    (of, second.div_euclid(10_800))
}

#[derive(Clone, Debug, Default)]
pub(crate) struct CounterGroup {
    windows: [Window; 4],
    percentiles: Ring,
}

/// What may be kept at some `now`.
struct Kept {
    windows: [RangeInclusive<i64>; 4],
    percentiles: RangeInclusive<i64>,
}

impl Kept {
    fn at(now: Timestamp) -> Self {
        Self { windows: SPANS.map(|span| span.kept(now)), percentiles: PERCENTILES.kept(now) }
    }
}

impl CounterGroup {
    /// Folds values of one second.
    #[inline]
    fn fold_run(&mut self, second: i64, values: &[f64], kept: &Kept) {
        let sum = columns::sum(values);
        let (numbers, percentiles) = numbers(second);
        for ((window, number), kept) in self.windows.iter_mut().zip(numbers).zip(&kept.windows) {
            if kept.contains(&number) {
                window.add(Bucket { number, count: values.len() as u64, sum });
            }
        }
        if kept.percentiles.contains(&percentiles) {
            self.percentiles.sketch(percentiles).insert_all(values);
        }
    }

    fn write_rows(&self, now: Timestamp, out: &mut String) {
        out.push('[');
        for (window, span) in self.windows.iter().zip(SPANS) {
            write_rows_of_window(window, span, now, out);
            out.push_str(", ");
        }
        // The first Taba left the percentiles out. They come last, so that readers who index the four
        // windows find them where they were.
        number::write_percentiles(out, &self.percentiles.total(&PERCENTILES.kept(now)));
        out.push(']');
    }
}

/// `[[bucket_start, count, total], ...]`, oldest first, empty buckets too. What lies after `now` is
/// counted in the newest bucket, so that there are always as many rows as buckets.
fn write_rows_of_window(window: &Window, span: Span, now: Timestamp, out: &mut String) {
    let newest = span.number(now.as_secs());
    let kept = span.kept(now);
    let mut buckets = window.within(&kept).iter().peekable();
    out.push('[');
    for number in *kept.start()..=newest {
        let (mut count, mut sum) = (0, 0.0);
        while let Some(bucket) = buckets.next_if(|bucket| bucket.number <= number || number == newest) {
            count = add_counts(count, bucket.count);
            sum = add_sums(sum, bucket.sum);
        }
        let separator = if number == newest { "" } else { ", " };
        let start = python::Repr((number * span.width_secs) as f64);
        write!(out, "[{start}, {count}, {}]{separator}", python::Repr(sum)).expect(STRING);
    }
    out.push(']');
}

impl TabState for CounterGroup {
    fn clear(&mut self) {
        self.windows.iter_mut().for_each(Window::clear);
        self.percentiles.clear();
    }

    fn fold(&mut self, _client: &str, event: &Event<'_>, now: Timestamp) -> Result<(), BadReason> {
        let value = number::of(event.payload)?;
        self.fold_run(event.time.as_secs(), &[value], &Kept::at(now));
        Ok(())
    }

    fn fold_numbers(&mut self, secs: &[i64], values: &[f64], now: Timestamp) {
        let kept = Kept::at(now);
        let mut values = values;
        for run in secs.chunk_by(|a, b| a == b) {
            let (of_run, rest) = values.split_at(run.len());
            self.fold_run(run[0], of_run, &kept);
            values = rest;
        }
    }

    fn merge(&mut self, other: &Self, now: Timestamp) {
        let kept = Kept::at(now);
        for ((mine, theirs), kept) in self.windows.iter_mut().zip(&other.windows).zip(&kept.windows) {
            mine.merge(theirs, kept);
        }
        self.percentiles.merge(&other.percentiles, &kept.percentiles);
    }

    fn settle(&mut self) {
        self.percentiles.settle();
    }

    /// `window{4} ring`
    fn encode(&self, out: &mut Vec<u8>) {
        self.windows.iter().for_each(|window| window.encode(out));
        self.percentiles.encode(out);
    }

    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        self.windows.iter_mut().try_for_each(|window| window.decode(reader))?;
        self.percentiles.decode(reader)
    }

    fn render(&self, now: Timestamp, format: Format, out: &mut String) {
        if format == Format::Detailed {
            self.write_rows(now, out);
            return;
        }
        out.push('{');
        for (window, span) in self.windows.iter().zip(SPANS) {
            let (count, sum) = window.totals(&span.kept(now));
            write!(out, r#""{}": "#, span.label).expect(STRING);
            number::write_totals(out, count, sum);
            out.push_str(", ");
        }
        out.push_str(r#""pct": "#);
        number::write_percentiles(out, &self.percentiles.total(&PERCENTILES.kept(now)));
        out.push('}');
    }

    fn windows(&self, now: Timestamp) -> Vec<WindowSummary> {
        let windows = self.windows.iter().zip(SPANS).map(|(window, span)| {
            let (count, sum) = window.totals(&span.kept(now));
            WindowSummary { label: span.label, seconds: Some(span.secs()), count, sum, sketch: None }
        });
        let percentiles = self.percentiles.total(&PERCENTILES.kept(now));
        let percentiles = WindowSummary::of_sketch(PERCENTILES.label, Some(PERCENTILES.secs()), percentiles);
        windows.chain([percentiles]).collect()
    }

    fn expire(&mut self, now: Timestamp) {
        let kept = Kept::at(now);
        for (window, kept) in self.windows.iter_mut().zip(&kept.windows) {
            window.keep(kept);
        }
        self.percentiles.keep(&kept.percentiles);
    }

    /// The windows overlap, so the number of events is the largest that one of them lost.
    fn drop_after(&mut self, limit: Timestamp) -> u64 {
        let (last, last_percentiles) = numbers(limit.as_secs());
        let windows = self.windows.iter_mut().zip(last).map(|(window, last)| window.drop_after(last));
        let dropped = windows.max().unwrap_or_default();
        dropped.max(self.percentiles.drop_after(last_percentiles))
    }

    fn prunable(&self, now: Timestamp) -> bool {
        let kept = Kept::at(now);
        let mut windows = self.windows.iter().zip(&kept.windows);
        windows.all(|(window, kept)| window.within(kept).is_empty())
            && !self.percentiles.holds(&kept.percentiles)
    }

    fn heap_bytes(&self) -> usize {
        self.windows.iter().map(Window::heap_bytes).sum::<usize>() + self.percentiles.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_divisions_agree_with_the_spans() {
        for second in [-10_801, -1, 0, 1, 899, 900, 1_394_047_812, 1_394_047_829] {
            let (of_spans, of_percentiles) = numbers(second);
            assert_eq!(of_spans, SPANS.map(|span| span.number(second)));
            assert_eq!(of_percentiles, PERCENTILES.number(second));
        }
    }
}
