//! A Sentinel process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{NAME, PASSWORD, connect_as, free_port};

pub struct Sentinel {
    pub port: u16,
    folder: PathBuf,
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
        let child = spawn(&folder);
        Self { port, folder, child }
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it with what it wrote down.
    pub fn start_again(&mut self) {
        self.child = spawn(&self.folder);
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
        let mut connection =
            connect_as(self.port, redis::RedisConnectionInfo::default(), Duration::from_millis(500)).ok()?;
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

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &Path) -> Child {
    let mut command = Command::new("redis-sentinel");
    command
        .arg(folder.join("sentinel.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().expect("redis-sentinel is installed")
}
