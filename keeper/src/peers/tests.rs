//! A keeper in small, which is slow in the ways that busy ones are.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::sleep;

use super::*;
use crate::address::Address;
use crate::config::Durability;

const PATIENCE: Duration = Duration::from_secs(20);

/// Refuses everything, each time as soon as it is allowed one answer more.
struct Slow {
    answers: Semaphore,
    connections: AtomicUsize,
    /// The first lines of what it was asked.
    asked: Mutex<Vec<String>>,
}

impl Slow {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            answers: Semaphore::new(0),
            connections: AtomicUsize::new(0),
            asked: Mutex::default(),
        })
    }

    /// As [`Slow::listen`], on any port.
    async fn start() -> (Arc<Self>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let slow = Self::new();
        slow.listen(listener);
        (slow, address)
    }

    fn listen(self: &Arc<Self>, listener: TcpListener) {
        let slow = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                slow.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(Arc::clone(&slow).serve(stream));
            }
        });
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut asked = [0; 1024];
        // What comes at once is one question: the next one waits for the answer.
        while let Ok(read @ 1..) = stream.read(&mut asked).await {
            let asked = String::from_utf8_lossy(&asked[..read]);
            self.asked.lock().extend(asked.lines().next().map(ToOwned::to_owned));
            self.answers.acquire().await.expect("never closed").forget();
            if stream.write_all(b"HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n").await.is_err() {
                return;
            }
        }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A listener to which connections cannot be made until it accepts the one that fills its queue, given too.
async fn full() -> (TcpListener, SocketAddr, TcpStream) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let listener = socket.listen(0).expect("listening");
    let address = listener.local_addr().expect("bound");
    let filling = TcpStream::connect(address).await.expect("room for one");
    (listener, address, filling)
}

fn peers(address: SocketAddr) -> Peers {
    let member = |name: &str| Member {
        name: name.to_owned(),
        address: Address::new("127.0.0.1", 6379),
        keeper_port: address.port(),
    };
    Peers::new(&Config {
        shard: "s0".to_owned(),
        members: vec![member("a"), member("b")],
        own_index: 0,
        sentinels: Vec::new(),
        min_in_sync: 1,
        data: "/nowhere".into(),
        password: "password".to_owned(),
        token: "token".to_owned(),
        listen: address,
        redis_server: "redis-server".into(),
        sentinel_login: (None, None),
        durability: Durability::Replicated,
        maxmemory: "0".to_owned(),
        redis_lines: String::new(),
    })
}

async fn state(peers: &Peers) -> Result<StateAnswer, PeerError> {
    peers.state(&peers.members[0]).await
}

async fn post(peers: &Peers) -> Result<(), PeerError> {
    peers.post(&peers.members[0], "/vote", &()).await
}

fn is_silent<T>(answer: &Result<T, PeerError>) -> bool {
    matches!(answer, Err(PeerError::Silent))
}

fn is_answered<T>(answer: &Result<T, PeerError>) -> bool {
    matches!(answer, Err(PeerError::Refused(StatusCode::CONFLICT, _)))
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what} took too long");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Breaks if a late answer ends its connection, as dropping its exchange does.
#[tokio::test]
async fn a_connection_outlives_a_late_answer() {
    let (slow, address) = Slow::start().await;
    let peers = peers(address);
    for _ in 0..2 * EXCHANGES_MAX {
        assert!(is_silent(&state(&peers).await));
        slow.answers.add_permits(1);
        let slots = &peers.slots["b"];
        until("the late answer", || slots.available_permits() == EXCHANGES_MAX).await;
    }
    slow.answers.add_permits(1);
    assert!(is_answered(&state(&peers).await));
    assert!(slow.connections() <= EXCHANGES_MAX, "{} connections", slow.connections());
}

/// Breaks if the attempt at a connection ends with the question that began it.
#[tokio::test]
async fn a_connection_that_takes_longer_than_a_question_is_made_all_the_same() {
    let (listener, address, _filling) = full().await;
    let peers = peers(address);
    assert!(is_silent(&state(&peers).await));
    let slow = Slow::new();
    slow.listen(listener);
    until("the question", || !slow.asked.lock().is_empty()).await;
}

/// Breaks if a post is sent once nobody waits for what becomes of it.
#[tokio::test]
async fn what_changes_something_is_not_sent_late() {
    let (listener, address, _filling) = full().await;
    let peers = peers(address);
    assert!(is_silent(&post(&peers).await));
    assert!(is_silent(&state(&peers).await));
    let slow = Slow::new();
    slow.listen(listener);
    until("the question", || !slow.asked.lock().is_empty()).await;
    assert_eq!(*slow.asked.lock(), ["GET /state HTTP/1.1"]);
}

/// Breaks if a vote is given up as soon as a state, which is at hand.
#[tokio::test]
async fn a_vote_may_take_longer_than_a_state() {
    let (slow, address) = Slow::start().await;
    let peers = peers(address);
    let asked_in_vain = async {
        assert!(is_silent(&state(&peers).await));
        slow.answers.add_permits(2);
    };
    let ((), voted) = tokio::join!(asked_in_vain, post(&peers));
    assert!(is_answered(&voted), "{voted:?}");
}

/// Breaks if each question to a keeper that is silent makes a connection.
#[tokio::test]
async fn a_silent_keeper_gets_a_bounded_number_of_connections() {
    let (slow, address) = Slow::start().await;
    let peers = peers(address);
    let asked = join_all((0..3 * EXCHANGES_MAX).map(|_| state(&peers))).await;
    assert!(asked.iter().all(is_silent));
    assert!(slow.connections() <= EXCHANGES_MAX, "{} connections", slow.connections());
}

/// Breaks if a keeper that is not there counts as one that is slow.
#[tokio::test]
async fn a_refused_connection_is_reported_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let answer = state(&peers(address)).await;
    assert!(matches!(answer, Err(PeerError::Reach(_))), "{answer:?}");
}
