//! `/post` and `/post_zip`: events in protocol v1, folded while they stream in, answered once stored.
//!
//! Clients of the first Taba treat only 200 as success and repeat all else for ever, so bad events are
//! counted and the rest is kept; only a body that cannot be read to its end is refused, as a whole.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Body as _;
use taba_core::fold::{FoldError, FoldLimits, Folded, Folder};
use taba_core::{BadCounts, BatchId};
use tracing::{debug, warn};

use super::App;
use super::admission::PostPermit;
use super::body::{BodyLimits, BodyReader, encoding};
use super::failure::Failure;
use super::inflate::Encoding;
use crate::config::Limits;
use crate::metrics::{Refusal, Seldom};
use crate::store::Accepted;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Bodies beyond this are folded to their end on a thread of their own: encoding their states takes
/// longer than a millisecond.
const BLOCKING_BYTES: u64 = 4 << 20;

/// How often the log warns of bad events.
static BAD_EVENTS_LOGGED: Seldom = Seldom::every(10);

/// What became of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Events counted.
    pub events: u64,
    /// Events not counted, by reason.
    pub bad: BadCounts,
    /// It had been stored before, and nothing changed.
    pub duplicate: bool,
}

/// `POST /post`.
pub async fn plain(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let encoding = encoding(request.headers())?;
    v1(app, request, encoding).await?;
    Ok(StatusCode::OK.into_response())
}

/// `POST /post_zip`: zlib, whatever the head says.
pub async fn zip(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    v1(app, request, Encoding::Zlib).await?;
    Ok(StatusCode::OK.into_response())
}

/// Takes one v1 body in.
///
/// # Errors
/// [`Failure`]: nothing of it was acknowledged.
pub async fn v1(app: Arc<App>, request: Request, encoding: Encoding) -> Result<Outcome, Failure> {
    let worker = Arc::clone(&app);
    app.on_work(async move { take_v1(&worker, request, encoding).await }).await
}

async fn take_v1(app: &App, request: Request, encoding: Encoding) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let id = batch_id(&head.headers)?;
    let mut permit = admit(app, &body)?;
    let mut folder = Folder::new(app.pipeline.vbuckets(), fold_limits(&app.limits), crate::clock::now());
    let mut bytes = 0;
    let mut sink = |piece: &[u8]| {
        bytes += piece.len() as u64;
        folder.feed(piece).map_err(refused_body)
    };
    let reader = BodyReader::new(BodyLimits::of(&app.limits), encoding);
    reader.counted(&mut permit, &app.metrics.body_bytes).read(body, &mut sink).await?;
    let folded = if bytes > BLOCKING_BYTES {
        let finished = tokio::task::spawn_blocking(|| folder.finish()).await;
        finished.expect("folding does not panic and is not aborted")
    } else {
        folder.finish()
    };
    store(app, permit, id, folded.map_err(refused_body)?, started).await
}

/// Reserves room for a post before any of its body is read.
///
/// # Errors
/// 503 at a limit; 413 if its head says that it is too long.
pub fn admit(app: &App, body: &Body) -> Result<PostPermit, Failure> {
    app.admission.post(body.size_hint().exact()).map_err(Failure::at_capacity)
}

/// The limits of one body, as the core takes them.
#[must_use]
pub fn fold_limits(limits: &Limits) -> FoldLimits {
    FoldLimits {
        future_tolerance: limits.future_tolerance,
        line_bytes_max: limits.line_bytes_max,
        parts_bytes_max: limits.parts_bytes_max,
    }
}

/// The batch's id, from its header.
///
/// # Errors
/// 400 if there is one and it cannot be read.
pub fn batch_id(headers: &HeaderMap) -> Result<Option<BatchId>, Failure> {
    let bad = |why: String| Failure::new(StatusCode::BAD_REQUEST, "bad_idempotency_key", why);
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    if keys.next().is_some() {
        return Err(bad("more than one Idempotency-Key".to_owned()));
    }
    let key = key.to_str().map_err(|_| bad("Idempotency-Key must be ASCII".to_owned()))?;
    key.parse().map(Some).map_err(|error: taba_core::batch::BadBatchId| bad(error.to_string()))
}

/// Hands a folded batch to the pipeline and counts what became of it.
///
/// # Errors
/// [`Failure`]: it was not acknowledged.
pub async fn store(
    app: &App,
    mut permit: PostPermit,
    id: Option<BatchId>,
    folded: Folded,
    started: Instant,
) -> Result<Outcome, Failure> {
    permit.settle(folded.parts.bytes()).map_err(Failure::at_capacity)?;
    let Folded { parts, events, bad, bad_samples } = folded;
    // An id is remembered even without parts: its batch must not be counted under it later.
    let accepted = if parts.is_empty() && id.is_none() {
        Accepted::New
    } else {
        let stored = app.pipeline.accept(id.as_ref(), parts).await;
        stored.map_err(|error| {
            debug!(%error, "batch not stored");
            Failure::from_store(&error)
        })?
    };
    app.metrics.accept_latency.add(started.elapsed());
    if accepted == Accepted::Duplicate {
        app.metrics.batches_duplicate.inc();
        return Ok(Outcome { events, bad, duplicate: true });
    }
    app.metrics.events_accepted.inc_by(events);
    if bad.total() > 0 {
        app.metrics.bad(&bad);
        for sample in &bad_samples {
            debug!(reason = sample.reason.as_str(), offset = sample.offset, line = sample.line, "bad event");
        }
        if BAD_EVENTS_LOGGED.allows(crate::clock::now().as_secs()) {
            let first = bad_samples.first().map(|sample| (sample.reason.as_str(), sample.line.as_str()));
            let (reason, line) = first.unwrap_or_default();
            warn!(
                events = bad.total(),
                reason, line, "bad events in a batch; further batches are not logged for 10 s"
            );
        }
    }
    Ok(Outcome { events, bad, duplicate: false })
}

fn refused_body(error: FoldError) -> Failure {
    match error {
        FoldError::Framing(error) => Failure::new(StatusCode::BAD_REQUEST, "bad_framing", error.to_string()),
        FoldError::TooLarge { .. } => Failure::too_large(Refusal::PartsBytes, error.to_string()),
    }
}
