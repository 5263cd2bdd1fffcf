//! The Redis process: started, watched, started again, stopped.
//!
//! A thread of its own does it, and lives as long as the keeper: Linux ends a child by its parent's death
//! (`PR_SET_PDEATHSIG`) when the *thread* that made it ends.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, kill_process};
use rustix::process::{set_parent_process_death_signal, waitid};
use thiserror::Error;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::config::Config;

use super::config;

/// Pause before a Redis that ended is started again: the first, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A Redis that ran so long is not in a crash loop.
const STEADY: Duration = Duration::from_secs(30);

/// How often a stop looks whether Redis has ended.
const STOP_POLL: Duration = Duration::from_millis(10);

/// Redis cannot be started.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// The folder or the configuration.
    #[error("write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The thread.
    #[error("start a thread")]
    Thread(#[source] io::Error),
}

/// How often Redis was started and how often it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Starts.
    pub starts: u64,
    /// Ends.
    pub ends: u64,
}

impl Life {
    /// A process runs.
    #[must_use]
    pub const fn is_running(self) -> bool {
        self.starts > self.ends
    }
}

/// The process and its thread.
pub struct Process {
    shared: Arc<Shared>,
    life: watch::Receiver<Life>,
}

struct Shared {
    /// Held while the process is reaped, so that a signal never reaches another with its number.
    pid: Mutex<Option<Pid>>,
    stopping: AtomicBool,
}

impl Process {
    /// Starts Redis and goes on starting it.
    pub fn start(config: &Config) -> Result<Self, ProcessError> {
        let launch = Launch {
            program: config.redis_server.clone(),
            folder: config.data.join("redis"),
            file: config.data.join("redis.conf"),
            text: config::text(config),
        };
        launch.prepare()?;
        let shared = Arc::new(Shared { pid: Mutex::new(None), stopping: AtomicBool::new(false) });
        let (sender, life) = watch::channel(Life::default());
        let run = Run { launch, shared: Arc::clone(&shared), life: sender };
        thread::Builder::new()
            .name("redis".into())
            .spawn(move || run.forever())
            .map_err(ProcessError::Thread)?;
        Ok(Self { shared, life })
    }

    /// Tells of starts and ends.
    #[must_use]
    pub fn life(&self) -> watch::Receiver<Life> {
        self.life.clone()
    }

    /// Ends Redis and starts it no more: kindly at first, by force after `patience`.
    pub async fn stop(&self, patience: Duration) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + patience;
        self.signal(Signal::TERM);
        while self.shared.pid.lock().is_some() {
            if Instant::now() > deadline {
                warn!("redis did not stop in time and is killed");
                self.signal(Signal::KILL);
                tokio::time::sleep(STOP_POLL).await;
            }
            tokio::time::sleep(STOP_POLL).await;
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = *self.shared.pid.lock() {
            // It may have ended already; then there is nothing to do.
            let _ = kill_process(pid, signal);
        }
    }
}

struct Launch {
    program: PathBuf,
    folder: PathBuf,
    file: PathBuf,
    text: String,
}

impl Launch {
    fn prepare(&self) -> Result<(), ProcessError> {
        let write = |path: &PathBuf| {
            let path = path.clone();
            move |source| ProcessError::Write { path, source }
        };
        std::fs::create_dir_all(&self.folder).map_err(write(&self.folder))?;
        // It holds the password. What Sentinel made of it is not kept, so neither are its permissions.
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(write(&self.file)(error)),
            _ => {}
        }
        let made = File::options().write(true).create_new(true).mode(0o600).open(&self.file);
        made.and_then(|mut file| file.write_all(self.text.as_bytes())).map_err(write(&self.file))
    }

    fn spawn(&self) -> io::Result<Child> {
        let keeper = getpid();
        let mut command = Command::new(&self.program);
        command.arg(&self.file).stdin(Stdio::null()).stdout(io::stderr()).process_group(0);
        let die_with_keeper = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The keeper may have ended between the fork and the line above.
            if getppid() == Some(keeper) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        };
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; this makes two system
        // calls, allocates nothing and takes no lock.
        #[allow(unsafe_code, reason = "there is no safe way to run a system call in the child")]
        unsafe {
            command.pre_exec(die_with_keeper);
        }
        command.spawn()
    }
}

struct Run {
    launch: Launch,
    shared: Arc<Shared>,
    life: watch::Sender<Life>,
}

impl Run {
    fn forever(&self) {
        let mut pause = BACK_OFF.0;
        while !self.shared.stopping.load(Ordering::SeqCst) {
            let started = Instant::now();
            if let Err(error) = self.once() {
                error!(error = &error as &dyn std::error::Error, "redis cannot be started");
            }
            if started.elapsed() > STEADY {
                pause = BACK_OFF.0;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(BACK_OFF.1);
        }
    }

    /// One life of the process.
    fn once(&self) -> Result<(), ProcessError> {
        self.launch.prepare()?;
        let write = |source| ProcessError::Write { path: self.launch.program.clone(), source };
        let mut child = {
            let mut pid = self.shared.pid.lock();
            if self.shared.stopping.load(Ordering::SeqCst) {
                return Ok(());
            }
            let child = self.launch.spawn().map_err(write)?;
            *pid = Pid::from_raw(child.id() as i32);
            child
        };
        info!(pid = child.id(), "redis started");
        self.life.send_modify(|life| life.starts += 1);
        let pid = Pid::from_child(&child);
        // Waits without reaping: until then the number stays taken.
        while waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            .is_err_and(|e| e == rustix::io::Errno::INTR)
        {}
        let mut held = self.shared.pid.lock();
        *held = None;
        let status = child.wait();
        drop(held);
        self.life.send_modify(|life| life.ends += 1);
        if self.shared.stopping.load(Ordering::SeqCst) {
            info!(?status, "redis stopped");
        } else {
            warn!(?status, "redis ended by itself");
        }
        Ok(())
    }
}
