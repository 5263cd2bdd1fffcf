//! `cargo xtask images`: the images of Taba and of a Redis for tests, without a registry or a container engine.
//!
//! ```text
//! static programs ─▶ target/images/taba.tar  ─┬▶ every node of the test cluster, if it is up
//! system's Redis  ─▶ target/images/redis.tar ─┤  or a registry, with --push
//! the checker     ─▶ target/images/check.tar ─┘  (only when asked for)
//! ```
//!
//! In the test cluster each has a second tag, so that a change of image can be tried. The Dockerfile makes the same image of Taba for people with Docker or buildah.

mod check;
mod push;
mod redis;
mod start;
mod taba;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::archive::{self, Image};
use crate::cluster;
use crate::process;
use crate::system;

/// Taba's image in the test cluster.
pub const TABA: &str = "localhost/taba";
/// The Redis image in the test cluster.
pub const REDIS: &str = "localhost/redis";
/// The checker's image in the test cluster.
const CHECK: &str = "localhost/taba-check";
/// The tag of all.
pub const TAG: &str = "test";
/// The second tag of all in the test cluster.
pub const OTHER_TAG: &str = "test2";

/// An image that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// Taba's own.
    Taba,
    /// A Redis for tests.
    Redis,
    /// The checker of end-to-end tests.
    Check,
}

impl Name {
    const ALL: [Self; 3] = [Self::Taba, Self::Redis, Self::Check];
    /// Those that a Taba needs.
    const DEFAULT: [Self; 2] = [Self::Taba, Self::Redis];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Taba => "taba",
            Self::Redis => "redis",
            Self::Check => "check",
        }
    }

    const fn image(self) -> Image<'static> {
        match self {
            Self::Taba => taba::IMAGE,
            Self::Redis => redis::IMAGE,
            Self::Check => check::IMAGE,
        }
    }

    /// The programs of ours in it, each with its package.
    const fn programs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Taba => &taba::PROGRAMS,
            Self::Redis => &[],
            Self::Check => &check::PROGRAMS,
        }
    }

    /// The image of this name.
    ///
    /// # Errors
    /// The known names, if it is none of them.
    pub fn parse(name: &str) -> Result<Self> {
        let names = || Self::ALL.map(Self::as_str).join(", ");
        let known = Self::ALL.into_iter().find(|image| image.as_str() == name);
        known.with_context(|| format!("no image {name:?}; there are {}", names()))
    }
}

/// What `cargo xtask images` is asked for.
#[derive(Debug, Default)]
pub struct Options {
    /// Optimise less, which builds faster; for tests.
    pub quick: bool,
    /// Where to push Taba's image: `registry.example/taba:1.2.3`.
    pub push: Option<String>,
    /// These only; those that a Taba needs if empty.
    pub names: Vec<Name>,
}

/// Makes the images, says how large they are and how fast they start, and brings them where they are needed.
///
/// # Errors
/// What could not be built, packed or brought there.
pub fn run(options: &Options) -> Result<()> {
    let names = if options.names.is_empty() { &Name::DEFAULT[..] } else { &options.names };
    let has_taba = names.contains(&Name::Taba);
    if options.push.is_some() && !has_taba {
        bail!("--push is about Taba's image, which is not among those asked for");
    }
    build(names, options.quick)?;
    let archives = names.iter().map(|&name| make(name, options.quick)).collect::<Result<Vec<_>>>()?;
    let tags: Vec<_> = names.iter().map(|name| tags(&name.image())).collect();
    match cluster::import(&archives, &tags)? {
        0 => println!("no test cluster is up; `cargo xtask images` again imports them once it is"),
        nodes => {
            for (name, other) in tags {
                println!("imported into {nodes} nodes as {name} and {other}");
            }
        }
    }
    if has_taba {
        start::measure(options.quick)?;
    }
    if let Some(target) = &options.push {
        push::push(&path(Name::Taba), target)?;
    }
    Ok(())
}

/// Builds the programs of all images at once.
fn build(names: &[Name], quick: bool) -> Result<()> {
    let programs: Vec<_> = names.iter().flat_map(|name| name.programs()).map(|(name, _)| *name).collect();
    if programs.is_empty() { Ok(()) } else { taba::build(quick, &programs) }
}

/// Builds what end-to-end tests run: what the images for tests hold, and in `mutants` the same with known defects. Gives
/// the folder.
///
/// # Errors
/// If they cannot be built.
pub fn programs_of_tests() -> Result<PathBuf> {
    taba::build_mutants(true)?;
    build(&Name::ALL, true)?;
    Ok(taba::folder(true))
}

/// The programs of ours in all images, each with its package.
fn packages() -> impl Iterator<Item = (&'static str, &'static str)> {
    Name::ALL.into_iter().flat_map(Name::programs).copied()
}

/// Makes the archive of an image.
fn make(name: Name, quick: bool) -> Result<PathBuf> {
    let archive = path(name);
    fs::create_dir_all(archive.parent().context("it lies in a folder")?)
        .context("failed to make the folder of images")?;
    match name {
        Name::Redis => {
            system::ensure_programs(&[system::REDIS, system::BUSYBOX])?;
            archive::write(&archive, &redis::IMAGE, redis::fill)?;
        }
        Name::Taba | Name::Check => {
            archive::write(&archive, &name.image(), |root| taba::fill(root, quick, name.programs()))?;
        }
    }
    let bytes = fs::metadata(&archive).context("just made")?.len();
    println!("{}: {:.1} MB", archive.display(), bytes as f64 / 1e6);
    Ok(archive)
}

fn path(name: Name) -> PathBuf {
    process::root().join("target/images").join(format!("{}.tar", name.as_str()))
}

/// Both names of an image in the test cluster.
fn tags(image: &Image<'_>) -> (String, String) {
    let name = image.name;
    (format!("{name}:{TAG}"), format!("{name}:{OTHER_TAG}"))
}

/// An image of ours in the test cluster.
const fn image(name: &'static str, entry: &'static [&'static str], path: &'static str) -> Image<'static> {
    Image { name, tag: TAG, entry, path, user: "65532:65532" }
}
