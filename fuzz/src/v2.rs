//! Batches of partial states.

use taba_core::part::{self, Part};
use taba_core::wire::v2::{Batch, BatchWriter};
use taba_core::{BatchId, ProducerId};

use crate::meter::{Bound, bounded};
use crate::{NOW, VBUCKETS, check_folded, limits, resealed};

/// A part's state is built while it is checked, and its bytes are copied to their vbucket.
const BOUND: Bound = Bound { base: 4 << 20, per_byte: 64 };

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
    let bound = Bound { base: BOUND.base + limits.parts_bytes_max, ..BOUND };
    let inflated = bounded(bound, bytes.len(), || batch.inflate(limits.parts_bytes_max));
    let Ok(inflated) = inflated else { return };
    let parts = bounded(BOUND, bytes.len() + inflated.len(), || batch.parts(VBUCKETS, &limits, NOW));
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
