//! A mergeable distribution sketch: exact while it has seen few distinct values, else a histogram with
//! buckets of equal relative width.
//!
//! Up to [`EXACT_MAX`] distinct values it holds each with its count. Beyond that it is an exponential
//! histogram (`histogram`): any quantile is within 0.55 % of the value it stands for (plus half the
//! smallest float, which only matters below 1e-300). Count, minimum and maximum are exact.
//!
//! Laws: both forms are a pure function of the multiset of values, because the number of distinct
//! values and the set of buckets in use only grow. So `merge` is associative and commutative, the empty
//! sketch is its identity, and inserting values equals merging their sketches; only the sum of a
//! histogram depends on the order, by the rounding of float addition. It is not idempotent.
//!
//! New values wait unsorted, so that folding a short run costs a copy and no sort. Whatever needs the
//! pure form works on `Sketch::settled`.

mod buckets;
mod histogram;
mod index;

use std::borrow::Cow;

use crate::columns::{self, COUNT_MAX, add_counts, add_sums};
use crate::wire::bytes::{Malformed, Reader, put_varint};
use histogram::Histogram;

/// Most distinct values a sketch holds exactly.
pub const EXACT_MAX: usize = 128;

/// Values that may wait before they are sorted in: 2 KiB per sketch.
const WAITING_MAX: usize = 256;

const KIND_WAITING: u8 = 0;
const KIND_EXACT: u8 = 1;
const KIND_HISTOGRAM: u8 = 2;

/// A mergeable summary of a distribution of finite numbers.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    /// Values not yet in `form`; empty once `form` is a histogram.
    waiting: Vec<f64>,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    /// Distinct values with their counts, by growing value.
    Exact(Vec<(f64, u64)>),
    Histogram(Box<Histogram>),
}

impl Default for Form {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl Sketch {
    /// The value at quantile `q` (0 to 1): the one at place `floor(q * count)` of the sorted values, the
    /// last one if that is beyond it; 0.0 when empty.
    #[must_use]
    pub fn quantile(&self, q: f64) -> f64 {
        let count = self.count();
        if count == 0 {
            return 0.0;
        }
        // A product beyond the range, or NaN, becomes a rank within it.
        let rank = ((q * count as f64) as u64).min(count - 1);
        match &self.settled().form {
            Form::Exact(pairs) => value_at(pairs, rank),
            Form::Histogram(histogram) => histogram.value_at(rank),
        }
    }

    /// The bound on the relative error of [`Sketch::quantile`]: 0 while exact.
    #[must_use]
    pub fn relative_error(&self) -> f64 {
        match &self.settled().form {
            Form::Exact(_) => 0.0,
            Form::Histogram(histogram) => histogram.relative_error(),
        }
    }

    /// How many values it has seen.
    #[must_use]
    pub fn count(&self) -> u64 {
        let counted = match &self.form {
            Form::Exact(pairs) => pairs.iter().fold(0, |count, pair| add_counts(count, pair.1)),
            Form::Histogram(histogram) => histogram.count,
        };
        add_counts(counted, self.waiting.len() as u64)
    }

    /// The sum of all values.
    #[must_use]
    pub fn sum(&self) -> f64 {
        match &self.settled().form {
            Form::Exact(pairs) => {
                pairs.iter().fold(0.0, |sum, pair| add_sums(sum, columns::times(pair.0, pair.1)))
            }
            Form::Histogram(histogram) => histogram.sum,
        }
    }

    /// The lowest value; `None` when empty.
    #[must_use]
    pub fn min(&self) -> Option<f64> {
        match &self.settled().form {
            Form::Exact(pairs) => pairs.first().map(|pair| pair.0),
            Form::Histogram(histogram) => Some(histogram.min),
        }
    }

    /// The highest value; `None` when empty.
    #[must_use]
    pub fn max(&self) -> Option<f64> {
        match &self.settled().form {
            Form::Exact(pairs) => pairs.last().map(|pair| pair.0),
            Form::Histogram(histogram) => Some(histogram.max),
        }
    }

