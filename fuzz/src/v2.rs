//! Batches of partial states.

use taba_core::part::{self, Part};
use taba_core::wire::v2::{Batch, BatchWriter};
use taba_core::{BatchId, ProducerId};

use crate::meter::{Bound, bounded};
use crate::{NOW, PARTS_BYTES_MAX, VBUCKETS, check_folded, limits, resealed};

/// A part's state is built while it is checked, and its bytes are copied to their vbucket.
const PARTS_BOUND: Bound = Bound { base: 256 << 10, per_byte: 64 };

/// A few bytes may inflate to the limit; the buffer doubles as it grows and is copied when it does.
const INFLATE_BOUND: Bound = Bound { base: 3 * PARTS_BYTES_MAX + (64 << 10), per_byte: 1 };

/// Reads the input as a batch as it is, as a batch with a right checksum, and as the parts inside one.
pub fn v2_decoder(input: &[u8]) {
    read(input);
    if let Some(sealed) = resealed(input) {
        read(&sealed);
    }
    read(&wrapped(input));
    read(&wrapped(&with_sealed_states(input)));
}

fn read(bytes: &[u8]) {
    let Ok(batch) = Batch::decode(bytes) else { return };
    let limits = limits();
    let inflated = bounded(INFLATE_BOUND, bytes.len(), || batch.inflate(limits.parts_bytes_max));
    let Ok(inflated) = inflated else { return };
    let parts = bounded(PARTS_BOUND, bytes.len() + inflated.len(), || batch.parts(VBUCKETS, &limits, NOW));
    if let Ok(folded) = parts {
        check_folded(&folded);
    }
}

/// A batch around a block of parts.
fn wrapped(block: &[u8]) -> Vec<u8> {
    let mut writer = BatchWriter::new();
    writer.push_block(block);
    let producer = ProducerId::new("fuzz:1").expect("a valid name");
    writer.finish(&BatchId { producer, sequence: 1 }, NOW)
}

/// The parts of a block as far as they can be read, their states with right checksums.
fn with_sealed_states(block: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in part::iter(block).map_while(Result::ok) {
        match part {
            Part::State { tab, client, events, state } => {
                let state = &resealed(state).unwrap_or_default();
                Part::State { tab, client, events, state }.encode(&mut out);
            }
            Part::Delete { .. } => part.encode(&mut out),
        }
    }
    out
}
