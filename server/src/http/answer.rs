//! Writes answers, in pieces when they are long, and says how complete they are.
//!
//! The head goes out when the first piece is full, with the vbuckets known to be missing by then. If more
//! go missing later, the answer is cut off in the middle: a client sees a broken transfer, never an answer
//! that is silently smaller.

use std::collections::BTreeSet;
use std::io;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use taba_core::{Vbucket, VbucketCount};
use tracing::warn;

use super::admission::QueryPermit;
use super::failure::Failure;
use super::media::Media;
use crate::store::StoreError;

/// Names the vbuckets that did not answer: `<missing>/<all>`. Absent from complete answers.
pub const INCOMPLETE: HeaderName = HeaderName::from_static("taba-incomplete");

/// Bytes after which a piece is sent. A long answer holds one such piece and what one step appends.
const PIECE_BYTES: usize = 32 << 10;

/// Vbuckets that did not answer.
#[derive(Clone, Debug)]
pub struct Missing {
    vbuckets: VbucketCount,
    missing: BTreeSet<Vbucket>,
}

impl Missing {
    /// None so far, of this many.
    #[must_use]
    pub fn new(vbuckets: VbucketCount) -> Self {
        Self { vbuckets, missing: BTreeSet::new() }
    }

    /// Adds vbuckets that did not answer.
    pub fn add(&mut self, missing: impl IntoIterator<Item = Vbucket>) {
        self.missing.extend(missing);
    }

    /// Adds the vbucket of a tab whose state could not be read.
    pub fn add_tab(&mut self, tab: &str, error: &StoreError) {
        warn!(tab, %error, "state of a tab could not be read");
        self.missing.insert(self.vbuckets.of(tab));
    }

    /// The missing ones, in order.
    pub fn iter(&self) -> impl Iterator<Item = Vbucket> + '_ {
        self.missing.iter().copied()
    }

    /// How many are missing.
    #[must_use]
    pub fn len(&self) -> usize {
        self.missing.len()
    }

    /// Of how many.
    #[must_use]
    pub fn all(&self) -> u16 {
        self.vbuckets.get()
    }

    /// The header for an answer, if it is incomplete.
    fn header(&self) -> Option<HeaderValue> {
        let text = format!("{}/{}", self.len(), self.all());
        (self.len() > 0).then(|| HeaderValue::try_from(text).expect("digits and a slash"))
    }
}

/// Something that writes an answer step by step.
pub trait Source: Send + 'static {
    /// Appends the next bit of the answer; false when nothing comes after it.
    fn write(&mut self, out: &mut String) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// What did not answer so far.
    fn missing(&self) -> &Missing;
}

/// Answers with what a source writes; the permit is held until the last piece is taken.
///
/// # Errors
/// 503 if the first piece could not be had.
pub async fn respond(media: Media, source: impl Source, permit: QueryPermit) -> Result<Response, Failure> {
    let mut writer = Writer { source, announced: 0, more: true, _permit: permit };
    let first = writer.piece().await.map_err(|error| Failure::from_store(&error))?;
    let incomplete = writer.source.missing().header();
    writer.announced = writer.source.missing().len();
    let body = if writer.more {
        let head = stream::iter([Ok(Bytes::from(first))]);
        Body::from_stream(stream::StreamExt::chain(head, stream::try_unfold(writer, Writer::step)))
    } else {
        Body::from(first)
    };
    let mut response = ([(header::CONTENT_TYPE, media.content_type())], body).into_response();
    if let Some(incomplete) = incomplete {
        response.headers_mut().insert(INCOMPLETE, incomplete);
    }
    Ok(response)
}

struct Writer<S> {
    source: S,
    /// How many missing vbuckets the head told of.
    announced: usize,
    more: bool,
    _permit: QueryPermit,
}

impl<S: Source> Writer<S> {
    async fn piece(&mut self) -> Result<String, StoreError> {
        let mut piece = String::with_capacity(1024);
        while self.more && piece.len() < PIECE_BYTES {
            self.more = self.source.write(&mut piece).await?;
        }
        Ok(piece)
    }

