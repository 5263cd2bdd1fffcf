//! Reads posted bodies as they stream in: counts them against their limits, undoes their compression and
//! hands every piece on at once. A body never sits in memory as a whole.
//!
//! ```text
//! frame ──▶ body_bytes_max ──▶ inflate, window by window ──▶ inflated_bytes_max ──▶ sink
//! ```
//!
//! Nothing is stored from here: a body that is cut off, too large or too slow ends in a [`Failure`] before
//! its sink is asked for a result.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

use super::admission::PostPermit;
use super::failure::Failure;
use super::inflate::{Encoding, Inflater};
use crate::config::Limits;
use crate::metrics::Refusal;

/// Bytes of work between two points where other tasks may run. Inflating and folding run at 0.5 GB/s or
/// more together, so this is about a millisecond at worst.
const WORK_BYTES: usize = 512 << 10;

/// Slowest average a body may arrive at once `body_idle_timeout` has passed; a client that drips single
/// bytes would hold its slot for ever otherwise.
const BYTES_PER_SEC_MIN: u64 = 1024;

/// Takes a body in, piece by piece.
pub trait Sink {
    /// Takes the next piece.
    ///
    /// # Errors
    /// [`Failure`] if the body is to be refused as a whole.
    fn feed(&mut self, piece: &[u8]) -> Result<(), Failure>;
}

impl<F: FnMut(&[u8]) -> Result<(), Failure>> Sink for F {
    fn feed(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self(piece)
    }
}

/// What a body may cost.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes as sent.
    pub sent_max: u64,
    /// Bytes once inflated.
    pub inflated_max: u64,
    /// Longest pause.
    pub idle: Duration,
}

impl BodyLimits {
    /// The limits of posts.
    #[must_use]
    pub fn of(limits: &Limits) -> Self {
        Self {
            sent_max: limits.body_bytes_max,
            inflated_max: limits.inflated_bytes_max,
            idle: limits.body_idle_timeout,
        }
    }
}

/// How the body is compressed, from its head.
///
/// # Errors
/// 415 for an encoding we do not know, or a list of them.
pub fn encoding(headers: &HeaderMap) -> Result<Encoding, Failure> {
    let unsupported = || {
        let message = "Content-Encoding must be one of identity, gzip, deflate, zstd";
        Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", message)
    };
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(Encoding::Identity) };
    if values.next().is_some() {
        return Err(unsupported());
    }
    match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Encoding::Identity),
        "gzip" | "x-gzip" => Ok(Encoding::Gzip),
        "deflate" => Ok(Encoding::Deflate),
        "zstd" => Ok(Encoding::Zstd),
        _ => Err(unsupported()),
    }
}

/// Reads one body to its end.
pub struct BodyReader<'a> {
    limits: BodyLimits,
    encoding: Encoding,
    /// Bytes this post may hold, told of what came in.
    permit: Option<&'a mut PostPermit>,
    received: Option<&'a Counter>,
    sent: u64,
    inflated: u64,
    /// Bytes of work since the last pause.
    work: usize,
}

impl<'a> BodyReader<'a> {
    /// A reader for one body.
    #[must_use]
    pub fn new(limits: BodyLimits, encoding: Encoding) -> Self {
        Self { limits, encoding, permit: None, received: None, sent: 0, inflated: 0, work: 0 }
    }

    /// Counts the bytes held against a permit and the bytes received in a metric.
    #[must_use]
    pub fn counted(mut self, permit: &'a mut PostPermit, received: &'a Counter) -> Self {
        self.permit = Some(permit);
        self.received = Some(received);
        self
    }

    /// Reads the body into the sink. `Ok` means that all of it arrived and its checksums are right.
    ///
    /// # Errors
    /// [`Failure`]: the body is to be refused as a whole.
    pub async fn read(mut self, mut body: Body, sink: &mut impl Sink) -> Result<(), Failure> {
        if body.size_hint().lower() > self.limits.sent_max {
            return Err(self.too_long());
        }
        let started = Instant::now();
        let mut inflater = Inflater::new(self.encoding);
        while let Some(bytes) = self.next_bytes(&mut body, started).await? {
            match &mut inflater {
                None => self.pass(&bytes, sink).await?,
                Some(inflater) => self.inflate(inflater, &bytes, sink).await?,
            }
        }
        inflater.map_or(Ok(()), |inflater| {
            inflater.finish().map_err(|error| Failure::bad_body(error.to_string()))
        })
    }

