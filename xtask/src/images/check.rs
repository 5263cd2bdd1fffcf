//! The checker of the end-to-end tests: one static program, which runs as a Job inside a cluster.

use crate::archive::Image;

pub const PROGRAMS: [(&str, &str); 1] = [("taba-check", "taba-e2e")];

pub const IMAGE: Image<'static> =
    super::image(super::CHECK, &["/usr/local/bin/taba-check"], "/usr/local/bin");
