//! The client of keepers (docs/shard.md, "Keeper"), and what the operator makes of their answers.
//!
//! Keepers are asked at the addresses of their pods, which need no name server. An address may have gone to a
//! pod of someone else meanwhile, so an answer counts only if it names the shard and the member meant.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use taba_keeper::api::{Failure, FoundAnswer, HandoverAnswer, HandoverRequest, PriorityRequest, StateAnswer};
use thiserror::Error;
use tokio::time::timeout;

#[cfg(test)]
mod tests;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest wait for an answer that takes no work.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// A founding asks every member twice.
const FOUND_TIMEOUT: Duration = Duration::from_secs(15);

/// A handover waits up to 12 s for Sentinels, 2 s for the last write and 6 s for the new primary.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A keeper did not do what was asked.
#[derive(Debug, Error)]
pub enum KeeperError {
    /// Nothing came in time.
    #[error("no answer in time")]
    Silent,
    /// It cannot be reached.
    #[error("cannot be reached: {0}")]
    Reach(String),
    /// It said no.
    #[error("refused with status {}: {why}", .status.as_u16())]
    Refused {
        /// The status.
        status: StatusCode,
        /// Its words.
        why: String,
    },
    /// It said something that is not understood.
    #[error("gave an answer that cannot be read")]
    Parse(#[source] serde_json::Error),
    /// Someone else answers at this address.
    #[error("is another's: {shard}, member {member}")]
    Stranger {
        /// Of this shard.
        shard: String,
        /// This member.
        member: String,
    },
    /// The token cannot be sent.
    #[error("token holds characters that a header cannot")]
    Token,
}

/// Where a keeper is, and who it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    /// The pod's address.
    pub ip: IpAddr,
    /// The keeper's port.
    pub port: u16,
    /// The Sentinel master name.
    pub shard: String,
    /// The member.
    pub member: String,
}

/// The client of all keepers of all clusters. Clones share its connections.
#[derive(Clone)]
pub struct Keepers {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Default for Keepers {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(1)
            .build(connector);
        Self { client }
    }
}

impl Keepers {
    /// `GET /state`.
    ///
    /// # Errors
    /// If the keeper does not answer, or another one does.
    pub async fn state(&self, keeper: &Keeper, token: &str) -> Result<StateAnswer, KeeperError> {
        let call = Call { keeper, token, within: ASK_TIMEOUT };
        let state: StateAnswer = self.call(&call, Method::GET, "/state", Bytes::new()).await?;
        if state.shard == keeper.shard && state.member == keeper.member {
            Ok(state)
        } else {
            Err(KeeperError::Stranger { shard: state.shard, member: state.member })
        }
    }

    /// `POST /found`.
    ///
    /// # Errors
    /// If the keeper refuses, or does not answer in time; then it may have done it all the same.
    pub async fn found(&self, keeper: &Keeper, token: &str) -> Result<FoundAnswer, KeeperError> {
        self.post(&Call { keeper, token, within: FOUND_TIMEOUT }, "/found", &()).await
    }

    /// `POST /handover`, to whichever replica is in sync if `to` names none.
    ///
    /// # Errors
    /// If the keeper refuses, or does not answer in time; then it may have done it all the same.
    pub async fn hand_over(
        &self,
        keeper: &Keeper,
        token: &str,
        to: Option<&str>,
    ) -> Result<HandoverAnswer, KeeperError> {
        let request = HandoverRequest { to: to.map(ToOwned::to_owned) };
        self.post(&Call { keeper, token, within: HANDOVER_TIMEOUT }, "/handover", &request).await
    }

    /// `POST /fence` or `/unfence`.
    ///
    /// # Errors
    /// If the keeper refuses or does not answer in time.
    pub async fn fence(&self, keeper: &Keeper, token: &str, fenced: bool) -> Result<(), KeeperError> {
        let path = if fenced { "/fence" } else { "/unfence" };
        let _: Empty = self.post(&Call { keeper, token, within: ASK_TIMEOUT }, path, &()).await?;
        Ok(())
    }

    /// `POST /priority`: whether this member is kept from being promoted.
    ///
    /// # Errors
    /// If the keeper refuses or does not answer in time.
    pub async fn hold_back(&self, keeper: &Keeper, token: &str, held: bool) -> Result<(), KeeperError> {
        let request = PriorityRequest { priority: held.then_some(0) };
        let _: Empty = self.post(&Call { keeper, token, within: ASK_TIMEOUT }, "/priority", &request).await?;
        Ok(())
    }

    async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        path: &str,
        body: &B,
    ) -> Result<T, KeeperError> {
        let body = serde_json::to_vec(body).expect("these bodies have only names and numbers");
        self.call(call, Method::POST, path, body.into()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, KeeperError> {
        let place = std::net::SocketAddr::new(call.keeper.ip, call.keeper.port);
        let mut authorization =
            HeaderValue::try_from(format!("Bearer {}", call.token)).map_err(|_| KeeperError::Token)?;
        authorization.set_sensitive(true);
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{place}{path}"))
            .header(AUTHORIZATION, authorization)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| KeeperError::Reach(error.to_string()))?;
        timeout(call.within, self.exchange(request)).await.map_err(|_| KeeperError::Silent)?
    }

    async fn exchange<T: DeserializeOwned>(&self, request: Request<Full<Bytes>>) -> Result<T, KeeperError> {
        let answer = self.client.request(request).await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            KeeperError::Reach(cause.unwrap_or_else(|| error.to_string()))
        })?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| KeeperError::Reach(error.to_string()))?
            .to_bytes();
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(KeeperError::Parse);
        }
        let why = serde_json::from_slice::<Failure>(&body).map_or_else(
            |_| String::from_utf8_lossy(&body).chars().take(200).collect(),
            |failure| failure.error,
        );
        Err(KeeperError::Refused { status, why })
    }
}

struct Call<'a> {
    keeper: &'a Keeper,
    token: &'a str,
    within: Duration,
}

/// `{}`.
#[derive(serde::Deserialize)]
struct Empty {}