    async fn next_bytes(&mut self, body: &mut Body, started: Instant) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = match tokio::time::timeout(self.limits.idle, body.frame()).await {
                Err(_) => return Err(too_slow()),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(Failure::bad_body("the body is cut off")),
                Ok(Some(Ok(frame))) => frame,
            };
            // Trailers carry nothing we read.
            let Ok(bytes) = frame.into_data() else { continue };
            self.sent += bytes.len() as u64;
            if let Some(received) = self.received {
                received.inc_by(bytes.len() as u64);
            }
            if self.sent > self.limits.sent_max {
                return Err(self.too_long());
            }
            let allowed = started.elapsed().saturating_sub(self.limits.idle).as_secs() * BYTES_PER_SEC_MIN;
            if self.sent < allowed {
                return Err(too_slow());
            }
            return Ok(Some(bytes));
        }
    }

    async fn pass(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<(), Failure> {
        for piece in bytes.chunks(WORK_BYTES) {
            self.take(piece, sink)?;
            self.pause_after(piece.len()).await;
        }
        Ok(())
    }

    async fn inflate(
        &mut self,
        inflater: &mut Inflater,
        mut bytes: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), Failure> {
        loop {
            let before = bytes.len();
            let piece = inflater.step(&mut bytes).map_err(|error| Failure::bad_body(error.to_string()))?;
            let work = piece.len() + (before - bytes.len());
            if work == 0 {
                return Ok(());
            }
            self.take(piece, sink)?;
            self.pause_after(work).await;
        }
    }

    fn take(&mut self, piece: &[u8], sink: &mut impl Sink) -> Result<(), Failure> {
        self.inflated += piece.len() as u64;
        if self.inflated > self.limits.inflated_max {
            let message = format!("the body is longer than {} bytes when inflated", self.limits.inflated_max);
            return Err(Failure::too_large(Refusal::InflatedBytes, message));
        }
        if let Some(permit) = &mut self.permit {
            let bytes = usize::try_from(self.inflated).unwrap_or(usize::MAX);
            permit.grow_to(bytes).map_err(Failure::at_capacity)?;
        }
        sink.feed(piece)
    }

    async fn pause_after(&mut self, work: usize) {
        self.work += work;
        if self.work >= WORK_BYTES {
            self.work = 0;
            tokio::task::yield_now().await;
        }
    }

    fn too_long(&self) -> Failure {
        let message = format!("the body is longer than {} bytes", self.limits.sent_max);
        Failure::too_large(Refusal::BodyBytes, message)
    }
}

fn too_slow() -> Failure {
    let mut failure = Failure::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body arrives too slowly");
    failure.refusal = Some(Refusal::BodyIdle);
    failure
}

/// Reads a whole body that is small by nature, such as parameters.
///
/// # Errors
/// [`Failure`], 413 if it is longer than `bytes_max`.
pub async fn read_small(
    headers: &HeaderMap,
    body: Body,
    bytes_max: u64,
    idle: Duration,
) -> Result<Vec<u8>, Failure> {
    if body.is_end_stream() {
        return Ok(Vec::new());
    }
    let limits = BodyLimits { sent_max: bytes_max, inflated_max: bytes_max, idle };
    let mut bytes = Vec::new();
    let mut sink = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    BodyReader::new(limits, encoding(headers)?).read(body, &mut sink).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> BodyLimits {
        BodyLimits { sent_max: 100, inflated_max: 1000, idle: Duration::from_secs(30) }
    }

    async fn read(encoding: Encoding, body: Vec<u8>) -> Result<usize, Failure> {
        let mut bytes = 0;
        let mut sink = |piece: &[u8]| {
            bytes += piece.len();
            Ok(())
        };
        BodyReader::new(limits(), encoding).read(Body::from(body), &mut sink).await?;
        Ok(bytes)
    }

    #[tokio::test]
    async fn bodies_up_to_their_limits_are_read() {
        assert_eq!(read(Encoding::Identity, vec![b'a'; 100]).await.unwrap(), 100);
        let zeros = zstd::encode_all(&[0_u8; 1000][..], 1).unwrap();
        assert_eq!(read(Encoding::Zstd, zeros).await.unwrap(), 1000);
    }

    #[tokio::test]
    async fn longer_bodies_are_too_large_by_the_limit_they_hit() {
        let sent = read(Encoding::Identity, vec![b'a'; 101]).await.unwrap_err();
        assert_eq!((sent.status, sent.refusal), (StatusCode::PAYLOAD_TOO_LARGE, Some(Refusal::BodyBytes)));
        let zeros = zstd::encode_all(&[0_u8; 1001][..], 1).unwrap();
        let inflated = read(Encoding::Zstd, zeros).await.unwrap_err();
        assert_eq!(inflated.refusal, Some(Refusal::InflatedBytes));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_or_drips_is_too_slow() {
        for (pause_secs, pieces) in [(31, 2), (29, 4)] {
            let drip = futures::stream::unfold(0, move |piece| async move {
                tokio::time::sleep(Duration::from_secs(pause_secs)).await;
                (piece < pieces).then(|| (Ok::<_, std::io::Error>(Bytes::from_static(b"1")), piece + 1))
            });
            let reader = BodyReader::new(limits(), Encoding::Identity);
            let failure = reader.read(Body::from_stream(drip), &mut |_: &[u8]| Ok(())).await.unwrap_err();
            assert_eq!(failure.status, StatusCode::REQUEST_TIMEOUT, "{pieces} pieces, {pause_secs} s apart");
        }
    }

    #[test]
    fn encodings_are_read_in_any_case_and_lists_are_refused() {
        let check = |values: &[&'static str], expected: Option<Encoding>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, value.parse().unwrap());
            }
            assert_eq!(encoding(&headers).ok(), expected, "{values:?}");
        };
        check(&[], Some(Encoding::Identity));
        check(&["Identity"], Some(Encoding::Identity));
        check(&["GZip"], Some(Encoding::Gzip));
        check(&[" deflate "], Some(Encoding::Deflate));
        check(&["ZSTD"], Some(Encoding::Zstd));
        check(&["br"], None);
        check(&["gzip, zstd"], None);
        check(&["gzip", "zstd"], None);
    }
}
