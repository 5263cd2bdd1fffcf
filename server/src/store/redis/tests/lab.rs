//! Real shards for tests: redis-server and Sentinel processes on loopback, founded and open as a keeper
//! would leave them. All of it is gone when the lab is dropped.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::FromRedisValue;
use taba_core::VbucketCount;
use tempfile::TempDir;

use crate::store::redis::RedisOptions;

/// Longest wait for a process to do what it must.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something holds.
pub(super) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what} took too long");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A free port of loopback. Another process may take it before it is used; starting then fails and is
/// tried with another.
pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

/// A process that is killed when dropped.
struct Process(Child);

impl Process {
    /// Starts a server on a free port; `arguments` gives them for a port.
    fn start(program: &str, log: &Path, arguments: impl Fn(u16) -> Vec<String>) -> (Self, u16) {
        for _ in 0..20 {
            let port = free_port();
            let mut command = Command::new(program);
            command.args(arguments(port)).stdin(Stdio::null()).stderr(Stdio::null());
            command.stdout(std::fs::File::create(log).expect("a log file"));
            let child = match command.spawn() {
                Ok(child) => child,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    panic!("{program} is not on PATH: install Redis 7.0 or newer (Debian: redis-server)")
                }
                Err(error) => panic!("{program}: {error}"),
            };
            let mut process = Self(child);
            if process.answers(port) {
                return (process, port);
            }
        }
        panic!("{program} does not start: {}", std::fs::read_to_string(log).unwrap_or_default());
    }

    /// Whether it answers on its port before it ends. Another test's server may have taken the port and
    /// answer in its place.
    fn answers(&mut self, port: u16) -> bool {
        let us = format!("process_id:{}\r\n", self.0.id());
        let mut up = false;
        wait_until("starting a server", || {
            up = try_ask::<String>(port, &["INFO", "server"]).is_ok_and(|info| info.contains(&us));
            up || self.0.try_wait().expect("a child of ours").is_some()
        });
        up
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn try_ask<T: FromRedisValue>(port: u16, words: &[&str]) -> redis::RedisResult<T> {
    let client = redis::Client::open(("127.0.0.1", port))?;
    let mut connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query(&mut connection)
}

/// One redis-server.
pub(super) struct Member {
    process: Process,
    port: u16,
}

impl Member {
    fn start(folder: &Path, name: &str, more: &[&str]) -> Self {
        let data = folder.join(name);
        std::fs::create_dir(&data).expect("a folder for data");
        let (process, port) = Process::start("redis-server", &data.join("log"), |port| {
            let port = port.to_string();
            let data = data.to_str().expect("a path in UTF-8");
            let fixed = ["--port", &port, "--bind", "127.0.0.1", "--dir", data, "--save", ""];
            let replication = ["--repl-diskless-sync-delay", "0", "--replica-announce-ip", "127.0.0.1"];
            let debugging = ["--enable-debug-command", "yes"];
            let all = fixed.iter().chain(&replication).chain(&debugging).chain(more);
            all.map(|word| (*word).to_owned()).collect()
        });
        Self { process, port }
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Whether it can be asked to wait for disks.
    pub(super) fn has_waitaof(&self) -> bool {
        let known: Vec<redis::Value> = self.ask(&["COMMAND", "INFO", "WAITAOF"]);
        known != [redis::Value::Nil]
    }

    /// Sends a command.
    pub(super) fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let answer = try_ask(self.port, words);
        answer.unwrap_or_else(|error| panic!("{words:?} at {}: {error}", self.address()))
    }

    pub(super) fn set(&self, field: &str, value: &str) {
        let _: i64 = self.ask(&["HSET", "taba:shard", field, value]);
    }

    /// Stops it without letting it do anything any more, as a paused host would be; `false` lets it go on.
    pub(super) fn pause(&self, paused: bool) {
        use rustix::process::{Pid, Signal, kill_process};
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(&self.process.0), signal).expect("a process of ours");
    }

    fn has_replicas(&self, count: usize) -> bool {
        let info: String = self.ask(&["INFO", "replication"]);
        info.matches("state=online").count() == count
    }
}

/// A founded, open shard; its first member is the primary.
pub(super) struct LabShard {
    pub(super) name: String,
    pub(super) members: Vec<Member>,
}

impl LabShard {
    fn start(folder: &Path, name: &str, members: usize) -> Self {
        let primary = Member::start(folder, &format!("{name}-0"), &[]);
        let port = primary.port.to_string();
        let mut shard = Self { name: name.to_owned(), members: vec![primary] };
        for member in 1..members {
            let following = ["--replicaof", "127.0.0.1", &port];
            shard.members.push(Member::start(folder, &format!("{name}-{member}"), &following));
        }
        wait_until("following", || shard.primary().has_replicas(members - 1));
        shard.found();
        shard
    }

    pub(super) fn primary(&self) -> &Member {
        &self.members[0]
    }

