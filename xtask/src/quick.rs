//! How tests and images for tests are built: static and a little optimised, all with one profile and for one target.
//!
//! With two, cargo would compile whatever both need twice: a third of its work before a first run of the tests.

use std::process::Command;

use anyhow::Result;

use crate::process;
use crate::system::{self, C_COMPILER, MUSL_COMPILER};

/// Where programs run that are linked to nothing.
#[cfg(target_arch = "x86_64")]
pub const TARGET: &str = "x86_64-unknown-linux-musl";
/// Where programs run that are linked to nothing.
#[cfg(target_arch = "aarch64")]
pub const TARGET: &str = "aarch64-unknown-linux-musl";

/// Is in `Cargo.toml`.
pub const PROFILE: &str = "quick";

/// A subcommand of cargo that builds something in this way.
///
/// # Errors
/// What it takes and is missing.
pub fn cargo(subcommand: &str) -> Result<Command> {
    ensure_compilers()?;
    let mut cargo = process::cargo();
    cargo.args([subcommand, "--locked", "--target", TARGET, "--profile", PROFILE]);
    Ok(cargo)
}

/// Sees to what it takes to build for [`TARGET`].
///
/// # Errors
/// What is missing.
pub fn ensure_compilers() -> Result<()> {
    system::ensure_programs(&[C_COMPILER, MUSL_COMPILER])?;
    system::ensure_target(TARGET)
}
