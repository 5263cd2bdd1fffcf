//! Where a lab lives: a folder, and namespaces of network, mounts and processes of its own.
//!
//! The lab's process is the first of its process namespace, so when it ends the kernel kills every process
//! of the lab, and with the last of them the networks and mounts go. What can be left behind is the folder
//! and, if whoever watched over a lab was killed, the lab itself. Each folder therefore holds a file that
//! names both by process id and start time; the next lab to start, or `lab down`, removes what nobody
//! owns any more. A process id whose start time differs is a stranger's and left alone.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::{Value, json};

use super::net::Mode;

/// Beginning of the names of folders of labs.
const PREFIX: &str = "taba-lab-";
/// Beginning of the names of folders that are kept because a run failed.
const KEPT_PREFIX: &str = "taba-faults-kept-";
const STATE: &str = "state.json";
/// Longest time for a killed lab to be gone.
const GONE_PATIENCE: Duration = Duration::from_secs(10);

/// A process, told apart from a later one with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessId {
    pid: i32,
    /// In clock ticks since the machine started.
    started: u64,
}

impl ProcessId {
    /// The process with this id, if there is one.
    #[must_use]
    pub fn find(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Field 22, counted behind the command, which may hold blanks.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        (state != "Z").then_some(Self { pid, started })
    }

    /// This process.
    #[must_use]
    pub fn own() -> Option<Self> {
        Self::find(i32::try_from(std::process::id()).ok()?)
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::find(self.pid) == Some(self)
    }

