//! The cluster's programs, built from Go modules at the versions of `go.mod` in `e2e/cluster` and below.
//!
//! They are kept in the user's cache below a name that is a digest of what they are built from, so a
//! changed version is built anew and an unchanged one never. An interrupted build goes on where it stopped,
//! since Go keeps what it has compiled.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::{process, tools};

/// A Go module of ours, and what is built from it.
#[derive(Debug)]
struct Module {
    /// Its folder, from the workspace's root.
    folder: &'static str,
    /// What a build is made from, in that folder.
    sources: &'static [&'static str],
    /// The packages that become programs, each named after its last part. The biggest come first, so that
    /// what they share is compiled with both cores busy.
    packages: &'static [&'static str],
}

const MAIN: Module = Module {
    folder: "e2e/cluster",
    sources: &[
        "go.mod",
        "go.sum",
        "cmd/kubernetes/main.go",
        "cmd/kubernetes/certificates.go",
        "cmd/coredns/main.go",
        "cmd/fetch/main.go",
        "cmd/pause/main.go",
    ],
    packages: &[
        "./cmd/kubernetes",
        "./cmd/pause",
        "./cmd/fetch",
        "./cmd/coredns",
        "sigs.k8s.io/metrics-server/cmd/metrics-server",
        "github.com/rancher/local-path-provisioner",
        HELM,
    ],
};
const HELM: &str = "helm.sh/helm/v3/cmd/helm";

/// A module of its own, because what it asks for would change the versions of the others.
const POLICIES: Module = Module {
    folder: "e2e/cluster/policies",
    sources: &["go.mod", "go.sum", "main.go"],
    packages: &["taba/e2e/cluster/policies"],
};

/// The oldest Go that fetches the toolchain a module asks for.
const GO_MINOR_MIN: u32 = 21;

/// Where the programs are.
#[derive(Debug)]
pub struct Programs {
    folder: PathBuf,
    policies: PathBuf,
}

impl Programs {
    /// The programs, built if they are not in the cache.
    ///
    /// # Errors
    /// If there is no Go, or the modules cannot be reached or built.
    pub fn ensure() -> Result<Self> {
        let programs = Self::locate()?;
        MAIN.ensure(&programs.folder, MAIN.packages)?;
        POLICIES.ensure(&programs.policies, POLICIES.packages)?;
        Ok(programs)
    }

    /// Helm alone, built if it is not in the cache.
    ///
    /// # Errors
    /// If there is no Go, or the module cannot be reached or built.
    pub fn ensure_helm() -> Result<PathBuf> {
        let programs = Self::locate()?;
        MAIN.ensure(&programs.folder, &[HELM])?;
        Ok(programs.helm())
    }

    /// The programs' places, whether they are built or not.
    pub fn locate() -> Result<Self> {
        Ok(Self { folder: MAIN.cache()?, policies: POLICIES.cache()? })
    }

    /// etcd, Kubernetes and kubectl in one.
    pub fn kubernetes(&self) -> PathBuf {
        self.program("kubernetes")
    }

    /// Helm.
    pub fn helm(&self) -> PathBuf {
        self.program("helm")
    }

    /// What enforces NetworkPolicies on a node.
    pub fn policies(&self) -> PathBuf {
        program(&self.policies, "policies")
    }

    /// A program by its name.
    pub fn program(&self, name: &str) -> PathBuf {
        program(&self.folder, name)
    }

    /// Where the images made of them are kept.
    pub fn images(&self) -> PathBuf {
        self.folder.join("images")
    }
}

impl Module {
    /// The folder for what is built from the module as it is.
    fn cache(&self) -> Result<PathBuf> {
        let folder = process::root().join(self.folder);
        let files: Vec<_> = self.sources.iter().map(|file| folder.join(file)).collect();
        Ok(tools::cache()?.join("kubernetes").join(&digest(&files)?[..16]))
    }

