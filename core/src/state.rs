//! States: one bounded summary per (tab, client), of one of the registered tab types.
//!
//! Laws, at one fixed `now`, for every type: `fold(a ++ b) = merge(fold a, fold b)`; `merge` is
//! associative and commutative, and the new state is its identity. Counts are exact; float sums agree
//! up to rounding. States are not idempotent under `merge`: whoever merges must not merge a part twice.
//!
//! Bytes: `version:u8 type:u8 body checksum:u32le` with the CRC-32C of all bytes before it.

use crate::bad::BadReason;
use crate::time::Timestamp;

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
    /// A finite number.
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

/// A tab type by its name on the wire. The number is part of the stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the documentation; see the type's own module")]
pub enum TabType {
    CounterGroup = 1,
    PercentileGroup = 2,
    Gauge = 3,
    ExpiryGauge = 4,
    Buffer = 5,
    TotalsCounter = 6,
    PercentileCounter = 7,
}

/// A state of any type.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    tab_type: TabType,
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
    pub sketch: Option<crate::sketch::Sketch>,
}

impl TabType {
    /// The type with this name, or `None`.
    #[must_use]
    pub fn parse(_name: &[u8]) -> Option<Self> {
        todo!()
    }

    /// The name of the type on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        todo!()
    }

    /// Whether values are plain numbers, so that [`State::fold_numbers`] may be used.
    #[must_use]
    pub const fn takes_numbers(self) -> bool {
        todo!()
    }
}

impl State {
    /// The empty state of a type: the identity of `merge`.
    #[must_use]
    pub fn new(tab_type: TabType) -> Self {
        Self { tab_type }
    }

    /// The type of the state.
    #[must_use]
    pub fn tab_type(&self) -> TabType {
        self.tab_type
    }

    /// Empties the state, keeping its allocations.
    pub fn clear(&mut self) {
        todo!()
    }

    /// Folds one event in. The caller has refused events from the future beyond the tolerance.
    ///
    /// # Errors
    /// [`BadReason::BadPayload`] or [`BadReason::Nan`] if the payload does not fit the type; the state
    /// is unchanged then.
    pub fn fold(&mut self, _client: &str, _event: &Event<'_>, _now: Timestamp) -> Result<(), BadReason> {
        todo!()
    }

    /// Folds many plain numbers in: `values[i]` (finite) happened in the whole second `secs[i]`. The
    /// fast path of types that [take numbers](TabType::takes_numbers); equal to folding them one by one.
    pub fn fold_numbers(&mut self, _secs: &[i64], _values: &[f64], _now: Timestamp) {
        todo!()
    }

    /// Joins another state of the same type in.
    ///
    /// # Errors
    /// [`DecodeStateError::TypeMismatch`]; the state is unchanged then.
    pub fn merge(&mut self, _other: &Self, _now: Timestamp) -> Result<(), DecodeStateError> {
        todo!()
    }

    /// Joins an encoded state of the same type in, without building it first where the type can.
    ///
    /// # Errors
    /// [`DecodeStateError`]; the state is unchanged then.
    pub fn merge_encoded(&mut self, _bytes: &[u8], _now: Timestamp) -> Result<(), DecodeStateError> {
        todo!()
    }

    /// The type of an encoded state, from its header alone.
    ///
    /// # Errors
    /// [`DecodeStateError`] if the header is not one.
    pub fn peek_type(_bytes: &[u8]) -> Result<TabType, DecodeStateError> {
        todo!()
    }

    /// Appends the encoded state.
    pub fn encode(&self, _out: &mut Vec<u8>) {
        todo!()
    }

    /// Reads an encoded state. Never panics; allocates no more than the input justifies.
    ///
    /// # Errors
    /// [`DecodeStateError`].
    pub fn decode(_bytes: &[u8]) -> Result<Self, DecodeStateError> {
        todo!()
    }

    /// Appends the aggregate as the first Taba wrote it, seen at `now`.
    pub fn render(&self, _now: Timestamp, _format: Format, _out: &mut String) {
        todo!()
    }

    /// The windows of a numeric type seen at `now`, for the v2 query; empty for the others.
    #[must_use]
    pub fn windows(&self, _now: Timestamp) -> Vec<WindowSummary> {
        todo!()
    }

    /// Drops what no window can show any more at `now`.
    pub fn expire(&mut self, _now: Timestamp) {
        todo!()
    }

    /// Drops what lies after `limit` and says how many events (or entries) that were. For states from
    /// outside, whose writer may not have checked.
    pub fn drop_after(&mut self, _limit: Timestamp) -> u64 {
        todo!()
    }

    /// Whether nothing in the state can ever be shown at or after `now`.
    #[must_use]
    pub fn prunable(&self, _now: Timestamp) -> bool {
        todo!()
    }

    /// Roughly how much memory the state holds, in bytes; for cache bounds.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        todo!()
    }
}
impl State {
    /// Whether encoded bytes are of the version that this program writes.
    #[must_use]
    pub fn is_current(_bytes: &[u8]) -> bool {
        todo!()
    }
}
