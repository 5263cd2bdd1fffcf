//! How fast the image's programs start.

use std::time::Instant;

use anyhow::{Result, bail};

use super::taba;
use crate::{cluster, process};

const TRIES: usize = 3;

/// Prints the shortest of a few starts: of the bare program, and in a container on a node if a test cluster is up.
pub fn measure(quick: bool) -> Result<()> {
    let program = taba::folder(quick).join("taba");
    let bare = shortest(|| process::succeeds(process::program(&program).arg("--version")))?;
    println!("`taba --version` as a process: {:.0} ms", bare * 1e3);
    if cluster::is_up() {
        let image = format!("{}:{}", super::TABA, super::TAG);
        let in_container =
            shortest(|| cluster::run_in_container(&image, &["/usr/local/bin/taba", "--version"]))?;
        println!("`taba --version` in a container, made and removed: {:.0} ms", in_container * 1e3);
    }
    Ok(())
}

fn shortest(mut start: impl FnMut() -> bool) -> Result<f64> {
    let mut shortest = f64::INFINITY;
    for _ in 0..TRIES {
        let begin = Instant::now();
        if !start() {
            bail!("the image's program does not start");
        }
        shortest = shortest.min(begin.elapsed().as_secs_f64());
    }
    Ok(shortest)
}
