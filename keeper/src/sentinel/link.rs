//! The connection to one Sentinel: made once, kept while it works, and asked with a time-out.
//!
//! A question is given up after a fraction of a second, because others can answer it. Making a connection may take
//! longer than that where names are looked up and machines are busy. So it is made by a task of its own, which goes
//! on when the question is given up; else a keeper would begin anew with each question, never get through, and keep
//! the name servers and Sentinels busy with its attempts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError};
use tokio::time::{Instant, timeout, timeout_at};

/// Longest wait for a connection: a name server may be asked twice, a second each.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// After one that did not come about: whoever refuses a login will refuse the next one too.
const RETRY_PAUSE: Duration = Duration::from_millis(400);

/// Questions without an answer in a row after which a connection counts as dead. One that was only slow goes on: its
/// late answers are thrown away.
const SILENCES_MAX: u32 = 4;

/// What came of a question.
#[derive(Debug)]
pub(super) enum Asked<T> {
    /// An answer.
    Answer(T),
    /// The Sentinel will not.
    Refusal(RedisError),
    /// There is no connection, or nothing came in time.
    Silence,
}

/// The connection to one Sentinel, or the attempt at one.
pub(super) struct Link {
    client: Client,
    /// For answers: longer than any question waits.
    answer_timeout: Duration,
    state: Mutex<State>,
}

enum State {
    /// None, and none before this moment.
    Down(Instant),
    /// A task is at it.
    Connecting,
    Up(Connection),
}

#[derive(Clone)]
struct Connection {
    redis: MultiplexedConnection,
    /// Questions without an answer in a row. Also tells this connection from others.
    silences: Arc<AtomicU32>,
}

impl Link {
    /// Connects to nothing yet.
    pub(super) fn new(client: Client, answer_timeout: Duration) -> Arc<Self> {
        let state = Mutex::new(State::Down(Instant::now()));
        Arc::new(Self { client, answer_timeout, state })
    }

    /// Asks, and waits so long for the answer, the connection included.
    pub(super) async fn ask<T: FromRedisValue>(
        self: &Arc<Self>,
        command: &Cmd,
        within: Duration,
    ) -> Asked<T> {
        let end = Instant::now() + within;
        let Ok(Some(mut connection)) = timeout_at(end, self.connection()).await else {
            return Asked::Silence;
        };
        match timeout_at(end, command.query_async(&mut connection.redis)).await {
            Ok(Ok(answer)) => {
                connection.silences.store(0, Ordering::Relaxed);
                Asked::Answer(answer)
            }
            Ok(Err(error)) if !error.is_io_error() && !error.is_unrecoverable_error() => {
                connection.silences.store(0, Ordering::Relaxed);
                Asked::Refusal(error)
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "the connection to a sentinel broke");
                self.hang_up(&connection);
                Asked::Silence
            }
            Err(_) => {
                if connection.silences.fetch_add(1, Ordering::Relaxed) + 1 >= SILENCES_MAX {
                    tracing::debug!("a sentinel is silent; its connection is given up");
                    self.hang_up(&connection);
                }
                Asked::Silence
            }
        }
    }

    /// The connection; none if it cannot be made, or another question waits for it already.
    async fn connection(self: &Arc<Self>) -> Option<Connection> {
        {
            let mut state = self.state.lock();
            match &*state {
                State::Up(connection) => return Some(connection.clone()),
                State::Connecting => return None,
                State::Down(until) if Instant::now() < *until => return None,
                State::Down(_) => *state = State::Connecting,
            }
        }
        let link = Arc::clone(self);
        tokio::spawn(async move { link.connect().await }).await.ok()?
    }

    async fn connect(&self) -> Option<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(self.answer_timeout));
        let made = self.client.get_multiplexed_async_connection_with_config(&config);
        // Looking up the name has no bound of its own.
        let made = timeout(CONNECT_TIMEOUT, made).await;
        let mut state = self.state.lock();
        if let Ok(Ok(redis)) = made {
            let connection = Connection { redis, silences: Arc::default() };
            *state = State::Up(connection.clone());
            return Some(connection);
        }
        if let Ok(Err(error)) = made {
            tracing::debug!(%error, "no connection to a sentinel");
        }
        *state = State::Down(Instant::now() + RETRY_PAUSE);
        None
    }

    /// Gives a connection up, unless another one has taken its place.
    fn hang_up(&self, connection: &Connection) {
        let mut state = self.state.lock();
        if matches!(&*state, State::Up(other) if Arc::ptr_eq(&other.silences, &connection.silences)) {
            *state = State::Down(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
