//! Wire protocol v1: the line-oriented text of the first Taba, decoded incrementally.
//!
//! ```text
//! body         = "1" LF LF *client-block
//! client-block = client-id LF LF *tab-block LF
//! tab-block    = tab-name LF *( event-line LF ) LF
//! event-line   = JSON array [type, seconds, "payload as JSON text", …]
//! ```
//!
//! Two layers, so that a forwarder need not look into events: [`Walker`] reads the framing and hands
//! raw event lines to a [`Sink`]; [`event`] reads one line. [`fast`] reads the lines that nearly all
//! traffic consists of, and gives up on anything else. [`crate::fold::Folder`] joins the three.
//!
//! Reading is lenient the way the first Taba was, with one CR before an LF ignored besides. Only
//! framing that cannot be read is an error; a bad event is counted and its neighbours are kept.

pub mod event;
pub mod fast;
pub mod json;
mod lines;
pub mod number;
mod walk;

pub use lines::Line;
pub use walk::{Sink, Walker};

/// The body's framing cannot be read: the only error a body can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unreadable framing at byte {offset}: {what}")]
pub struct FramingError {
    /// Byte offset into the (inflated) body.
    pub offset: u64,
    /// What was expected or found.
    pub what: &'static str,
}
