//! Wire protocol v1: the line-oriented text of the first Taba, decoded incrementally.

/// The body's framing cannot be read: the only error a body can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unreadable framing at byte {offset}: {what}")]
pub struct FramingError {
    /// Byte offset into the (inflated) body.
    pub offset: u64,
    /// What was expected or found.
    pub what: &'static str,
}