    async fn step(mut self) -> io::Result<Option<(Bytes, Self)>> {
        if !self.more {
            return Ok(None);
        }
        let piece = self.piece().await.map_err(io::Error::other)?;
        if self.source.missing().len() > self.announced {
            return Err(io::Error::other("vbuckets went missing while the answer was written"));
        }
        Ok(Some((Bytes::from(piece), self)))
    }
}

/// Writes items with what stands before, between and after them.
#[derive(Debug)]
pub struct Joined {
    open: &'static str,
    between: &'static str,
    close: &'static str,
    begun: bool,
}

impl Joined {
    /// Lines: every item ends itself.
    #[must_use]
    pub const fn lines() -> Self {
        Self { open: "", between: "", close: "", begun: false }
    }

    /// A JSON array or object with these brackets and this separator.
    #[must_use]
    pub const fn json(open: &'static str, between: &'static str, close: &'static str) -> Self {
        Self { open, between, close, begun: false }
    }

    /// Before an item.
    pub fn item(&mut self, out: &mut String) {
        out.push_str(if self.begun { self.between } else { self.open });
        self.begun = true;
    }

    /// After the last item.
    pub fn end(&mut self, out: &mut String) {
        if !self.begun {
            out.push_str(self.open);
        }
        out.push_str(self.close);
    }
}

/// Appends a JSON string.
pub fn push_json_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).expect("a string is always JSON"));
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::config::Limits;
    use crate::http::admission::Admission;

    /// Writes `steps` lines; from step `fails_at` on, a vbucket is missing.
    struct Lines {
        step: usize,
        steps: usize,
        fails_at: usize,
        missing: Missing,
    }

    impl Source for Lines {
        async fn write(&mut self, out: &mut String) -> Result<bool, StoreError> {
            out.push_str(&"x".repeat(10_000));
            if self.step >= self.fails_at {
                self.missing.add([Vbucket(1)]);
            }
            self.step += 1;
            Ok(self.step < self.steps)
        }

        fn missing(&self) -> &Missing {
            &self.missing
        }
    }

    async fn answer(steps: usize, fails_at: usize) -> Response {
        let permit = Admission::new(&Limits::default()).query().expect("there is room");
        let missing = Missing::new(VbucketCount::new(4).expect("a valid count"));
        respond(Media::Text, Lines { step: 0, steps, fails_at, missing }, permit).await.expect("an answer")
    }

    #[tokio::test]
    async fn short_answers_have_a_length_and_long_ones_come_in_pieces() {
        let short = answer(2, usize::MAX).await;
        assert_eq!(short.headers().get(INCOMPLETE), None);
        assert_eq!(short.into_body().collect().await.unwrap().to_bytes().len(), 20_000);
        let mut long = answer(100, usize::MAX).await.into_body();
        let mut bytes = 0;
        while let Some(frame) = long.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() <= PIECE_BYTES + 10_000);
            bytes += piece.len();
        }
        assert_eq!(bytes, 1_000_000);
    }

    #[tokio::test]
    async fn what_is_missing_early_is_in_the_head() {
        let answer = answer(100, 0).await;
        assert_eq!(answer.headers()[INCOMPLETE], "1/4");
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 1_000_000);
    }

    #[tokio::test]
    async fn what_goes_missing_later_breaks_the_answer() {
        let answer = answer(100, 50).await;
        assert_eq!(answer.headers().get(INCOMPLETE), None);
        assert!(answer.into_body().collect().await.is_err());
    }

    #[test]
    fn joined_items_have_brackets_even_when_there_are_none() {
        let mut out = String::new();
        let mut none = Joined::json("[", ", ", "]");
        none.end(&mut out);
        let mut two = Joined::json("{", ",", "}");
        for item in ["a", "b"] {
            two.item(&mut out);
            out.push_str(item);
        }
        two.end(&mut out);
        assert_eq!(out, "[]{a,b}");
    }
}
