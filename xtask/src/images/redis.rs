//! A Redis for tests: the system's programs, the libraries they are linked to, and a shell.
//!
//! It stands in for a stock image such as `redis:7.2`, which the test cluster cannot fetch, and like that one it has
//! `redis-server`, `redis-cli` and the usual small tools on its search path.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::archive::{self, Image};
use crate::{process, system};

const PROGRAMS: [&str; 2] = ["redis-server", "redis-cli"];
/// Names that busybox has, but not in this image.
const NOT_BUSYBOX: [&str; 1] = ["busybox"];

pub const IMAGE: Image<'static> = super::image(super::REDIS, &["/usr/bin/redis-server"], "/usr/bin:/bin");

/// Puts everything into the image's root.
pub fn fill(root: &Path) -> Result<()> {
    let mut libraries = BTreeSet::new();
    for name in PROGRAMS {
        let program = system::find(name).with_context(|| format!("{name} is not there"))?;
        archive::copy(&program, &root.join("usr/bin").join(name))?;
        libraries.extend(libraries_of(&program)?);
    }
    symlink("redis-server", root.join("usr/bin/redis-sentinel")).context("failed to name Sentinel")?;
    for library in libraries {
        let inside = library.strip_prefix("/").context("libraries have whole paths")?;
        archive::copy(&library, &root.join(inside))?;
    }
    fs::create_dir_all(root.join("etc")).context("failed to make a folder")?;
    fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n")
        .context("failed to say how names resolve")?;
    let user = "taba:x:65532:65532:taba:/tmp:/bin/sh\n";
    fs::write(root.join("etc/passwd"), user).context("failed to name the user")?;
    busybox(root)
}

fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let list = process::output(process::program("ldd").arg(program))?;
    let libraries = libraries_in(&list);
    if libraries.is_empty() {
        bail!("{} names no library", program.display());
    }
    Ok(libraries)
}

/// The files in what `ldd` prints: `name => /path (address)` or `/path (address)`.
fn libraries_in(list: &str) -> Vec<PathBuf> {
    let words = list.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(PathBuf::from).collect()
}

fn busybox(root: &Path) -> Result<()> {
    let busybox = system::find("busybox").context("busybox is not there")?;
    archive::copy(&busybox, &root.join("bin/busybox"))?;
    let names = process::output(process::program(&busybox).arg("--list"))?;
    for name in names.lines().filter(|name| !NOT_BUSYBOX.contains(name)) {
        symlink("busybox", root.join("bin").join(name)).with_context(|| format!("failed to make {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_libraries_are_read_and_what_the_kernel_brings_is_not() {
        let list = "\tlinux-vdso.so.1 (0x00007f)\n\tlibm.so.6 => /lib/libm.so.6 (0x00007f)\n\t/lib64/ld.so.2 (0x0)\n";
        assert_eq!(libraries_in(list), ["/lib/libm.so.6", "/lib64/ld.so.2"].map(PathBuf::from));
    }
}
