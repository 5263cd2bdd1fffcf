//! `Buffer`: the values that live longest, as they came.

use std::cmp::Reverse;
use std::fmt::Write as _;

use super::number::STRING;
use super::{AHEAD_SECS_MAX, TabState, gauge, python};
use crate::bad::BadReason;
use crate::columns;
use crate::json;
use crate::state::{Event, Format};
use crate::time::Timestamp;
use crate::wire::bytes::{Malformed, Reader, put_prefixed, put_varint, put_zigzag};

/// Most entries a state holds; those that expire first are dropped.
const ENTRIES_MAX: usize = 1000;

/// Longest value as compact JSON, in bytes; a state is at most 16 MB.
const VALUE_BYTES_MAX: usize = 16_384;

/// One value. The order of the fields is the order they are kept and shown in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    expiry: Reverse<Timestamp>,
    time: Timestamp,
    ordinal: u32,
    value: Box<str>,
}

impl Entry {
    fn is_kept(&self, now: Timestamp) -> bool {
        self.expiry.0 > now && self.time <= now.plus_secs(AHEAD_SECS_MAX)
    }
}

/// The first [`ENTRIES_MAX`] entries in their order, which is total: dropping the rest before or after a
/// merge leaves the same. Expired ones are the last, so they make room first. Equal entries are kept as
/// often as they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffer {
    entries: Vec<Entry>,
}

impl Buffer {
    fn insert(&mut self, entry: Entry) {
        let place = self.entries.partition_point(|held| *held <= entry);
        if place < ENTRIES_MAX {
            self.entries.truncate(ENTRIES_MAX - 1);
            self.entries.insert(place, entry);
        }
    }
}

impl TabState for Buffer {
    fn clear(&mut self) {
        self.entries.clear();
    }

    fn fold(&mut self, _client: &str, event: &Event<'_>, now: Timestamp) -> Result<(), BadReason> {
        let (value, expiry) = gauge::value_and_expiry(gauge::read_json(event.payload)?)?;
        let value = gauge::compact(&value, VALUE_BYTES_MAX)?;
        let entry = Entry { expiry: Reverse(expiry), time: event.time, ordinal: event.ordinal, value };
        if entry.is_kept(now) {
            self.insert(entry);
        }
        Ok(())
    }

    fn merge(&mut self, other: &Self, now: Timestamp) {
        /// Below this, finding each place is cheaper than a pass over all entries.
        const ONE_BY_ONE_MAX: usize = 8;
        let kept = other.entries.iter().filter(|entry| entry.is_kept(now)).cloned();
        if other.entries.len() <= ONE_BY_ONE_MAX {
            kept.for_each(|entry| self.insert(entry));
            return;
        }
        self.entries.extend(kept);
        // A stable sort merges two sorted runs in one pass.
        self.entries.sort();
        self.entries.truncate(ENTRIES_MAX);
    }

    /// `n:varint (expiry:zigzag time:zigzag ordinal:varint value:prefixed)*` in order; expiry in
    /// microseconds, time in microseconds before expiry.
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.entries.len() as u64);
        for entry in &self.entries {
            let expiry = entry.expiry.0.as_micros();
            put_zigzag(out, expiry);
            put_zigzag(out, expiry.wrapping_sub(entry.time.as_micros()));
            put_varint(out, u64::from(entry.ordinal));
            put_prefixed(out, entry.value.as_bytes());
        }
    }

    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let malformed = Malformed { offset: reader.offset() };
        let len = columns::read_len(reader)?;
        if len > ENTRIES_MAX {
            return Err(malformed);
        }
        for _ in 0..len {
            let malformed = Malformed { offset: reader.offset() };
            let expiry = reader.zigzag()?;
            let time = Timestamp::from_micros(expiry.wrapping_sub(reader.zigzag()?));
            let ordinal = u32::try_from(reader.varint()?).map_err(|_| malformed)?;
            let value = gauge::read_value(reader, VALUE_BYTES_MAX)?.into();
            let entry = Entry { expiry: Reverse(Timestamp::from_micros(expiry)), time, ordinal, value };
            if self.entries.last().is_some_and(|before| *before > entry) {
                return Err(malformed);
            }
            self.entries.push(entry);
        }
        Ok(())
    }

    fn render(&self, now: Timestamp, _format: Format, out: &mut String) {
        let shown: Vec<_> = self.entries.iter().filter(|entry| entry.expiry.0 > now).collect();
        json::write_list(out, ['[', ']'], ", ", &shown, |entry, out| {
            out.push('[');
            let value = json::parse(&entry.value).expect("values are checked when they come in");
            python::write_json(out, &value);
            write!(out, ", {}]", python::Str(entry.time.as_secs_f64())).expect(STRING);
        });
    }

    fn expire(&mut self, now: Timestamp) {
        self.entries.retain(|entry| entry.is_kept(now));
    }

    fn drop_after(&mut self, limit: Timestamp) -> u64 {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.time <= limit);
        (before - self.entries.len()) as u64
    }

    fn prunable(&self, now: Timestamp) -> bool {
        !self.entries.iter().any(|entry| entry.expiry.0 > now)
    }

    fn heap_bytes(&self) -> usize {
        let text: usize = self.entries.iter().map(|entry| entry.value.len()).sum();
        self.entries.capacity() * size_of::<Entry>() + text
    }
}
