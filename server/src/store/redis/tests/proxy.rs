//! A proxy before a primary that loses answers: the client cannot know whether its command was done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Forwards connections to a primary.
pub(super) struct Proxy {
    port: u16,
    rule: Arc<Rule>,
    // Aborted when dropped.
    _tasks: JoinSet<()>,
}

/// Whose answers are lost.
#[derive(Default)]
struct Rule {
    /// Bytes that a request must hold.
    needle: Mutex<Option<Vec<u8>>>,
    lost: AtomicUsize,
}

impl Proxy {
    pub(super) async fn start(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let rule = Arc::new(Rule::default());
        let mut tasks = JoinSet::new();
        let accepting = Arc::clone(&rule);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", target)).await.expect("a primary that listens");
                connections.spawn(forward(client, server, Arc::clone(&accepting)));
            }
        });
        Self { port, rule, _tasks: tasks }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Loses the answer to the next request that holds these bytes, and its connection.
    pub(super) fn lose_answer_to(&self, needle: &str) {
        *self.rule.needle.lock() = Some(needle.as_bytes().to_vec());
    }

    pub(super) fn lost(&self) -> usize {
        self.rule.lost.load(Ordering::SeqCst)
    }
}

async fn forward(client: TcpStream, server: TcpStream, rule: Arc<Rule>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let is_losing = AtomicBool::new(false);
    let requests = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            let request = &buffer[..read];
            if rule.matches(request) {
                is_losing.store(true, Ordering::SeqCst);
            }
            if to_server.write_all(request).await.is_err() {
                return;
            }
        }
    };
    let answers = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            if is_losing.load(Ordering::SeqCst) {
                rule.lost.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if to_client.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    // The first that ends closes both directions.
    tokio::select! {
        () = requests => {}
        () = answers => {}
    }
}

impl Rule {
    /// Holds once.
    fn matches(&self, request: &[u8]) -> bool {
        let mut needle = self.needle.lock();
        let matches =
            needle.as_ref().is_some_and(|needle| request.windows(needle.len()).any(|part| part == needle));
        if matches {
            *needle = None;
        }
        matches
    }
}
