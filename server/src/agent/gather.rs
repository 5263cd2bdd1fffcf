//! Gathers what posts bring within a flush period into few, compact batches.
//!
//! Each post becomes a *block*: bytes that say all it adds, so that the spool can keep the block and
//! gather it again after a restart. What blocks hold depends on what the servers speak: parts
//! ([`states`]) or event lines ([`lines`]).

pub mod lines;
pub mod states;

use taba_core::{BadCounts, BatchId, Timestamp};

use super::config::ServerProtocol;

/// Bytes, before compression, at which a batch is sealed and the next begun. A server takes 64 MiB of
/// parts per batch; small batches keep retries cheap.
pub const BATCH_BYTES: usize = 4 << 20;

/// What one post adds.
#[derive(Clone, Debug, Default)]
pub struct Contribution {
    /// The bytes to gather.
    pub block: Vec<u8>,
    /// Events in them.
    pub events: u64,
    /// Events of the post that were not counted.
    pub bad: BadCounts,
}

/// A batch about to be handed to the delivery.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Its id, where the protocol has ids.
    pub id: Option<BatchId>,
    /// Its body.
    pub body: Vec<u8>,
    /// Events inside.
    pub events: u64,
}

/// A block that could not be gathered whole; only a defect or a damaged spool can bring one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("block cannot be gathered whole")]
pub struct BadBlock {
    /// Events left out, as far as the block can be read; at least one.
    pub events: u64,
}

impl BadBlock {
    /// The block ends where it cannot be read, and nobody knows how many events followed.
    const UNREADABLE: Self = Self { events: 1 };
}

/// Blocks gathered since the last seal.
#[derive(Debug)]
pub enum Gather {
    /// For servers that take partial states.
    States(states::StateGather),
    /// For the first Taba's servers.
    Lines(lines::LineGather),
}

impl Gather {
    /// Nothing gathered yet.
    #[must_use]
    pub fn new(protocol: ServerProtocol) -> Self {
        match protocol {
            ServerProtocol::V2 => Self::States(states::StateGather::default()),
            ServerProtocol::V1 => Self::Lines(lines::LineGather::default()),
        }
    }

    /// Adds a block.
    ///
    /// # Errors
    /// [`BadBlock`]; all that could be gathered is.
    pub fn add(&mut self, block: &[u8], now: Timestamp) -> Result<(), BadBlock> {
        match self {
            Self::States(states) => states.add(block, now),
            Self::Lines(lines) => lines.add(block),
        }
    }

    /// Memory held, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::States(states) => states.bytes(),
            Self::Lines(lines) => lines.bytes(),
        }
    }

    /// Events gathered.
    #[must_use]
    pub fn events(&self) -> u64 {
        match self {
            Self::States(states) => states.events(),
            Self::Lines(lines) => lines.events(),
        }
    }

    /// Seals everything into batches; `next_id` names each one that has an id.
    pub fn seal(self, now: Timestamp, next_id: impl FnMut() -> BatchId) -> Vec<Sealed> {
        match self {
            Self::States(states) => states.seal(now, next_id),
            Self::Lines(lines) => lines.seal(),
        }
    }
}
