//! A Sentinel in small, which is slow in the ways that busy ones are.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;

use redis::{ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, cmd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const WITHIN: Duration = Duration::from_millis(100);

/// Answers `OK` to the login and `PONG` to all else, each after a while.
#[derive(Clone)]
struct Slow {
    login: Duration,
    answer: Duration,
    connections: Arc<AtomicUsize>,
}

impl Slow {
    fn new(login: Duration, answer: Duration) -> Self {
        Self { login, answer, connections: Arc::default() }
    }

    async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let slow = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                slow.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(slow.clone().serve(stream));
            }
        });
        address
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut asked = [0; 512];
        // What comes at once is one command: a question is not asked before the last one was answered or given up.
        while let Ok(read @ 1..) = stream.read(&mut asked).await {
            let is_login = asked[..read].windows(4).any(|word| word == b"AUTH");
            let (pause, answer) = if is_login { (self.login, "+OK\r\n") } else { (self.answer, "+PONG\r\n") };
            sleep(pause).await;
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn link(address: SocketAddr) -> Arc<Link> {
    let login = RedisConnectionInfo::default().set_password("password").set_skip_set_lib_name();
    let place = ConnectionAddr::Tcp(address.ip().to_string(), address.port()).into_connection_info();
    let client = Client::open(place.expect("an address").set_redis_settings(login)).expect("an address");
    Link::new(client, PATIENCE)
}

async fn ask(link: &Arc<Link>) -> Option<String> {
    match link.ask(&cmd("PING"), WITHIN).await {
        Asked::Answer(answer) => Some(answer),
        Asked::Refusal(_) | Asked::Silence => None,
    }
}

async fn until_answered(link: &Arc<Link>) {
    let end = Instant::now() + PATIENCE;
    while ask(link).await.is_none() {
        assert!(Instant::now() < end, "nothing is ever answered");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Breaks if the attempt at a connection ends with the question that began it.
#[tokio::test]
async fn a_login_that_takes_longer_than_a_question_is_not_begun_anew() {
    let slow = Slow::new(4 * WITHIN, Duration::ZERO);
    let link = link(slow.start().await);
    until_answered(&link).await;
    for _ in 0..10 {
        assert!(ask(&link).await.is_some());
    }
    assert_eq!(slow.connections(), 1);
}

/// Breaks if a connection is given up at the first late answer.
#[tokio::test]
async fn a_connection_outlives_a_late_answer_but_not_lasting_silence() {
    let slow = Slow::new(Duration::ZERO, 3 * PATIENCE);
    let link = link(slow.start().await);
    for silences in 1..=SILENCES_MAX {
        assert!(ask(&link).await.is_none());
        assert_eq!(slow.connections(), 1, "after {silences} questions");
    }
    assert!(ask(&link).await.is_none());
    assert_eq!(slow.connections(), 2);
}

/// Breaks if whoever gives a connection up ends the one that another question has made since.
#[tokio::test]
async fn only_the_connection_that_was_silent_is_given_up() {
    let slow = Slow::new(Duration::ZERO, Duration::ZERO);
    let link = link(slow.start().await);
    let silent = link.connection().await.expect("a connection");
    link.hang_up(&silent);
    until_answered(&link).await;
    link.hang_up(&silent);
    until_answered(&link).await;
    assert_eq!(slow.connections(), 2);
}

/// Breaks if whoever refuses is asked as fast as questions come.
#[tokio::test]
async fn after_a_refused_connection_there_is_a_pause() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let link = link(address);
    assert!(ask(&link).await.is_none());
    let State::Down(until) = *link.state.lock() else { panic!("nobody is there") };
    assert!(until > Instant::now());
}
