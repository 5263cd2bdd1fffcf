//! Real `taba` processes for tests, a proxy that loses answers, and what tests ask of them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};

use crate::peer::eventually;

/// A running `taba`, killed when it goes out of scope.
pub struct Taba {
    child: Child,
    pub address: SocketAddr,
}

impl Taba {
    pub fn standalone(data: &Path) -> Self {
        let data = data.to_str().expect("a plain path");
        Self::start("standalone", &["--data", data, "--listen", "127.0.0.1:0"])
    }

    /// An agent that flushes every 50 ms, unless the flags say otherwise.
    pub fn agent(flags: &[&str]) -> Self {
        let quick: &[&str] =
            if flags.contains(&"--flush-seconds") { &[] } else { &["--flush-seconds", "0.05"] };
        Self::start("agent", &[&["--listen", "127.0.0.1:0"], quick, flags].concat())
    }

    /// An agent with a small disk of its own at `mount_point`, which only its mount namespace sees and
    /// which ends with it. Works without root, by a user namespace.
    pub fn agent_with_disk(mount_point: &Path, bytes: u64, flags: &[&str]) -> Self {
        let script = format!("mount -t tmpfs -o size={bytes} tmpfs \"$0\" && exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", &script]).arg(mount_point);
        command.arg(env!("CARGO_BIN_EXE_taba"));
        Self::start_by(
            command,
            "agent",
            &[&["--listen", "127.0.0.1:0", "--flush-seconds", "0.05"], flags].concat(),
        )
    }

    /// A path as this process reaches it in the agent's mount namespace.
    pub fn inside(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.child.id(), path.display()))
    }

    fn start(role: &str, flags: &[&str]) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_taba")), role, flags)
    }

    fn start_by(mut command: Command, role: &str, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("address");
        command.arg(role).args(flags).arg("--listen-file").arg(&file).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the binary starts");
        let mut address = None;
        eventually("the process listens", || {
            assert!(child.try_wait().expect("a child").is_none(), "taba {role} ended at once");
            address = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
            address.is_some()
        });
        let taba = Self { child, address: address.expect("it was read") };
        eventually("the process is ready", || taba.get("/readyz").0 == 200);
        taba
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// SIGTERM, and waits for the end; whether it ended well.
    pub fn terminate(mut self) -> bool {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("it runs");
        self.child.wait().expect("it ends").success()
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        self.get_as(path, "*/*")
    }

    pub fn get_as(&self, path: &str, accept: &str) -> (u16, String) {
        let request = http().get(format!("{}{path}", self.url())).header("Accept", accept);
        request.call().map_or((0, String::new()), read_answer)
    }

    /// Posts and gives the status; `None` if there was no answer.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<u16> {
        let mut request = http().post(format!("{}{path}", self.url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send(body).ok().map(|answer| answer.status().as_u16())
    }

    /// How many events of the last day a CounterGroup tab holds.
    pub fn count(&self, tab: &str) -> u64 {
        let (_, text) = self.get_as(&format!("/tabs?name={tab}"), "application/json");
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        answer[tab]["1d"]["count"].as_u64().unwrap_or(0)
    }

    /// The value of one series of `/metrics`.
    pub fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
    }
}

impl Drop for Taba {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn http() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent()
}

fn read_answer(mut answer: ureq::http::Response<ureq::Body>) -> (u16, String) {
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap_or_default())
}

pub fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A v1 body with `events` counter events of one tab, timed now.
pub fn body(client: &str, tab: &str, events: usize) -> String {
    let line = format!("[\"CounterGroup\", {}, \"1\"]\n", now_secs());
    format!("1\n\n{client}\n\n{tab}\n{}\n\n", line.repeat(events))
}

/// Stands before a server and loses every second answer after the server has given it.
pub struct LossyProxy {
    pub url: String,
    lost: Arc<AtomicUsize>,
}

impl LossyProxy {
    pub fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        let (lost, losing) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let proxy = Self { url, lost: Arc::clone(&lost) };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (lost, losing) = (Arc::clone(&lost), Arc::clone(&losing));
                let client = client.expect("a connection");
                std::thread::spawn(move || forward(client, server, &losing, &lost));
            }
        });
        proxy
    }

    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }
}

fn forward(mut client: TcpStream, server: SocketAddr, answers: &AtomicUsize, lost: &AtomicUsize) {
    let Ok(mut upstream) = TcpStream::connect(server) else { return };
    let (mut requests, mut to_server) =
        (client.try_clone().expect("a handle"), upstream.try_clone().expect("a handle"));
    std::thread::spawn(move || std::io::copy(&mut requests, &mut to_server));
    let mut bytes = [0; 4096];
    // Answers to posts are short: one read is one answer.
    while let Ok(length @ 1..) = upstream.read(&mut bytes) {
        if answers.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            lost.fetch_add(1, Ordering::Relaxed);
            break;
        }
        if client.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    // The other direction ends with it; either side may be gone already.
    let _ = client.shutdown(Shutdown::Both);
    let _ = upstream.shutdown(Shutdown::Both);
}
