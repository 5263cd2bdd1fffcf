//! Real processes on loopback: keepers with their Redis, Sentinels, and a writer that acknowledges by the
//! rules of docs/shard.md. All are killed when dropped.

pub mod keeper;
pub mod sentinel;
pub mod shard;
pub mod writer;

use std::net::TcpListener;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub const NAME: &str = "s0";
pub const PASSWORD: &str = "shard-password";
pub const TOKEN: &str = "keeper-token";

/// Long, because the machine may be busy; nothing waits for it unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `check` gives something.
#[track_caller]
pub fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port that was free just now, outside the range from which the kernel gives ports to connections.
pub fn free_port() -> u16 {
    // Counted, so that two tests never get the same; from a random start, so that two runs seldom do.
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(rand::random_range(10_000..25_000)));
    loop {
        let port = NEXT.fetch_add(1, Ordering::SeqCst);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A connection with time-outs.
pub fn connect(port: u16, user: &str, patience: Duration) -> redis::RedisResult<redis::Connection> {
    let login = redis::RedisConnectionInfo::default().set_username(user).set_password(PASSWORD);
    connect_as(port, login, patience)
}

/// A connection without a user.
pub fn connect_as(
    port: u16,
    login: redis::RedisConnectionInfo,
    patience: Duration,
) -> redis::RedisResult<redis::Connection> {
    use redis::IntoConnectionInfo as _;
    let place = redis::ConnectionAddr::Tcp("127.0.0.1".to_owned(), port);
    let client = redis::Client::open(place.into_connection_info()?.set_redis_settings(login))?;
    let connection = client.get_connection_with_timeout(patience)?;
    connection.set_read_timeout(Some(patience))?;
    connection.set_write_timeout(Some(patience))?;
    Ok(connection)
}
