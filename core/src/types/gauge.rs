//! `Gauge` and `ExpiryGauge`: the newest value of each client, and how many clients hold which value.
//!
//! Of one client's values the newest unexpired one counts: by event time, then by place in the batch, so
//! that the later line of a batch wins. Value and expiry break the ties that are left, so that merging
//! does not depend on the order.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::marker::PhantomData;

use super::number::STRING;
use super::{AHEAD_SECS_MAX, TabState, number, python};
use crate::bad::BadReason;
use crate::columns;
use crate::json::{self, Value};
use crate::name;
use crate::state::{Event, Format, Payload};
use crate::time::Timestamp;
use crate::wire::bytes::{Malformed, Reader, put_prefixed, put_varint, put_zigzag};

/// How long a Gauge's value counts, in seconds after its event.
const LIFE_SECS: i64 = 172_800;

/// Most clients a state holds; beyond it the oldest values are dropped. With [`VALUE_BYTES_MAX`] and
/// names of 256 bytes a state is at most 450 MB, though values are rarely more than a word.
const CLIENTS_MAX: usize = 100_000;

/// Longest value as compact JSON, in bytes.
const VALUE_BYTES_MAX: usize = 4096;

/// Reads the payload of one of the two types: value and expiry.
pub(crate) trait Rule: Clone + Default {
    fn read(payload: Value, time: Timestamp) -> Result<(Value, Timestamp), BadReason>;
}

#[derive(Clone, Debug, Default)]
pub(crate) struct FixedLife;

impl Rule for FixedLife {
    /// Any JSON; of an array its first element.
    fn read(payload: Value, time: Timestamp) -> Result<(Value, Timestamp), BadReason> {
        let value = match payload {
            Value::Array(items) => items.into_iter().next().ok_or(BadReason::BadPayload)?,
            other => other,
        };
        Ok((value, time.plus_secs(LIFE_SECS)))
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct OwnExpiry;

impl Rule for OwnExpiry {
    fn read(payload: Value, _time: Timestamp) -> Result<(Value, Timestamp), BadReason> {
        value_and_expiry(payload)
    }
}

/// The payload `[value, expiry]`, expiry in seconds since the epoch.
pub(super) fn value_and_expiry(payload: Value) -> Result<(Value, Timestamp), BadReason> {
    let Value::Array(items) = payload else { return Err(BadReason::BadPayload) };
    let [value, expiry] = <[Value; 2]>::try_from(items).map_err(|_| BadReason::BadPayload)?;
    let expiry = number::number(&expiry).ok_or(BadReason::BadPayload)?;
    if !expiry.is_finite() {
        return Err(BadReason::Nan);
    }
    // A time beyond the range means never, or long ago.
    let beyond = if expiry > 0.0 { i64::MAX } else { i64::MIN };
    Ok((value, Timestamp::from_secs_f64(expiry).unwrap_or(Timestamp::from_micros(beyond))))
}

/// The JSON of a payload. Whoever has only the number passes that.
pub(super) fn read_json(payload: Payload<'_>) -> Result<Value, BadReason> {
    match payload {
        Payload::Json(text) => json::parse(text).map_err(|_| BadReason::BadPayload),
        Payload::Number(number) if number.trunc() == number && number.abs() < (1_u64 << 53) as f64 => {
            Ok(Value::Integer((number as i64).to_string()))
        }
        Payload::Number(number) => Ok(Value::Float(number)),
    }
}

/// A value as compact text, if it is finite and not too long.
pub(super) fn compact(value: &Value, bytes_max: usize) -> Result<Box<str>, BadReason> {
    if !value.is_finite() {
        return Err(BadReason::Nan);
    }
    let mut text = String::new();
    value.write_compact(&mut text);
    if text.len() > bytes_max { Err(BadReason::BadPayload) } else { Ok(text.into()) }
}

/// Reads a stored value: JSON, finite, not too long.
pub(super) fn read_value<'a>(reader: &mut Reader<'a>, bytes_max: usize) -> Result<&'a str, Malformed> {
    let malformed = Malformed { offset: reader.offset() };
    let text = std::str::from_utf8(reader.prefixed()?).map_err(|_| malformed)?;
    let value = json::parse(text).map_err(|_| malformed)?;
    if text.len() <= bytes_max && value.is_finite() { Ok(text) } else { Err(malformed) }
}

/// One client's value. The order of the fields is the order of what counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    time: Timestamp,
    ordinal: u32,
    value: Box<str>,
    expiry: Timestamp,
}

impl Entry {
    fn is_kept(&self, now: Timestamp) -> bool {
        self.expiry > now && self.time <= now.plus_secs(AHEAD_SECS_MAX)
    }
}

/// The newest value by client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges<R> {
    entries: BTreeMap<Box<str>, Entry>,
    /// Bytes of all names and values.
    text_bytes: usize,
    rule: PhantomData<R>,
}

pub(crate) type Gauge = Gauges<FixedLife>;
pub(crate) type ExpiryGauge = Gauges<OwnExpiry>;

impl<R: Rule> Gauges<R> {
    /// Keeps the newer of an entry and the one held, if that one still counts.
    fn put(&mut self, client: &str, entry: Entry, now: Timestamp) {
        match self.entries.get_mut(client) {
            Some(held) if *held >= entry && held.is_kept(now) => {}
            Some(held) => {
                self.text_bytes = self.text_bytes - held.value.len() + entry.value.len();
                *held = entry;
            }
            None => {
                self.text_bytes += client.len() + entry.value.len();
                self.entries.insert(client.into(), entry);
            }
        }
    }

