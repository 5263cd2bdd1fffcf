//! Folds a v1 body into parts while it streams in.

use std::time::Duration;

use crate::bad::{BadCounts, BadReason};
use crate::part::Parts;
use crate::time::Timestamp;
use crate::vbucket::VbucketCount;
use crate::wire::v1::FramingError;

/// Limits of one body.
#[derive(Clone, Copy, Debug)]
pub struct FoldLimits {
    /// How far ahead of `now` an event may lie before it is bad.
    pub future_tolerance: Duration,
    /// Longest line, in bytes; a longer one is one bad event.
    pub line_bytes_max: usize,
    /// Most bytes of parts one body may fold into.
    pub parts_bytes_max: usize,
}

impl Default for FoldLimits {
    fn default() -> Self {
        Self {
            future_tolerance: Duration::from_secs(300),
            line_bytes_max: 1 << 20,
            parts_bytes_max: 64 << 20,
        }
    }
}

/// A bad event, kept as a sample for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSample {
    /// Why it was not counted.
    pub reason: BadReason,
    /// Byte offset of its line in the (inflated) body.
    pub offset: u64,
    /// The first bytes of its line, made printable.
    pub line: String,
}

/// What a body folded into.
#[derive(Clone, Debug)]
pub struct Folded {
    /// The partial states.
    pub parts: Parts,
    /// Events counted.
    pub events: u64,
    /// Events not counted, by reason.
    pub bad: BadCounts,
    /// The first few bad events.
    pub bad_samples: Vec<BadSample>,
}

/// Why a body cannot be folded at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// The framing is broken.
    #[error(transparent)]
    Framing(FramingError),
    /// It folds into more bytes than [`FoldLimits::parts_bytes_max`].
    #[error("body folds into more than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
}

/// Decodes and folds one v1 body, fed in pieces cut anywhere.
pub struct Folder {}

impl Folder {
    /// A folder for one body received at `now`.
    #[must_use]
    pub fn new(_vbuckets: VbucketCount, _limits: FoldLimits, _now: Timestamp) -> Self {
        todo!()
    }

    /// Takes the next bytes of the body.
    ///
    /// # Errors
    /// [`FoldError`]: the body is to be refused as a whole.
    pub fn feed(&mut self, _bytes: &[u8]) -> Result<(), FoldError> {
        todo!()
    }

    /// Ends the body.
    ///
    /// # Errors
    /// [`FoldError`]: the body is to be refused as a whole.
    pub fn finish(self) -> Result<Folded, FoldError> {
        todo!()
    }
}
