//! Batch ids: what makes a retried batch count once.
//!
//! A producer is a client id plus a random start id, so a restarted program is a new producer. Its
//! sequences grow. Text form, as in the `Idempotency-Key` header: `<producer>/<sequence>`; the sequence
//! is after the last `/`, because names may hold one.

use crate::name::{self, BadName};

/// A producer of batches: any valid name, by habit `<client id>:<random start id>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProducerId(Box<str>);

impl ProducerId {
    /// Checks a producer id; it follows the rules of names.
    ///
    /// # Errors
    /// [`BadName`] if it breaks them.
    pub fn new(id: &str) -> Result<Self, BadName> {
        name::check(id.as_bytes()).map(|id| Self(id.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The id of a batch. The id names the content: a retry must carry the same events.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchId {
    /// Who made the batch.
    pub producer: ProducerId,
    /// Its number; grows within a producer. At most [`SEQUENCE_WINDOW`] apart may be under way at once.
    pub sequence: u64,
}

/// How far behind a producer's highest sequence a batch may arrive and still be told from a duplicate.
/// An older one is refused (409), because it may have been counted.
pub const SEQUENCE_WINDOW: u64 = 1024;

/// Highest sequence. Scripts of the Redis store reckon in 64-bit floats, which are exact up to here; a
/// producer that sends a million batches a second gets there after 285 years.
pub const SEQUENCE_MAX: u64 = (1 << 53) - 1;

/// Why text is not a batch id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBatchId {
    /// There is no `/` before a sequence.
    #[error("a batch id must be <producer>/<sequence>")]
    NoSequence,
    /// The part after the last `/` is not a decimal number up to [`SEQUENCE_MAX`].
    #[error("the sequence of a batch id must be a decimal number below 2^53")]
    Sequence,
    /// The producer is not a valid name.
    #[error("the producer of a batch id is not a valid name")]
    Producer(#[source] BadName),
}

impl std::str::FromStr for BatchId {
    type Err = BadBatchId;

    fn from_str(text: &str) -> Result<Self, BadBatchId> {
        let (producer, sequence) = text.rsplit_once('/').ok_or(BadBatchId::NoSequence)?;
        if !sequence.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadBatchId::Sequence);
        }
        let sequence = sequence.parse().map_err(|_| BadBatchId::Sequence)?;
        if sequence > SEQUENCE_MAX {
            return Err(BadBatchId::Sequence);
        }
        let producer = ProducerId::new(producer).map_err(BadBatchId::Producer)?;
        Ok(Self { producer, sequence })
    }
}

impl std::fmt::Display for BatchId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.producer.as_str(), self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_text_form() {
        let id: BatchId = "host/1:abc/17".parse().expect("a valid id");
        assert_eq!((id.producer.as_str(), id.sequence), ("host/1:abc", 17));
        assert_eq!(id.to_string(), "host/1:abc/17");
    }

    #[test]
    fn malformed_ids_are_refused_with_the_reason() {
        assert_eq!("abc".parse::<BatchId>(), Err(BadBatchId::NoSequence));
        assert_eq!("abc/".parse::<BatchId>(), Err(BadBatchId::Sequence));
        assert_eq!("abc/+1".parse::<BatchId>(), Err(BadBatchId::Sequence));
        assert_eq!("abc/99999999999999999999".parse::<BatchId>(), Err(BadBatchId::Sequence));
        assert_eq!("abc/9007199254740992".parse::<BatchId>(), Err(BadBatchId::Sequence));
        let highest: BatchId = "abc/9007199254740991".parse().expect("2^53 - 1 is a valid sequence");
        assert_eq!(highest.sequence, SEQUENCE_MAX);
        assert_eq!("/1".parse::<BatchId>(), Err(BadBatchId::Producer(BadName::Empty)));
    }
}
