//! Posts: read under limits, turned into a contribution, and taken in before the 200.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use taba_core::fold::{FoldError, FoldLimits, Folded, Folder};
use taba_core::wire::v2::Batch;
use taba_core::{BadCounts, BatchId, Part, Timestamp, VbucketCount, part};
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::{App, PostLimits};
use crate::agent::config::ServerProtocol;
use crate::agent::gather::lines::LineReader;
use crate::agent::gather::{Contribution, Sealed};
use crate::agent::intake::Refusal;
use crate::clock;

/// Why a post gets another answer than 200.
#[derive(Debug)]
enum Failure {
    /// 400: it can never be taken in.
    Bad(String),
    /// 413: it is too large.
    TooLarge,
    /// 408: the program stopped sending.
    Idle,
    /// 415: not in a form that can be forwarded.
    Unsupported(&'static str),
    /// 503: a bound is reached, or the spool cannot be written.
    AtCapacity(String),
}

/// `POST /post`: protocol v1.
pub(super) async fn v1(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Response {
    answer(&app, app.post_v1(&headers, body).await)
}

/// `POST /v2/batch`: a batch of partial states, passed on under its own id.
pub(super) async fn v2(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Response {
    answer(&app, app.post_v2(&headers, body).await)
}

fn answer(app: &App, outcome: Result<(), Failure>) -> Response {
    let Err(failure) = outcome else { return StatusCode::OK.into_response() };
    debug!(?failure, "post not taken in");
    let counter = match failure {
        Failure::AtCapacity(_) => &app.counters.at_capacity,
        _ => &app.counters.refused,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    failure.into_response()
}

impl App {
    async fn post_v1(self: &Arc<Self>, headers: &HeaderMap, body: Body) -> Result<(), Failure> {
        let key = idempotency_key(headers)?;
        let _permit = self.admit(headers).await?;
        let mut reader = Reader::new(self.intake.protocol(), &self.limits);
        read(body, &self.limits, self.limits.body_bytes_max, |piece| reader.feed(piece)).await?;
        let contribution = reader.finish()?;
        if contribution.events == 0 {
            if contribution.bad.total() == 0 {
                return Err(Failure::Bad("No events in POST document".to_owned()));
            }
            self.counters.taken(0, &contribution.bad);
            return Ok(());
        }
        // A server of the first Taba knows no ids, so there a key changes nothing.
        let key = key.filter(|_| self.intake.protocol() == ServerProtocol::V2);
        let (events, bad) = (contribution.events, contribution.bad);
        self.take(move |app, now| match &key {
            Some(id) => app.intake.add_under(id, &contribution, now),
            None => app.intake.add(&contribution, now),
        })
        .await?;
        self.counters.taken(events, &bad);
        Ok(())
    }

    async fn post_v2(self: &Arc<Self>, headers: &HeaderMap, body: Body) -> Result<(), Failure> {
        if self.intake.protocol() == ServerProtocol::V1 {
            let what = "servers of the first Taba take no v2 batches; post protocol v1 to /post";
            return Err(Failure::Unsupported(what));
        }
        let key = idempotency_key(headers)?;
        let _permit = self.admit(headers).await?;
        let (mut bytes, bytes_max) = (Vec::new(), self.limits.parts_bytes_max);
        let collect = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        read(body, &self.limits, bytes_max as u64, collect).await?;
        let (id, created, events) = inspect(&bytes)?;
        if key.is_some_and(|key| key != id) {
            return Err(Failure::Bad("Idempotency-Key is not the id in the batch".to_owned()));
        }
        let batch = Sealed { id: Some(id), body: bytes, events };
        self.take(move |app, now| app.intake.pass(batch, created, now)).await?;
        self.counters.taken(events, &BadCounts::default());
        Ok(())
    }

    /// Refuses before the body is read where that is possible.
    async fn admit(&self, headers: &HeaderMap) -> Result<SemaphorePermit<'_>, Failure> {
        let encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|value| value != "identity");
        if encoded {
            return Err(Failure::Unsupported("the agent takes plain bodies only"));
        }
        self.intake.check_room(0).map_err(Failure::from)?;
        match timeout(self.limits.permit_wait, self.posts.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Failure::AtCapacity("too many posts at once".to_owned())),
        }
    }

    /// Gathering and writing the spool block, so they get a thread that may.
    async fn take(
        self: &Arc<Self>,
        take: impl FnOnce(&Self, Timestamp) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<(), Failure> {
        let app = Arc::clone(self);
        let taken = tokio::task::spawn_blocking(move || take(&app, clock::now())).await;
        match taken {
            Ok(taken) => taken.map_err(Failure::from),
            Err(_) => Err(Failure::AtCapacity("agent is stopping".to_owned())),
        }
    }
}

/// Reads a v1 body into a contribution, in the form the servers take.
enum Reader {
    States(Box<Folder>),
    Lines { lines: Box<LineReader>, bytes_max: usize },
}

impl Reader {
    fn new(protocol: ServerProtocol, limits: &PostLimits) -> Self {
        match protocol {
            ServerProtocol::V2 => {
                let fold = FoldLimits {
                    future_tolerance: limits.future_tolerance,
                    line_bytes_max: limits.line_bytes_max,
                    parts_bytes_max: limits.parts_bytes_max,
                };
                // All parts travel in one block; the server cuts it by its own vbuckets.
                let one = VbucketCount::new(1).expect("one is a valid count");
                Self::States(Box::new(Folder::new(one, fold, clock::now())))
            }
            ServerProtocol::V1 => Self::Lines {
                lines: Box::new(LineReader::new(limits.line_bytes_max)),
                bytes_max: limits.parts_bytes_max,
            },
        }
    }

    fn feed(&mut self, piece: &[u8]) -> Result<(), Failure> {
        match self {
            Self::States(folder) => folder.feed(piece).map_err(unreadable),
            Self::Lines { lines, bytes_max } => {
                lines.feed(piece).map_err(|error| unreadable(FoldError::Framing(error)))?;
                if lines.bytes() > *bytes_max { Err(Failure::TooLarge) } else { Ok(()) }
            }
        }
    }

    fn finish(self) -> Result<Contribution, Failure> {
        match self {
            Self::States(folder) => folder.finish().map(contribution).map_err(unreadable),
            Self::Lines { lines, .. } => {
                lines.finish().map_err(|error| unreadable(FoldError::Framing(error)))
            }
        }
    }
}

fn contribution(folded: Folded) -> Contribution {
    for sample in &folded.bad_samples {
        debug!(reason = sample.reason.as_str(), offset = sample.offset, line = sample.line, "bad event");
    }
    let block = folded.parts.into_blocks().next().map(|(_, block)| block).unwrap_or_default();
    Contribution { block, events: folded.events, bad: folded.bad }
}

fn unreadable(error: FoldError) -> Failure {
    match error {
        FoldError::Framing(error) => Failure::Bad(format!("Could not parse document body: {error}")),
        FoldError::TooLarge { .. } => Failure::TooLarge,
    }
}

/// Checks a v2 batch and counts its events; its bytes are passed on as they are.
fn inspect(bytes: &[u8]) -> Result<(BatchId, Timestamp, u64), Failure> {
    /// Most bytes the parts of a batch may inflate to; servers take no more either.
    const INFLATED_BYTES_MAX: usize = 64 << 20;
    let bad = |error: &dyn std::error::Error| Failure::Bad(error.to_string());
    let batch = Batch::decode(bytes).map_err(|error| bad(&error))?;
    let block = batch.inflate(INFLATED_BYTES_MAX).map_err(|error| bad(&error))?;
    let mut events = 0_u64;
    for part in part::iter(&block) {
        match part.map_err(|error| bad(&error))? {
            Part::State { events: more, .. } => events = events.saturating_add(more),
            Part::Delete { .. } => return Err(Failure::Bad("a batch may not delete tabs".to_owned())),
        }
    }
    Ok((batch.id, batch.created, events))
}

async fn read(
    mut body: Body,
    limits: &PostLimits,
    bytes_max: u64,
    mut feed: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut bytes = 0_u64;
    loop {
        let frame = timeout(limits.body_idle, body.frame()).await.map_err(|_| Failure::Idle)?;
        let Some(frame) = frame else { return Ok(()) };
        let frame = frame.map_err(|error| Failure::Bad(format!("body was cut off: {error}")))?;
        let Ok(piece) = frame.into_data() else { continue };
        bytes += piece.len() as u64;
        if bytes > bytes_max {
            return Err(Failure::TooLarge);
        }
        feed(&piece)?;
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<BatchId>, Failure> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().map_err(|_| Failure::Bad("Idempotency-Key is not text".to_owned()))?;
    text.parse().map(Some).map_err(|error| Failure::Bad(format!("Idempotency-Key: {error}")))
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match &refusal {
            Refusal::BufferFull | Refusal::SpoolFull => {}
            Refusal::Spool(error) => warn!(%error, "spool cannot be written"),
            Refusal::Block(error) => warn!(%error, "post cannot be gathered"),
        }
        Self::AtCapacity(refusal.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let retry = [(header::RETRY_AFTER, "1")];
        match self {
            Self::Bad(why) => (StatusCode::BAD_REQUEST, why).into_response(),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "post is too large").into_response(),
            Self::Idle => (StatusCode::REQUEST_TIMEOUT, "body did not arrive").into_response(),
            Self::Unsupported(why) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, why).into_response(),
            Self::AtCapacity(why) => (StatusCode::SERVICE_UNAVAILABLE, retry, why).into_response(),
        }
    }
}