    fn retain(&mut self, mut keep: impl FnMut(&Entry) -> bool) {
        let text_bytes = &mut self.text_bytes;
        self.entries.retain(|client, entry| {
            let kept = keep(entry);
            if !kept {
                *text_bytes -= client.len() + entry.value.len();
            }
            kept
        });
    }

    /// Drops the oldest values beyond [`CLIENTS_MAX`]. A client that is dropped has that many newer ones
    /// beside it in every state it is merged into, so the laws hold.
    fn bound(&mut self, now: Timestamp) {
        if self.entries.len() <= CLIENTS_MAX {
            return;
        }
        self.expire(now);
        let excess = self.entries.len().saturating_sub(CLIENTS_MAX);
        if excess == 0 {
            return;
        }
        let mut ranked: Vec<_> = self.entries.iter().map(|(client, entry)| (entry, client)).collect();
        ranked.select_nth_unstable(excess - 1);
        let oldest: Vec<Box<str>> = ranked[..excess].iter().map(|(_, client)| (*client).clone()).collect();
        for client in oldest {
            if let Some(entry) = self.entries.remove(&client) {
                self.text_bytes -= client.len() + entry.value.len();
            }
        }
    }
}

impl<R: Rule> TabState for Gauges<R> {
    fn clear(&mut self) {
        self.entries.clear();
        self.text_bytes = 0;
    }

    fn fold(&mut self, client: &str, event: &Event<'_>, now: Timestamp) -> Result<(), BadReason> {
        let (value, expiry) = R::read(read_json(event.payload)?, event.time)?;
        let value = compact(&value, VALUE_BYTES_MAX)?;
        let entry = Entry { time: event.time, ordinal: event.ordinal, value, expiry };
        if entry.is_kept(now) {
            self.put(client, entry, now);
            self.bound(now);
        }
        Ok(())
    }

    fn merge(&mut self, other: &Self, now: Timestamp) {
        // Expired entries stay until `expire`: looking for them here would cost every merge of a part
        // into the state of many clients a walk over all of them.
        for (client, entry) in other.entries.iter().filter(|(_, entry)| entry.is_kept(now)) {
            self.put(client, entry.clone(), now);
        }
        self.bound(now);
    }

    /// `n:varint (client:prefixed value:prefixed time:zigzag ordinal:varint life:zigzag)*`, by growing
    /// client; times in microseconds, life from time to expiry.
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.entries.len() as u64);
        for (client, entry) in &self.entries {
            put_prefixed(out, client.as_bytes());
            put_prefixed(out, entry.value.as_bytes());
            put_zigzag(out, entry.time.as_micros());
            put_varint(out, u64::from(entry.ordinal));
            put_zigzag(out, entry.expiry.as_micros().wrapping_sub(entry.time.as_micros()));
        }
    }

    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let malformed = Malformed { offset: reader.offset() };
        let len = columns::read_len(reader)?;
        if len > CLIENTS_MAX {
            return Err(malformed);
        }
        let mut before = "";
        for _ in 0..len {
            let malformed = Malformed { offset: reader.offset() };
            let client = name::check(reader.prefixed()?).map_err(|_| malformed)?;
            if client <= before {
                return Err(malformed);
            }
            before = client;
            let value: Box<str> = read_value(reader, VALUE_BYTES_MAX)?.into();
            let time = reader.zigzag()?;
            let ordinal = u32::try_from(reader.varint()?).map_err(|_| malformed)?;
            let expiry = Timestamp::from_micros(time.wrapping_add(reader.zigzag()?));
            self.text_bytes += client.len() + value.len();
            let entry = Entry { time: Timestamp::from_micros(time), ordinal, value, expiry };
            self.entries.insert(client.into(), entry);
        }
        Ok(())
    }

    fn render(&self, now: Timestamp, _format: Format, out: &mut String) {
        let mut clients_by_value = BTreeMap::<String, u64>::new();
        for entry in self.entries.values().filter(|entry| entry.expiry > now) {
            let mut key = String::new();
            let value = json::parse(&entry.value).expect("values are checked when they come in");
            python::write_str(&mut key, &value);
            *clients_by_value.entry(key).or_default() += 1;
        }
        let clients_by_value: Vec<_> = clients_by_value.into_iter().collect();
        json::write_list(out, ['{', '}'], ", ", &clients_by_value, |(key, clients), out| {
            json::write_string(out, key);
            write!(out, ": {clients}").expect(STRING);
        });
    }

    fn expire(&mut self, now: Timestamp) {
        self.retain(|entry| entry.is_kept(now));
    }

    fn drop_after(&mut self, limit: Timestamp) -> u64 {
        let before = self.entries.len();
        self.retain(|entry| entry.time <= limit);
        (before - self.entries.len()) as u64
    }

    fn prunable(&self, now: Timestamp) -> bool {
        !self.entries.values().any(|entry| entry.expiry > now)
    }

    fn heap_bytes(&self) -> usize {
        // A B-tree's nodes are two thirds full on average.
        self.entries.len() * size_of::<(Box<str>, Entry)>() * 3 / 2 + self.text_bytes
    }
}
