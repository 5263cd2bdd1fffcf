//! States: one bounded summary per (tab, client), of one of the registered tab types.
//!
//! Laws, at one fixed `now`, for every type: `fold(a ++ b) = merge(fold a, fold b)`; `merge` is
//! associative and commutative, and the new state is its identity. Counts are exact; float sums agree
//! up to rounding. States are not idempotent under `merge`: whoever merges must not merge a part twice.
//!
//! Bytes: `version:u8 type:u8 body checksum:u32le` with the CRC-32C of all bytes before it.

use std::cell::RefCell;

use crate::bad::BadReason;
use crate::sketch::Sketch;
use crate::time::Timestamp;
use crate::types::AnyState;
pub use crate::types::TabType;
use crate::wire::bytes::{Malformed, Reader};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 2;
const CHECKSUM_BYTES: usize = 4;

/// One event as a tab type sees it.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// When it happened.
    pub time: Timestamp,
    /// Its place in the batch: decides between events of one client with the same time.
    pub ordinal: u32,
    /// Its value.
    pub payload: Payload<'a>,
}

/// The value of an event.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// A finite number. Only for types that [take numbers](TabType::takes_numbers): the others keep a
    /// value as it was written, and a float forgets how.
    Number(f64),
    /// Anything else: JSON text. May be any text; the type checks it.
    Json(&'a str),
}

/// How an aggregate is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `text/plain` and `application/json`: the same bytes for every type.
    Plain,
    /// `application/json-detailed`.
    Detailed,
}

/// Why bytes are not a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeStateError {
    /// Cut off, or a count or number makes no sense.
    #[error("malformed state at offset {offset}")]
    Malformed {
        /// Where reading stopped.
        offset: usize,
    },
    /// The checksum does not match the bytes.
    #[error("state checksum does not match")]
    Checksum,
    /// Written by a version this program does not know.
    #[error("unknown state version {0}")]
    Version(u8),
    /// A type number this program does not know.
    #[error("unknown state type {0}")]
    Type(u8),
    /// A state of another type was asked for.
    #[error("state is a {found:?}, not a {expected:?}")]
    TypeMismatch {
        /// The type in the bytes.
        found: TabType,
        /// The type asked for.
        expected: TabType,
    },
}

/// A state of any type.
#[derive(Clone, Debug)]
pub struct State {
    any: AnyState,
}

/// Numbers of one time window of a state, for the v2 query.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowSummary {
    /// `1m`, `10m`, `1h`, `1d`, `pct` or `all`.
    pub label: &'static str,
    /// Its length in seconds; `None` for all time.
    pub seconds: Option<u64>,
    /// Events in the window.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Their distribution, where the type keeps one for this window.
    pub sketch: Option<Sketch>,
}

impl WindowSummary {
    /// The summary of a window that is a sketch.
    pub(crate) fn of_sketch(label: &'static str, seconds: Option<u64>, sketch: Sketch) -> Self {
        Self { label, seconds, count: sketch.count(), sum: sketch.sum(), sketch: Some(sketch) }
    }
}

impl State {
    /// The empty state of a type: the identity of `merge`.
    #[must_use]
    pub fn new(tab_type: TabType) -> Self {
        Self { any: AnyState::new(tab_type) }
    }

    /// The type of the state.
    #[must_use]
    pub fn tab_type(&self) -> TabType {
        self.any.tab_type()
    }

    /// Empties the state, keeping its allocations.
    pub fn clear(&mut self) {
        self.any.get_mut().clear();
    }

    /// Folds one event in. The caller has refused events from the future beyond the tolerance.
    ///
    /// # Errors
    /// [`BadReason::BadPayload`] or [`BadReason::Nan`] if the payload does not fit the type; the state
    /// is unchanged then.
    pub fn fold(&mut self, client: &str, event: &Event<'_>, now: Timestamp) -> Result<(), BadReason> {
        self.any.get_mut().fold(client, event, now)
    }

    /// Folds many plain numbers in: `values[i]` (finite) happened in the whole second `secs[i]`. The
    /// fast path of types that [take numbers](TabType::takes_numbers); equal to folding them one by one.
    pub fn fold_numbers(&mut self, secs: &[i64], values: &[f64], now: Timestamp) {
        assert!(self.tab_type().takes_numbers(), "the type takes plain numbers");
        self.any.get_mut().fold_numbers(secs, values, now);
    }

    /// Joins another state of the same type in.
    ///
    /// # Errors
    /// [`DecodeStateError::TypeMismatch`]; the state is unchanged then.
    pub fn merge(&mut self, other: &Self, now: Timestamp) -> Result<(), DecodeStateError> {
        if self.any.merge(&other.any, now) {
            return Ok(());
        }
        Err(DecodeStateError::TypeMismatch { found: other.tab_type(), expected: self.tab_type() })
    }

    /// Joins an encoded state of the same type in, without building it first where the type can.
    ///
    /// # Errors
    /// [`DecodeStateError`]; the state is unchanged then.
    pub fn merge_encoded(&mut self, bytes: &[u8], now: Timestamp) -> Result<(), DecodeStateError> {
        let (found, body) = open(bytes)?;
        let expected = self.tab_type();
        if found != expected {
            return Err(DecodeStateError::TypeMismatch { found, expected });
        }
        with_scratch(expected, |scratch| {
            decode_body(scratch, body)?;
            self.any.merge(scratch, now);
            Ok(())
        })
    }

