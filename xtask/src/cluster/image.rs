//! Images without a registry and without a builder: one static program, a layer, two JSON files.
//!
//! The form is that of `docker save`, which containerd imports. Their tag is always `test`: which program
//! is inside follows from the folder the archive is kept in.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::programs::Programs;
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

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(|_| ()).with_context(|| format!("failed to copy {}", from.display()))
}

fn make(archive: &Path, name: &str, entry: &[&str], fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let work = archive.with_extension("work");
    let _ = fs::remove_dir_all(&work);
    let root = work.join("root");
    fs::create_dir_all(root.join("tmp")).context("failed to make a folder")?;
    fill(&root)?;
    let layer = work.join("layer.tar");
    tar(&root, &layer, &["."])?;
    let sum = process::output(process::program("sha256sum").arg(&layer))?;
    let config = config(entry, sum.split(' ').next().unwrap_or_default());
    fs::write(work.join("config.json"), config).context("failed to describe an image")?;
    let manifest = format!(
        r#"[{{"Config":"config.json","RepoTags":["localhost/{name}:test"],"Layers":["layer.tar"]}}]"#
    );
    fs::write(work.join("manifest.json"), manifest).context("failed to describe an image")?;
    let whole = archive.with_extension("part");
    tar(&work, &whole, &["manifest.json", "config.json", "layer.tar"])?;
    fs::rename(&whole, archive).context("failed to name an image")?;
    eprintln!("   image {name}: {} MB", fs::metadata(archive).context("just made")?.len() / 1_000_000);
    fs::remove_dir_all(&work).context("failed to clean up after an image")
}

fn config(entry: &[&str], layer: &str) -> String {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let entry: Vec<_> = entry.iter().map(|word| format!("\"{word}\"")).collect();
    format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{{"Entrypoint":[{}],"Env":["PATH=/bin"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:{layer}"]}}}}"#,
        entry.join(",")
    )
}

/// An archive without the traces of who made it and when, so that one content gives one image.
fn tar(folder: &Path, archive: &Path, names: &[&str]) -> Result<()> {
    let mut command = process::program("tar");
    command.args([
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mtime=@0",
        "--sort=name",
        "--mode=u+rw,go=rX",
    ]);
    let made = process::succeeds(command.arg("-cf").arg(archive).arg("-C").arg(folder).args(names));
    made.then_some(()).with_context(|| format!("tar could not make {}", archive.display()))
}
