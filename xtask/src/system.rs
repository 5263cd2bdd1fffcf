//! What the machine itself must have: programs of the system and components of the Rust toolchain.
//!
//! Only what is missing is installed, and only where we may: system packages as root on a Debian-like
//! system, components through rustup. Everywhere else the error names what is missing and how to get it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// A program that must be on the search path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// The name it is called by.
    pub name: &'static str,
    /// What it is, for the error.
    pub what: &'static str,
    /// The Debian packages that bring it.
    pub packages: &'static [&'static str],
}

/// Compiles zstd and mimalloc, which are written in C.
pub const C_COMPILER: Program =
    Program { name: "cc", what: "a C compiler and linker", packages: &["gcc", "libc6-dev"] };

/// Compiles libFuzzer.
pub const CXX_COMPILER: Program = Program { name: "c++", what: "a C++ compiler", packages: &["g++"] };

/// Fetches the advisory database.
pub const GIT: Program = Program { name: "git", what: "git", packages: &["git", "ca-certificates"] };

/// Gives an end-to-end test a file system of its own.
pub const UNSHARE: Program = Program { name: "unshare", what: "unshare", packages: &["util-linux"] };

/// Makes that file system a small one.
pub const MOUNT: Program = Program { name: "mount", what: "mount", packages: &["mount"] };

/// Enters namespaces; with it come the other tools that start processes in their own.
pub const NSENTER: Program = Program { name: "nsenter", what: "nsenter", packages: &["util-linux"] };

/// Makes the lab's hosts, addresses and bridge; `tc`, which makes links slow, comes with it.
pub const IP: Program = Program { name: "ip", what: "ip", packages: &["iproute2"] };

/// Cuts links and loses packets.
pub const NFT: Program = Program { name: "nft", what: "nft", packages: &["nftables"] };

/// The store of a cluster; the same program is Sentinel.
pub const REDIS: Program =
    Program { name: "redis-server", what: "Redis, 7.0 or newer", packages: &["redis-server"] };

/// Many small programs in one, which need no library.
pub const BUSYBOX: Program =
    Program { name: "busybox", what: "a static busybox for images", packages: &["busybox-static"] };

/// Compiles what is written in C for static programs.
pub const MUSL_COMPILER: Program =
    Program { name: "musl-gcc", what: "a C compiler for static programs", packages: &["musl-tools"] };

/// Everything that the lab of the end-to-end tests calls.
pub const LAB: [Program; 7] = [C_COMPILER, UNSHARE, MOUNT, NSENTER, IP, NFT, REDIS];

/// Sees to it that programs are there.
///
/// # Errors
/// What is missing and how to get it, if it cannot be installed from here.
pub fn ensure_programs(programs: &[Program]) -> Result<()> {
    let missing = missing(programs);
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().flat_map(|program| program.packages).copied().collect();
    if !may_install() {
        bail!("{}", advice(&missing, &packages));
    }
    install(&packages)?;
    let missing = self::missing(programs);
    if !missing.is_empty() {
        bail!("installed, but still not there: {}", advice(&missing, &packages));
    }
    Ok(())
}

/// Sees to it that files of packages are there that are no programs on the search path.
///
/// # Errors
/// How to get them, if they cannot be installed from here.
pub fn ensure_packages(file: &Path, packages: &[&str]) -> Result<()> {
    if file.is_file() {
        return Ok(());
    }
    let advice = format!(
        "missing: `{}`; on Debian or Ubuntu: `apt-get install {}` as root",
        file.display(),
        packages.join(" ")
    );
    if !may_install() {
        bail!("{advice}");
    }
    install(packages)?;
    if !file.is_file() {
        bail!("installed, but still not there: {advice}");
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<()> {
    eprintln!("installing {}", packages.join(" "));
    apt_get(&["update", "--quiet"])?;
    let _no_service_starts = Services::forbid()?;
    apt_get(&[&["install", "--yes", "--no-install-recommends"], packages].concat())
}

/// Sees to it that the pinned toolchain has a component, for example `clippy` as `cargo clippy`.
///
/// # Errors
/// How to get it, if rustup cannot.
pub fn ensure_component(component: &str, subcommand: &str) -> Result<()> {
    let there = || process::succeeds(process::cargo().args([subcommand, "--version"]));
    if there() {
        return Ok(());
    }
    let mut add = process::program("rustup");
    let added = process::run(add.args(["component", "add", component]));
    if there() {
        return Ok(());
    }
    added.with_context(|| {
        format!(
            "the Rust toolchain has no {component}: run `rustup component add {component}`, \
             or install the toolchain that rust-toolchain.toml names with it"
        )
    })
}

/// Sees to it that the pinned toolchain has the standard library of a target.
///
/// # Errors
/// How to get it, if rustup cannot.
pub fn ensure_target(target: &str) -> Result<()> {
    let sysroot = process::output(process::program("rustc").args(["--print", "sysroot"]))?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(target).is_dir() {
        return Ok(());
    }
    let added = process::run(process::program("rustup").args(["target", "add", target]));
    added.with_context(|| {
        format!("the Rust toolchain has no library for {target}: run `rustup target add {target}`")
    })
}

fn missing(programs: &[Program]) -> Vec<Program> {
    programs.iter().copied().filter(|program| find(program.name).is_none()).collect()
}

/// The first file of this name on the search path, or among the system's programs, which people without
/// root often do not have on theirs.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// While this lives, packages that are installed start no service: tests start their own Redis, and nobody
/// asked for another. Debian asks this file before it starts one (invoke-rc.d, deb-systemd-invoke).
struct Services {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl Services {
    fn forbid() -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        // 101: the action is forbidden.
        std::fs::write(POLICY, "#!/bin/sh\nexit 101\n").context("forbid the start of services")?;
        let services = Self { ours: true };
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(POLICY, executable).context("forbid the start of services")?;
        Ok(services)
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(POLICY);
        }
    }
}

fn may_install() -> bool {
    let user = process::output(process::program("id").arg("-u"));
    find("apt-get").is_some() && user.is_ok_and(|id| id.trim() == "0")
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = process::program("apt-get");
    process::run(command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments))
}

fn advice(missing: &[Program], packages: &[&str]) -> String {
    let named: Vec<_> =
        missing.iter().map(|program| format!("`{}` ({})", program.name, program.what)).collect();
    format!(
        "missing: {}; on Debian or Ubuntu: `apt-get install {}` as root",
        named.join(", "),
        packages.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABSENT: Program =
        Program { name: "no-such-program-anywhere", what: "an example", packages: &["example", "more"] };

    #[test]
    fn only_programs_that_are_not_on_the_path_are_missing() {
        let shell = Program { name: "sh", what: "a shell", packages: &["dash"] };
        assert_eq!(missing(&[shell, ABSENT]), [ABSENT]);
    }

    #[test]
    fn advice_names_the_program_and_the_packages() {
        let advice = advice(&[ABSENT], ABSENT.packages);
        assert_eq!(
            advice,
            "missing: `no-such-program-anywhere` (an example); on Debian or Ubuntu: \
             `apt-get install example more` as root"
        );
    }
}
