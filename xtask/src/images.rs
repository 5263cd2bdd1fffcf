//! `cargo xtask images`: the images of Taba and of a Redis for tests, without a registry or a container engine.
//!
//! ```text
//! static programs ─▶ target/images/taba.tar  ─┬▶ every node of the test cluster, if it is up
//! system's Redis  ─▶ target/images/redis.tar ─┘  or a registry, with --push
//! ```
//!
//! The Dockerfile makes the same image of Taba for people with Docker or buildah.

mod push;
mod redis;
mod start;
mod taba;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::archive::{self, Image};
use crate::cluster;
use crate::process;
use crate::system;

/// Taba's image in the test cluster.
pub const TABA: &str = "localhost/taba";
/// The Redis image in the test cluster.
pub const REDIS: &str = "localhost/redis";
/// The tag of both.
pub const TAG: &str = "test";

/// What `cargo xtask images` is asked for.
#[derive(Debug, Default)]
pub struct Options {
    /// Build without optimisation, which is much faster; for tests.
    pub debug: bool,
    /// Where to push Taba's image: `registry.example/taba:1.2.3`.
    pub push: Option<String>,
}

/// Makes the images, says how large they are and how fast they start, and brings them where they are needed.
///
/// # Errors
/// What could not be built, packed or brought there.
pub fn run(options: &Options) -> Result<()> {
    let archives = make(options)?;
    let nodes = cluster::import(&archives)?;
    match nodes {
        0 => println!("no test cluster is up; `cargo xtask images` again imports them once it is"),
        nodes => println!("imported into {nodes} nodes as {TABA}:{TAG} and {REDIS}:{TAG}"),
    }
    start::measure(options.debug)?;
    if let Some(target) = &options.push {
        push::push(&archives[0], target)?;
    }
    Ok(())
}

/// Makes the archives: Taba's first, then that of Redis.
///
/// # Errors
/// What could not be built or packed.
pub fn make(options: &Options) -> Result<[PathBuf; 2]> {
    let programs = taba::build(options.debug)?;
    system::ensure_programs(&[system::REDIS, system::BUSYBOX])?;
    let folder = process::root().join("target/images");
    fs::create_dir_all(&folder).context("failed to make the folder of images")?;
    let [taba, redis] = ["taba.tar", "redis.tar"].map(|name| folder.join(name));
    archive::write(&taba, &taba::IMAGE, |root| taba::fill(root, &programs))?;
    archive::write(&redis, &redis::IMAGE, redis::fill)?;
    for archive in [&taba, &redis] {
        let bytes = fs::metadata(archive).context("just made")?.len();
        println!("{}: {:.1} MB", archive.display(), bytes as f64 / 1e6);
    }
    Ok([taba, redis])
}

/// An image of ours in the test cluster.
const fn image(name: &'static str, entry: &'static [&'static str], path: &'static str) -> Image<'static> {
    Image { name, tag: TAG, entry, path, user: "65532:65532" }
}