    /// Kills it and waits until it is gone. Nothing happens to another process of the same id.
    ///
    /// # Errors
    /// If it stays.
    pub fn kill(self) -> Result<()> {
        let pid = Pid::from_raw(self.pid).context("a process has an id")?;
        let deadline = Instant::now() + GONE_PATIENCE;
        while self.is_alive() {
            let _ = kill_process(pid, Signal::KILL);
            if Instant::now() > deadline {
                bail!("process {} does not go away", self.pid);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Its child, which for `unshare` is the first process of the namespace.
    #[must_use]
    pub fn child(self) -> Option<i32> {
        let file = format!("/proc/{0}/task/{0}/children", self.pid);
        std::fs::read_to_string(file).ok()?.split_whitespace().next()?.parse().ok()
    }

    fn json(self) -> Value {
        json!([self.pid, self.started])
    }

    fn parse(value: &Value) -> Option<Self> {
        let pid = i32::try_from(value.get(0)?.as_i64()?).ok()?;
        Some(Self { pid, started: value.get(1)?.as_u64()? })
    }
}

/// What this machine allows.
///
/// # Panics
/// Never.
#[must_use]
pub fn best_mode() -> (Mode, Option<String>) {
    let script = "mount -t tmpfs tmpfs /run && ip netns add lab && nft add table inet lab && ip link add lab0 type bridge";
    let probe = unshare().args(["sh", "-c", script]).stdin(Stdio::null()).output();
    match probe {
        Ok(output) if output.status.success() => (Mode::Namespaces, None),
        Ok(output) => (Mode::Loopback, Some(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        Err(error) => (Mode::Loopback, Some(format!("unshare: {error}"))),
    }
}

/// `unshare` with the namespaces of a lab; without root also one of users, where we are root.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.env("PATH", search_path());
    if !geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command
}

/// The search path with the folders of system programs, which people without root often lack.
fn search_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

/// A folder with a lab in it.
#[derive(Debug)]
pub struct Sandbox {
    folder: PathBuf,
    child: Option<Child>,
}

impl Sandbox {
    /// Makes a folder and starts `program` (this one) in a sandbox with it. If `tethered`, the lab ends
    /// when this process does. Its output goes to `lab.log`, but standard output to this process.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(program: &Path, mode: Mode, arguments: &[String], tethered: bool) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("{PREFIX}{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let mut sandbox = Self { folder, child: None };
        let mut command = match mode {
            Mode::Namespaces => {
                let mut command = unshare();
                command.arg(program);
                command
            }
            Mode::Loopback => Command::new(program),
        };
        command.env("PATH", search_path());
        command.args(arguments).arg("--folder").arg(&sandbox.folder).args(["--mode", mode.name()]);
        let log = File::create(sandbox.folder.join("lab.log")).context("make a log")?;
        command.stderr(log.try_clone().context("share a log")?);
        if tethered {
            command.arg("--tethered").stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            // A terminal's Ctrl-C is not for a lab that stays.
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            command.stdin(Stdio::null()).stdout(log);
        }
        let child = command.spawn().context("start a sandbox")?;
        let lab = i32::try_from(child.id()).ok().and_then(ProcessId::find).context("find the sandbox")?;
        sandbox.child = Some(child);
        let owner = tethered.then(ProcessId::own).flatten();
        let state = json!({"owner": owner.map(ProcessId::json), "lab": lab.json()});
        std::fs::write(sandbox.folder.join(STATE), state.to_string()).context("write the state")?;
        Ok(sandbox)
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the lab printed, once it has ended; after `patience` it is killed.
    ///
    /// # Errors
    /// If it fails or takes too long.
    pub fn output(&mut self, patience: Duration) -> Result<String> {
        let child = self.child.as_mut().context("the lab runs")?;
        let mut stdout = child.stdout.take().context("standard output is piped")?;
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let deadline = Instant::now() + patience;
        while !reader.is_finished() {
            if Instant::now() > deadline {
                child.kill().context("kill the lab")?;
                child.wait().context("wait for the lab")?;
                bail!("the lab did not end within {patience:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let text = reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
        let status = child.wait().context("wait for the lab")?;
        if !status.success() {
            bail!("the lab ended with {status}");
        }
        Ok(text)
    }

    /// Whether the lab still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Leaves it running when this is dropped.
    #[must_use]
    pub fn leave(mut self) -> PathBuf {
        self.child = None;
        std::mem::take(&mut self.folder)
    }

    /// Ends the lab and keeps its folder under another name; gives that.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub fn keep(mut self, name: &str) -> Result<PathBuf> {
        self.end();
        let folder = std::mem::take(&mut self.folder);
        let kept = std::env::temp_dir().join(format!("{KEPT_PREFIX}{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&kept);
        std::fs::rename(&folder, &kept).context("keep a folder")?;
        Ok(kept)
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.end();
        if !self.folder.as_os_str().is_empty() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// A lab that was found by its folder.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its folder.
    pub folder: PathBuf,
    /// Its outermost process.
    pub lab: Option<ProcessId>,
    owner: Option<ProcessId>,
}

impl Found {
    /// Whether it was left running for a person, and does.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.owner.is_none() && self.lab.is_some_and(ProcessId::is_alive)
    }

    /// Whether nobody looks after it any more.
    fn is_leftover(&self) -> bool {
        match (self.owner, self.lab) {
            (Some(owner), _) => !owner.is_alive(),
            (None, Some(lab)) => !lab.is_alive(),
            // A folder without a readable state belongs to a lab that is just starting, or died there.
            (None, None) => is_old(&self.folder),
        }
    }

    /// Kills it and removes its folder.
    ///
    /// # Errors
    /// If either stays.
    pub fn remove(&self) -> Result<()> {
        if let Some(lab) = self.lab {
            lab.kill()?;
        }
        std::fs::remove_dir_all(&self.folder).with_context(|| format!("remove {}", self.folder.display()))
    }
}

fn is_old(folder: &Path) -> bool {
    let made = std::fs::metadata(folder).and_then(|data| data.modified());
    made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > Duration::from_secs(60)))
}

/// All labs of this machine, the newest last.
#[must_use]
pub fn labs() -> Vec<Found> {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return Vec::new() };
    let mut folders: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
        .map(|entry| entry.path())
        .collect();
    folders.sort_by_key(|folder| std::fs::metadata(folder).and_then(|data| data.modified()).ok());
    folders.into_iter().map(found).collect()
}

fn found(folder: PathBuf) -> Found {
    let text = std::fs::read_to_string(folder.join(STATE)).unwrap_or_default();
    let state: Value = serde_json::from_str(&text).unwrap_or_default();
    Found { lab: ProcessId::parse(&state["lab"]), owner: ProcessId::parse(&state["owner"]), folder }
}

/// Removes what killed labs left behind; says what.
///
/// # Errors
/// If something stays.
pub fn sweep() -> Result<Vec<PathBuf>> {
    let mut swept = Vec::new();
    for lab in labs().into_iter().filter(Found::is_leftover) {
        lab.remove()?;
        swept.push(lab.folder);
    }
    Ok(swept)
}

/// Ends this process as soon as standard input does: whoever held it is gone. The folder is swept by the next
/// lab. Removed here, while processes still write to it, it could lose the file by which it is found, and stay.
pub fn tether() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(3);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_another_start_time_is_a_stranger() {
        let own = ProcessId::own().expect("this process runs");
        assert!(own.is_alive());
        let stranger = ProcessId { started: own.started + 1, ..own };
        assert!(!stranger.is_alive());
        stranger.kill().expect("nothing to do");
        assert!(own.is_alive());
    }

    #[test]
    fn process_ids_survive_their_file() {
        let own = ProcessId::own().expect("this process runs");
        assert_eq!(ProcessId::parse(&own.json()), Some(own));
        assert_eq!(ProcessId::parse(&Value::Null), None);
    }
}
