//! Whether an object must be written: where does what is there differ from what is wanted?
//!
//! The API server adds defaults and spells quantities anew, so only what is wanted is compared, and quantities by
//! their worth. What is not wanted any more does not show here; a hash of what was last applied, kept in an
//! annotation, tells that.

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

/// The annotation with the hash of what was last applied.
pub const APPLIED: &str = "taba.dev/applied";

/// By which entries of a list of objects are known, in this order.
const KEYS: [&str; 4] = ["name", "mountPath", "key", "port"];

/// The first place, as a path, where `live` is not as `wanted`.
#[must_use]
pub fn difference(wanted: &Value, live: &Value) -> Option<String> {
    differs(wanted, Some(live), "")
}

/// A hash of what is wanted, of which Secrets' contents are no part.
#[must_use]
pub fn hash(wanted: &Value) -> String {
    let mut shown = wanted.clone();
    if shown.get("kind").is_some_and(|kind| kind == "Secret")
        && let Some(object) = shown.as_object_mut()
    {
        object.remove("data");
    }
    format!("{:016x}", xxh3_64(shown.to_string().as_bytes()))
}

fn differs(wanted: &Value, live: Option<&Value>, path: &str) -> Option<String> {
    let here = || Some(if path.is_empty() { "/".to_owned() } else { path.to_owned() });
    match (wanted, live) {
        (wanted, None) if is_nothing(wanted) => None,
        (_, None) => here(),
        (Value::Null, Some(_)) => None,
        (Value::Object(wanted), Some(Value::Object(live))) => wanted
            .iter()
            // Lists give no type with their items.
            .filter(|(key, _)| !(path.is_empty() && matches!(key.as_str(), "apiVersion" | "kind")))
            .find_map(|(key, value)| differs(value, live.get(key), &format!("{path}/{key}"))),
        (Value::Array(wanted), Some(Value::Array(live))) => wanted
            .iter()
            .enumerate()
            .find_map(|(index, value)| differs(value, entry(value, live, index), &format!("{path}/{index}"))),
        (wanted, Some(live)) if wanted == live || is_same_quantity(wanted, live) => None,
        _ => here(),
    }
}

/// The entry of a list that `wanted` is about.
fn entry<'a>(wanted: &Value, live: &'a [Value], index: usize) -> Option<&'a Value> {
    let key = KEYS.iter().find_map(|key| Some((*key, wanted.get(key).filter(|value| !value.is_null())?)));
    match key {
        // One port may stand in a list twice, with two protocols.
        Some((key, value)) => {
            let same = |entry: &&Value| entry.get(key) == Some(value);
            live.get(index).filter(same).or_else(|| live.iter().find(same))
        }
        None => live.get(index),
    }
}

/// Empty maps and lists are left out by the API server.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_nothing),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

fn is_same_quantity(one: &Value, other: &Value) -> bool {
    let thousandths = |value: &Value| match value {
        Value::String(text) => thousandths(text),
        Value::Number(number) => number.as_i64().map(|number| i128::from(number) * 1000),
        _ => None,
    };
    thousandths(one).is_some_and(|one| Some(one) == thousandths(other))
}

/// A quantity of Kubernetes in thousandths; those with fractions of a thousandth are not compared.
fn thousandths(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor: i128 = match suffix {
        "m" => 1,
        "" => 1000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 {
        return None;
    }
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    digits.checked_mul(factor).map(|worth| worth / scale)
}

#[cfg(test)]
mod tests;
