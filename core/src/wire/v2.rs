//! Wire format v2: one batch of partial states under an id.
//!
//! ```text
//! batch  = "TABA" version:u8=2 producer:prefixed sequence:varint created:zigzag(µs)
//!          parts_bytes:varint parts:zstd-frame checksum:u32le
//! ```
//!
//! `parts` inflates to `parts_bytes` bytes of parts as [`crate::part`] writes them; the checksum is the
//! CRC-32C of all bytes before it. `docs/wire.md` walks through an example byte by byte.

use std::io::Read;

use crate::bad::BadReason;
use crate::batch::{BatchId, ProducerId, SEQUENCE_MAX};
use crate::fold::{FoldLimits, Folded};
use crate::name::BadName;
use crate::part::{self, BadPart, Part, Parts};
use crate::state::{DecodeStateError, State};
use crate::time::Timestamp;
use crate::vbucket::VbucketCount;
use crate::wire::bytes::{Malformed, Reader, put_prefixed, put_varint, put_zigzag};

/// Content type of a v2 batch.
pub const CONTENT_TYPE: &str = "application/vnd.taba.batch-v2";

const MAGIC: &[u8; 4] = b"TABA";
const VERSION: u8 = 2;
const CHECKSUM_BYTES: usize = 4;
/// Fast and within a few percent of the default level's size on partial states.
const ZSTD_LEVEL: i32 = 1;
/// Largest zstd window accepted, as a power of two: bounds the decoder's memory at 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Why bytes are not a v2 batch. The batch is refused as a whole.
#[derive(Debug, thiserror::Error)]
pub enum BadBatch {
    /// It does not begin with `TABA`.
    #[error("not a batch: it does not begin with TABA")]
    Magic,
    /// Written by a version this program does not know.
    #[error("unknown batch version {0}")]
    Version(u8),
    /// The checksum does not match the bytes.
    #[error("batch checksum does not match")]
    Checksum,
    /// The header is cut off or a number makes no sense.
    #[error("malformed batch header")]
    Header(#[source] Malformed),
    /// The producer is not a valid name.
    #[error("bad producer id")]
    Producer(#[source] BadName),
    /// The sequence is higher than [`SEQUENCE_MAX`].
    #[error("sequence {0} is not below 2^53")]
    Sequence(u64),
    /// The parts do not inflate.
    #[error("parts do not inflate")]
    Inflate(#[source] std::io::Error),
    /// The parts are larger than the limit.
    #[error("parts of {bytes} bytes are larger than {max}")]
    TooLarge {
        /// What the header says.
        bytes: u64,
        /// The limit.
        max: usize,
    },
    /// The parts inflate to another length than the header says.
    #[error("parts inflate to another length than the header's {expected} bytes")]
    Length {
        /// What the header says.
        expected: u64,
    },
    /// A part cannot be read.
    #[error("bad part")]
    Part(#[source] BadPart),
    /// A deletion, which only servers may queue.
    #[error("a batch from outside must not delete tabs")]
    Delete,
    /// A state cannot be read.
    #[error("bad state")]
    State(#[source] DecodeStateError),
}

/// Builds one v2 batch.
#[derive(Debug, Default)]
pub struct BatchWriter {
    block: Vec<u8>,
}

impl BatchWriter {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
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
    pub fn finish(self, id: &BatchId, created: Timestamp) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.block.len() / 2);
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        put_prefixed(&mut out, id.producer.as_str().as_bytes());
        put_varint(&mut out, id.sequence);
        put_zigzag(&mut out, created.as_micros());
        put_varint(&mut out, self.block.len() as u64);
        let frame =
            zstd::bulk::compress(&self.block, ZSTD_LEVEL).expect("compressing into memory cannot fail");
        out.extend_from_slice(&frame);
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }
}

/// A received v2 batch: header read and checksum checked, parts still compressed.
#[derive(Debug)]
pub struct Batch<'a> {
    /// Its id.
    pub id: BatchId,
    /// When its producer sealed it, by the producer's clock.
    pub created: Timestamp,
    parts_bytes: u64,
    frame: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Reads the header and checks the checksum.
    ///
    /// # Errors
    /// [`BadBatch`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, BadBatch> {
        if !bytes.starts_with(MAGIC) {
            return Err(BadBatch::Magic);
        }
        let mut reader = Reader::new(&bytes[MAGIC.len()..]);
        let version = reader.u8().map_err(BadBatch::Header)?;
        if version != VERSION {
            return Err(BadBatch::Version(version));
        }
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(BadBatch::Checksum)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
            return Err(BadBatch::Checksum);
        }
        let producer = reader.prefixed().map_err(BadBatch::Header)?;
        let producer = ProducerId::new(&String::from_utf8_lossy(producer)).map_err(BadBatch::Producer)?;
        let sequence = reader.varint().map_err(BadBatch::Header)?;
        if sequence > SEQUENCE_MAX {
            return Err(BadBatch::Sequence(sequence));
        }
        let created = Timestamp::from_micros(reader.zigzag().map_err(BadBatch::Header)?);
        let parts_bytes = reader.varint().map_err(BadBatch::Header)?;
        let rest = reader.rest();
        // The header may have run into the checksum's bytes; then no frame is left.
        let frame_len = rest.len().checked_sub(CHECKSUM_BYTES).ok_or(BadBatch::Checksum)?;
        Ok(Self { id: BatchId { producer, sequence }, created, parts_bytes, frame: &rest[..frame_len] })
    }

