//! Bringing Taba's image to a registry, for a cluster that is not the test cluster.
//!
//! A registry's login, certificates and protocol are the business of the tools people have for that.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;
use crate::system;

/// Pushes an archive under the name `registry/name:tag`, with the login of the tool that does it.
///
/// # Errors
/// If none of the tools is here, or the registry refuses.
pub fn push(archive: &Path, target: &str) -> Result<()> {
    check(target)?;
    if system::find("skopeo").is_some() {
        return process::run(&mut skopeo(archive, target));
    }
    let Some(engine) = ["podman", "docker"].into_iter().find(|name| system::find(name).is_some()) else {
        bail!(
            "pushing needs skopeo, podman or docker; or copy {} to where one is and push it from there",
            archive.display()
        );
    };
    process::run(process::program(engine).arg("load").arg("--input").arg(archive))?;
    let image = format!("{}:{}", super::TABA, super::TAG);
    process::run(process::program(engine).args(["tag", &image, target]))?;
    process::run(process::program(engine).args(["push", target]))
}

fn skopeo(archive: &Path, target: &str) -> Command {
    let mut command = process::program("skopeo");
    command
        .arg("copy")
        .arg(format!("docker-archive:{}", archive.display()))
        .arg(format!("docker://{target}"));
    command
}

/// A name without a tag would push over `latest`, which nodes then keep.
fn check(target: &str) -> Result<()> {
    let last = target.rsplit('/').next().unwrap_or_default();
    if !target.contains('/') || !last.contains(':') {
        bail!("--push takes registry/name:tag, not {target:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_without_registry_or_tag_is_refused() {
        for target in ["taba", "taba:1", "registry.example:5000/taba", ""] {
            assert!(check(target).is_err(), "{target:?}");
        }
        for target in ["registry.example/taba:1.2.3", "localhost:5000/team/taba:test"] {
            check(target).expect("whole");
        }
    }

    #[test]
    fn skopeo_gets_both_transports() {
        let command = skopeo(Path::new("/a.tar"), "registry.example/taba:1");
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert_eq!(words, ["copy", "docker-archive:/a.tar", "docker://registry.example/taba:1"]);
    }
}
