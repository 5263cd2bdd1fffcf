//! Figures of the pure core: how fast events decode and fold, and what states cost.
//!
//! `cargo bench -p taba-e2e --bench core -- [--json] [NAME]...`

#[path = "core/minimal.rs"]
mod minimal;
#[path = "core/states.rs"]
mod states;
#[path = "core/v1.rs"]
mod v1;

use taba_e2e::bench::{self, Report};

const NAMES: [&str; 11] = [
    "decode_fold_v1",
    "minimal_loop",
    "decode_fold_v1_ratio",
    "decode_fold_v1_zlib",
    "inflate",
    "decode_fold_v1_zlib_ratio",
    "merge",
    "merge_encoded",
    "encode",
    "decode_state",
    "state_bytes",
];

fn main() {
    if bench::listed(&NAMES) {
        return;
    }
    let mut report = Report::from_args();
    v1::plain(&mut report);
    v1::zlib(&mut report);
    states::operations(&mut report);
    states::size(&mut report);
}