    /// Bytes of the parts once inflated, as the header says; [`Batch::inflate`] holds it to that.
    #[must_use]
    pub fn parts_bytes(&self) -> u64 {
        self.parts_bytes
    }

    /// The block of parts, inflated. Memory grows with what is really there, not with what the header says.
    ///
    /// # Errors
    /// [`BadBatch`] if it does not inflate to the stated length or that is above `bytes_max`.
    pub fn inflate(&self, bytes_max: usize) -> Result<Vec<u8>, BadBatch> {
        if self.parts_bytes > bytes_max as u64 {
            return Err(BadBatch::TooLarge { bytes: self.parts_bytes, max: bytes_max });
        }
        let mut decoder =
            zstd::stream::read::Decoder::with_buffer(self.frame).map_err(BadBatch::Inflate)?.single_frame();
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(BadBatch::Inflate)?;
        let mut block = Vec::new();
        decoder.by_ref().take(self.parts_bytes + 1).read_to_end(&mut block).map_err(BadBatch::Inflate)?;
        let all_read = decoder.finish().is_empty();
        if block.len() as u64 != self.parts_bytes || !all_read {
            return Err(BadBatch::Length { expected: self.parts_bytes });
        }
        Ok(block)
    }

    /// The parts, checked and grouped by vbucket. States of unknown types and events from beyond the
    /// future tolerance are counted and left out; their neighbours are kept.
    ///
    /// # Errors
    /// [`BadBatch`]: nothing of the batch may be stored.
    pub fn parts(
        &self,
        vbuckets: VbucketCount,
        limits: &FoldLimits,
        now: Timestamp,
    ) -> Result<Folded, BadBatch> {
        let block = self.inflate(limits.parts_bytes_max)?;
        let mut folded = Folded {
            parts: Parts::new(vbuckets),
            events: 0,
            bad: Default::default(),
            bad_samples: Vec::new(),
        };
        let tolerance = i64::try_from(limits.future_tolerance.as_secs()).unwrap_or(i64::MAX);
        let limit = now.plus_secs(tolerance);
        for part in part::iter(&block) {
            take_part(&mut folded, &part.map_err(BadBatch::Part)?, limit)?;
        }
        Ok(folded)
    }
}

fn take_part(folded: &mut Folded, part: &Part<'_>, limit: Timestamp) -> Result<(), BadBatch> {
    let Part::State { tab, client, events, state: bytes } = *part else {
        return Err(BadBatch::Delete);
    };
    let mut state = match State::decode(bytes) {
        Ok(state) => state,
        Err(DecodeStateError::Type(_)) => {
            folded.bad.add(BadReason::UnknownType, events);
            return Ok(());
        }
        Err(error) => return Err(BadBatch::State(error)),
    };
    let future = state.drop_after(limit).min(events);
    if future == 0 {
        folded.events += events;
        folded.parts.push(part);
        return Ok(());
    }
    folded.bad.add(BadReason::Future, future);
    let events = events - future;
    folded.events += events;
    if events > 0 {
        let mut kept = Vec::new();
        state.encode(&mut kept);
        folded.parts.push(&Part::State { tab, client, events, state: &kept });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> BatchId {
        "host:1f/7".parse().expect("a valid id")
    }

    fn batch(block: &[u8]) -> Vec<u8> {
        let mut writer = BatchWriter::new();
        writer.push_block(block);
        writer.finish(&id(), Timestamp::from_secs(1_394_047_812))
    }

    #[test]
    fn batches_survive_their_bytes() {
        let bytes = batch(b"some parts");
        let read = Batch::decode(&bytes).expect("a valid batch");
        assert_eq!(read.id, id());
        assert_eq!(read.created, Timestamp::from_secs(1_394_047_812));
        assert_eq!(read.inflate(10).expect("it inflates"), b"some parts");
        assert!(matches!(read.inflate(9), Err(BadBatch::TooLarge { bytes: 10, max: 9 })));
    }

    #[test]
    fn a_cut_or_changed_batch_is_refused() {
        let bytes = batch(&[7; 1000]);
        for cut in 0..bytes.len() {
            assert!(Batch::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(Batch::decode(&changed).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn a_batch_that_inflates_to_more_than_it_says_is_refused() {
        let mut bytes = batch(&[7; 100]);
        let at = bytes.iter().position(|byte| *byte == 100).expect("the length is one byte");
        bytes[at] = 50;
        let end = bytes.len() - CHECKSUM_BYTES;
        let checksum = crc32c::crc32c(&bytes[..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&checksum);
        let read = Batch::decode(&bytes).expect("the header is fine");
        assert!(matches!(read.inflate(1000), Err(BadBatch::Length { expected: 50 })));
    }

    #[test]
    fn a_batch_from_outside_must_not_delete() {
        let mut block = Vec::new();
        Part::Delete { tab: "a" }.encode(&mut block);
        let bytes = batch(&block);
        let read = Batch::decode(&bytes).expect("a valid batch");
        let vbuckets = VbucketCount::new(4).expect("a valid count");
        let parts = read.parts(vbuckets, &FoldLimits::default(), Timestamp::default());
        assert!(matches!(parts, Err(BadBatch::Delete)));
    }
}