    /// The type of an encoded state, from its header alone.
    ///
    /// # Errors
    /// [`DecodeStateError`] if the header is not one.
    pub fn peek_type(bytes: &[u8]) -> Result<TabType, DecodeStateError> {
        let (Some(version), Some(number)) = (bytes.first(), bytes.get(1)) else {
            return Err(DecodeStateError::Malformed { offset: bytes.len() });
        };
        if *version != VERSION {
            return Err(DecodeStateError::Version(*version));
        }
        TabType::from_number(*number).ok_or(DecodeStateError::Type(*number))
    }

    /// Whether encoded bytes are of the version that this program writes.
    #[must_use]
    pub fn is_current(bytes: &[u8]) -> bool {
        bytes.first() == Some(&VERSION)
    }

    /// Puts in order what a fresh state holds as it came, so that states that mean the same have the
    /// same bytes but for the rounding of sums.
    pub fn settle(&mut self) {
        self.any.get_mut().settle();
    }

    /// Appends the encoded state. Values that a fresh state has not sorted yet are written as they came.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[VERSION, self.tab_type() as u8]);
        self.any.get().encode(out);
        let checksum = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&checksum.to_le_bytes());
    }

    /// Reads an encoded state. Never panics; allocates no more than the input justifies.
    ///
    /// # Errors
    /// [`DecodeStateError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeStateError> {
        let (tab_type, body) = open(bytes)?;
        let mut any = AnyState::new(tab_type);
        decode_body(&mut any, body)?;
        Ok(Self { any })
    }

    /// Appends the aggregate as the first Taba wrote it, seen at `now`.
    pub fn render(&self, now: Timestamp, format: Format, out: &mut String) {
        self.any.get().render(now, format, out);
    }

    /// The windows of a numeric type seen at `now`, for the v2 query; empty for the others.
    #[must_use]
    pub fn windows(&self, now: Timestamp) -> Vec<WindowSummary> {
        self.any.get().windows(now)
    }

    /// Drops what no window can show any more at `now`.
    pub fn expire(&mut self, now: Timestamp) {
        self.any.get_mut().expire(now);
    }

    /// Drops what lies after `limit` and says how many events (or entries) that were. For states from
    /// outside, whose writer may not have checked.
    pub fn drop_after(&mut self, limit: Timestamp) -> u64 {
        self.any.get_mut().drop_after(limit)
    }

    /// Whether nothing in the state can ever be shown at or after `now`.
    #[must_use]
    pub fn prunable(&self, now: Timestamp) -> bool {
        self.any.get().prunable(now)
    }

    /// Roughly how much memory the state holds, in bytes; for cache bounds.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.any.get().heap_bytes()
    }
}

/// Equal if the bytes are, with all values in order.
impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        let settled_bytes = |state: &Self| {
            let mut settled = state.clone();
            settled.settle();
            let mut bytes = Vec::new();
            settled.encode(&mut bytes);
            bytes
        };
        settled_bytes(self) == settled_bytes(other)
    }
}

/// Checks header and checksum; gives a reader that stands at the body and ends where it does.
fn open(bytes: &[u8]) -> Result<(TabType, Reader<'_>), DecodeStateError> {
    let tab_type = State::peek_type(bytes)?;
    let end = bytes.len().checked_sub(CHECKSUM_BYTES).filter(|end| *end >= HEADER_BYTES);
    let (covered, checksum) = bytes.split_at(end.ok_or(DecodeStateError::Malformed { offset: bytes.len() })?);
    if crc32c::crc32c(covered).to_le_bytes() != checksum {
        return Err(DecodeStateError::Checksum);
    }
    let mut reader = Reader::new(covered);
    reader.take(HEADER_BYTES).map_err(malformed)?;
    Ok((tab_type, reader))
}

fn decode_body(any: &mut AnyState, mut body: Reader<'_>) -> Result<(), DecodeStateError> {
    any.get_mut().decode(&mut body).map_err(malformed)?;
    if body.is_empty() { Ok(()) } else { Err(DecodeStateError::Malformed { offset: body.offset() }) }
}

fn malformed(error: Malformed) -> DecodeStateError {
    DecodeStateError::Malformed { offset: error.offset }
}

/// Lends an empty state that keeps its allocations from one call to the next: merging an encoded part
/// would otherwise spend most of its time on them. One per thread and type, dropped when it grew beyond
/// [`SCRATCH_BYTES_MAX`].
fn with_scratch<T>(tab_type: TabType, use_it: impl FnOnce(&mut AnyState) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<Vec<AnyState>> = const { RefCell::new(Vec::new()) };
    }
    let kept = SCRATCH.with_borrow_mut(|kept| {
        let place = kept.iter().position(|any| any.tab_type() == tab_type)?;
        Some(kept.swap_remove(place))
    });
    let mut scratch = kept.unwrap_or_else(|| AnyState::new(tab_type));
    let result = use_it(&mut scratch);
    scratch.get_mut().clear();
    if scratch.get().heap_bytes() <= SCRATCH_BYTES_MAX {
        SCRATCH.with_borrow_mut(|kept| kept.push(scratch));
    }
    result
}

/// A full CounterGroup is about 100 kB; a type's scratch may keep ten times that.
const SCRATCH_BYTES_MAX: usize = 1 << 20;
