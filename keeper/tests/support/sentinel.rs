//! A Sentinel process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{NAME, PASSWORD, connect_as, free_port};

/// The password of Sentinels that have one.
pub const SENTINEL_PASSWORD: &str = "sentinel-password";

pub struct Sentinel {
    pub port: u16,
    folder: PathBuf,
    password: Option<&'static str>,
    child: Child,
}

impl Sentinel {
    pub fn start(folder: &Path, primary_port: u16) -> Self {
        let port = free_port();
        let folder = folder.join(format!("sentinel-{port}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("sentinel.conf");
        let dir = folder.display();
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {dir}\nlogfile {dir}/log\nprotected-mode no\n\
             sentinel resolve-hostnames no\nsentinel monitor {NAME} 127.0.0.1 {primary_port} 2\n\
             sentinel down-after-milliseconds {NAME} 1000\nsentinel failover-timeout {NAME} 3000\n\
             sentinel parallel-syncs {NAME} 4\nsentinel auth-user {NAME} sentinel\n\
             sentinel auth-pass {NAME} {PASSWORD}\n"
        );
        std::fs::write(&file, text).expect("written");
        let child = process(&file);
        Self { port, folder, password: None, child }
    }

    /// One that knows everybody by name, wants a password, and starts with what `taba-keeper sentinel-config`
    /// writes, as in a pod.
    pub fn start_by_name(folder: &Path, host: &str, primary_port: u16) -> Self {
        let port = free_port();
        let folder = folder.join(format!("sentinel-{port}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        let dir = folder.display();
        let template = format!(
            "port {port}\ndir {dir}\nlogfile {dir}/log\nprotected-mode no\n\
             sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n\
             sentinel announce-port {port}\nsentinel monitor {NAME} {host} {primary_port} 2\n\
             sentinel auth-user {NAME} sentinel\nsentinel down-after-milliseconds {NAME} 1000\n\
             sentinel failover-timeout {NAME} 3000\nsentinel parallel-syncs {NAME} 4\n"
        );
        for (name, text) in [
            ("template", template),
            ("host", host.to_owned()),
            ("passwords", format!("{NAME} {PASSWORD}\n")),
            ("own-password", SENTINEL_PASSWORD.to_owned()),
        ] {
            std::fs::write(folder.join(name), text).expect("written");
        }
        configure(&folder);
        let child = process(&folder.join("sentinel.conf"));
        Self { port, folder, password: Some(SENTINEL_PASSWORD), child }
    }

    /// Kills it and starts it as a new pod with the same volume would.
    pub fn restart(&mut self) {
        self.kill();
        configure(&self.folder);
        self.child = process(&self.folder.join("sentinel.conf"));
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it with what it wrote down.
    pub fn start_again(&mut self) {
        self.child = process(&self.folder.join("sentinel.conf"));
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// It was stopped for so long that it does nothing for a while.
    pub fn only_watches(&self) -> bool {
        let login = redis::RedisConnectionInfo::default();
        let connection = connect_as(self.port, login, Duration::from_millis(500));
        let info =
            connection.and_then(|mut link| redis::cmd("INFO").arg("sentinel").query::<String>(&mut link));
        info.is_ok_and(|info| info.contains("sentinel_tilt:1"))
    }

    pub fn query<T: redis::FromRedisValue>(&self, arguments: &[&str]) -> Option<T> {
        let mut login = redis::RedisConnectionInfo::default();
        if let Some(password) = self.password {
            login = login.set_password(password);
        }
        let mut connection = connect_as(self.port, login, Duration::from_millis(500)).ok()?;
        redis::cmd("SENTINEL").arg(arguments).query(&mut connection).ok()
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// The port of the primary it names.
    pub fn names(&self) -> Option<u16> {
        self.query::<(String, u16)>(&["GET-MASTER-ADDR-BY-NAME", NAME]).map(|(_, port)| port)
    }

    /// It knows the two other Sentinels and this many replicas.
    pub fn knows(&self, replicas: usize) -> bool {
        let master =
            self.query::<std::collections::HashMap<String, String>>(&["MASTER", NAME]).unwrap_or_default();
        let is =
            |field: &str, number: usize| master.get(field).is_some_and(|value| *value == number.to_string());
        is("num-slaves", replicas) && is("num-other-sentinels", 2)
    }
}

fn process(file: &Path) -> Child {
    let mut command = Command::new("redis-server");
    command.arg(file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server is installed")
}

fn configure(folder: &Path) {
    let flag = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
    let host = std::fs::read_to_string(folder.join("host")).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_taba-keeper"));
    command.arg("sentinel-config").arg(format!("--announce={host}"));
    command.args([flag("template", "template"), flag("file", "sentinel.conf")]);
    command.args([flag("passwords-file", "passwords"), flag("sentinel-password-file", "own-password")]);
    assert!(command.status().expect("it runs").success());
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.kill();
    }
}
