//! The exponential histogram a sketch turns into when it holds too many distinct values.
//!
//! Everything but the sum is a pure function of the values it has seen, in whatever order and grouping:
//! a bucket, once not empty, stays so, and the scale is the finest one at which all values together fill
//! no more than [`BUCKETS_MAX`] buckets.

use super::buckets::Buckets;
use super::index::{self, INDEX_MAX, INDEX_MIN, SCALE_MAX, SCALE_MIN};
use crate::columns::{self, add_counts, add_sums};
use crate::wire::bytes::{Malformed, Reader, put_varint};

/// Most buckets in use, both signs together. 4,096 buckets of scale 6 span 64 factors of two, so
/// only values over more than 19 decades make a sketch coarser. 64 bytes each bound one sketch at
/// 256 KiB, whatever it is sent.
pub(super) const BUCKETS_MAX: usize = 4096;

#[derive(Clone, Debug)]
pub(super) struct Histogram {
    scale: i8,
    pub(super) count: u64,
    pub(super) sum: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    zeros: u64,
    positive: Buckets,
    /// By magnitude: the highest index is the lowest number.
    negative: Buckets,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            scale: SCALE_MAX,
            count: 0,
            sum: 0.0,
            min: f64::MAX,
            max: f64::MIN,
            zeros: 0,
            positive: Buckets::default(),
            negative: Buckets::default(),
        }
    }
}

impl Histogram {
    /// Adds `count` times a value.
    pub(super) fn add(&mut self, value: f64, count: u64) {
        self.count = add_counts(self.count, count);
        self.sum = add_sums(self.sum, columns::times(value, count));
        self.widen(value);
        self.add_to_bucket(value, count);
        self.bound_buckets();
    }

    /// Adds each value once.
    pub(super) fn add_all(&mut self, values: &[f64]) {
        self.count = add_counts(self.count, values.len() as u64);
        self.sum = add_sums(self.sum, columns::sum(values));
        for value in values {
            // Adding zero turns minus zero, which equals zero, into zero.
            let value = *value + 0.0;
            self.widen(value);
            self.add_to_bucket(value, 1);
        }
        self.bound_buckets();
    }

    #[inline]
    fn widen(&mut self, value: f64) {
        self.min = if value < self.min { value } else { self.min };
        self.max = if value > self.max { value } else { self.max };
    }

    #[inline]
    fn add_to_bucket(&mut self, value: f64, count: u64) {
        if value == 0.0 {
            self.zeros = add_counts(self.zeros, count);
            return;
        }
        let index = index::index(value.abs()) >> self.halvings();
        let buckets = if value > 0.0 { &mut self.positive } else { &mut self.negative };
        buckets.add(index, count);
    }

    fn halvings(&self) -> u32 {
        (SCALE_MAX - self.scale) as u32
    }

    fn used(&self) -> usize {
        self.positive.used() + self.negative.used()
    }

    #[inline]
    fn bound_buckets(&mut self) {
        while self.used() > BUCKETS_MAX {
            self.halve();
        }
    }

    #[cold]
    fn halve(&mut self) {
        self.positive.halve();
        self.negative.halve();
        self.scale -= 1;
    }

