//! The other keepers, over HTTP. All are asked at once, each with a time-out.
//!
//! Whoever asks waits only briefly. The exchange with the other keeper is a task of its own, which may take longer:
//! so a connection that is slow to make is there for the next question, and one whose answer is late is kept. Only
//! what changes something is not sent any more when nobody waits: a vote asked for after its election would cut a
//! member off that has followed since.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::api::StateAnswer;
use crate::config::{Config, Member};

/// Longest wait for a connection to one keeper. Usually there is one, since each is asked for its state all the time.
const CONNECTION_TIMEOUT: Duration = Duration::from_millis(300);

/// Longest wait for the answer after that, where it is at hand.
const STATE_TIMEOUT: Duration = Duration::from_millis(300);

/// The same where the other keeper has something to do: it writes to disk, tells its Redis, and a primary asks
/// Sentinels first.
const POST_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest time from looking up the name to the answer; a name server may be asked twice, a second each.
/// Afterwards the connection is given up.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(3);

/// Most exchanges with one keeper at a time, and so connections. A keeper that is silent soon holds all of them,
/// and a question then ends after [`CONNECTION_TIMEOUT`]: an election does not wait long for it.
const EXCHANGES_MAX: usize = 4;

/// Longest answer of a keeper.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A keeper did not do what was asked.
#[derive(Debug, Error)]
pub enum PeerError {
    /// Nothing came in time.
    #[error("no answer in time")]
    Silent,
    /// It cannot be reached.
    #[error("reach it")]
    Reach(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It said no.
    #[error("it refused with status {0}: {1}")]
    Refused(StatusCode, String),
    /// It said something else.
    #[error("understand its answer")]
    Parse(#[source] serde_json::Error),
}

/// The client.
pub struct Peers {
    members: Vec<Member>,
    /// By member: [`EXCHANGES_MAX`].
    slots: HashMap<String, Arc<Semaphore>>,
    authorization: HeaderValue,
    client: HttpClient,
}

type HttpClient = Client<HttpConnector, Full<Bytes>>;

impl Peers {
    /// A client for the members other than `config`'s own.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(EXCHANGE_TIMEOUT));
        connector.set_nodelay(true);
        let authorization = HeaderValue::try_from(format!("Bearer {}", config.token));
        let mut client = Client::builder(TokioExecutor::new());
        // What is sent again could be sent when nobody waits any more.
        client.pool_max_idle_per_host(EXCHANGES_MAX).retry_canceled_requests(false);
        let slots = |member: &Member| (member.name.clone(), Arc::new(Semaphore::new(EXCHANGES_MAX)));
        Self {
            members: config.others().cloned().collect(),
            slots: config.members.iter().map(slots).collect(),
            authorization: authorization.expect("a secret has no character that a header cannot hold"),
            client: client.build(connector),
        }
    }

    /// Posts to one member.
    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        member: &Member,
        path: &str,
        body: &B,
    ) -> Result<T, PeerError> {
        let body = serde_json::to_vec(body).expect("these bodies have only strings, numbers and lists");
        self.call(member, Method::POST, path, body.into()).await
    }

    /// Posts the same to all others.
    pub async fn post_all<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Vec<(&Member, Result<T, PeerError>)> {
        join_all(
            self.members.iter().map(|member| async move { (member, self.post(member, path, body).await) }),
        )
        .await
    }

    /// Asks one for its state.
    pub async fn state(&self, member: &Member) -> Result<StateAnswer, PeerError> {
        self.call(member, Method::GET, "/state", Bytes::new()).await
    }

    /// Asks all others for their state.
    pub async fn states(&self) -> Vec<(&Member, Result<StateAnswer, PeerError>)> {
        join_all(self.members.iter().map(|member| async move { (member, self.state(member).await) })).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        member: &Member,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, PeerError> {
        let changes = method != Method::GET;
        let uri = format!("http://{}:{}{path}", member.address.host, member.keeper_port);
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(AUTHORIZATION, &self.authorization)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| PeerError::Reach(error.into()))?;
        let (status, body) = self.ask(member, request, changes).await?;
        if !status.is_success() {
            return Err(PeerError::Refused(status, String::from_utf8_lossy(&body).into_owned()));
        }
        serde_json::from_slice(&body).map_err(PeerError::Parse)
    }

    /// Waits for a connection, then for the answer.
    async fn ask(
        &self,
        member: &Member,
        mut request: Request<Full<Bytes>>,
        changes: bool,
    ) -> Result<(StatusCode, Bytes), PeerError> {
        let end = Instant::now() + CONNECTION_TIMEOUT;
        let slot = Arc::clone(&self.slots[&member.name]).acquire_owned();
        let slot = timeout_at(end, slot).await.map_err(|_| PeerError::Silent)?;
        let mut connection = capture_connection(&mut request);
        let exchange = exchange(self.client.clone(), request);
        let exchange = tokio::spawn(async move {
            let _slot = slot;
            timeout(EXCHANGE_TIMEOUT, exchange).await.unwrap_or(Err(PeerError::Silent))
        });
        if timeout_at(end, connection.wait_for_connection_metadata()).await.is_err() {
            if changes {
                exchange.abort();
            }
            return Err(PeerError::Silent);
        }
        let answer = timeout(if changes { POST_TIMEOUT } else { STATE_TIMEOUT }, exchange).await;
        answer.map_err(|_| PeerError::Silent)?.unwrap_or(Err(PeerError::Silent))
    }
}

async fn exchange(
    client: HttpClient,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), PeerError> {
    let answer = client.request(request).await.map_err(|error| PeerError::Reach(error.into()))?;
    let status = answer.status();
    let body =
        Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(PeerError::Reach)?;
    Ok((status, body.to_bytes()))
}

#[cfg(test)]
mod tests;
