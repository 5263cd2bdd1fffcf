//! Posts: read under limits, turned into a contribution, and taken in before the 200.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
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
use crate::http::body::{BodyLimits, BodyReader, encoding};
use crate::http::failure::Failure;
use crate::http::post::batch_id;
use crate::{clock, metrics};

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
    let counter = match failure.status {
        StatusCode::SERVICE_UNAVAILABLE => &app.counters.at_capacity,
        _ => &app.counters.refused,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    failure.into_response()
}

impl App {
    async fn post_v1(self: &Arc<Self>, headers: &HeaderMap, body: Body) -> Result<(), Failure> {
        let key = batch_id(headers)?;
        let body_reader =
            self.body_reader(headers, self.limits.body_bytes_max, self.limits.inflated_bytes_max)?;
        let _permit = self.admit().await?;
        let mut reader = Reader::new(self.intake.protocol(), &self.limits);
        body_reader.read(body, &mut |piece: &[u8]| reader.feed(piece)).await?;
        let contribution = reader.finish()?;
        if contribution.events == 0 {
            if contribution.bad.total() == 0 {
                return Err(Failure::bad_body("No events in POST document"));
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
            return Err(unsupported(what));
        }
        let key = batch_id(headers)?;
        let bytes_max = self.limits.parts_bytes_max as u64;
        let body_reader = self.body_reader(headers, bytes_max, bytes_max)?;
        let _permit = self.admit().await?;
        let mut bytes = Vec::new();
        let mut collect = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        body_reader.read(body, &mut collect).await?;
        let (id, created, events) = inspect(&bytes)?;
        if key.is_some_and(|key| key != id) {
            return Err(Failure::bad_body("Idempotency-Key is not the id in the batch"));
        }
        let batch = Sealed { id: Some(id), body: bytes, events };
        self.take(move |app, now| app.intake.pass(batch, created, now)).await?;
        self.counters.taken(events, &BadCounts::default());
        Ok(())
    }

    fn body_reader(
        &self,
        headers: &HeaderMap,
        sent_max: u64,
        inflated_max: u64,
    ) -> Result<BodyReader<'static>, Failure> {
        let limits = BodyLimits { sent_max, inflated_max, idle: self.limits.body_idle };
        Ok(BodyReader::new(limits, encoding(headers)?))
    }

    /// Refuses before the body is read where that is possible.
    async fn admit(&self) -> Result<SemaphorePermit<'_>, Failure> {
        self.intake.check_room(0).map_err(|refusal| at_capacity(&refusal))?;
        match timeout(self.limits.permit_wait, self.posts.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(busy("too many posts at once")),
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
            Ok(taken) => taken.map_err(|refusal| at_capacity(&refusal)),
            Err(_) => Err(busy("agent is stopping")),
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
                if lines.bytes() > *bytes_max { Err(parts_too_large()) } else { Ok(()) }
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
        FoldError::Framing(error) => Failure::bad_body(format!("Could not parse document body: {error}")),
        FoldError::TooLarge { .. } => parts_too_large(),
    }
}

/// Checks a v2 batch and counts its events; its bytes are passed on as they are.
fn inspect(bytes: &[u8]) -> Result<(BatchId, Timestamp, u64), Failure> {
    /// Most bytes the parts of a batch may inflate to; servers take no more either.
    const INFLATED_BYTES_MAX: usize = 64 << 20;
    let bad = |error: &dyn std::error::Error| Failure::bad_body(error.to_string());
    let batch = Batch::decode(bytes).map_err(|error| bad(&error))?;
    let block = batch.inflate(INFLATED_BYTES_MAX).map_err(|error| bad(&error))?;
    let mut events = 0_u64;
    for part in part::iter(&block) {
        match part.map_err(|error| bad(&error))? {
            Part::State { events: more, .. } => events = events.saturating_add(more),
            Part::Delete { .. } => return Err(Failure::bad_body("a batch may not delete tabs")),
        }
    }
    Ok((batch.id, batch.created, events))
}

/// What a refusal means to a program: nothing was taken in, and it may try again.
fn at_capacity(refusal: &Refusal) -> Failure {
    if let Refusal::Spool(error) = refusal {
        warn!(%error, "spool cannot be written");
    }
    busy(refusal.to_string())
}

fn busy(why: impl Into<String>) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "at_capacity", why)
}

fn unsupported(why: &str) -> Failure {
    Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported", why)
}

fn parts_too_large() -> Failure {
    Failure::too_large(metrics::Refusal::PartsBytes, "post is too large")
}
