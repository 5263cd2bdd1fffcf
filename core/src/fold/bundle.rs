//! The block under way: the scratch states of one (client, tab), one per tab type that occurred.
//!
//! States and columns are emptied and used again, so a block costs no allocation once the widest one
//! has been seen.

use crate::bad::BadReason;
use crate::part::{Part, Parts};
use crate::state::{Event, State, TabType};
use crate::time::Timestamp;

/// Plain numbers collected before they are folded together: 2 × 8 kB, which the first-level cache holds.
const COLUMN_EVENTS: usize = 1024;

/// Names a type within a [`Bundle`]; valid for the bundle's whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(usize);

struct Tally {
    state: State,
    events: u64,
}

/// Seconds and values of plain numbers not folded yet, all of one type.
struct Columns {
    slot: Slot,
    len: usize,
    secs: [i64; COLUMN_EVENTS],
    values: [f64; COLUMN_EVENTS],
}

pub(super) struct Bundle {
    now: Timestamp,
    client: String,
    tab: String,
    /// In the order in which the types first occurred in the body; at most one per tab type.
    tallies: Vec<Tally>,
    columns: Box<Columns>,
    encoded: Vec<u8>,
}

impl Bundle {
    pub(super) fn new(now: Timestamp) -> Self {
        let columns =
            Columns { slot: Slot(0), len: 0, secs: [0; COLUMN_EVENTS], values: [0.0; COLUMN_EVENTS] };
        let (client, tab) = (String::new(), String::new());
        Self { now, client, tab, tallies: Vec::new(), columns: Box::new(columns), encoded: Vec::new() }
    }

    /// Begins a block. The one before was pushed.
    pub(super) fn begin(&mut self, client: &str, tab: &str) {
        self.client.clear();
        self.client.push_str(client);
        self.tab.clear();
        self.tab.push_str(tab);
    }

    /// The slot of a type.
    pub(super) fn slot(&mut self, tab_type: TabType) -> Slot {
        let known = self.tallies.iter().position(|tally| tally.state.tab_type() == tab_type);
        Slot(known.unwrap_or_else(|| {
            self.tallies.push(Tally { state: State::new(tab_type), events: 0 });
            self.tallies.len() - 1
        }))
    }

    /// Folds a finite number in.
    pub(super) fn number(&mut self, slot: Slot, secs: i64, value: f64) {
        if self.columns.slot != slot {
            self.fold_columns();
            self.columns.slot = slot;
        }
        let at = self.columns.len;
        self.columns.secs[at] = secs;
        self.columns.values[at] = value;
        self.columns.len += 1;
        self.fold_full_columns();
    }

    /// Lets `read` fill the columns with numbers of a type until it leaves room. Does nothing unless the
    /// number before was of that type too: switching is left to [`Bundle::number`], so that when columns
    /// are folded depends on the events alone.
    #[inline]
    pub(super) fn numbers(&mut self, slot: Slot, mut read: impl FnMut(&mut [i64], &mut [f64]) -> usize) {
        while self.columns.slot == slot {
            let columns = &mut *self.columns;
            let len = columns.len;
            columns.len += read(&mut columns.secs[len..], &mut columns.values[len..]);
            if columns.len < COLUMN_EVENTS {
                return;
            }
            self.fold_columns();
        }
    }

    /// Columns always have room.
    fn fold_full_columns(&mut self) {
        if self.columns.len == COLUMN_EVENTS {
            self.fold_columns();
        }
    }

    /// Folds any event in.
    pub(super) fn event(&mut self, slot: Slot, event: &Event<'_>) -> Result<(), BadReason> {
        let tally = &mut self.tallies[slot.0];
        tally.state.fold(&self.client, event, self.now)?;
        tally.events += 1;
        Ok(())
    }

    /// Ends the block: adds its parts and empties the scratch states. Gives back how many events the
    /// parts hold.
    pub(super) fn push_parts(&mut self, parts: &mut Parts) -> u64 {
        self.fold_columns();
        let mut events = 0;
        for tally in self.tallies.iter_mut().filter(|tally| tally.events > 0) {
            self.encoded.clear();
            tally.state.encode(&mut self.encoded);
            parts.push(&Part::State {
                tab: &self.tab,
                client: &self.client,
                events: tally.events,
                state: &self.encoded,
            });
            tally.state.clear();
            events += std::mem::take(&mut tally.events);
        }
        events
    }

    fn fold_columns(&mut self) {
        let len = std::mem::take(&mut self.columns.len);
        if len > 0 {
            let tally = &mut self.tallies[self.columns.slot.0];
            tally.state.fold_numbers(&self.columns.secs[..len], &self.columns.values[..len], self.now);
            tally.events += len as u64;
        }
    }
}
