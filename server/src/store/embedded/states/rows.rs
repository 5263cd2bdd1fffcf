//! Keys and small rows of the database; numbers little-endian except in keys.

use taba_core::wire::bytes::{Malformed, Reader, put_varint};
use taba_core::{State, TabType, Vbucket};

use super::super::queue::{DISCARDS_MAX, Discard, Progress};
use crate::store::{EntryId, Marks};

/// Bytes of a state that tell its type.
const STATE_HEAD_BYTES: usize = 2;

/// Key of a name of a vbucket.
pub(super) fn name_key(vbucket: Vbucket, name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + name.len());
    key.extend_from_slice(&vbucket.0.to_be_bytes());
    key.extend_from_slice(name.as_bytes());
    key
}

/// Key of a name below another name of a vbucket. With an empty second name: the start of all of them.
pub(super) fn pair_key(vbucket: Vbucket, first: &str, second: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(3 + first.len() + second.len());
    key.extend_from_slice(&vbucket.0.to_be_bytes());
    key.extend_from_slice(first.as_bytes());
    key.push(0);
    key.extend_from_slice(second.as_bytes());
    key
}

/// The end of the keys that begin with `pair_key(vbucket, first, "")`.
pub(super) fn pair_end(vbucket: Vbucket, first: &str) -> Vec<u8> {
    let mut key = name_key(vbucket, first);
    key.push(1);
    key
}

/// The end of all keys of a vbucket.
pub(super) fn vbucket_end(vbucket: Vbucket) -> Vec<u8> {
    // At most 4,096 vbuckets, so the next number always fits.
    (vbucket.0 + 1).to_be_bytes().to_vec()
}

/// The two names of a pair key; `None` if it is none.
pub(super) fn pair_names(key: &[u8]) -> Option<(&str, &str)> {
    let names = std::str::from_utf8(key.get(2..)?).ok()?;
    names.split_once('\0')
}

/// What lists show of a tab. It is listed while it has an all-clients state or a client's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TabRow {
    /// The first bytes of its newest state, which name its type.
    pub(super) head: [u8; STATE_HEAD_BYTES],
    pub(super) has_aggregate: bool,
    /// Clients with a state.
    pub(super) clients: u64,
}

impl TabRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.head[0], self.head[1], u8::from(self.has_aggregate)];
        put_varint(&mut out, self.clients);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let head = reader.array().ok()?;
        let has_aggregate = reader.u8().ok()? != 0;
        Some(Self { head, has_aggregate, clients: reader.varint().ok()? })
    }

    /// Takes the type over from a state; `None` if these bytes are not one.
    pub(super) fn see(&mut self, state: &[u8]) -> Option<()> {
        State::peek_type(state).ok()?;
        self.head = *state.first_chunk()?;
        Some(())
    }

    pub(super) fn tab_type(&self) -> Option<TabType> {
        State::peek_type(&self.head).ok()
    }

    pub(super) fn is_listed(&self) -> bool {
        self.has_aggregate || self.clients > 0
    }
}

/// What stands about a vbucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VbucketRow {
    pub(super) progress: Progress,
    pub(super) tabs: u64,
}

impl VbucketRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        put_varint(&mut out, self.tabs);
        put_varint(&mut out, self.progress.marks.aggregates.0);
        put_varint(&mut out, self.progress.marks.clients.0);
        put_varint(&mut out, self.progress.discards.len() as u64);
        for discard in &self.progress.discards {
            put_varint(&mut out, discard.after.0);
            put_varint(&mut out, discard.upto.0);
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        Self::read(&mut Reader::new(bytes)).ok()?
    }

    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        let tabs = reader.varint()?;
        let marks = Marks { aggregates: EntryId(reader.varint()?), clients: EntryId(reader.varint()?) };
        let count = reader.varint()?;
        if count > DISCARDS_MAX as u64 {
            return Ok(None);
        }
        let mut discards = Vec::new();
        for _ in 0..count {
            discards.push(Discard { after: EntryId(reader.varint()?), upto: EntryId(reader.varint()?) });
        }
        let row = Self { progress: Progress { marks, discards }, tabs };
        Ok(reader.is_empty().then_some(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_their_bytes() {
        let tab = TabRow { head: [1, 3], has_aggregate: true, clients: 300 };
        assert_eq!(TabRow::decode(&tab.encode()), Some(tab));
        let marks = Marks { aggregates: EntryId(900), clients: EntryId(7) };
        let discards = vec![Discard { after: EntryId(1), upto: EntryId(1 << 40) }];
        let row = VbucketRow { progress: Progress { marks, discards }, tabs: 12 };
        assert_eq!(VbucketRow::decode(&row.encode()), Some(row.clone()));
        assert_eq!(VbucketRow::decode(&row.encode()[1..]), None);
    }

    #[test]
    fn keys_of_a_name_lie_apart_from_those_of_a_longer_one() {
        let vbucket = Vbucket(300);
        let (start, end) = (pair_key(vbucket, "a", ""), pair_end(vbucket, "a"));
        let inside = pair_key(vbucket, "a", "z");
        assert!(start < inside && inside < end);
        for longer in ["a!", "ab", "a~"] {
            assert!(pair_key(vbucket, longer, "") >= end);
        }
        assert!(pair_key(vbucket, "~", "~") < vbucket_end(vbucket));
        assert_eq!(pair_names(&inside), Some(("a", "z")));
    }
}
