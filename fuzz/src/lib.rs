//! Fuzz targets: one function for each decoder of bytes from outside.
//!
//! A target takes any input and panics if a promise is broken: the decoder panicked, what it accepted
//! does not fit together, or it held more memory than [`meter`] allows for an input of that size. The
//! functions know nothing of libFuzzer, so that the same ones run under it (`fuzz_targets/`) and as a
//! test on stable (`tests/replay.rs`).
//!
//! Seeds are made by [`seeds`] and committed as `corpus/<target>/seed-*`; an input that once broke a
//! target stays in `regressions/<target>/`.

pub mod meter;
pub mod mutate;
pub mod seeds;
mod state;
mod v1;
mod v2;

pub use state::state_decoder;
pub use v1::{v1_decoder, zlib_body};
pub use v2::v2_decoder;

use taba_core::fold::{FoldLimits, Folded};
use taba_core::part::{self, Part};
use taba_core::{State, Timestamp, VbucketCount};

/// A target and its name.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 4] = [
    ("v1_decoder", v1_decoder),
    ("v2_decoder", v2_decoder),
    ("state_decoder", state_decoder),
    ("zlib_body", zlib_body),
];

/// The time at which the targets see their input: 2014-03-05, when the reference's examples were sent.
const NOW: Timestamp = Timestamp::from_secs(1_394_047_812);

/// More than one, so that parts are grouped.
const VBUCKETS: VbucketCount = VbucketCount::new(16).expect("a valid count");

/// Most bytes of parts an input may fold into or inflate to.
const PARTS_BYTES_MAX: usize = 1 << 20;

/// Limits far below the real ones, so that inputs of a few KiB reach them.
fn limits() -> FoldLimits {
    FoldLimits { line_bytes_max: 1 << 10, parts_bytes_max: PARTS_BYTES_MAX, ..FoldLimits::default() }
}

/// Bytes with their last four replaced by the CRC-32C of those before: without this no changed input
/// would ever get past a checksum. `None` if there are fewer than four.
fn resealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut sealed = bytes.to_vec();
    let (body, checksum) = sealed.split_last_chunk_mut::<4>()?;
    *checksum = crc32c::crc32c(body).to_le_bytes();
    Some(sealed)
}

/// What every decoder promises of what it folded: parts of valid states that hold the events counted.
fn check_folded(folded: &Folded) {
    let mut events = 0_u64;
    for (vbucket, block) in folded.parts.blocks() {
        for part in part::iter(block) {
            let part = part.expect("a decoder writes parts that can be read");
            let Part::State { tab, events: folded_in, state, .. } = part else {
                panic!("no body from outside deletes {:?}", part.tab());
            };
            assert_eq!(VBUCKETS.of(tab), vbucket, "{tab:?} lies in another tab's vbucket");
            State::decode(state).expect("a decoder writes states that can be read");
            events += folded_in;
        }
    }
    assert_eq!(events, folded.events, "events counted and events in parts differ");
    let reasons: u64 = folded.bad.iter().map(|(_, events)| events).sum();
    assert_eq!(reasons, folded.bad.total());
}
