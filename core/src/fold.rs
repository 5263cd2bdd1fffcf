//! Folds a v1 body into parts while it streams in.
//!
//! Each block of a (client, tab) becomes one part per tab type that occurs in it: a block is folded
//! into a scratch state, encoded, and forgotten. So memory is the parts, plus a few fixed buffers,
//! whatever the size of the body. What the parts hold depends on the body, the limits, `now` and the
//! vbucket count only, never on how the body was cut into pieces: a retried batch must fold alike.

mod bundle;
mod collect;

use std::time::Duration;

use crate::bad::{BadCounts, BadReason};
use crate::part::Parts;
use crate::time::Timestamp;
use crate::vbucket::VbucketCount;
use crate::wire::v1::{FramingError, Walker};
use collect::Collector;

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
    Framing(#[from] FramingError),
    /// It folds into more bytes than [`FoldLimits::parts_bytes_max`].
    #[error("body folds into more than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
}

/// Decodes and folds one v1 body, fed in pieces cut anywhere.
pub struct Folder {
    walker: Walker,
    collector: Collector,
}

impl Folder {
    /// A folder for one body received at `now`.
    #[must_use]
    pub fn new(vbuckets: VbucketCount, limits: FoldLimits, now: Timestamp) -> Self {
        Self { walker: Walker::new(limits.line_bytes_max), collector: Collector::new(vbuckets, &limits, now) }
    }

    /// Takes the next bytes of the body.
    ///
    /// # Errors
    /// [`FoldError`]: the body is to be refused as a whole.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), FoldError> {
        self.walker.feed(bytes, &mut self.collector)
    }

    /// Ends the body.
    ///
    /// # Errors
    /// [`FoldError`]: the body is to be refused as a whole.
    pub fn finish(mut self) -> Result<Folded, FoldError> {
        self.walker.finish(&mut self.collector)?;
        Ok(self.collector.into_folded())
    }
}

#[cfg(test)]
mod tests;
