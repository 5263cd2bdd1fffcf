//! Numbers of events, and numbers in answers.

use std::fmt::Write as _;

use crate::bad::BadReason;
use crate::json::{self, Value};
use crate::sketch::Sketch;
use crate::state::Payload;

/// The quantiles every rendering shows, in this order.
const QUANTILES: [f64; 7] = [0.25, 0.50, 0.75, 0.90, 0.95, 0.99, 0.999];

/// The value of an event of a numeric type: a number, `true` or `false` as 1 or 0, or an array that
/// begins with one of these.
pub(super) fn of(payload: Payload<'_>) -> Result<f64, BadReason> {
    let number = match payload {
        Payload::Number(number) => number,
        Payload::Json(text) => of_value(&json::parse(text).map_err(|_| BadReason::BadPayload)?)?,
    };
    // Adding zero turns minus zero into zero, so that it never shows a sign.
    if number.is_finite() { Ok(number + 0.0) } else { Err(BadReason::Nan) }
}

fn of_value(value: &Value) -> Result<f64, BadReason> {
    match value {
        Value::Array(items) => items.first().and_then(number).ok_or(BadReason::BadPayload),
        other => number(other).ok_or(BadReason::BadPayload),
    }
}

/// A number or truth value as a float; may be infinite or NaN.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
        Value::Integer(digits) => digits.parse().ok(),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

/// Appends `"count": N, "total": T, "average": A` with two decimals.
pub(super) fn write_totals(out: &mut String, count: u64, sum: f64) {
    let average = if count == 0 { 0.0 } else { sum / count as f64 };
    let (sum, average) = (Fixed::<2>(sum), Fixed::<2>(average));
    write!(out, r#"{{"count": {count}, "total": {sum}, "average": {average}}}"#).expect(STRING);
}

/// Appends `{"count": N, "total": T, "pct": [...]}`.
pub(super) fn write_percentiles(out: &mut String, sketch: &Sketch) {
    let total = Fixed::<6>(sketch.sum());
    write!(out, r#"{{"count": {}, "total": {total}, "pct": ["#, sketch.count()).expect(STRING);
    for (place, q) in QUANTILES.into_iter().enumerate() {
        let separator = if place == 0 { "" } else { ", " };
        write!(out, "{separator}{}", Fixed::<2>(sketch.quantile(q))).expect(STRING);
    }
    out.push_str("]}");
}

pub(super) const STRING: &str = "writing to a string cannot fail";

/// A number with a fixed number of decimals.
struct Fixed<const DECIMALS: usize>(f64);

impl<const DECIMALS: usize> std::fmt::Display for Fixed<DECIMALS> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.DECIMALS$}", self.0)
    }
}
