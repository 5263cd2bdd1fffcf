//! The tab types, one file each, behind one trait and one registry line.
//!
//! A new type is a module with a struct that implements [`TabState`] and a line in `registry!` below,
//! with a number that was never used before: it is part of the stored bytes.

mod buffer;
mod counter_group;
mod gauge;
mod number;
mod percentile_counter;
mod percentile_group;
mod python;
mod ring;
mod totals_counter;
mod window;

use crate::bad::BadReason;
use crate::state::{Event, Format, WindowSummary};
use crate::time::Timestamp;
use crate::wire::bytes::{Malformed, Reader};

/// How far ahead of `now` a state may hold anything, in seconds. Callers refuse events beyond their own
/// tolerance, which is far less (5 minutes unless configured); this only bounds what a hostile state or a
/// broken clock can make a server keep: one more hour of the finest buckets, 3,600 of 24 bytes.
pub(crate) const AHEAD_SECS_MAX: i64 = 3600;

/// How long all-time states are kept without an event, in seconds: 90 days, so that names nobody uses
/// any more do not pile up for ever.
pub(crate) const IDLE_SECS_MAX: i64 = 90 * 86_400;

/// What a tab type does. [`crate::state::State`] documents the laws and what each operation means; here
/// is only what differs.
pub(crate) trait TabState {
    fn clear(&mut self);
    fn fold(&mut self, client: &str, event: &Event<'_>, now: Timestamp) -> Result<(), BadReason>;
    /// Only called for types that take numbers.
    fn fold_numbers(&mut self, _secs: &[i64], _values: &[f64], _now: Timestamp) {}
    fn merge(&mut self, other: &Self, now: Timestamp)
    where
        Self: Sized;
    /// Puts what waits to be put in order in order; changes no meaning.
    fn settle(&mut self) {}
    /// Appends the body: what lies between the header and the checksum.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads a body into this state, which is empty. After an error its content means nothing.
    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed>;
    fn render(&self, now: Timestamp, format: Format, out: &mut String);
    fn windows(&self, _now: Timestamp) -> Vec<WindowSummary> {
        Vec::new()
    }
    fn expire(&mut self, now: Timestamp);
    fn drop_after(&mut self, limit: Timestamp) -> u64;
    fn prunable(&self, now: Timestamp) -> bool;
    fn heap_bytes(&self) -> usize;
}

/// Makes [`TabType`], and [`AnyState`] with one variant per type, from one line per type.
macro_rules! registry {
    ($($number:literal $name:ident($state:path) $payload:ident,)+) => {
        /// A tab type by its name on the wire. The number is part of the stored bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "the names are the documentation; see the type's own module")]
        pub enum TabType {
            $($name = $number,)+
        }

        impl TabType {
            /// Every type, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The type with this name, or `None`.
            #[must_use]
            pub fn parse(name: &[u8]) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str().as_bytes() == name)
            }

            /// The name of the type on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// The type with this number in stored bytes, or `None`.
            pub(crate) fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// Whether values are plain numbers, so that [`crate::State::fold_numbers`] may be used.
            #[must_use]
            pub const fn takes_numbers(self) -> bool {
                match self {
                    $(Self::$name => matches!(PayloadKind::$payload, PayloadKind::Numbers),)+
                }
            }
        }

        /// The state of some type.
        #[derive(Clone, Debug)]
        pub(crate) enum AnyState {
            $($name($state),)+
        }

        impl AnyState {
            pub(crate) fn new(tab_type: TabType) -> Self {
                match tab_type {
                    $(TabType::$name => Self::$name(<$state>::default()),)+
                }
            }

            pub(crate) fn tab_type(&self) -> TabType {
                match self {
                    $(Self::$name(_) => TabType::$name,)+
                }
            }

            pub(crate) fn get(&self) -> &dyn TabState {
                match self {
                    $(Self::$name(state) => state,)+
                }
            }

            pub(crate) fn get_mut(&mut self) -> &mut dyn TabState {
                match self {
                    $(Self::$name(state) => state,)+
                }
            }

            /// Merges if both are of one type, and says whether they are.
            pub(crate) fn merge(&mut self, other: &Self, now: Timestamp) -> bool {
                match (self, other) {
                    $((Self::$name(mine), Self::$name(theirs)) => mine.merge(theirs, now),)+
                    _ => return false,
                }
                true
            }
        }
    };
}

/// What the events of a type carry.
enum PayloadKind {
    /// A number, which may travel through [`crate::State::fold_numbers`].
    Numbers,
    /// JSON.
    Json,
}

registry! {
    1 CounterGroup(counter_group::CounterGroup) Numbers,
    2 PercentileGroup(percentile_group::PercentileGroup) Numbers,
    3 Gauge(gauge::Gauge) Json,
    4 ExpiryGauge(gauge::ExpiryGauge) Json,
    5 Buffer(buffer::Buffer) Json,
    6 TotalsCounter(totals_counter::TotalsCounter) Numbers,
    7 PercentileCounter(percentile_counter::PercentileCounter) Numbers,
}
