//! Decode and fold of wire v1, plain and from zlib.

use std::io::Write as _;
use std::time::Duration;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Decompress, FlushDecompress};
use taba_core::fold::{FoldLimits, Folder};
use taba_core::{Timestamp, VbucketCount};
use taba_e2e::bench::{Limit, Report, Subject, in_turns, ratios};
use taba_e2e::traffic::{self, EVENTS, START_SECS};

use crate::minimal::Minimal;

/// Bodies per turn: about a tenth of a second.
const CALLS: usize = 80;
/// Bytes that a server gets from a socket, or out of inflate, in one piece.
const PIECE_BYTES: usize = 64 << 10;

fn folder() -> Folder {
    let vbuckets = VbucketCount::new(256).expect("a valid count");
    let limits = FoldLimits { future_tolerance: Duration::from_secs(300), ..FoldLimits::default() };
    Folder::new(vbuckets, limits, Timestamp::from_secs(START_SECS + 3))
}

/// Ends a folder and checks that nothing was lost: a benchmark must not be fast because it skips.
fn finish(folder: Folder) -> u64 {
    let folded = folder.finish().expect("sound framing");
    assert_eq!((folded.events, folded.bad.total()), (EVENTS as u64, 0));
    folded.parts.bytes() as u64
}

fn fold(body: &[u8]) -> u64 {
    let mut folder = folder();
    for piece in body.chunks(PIECE_BYTES) {
        folder.feed(piece).expect("sound framing");
    }
    finish(folder)
}

/// `decode_fold_v1`, `minimal_loop` and their ratio.
pub fn plain(report: &mut Report) {
    if !report.wants(&["decode_fold_v1", "minimal_loop", "decode_fold_v1_ratio"]) {
        return;
    }
    let body = traffic::body("CounterGroup");
    let mut minimal = Minimal::new();
    let [folded, yardstick] = in_turns([
        Subject::new(EVENTS as f64, CALLS, || fold(&body)),
        Subject::new(EVENTS as f64, CALLS, || {
            assert_eq!(minimal.add(&body), EVENTS as u64);
            minimal.digest()
        }),
    ]);
    report.figure("decode_fold_v1", "events/s", Limit::AtLeast(40e6), &folded);
    report.figure("minimal_loop", "events/s", Limit::None, &yardstick);
    report.figure("decode_fold_v1_ratio", "ratio", Limit::AtLeast(0.8), &ratios(&folded, &yardstick));
}

/// Inflates in pieces into one window and gives each piece to `take`.
fn inflate(compressed: &[u8], window: &mut [u8], mut take: impl FnMut(&[u8])) {
    let mut inflate = Decompress::new(true);
    loop {
        let (read, written) = (inflate.total_in() as usize, inflate.total_out());
        let status =
            inflate.decompress(&compressed[read..], window, FlushDecompress::None).expect("sound zlib");
        take(&window[..(inflate.total_out() - written) as usize]);
        if status == flate2::Status::StreamEnd {
            return;
        }
    }
}

/// `decode_fold_v1_zlib`, `inflate` and their ratio.
pub fn zlib(report: &mut Report) {
    if !report.wants(&["decode_fold_v1_zlib", "inflate", "decode_fold_v1_zlib_ratio"]) {
        return;
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&traffic::body("CounterGroup")).expect("writing to memory");
    let compressed = encoder.finish().expect("writing to memory");
    let (mut window, mut other_window) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    let [folded, inflated] = in_turns([
        Subject::new(EVENTS as f64, CALLS / 2, || {
            let mut folder = folder();
            inflate(&compressed, &mut window, |piece| folder.feed(piece).expect("sound framing"));
            finish(folder)
        }),
        Subject::new(EVENTS as f64, CALLS / 2, || {
            let mut bytes = 0;
            inflate(&compressed, &mut other_window, |piece| bytes += piece.len() as u64);
            bytes
        }),
    ]);
    report.figure("decode_fold_v1_zlib", "events/s", Limit::None, &folded);
    report.figure("inflate", "events/s", Limit::None, &inflated);
    report.figure("decode_fold_v1_zlib_ratio", "ratio", Limit::AtLeast(0.9), &ratios(&folded, &inflated));
}
