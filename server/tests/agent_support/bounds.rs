//! What the agent's clients may take: connections, heads and bodies.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use clap::Parser;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use taba_server::agent::{Agent, AgentArgs, AgentConfig};
use tokio::runtime::Runtime;

use crate::peer::{PATIENCE, eventually};
use crate::process::{Taba, body};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: AgentArgs,
}

/// A passive agent in this process, with limits that a test can reach.
struct Inside {
    runtime: Runtime,
    agent: Agent,
}

impl Inside {
    fn start(change: impl FnOnce(&mut AgentConfig)) -> Self {
        let flags = ["agent", "--listen", "127.0.0.1:0", "--flush-seconds", "0"];
        let args = Command::try_parse_from(flags).expect("flags that exist").args;
        let mut config = AgentConfig::from_args(&args).expect("valid flags");
        change(&mut config);
        let runtime = Runtime::new().expect("threads");
        let agent = runtime.block_on(Agent::start(config)).expect("a free port");
        Self { runtime, agent }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.agent.address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    fn stop(self) {
        self.runtime.block_on(self.agent.drain());
    }
}

/// Sends a request and reads all that comes until the connection is closed.
fn ask(stream: &mut TcpStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
    // A connection that is refused may be closed before or after this; what is read tells.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn a_slow_head_is_cut_off_and_an_idle_connection_is_not() {
    let agent = Inside::start(|config| config.connections.head_timeout = Duration::from_millis(200));
    let (mut idle, mut slow) = (agent.connect(), agent.connect());
    let started = Instant::now();
    slow.write_all(b"POST /post HTTP/1.1\r\nHost: ").expect("it is open");
    let mut answer = Vec::new();
    // An end or a reset; a timeout would be an error too, but a late one.
    let _ = slow.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(190) && waited < PATIENCE / 2, "cut off after {waited:?}");
    assert!(ask(&mut idle, "/livez").ends_with("ok\n"), "an idle connection was closed");
    agent.stop();
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once_and_counted() {
    let agent = Inside::start(|config| config.connections.connections_max = 2);
    let mut held = [agent.connect(), agent.connect()];
    for stream in &mut held {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: agent\r\n\r\n").expect("it is open");
        stream.read_exact(&mut [0; 15]).expect("an answer");
    }
    assert_eq!(ask(&mut agent.connect(), "/livez"), "");
    let metrics = ask(&mut held[0], "/metrics");
    for line in ["\ntaba_agent_connections 2.0\n", "\ntaba_agent_connections_refused_total 1\n"] {
        assert!(metrics.contains(line), "{line:?} in {metrics}");
    }
    eventually("the place is free again", || ask(&mut agent.connect(), "/livez").ends_with("ok\n"));
    agent.stop();
}

#[test]
fn compressed_bodies_are_taken_in() {
    let agent = Taba::agent(&["--flush-seconds", "0"]);
    let text = body("c", "t", 10);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text.as_bytes()).expect("memory takes it");
    zlib.write_all(text.as_bytes()).expect("memory takes it");
    let gzip = gzip.finish().expect("memory takes it");
    let bodies = [
        ("gzip", gzip.clone()),
        ("deflate", zlib.finish().expect("memory takes it")),
        ("zstd", zstd::encode_all(text.as_bytes(), 1).expect("memory takes it")),
        ("identity", text.clone().into_bytes()),
    ];
    for (encoding, bytes) in &bodies {
        assert_eq!(agent.post("/post", &[("Content-Encoding", encoding)], bytes), Some(200), "{encoding}");
    }
    assert_eq!(agent.metric("taba_agent_events_total"), 40.0);
    // What cannot be inflated cannot be parsed.
    let cut = &gzip[..gzip.len() - 1];
    assert_eq!(agent.post("/post", &[("Content-Encoding", "gzip")], cut), Some(400));
    assert_eq!(agent.metric("taba_agent_events_total"), 40.0);
}

#[test]
fn a_body_that_inflates_beyond_the_limit_is_too_large() {
    let agent = Taba::agent(&["--flush-seconds", "0"]);
    // One line of more than 512 MiB: a single bad event, if it were not for the limit.
    let text = b"1\n\nc\n\nn\n".chain(std::io::repeat(b'x').take(512 << 20));
    let bomb = zstd::encode_all(text, 1).expect("memory takes it");
    assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
    assert_eq!(agent.post("/post", &[("Content-Encoding", "zstd")], &bomb), Some(413));
}