    /// Joins another one in.
    pub(super) fn merge(&mut self, other: &Self) {
        self.count = add_counts(self.count, other.count);
        self.sum = add_sums(self.sum, other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.zeros = add_counts(self.zeros, other.zeros);
        while self.scale > other.scale {
            self.halve();
        }
        if other.scale > self.scale {
            let mut coarse = other.clone();
            while coarse.scale > self.scale {
                coarse.halve();
            }
            self.merge_buckets(&coarse);
        } else {
            self.merge_buckets(other);
        }
        self.bound_buckets();
    }

    fn merge_buckets(&mut self, other: &Self) {
        self.positive.merge(&other.positive);
        self.negative.merge(&other.negative);
    }

    /// The value of the one with this rank among the sorted values, within the relative error.
    pub(super) fn value_at(&self, rank: u64) -> f64 {
        let mut seen = 0;
        for (value, count) in self.ascending() {
            seen = add_counts(seen, count);
            if seen > rank {
                return value.clamp(self.min, self.max);
            }
        }
        self.max
    }

    /// What stands for each bucket, and its count, from the lowest value up.
    fn ascending(&self) -> impl Iterator<Item = (f64, u64)> {
        let shown = |(index, count)| (index::representative(index, self.scale), count);
        let negative = self.negative.iter().rev().map(shown).map(|(value, count)| (-value, count));
        let zeros = (self.zeros > 0).then_some((0.0, self.zeros));
        negative.chain(zeros).chain(self.positive.iter().map(shown))
    }

    pub(super) fn relative_error(&self) -> f64 {
        index::relative_error(self.scale)
    }

    /// Whether the other one has seen the same values, as far as buckets tell them apart.
    pub(super) fn has_same_buckets(&self, other: &Self) -> bool {
        (self.scale, self.count, self.zeros, self.min, self.max)
            == (other.scale, other.count, other.zeros, other.min, other.max)
            && self.positive.iter().eq(other.positive.iter())
            && self.negative.iter().eq(other.negative.iter())
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.positive.heap_bytes() + self.negative.heap_bytes()
    }

    /// `halvings:u8 sum,min,max:values zeros:varint positive:counts negative:counts`
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.halvings() as u8);
        columns::put_values(out, &[self.sum]);
        columns::put_values(out, &[self.min, self.max]);
        put_varint(out, self.zeros);
        for buckets in [&self.positive, &self.negative] {
            let counts = buckets.iter().map(|(index, count)| (i64::from(index), count));
            columns::put_counts(out, buckets.used(), counts);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let malformed = Malformed { offset: reader.offset() };
        let halvings = reader.u8()?;
        if halvings > (SCALE_MAX - SCALE_MIN) as u8 {
            return Err(malformed);
        }
        let mut totals = Vec::with_capacity(3);
        columns::read_values(reader, 1, &mut totals)?;
        columns::read_values(reader, 2, &mut totals)?;
        let zeros = reader.varint()?;
        if zeros > columns::COUNT_MAX {
            return Err(malformed);
        }
        let mut histogram = Self {
            scale: SCALE_MAX - halvings as i8,
            sum: totals[0],
            min: totals[1],
            max: totals[2],
            zeros,
            ..Self::default()
        };
        histogram.count = zeros;
        let mut sorted = Vec::new();
        for positive in [true, false] {
            let count = read_buckets(reader, u32::from(halvings), &mut sorted)?;
            histogram.count = add_counts(histogram.count, count);
            let buckets = if positive { &mut histogram.positive } else { &mut histogram.negative };
            buckets.replace_by_sorted(&sorted);
        }
        if histogram.is_possible() { Ok(histogram) } else { Err(malformed) }
    }

    /// What a writer can never produce: fewer values than would still be exact; too many buckets; a
    /// coarse scale with so few buckets that no halving can have been needed; bounds upside down.
    fn is_possible(&self) -> bool {
        self.count > super::EXACT_MAX as u64
            && self.used() <= BUCKETS_MAX
            && (self.scale == SCALE_MAX || self.used() > BUCKETS_MAX / 2)
            && self.min <= self.max
    }
}

fn read_buckets(
    reader: &mut Reader<'_>,
    halvings: u32,
    sorted: &mut Vec<(i32, u64)>,
) -> Result<u64, Malformed> {
    let indices = i64::from(INDEX_MIN >> halvings)..=i64::from(INDEX_MAX >> halvings);
    sorted.clear();
    let mut total = 0;
    columns::read_counts(reader, indices, |index, count| {
        total = add_counts(total, count);
        sorted.push((index as i32, count));
    })?;
    Ok(total)
}