    /// Whether it has seen no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && matches!(&self.form, Form::Exact(pairs) if pairs.is_empty())
    }

    /// Adds finite values.
    pub fn insert_all(&mut self, values: &[f64]) {
        for chunk in values.chunks(WAITING_MAX) {
            if let Form::Histogram(histogram) = &mut self.form {
                histogram.add_all(chunk);
                continue;
            }
            if self.waiting.len() + chunk.len() > WAITING_MAX {
                self.settle();
                // It may be a histogram from here on, which takes values at once.
                if let Form::Histogram(histogram) = &mut self.form {
                    histogram.add_all(chunk);
                    continue;
                }
            }
            // Adding zero turns minus zero, which equals zero, into zero.
            self.waiting.extend(chunk.iter().map(|value| value + 0.0));
        }
    }

    /// Joins another sketch in.
    pub fn merge(&mut self, other: &Self) {
        match &other.form {
            Form::Exact(pairs) => self.insert_pairs(pairs),
            Form::Histogram(theirs) => {
                self.settle();
                self.histogram().merge(theirs);
            }
        }
        self.insert_all(&other.waiting);
    }

    fn insert_pairs(&mut self, pairs: &[(f64, u64)]) {
        if pairs.is_empty() {
            return;
        }
        self.settle();
        match &mut self.form {
            Form::Histogram(histogram) => {
                pairs.iter().for_each(|(value, count)| histogram.add(*value, *count));
            }
            Form::Exact(mine) => {
                let merged = merge_pairs(mine, pairs);
                self.replace_pairs(merged);
            }
        }
    }

    /// Sorts waiting values in.
    pub(crate) fn settle(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        match &mut self.form {
            Form::Histogram(histogram) => histogram.add_all(&waiting),
            Form::Exact(mine) => {
                let counted = count_values(&mut waiting);
                let merged = if mine.is_empty() { counted } else { merge_pairs(mine, &counted) };
                self.replace_pairs(merged);
            }
        }
        waiting.clear();
        if matches!(self.form, Form::Exact(_)) {
            self.waiting = waiting;
        }
    }

    fn replace_pairs(&mut self, pairs: Vec<(f64, u64)>) {
        let distinct = pairs.len();
        self.form = Form::Exact(pairs);
        if distinct > EXACT_MAX {
            self.histogram();
        }
    }

    /// Turns into a histogram, if it is not one yet. No value may be waiting.
    fn histogram(&mut self) -> &mut Histogram {
        if let Form::Exact(pairs) = &self.form {
            let mut histogram = Box::<Histogram>::default();
            pairs.iter().for_each(|(value, count)| histogram.add(*value, *count));
            self.form = Form::Histogram(histogram);
        }
        match &mut self.form {
            Form::Histogram(histogram) => histogram,
            Form::Exact(_) => unreachable!("it was made a histogram above"),
        }
    }