    fn ensure(&self, cache: &Path, packages: &[&str]) -> Result<()> {
        let missing: Vec<_> =
            packages.iter().filter(|package| !program(cache, name_of(package)).is_file()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        require_go()?;
        let bin = cache.join("bin");
        std::fs::create_dir_all(&bin).with_context(|| format!("failed to make {}", bin.display()))?;
        if missing.len() > 1 {
            eprintln!("building Kubernetes from Go modules: about 10 minutes on two cores, once");
        }
        for package in missing {
            let part = bin.join(format!(".{}", name_of(package)));
            self.build(package, &part).with_context(|| format!("failed to build {package}"))?;
            // Only a whole program gets its name.
            std::fs::rename(part, program(cache, name_of(package))).context("failed to name a program")?;
        }
        Ok(())
    }

    fn build(&self, package: &str, output: &Path) -> Result<()> {
        let begin = Instant::now();
        let mut build = go(self.folder);
        // Nobody debugs these; to make the debug information only to leave it out takes a tenth of the time.
        build.args(["build", "-v", "-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", &linker_flags()?]);
        build.arg("-o").arg(output).arg(package);
        process::announce(&build);
        let mut child = build.stderr(Stdio::piped()).spawn().context("failed to start go")?;
        let stderr = child.stderr.take().context("standard error is piped")?;
        let mut progress = Progress { begin, packages: 0, modules: 0, shown: begin };
        let mut complaints = Vec::new();
        for line in BufReader::new(stderr).lines() {
            let line = line.context("failed to read what go says")?;
            if !progress.see(&line) {
                complaints.push(line);
            }
        }
        let status = child.wait().context("failed to wait for go")?;
        if !status.success() {
            bail!("go ended with {status}:\n{}", complaints.join("\n"));
        }
        let bytes = std::fs::metadata(output).context("go made no program")?.len();
        eprintln!(
            "   {}: {:.0} s, {} MB",
            name_of(package),
            begin.elapsed().as_secs_f64(),
            bytes / 1_000_000
        );
        Ok(())
    }
}

fn program(folder: &Path, name: &str) -> PathBuf {
    folder.join("bin").join(name)
}

fn name_of(package: &str) -> &str {
    package.rsplit('/').next().unwrap_or(package)
}

/// What a build has come to, from the lines of `go build -v`: one for each module fetched or package compiled.
struct Progress {
    begin: Instant,
    packages: u32,
    modules: u32,
    shown: Instant,
}

impl Progress {
    /// Whether a line tells of progress; else it is a complaint.
    fn see(&mut self, line: &str) -> bool {
        if line.starts_with("go: downloading ") {
            self.modules += 1;
        } else if !line.is_empty() && !line.starts_with('#') && !line.contains([' ', ':', '\t']) {
            self.packages += 1;
        } else {
            return false;
        }
        if self.shown.elapsed() > Duration::from_secs(10) {
            let seconds = self.begin.elapsed().as_secs();
            eprintln!(
                "   {seconds} s: {} modules fetched, {} packages compiled",
                self.modules, self.packages
            );
            self.shown = Instant::now();
        }
        true
    }
}

/// Go in a module's folder, with settings that a person's own may not change.
fn go(module: &str) -> Command {
    let mut command = process::program("go");
    command.current_dir(process::root().join(module));
    command.env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly -buildvcs=false").env("GOWORK", "off");
    // Some packages of Go forbid it to fetch the toolchain that a module asks for.
    if std::env::var_os("GOTOOLCHAIN").is_none() {
        command.env("GOTOOLCHAIN", "auto");
    }
    command
}

/// Kubernetes reports the version that it is linked with; kubelet and API server compare theirs.
fn linker_flags() -> Result<String> {
    let mut list = go(MAIN.folder);
    let version = process::output(list.args(["list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes"]))?;
    let version = version.trim();
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let package = "k8s.io/component-base/version";
    Ok(format!(
        "-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} \
         -X {package}.gitMinor={minor} -X {package}.gitTreeState=clean"
    ))
}

fn require_go() -> Result<()> {
    let found = process::program("go").env("GOTOOLCHAIN", "local").arg("version").output();
    let found =
        found.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned());
    match go_minor(&found) {
        Some(minor) if minor >= GO_MINOR_MIN => Ok(()),
        Some(_) => bail!("no Go 1.{GO_MINOR_MIN} or newer is here, only `{}`; {GO_ADVICE}", found.trim()),
        None => bail!("no Go 1.{GO_MINOR_MIN} or newer is here; {GO_ADVICE}"),
    }
}

const GO_ADVICE: &str = "Kubernetes is built from Go modules: install Go from https://go.dev/dl and put `go` on \
                         the search path; newer toolchains it fetches by itself";

/// The minor version in a line such as `go version go1.24.1 linux/amd64`.
fn go_minor(line: &str) -> Option<u32> {
    let version = line.strip_prefix("go version go1.")?;
    version.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

/// SHA-256 of the digests of files, in hexadecimal.
pub fn digest(files: &[PathBuf]) -> Result<String> {
    let each = process::output(process::program("sha256sum").args(files))?;
    let sums: String =
        each.lines().filter_map(|line| line.split(' ').next()).map(|sum| format!("{sum}\n")).collect();
    let mut command = process::program("sha256sum");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("failed to start sha256sum")?;
    child
        .stdin
        .take()
        .context("standard input is piped")?
        .write_all(sums.as_bytes())
        .context("failed to digest")?;
    let output = child.wait_with_output().context("failed to digest")?;
    let sum = String::from_utf8_lossy(&output.stdout);
    Ok(sum.split(' ').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_go_is_read_and_an_old_one_told_from_a_new_one() {
        assert_eq!(go_minor("go version go1.19.8 linux/amd64\n"), Some(19));
        assert_eq!(go_minor("go version go1.26rc1 linux/arm64"), Some(26));
        assert_eq!(go_minor(""), None);
    }

    #[test]
    fn progress_is_told_from_complaints() {
        let now = Instant::now();
        let mut progress = Progress { begin: now, packages: 0, modules: 0, shown: now };
        assert!(progress.see("go: downloading k8s.io/api v0.34.4"));
        assert!(progress.see("k8s.io/api/core/v1"));
        assert!(!progress.see("./main.go:3:1: syntax error"));
        assert!(!progress.see("# taba/e2e/cluster/cmd/pause"));
        assert_eq!((progress.modules, progress.packages), (1, 1));
    }

    #[test]
    fn a_changed_file_changes_the_digest() {
        let file = std::env::temp_dir().join(format!("taba-digest-{}", std::process::id()));
        let mut digests = ["a", "b"].map(|text| {
            std::fs::write(&file, text).expect("a temporary file");
            digest(std::slice::from_ref(&file)).expect("sha256sum is there")
        });
        std::fs::remove_file(&file).expect("made above");
        digests.sort();
        assert!(digests[0].len() == 64 && digests[0] != digests[1]);
    }
}
