//! Gathers partial states: posts of one client to one tab merge into one state per flush period.

use std::collections::HashMap;
use std::fmt::Write as _;

use taba_core::wire::v2::BatchWriter;
use taba_core::{BatchId, Part, State, Timestamp, part};

use super::{BATCH_BYTES, BadBlock, Sealed};

/// Memory of an entry besides its key and its state: map slot, boxes, counters.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// States by (client, tab, type). Two types of one tab are kept apart; the server decides between them.
#[derive(Debug, Default)]
pub struct StateGather {
    /// `client LF tab LF type`; no name holds a line feed.
    entries: HashMap<Box<str>, Entry>,
    key: String,
    bytes: usize,
    events: u64,
}

#[derive(Debug)]
struct Entry {
    events: u64,
    held: Held,
}

/// Most pairs are posted once per period, so a state is only decoded when a second one comes.
#[derive(Debug)]
enum Held {
    Encoded(Box<[u8]>),
    Merged(Box<State>),
}

impl StateGather {
    /// See [`super::Gather::add`].
    pub fn add(&mut self, block: &[u8], now: Timestamp) -> Result<(), BadBlock> {
        for part in part::iter(block) {
            let Part::State { tab, client, events, state } = part.map_err(|_| BadBlock)? else {
                return Err(BadBlock);
            };
            self.add_state(tab, client, events, state, now)?;
        }
        Ok(())
    }

    fn add_state(
        &mut self,
        tab: &str,
        client: &str,
        events: u64,
        state: &[u8],
        now: Timestamp,
    ) -> Result<(), BadBlock> {
        let tab_type = State::peek_type(state).map_err(|_| BadBlock)?;
        self.key.clear();
        write!(self.key, "{client}\n{tab}\n{}", tab_type as u8).expect("writing to a string never fails");
        match self.entries.get_mut(self.key.as_str()) {
            Some(entry) => {
                let before = entry.held.bytes();
                entry.held.merge(state, now)?;
                entry.events += events;
                self.bytes = self.bytes - before + entry.held.bytes();
            }
            None => {
                let held = Held::Encoded(state.into());
                self.bytes += self.key.len() + held.bytes() + ENTRY_OVERHEAD_BYTES;
                self.entries.insert(self.key.as_str().into(), Entry { events, held });
            }
        }
        self.events += events;
        Ok(())
    }

    /// See [`super::Gather::bytes`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// See [`super::Gather::events`].
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// See [`super::Gather::seal`].
    pub fn seal(self, now: Timestamp, mut next_id: impl FnMut() -> BatchId) -> Vec<Sealed> {
        let mut sealed = Vec::new();
        let mut finish = |writer: BatchWriter, events: u64| {
            let id = next_id();
            let body = writer.finish(&id, now);
            sealed.push(Sealed { id: Some(id), body, events });
        };
        let (mut writer, mut events, mut scratch) = (BatchWriter::new(), 0, Vec::new());
        for (key, entry) in &self.entries {
            let mut names = key.split('\n');
            let (client, tab) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
            let state = entry.held.encoded(&mut scratch);
            writer.push(&Part::State { tab, client, events: entry.events, state });
            events += entry.events;
            if writer.bytes() >= BATCH_BYTES {
                finish(std::mem::take(&mut writer), std::mem::take(&mut events));
            }
        }
        if !writer.is_empty() {
            finish(writer, events);
        }
        sealed
    }
}

impl Held {
    fn merge(&mut self, state: &[u8], now: Timestamp) -> Result<(), BadBlock> {
        if let Self::Encoded(bytes) = self {
            *self = Self::Merged(Box::new(State::decode(bytes).map_err(|_| BadBlock)?));
        }
        let Self::Merged(merged) = self else { return Err(BadBlock) };
        merged.merge_encoded(state, now).map_err(|_| BadBlock)
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Encoded(bytes) => bytes.len(),
            Self::Merged(state) => state.heap_bytes(),
        }
    }

    fn encoded<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        match self {
            Self::Encoded(bytes) => bytes,
            Self::Merged(state) => {
                scratch.clear();
                state.encode(scratch);
                scratch
            }
        }
    }
}
