//! Sketches in buckets of absolute number: windows as in [`super::window`], of distributions.

use std::ops::RangeInclusive;

use super::window::NUMBERS;
use crate::columns::{self, add_counts};
use crate::sketch::Sketch;
use crate::wire::bytes::{Malformed, Reader, put_varint, put_zigzag};

#[derive(Clone, Debug, Default)]
struct Slot {
    number: i64,
    sketch: Sketch,
}

/// The buckets in use, by growing number.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring {
    slots: Vec<Slot>,
    /// Cleared sketches with their room, at most [`SPARE_MAX`].
    spare: Vec<Sketch>,
}

/// A part mostly touches one bucket, or two at an edge.
const SPARE_MAX: usize = 2;

impl Ring {
    pub(super) fn clear(&mut self) {
        for mut slot in self.slots.drain(..) {
            if self.spare.len() < SPARE_MAX {
                slot.sketch.clear();
                self.spare.push(slot.sketch);
            }
        }
    }

    /// Whether a bucket of the range is in use.
    pub(super) fn holds(&self, kept: &RangeInclusive<i64>) -> bool {
        self.slots.iter().any(|slot| kept.contains(&slot.number))
    }

    pub(super) fn settle(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.sketch.settle());
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let sketches = self.slots.iter().map(|slot| &slot.sketch).chain(&self.spare);
        let slots = self.slots.capacity() * size_of::<Slot>() + self.spare.capacity() * size_of::<Sketch>();
        slots + sketches.map(Sketch::heap_bytes).sum::<usize>()
    }

    /// The sketch of a bucket, made if it is not there.
    #[inline]
    pub(super) fn sketch(&mut self, number: i64) -> &mut Sketch {
        let place = match self.slots.last() {
            Some(last) if last.number == number => self.slots.len() - 1,
            Some(last) if last.number > number => {
                match self.slots.binary_search_by_key(&number, |slot| slot.number) {
                    Ok(place) => place,
                    Err(place) => self.insert(place, number),
                }
            }
            _ => self.insert(self.slots.len(), number),
        };
        &mut self.slots[place].sketch
    }

    fn insert(&mut self, place: usize, number: i64) -> usize {
        let sketch = self.spare.pop().unwrap_or_default();
        self.slots.insert(place, Slot { number, sketch });
        place
    }

    /// Joins the buckets of another that are in `kept`, and drops all others.
    pub(super) fn merge(&mut self, other: &Self, kept: &RangeInclusive<i64>) {
        self.keep(kept);
        for slot in other.slots.iter().filter(|slot| kept.contains(&slot.number)) {
            self.sketch(slot.number).merge(&slot.sketch);
        }
    }

    pub(super) fn keep(&mut self, kept: &RangeInclusive<i64>) {
        self.slots.retain(|slot| kept.contains(&slot.number));
    }

    /// Drops what is after a bucket and says how many events that were.
    pub(super) fn drop_after(&mut self, last: i64) -> u64 {
        let end = self.slots.partition_point(|slot| slot.number <= last);
        self.slots.drain(end..).fold(0, |events, slot| add_counts(events, slot.sketch.count()))
    }

    /// The buckets of a range in one sketch.
    pub(super) fn total(&self, kept: &RangeInclusive<i64>) -> Sketch {
        let mut total = Sketch::default();
        for slot in self.slots.iter().filter(|slot| kept.contains(&slot.number)) {
            total.merge(&slot.sketch);
        }
        total.settle();
        total
    }

    /// `n:varint (number:zigzag sketch)*`
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.slots.len() as u64);
        for slot in &self.slots {
            put_zigzag(out, slot.number);
            slot.sketch.encode(out);
        }
    }

    /// Reads into this ring, which is empty. A bucket without an event is refused: it would be no
    /// identity of `merge`, and a hundred bytes of memory for three.
    pub(super) fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let len = columns::read_len(reader)?;
        let mut least = *NUMBERS.start();
        for _ in 0..len {
            let malformed = Malformed { offset: reader.offset() };
            let number = reader.zigzag()?;
            if !(least..=*NUMBERS.end()).contains(&number) {
                return Err(malformed);
            }
            least = number + 1;
            let sketch = self.sketch(number);
            sketch.decode(reader)?;
            if sketch.is_empty() {
                return Err(malformed);
            }
        }
        Ok(())
    }
}
