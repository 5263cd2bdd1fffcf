//! The checker of the end-to-end tests: one static program, which runs as a Job inside a cluster.

use std::path::PathBuf;

use anyhow::Result;

use super::taba;
use crate::archive::Image;

const PROGRAMS: [(&str, &str); 1] = [("taba-check", "taba-e2e")];

pub const IMAGE: Image<'static> =
    super::image(super::CHECK, &["/usr/local/bin/taba-check"], "/usr/local/bin");

/// Builds the program.
pub fn build(quick: bool) -> Result<Vec<PathBuf>> {
    taba::build_static(quick, &PROGRAMS)
}
