//! `POST /v2/batch`: partial states under an id, or events in protocol v1.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use hyper::body::Body as _;
use serde::Serialize;
use taba_core::fold::Folded;
use taba_core::wire::v2::{BadBatch, Batch, CONTENT_TYPE};
use taba_core::{BatchId, Timestamp, VbucketCount};
use utoipa::ToSchema;

use super::{App, ErrorBody, Failure};
use crate::http::body::{BodyLimits, BodyReader, encoding};
use crate::http::post::{self, Outcome};
use crate::metrics::Refusal;

/// Room for a batch's header beside its parts.
const HEADER_BYTES_MAX: u64 = 4 << 10;

/// Batches beyond this are read on a thread of their own: inflating them and checking their states takes
/// longer than a millisecond.
const BLOCKING_BYTES: usize = 64 << 10;

/// What became of a batch.
#[derive(Serialize, ToSchema)]
pub struct BatchAnswer {
    /// Events counted; of a duplicate, those it was counted with before.
    events: u64,
    /// Events not counted, by reason.
    bad: BTreeMap<&'static str, u64>,
    /// It had been stored before, and nothing changed.
    duplicate: bool,
}

impl From<Outcome> for BatchAnswer {
    fn from(outcome: Outcome) -> Self {
        let bad = outcome.bad.iter().map(|(reason, events)| (reason.as_str(), events)).collect();
        Self { events: outcome.events, bad, duplicate: outcome.duplicate }
    }
}

/// Stores one batch, exactly once if it has an id. 200 means that it is durable.
#[utoipa::path(
    post,
    path = "/v2/batch",
    params(("Idempotency-Key" = Option<String>, Header,
        description = "<producer>/<sequence>; must agree with the id inside a v2 batch")),
    request_body(
        description = "A batch of partial states, or events in protocol v1",
        content((String = "application/vnd.taba.batch-v2"), (String = "text/plain"))
    ),
    responses(
        (status = 200, description = "Stored", body = BatchAnswer),
        (status = 400, description = "The body or its id cannot be read; nothing was stored", body = ErrorBody),
        (status = 408, description = "The body arrived too slowly", body = ErrorBody),
        (status = 409, description = "The sequence is too old to tell whether it was counted", body = ErrorBody),
        (status = 413, description = "The body is too large", body = ErrorBody),
        (status = 415, description = "Another content type or encoding", body = ErrorBody),
        (status = 503, description = "At capacity or not reachable: retry with the same id", body = ErrorBody)
    )
)]
pub async fn batch(State(app): State<Arc<App>>, request: Request) -> Result<Json<BatchAnswer>, Failure> {
    let outcome = match media_type(request.headers()).as_str() {
        CONTENT_TYPE => {
            let worker = Arc::clone(&app);
            app.on_work(async move { v2(&worker, request).await }).await?
        }
        "text/plain" => {
            let encoding = encoding(request.headers())?;
            post::v1(app, request, encoding).await?
        }
        _ => {
            let message = format!("Content-Type must be {CONTENT_TYPE} or text/plain");
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
        }
    };
    Ok(Json(outcome.into()))
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

async fn v2(app: &App, request: Request) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let key = post::batch_id(&head.headers)?;
    let mut permit = post::admit(app, &body)?;
    // The whole batch is one checksummed unit, so it is held; it is no longer than its parts may be.
    let mut limits = BodyLimits::of(&app.limits);
    let bytes_max = app.limits.parts_bytes_max as u64 + HEADER_BYTES_MAX;
    limits.sent_max = limits.sent_max.min(bytes_max);
    limits.inflated_max = limits.inflated_max.min(bytes_max);
    let mut bytes = Vec::with_capacity(usize::try_from(body.size_hint().lower().min(1 << 20)).unwrap_or(0));
    let mut sink = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    let reader = BodyReader::new(limits, encoding(&head.headers)?);
    reader.counted(&mut permit, &app.metrics.body_bytes).read(body, &mut sink).await?;
    let parts_bytes = Batch::decode(&bytes).map_err(|error| refused(&error))?.parts_bytes();
    permit.grow_to(usize::try_from(parts_bytes).unwrap_or(usize::MAX)).map_err(Failure::at_capacity)?;
    let (id, folded) = unpack(bytes, app.pipeline.vbuckets(), &app.limits).await?;
    if key.is_some_and(|key| key != id) {
        let message = format!("Idempotency-Key differs from the batch's own id {id}");
        return Err(Failure::new(StatusCode::BAD_REQUEST, "bad_idempotency_key", message));
    }
    post::store(app, permit, Some(id), folded, started).await
}

async fn unpack(
    bytes: Vec<u8>,
    vbuckets: VbucketCount,
    limits: &crate::config::Limits,
) -> Result<(BatchId, Folded), Failure> {
    let (limits, now) = (post::fold_limits(limits), crate::clock::now());
    let unpack = move |bytes: &[u8], now: Timestamp| {
        let batch = Batch::decode(bytes)?;
        batch.parts(vbuckets, &limits, now).map(|folded| (batch.id, folded))
    };
    let unpacked = if bytes.len() > BLOCKING_BYTES {
        let unpacked = tokio::task::spawn_blocking(move || unpack(&bytes, now)).await;
        unpacked.expect("reading a batch does not panic and is not aborted")
    } else {
        unpack(&bytes, now)
    };
    unpacked.map_err(|error| refused(&error))
}

fn refused(error: &BadBatch) -> Failure {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message.push_str(": ");
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    match error {
        BadBatch::TooLarge { .. } => Failure::too_large(Refusal::PartsBytes, message),
        _ => Failure::new(StatusCode::BAD_REQUEST, "bad_batch", message),
    }
}
