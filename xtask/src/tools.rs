//! Cargo tools, each at one pinned version, built once into the user's cache folder.
//!
//! They stay out of `~/.cargo/bin`: a person's own versions are neither used nor replaced.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::process;

/// A tool that `cargo install` can build.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// Its crate, which is also its program and `cargo-<subcommand>`.
    pub name: &'static str,
    /// The version everyone uses.
    pub version: &'static str,
}

/// Checks licences, sources, bans and advisories of the dependencies.
pub const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2" };

/// Builds and runs fuzz targets.
pub const CARGO_FUZZ: Tool = Tool { name: "cargo-fuzz", version: "0.13.2" };

impl Tool {
    /// The path of the tool's program; builds it if it is not in the cache.
    ///
    /// # Errors
    /// If it cannot be built, most often because the registry cannot be reached.
    pub fn ensure(self) -> Result<PathBuf> {
        let folder = cache()?.join("tools").join(format!("{}-{}", self.name, self.version));
        let program = folder.join("bin").join(self.name);
        if !program.is_file() {
            self.install(&folder).with_context(|| format!("failed to install {}", self.name))?;
        }
        Ok(program)
    }

    fn install(self, folder: &Path) -> Result<()> {
        let build = folder.join("build");
        let mut install = process::cargo();
        install.args(["install", "--locked", "--quiet", self.name, "--version", self.version]);
        install.arg("--root").arg(folder).arg("--target-dir").arg(&build);
        // These tools run for a second or two: optimising them costs more than it ever saves. cargo-deny, which asks
        // for link-time optimisation, takes 96 s to build on two cores like this and 171 s at level 1, and then checks
        // in 2.6 s instead of 1.4.
        for (setting, value) in
            [("LTO", "off"), ("CODEGEN_UNITS", "16"), ("OPT_LEVEL", "0"), ("STRIP", "symbols")]
        {
            install.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
        }
        // A caller's flags are for Taba, not for its tools.
        install.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        process::run(&mut install)?;
        std::fs::remove_dir_all(&build).with_context(|| format!("failed to remove {}", build.display()))
    }
}

/// Our folder in the user's cache: `$XDG_CACHE_HOME/taba`, else `~/.cache/taba`.
///
/// # Errors
/// If the user has no home folder.
pub fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(folder) if Path::new(&folder).is_absolute() => PathBuf::from(folder),
        _ => std::env::home_dir().context("no home folder: set XDG_CACHE_HOME")?.join(".cache"),
    };
    Ok(base.join("taba"))
}
