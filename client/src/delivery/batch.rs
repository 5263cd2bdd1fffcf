//! A sealed batch: bytes that will never change again, and the one request that carries them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use taba_core::BatchId;

/// A batch ready to be sent, as often as it takes, always with the same bytes and under the same id.
#[derive(Clone, Debug)]
pub struct SealedBatch {
    /// Its identity, sent as `Idempotency-Key`. `None` for receivers that know none (first Taba).
    pub id: Option<BatchId>,
    /// Path of the request, such as `/v2/batch`.
    pub path: &'static str,
    /// `Content-Type` of the body; the first Taba's clients send none.
    pub content_type: Option<&'static str>,
    /// `Content-Encoding` of the body, if any.
    pub content_encoding: Option<&'static str>,
    /// The body.
    pub body: Body,
    /// Events inside, for statistics only.
    pub events: u64,
    /// How long ago it was made; a batch from an earlier run of the program is older than this run.
    pub age: Duration,
}

/// Where the bytes of a batch are.
#[derive(Clone, Debug)]
pub enum Body {
    /// In memory.
    Memory(Arc<[u8]>),
    /// In a file, from an offset to its end; read when it is sent.
    File {
        /// The file.
        path: PathBuf,
        /// Where the body starts.
        offset: u64,
        /// Length of the body, in bytes.
        bytes: u64,
    },
}

impl Body {
    /// Length of the body, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Memory(body) => body.len() as u64,
            Self::File { bytes, .. } => *bytes,
        }
    }
}

/// What became of a batch in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A receiver acknowledged it.
    Acknowledged,
    /// A receiver can never accept it, or its bytes cannot be read any more. It is dropped.
    Refused,
    /// It was not acknowledged for as long as it may be retried. It is dropped.
    Expired,
}
