//! How batches leave the agent: which request carries them.

use std::time::Duration;

use taba_client::delivery::{Body, SealedBatch};
use taba_core::BatchId;
use taba_core::wire::v2;

use super::config::ServerProtocol;

/// The request that carries a batch. The tags are stored in spool files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/v2/batch`: partial states under an id.
    BatchV2,
    /// `/post_zip` of the first Taba: event lines, no id.
    PostZip,
}

impl Route {
    /// The route of a protocol.
    #[must_use]
    pub const fn of(protocol: ServerProtocol) -> Self {
        match protocol {
            ServerProtocol::V2 => Self::BatchV2,
            ServerProtocol::V1 => Self::PostZip,
        }
    }

    /// Its number in files.
    #[must_use]
    pub const fn tag(self) -> u8 {
        match self {
            Self::BatchV2 => 1,
            Self::PostZip => 2,
        }
    }

    /// The route with this number.
    #[must_use]
    pub const fn of_tag(tag: u8) -> Option<Self> {
        match tag {
            1 => Some(Self::BatchV2),
            2 => Some(Self::PostZip),
            _ => None,
        }
    }

    /// The path of the request.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::BatchV2 => "/v2/batch",
            Self::PostZip => "/post_zip",
        }
    }

    /// A batch for this route.
    #[must_use]
    pub fn batch(self, id: Option<BatchId>, body: Body, events: u64, age: Duration) -> SealedBatch {
        let content_type = match self {
            Self::BatchV2 => Some(v2::CONTENT_TYPE),
            Self::PostZip => None,
        };
        SealedBatch { id, path: self.path(), content_type, content_encoding: None, body, events, age }
    }
}
