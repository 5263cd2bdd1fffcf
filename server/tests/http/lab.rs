//! One server per test, and a client of bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use taba_core::VbucketCount;
use taba_server::clock;
use taba_server::config::{Limits, PipelineConfig};
use taba_server::http::{App, AppConfig, serve};
use taba_server::pipeline::Pipeline;
use taba_server::pipeline::metrics::PipelineMetrics;
use taba_server::store::embedded::{Embedded, EmbeddedOptions};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longest any condition may take to come true, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const VBUCKETS: u16 = 16;

/// A running server.
pub struct Lab {
    pub addr: SocketAddr,
    pub app: Arc<App>,
    pub pipeline: Arc<Pipeline>,
    shutdown: watch::Sender<bool>,
    served: JoinHandle<usize>,
    _folder: TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Reply {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Lab {
    pub async fn start() -> Self {
        Self::start_with(Limits::default(), None).await
    }

    pub async fn start_with(limits: Limits, admin_token: Option<&str>) -> Self {
        Self::start_on(TempDir::new().unwrap(), limits, admin_token, PipelineConfig::default()).await
    }

    /// A server that commits all the time, over a folder that may hold something already.
    pub async fn start_busy(folder: TempDir) -> Self {
        let config = PipelineConfig {
            aggregate_commit_interval: Duration::from_millis(20),
            client_commit_interval: Duration::from_millis(50),
            ..PipelineConfig::default()
        };
        Self::start_on(folder, Limits::default(), None, config).await
    }

    async fn start_on(
        folder: TempDir,
        limits: Limits,
        admin_token: Option<&str>,
        config: PipelineConfig,
    ) -> Self {
        let store = open_store(&folder);
        let mut registry = Registry::default();
        let metrics = PipelineMetrics::register(&mut registry);
        let pipeline = Pipeline::start(Arc::new(store), "lab", config, metrics);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let config = AppConfig {
            limits,
            admin_token: admin_token.map(str::to_owned),
            server_name: "taba_server.vm.28301".to_owned(),
            roles: vec!["be", "fe"],
            backend: true,
        };
        let app = App::new(Arc::clone(&pipeline), config, registry);
        let (shutdown, stop) = watch::channel(false);
        let served = tokio::spawn(serve(listener, Arc::clone(&app), stop, Duration::from_secs(5)));
        let lab = Self { addr, app, pipeline, shutdown, served, _folder: folder };
        lab.eventually("/readyz", "", |reply| reply.status == 200).await;
        lab
    }

    /// Stops the server; gives how many connections had to be cut.
    pub async fn stop(self) -> usize {
        self.shutdown.send_replace(true);
        let cut = self.served.await.unwrap();
        self.pipeline.drain().await;
        cut
    }

    /// Begins to stop the server.
    pub fn begin_stop(&self) {
        self.shutdown.send_replace(true);
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"").await
    }

    pub async fn get_as(&self, path: &str, accept: &str) -> Reply {
        let headers: &[_] = if accept.is_empty() { &[] } else { &[("Accept", accept)] };
        self.send("GET", path, headers, b"").await
    }

    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.send("POST", path, headers, body).await
    }

    /// Sends one request on a connection of its own.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n");
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        let chunked = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"));
        if !chunked && (method == "POST" || !body.is_empty()) {
            write!(request, "Content-Length: {}\r\n", body.len()).unwrap();
        }
        request.push_str("\r\n");
        let reply = self.exchange(&[request.as_bytes(), body].concat()).await;
        parse(&reply, method == "HEAD")
    }

    /// Sends bytes on a connection of its own and reads until the server closes it.
    pub async fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        let (mut from, mut to) = stream.into_split();
        let mut reply = Vec::new();
        // A server that refuses a body may stop reading it; what counts is the answer.
        let (_, read) = tokio::join!(to.write_all(bytes), async {
            tokio::time::timeout(PATIENCE, from.read_to_end(&mut reply)).await.expect("an answer in time")
        });
        if let Err(error) = read {
            assert!(!reply.is_empty(), "no answer: {error}");
        }
        reply
    }

    /// Asks until the answer is as wanted.
    pub async fn eventually(&self, path: &str, accept: &str, wanted: impl Fn(&Reply) -> bool) -> Reply {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let reply = self.get_as(path, accept).await;
            if wanted(&reply) {
                return reply;
            }
            assert!(tokio::time::Instant::now() < deadline, "{path} never became as wanted: {reply:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks until the answer's body is the one wanted.
    pub async fn eventually_is(&self, path: &str, body: &str) {
        self.eventually(path, "", |reply| reply.body == body).await;
    }

    /// Posts events and waits until queries show them.
    pub async fn record(&self, client: &str, events: &[(&str, &str, &str)]) {
        let reply = self.post("/post", &[], body(client, events).as_bytes()).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, ""), "{reply:?}");
        self.applied().await;
    }

    /// Waits until everything accepted so far is applied: a deletion of nothing goes through each queue.
    pub async fn applied(&self) {
        let vbuckets = self.pipeline.vbuckets();
        let barriers = vbuckets.iter().map(async |vbucket| {
            let mut names = (0..).map(|n| format!("~barrier.{n}"));
            let name = names.find(|name| vbuckets.of(name) == vbucket).unwrap();
            self.pipeline.delete_tab(&name).await.unwrap();
        });
        futures::future::join_all(barriers).await;
    }

    /// Waits until every queue is empty: nothing waits for a commit.
    pub async fn committed(&self) {
        self.eventually("/status", "application/json", |reply| reply.json()["total_tasks"] == 0).await;
    }

    /// Asks for a sweep and waits until it has seen every tab. `task` is its label in `/metrics`.
    pub async fn sweep(&self, path: &str, task: &str) {
        let series = format!("taba_sweep_finished_total{{task=\"{task}\"}}");
        let wanted = self.metric(&series).await + f64::from(VBUCKETS);
        assert_eq!(self.post(path, &[], b"").await.status, 200);
        self.eventually("/metrics", "", |reply| value_of(&reply.body, &series) >= wanted).await;
    }

    /// The value of one series in `/metrics`; 0 if there is none.
    pub async fn metric(&self, series: &str) -> f64 {
        value_of(&self.get("/metrics").await.body, series)
    }
}

fn value_of(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// The store of a lab in a folder.
pub fn open_store(folder: &TempDir) -> Embedded {
    Embedded::open(folder.path(), EmbeddedOptions::new(VbucketCount::new(VBUCKETS).unwrap())).unwrap()
}

/// A v1 body of one client with events (tab, type, payload) that happen now.
pub fn body(client: &str, events: &[(&str, &str, &str)]) -> String {
    let mut body = format!("1\n\n{client}\n\n");
    for (tab, tab_type, payload) in events {
        let payload = serde_json::to_string(payload).unwrap();
        writeln!(body, "{tab}\n[\"{tab_type}\", {}, {payload}]\n", now_secs()).unwrap();
    }
    body.push('\n');
    body
}

pub fn now_secs() -> i64 {
    clock::now().as_secs()
}

/// Reads an answer's bytes.
pub fn parse(bytes: &[u8], head_only: bool) -> Reply {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no whole head in {text:?}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<String, String> =
        headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let chunked = headers.get("transfer-encoding").is_some_and(|value| value == "chunked");
    let body = if chunked && !head_only { unchunk(body) } else { body.to_owned() };
    Reply { status, headers, body }
}

fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").expect("a chunk size");
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&after[..size]);
        rest = &after[size + 2..];
        if size == 0 {
            return body;
        }
    }
}
