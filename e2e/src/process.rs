//! A real `taba` process: started, watched until ready, killed or told to stop, never left behind.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for a server to become ready or to stop.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// The `taba` binary: that of `cargo xtask test`, if it runs this test, or built once with the profile of this test.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn taba_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match programs_there() {
        Some(folder) => folder.join("taba"),
        None => build("taba-server", "taba", &[]).expect("taba can be built"),
    })
}

/// The folder of `taba` and `taba-keeper`, which are built as [`taba_binary`] is.
///
/// # Panics
/// If they cannot be built.
#[must_use]
pub fn cluster_programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        programs_there().unwrap_or_else(|| {
            let _ = taba_binary();
            build("taba-keeper", "taba-keeper", &[]).expect("taba-keeper can be built");
            profile_folder().expect("this program is in a target folder")
        })
    })
}

/// As [`cluster_programs`], with known defects in them, which `TABA_MUTANT` turns on. They are kept apart, so that nobody
/// runs them by mistake.
///
/// # Panics
/// If they cannot be built.
#[must_use]
pub fn mutant_programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| match programs_there() {
        Some(folder) => folder.join("mutants"),
        None => build_mutants().expect("programs with defects can be built"),
    })
}

/// How many runs of a campaign go on at a time: one waits more than it works where programs are optimised. Where they are
/// not, it keeps more than a core busy.
#[must_use]
pub fn campaign_lanes() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4);
    if programs_there().is_some() { cores + cores.div_ceil(2) } else { cores }
}

/// Does something for each of some, on so many threads.
pub fn in_lanes<T: Send>(lanes: usize, each: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
    let waiting = Mutex::new(each);
    let next = || waiting.lock().expect("no holder of this lock panics").next();
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                while let Some(one) = next() {
                    work(one);
                }
            });
        }
    });
}

/// The folder of the programs that `cargo xtask test` built, with optimisation.
fn programs_there() -> Option<PathBuf> {
    std::env::var_os("TABA_PROGRAMS").map(PathBuf::from)
}

fn build_mutants() -> Result<PathBuf> {
    let folder = profile_folder()?.join("mutants");
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    for (package, program) in [("taba-server", "taba"), ("taba-keeper", "taba-keeper")] {
        let built = build(package, program, &["--features", "mutants"])?;
        // A program that runs cannot be written to, but it can be replaced.
        let new = folder.join(format!("{program}.new"));
        std::fs::copy(&built, &new)
            .and_then(|_| std::fs::rename(&new, folder.join(program)))
            .with_context(|| format!("keep {program} in {}", folder.display()))?;
    }
    Ok(folder)
}

/// `<target>/<profile>`, where this program is, or two folders up from a test.
fn profile_folder() -> Result<PathBuf> {
    let this = std::env::current_exe().context("find this program")?;
    let folder = this.parent().context("find its folder")?;
    let is_test = folder.file_name() == Some(OsStr::new("deps"));
    let folder = if is_test { folder.parent().context("find the target folder")? } else { folder };
    Ok(folder.to_owned())
}

fn build(package: &str, program: &str, flags: &[&str]) -> Result<PathBuf> {
    let profile_dir = profile_folder()?;
    let profile = match profile_dir.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let above = profile_dir.parent().context("find the target folder")?;
    // One for which `--target` was given has a folder of its own.
    let target = above.file_name().and_then(OsStr::to_str).filter(|name| name.ends_with("-linux-musl"));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // What cargo told this test about its own package would make build scripts run again that look at it.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|of| name.to_string_lossy().starts_with(of)) {
            build.env_remove(name);
        }
    }
    let status = build
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--package", package, "--bin", program, "--profile", profile])
        .args(flags)
        .args(target.iter().flat_map(|target| ["--target", target]))
        .arg("--target-dir")
        .arg(if target.is_some() { above.parent().context("find the target folder")? } else { above })
        .status()
        .context("run cargo build")?;
    if !status.success() {
        bail!("cargo build of {program} failed");
    }
    Ok(profile_dir.join(program))
}

/// A running `taba standalone`, killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts a standalone server on a free loopback port over `data` and waits until it is ready.
    ///
    /// # Errors
    /// If it does not start or does not get ready in time.
    pub fn start(data: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_with(Command::new(taba_binary()), data, arguments)
    }

    /// As [`Server::start`], with a command that ends up running `taba`.
    ///
    /// # Errors
    /// If it does not start or does not get ready in time.
    pub fn start_with(command: Command, data: &Path, arguments: &[&str]) -> Result<Self> {
        let mut server = Self::spawn(command, data, arguments)?;
        server.wait_ready()?;
        Ok(server)
    }

    /// Starts a server and waits only until it listens.
    ///
    /// # Errors
    /// If it does not start.
    pub fn spawn(mut command: Command, data: &Path, arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for the address")?;
        let address_file = folder.path().join("address");
        command.arg("standalone").arg("--data").arg(data);
        command.args(["--listen", "127.0.0.1:0", "--listen-file"]).arg(&address_file).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.spawn().context("start taba")?;
        let address =
            wait_for(|| read_address(&address_file), &mut child).context("wait for taba to listen")?;
        Ok(Self { child, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path on it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let url = self.url("/readyz");
        let ready = || ureq::get(&url).call().is_ok().then_some(());
        wait_for(ready, &mut self.child).context("wait for taba to be ready")
    }

    /// Kills it with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("kill taba")?;
        self.child.wait().context("wait for the killed taba")?;
        Ok(())
    }

    /// Tells it to stop with SIGTERM and gives its exit status.
    ///
    /// # Errors
    /// If it does not stop in time.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).context("tell taba to stop")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().context("wait for taba")? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("taba did not stop within {PATIENCE:?}");
            }
            std::thread::sleep(POLL);
        }
    }

    /// Resident memory of the process, in bytes.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).context("read its status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("find VmRSS")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().context("read VmRSS")?;
        Ok(kilobytes * 1024)
    }

    /// Processor time the process has used so far, user and system.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).context("read its stat")?;
        // Fields 14 and 15 (utime, stime), counted behind the command, which may hold blanks.
        let fields: Vec<&str> =
            stat.rsplit_once(')').context("find the command")?.1.split_whitespace().collect();
        let ticks =
            |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).context("read a time");
        let ticks = ticks(11)? + ticks(12)?;
        Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_address(file: &Path) -> Option<SocketAddr> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Polls until `probe` gives something; fails when the process ends or patience does.
fn wait_for<T>(mut probe: impl FnMut() -> Option<T>, child: &mut Child) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return Ok(found);
        }
        if let Some(status) = child.try_wait().context("look at taba")? {
            bail!("taba ended with {status}");
        }
        if Instant::now() > deadline {
            bail!("nothing within {PATIENCE:?}");
        }
        std::thread::sleep(POLL);
    }
}
