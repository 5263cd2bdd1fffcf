//! A small real HTTP/1.1 peer: answers as a test says and keeps every request it got.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How long a test waits for anything before it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What the peer does with a request.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// Answers with this status.
    Status(u16),
    /// Answers 503 with `Retry-After` in seconds.
    RetryAfter(u64),
    /// Closes the connection without an answer.
    Cut,
    /// Never answers while the peer lives.
    Hang,
}

pub struct Peer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

type Answer = Box<dyn Fn(usize, &Request) -> Reply + Send + Sync>;

struct Shared {
    requests: Mutex<Vec<Request>>,
    arrived: Condvar,
    connections: AtomicUsize,
    stopped: AtomicBool,
    reply: Answer,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }
}

impl Peer {
    /// Starts a peer; `reply` gets the number of the request, from 0, and the request.
    pub fn start(reply: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared {
            requests: Mutex::new(Vec::new()),
            arrived: Condvar::new(),
            connections: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            reply: Box::new(reply),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopped.load(Ordering::Acquire) {
                    return;
                }
                let serving = Arc::clone(&accepting);
                serving.connections.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || serving.serve(&stream.expect("a connection")));
            }
        });
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("no test thread panics").clone()
    }

    /// Waits until there are so many requests and gives back all.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Request> {
        let requests = self.shared.requests.lock().expect("no test thread panics");
        let waited =
            self.shared.arrived.wait_timeout_while(requests, PATIENCE, |requests| requests.len() < count);
        let (requests, timeout) = waited.expect("no test thread panics");
        assert!(!timeout.timed_out(), "{} of {count} requests arrived", requests.len());
        requests.clone()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        // Wakes the accept loop so that it sees the flag.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
        while let Some(request) = read_request(&mut reader) {
            let number = {
                let mut requests = self.requests.lock().expect("no test thread panics");
                requests.push(request.clone());
                self.arrived.notify_all();
                requests.len() - 1
            };
            if !self.answer(stream, (self.reply)(number, &request)) {
                return;
            }
        }
    }

    fn answer(&self, mut stream: &TcpStream, reply: Reply) -> bool {
        let head = match reply {
            Reply::Status(status) => format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"),
            Reply::RetryAfter(secs) => {
                format!("HTTP/1.1 503 X\r\nContent-Length: 0\r\nRetry-After: {secs}\r\n\r\n")
            }
            Reply::Cut => return false,
            Reply::Hang => {
                while !self.stopped.load(Ordering::Acquire) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                return false;
            }
        };
        stream.write_all(head.as_bytes()).is_ok()
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let (mut headers, mut length) = (Vec::new(), 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        let value = value.trim().to_owned();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().ok()?;
        }
        headers.push((name.to_owned(), value));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { line: line.trim_end().to_owned(), headers, body })
}

/// An address nobody listens on. No port that was free a moment ago: another test may get it.
pub fn dead_address() -> String {
    "http://127.0.0.1:1".to_owned()
}

/// Waits until something is so; fails after [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(std::time::Instant::now() < end, "this never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
