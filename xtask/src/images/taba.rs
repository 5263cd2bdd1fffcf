//! Taba's own image: three static programs and nothing else.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::archive::{self, Image};
use crate::process;
use crate::quick::{self, TARGET};

/// Where programs are in the image.
const FOLDER: &str = "usr/local/bin";
/// A program and its package.
pub const PROGRAMS: [(&str, &str); 3] =
    [("taba", "taba-server"), ("taba-keeper", "taba-keeper"), ("taba-operator", "taba-operator")];

/// Those that can be built with known defects.
const WITH_DEFECTS: [&str; 2] = ["taba", "taba-keeper"];

pub const IMAGE: Image<'static> = super::image(super::TABA, &["/usr/local/bin/taba"], "/usr/local/bin");

/// Builds programs linked to nothing, so that they run in any image: the keeper is copied into that of Redis.
pub fn build(quick: bool, programs: &[&str]) -> Result<()> {
    compile(quick, programs, &[])?;
    for program in programs {
        let program = folder(quick).join(program);
        let headers = process::output(process::program("readelf").arg("--program-headers").arg(&program))?;
        if headers.contains("INTERP") {
            bail!("{} asks for a loader, so it is not static", program.display());
        }
    }
    Ok(())
}

/// Builds those of [`WITH_DEFECTS`] in `<folder>/mutants`. To be called before [`build`], which then leaves programs
/// without defects where cargo puts them.
pub fn build_mutants(quick: bool) -> Result<()> {
    compile(quick, &WITH_DEFECTS, &["--features", "taba-server/mutants,taba-keeper/mutants"])?;
    let mutants = folder(quick).join("mutants");
    for program in WITH_DEFECTS {
        // A program that runs cannot be written to, but it can be replaced.
        let new = mutants.join(format!("{program}.new"));
        archive::copy(&folder(quick).join(program), &new)?;
        std::fs::rename(&new, mutants.join(program))?;
    }
    Ok(())
}

fn compile(quick: bool, programs: &[&str], features: &[&str]) -> Result<()> {
    quick::ensure_compilers()?;
    let mut build = process::cargo();
    build.args(["build", "--locked", "--target", TARGET, "--profile", profile(quick)]).args(features);
    // For tests all packages whatever is built: for fewer, cargo would compile what they share once more.
    let packages = super::packages().filter(|(program, _)| quick || programs.contains(program));
    build.args(packages.flat_map(|(_, package)| ["--package", package]));
    build.args(programs.iter().flat_map(|program| ["--bin", program]));
    process::run(&mut build)
}

/// Where cargo puts the programs.
pub fn folder(quick: bool) -> PathBuf {
    process::root().join("target").join(TARGET).join(profile(quick))
}

fn profile(quick: bool) -> &'static str {
    if quick { quick::PROFILE } else { "release" }
}

/// Puts the programs into the image's root, without what only debuggers read.
pub fn fill(root: &Path, quick: bool, programs: &[(&str, &str)]) -> Result<()> {
    std::fs::create_dir_all(root.join("data"))?;
    for (program, _) in programs {
        let to = root.join(FOLDER).join(program);
        archive::copy(&folder(quick).join(program), &to)?;
        process::run(process::program("strip").arg("--strip-all").arg(&to))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dockerfile_makes_the_same_image() {
        let text = std::fs::read_to_string(process::root().join("Dockerfile")).expect("it is there");
        let stage = text.split("FROM scratch").nth(1).expect("its last stage is from scratch");
        let user = format!("USER {}", IMAGE.user);
        let entry = format!("ENTRYPOINT [\"{}\"]", IMAGE.entry[0]);
        let path = format!("ENV PATH={}", IMAGE.path);
        for line in [user, entry, path] {
            assert!(stage.lines().any(|found| found == line), "no line `{line}`");
        }
        for (program, package) in PROGRAMS {
            assert!(
                text.contains(&format!("--package {package}")) && text.contains(&format!("--bin {program}"))
            );
        }
        assert!(text.contains(&format!("-o \"/image/{FOLDER}/$program\"")));
        let toolchain =
            std::fs::read_to_string(process::root().join("rust-toolchain.toml")).expect("it is there");
        let version = toolchain.split('"').nth(1).expect("the channel comes first");
        assert!(text.contains(&format!("RUSTUP_TOOLCHAIN={version}")), "another toolchain than {version}");
    }

    /// Cargo wants to see all of them, whatever it builds.
    #[test]
    fn the_dockerfile_sees_every_member_of_the_workspace() {
        let read = |file: &str| std::fs::read_to_string(process::root().join(file)).expect("it is there");
        let (manifest, ignored) = (read("Cargo.toml"), read(".dockerignore"));
        let members = manifest.lines().find(|line| line.starts_with("members = ")).expect("members");
        for member in members.split('"').skip(1).step_by(2) {
            assert!(ignored.lines().any(|line| line == format!("!{member}")), "{member} is left out");
        }
    }
}
