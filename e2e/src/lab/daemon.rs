//! A process of the lab that is meant to run until it is told not to: started in its host, killed,
//! stopped, continued, ended, and started again as a service manager would when it ends by itself.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::host::SharedHost;
use super::net::Mode;

const POLL: Duration = Duration::from_millis(10);

/// How a program is started.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What is added to its environment.
    pub environment: Vec<(String, String)>,
}

impl Launch {
    fn command(&self, mode: Mode, log: &File) -> Result<Command> {
        let mut command = match mode {
            Mode::Namespaces => Command::new(&self.program),
            Mode::Loopback => {
                let mut dying = Command::new("setpriv");
                dying.args(["--pdeathsig", "KILL", "--"]).arg(&self.program);
                dying
            }
        };
        command.args(&self.arguments).envs(self.environment.iter().cloned()).stdin(Stdio::null());
        command.stdout(log.try_clone().context("share a log")?);
        command.stderr(log.try_clone().context("share a log")?);
        Ok(command)
    }
}

/// A process and how to start it.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    host: SharedHost,
    mode: Mode,
    log: PathBuf,
    launch: Mutex<Launch>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    child: Option<Child>,
    /// Whether it is to run; a service manager starts it again then.
    wanted: bool,
}

impl Daemon {
    /// A process that does not run yet. Its output is added to `log`.
    #[must_use]
    pub fn new(name: &str, host: SharedHost, mode: Mode, log: PathBuf, launch: Launch) -> Self {
        Self { name: name.to_owned(), host, mode, log, launch: Mutex::new(launch), state: Mutex::default() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host it runs on.
    #[must_use]
    pub fn host(&self) -> &SharedHost {
        &self.host
    }

    /// Changes how it is started from the next time on; gives how it was.
    pub fn relaunch(&self, launch: Launch) -> Launch {
        std::mem::replace(&mut self.launch.lock().expect("no holder of this lock panics"), launch)
    }

    /// How it is started.
    #[must_use]
    pub fn launch(&self) -> Launch {
        self.launch.lock().expect("no holder of this lock panics").clone()
    }

    /// Starts it, unless it runs, and wants it to run from now on.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self) -> Result<()> {
        let launch = self.launch();
        let mut state = self.lock();
        state.wanted = true;
        if state.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None))) {
            return Ok(());
        }
        let log = File::options().create(true).append(true).open(&self.log).context("open a log")?;
        let command = launch.command(self.mode, &log)?;
        state.child = Some(self.host.spawn(command).with_context(|| format!("start {}", self.name))?);
        Ok(())
    }

    /// Its process id, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        let mut state = self.lock();
        let child = state.child.as_mut()?;
        matches!(child.try_wait(), Ok(None)).then(|| Pid::from_child(child))
    }

    /// Sends it a signal, if it runs.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match self.pid() {
            Some(pid) => kill_process(pid, signal).with_context(|| format!("signal {}", self.name)),
            None => Ok(()),
        }
    }

    /// Kills it with SIGKILL. It stays away if `wanted` is false, else it is started again soon.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn kill(&self, wanted: bool) -> Result<()> {
        let mut state = self.lock();
        state.wanted = wanted;
        if let Some(mut child) = state.child.take() {
            child.kill().with_context(|| format!("kill {}", self.name))?;
            child.wait().with_context(|| format!("wait for {}", self.name))?;
        }
        Ok(())
    }

    /// Tells it to stop with SIGTERM and waits until it is gone; kills it when patience ends.
    ///
    /// # Errors
    /// If it does not stop in time.
    pub fn terminate(&self, patience: Duration) -> Result<ExitStatus> {
        self.lock().wanted = false;
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.kill(false)?;
                bail!("{} did not stop within {patience:?} and was killed", self.name);
            }
            std::thread::sleep(POLL);
        }
    }

    fn ended(&self) -> Option<ExitStatus> {
        let mut state = self.lock();
        let status = match state.child.as_mut() {
            None => Some(ExitStatus::default()),
            Some(child) => child.try_wait().ok().flatten(),
        };
        if status.is_some() {
            state.child = None;
        }
        status
    }

    /// If it should run but ended by itself: how it ended. The caller starts it again.
    #[must_use]
    pub fn ended_by_itself(&self) -> Option<ExitStatus> {
        let mut state = self.lock();
        if !state.wanted {
            return None;
        }
        let status = state.child.as_mut()?.try_wait().ok().flatten()?;
        state.child = None;
        Some(status)
    }

    /// Whether it should run and does not.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        let wanted = self.lock().wanted;
        wanted && self.pid().is_none()
    }

    /// Its file of output.
    #[must_use]
    pub fn log(&self) -> &PathBuf {
        &self.log
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.kill(false);
    }
}

/// The living child of a process whose program has this name.
#[must_use]
pub fn child_named(parent: Pid, name: &str) -> Option<Pid> {
    let parent = parent.as_raw_nonzero().get();
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let (command, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let (state, of) = (fields.next()?, fields.next()?);
        let is_it = command == name && of == parent.to_string() && state != "Z";
        is_it.then(|| Pid::from_raw(pid)).flatten()
    })
}
