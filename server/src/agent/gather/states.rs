//! Gathers partial states: posts of one client to one tab merge into one state per flush period.

use std::collections::HashMap;
use std::fmt::Write as _;

use taba_core::wire::v2::BatchWriter;
use taba_core::{BatchId, DecodeStateError, Part, State, Timestamp, part};

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
        let mut left_out = 0;
        for part in part::iter(block) {
            let Ok(Part::State { tab, client, events, state }) = part else {
                return Err(BadBlock { events: left_out + BadBlock::UNREADABLE.events });
            };
            if self.add_state(tab, client, events, state, now).is_err() {
                left_out += events;
            }
        }
        if left_out > 0 { Err(BadBlock { events: left_out }) } else { Ok(()) }
    }

    fn add_state(
        &mut self,
        tab: &str,
        client: &str,
        events: u64,
        state: &[u8],
        now: Timestamp,
    ) -> Result<(), DecodeStateError> {
        let tab_type = State::peek_type(state)?;
        self.key.clear();
        write!(self.key, "{client}\n{tab}\n{}", tab_type as u8).expect("writing to a string never fails");
        match self.entries.get_mut(self.key.as_str()) {
            Some(entry) => {
                let before = entry.held.bytes();
                let merged = entry.held.merge(state, now);
                self.bytes = self.bytes - before + entry.held.bytes();
                merged?;
                entry.events += events;
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
    fn merge(&mut self, state: &[u8], now: Timestamp) -> Result<(), DecodeStateError> {
        match self {
            Self::Merged(merged) => merged.merge_encoded(state, now),
            Self::Encoded(bytes) => {
                let mut merged = Box::new(State::decode(bytes)?);
                merged.merge_encoded(state, now)?;
                *self = Self::Merged(merged);
                Ok(())
            }
        }
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

#[cfg(test)]
mod tests {
    use taba_core::VbucketCount;
    use taba_core::fold::{FoldLimits, Folder};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    /// The state of three events of a tab.
    fn state() -> Vec<u8> {
        let limits = FoldLimits {
            future_tolerance: std::time::Duration::ZERO,
            line_bytes_max: 1 << 10,
            parts_bytes_max: 1 << 20,
        };
        let mut folder = Folder::new(VbucketCount::new(1).expect("a count"), limits, NOW);
        let lines = "[\"CounterGroup\", 1, \"1\"]\n".repeat(3);
        folder.feed(format!("1\n\nc\n\nt\n{lines}\n\n").as_bytes()).expect("good framing");
        let (_, block) = folder.finish().expect("good framing").parts.into_blocks().next().expect("a block");
        match part::iter(&block).next().expect("a part").expect("a good part") {
            Part::State { state, .. } => state.to_vec(),
            Part::Delete { .. } => panic!("nothing is deleted"),
        }
    }

    fn block(states: &[(&str, u64, &[u8])]) -> Vec<u8> {
        let mut block = Vec::new();
        for (tab, events, state) in states {
            Part::State { tab, client: "c", events: *events, state }.encode(&mut block);
        }
        block
    }

    #[test]
    fn a_state_that_cannot_be_merged_is_counted_and_its_neighbours_are_gathered() {
        let good = state();
        let cut = &good[..good.len() - 1];
        let mut gather = StateGather::default();
        gather.add(&block(&[("a", 3, &good)]), NOW).expect("a good block");
        let bytes = gather.bytes();
        let bad = gather.add(&block(&[("a", 5, cut), ("b", 3, &good)]), NOW);
        assert_eq!(bad, Err(BadBlock { events: 5 }));
        assert_eq!((gather.events(), gather.bytes()), (6, 2 * bytes));
        gather.add(&block(&[("a", 3, &good)]), NOW).expect("the tab takes further states");
        assert_eq!(gather.events(), 9);
    }

    #[test]
    fn a_block_that_cannot_be_read_to_its_end_is_counted() {
        let whole = block(&[("a", 3, &state()), ("b", 3, &state())]);
        let mut gather = StateGather::default();
        assert_eq!(gather.add(&whole[..whole.len() - 1], NOW), Err(BadBlock::UNREADABLE));
        assert_eq!(gather.events(), 3);
    }
}
