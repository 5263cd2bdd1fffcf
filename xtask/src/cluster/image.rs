//! The images of the cluster itself: one static program each.
//!
//! Their tag is always `test`: which program is inside follows from the folder the archive is kept in.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::programs::Programs;
use crate::archive::{self, Image, copy};
use crate::process;

/// Programs of ours that become an image of the same name.
const IMAGES: [&str; 4] = ["pause", "coredns", "metrics-server", "local-path-provisioner"];
/// What the storage provisioner's helper and the tests' pods call. One program under many names.
const BUSYBOX_NAMES: [&str; 14] = [
    "sh", "cat", "chmod", "echo", "hostname", "httpd", "id", "ls", "mkdir", "nc", "rm", "sleep", "test",
    "touch",
];

/// Makes the images that are missing.
pub fn ensure(programs: &Programs) -> Result<()> {
    fs::create_dir_all(programs.images()).context("failed to make the folder of images")?;
    for name in IMAGES {
        let archive = archive(programs, name);
        if !archive.is_file() {
            make(&archive, name, &[&format!("/{name}")], |root| {
                copy(&programs.program(name), &root.join(name))
            })?;
        }
    }
    let archive = archive(programs, "busybox");
    if !archive.is_file() {
        make(&archive, "busybox", &["/bin/sh"], |root| busybox(programs, root))?;
    }
    Ok(())
}

/// The archives that every node imports.
pub fn archives(programs: &Programs) -> Vec<PathBuf> {
    IMAGES.iter().chain(&["busybox"]).map(|name| archive(programs, name)).collect()
}

fn archive(programs: &Programs, name: &str) -> PathBuf {
    programs.images().join(format!("{name}.tar"))
}

fn busybox(programs: &Programs, root: &Path) -> Result<()> {
    fs::create_dir_all(root.join("bin")).context("failed to make a folder")?;
    let path = process::output(process::program("sh").args(["-c", "command -v busybox"]))?;
    copy(Path::new(path.trim()), &root.join("bin/busybox"))?;
    copy(&programs.program("fetch"), &root.join("bin/fetch"))?;
    BUSYBOX_NAMES
        .iter()
        .try_for_each(|name| symlink("busybox", root.join("bin").join(name)))
        .context("failed to name busybox")
}

fn make(archive: &Path, name: &str, entry: &[&str], fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let name = format!("localhost/{name}");
    archive::write(archive, &Image { name: &name, tag: "test", entry, path: "/bin", user: "" }, fill)
}
