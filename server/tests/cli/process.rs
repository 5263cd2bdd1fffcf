//! Runs the binary: commands that end, and servers that are never left behind.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for anything; a machine under load may need seconds for what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, without settings of whoever runs the tests, and with help texts of one width.
pub fn taba(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taba"));
    for (name, _) in std::env::vars_os() {
        if name == "COLUMNS" || name.to_string_lossy().starts_with("TABA_") {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// What a command that must end well wrote to standard output.
#[track_caller]
pub fn succeed(args: &[&str]) -> String {
    let output = taba(args).output().expect("the binary runs");
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What a command that must fail wrote to standard error.
#[track_caller]
pub fn fail(args: &[&str]) -> String {
    let Output { status, stderr, stdout } = taba(args).output().expect("the binary runs");
    assert_eq!(status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&stdout));
    String::from_utf8(stderr).expect("UTF-8")
}

/// Waits until `found` gives something.
#[track_caller]
pub fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A running `taba standalone` or `taba server`; killed when dropped.
pub struct Server {
    child: Child,
    log: BufReader<ChildStderr>,
    pub address: String,
}

impl Server {
    /// Starts one with data of its own on a free port and waits until it listens.
    pub fn start(data: &Path) -> Self {
        Self::start_with(&["standalone", "--data", data.to_str().expect("a plain path")])
    }

    /// Starts one on a free port and waits until it listens.
    pub fn start_with(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("address");
        let mut child = taba(args)
            .args(["--listen", "127.0.0.1:0", "--listen-file"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let log = BufReader::new(child.stderr.take().expect("piped above"));
        let address = eventually("the address", || std::fs::read_to_string(&file).ok());
        Self { child, log, address: address.trim().to_owned() }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the child runs until it is waited for");
    }

    /// Reads the log up to a line that holds `text`.
    pub fn wait_for_log(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(self.log.read_line(&mut line).expect("a readable pipe") > 0, "no log line with {text}");
        }
    }

    pub fn wait(mut self) -> ExitStatus {
        eventually("the server to end", || self.child.try_wait().expect("a child of ours"))
    }

    /// Stops it as a service manager does.
    #[track_caller]
    pub fn stop(self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait().code(), Some(0));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail if it has ended, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
