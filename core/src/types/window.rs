//! Windows of counts and sums in buckets of absolute number (start second / width).
//!
//! A window of n buckets seen at `now` shows the buckets after `newest - n`, where `newest` is the one
//! `now` falls in. Later ones, from clocks a little ahead, are shown too, so that nothing acknowledged is
//! invisible; no event can move the window. Only buckets in use are kept.

use std::ops::RangeInclusive;

use crate::columns::{self, add_counts, add_sums};
use crate::time::Timestamp;
use crate::wire::bytes::{Malformed, Reader};

/// The shape of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) label: &'static str,
    pub(super) width_secs: i64,
    pub(super) buckets: i64,
}

impl Span {
    pub(super) const fn new(label: &'static str, width_secs: i64, buckets: i64) -> Self {
        Self { label, width_secs, buckets }
    }

    pub(super) const fn secs(&self) -> u64 {
        (self.width_secs * self.buckets) as u64
    }

    /// The bucket a second falls in.
    pub(super) const fn number(&self, secs: i64) -> i64 {
        secs.div_euclid(self.width_secs)
    }

    /// Numbers of the buckets that can be shown at `now` or later: at most `buckets` plus the
    /// [`super::AHEAD_SECS_MAX`] / width + 1 that lie ahead. So the four windows of a CounterGroup hold at
    /// most 336 buckets, 8 kB, from clocks that are right, and at most 4,424, 106 kB, from anyone.
    pub(super) fn kept(&self, now: Timestamp) -> RangeInclusive<i64> {
        let secs = now.as_secs();
        self.number(secs) - self.buckets + 1..=self.number(secs + super::AHEAD_SECS_MAX)
    }
}

/// One bucket in use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    pub(super) number: i64,
    pub(super) count: u64,
    pub(super) sum: f64,
}

/// The buckets in use, by growing number.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    buckets: Vec<Bucket>,
}

impl Window {
    pub(super) fn clear(&mut self) {
        self.buckets.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
    }

    /// Adds to one bucket; most often it is the newest.
    #[inline]
    pub(super) fn add(&mut self, added: Bucket) {
        match self.buckets.last_mut() {
            Some(last) if last.number == added.number => last.join(&added),
            Some(last) if last.number > added.number => self.add_before_last(added),
            _ => self.buckets.push(added),
        }
    }

    fn add_before_last(&mut self, added: Bucket) {
        match self.buckets.binary_search_by_key(&added.number, |bucket| bucket.number) {
            Ok(place) => self.buckets[place].join(&added),
            Err(place) => self.buckets.insert(place, added),
        }
    }

    /// Adds the buckets of another that are in `kept`, and drops all others.
    pub(super) fn merge(&mut self, other: &Self, kept: &RangeInclusive<i64>) {
        /// Below this, searching for each place is cheaper than copying all buckets.
        const ONE_BY_ONE_MAX: usize = 16;
        self.keep(kept);
        let theirs = other.within(kept);
        if theirs.len() <= ONE_BY_ONE_MAX {
            theirs.iter().for_each(|bucket| self.add(*bucket));
            return;
        }
        let room = self.buckets.len() + theirs.len();
        let mine = std::mem::replace(&mut self.buckets, Vec::with_capacity(room));
        let mut mine = mine.into_iter().peekable();
        for bucket in theirs {
            while let Some(before) = mine.next_if(|mine| mine.number <= bucket.number) {
                self.add(before);
            }
            self.add(*bucket);
        }
        mine.for_each(|bucket| self.add(bucket));
    }

    /// Drops what is outside a range.
    pub(super) fn keep(&mut self, kept: &RangeInclusive<i64>) {
        let end = self.buckets.partition_point(|bucket| bucket.number <= *kept.end());
        self.buckets.truncate(end);
        let start = self.buckets.partition_point(|bucket| bucket.number < *kept.start());
        self.buckets.drain(..start);
    }

    /// Drops what is after a bucket and says how many events that were.
    pub(super) fn drop_after(&mut self, last: i64) -> u64 {
        let end = self.buckets.partition_point(|bucket| bucket.number <= last);
        self.buckets.drain(end..).fold(0, |events, bucket| add_counts(events, bucket.count))
    }

    pub(super) fn within(&self, kept: &RangeInclusive<i64>) -> &[Bucket] {
        let start = self.buckets.partition_point(|bucket| bucket.number < *kept.start());
        let end = self.buckets.partition_point(|bucket| bucket.number <= *kept.end());
        self.buckets.get(start..end).unwrap_or_default()
    }

    /// Count and sum of the buckets in a range.
    pub(super) fn totals(&self, kept: &RangeInclusive<i64>) -> (u64, f64) {
        let buckets = self.within(kept).iter();
        buckets.fold((0, 0.0), |(count, sum), bucket| {
            (add_counts(count, bucket.count), add_sums(sum, bucket.sum))
        })
    }

    /// `counts sums`, see [`columns`]; no sums if there is no bucket.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let counts = self.buckets.iter().map(|bucket| (bucket.number, bucket.count));
        columns::put_counts(out, self.buckets.len(), counts);
        if !self.is_empty() {
            columns::put_sums(out, self.buckets.iter().map(|bucket| bucket.sum));
        }
    }

    /// Reads into this window, which is empty.
    pub(super) fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let buckets = &mut self.buckets;
        let len = columns::read_counts(reader, NUMBERS, |number, count| {
            buckets.push(Bucket { number, count, sum: 0.0 });
        })?;
        if len > 0 {
            columns::read_series(reader, len, |place, sum| buckets[place].sum = sum)?;
        }
        Ok(())
    }
}

impl Bucket {
    #[inline]
    fn join(&mut self, other: &Self) {
        self.count = add_counts(self.count, other.count);
        self.sum = add_sums(self.sum, other.sum);
    }
}

/// Bucket numbers a timestamp can have: whole seconds of 64-bit microseconds.
pub(super) const NUMBERS: RangeInclusive<i64> =
    i64::MIN / 1_000_000 - 1..=i64::MAX / 1_000_000 + super::AHEAD_SECS_MAX;
