//! Decimal numbers of the v1 dialect: what JSON allows, and also a leading `+`, leading zeros and
//! a missing digit after the point, all of which the first Taba's decoder accepted.

use crate::time::Timestamp;

/// 10^0 to 10^22: the powers of ten that a float holds exactly.
pub(super) const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// Digits that always fit 64 bits.
const EXACT_DIGITS: u32 = 19;

/// A number as it is written: ±`mantissa` · 10^`scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal<'a> {
    text: &'a [u8],
    negative: bool,
    mantissa: u64,
    scale: i32,
    /// Whether `mantissa` and `scale` hold all digits.
    exact: bool,
}

impl<'a> Decimal<'a> {
    /// Reads the number at the front of `bytes`; [`Decimal::text`] says how far it reaches.
    #[must_use]
    pub fn scan(bytes: &'a [u8]) -> Option<Self> {
        let negative = bytes.first() == Some(&b'-');
        let mut at = usize::from(negative || bytes.first() == Some(&b'+'));
        let mut digits = Digits::default();
        let whole = digits.take(&bytes[at..]);
        if whole == 0 {
            return None;
        }
        at += whole;
        let mut fraction = 0;
        if bytes.get(at) == Some(&b'.') {
            fraction = digits.take(&bytes[at + 1..]);
            at += 1 + fraction;
        }
        let mut scale = -i64::try_from(fraction).ok()?;
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            let (exponent, len) = exponent(&bytes[at + 1..])?;
            scale += exponent;
            at += 1 + len;
        }
        let exact = digits.significant <= EXACT_DIGITS;
        let scale = scale.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        Some(Self { text: &bytes[..at], negative, mantissa: digits.value, scale, exact })
    }

    /// Reads text that is a number from end to end.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        Self::scan(text).filter(|number| number.text.len() == text.len())
    }

    /// The number as written.
    #[must_use]
    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The nearest float; infinite if the number is beyond all floats.
    #[must_use]
    pub fn to_f64(&self) -> f64 {
        // Mantissa and power are exact floats here, so one rounding gives the nearest float.
        if self.exact && self.mantissa < 1 << 53 && self.scale.unsigned_abs() <= 22 {
            let power = POWERS_OF_TEN[self.scale.unsigned_abs() as usize];
            let mantissa = self.mantissa as f64;
            let value = if self.scale < 0 { mantissa / power } else { mantissa * power };
            return if self.negative { -value } else { value };
        }
        let text = std::str::from_utf8(self.text).expect("a number is ASCII");
        text.parse().expect("the scanned grammar is part of what a float may look like")
    }

    /// The number as seconds since the epoch; exact to the microsecond with up to six decimals. `None`
    /// if it does not fit.
    #[must_use]
    pub fn to_timestamp(&self) -> Option<Timestamp> {
        if self.exact && (-6..=0).contains(&self.scale) {
            let micros = i128::from(self.mantissa) * 10_i128.pow((6 + self.scale) as u32);
            let micros = if self.negative { -micros } else { micros };
            return i64::try_from(micros).ok().map(Timestamp::from_micros);
        }
        Timestamp::from_secs_f64(self.to_f64())
    }

    /// Appends the number as strict JSON.
    pub fn write_json(&self, out: &mut String) {
        let text = std::str::from_utf8(self.text).expect("a number is ASCII");
        let text = text.trim_start_matches(['+', '-']);
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let whole = whole.trim_start_matches('0');
        if self.negative {
            out.push('-');
        }
        out.push_str(if whole.is_empty() { "0" } else { whole });
        if mantissa.contains('.') {
            out.push('.');
            out.push_str(if fraction.is_empty() { "0" } else { fraction });
        }
        out.push_str(exponent);
    }
}

#[derive(Default)]
struct Digits {
    value: u64,
    /// Digits from the first that is not 0; `value` is their number only up to [`EXACT_DIGITS`].
    significant: u32,
}