    /// This sketch with no value waiting.
    fn settled(&self) -> Cow<'_, Self> {
        if self.waiting.is_empty() {
            return Cow::Borrowed(self);
        }
        let mut settled = self.clone();
        settled.settle();
        Cow::Owned(settled)
    }

    /// Forgets all values.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        match &mut self.form {
            Form::Exact(pairs) => pairs.clear(),
            Form::Histogram(_) => self.form = Form::default(),
        }
    }

    /// Roughly how much memory it holds beyond its own size, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let form = match &self.form {
            Form::Exact(pairs) => pairs.capacity() * size_of::<(f64, u64)>(),
            Form::Histogram(histogram) => histogram.heap_bytes(),
        };
        self.waiting.capacity() * size_of::<f64>() + form
    }

    /// Appends `kind:u8` and the form: waiting values as they came while there is nothing else and they
    /// are certainly few enough to be exact, so that a fresh part is not sorted; else the settled form.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let fresh = matches!(&self.form, Form::Exact(pairs) if pairs.is_empty());
        if fresh && self.waiting.len() <= EXACT_MAX && !all_equal(&self.waiting) {
            out.push(KIND_WAITING);
            put_varint(out, self.waiting.len() as u64);
            columns::put_values(out, &self.waiting);
            return;
        }
        match &self.settled().form {
            Form::Exact(pairs) => {
                out.push(KIND_EXACT);
                put_varint(out, pairs.len() as u64);
                columns::put_series(out, pairs.iter().map(|pair| pair.0));
                pairs.iter().for_each(|pair| put_varint(out, pair.1));
            }
            Form::Histogram(histogram) => {
                out.push(KIND_HISTOGRAM);
                histogram.encode(out);
            }
        }
    }

    /// Reads an encoded sketch into this one, which is empty.
    pub(crate) fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let malformed = Malformed { offset: reader.offset() };
        match reader.u8()? {
            KIND_WAITING => {
                let len = columns::read_len(reader)?;
                if len > EXACT_MAX {
                    return Err(malformed);
                }
                columns::read_values(reader, len, &mut self.waiting)
            }
            KIND_EXACT => self.decode_pairs(reader),
            KIND_HISTOGRAM => {
                self.form = Form::Histogram(Box::new(Histogram::decode(reader)?));
                Ok(())
            }
            _ => Err(malformed),
        }
    }

    fn decode_pairs(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let malformed = Malformed { offset: reader.offset() };
        let len = columns::read_len(reader)?;
        if len > EXACT_MAX {
            return Err(malformed);
        }
        let mut pairs = Vec::with_capacity(len);
        columns::read_series(reader, len, |_, value| pairs.push((value, 0)))?;
        for pair in &mut pairs {
            pair.1 = reader.varint()?;
        }
        let sorted = pairs.is_sorted_by(|a, b| a.0 < b.0);
        // Only each count is bounded: merging stops them one by one, and so does adding them up.
        if !sorted || pairs.iter().any(|pair| pair.1 == 0 || pair.1 > COUNT_MAX) {
            return Err(malformed);
        }
        self.form = Form::Exact(pairs);
        Ok(())
    }
}

/// Equal if they have seen the same values, as far as the form keeps them apart; sums are not compared,
/// because they depend on the order of addition.
impl PartialEq for Sketch {
    fn eq(&self, other: &Self) -> bool {
        match (&self.settled().form, &other.settled().form) {
            (Form::Exact(mine), Form::Exact(theirs)) => mine == theirs,
            (Form::Histogram(mine), Form::Histogram(theirs)) => mine.has_same_buckets(theirs),
            _ => false,
        }
    }
}

fn all_equal(values: &[f64]) -> bool {
    values.iter().all(|value| *value == values[0]) && !values.is_empty()
}

fn value_at(pairs: &[(f64, u64)], rank: u64) -> f64 {
    let mut seen = 0;
    for (value, count) in pairs {
        seen = add_counts(seen, *count);
        if seen > rank {
            return *value;
        }
    }
    pairs.last().map_or(0.0, |pair| pair.0)
}

/// Sorts values and counts equal ones.
fn count_values(values: &mut [f64]) -> Vec<(f64, u64)> {
    values.sort_unstable_by(f64::total_cmp);
    let mut pairs: Vec<(f64, u64)> = Vec::with_capacity(values.len().min(EXACT_MAX));
    for value in values {
        match pairs.last_mut() {
            Some((last, count)) if *last == *value => *count += 1,
            _ => pairs.push((*value, 1)),
        }
    }
    pairs
}

fn merge_pairs(left: &[(f64, u64)], right: &[(f64, u64)]) -> Vec<(f64, u64)> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left, right);
    while let (Some(l), Some(r)) = (left.first(), right.first()) {
        if l.0 <= r.0 {
            left = &left[1..];
        }
        if r.0 <= l.0 {
            right = &right[1..];
        }
        merged.push(if l.0 < r.0 {
            *l
        } else if r.0 < l.0 {
            *r
        } else {
            (l.0, add_counts(l.1, r.1))
        });
    }
    merged.extend_from_slice(left);
    merged.extend_from_slice(right);
    merged
}
