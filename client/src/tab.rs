//! One tab while a flush period runs: its partial state and the numbers not folded into it yet.
//!
//! Numbers are gathered and folded many at once, which is several times cheaper than one by one. A
//! tab's lock is held for a push of two numbers, or every [`PENDING_MAX`]th time for one fold.

use std::panic::{AssertUnwindSafe, catch_unwind};

use parking_lot::Mutex;
use taba_core::{BadReason, Event, Payload, State, TabType, Timestamp};

/// Numbers gathered before they are folded. 128 × 16 bytes = 2 kB per tab in use.
const PENDING_MAX: usize = 128;

/// Most bytes one tab's state may hold between two flushes; only a Buffer can get near.
const TAB_BYTES_MAX: usize = 1 << 20;

/// Memory of a tab besides what its state holds: the struct, its place in the map, its lock.
const TAB_OVERHEAD_BYTES: usize = 256;

/// Why an event was not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotRecorded {
    /// The value does not fit the type.
    Bad,
    /// A bound was reached.
    Full,
    /// A defect of this library; the tab's events of this period are lost and counted.
    Broken { events: u64 },
}

pub(crate) struct Tab {
    name: Box<str>,
    tab_type: TabType,
    cell: Mutex<Cell>,
}

struct Cell {
    state: State,
    events: u64,
    secs: Vec<i64>,
    values: Vec<f64>,
    /// Memory counted for this tab so far.
    bytes: usize,
    /// Flushes since the last event.
    idle: u32,
}

impl Tab {
    pub fn new(name: &str, tab_type: TabType) -> Self {
        let cell = Cell {
            state: State::new(tab_type),
            events: 0,
            secs: Vec::new(),
            values: Vec::new(),
            bytes: 0,
            idle: 0,
        };
        Self { name: name.into(), tab_type, cell: Mutex::new(cell) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn tab_type(&self) -> TabType {
        self.tab_type
    }

    /// Records a number. Returns by how many bytes the tab grew or shrank.
    pub fn record_number(&self, value: f64, now: Timestamp) -> Result<isize, NotRecorded> {
        if !value.is_finite() {
            return Err(NotRecorded::Bad);
        }
        self.guarded(|cell| {
            cell.secs.push(now.as_secs());
            cell.values.push(value);
            cell.events += 1;
            if cell.values.len() < PENDING_MAX && cell.bytes > 0 {
                return Ok(0);
            }
            cell.fold_pending(now);
            Ok(cell.measure(self.name.len()))
        })
    }

    /// Records a JSON payload. Returns by how many bytes the tab grew or shrank.
    pub fn record_json(&self, client: &str, payload: &str, now: Timestamp) -> Result<isize, NotRecorded> {
        self.guarded(|cell| {
            if cell.bytes + payload.len() > TAB_BYTES_MAX {
                return Err(NotRecorded::Full);
            }
            let ordinal = u32::try_from(cell.events).unwrap_or(u32::MAX);
            let event = Event { time: now, ordinal, payload: Payload::Json(payload) };
            cell.state.fold(client, &event, now).map_err(|_: BadReason| NotRecorded::Bad)?;
            cell.events += 1;
            Ok(cell.measure(self.name.len()))
        })
    }

    /// Gives away what was recorded since the last time: writes the encoded state into `out` and returns
    /// its events, 0 if there are none; and by how many bytes the tab shrank.
    pub fn take(&self, now: Timestamp, out: &mut Vec<u8>) -> (u64, isize) {
        let taken = self.guarded(|cell| {
            if cell.events == 0 {
                cell.idle = cell.idle.saturating_add(1);
                return Ok((0, 0));
            }
            cell.idle = 0;
            cell.fold_pending(now);
            cell.state.encode(out);
            cell.state.clear();
            let events = std::mem::take(&mut cell.events);
            Ok((events, cell.measure(self.name.len())))
        });
        taken.unwrap_or((0, 0))
    }

    /// Flushes since the last event, and the bytes to give back if the tab is forgotten.
    pub fn idle(&self) -> (u32, usize) {
        let cell = self.cell.lock();
        (cell.idle, cell.bytes)
    }

    /// Runs `change`; a panic inside must never reach the program that is being measured.
    fn guarded<T>(&self, change: impl FnOnce(&mut Cell) -> Result<T, NotRecorded>) -> Result<T, NotRecorded> {
        let mut cell = self.cell.lock();
        catch_unwind(AssertUnwindSafe(|| change(&mut cell))).unwrap_or_else(|_| {
            let events = std::mem::take(&mut cell.events);
            cell.state = State::new(self.tab_type);
            cell.secs.clear();
            cell.values.clear();
            Err(NotRecorded::Broken { events })
        })
    }
}

impl Cell {
    fn fold_pending(&mut self, now: Timestamp) {
        if !self.values.is_empty() {
            self.state.fold_numbers(&self.secs, &self.values, now);
            self.secs.clear();
            self.values.clear();
        }
    }

    fn measure(&mut self, name_bytes: usize) -> isize {
        let pending = self.secs.capacity() * size_of::<i64>() + self.values.capacity() * size_of::<f64>();
        let bytes = TAB_OVERHEAD_BYTES + 2 * name_bytes + pending + self.state.heap_bytes();
        // Both are far below isize::MAX: they count memory that exists.
        let change = bytes as isize - self.bytes as isize;
        self.bytes = bytes;
        change
    }
}