    /// Writes `taba:shard` as founding and opening in term 1 do, with every member in sync.
    fn found(&self) {
        let primary = self.primary();
        let id = format!("{:032x}", u128::from(primary.port));
        let min_in_sync = (self.members.len() - 1).min(1).to_string();
        for (field, value) in [
            ("id", id.as_str()),
            ("name", &self.name),
            ("term", "1"),
            ("primary", &primary.address()),
            ("writes", "0"),
            ("members", &self.members.len().to_string()),
            ("min_in_sync", &min_in_sync),
            ("in_sync", &self.in_sync(self.members.len())),
            ("in_sync_version", "1"),
            ("gate", "9000000000000000"),
        ] {
            primary.set(field, value);
        }
    }

    /// The first `count` members as a list of the in-sync set.
    pub(super) fn in_sync(&self, count: usize) -> String {
        self.members[..count].iter().map(Member::address).collect::<Vec<_>>().join(",")
    }
}

/// Shards and the Sentinel that knows them.
pub(super) struct Lab {
    pub(super) shards: Vec<LabShard>,
    // Killed when dropped.
    _sentinel: Process,
    sentinel_port: u16,
    // Removed last.
    folder: TempDir,
}

impl Lab {
    /// Starts shards of so many members each, and a Sentinel.
    pub(super) fn start(shards: usize, members: usize) -> Self {
        Self::start_with(shards, members, &[])
    }

    /// As [`Lab::start`], with further lines for the Sentinel's configuration.
    pub(super) fn start_with(shards: usize, members: usize, sentinel_lines: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let shards: Vec<LabShard> = std::thread::scope(|scope| {
            let starting: Vec<_> = (0..shards)
                .map(|shard| {
                    let path = folder.path();
                    scope.spawn(move || LabShard::start(path, &format!("s{shard}"), members))
                })
                .collect();
            starting.into_iter().map(|shard| shard.join().expect("a shard")).collect()
        });
        let (_sentinel, sentinel_port) = start_sentinel(folder.path(), &shards, sentinel_lines);
        Self { shards, _sentinel, sentinel_port, folder }
    }

    /// Options for a store over the shards. Patient, because the machine may be busy.
    pub(super) fn options(&self, vbuckets: VbucketCount) -> RedisOptions {
        let names = self.shards.iter().map(|shard| shard.name.clone()).collect();
        let mut options =
            RedisOptions::new(vbuckets, names, vec![format!("127.0.0.1:{}", self.sentinel_port)]);
        options.unbound_wait = Duration::from_secs(20);
        options.connect_timeout = Duration::from_secs(5);
        options.response_timeout = Duration::from_secs(5);
        options
    }

    /// Makes Sentinel name another primary for a shard.
    pub(super) fn point_sentinel(&self, shard: &str, port: u16) {
        let _: redis::Value = try_ask(self.sentinel_port, &["SENTINEL", "REMOVE", shard]).expect("removed");
        let words = ["SENTINEL", "MONITOR", shard, "127.0.0.1", &port.to_string(), "1"];
        let _: redis::Value = try_ask(self.sentinel_port, &words).expect("monitored");
    }

    /// The port of the primary that Sentinel names.
    pub(super) fn named(&self, shard: &str) -> u16 {
        let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", shard];
        let (_, port): (String, u16) = try_ask(self.sentinel_port, &words).expect("known");
        port
    }

    /// Waits until Sentinel knows all members of a shard: it never learns of those that left the primary before it
    /// looked.
    pub(super) async fn until_known(&self, shard: &LabShard) {
        Self::until("looking at the shard", || {
            let words = ["SENTINEL", "REPLICAS", &shard.name];
            let replicas: Vec<redis::Value> = try_ask(self.sentinel_port, &words).expect("known");
            replicas.len() + 1 == shard.members.len()
        })
        .await;
    }

    /// Lets time pass by the shards' clocks, which are the machine's.
    pub(super) async fn pass(&self, time: Duration) {
        let target: u64 = self.micros() + u64::try_from(time.as_micros()).expect("a short time");
        while self.micros() <= target {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn micros(&self) -> u64 {
        let [seconds, micros]: [u64; 2] = self.shards[0].primary().ask(&["TIME"]);
        seconds * 1_000_000 + micros
    }

    /// Another shard's founded, open primary that this lab's Sentinel does not know.
    pub(super) fn stranger(&self, name: &str) -> LabShard {
        LabShard::start(self.folder.path(), name, 1)
    }

    /// Waits until something holds, without holding up the tasks of the test.
    pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < PATIENCE, "{what} took too long");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn start_sentinel(folder: &Path, shards: &[LabShard], more: &[String]) -> (Process, u16) {
    let config = folder.join("sentinel.conf");
    Process::start("redis-server", &folder.join("sentinel.log"), |port| {
        let mut lines = vec![format!("port {port}"), "bind 127.0.0.1".to_owned()];
        lines.push(format!("dir {}", folder.display()));
        for LabShard { name, members } in shards {
            lines.push(format!("sentinel monitor {name} 127.0.0.1 {} 1", members[0].port));
            // Nothing in these tests waits for Sentinel to notice: they say who is primary.
            lines.push(format!("sentinel down-after-milliseconds {name} 600000"));
        }
        lines.extend_from_slice(more);
        std::fs::write(&config, lines.join("\n") + "\n").expect("a config file");
        vec![config.to_str().expect("a path in UTF-8").to_owned(), "--sentinel".to_owned()]
    })
}
