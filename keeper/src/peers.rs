//! The other keepers, over HTTP. All are asked at once, each with a time-out.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::timeout;

use crate::api::StateAnswer;
use crate::config::{Config, Member};

/// Longest wait for one keeper.
pub const PEER_TIMEOUT: Duration = Duration::from_millis(300);

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
    authorization: HeaderValue,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Peers {
    /// A client for the members other than `config`'s own.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(PEER_TIMEOUT));
        connector.set_nodelay(true);
        let authorization = HeaderValue::try_from(format!("Bearer {}", config.token));
        Self {
            members: config.others().cloned().collect(),
            authorization: authorization.expect("a secret has no character that a header cannot hold"),
            client: Client::builder(TokioExecutor::new()).build(connector),
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
        let uri = format!("http://{}:{}{path}", member.address.host, member.keeper_port);
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(AUTHORIZATION, &self.authorization)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| PeerError::Reach(error.into()))?;
        timeout(PEER_TIMEOUT, self.exchange(request)).await.map_err(|_| PeerError::Silent)?
    }

    async fn exchange<T: DeserializeOwned>(&self, request: Request<Full<Bytes>>) -> Result<T, PeerError> {
        let answer = self.client.request(request).await.map_err(|error| PeerError::Reach(error.into()))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(PeerError::Reach)?
            .to_bytes();
        if !status.is_success() {
            return Err(PeerError::Refused(status, String::from_utf8_lossy(&body).into_owned()));
        }
        serde_json::from_slice(&body).map_err(PeerError::Parse)
    }
}
