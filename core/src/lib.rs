//! Taba's pure core: what an event is, how events fold into states, how states merge and render, and
//! how all of it is written as bytes.
//!
//! Nothing here reads a clock, opens a socket or knows a runtime: `now` is an argument everywhere, so
//! every rule can be tested, fuzzed and replayed.
//!
//! ```text
//! v1 body ──wire::v1──▶ events ──fold──▶ parts (partial states) ──merge──▶ states ──render──▶ text
//! v2 body ──wire::v2──▶ parts ────────────────────────────────────┘
//! ```

pub mod bad;
pub mod batch;
mod columns;
pub mod fold;
pub mod json;
pub mod name;
pub mod part;
pub mod sketch;
pub mod state;
pub mod time;
mod types;
pub mod vbucket;
mod vectors;
pub mod wire;

pub use bad::{BadCounts, BadReason};
pub use batch::{BatchId, ProducerId};
pub use part::{Part, Parts};
pub use state::{DecodeStateError, Event, Format, Payload, State, TabType};
pub use time::Timestamp;
pub use vbucket::{Vbucket, VbucketCount};
