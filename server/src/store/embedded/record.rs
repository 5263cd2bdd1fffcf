//! Bytes of the queue log, version 1; all numbers little-endian.
//!
//! ```text
//! segment = "TABALOG1" number:u64 previous:u64 previous_bytes:u64 crc:u32   then records
//! record  = "REC1" head_bytes:u32 crc:u32  head  blocks
//! head    = serial:u64 accepted:i64(µs) sequence:u64 producer_bytes:u16 producer
//!           count:u16 (vbucket:u16 bytes:u32 crc:u32)*count
//! ```
//!
//! One record is one accepted batch: its head lists the block of each vbucket, which lie one after
//! another behind it, so one block can be read alone. An empty producer means a batch without an id.
//! Checksums are CRC-32C. The head's begins with its segment's number, so bytes of another segment
//! never pass as this one's. `previous_bytes` says where the segment before ends: what a failed write
//! left behind that point never counts.

use taba_core::wire::bytes::{Malformed, Reader};
use taba_core::{BatchId, ProducerId, Timestamp, Vbucket};

/// Bytes of a segment before its first record.
pub(super) const SEGMENT_HEAD_BYTES: usize = 36;
const SEGMENT_MAGIC: &[u8; 8] = b"TABALOG1";
const RECORD_MAGIC: &[u8; 4] = b"REC1";

/// What a segment says about itself and the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHead {
    pub(super) number: u64,
    pub(super) previous: u64,
    pub(super) previous_bytes: u64,
}

impl SegmentHead {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEAD_BYTES);
        out.extend_from_slice(SEGMENT_MAGIC);
        for number in [self.number, self.previous, self.previous_bytes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// `None` if these are not the first bytes of a whole segment head.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, crc) = bytes.get(..SEGMENT_HEAD_BYTES)?.split_at(SEGMENT_HEAD_BYTES - 4);
        if head[..8] != *SEGMENT_MAGIC || crc != crc32c::crc32c(head).to_le_bytes() {
            return None;
        }
        let mut reader = Reader::new(&head[8..]);
        let mut next = || reader.array().ok().map(u64::from_le_bytes);
        Some(Self { number: next()?, previous: next()?, previous_bytes: next()? })
    }
}

/// One block of a record, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHead {
    pub(super) vbucket: Vbucket,
    pub(super) bytes: u32,
    pub(super) crc: u32,
}

/// What a record says before its blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordHead {
    /// The entry id of each of its blocks.
    pub(super) serial: u64,
    pub(super) accepted: Timestamp,
    pub(super) id: Option<BatchId>,
    pub(super) blocks: Vec<BlockHead>,
}

