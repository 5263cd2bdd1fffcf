//! Reading what scripts answer. An answer of another shape is an error, never a guess.

use bytes::Bytes;
use redis::Value;
use taba_core::Timestamp;

use super::call::CallError;
use crate::store::{EntryId, QueueEntry};

pub(super) fn list(value: Value) -> Result<Vec<Value>, CallError> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(CallError::Unexpected("not a list")),
    }
}

/// A list of exactly `N` values.
pub(super) fn exactly<const N: usize>(value: Value) -> Result<[Value; N], CallError> {
    list(value)?.try_into().map_err(|_| CallError::Unexpected("a list of another length"))
}

pub(super) fn number(value: &Value) -> Result<u64, CallError> {
    let number = match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok().and_then(|digits| digits.parse().ok()),
        _ => None,
    };
    number.ok_or(CallError::Unexpected("not a number"))
}

pub(super) fn bytes(value: Value) -> Result<Bytes, CallError> {
    optional_bytes(value)?.ok_or(CallError::Unexpected("no bytes"))
}

pub(super) fn optional_bytes(value: Value) -> Result<Option<Bytes>, CallError> {
    match value {
        Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
        Value::Nil => Ok(None),
        _ => Err(CallError::Unexpected("not bytes")),
    }
}

pub(super) fn text(value: Value) -> Result<String, CallError> {
    optional_text(value)?.ok_or(CallError::Unexpected("no text"))
}

pub(super) fn optional_text(value: Value) -> Result<Option<String>, CallError> {
    let text = match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::VerbatimString { text, .. } => Some(text),
        Value::Nil => return Ok(None),
        _ => None,
    };
    text.map(Some).ok_or(CallError::Unexpected("not text"))
}

pub(super) fn texts(value: Value) -> Result<Vec<String>, CallError> {
    list(value)?.into_iter().map(text).collect()
}

/// Pairs of a flat list.
pub(super) fn pairs(value: Value) -> Result<Vec<(Value, Value)>, CallError> {
    let values = list(value)?;
    if values.len() % 2 != 0 {
        return Err(CallError::Unexpected("half a pair"));
    }
    let mut values = values.into_iter();
    let next_pair = || Some((values.next()?, values.next()?));
    Ok(std::iter::from_fn(next_pair).collect())
}

/// The id and the time of acceptance that the id of a queue entry holds.
pub(super) fn place(value: Value) -> Result<(EntryId, Timestamp), CallError> {
    let text = text(value)?;
    let parsed = text.split_once('-').and_then(|(id, accepted)| {
        Some((EntryId(id.parse().ok()?), Timestamp::from_micros(accepted.parse().ok()?)))
    });
    parsed.ok_or(CallError::Unexpected("not the id of an entry"))
}

pub(super) fn entries(value: Value) -> Result<Vec<QueueEntry>, CallError> {
    let entry = |(at, block)| {
        let (id, accepted) = place(at)?;
        Ok(QueueEntry { id, accepted, block: bytes(block)? })
    };
    pairs(value)?.into_iter().map(entry).collect()
}
