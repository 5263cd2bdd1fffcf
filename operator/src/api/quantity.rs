//! Quantities such as `500m` or `10Gi`.
//!
//! A type of our own, because the schema of Kubernetes' one drags a page of text into the CRD and holds no rule.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// A quantity as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quantity(pub String);

/// It is no quantity, or too large.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a quantity such as 500m, 2 or 10Gi")]
pub struct QuantityError(String);

/// Exponents of 10 by suffix.
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

/// Exponents of 1024 by suffix.
const BINARY: [(&str, u32); 6] = [("Ki", 1), ("Mi", 2), ("Gi", 3), ("Ti", 4), ("Pi", 5), ("Ei", 6)];

impl Quantity {
    /// Its value in whole units, rounded down.
    pub fn units(&self) -> Result<u64, QuantityError> {
        self.parse().ok_or_else(|| QuantityError(self.0.clone()))
    }

    fn parse(&self) -> Option<u64> {
        let text = self.0.as_str();
        let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (digits, suffix) = text.split_at(end);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let places = u32::try_from(fraction.len()).ok()?;
        let number: u128 = format!("{whole}{fraction}").parse().ok()?;
        let scale = 10u128.checked_pow(places)?;
        let value = if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
            number.checked_mul(1024u128.pow(*power))? / scale
        } else {
            let exponent = exponent(suffix)?;
            let power = 10u128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { number / scale.checked_mul(power)? } else { number.checked_mul(power)? / scale }
        };
        u64::try_from(value).ok()
    }
}

/// Of a decimal suffix, or of a number in scientific notation.
fn exponent(suffix: &str) -> Option<i32> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some(*exponent);
    }
    suffix.strip_prefix(['e', 'E'])?.parse().ok()
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    /// A number without a unit may be written without quotes.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Number(i64),
        }
        Ok(Self(match Written::deserialize(deserializer)? {
            Written::Text(text) => text,
            Written::Number(number) => number.to_string(),
        }))
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 32,
            "x-kubernetes-validations": [{
                "rule": "isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))",
                "message": "must be a quantity above 0, such as 500m, 2 or 10Gi",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(Quantity(text.to_owned()).units().ok(), expected, "{text}");
    }

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        check("0", Some(0));
        check("128974848", Some(128_974_848));
        check("129e6", Some(129_000_000));
        check("129M", Some(129_000_000));
        check("123Mi", Some(123 << 20));
        check("1.5Gi", Some(3 << 29));
        check("128974848000m", Some(128_974_848));
        check("2E", Some(2_000_000_000_000_000_000));
        check("1500m", Some(1));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "Gi", "ten", "1 Gi", "-1Gi", "1gi", "1.2.3", "100E", "1e99", "1e-99"] {
            check(text, None);
        }
    }
}
