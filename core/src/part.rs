//! Parts: partial states on their way from a frontend to the owner of their vbucket.
//!
//! A part is (tab, client, events, encoded state). Parts of one vbucket are written one after another
//! into one block of bytes, which is what a queue entry holds:
//!
//! ```text
//! part = kind:u8 tab:prefixed  client:prefixed events:varint state:prefixed   (kind 0)
//!      | kind:u8 tab:prefixed                                                (kind 1, delete the tab)
//! ```
//!
//! A deletion travels through the same queue as the events, so it has one place in their order.

use crate::name::{self, BadName};
use crate::vbucket::{Vbucket, VbucketCount};
use crate::wire::bytes::{Malformed, Reader, put_prefixed, put_varint};

const KIND_STATE: u8 = 0;
const KIND_DELETE: u8 = 1;

/// The kind and four varints.
const HEAD_BYTES_MAX: usize = 1 + 4 * 10;

/// Most events one part may claim to hold. A part is at least 8 bytes, so a block of 64 MiB has at most
/// 2^23 of them, and the sum of what they claim stays below 2^64.
pub const EVENTS_MAX: u64 = 1 << 40;

/// One entry of a block of parts; borrows from the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A partial state of one (tab, client).
    State {
        /// The Tab Name.
        tab: &'a str,
        /// The Client ID.
        client: &'a str,
        /// How many events were folded into the state.
        events: u64,
        /// The encoded state, see [`crate::state::State::decode`]. Not checked here.
        state: &'a [u8],
    },
    /// Delete everything known of a tab up to here.
    Delete {
        /// The Tab Name.
        tab: &'a str,
    },
}

/// Why a block of parts cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPart {
    /// Cut off, or a length is wrong.
    #[error("malformed part")]
    Malformed(#[source] Malformed),
    /// The kind byte is none of ours.
    #[error("unknown part kind {0}")]
    Kind(u8),
    /// A name breaks the rules.
    #[error("bad name in a part")]
    Name(#[source] BadName),
    /// It claims to hold more than [`EVENTS_MAX`] events.
    #[error("a part claims {0} events, more than {EVENTS_MAX}")]
    Events(u64),
}

impl<'a> Part<'a> {
    /// Appends this part to a block.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Part::State { tab, client, events, state } => {
                // At once, because a block that grows field by field is moved several times.
                out.reserve(HEAD_BYTES_MAX + tab.len() + client.len() + state.len());
                out.push(KIND_STATE);
                put_prefixed(out, tab.as_bytes());
                put_prefixed(out, client.as_bytes());
                put_varint(out, events);
                put_prefixed(out, state);
            }
            Part::Delete { tab } => {
                out.push(KIND_DELETE);
                put_prefixed(out, tab.as_bytes());
            }
        }
    }

    /// Reads the next part of a block.
    ///
    /// # Errors
    /// [`BadPart`] if the bytes are not a part.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, BadPart> {
        let kind = reader.u8().map_err(BadPart::Malformed)?;
        match kind {
            KIND_STATE => Ok(Part::State {
                tab: read_name(reader)?,
                client: read_name(reader)?,
                events: read_events(reader)?,
                state: reader.prefixed().map_err(BadPart::Malformed)?,
            }),
            KIND_DELETE => Ok(Part::Delete { tab: read_name(reader)? }),
            other => Err(BadPart::Kind(other)),
        }
    }

    /// The tab the part is about.
    #[must_use]
    pub fn tab(&self) -> &'a str {
        match self {
            Part::State { tab, .. } | Part::Delete { tab } => tab,
        }
    }
}

fn read_name<'a>(reader: &mut Reader<'a>) -> Result<&'a str, BadPart> {
    let bytes = reader.prefixed().map_err(BadPart::Malformed)?;
    name::check(bytes).map_err(BadPart::Name)
}

fn read_events(reader: &mut Reader<'_>) -> Result<u64, BadPart> {
    let events = reader.varint().map_err(BadPart::Malformed)?;
    if events > EVENTS_MAX { Err(BadPart::Events(events)) } else { Ok(events) }
}

/// Reads a block of parts one by one; ends after the first error.
pub fn iter(block: &[u8]) -> impl Iterator<Item = Result<Part<'_>, BadPart>> {
    let mut reader = Reader::new(block);
    let mut broken = false;
    std::iter::from_fn(move || {
        if broken || reader.is_empty() {
            return None;
        }
        let part = Part::decode(&mut reader);
        broken = part.is_err();
        Some(part)
    })
}

/// The parts of one batch, one block per vbucket: what a store accepts atomically.
#[derive(Clone, Debug)]
pub struct Parts {
    vbuckets: VbucketCount,
    blocks: Vec<Vec<u8>>,
    bytes: usize,
}

impl Parts {
    /// No parts yet, for a cluster with this many vbuckets.
    #[must_use]
    pub fn new(vbuckets: VbucketCount) -> Self {
        Self { vbuckets, blocks: vec![Vec::new(); usize::from(vbuckets.get())], bytes: 0 }
    }

    /// Adds a part to the block of its tab's vbucket.
    pub fn push(&mut self, part: &Part<'_>) {
        let block = &mut self.blocks[usize::from(self.vbuckets.of(part.tab()).0)];
        let before = block.len();
        part.encode(block);
        self.bytes += block.len() - before;
    }

    /// Bytes of all blocks together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is no part.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The blocks that hold parts, in vbucket order.
    pub fn blocks(&self) -> impl Iterator<Item = (Vbucket, &[u8])> {
        self.blocks.iter().enumerate().filter(|(_, block)| !block.is_empty()).map(|(slot, block)| {
            let slot = u16::try_from(slot).expect("a vbucket count fits 16 bits");
            (Vbucket(slot), block.as_slice())
        })
    }

    /// As [`Parts::blocks`], but gives the blocks away.
    pub fn into_blocks(self) -> impl Iterator<Item = (Vbucket, Vec<u8>)> {
        let with_slot = self.vbuckets.iter().zip(self.blocks);
        with_slot.filter(|(_, block)| !block.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_survive_their_bytes_and_meet_in_their_vbucket() {
        let vbuckets = VbucketCount::new(4).expect("a valid count");
        let mut parts = Parts::new(vbuckets);
        let first = Part::State { tab: "a", client: "c", events: 3, state: b"xyz" };
        let second = Part::Delete { tab: "a" };
        parts.push(&first);
        parts.push(&second);
        let blocks: Vec<_> = parts.blocks().collect();
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0].0, vbuckets.of("a"));
        assert_eq!(iter(blocks[0].1).collect::<Vec<_>>(), [Ok(first), Ok(second)]);
    }

    #[test]
    fn a_part_that_claims_more_events_than_can_be_summed_is_refused() {
        let block = |events| {
            let mut block = Vec::new();
            Part::State { tab: "a", client: "c", events, state: b"" }.encode(&mut block);
            block
        };
        assert!(iter(&block(EVENTS_MAX)).all(|part| part.is_ok()));
        let claimed = EVENTS_MAX + 1;
        assert_eq!(iter(&block(claimed)).last(), Some(Err(BadPart::Events(claimed))));
    }

    #[test]
    fn reading_ends_after_the_first_error() {
        let read: Vec<_> = iter(&[9, 9, 9]).collect();
        assert_eq!(read, [Err(BadPart::Kind(9))]);
    }
}
