//! Images without a registry and without a builder: one layer, a description of it, a list of both.
//!
//! The form is that of `docker save`, which containerd, Docker and Podman import. One content gives one archive,
//! byte for byte, whoever makes it and when.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::process;

/// Folders that everyone may write to, as `/tmp` is.
const OPEN: [&str; 2] = ["tmp", "data"];

/// What an image is called and how it starts.
#[derive(Debug)]
pub struct Image<'a> {
    /// Name with registry, without tag.
    pub name: &'a str,
    /// What comes after the colon.
    pub tag: &'a str,
    /// The program that runs, with its first arguments.
    pub entry: &'a [&'a str],
    /// Where programs are looked for.
    pub path: &'a str,
    /// `user:group` as numbers; empty for root.
    pub user: &'a str,
}

/// Makes an image of what `fill` puts into a folder.
///
/// # Errors
/// What could not be read, written or packed.
pub fn write(archive: &Path, image: &Image<'_>, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let work = archive.with_extension("work");
    let _ = fs::remove_dir_all(&work);
    let root = work.join("root");
    fs::create_dir_all(root.join("tmp")).context("failed to make a folder")?;
    fill(&root)?;
    set_modes(&root)?;
    for name in OPEN.iter().filter(|name| root.join(name).is_dir()) {
        set_mode(&root.join(name), 0o1777)?;
    }
    let layer = work.join("layer.tar");
    tar(&root, &layer, &["."])?;
    let sum = process::output(process::program("sha256sum").arg(&layer))?;
    let config = config(image, sum.split(' ').next().unwrap_or_default());
    fs::write(work.join("config.json"), config).context("failed to describe an image")?;
    let (name, tag) = (image.name, image.tag);
    let manifest =
        format!(r#"[{{"Config":"config.json","RepoTags":["{name}:{tag}"],"Layers":["layer.tar"]}}]"#);
    fs::write(work.join("manifest.json"), manifest).context("failed to describe an image")?;
    let whole = archive.with_extension("part");
    tar(&work, &whole, &["manifest.json", "config.json", "layer.tar"])?;
    // Only a whole archive gets its name.
    fs::rename(&whole, archive).context("failed to name an image")?;
    eprintln!(
        "   image {name}:{tag}: {:.1} MB",
        fs::metadata(archive).context("just made")?.len() as f64 / 1e6
    );
    fs::remove_dir_all(&work).context("failed to clean up after an image")
}

/// Copies a file, through links, and makes the folders above it.
///
/// # Errors
/// Which file could not be copied.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    fs::copy(from, to).map(|_| ()).with_context(|| format!("failed to copy {}", from.display()))
}

fn config(image: &Image<'_>, layer: &str) -> String {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let entry: Vec<_> = image.entry.iter().map(|word| format!("\"{word}\"")).collect();
    format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{{"User":"{}","Entrypoint":[{}],"Env":["PATH={}"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:{layer}"]}}}}"#,
        image.user,
        entry.join(","),
        image.path
    )
}

/// Modes that do not depend on who copied what: what may run stays so, and all may read.
fn set_modes(folder: &Path) -> Result<()> {
    set_mode(folder, 0o755)?;
    for entry in fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))? {
        let entry = entry.context("failed to read a folder")?;
        let kind = entry.file_type().context("failed to look at a file")?;
        if kind.is_dir() {
            set_modes(&entry.path())?;
        } else if kind.is_file() {
            let mode = entry.metadata().context("failed to look at a file")?.permissions().mode();
            set_mode(&entry.path(), if mode & 0o111 == 0 { 0o644 } else { 0o755 })?;
        }
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("failed to set the mode of {}", path.display()))
}

/// An archive without the traces of who made it and when.
fn tar(folder: &Path, archive: &Path, names: &[&str]) -> Result<()> {
    let mut command = process::program("tar");
    command.args(["--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "--sort=name", "--format=gnu"]);
    if !process::succeeds(command.arg("-cf").arg(archive).arg("-C").arg(folder).args(names)) {
        bail!("tar could not make {}", archive.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: Image<'_> = Image {
        name: "localhost/example",
        tag: "test",
        entry: &["/bin/a"],
        path: "/bin",
        user: "65532:65532",
    };

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("taba-archive-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        folder
    }

    #[test]
    fn one_content_gives_one_archive() {
        let folder = folder("same");
        let fill = |root: &Path| {
            fs::create_dir(root.join("bin"))
                .and_then(|()| fs::write(root.join("bin/a"), "a"))
                .context("write")
        };
        let bytes = ["first.tar", "second.tar"].map(|name| {
            write(&folder.join(name), &IMAGE, fill).expect("an image");
            fs::read(folder.join(name)).expect("just made")
        });
        fs::remove_dir_all(&folder).expect("made above");
        assert_eq!(bytes[0], bytes[1]);
        assert!(bytes[0].windows(26).any(|window| window == br#"["localhost/example:test"]"#));
    }

    #[test]
    fn programs_stay_programs_and_tmp_is_open_to_everyone() {
        let folder = folder("modes");
        let archive = folder.join("image.tar");
        write(&archive, &IMAGE, |root| {
            fs::write(root.join("program"), "")?;
            set_mode(&root.join("program"), 0o700)?;
            fs::write(root.join("text"), "")?;
            set_mode(&root.join("text"), 0o600)
        })
        .expect("an image");
        let list = process::output(process::program("sh").args([
            "-c",
            "tar -xOf \"$1\" layer.tar | tar -tvf -",
            "sh",
            archive.to_str().expect("plain"),
        ]));
        fs::remove_dir_all(&folder).expect("made above");
        let modes: Vec<_> = list
            .expect("tar lists")
            .lines()
            .filter_map(|line| {
                Some((line.split(' ').next()?.to_owned(), line.split(' ').next_back()?.to_owned()))
            })
            .collect();
        let expected = [
            ("drwxr-xr-x", "./"),
            ("-rwxr-xr-x", "./program"),
            ("-rw-r--r--", "./text"),
            ("drwxrwxrwt", "./tmp/"),
        ];
        assert_eq!(modes, expected.map(|(mode, name)| (mode.to_owned(), name.to_owned())));
    }
}