impl RecordHead {
    /// The bytes before the blocks, for a record in segment `segment`.
    pub(super) fn encode(&self, segment: u64) -> Vec<u8> {
        let producer = self.id.as_ref().map_or("", |id| id.producer.as_str());
        let head_bytes = 28 + producer.len() + self.blocks.len() * 10;
        let mut out = Vec::with_capacity(12 + head_bytes);
        out.extend_from_slice(RECORD_MAGIC);
        let length = u32::try_from(head_bytes).expect("at most 4,096 blocks of 10 bytes and a short name");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.serial.to_le_bytes());
        out.extend_from_slice(&self.accepted.as_micros().to_le_bytes());
        out.extend_from_slice(&self.id.as_ref().map_or(0, |id| id.sequence).to_le_bytes());
        let producer_bytes = u16::try_from(producer.len()).expect("names are at most 256 bytes");
        out.extend_from_slice(&producer_bytes.to_le_bytes());
        out.extend_from_slice(producer.as_bytes());
        let count = u16::try_from(self.blocks.len()).expect("at most one block per vbucket");
        out.extend_from_slice(&count.to_le_bytes());
        for block in &self.blocks {
            out.extend_from_slice(&block.vbucket.0.to_le_bytes());
            out.extend_from_slice(&block.bytes.to_le_bytes());
            out.extend_from_slice(&block.crc.to_le_bytes());
        }
        let crc = head_crc(segment, &out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads one record and checks all of it. `None`: these bytes are not a whole record of `segment`.
    pub(super) fn decode(reader: &mut Reader<'_>, segment: u64) -> Option<(Self, u64)> {
        if reader.array().ok()? != *RECORD_MAGIC {
            return None;
        }
        let head_bytes = u32::from_le_bytes(reader.array().ok()?);
        let crc = u32::from_le_bytes(reader.array().ok()?);
        let head = reader.take(usize::try_from(head_bytes).ok()?).ok()?;
        if crc != head_crc(segment, head) {
            return None;
        }
        let head = Self::decode_head(&mut Reader::new(head)).ok()??;
        let blocks_offset = reader.offset() as u64;
        for block in &head.blocks {
            let bytes = reader.take(usize::try_from(block.bytes).ok()?).ok()?;
            if crc32c::crc32c(bytes) != block.crc {
                return None;
            }
        }
        Some((head, blocks_offset))
    }

    fn decode_head(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        let serial = u64::from_le_bytes(reader.array()?);
        let accepted = Timestamp::from_micros(i64::from_le_bytes(reader.array()?));
        let sequence = u64::from_le_bytes(reader.array()?);
        let producer_bytes = u16::from_le_bytes(reader.array()?);
        let producer = reader.take(usize::from(producer_bytes))?;
        let id = if producer.is_empty() {
            None
        } else {
            let producer = std::str::from_utf8(producer).ok().and_then(|name| ProducerId::new(name).ok());
            let Some(producer) = producer else { return Ok(None) };
            Some(BatchId { producer, sequence })
        };
        let count = u16::from_le_bytes(reader.array()?);
        let mut blocks = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            blocks.push(BlockHead {
                vbucket: Vbucket(u16::from_le_bytes(reader.array()?)),
                bytes: u32::from_le_bytes(reader.array()?),
                crc: u32::from_le_bytes(reader.array()?),
            });
        }
        Ok(reader.is_empty().then_some(Self { serial, accepted, id, blocks }))
    }
}

fn head_crc(segment: u64, head: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&segment.to_le_bytes()), head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> RecordHead {
        let block = |vbucket, bytes: &[u8]| BlockHead {
            vbucket: Vbucket(vbucket),
            bytes: bytes.len() as u32,
            crc: crc32c::crc32c(bytes),
        };
        RecordHead {
            serial: 7,
            accepted: Timestamp::from_micros(-5),
            id: Some("host:1/9".parse().unwrap()),
            blocks: vec![block(0, b"abc"), block(63, b"defg")],
        }
    }

    fn record() -> Vec<u8> {
        let mut bytes = head().encode(3);
        bytes.extend_from_slice(b"abcdefg");
        bytes
    }

    #[test]
    fn a_record_survives_its_bytes() {
        let bytes = record();
        let mut reader = Reader::new(&bytes);
        let (read, blocks_offset) = RecordHead::decode(&mut reader, 3).unwrap();
        assert_eq!((read, blocks_offset), (head(), bytes.len() as u64 - 7));
        assert!(reader.is_empty());
    }

    #[test]
    fn a_record_cut_anywhere_or_with_any_bit_flipped_is_refused() {
        let bytes = record();
        for end in 0..bytes.len() {
            assert_eq!(RecordHead::decode(&mut Reader::new(&bytes[..end]), 3), None, "cut at {end}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHead::decode(&mut Reader::new(&flipped), 3), None, "bit {bit}");
        }
    }

    #[test]
    fn a_record_of_another_segment_is_refused() {
        assert_eq!(RecordHead::decode(&mut Reader::new(&record()), 4), None);
    }

    #[test]
    fn a_segment_head_survives_its_bytes_and_a_torn_one_is_refused() {
        let head = SegmentHead { number: 3, previous: 2, previous_bytes: 99 };
        let bytes = head.encode();
        assert_eq!(bytes.len(), SEGMENT_HEAD_BYTES);
        assert_eq!(SegmentHead::decode(&bytes), Some(head));
        assert_eq!(SegmentHead::decode(&bytes[..35]), None);
    }
}
