//! Wire format v2: batches of partial states, zstd-compressed.

use crate::batch::BatchId;
use crate::part::Part;
use crate::time::Timestamp;

/// Content type of a v2 batch.
pub const CONTENT_TYPE: &str = "application/vnd.taba.batch-v2";

/// Builds one v2 batch.
pub struct BatchWriter {
    block: Vec<u8>,
}

impl Default for BatchWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchWriter {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self { block: Vec::new() }
    }

    /// Adds a part.
    pub fn push(&mut self, part: &Part<'_>) {
        part.encode(&mut self.block);
    }

    /// Adds a block of parts as they are written by [`Part::encode`].
    pub fn push_block(&mut self, block: &[u8]) {
        self.block.extend_from_slice(block);
    }

    /// Bytes of the parts so far, before compression.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.block.len()
    }

    /// Whether no part was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// The finished batch under its id.
    #[must_use]
    pub fn finish(self, _id: &BatchId, _created: Timestamp) -> Vec<u8> {
        todo!()
    }
}
