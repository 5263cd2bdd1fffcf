//! A Sentinel process.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{NAME, PASSWORD, connect_as, free_port};

pub struct Sentinel {
    pub port: u16,
    log: std::path::PathBuf,
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
        let mut command = Command::new("redis-sentinel");
        command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { port, log: folder.join("log"), child: command.spawn().expect("redis-sentinel is installed") }
    }

    pub fn query<T: redis::FromRedisValue>(&self, arguments: &[&str]) -> Option<T> {
        let mut connection =
            connect_as(self.port, redis::RedisConnectionInfo::default(), Duration::from_millis(500)).ok()?;
        redis::cmd("SENTINEL").arg(arguments).query(&mut connection).ok()
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
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
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
