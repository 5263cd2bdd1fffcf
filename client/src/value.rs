//! Values of gauges and buffers: any JSON, made from the usual Rust types.

use serde_json::Value as Json;
use taba_core::Timestamp;

/// A value of a gauge or a buffer entry.
///
/// ```
/// use taba_client::Value;
///
/// let release: Value = "1.4.2".into();
/// let threads: Value = 8.into();
/// let detail = Value::json(r#"{"disk": "sda"}"#).expect("valid JSON");
/// assert_eq!(detail.to_string(), r#"{"disk":"sda"}"#);
/// # let _ = (release, threads);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Value(Json);

impl Value {
    /// A value from JSON text.
    ///
    /// # Errors
    /// [`NotJson`] if the text is not one JSON value.
    pub fn json(text: &str) -> Result<Self, NotJson> {
        serde_json::from_str(text).map(Self).map_err(NotJson)
    }

    /// The payload `[value]`: the first Taba reads the first element, so arrays survive as values.
    pub(crate) fn payload(&self) -> String {
        format!("[{}]", self.0)
    }

    /// The payload `[value, expiry]`.
    pub(crate) fn payload_until(&self, expiry: Timestamp) -> String {
        format!("[{}, {:.6}]", self.0, expiry.as_secs_f64())
    }
}

/// Text is not one JSON value.
#[derive(Debug, thiserror::Error)]
#[error("text is not one JSON value")]
pub struct NotJson(#[source] serde_json::Error);

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

macro_rules! value_from {
    ($($from:ty),* $(,)?) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self(Json::from(value))
            }
        }
    )*};
}

// A float that is not finite becomes `null`: JSON has no word for it.
value_from!(&str, String, bool, i8, i16, i32, i64, isize, u8, u16, u32, u64, usize, f32, f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_payloads_of_the_first_taba() {
        assert_eq!(Value::from("a \"b\"").payload(), r#"["a \"b\""]"#);
        assert_eq!(Value::from(7).payload(), "[7]");
        assert_eq!(Value::from(1.5).payload_until(Timestamp::from_micros(2_500_000)), "[1.5, 2.500000]");
        assert_eq!(Value::from(f64::NAN).payload(), "[null]");
    }

    #[test]
    fn text_that_is_not_json_is_refused() {
        assert!(Value::json("{").is_err());
        assert!(Value::json("1 2").is_err());
    }
}
