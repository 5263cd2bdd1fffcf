//! A keeper process, and through it its Redis.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{NAME, TOKEN, connect, until};

pub struct Keeper {
    pub name: &'static str,
    pub redis_port: u16,
    pub http_port: u16,
    /// The folder of its notes and its Redis' data.
    pub data: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Keeper {
    pub fn new(name: &'static str, ports: (u16, u16), folder: &std::path::Path, shared: &[String]) -> Self {
        let data = folder.join(name);
        let own = ["--member", name, "--data", data.to_str().expect("plain")].map(ToOwned::to_owned);
        let listen = ["--listen".to_owned(), format!("127.0.0.1:{}", ports.1)];
        let arguments = shared.iter().cloned().chain(own).chain(listen).collect();
        let log = folder.join(format!("{name}.log"));
        Self { name, redis_port: ports.0, http_port: ports.1, data, arguments, log, child: None }
    }

    /// Where it and its Redis listen, instead of 127.0.0.1.
    pub fn listening_on(mut self, ip: std::net::IpAddr) -> Self {
        let last = self.arguments.last_mut().expect("--listen is last");
        *last = std::net::SocketAddr::new(ip, self.http_port).to_string();
        self
    }

    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs", self.name);
        let log = File::options().create(true).append(true).open(&self.log).expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_taba-keeper"));
        command.args(&self.arguments).env("RUST_BACKTRACE", "1").stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("the keeper starts"));
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it runs"))
    }

    /// Kills the keeper; its Redis dies with it.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        child.kill().expect("killed");
        child.wait().expect("reaped");
        let is_gone = || TcpStream::connect(("127.0.0.1", self.redis_port)).is_err();
        until("redis died with its keeper", || is_gone().then_some(()));
    }

    /// Ends it kindly; says whether it ended well.
    pub fn terminate(&mut self) -> bool {
        self.signal(Signal::TERM);
        let mut child = self.child.take().expect("it runs");
        until("the keeper ended", || child.try_wait().expect("waited")).success()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("signalled");
    }

    /// Loses its disk.
    pub fn wipe(&self) {
        assert!(!self.is_running());
        fs::remove_dir_all(&self.data).expect("removed");
    }

    pub fn redis(&self) -> redis::RedisResult<redis::Connection> {
        connect(self.redis_port, "keeper", Duration::from_secs(2))
    }

    pub fn redis_pid(&self) -> Option<Pid> {
        let info: String = redis::cmd("INFO").arg("server").query(&mut self.redis().ok()?).ok()?;
        let pid = info.lines().find_map(|line| line.strip_prefix("process_id:"))?;
        Pid::from_raw(pid.trim().parse().ok()?)
    }

    /// `GET` or `POST`; status and JSON body.
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        let url = format!("http://127.0.0.1:{}{path}", self.http_port);
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent: ureq::Agent = config.timeout_global(Some(Duration::from_secs(30))).build().into();
        let token = format!("Bearer {TOKEN}");
        let answer = match method {
            "GET" => agent.get(&url).header("Authorization", &token).call(),
            _ => agent.post(&url).header("Authorization", &token).send(body.to_string()),
        };
        let mut answer = answer.ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        Some((answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call("POST", path, body).expect("the keeper answers")
    }

    pub fn state(&self) -> Option<Value> {
        self.child.as_ref()?;
        self.call("GET", "/state", &Value::Null).map(|(_, state)| state)
    }

    pub fn is_open(&self) -> bool {
        self.state().is_some_and(|state| state["open"] == true)
    }

    pub fn is_ready(&self) -> bool {
        self.child.is_some()
            && self.call("GET", "/readyz", &Value::Null).is_some_and(|(status, _)| status == 200)
    }

    pub fn waiting_for(&self) -> String {
        self.state()
            .map(|state| state["waiting_for"].as_str().unwrap_or_default().to_owned())
            .unwrap_or_default()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = kill_process(Pid::from_child(child), Signal::CONT);
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The flags that all keepers of a shard share.
pub fn shared_flags(
    folder: &std::path::Path,
    members: &str,
    sentinels: &str,
    min_in_sync: usize,
) -> Vec<String> {
    let write = |name: &str, secret: &str| {
        let path = folder.join(name);
        fs::write(&path, secret).expect("written");
        path.to_str().expect("plain").to_owned()
    };
    let flags = [
        ("--shard", NAME.to_owned()),
        ("--members", members.to_owned()),
        ("--sentinels", sentinels.to_owned()),
        ("--min-in-sync", min_in_sync.to_string()),
        ("--password-file", write("password", super::PASSWORD)),
        ("--token-file", write("token", TOKEN)),
    ];
    flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}
