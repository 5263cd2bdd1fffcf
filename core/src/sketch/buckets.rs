//! Counts of buckets by index, for one sign of the histogram.
//!
//! Dense while the indices in use lie close together, which makes adding one a load and a store; sparse
//! when they are far apart, so that memory follows the number of buckets in use and not the distance of
//! two values. Which form is used never shows outside.

use crate::columns::add_counts;

/// A dense run has room for at most this many slots per bucket in use, so at most 8 x 8 bytes each.
const SLOTS_PER_BUCKET_MAX: i64 = 8;
/// Any run this short is dense.
const SLOTS_MIN: i64 = 64;
/// Dense runs grow by whole groups of slots, so that a slowly widening range is not copied each time.
const SLOT_GROUP: i32 = 16;

/// Counts by bucket index.
#[derive(Clone, Debug, Default)]
pub(super) struct Buckets {
    /// Index of the first dense slot.
    first: i32,
    dense: Vec<u64>,
    /// Sorted by index; empty while dense.
    sparse: Vec<(i32, u64)>,
    used: usize,
}

impl Buckets {
    /// How many buckets are not empty.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.dense.capacity() * size_of::<u64>() + self.sparse.capacity() * size_of::<(i32, u64)>()
    }

    pub(super) fn clear(&mut self) {
        self.dense.clear();
        self.sparse.clear();
        self.used = 0;
    }

    /// The buckets in use, by growing index.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (i32, u64)> + Clone {
        let dense = self.dense.iter().enumerate().filter(|(_, count)| **count > 0);
        let dense = dense.map(|(slot, count)| (self.first + slot as i32, *count));
        dense.chain(self.sparse.iter().copied())
    }

    /// Adds to one bucket.
    #[inline]
    pub(super) fn add(&mut self, index: i32, count: u64) {
        // An index below `first` wraps to a slot far beyond any dense run.
        match self.dense.get_mut(index.wrapping_sub(self.first) as u32 as usize) {
            Some(slot) => {
                self.used += usize::from(*slot == 0);
                *slot = add_counts(*slot, count);
            }
            None => self.add_outside(index, count),
        }
    }

    #[cold]
    fn add_outside(&mut self, index: i32, count: u64) {
        if self.sparse.is_empty() {
            let (first, last) = self.dense_range(index);
            if slots(first, last) <= SLOTS_MIN + SLOTS_PER_BUCKET_MAX * (self.used as i64 + 1) {
                self.widen(first, last);
                self.add(index, count);
                return;
            }
            self.sparse = self.iter().collect();
            self.dense.clear();
        }
        match self.sparse.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(place) => self.sparse[place].1 = add_counts(self.sparse[place].1, count),
            Err(place) => {
                self.sparse.insert(place, (index, count));
                self.used += 1;
                self.densify();
            }
        }
    }

    /// The dense range in whole groups that also holds `index`.
    fn dense_range(&self, index: i32) -> (i32, i32) {
        let (mut first, mut last) = (index, index);
        if !self.dense.is_empty() {
            first = first.min(self.first);
            last = last.max(self.first + self.dense.len() as i32 - 1);
        }
        (first.div_euclid(SLOT_GROUP) * SLOT_GROUP, (last.div_euclid(SLOT_GROUP) + 1) * SLOT_GROUP - 1)
    }

    fn widen(&mut self, first: i32, last: i32) {
        if self.dense.is_empty() {
            self.first = first;
        }
        let before = (self.first - first) as usize;
        self.dense.splice(0..0, std::iter::repeat_n(0, before));
        self.dense.resize(slots(first, last) as usize, 0);
        self.first = first;
    }

    /// Half the slots a dense run may have, so that the form does not change back and forth.
    fn densify(&mut self) {
        let (Some((first, _)), Some((last, _))) = (self.sparse.first(), self.sparse.last()) else { return };
        if slots(*first, *last) <= SLOTS_MIN + SLOTS_PER_BUCKET_MAX / 2 * self.used as i64 {
            let sparse = std::mem::take(&mut self.sparse);
            self.replace_by_sorted(&sparse);
        }
    }

    /// Replaces all buckets by these, sorted by index without repeats.
    pub(super) fn replace_by_sorted(&mut self, sorted: &[(i32, u64)]) {
        self.clear();
        let (Some((first, _)), Some((last, _))) = (sorted.first(), sorted.last()) else { return };
        self.used = sorted.len();
        if slots(*first, *last) > SLOTS_MIN + SLOTS_PER_BUCKET_MAX / 2 * self.used as i64 {
            self.sparse.extend_from_slice(sorted);
            return;
        }
        self.first = *first;
        self.dense.resize(slots(*first, *last) as usize, 0);
        for (index, count) in sorted {
            self.dense[(index - first) as usize] = *count;
        }
    }

    /// Adds all buckets of another. Few of them are added one by one; many are merged in one pass, so
    /// that scattered ones cannot cost the product of both lengths.
    pub(super) fn merge(&mut self, other: &Self) {
        const ONE_BY_ONE_MAX: usize = 64;
        if self.sparse.is_empty() && other.sparse.is_empty() || other.used <= ONE_BY_ONE_MAX {
            other.iter().for_each(|(index, count)| self.add(index, count));
            return;
        }
        let merged = merge_sorted(self.iter(), other.iter());
        self.replace_by_sorted(&merged);
    }

    /// Halves the scale once: each bucket joins its neighbour.
    pub(super) fn halve(&mut self) {
        let mut halved: Vec<(i32, u64)> = Vec::with_capacity(self.used);
        for (index, count) in self.iter() {
            match halved.last_mut() {
                Some((last, total)) if *last == index >> 1 => *total = add_counts(*total, count),
                _ => halved.push((index >> 1, count)),
            }
        }
        self.replace_by_sorted(&halved);
    }
}

fn slots(first: i32, last: i32) -> i64 {
    i64::from(last) - i64::from(first) + 1
}

fn merge_sorted(
    left: impl Iterator<Item = (i32, u64)>,
    right: impl Iterator<Item = (i32, u64)>,
) -> Vec<(i32, u64)> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    let mut merged = Vec::new();
    loop {
        let next = match (left.peek(), right.peek()) {
            (Some(l), Some(r)) if l.0 == r.0 => {
                let joined = (l.0, add_counts(l.1, r.1));
                left.next();
                right.next();
                Some(joined)
            }
            (Some(l), Some(r)) if l.0 > r.0 => right.next(),
            (Some(_), _) => left.next(),
            (None, _) => right.next(),
        };
        let Some(next) = next else { return merged };
        merged.push(next);
    }
}