impl Digits {
    fn take(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        for byte in bytes {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            taken += 1;
            self.value = self.value.wrapping_mul(10).wrapping_add(u64::from(digit));
            self.significant = self.significant.saturating_add(u32::from(self.significant > 0 || digit > 0));
        }
        taken
    }
}

/// The signed number after an `e`, and its length. Saturates far beyond any float's exponent.
fn exponent(bytes: &[u8]) -> Option<(i64, usize)> {
    let negative = bytes.first() == Some(&b'-');
    let sign = usize::from(negative || bytes.first() == Some(&b'+'));
    let mut value = 0_i64;
    let mut len = sign;
    while let Some(digit) = bytes.get(len).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        value = (value * 10 + i64::from(digit)).min(1 << 30);
        len += 1;
    }
    (len > sign).then_some((if negative { -value } else { value }, len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, value: f64, json: &str) {
        let number = Decimal::parse(text.as_bytes()).expect("a number");
        assert_eq!(number.to_f64().to_bits(), value.to_bits(), "{text}");
        let mut out = String::new();
        number.write_json(&mut out);
        assert_eq!(out, json);
    }

    #[test]
    fn numbers_the_first_taba_accepted_are_read_and_become_strict_json() {
        check("0", 0.0, "0");
        check("-0", -0.0, "-0");
        check("+5", 5.0, "5");
        check("007", 7.0, "7");
        check("-00.50", -0.5, "-0.50");
        check("1.", 1.0, "1.0");
        check("1.39404781234e+12", 1_394_047_812_340.0, "1.39404781234e+12");
        check(
            "123456789012345678901234567890",
            123456789012345678901234567890.0,
            "123456789012345678901234567890",
        );
        check("1e400", f64::INFINITY, "1e400");
        check("1e-999999999999", 0.0, "1e-999999999999");
    }

    #[test]
    fn other_text_is_not_a_number() {
        for text in ["", "+", "-", ".5", "1e", "1e+", "--1", "+-1", "1 ", "0x10", "1_0", "nan", "inf"] {
            assert_eq!(Decimal::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn times_are_exact_to_the_microsecond() {
        let micros = |text: &str| Decimal::parse(text.as_bytes())?.to_timestamp().map(Timestamp::as_micros);
        assert_eq!(micros("1394047812.35"), Some(1_394_047_812_350_000));
        assert_eq!(micros("9999999999.999999"), Some(9_999_999_999_999_999));
        assert_eq!(micros("-1.5"), Some(-1_500_000));
        assert_eq!(micros("1.3940478123e9"), Some(1_394_047_812_300_000));
        assert_eq!(micros("99999999999999"), None);
        assert_eq!(micros("1e400"), None);
    }

    proptest! {
        /// forall f: scan(print(f)) == f, to the bit, in plain and exponent form.
        #[test]
        fn printed_floats_are_read_back_to_the_bit(value in proptest::num::f64::NORMAL | proptest::num::f64::ZERO | proptest::num::f64::SUBNORMAL) {
            for text in [format!("{value}"), format!("{value:e}")] {
                let number = Decimal::parse(text.as_bytes()).expect("a number");
                prop_assert_eq!(number.to_f64().to_bits(), value.to_bits());
            }
        }

        /// forall digits: the quick conversion equals the library's.
        #[test]
        fn short_decimals_equal_the_librarys_reading(text in "[+-]?[0-9]{1,21}(\\.[0-9]{0,12})?([eE][+-]?[0-9]{1,3})?") {
            let number = Decimal::parse(text.as_bytes()).expect("a number");
            prop_assert_eq!(number.to_f64().to_bits(), text.parse::<f64>().expect("a float").to_bits());
            let mut json = String::new();
            number.write_json(&mut json);
            // Past the range of floats serde_json refuses, although the text is JSON.
            if number.to_f64().is_finite() {
                let read: f64 = serde_json::from_str(&json).expect("strict JSON");
                prop_assert!((read - number.to_f64()).abs() <= read.abs() * 1e-15);
            }
        }
    }
}
