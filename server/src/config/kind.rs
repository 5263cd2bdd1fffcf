//! Kinds of values and how a person writes them: `16384`, `64MiB`, `30s`, `127.0.0.1:8300`.
//!
//! A kind parses text into a value or says what is allowed, in words that follow "expected".

use std::path::PathBuf;
use std::time::Duration;

use taba_core::VbucketCount;
use taba_core::vbucket::VBUCKETS_MAX;
use tracing_subscriber::EnvFilter;

use super::roles::Roles;
use crate::store::redis::Durability;

type Read<T> = Box<dyn Fn(&str) -> Option<T>>;

/// Reads values of one kind.
pub(super) struct Kind<T> {
    /// What stands for a value in help texts.
    pub(super) placeholder: &'static str,
    allowed: String,
    read: Read<T>,
}

impl<T> Kind<T> {
    fn new(
        placeholder: &'static str,
        allowed: impl Into<String>,
        read: impl Fn(&str) -> Option<T> + 'static,
    ) -> Self {
        Self { placeholder, allowed: allowed.into(), read: Box::new(read) }
    }

    /// The value, or what is allowed.
    pub(super) fn parse(&self, text: &str) -> Result<T, String> {
        (self.read)(text.trim()).ok_or_else(|| self.allowed.clone())
    }
}

/// A value that is never printed, such as a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself, for comparing with what a client sent.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// A whole number; `_` may group digits.
pub(super) fn count<T: TryFrom<u64>>(min: u64, max: u64) -> Kind<T> {
    Kind::new("NUMBER", format!("a whole number from {min} to {max}"), move |text| {
        let number = digits(text)?;
        (min..=max).contains(&number).then(|| T::try_from(number).ok()).flatten()
    })
}

/// A number of bytes; the bounds are written as values are.
pub(super) fn size<T: TryFrom<u64>>(min: &'static str, max: &'static str) -> Kind<T> {
    let allowed = format!("a size such as 64MiB, 500kB or a number of bytes, from {min} to {max}");
    Kind::new("SIZE", allowed, move |text| {
        let bytes = bytes(text)?;
        (bytes >= self::bytes(min)? && bytes <= self::bytes(max)?).then(|| T::try_from(bytes).ok()).flatten()
    })
}

/// A length of time; the bounds are written as values are.
pub(super) fn span(min: &'static str, max: &'static str) -> Kind<Duration> {
    Kind::new(
        "DURATION",
        format!("a duration such as 500ms, 30s, 5m, 1h or 1d, from {min} to {max}"),
        move |text| {
            let span = duration(text)?;
            (span >= duration(min)? && span <= duration(max)?).then_some(span)
        },
    )
}

/// `host:port`.
pub(super) fn address() -> Kind<String> {
    Kind::new("ADDRESS:PORT", "an address and a port such as 127.0.0.1:8300 or [::1]:8300", |text| {
        let (host, port) = text.rsplit_once(':')?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let host_is_whole = !host.is_empty() && (bracketed || !host.contains(':'));
        (host_is_whole && port.parse::<u16>().is_ok()).then(|| text.to_owned())
    })
}

/// A path that must be given.
pub(super) fn path() -> Kind<PathBuf> {
    Kind::new("PATH", "a path", |text| (!text.is_empty()).then(|| text.into()))
}

/// A path, or nothing.
pub(super) fn optional_path() -> Kind<Option<PathBuf>> {
    Kind::new("FILE", "a path", |text| Some((!text.is_empty()).then(|| text.into())))
}

/// A token, or nothing. It travels in an HTTP header, so it is printable ASCII without blanks.
pub(super) fn secret() -> Kind<Option<Secret>> {
    Kind::new("TOKEN", "printable ASCII characters without blanks", |text| {
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        printable.then(|| (!text.is_empty()).then(|| Secret(text.to_owned())))
    })
}

/// Directives of a log filter.
pub(super) fn log_filter() -> Kind<String> {
    Kind::new(
        "FILTER",
        "a level (off, error, warn, info, debug, trace) or a list such as info,taba_server=debug",
        |text| (!text.is_empty() && EnvFilter::try_new(text).is_ok()).then(|| text.to_owned()),
    )
}

/// `text` or `json`.
pub(super) fn log_format() -> Kind<LogFormat> {
    Kind::new("FORMAT", "text or json", |text| match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    })
}

/// Which copies hold an event before it is acknowledged.
pub(super) fn durability() -> Kind<Durability> {
    Kind::new("RULE", "replicated, primary or fsync", |text| match text {
        "replicated" => Some(Durability::Replicated),
        "primary" => Some(Durability::Primary),
        "fsync" => Some(Durability::Fsync),
        _ => None,
    })
}

/// Roles, comma-separated.
pub(super) fn roles() -> Kind<Roles> {
    Kind::new("ROLE,…", "a list of frontend, backend and control, such as frontend,backend", Roles::parse)
}

/// `host:port,…`, or nothing.
pub(super) fn addresses() -> Kind<Vec<String>> {
    Kind::new("HOST:PORT,…", "a list of addresses and ports such as 10.0.0.1:26379,10.0.0.2:26379", |text| {
        list(text)?.into_iter().map(|item| address().parse(&item).ok()).collect()
    })
}

/// Names, comma-separated, or nothing.
pub(super) fn names() -> Kind<Vec<String>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    Kind::new(
        "NAME,…",
        "a list of different names of letters, digits, '-', '_' and '.', such as s0,s1",
        move |text| {
            let names = list(text)?;
            let different: std::collections::BTreeSet<_> = names.iter().collect();
            let good = names.iter().all(|name| name.bytes().all(plain)) && different.len() == names.len();
            good.then_some(names)
        },
    )
}

/// Items between commas; none if the text is empty.
fn list(text: &str) -> Option<Vec<String>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(',').map(str::trim).map(|item| (!item.is_empty()).then(|| item.to_owned())).collect()
}

/// A name, which may be empty.
pub(super) fn text() -> Kind<String> {
    Kind::new("NAME", "printable ASCII characters without blanks", |text| {
        text.bytes().all(|byte| byte.is_ascii_graphic()).then(|| text.to_owned())
    })
}

/// A number of vbuckets.
pub(super) fn vbuckets() -> Kind<VbucketCount> {
    Kind::new("NUMBER", format!("a whole number from 1 to {VBUCKETS_MAX}"), |text| {
        VbucketCount::new(u16::try_from(digits(text)?).ok()?)
    })
}

fn digits(text: &str) -> Option<u64> {
    let grouped = text.starts_with('_') || text.ends_with('_');
    let plain = text.replace('_', "");
    (!grouped && plain.bytes().all(|byte| byte.is_ascii_digit())).then(|| plain.parse().ok()).flatten()
}

/// A number with one of the units behind it, as a multiple of the smallest unit.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    digits(number.trim_end())?.checked_mul(factor)
}

fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 10] = [
        ("", 1),
        ("B", 1),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    with_unit(text, &UNITS)
}

/// A length of time with its unit, such as `500ms` or `5m`; `None` if it is not one.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    with_unit(text, &UNITS).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_binary_and_decimal_units_and_bare_bytes() {
        let cases = [
            ("0", 0),
            ("1_000", 1_000),
            ("7B", 7),
            ("64 MiB", 64 << 20),
            ("500kB", 500_000),
            ("2TiB", 2 << 40),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        for text in ["", "MiB", "1.5GiB", "-1", "64mib", "64M", "1MiB1", "99999999TiB", "_1", "+5"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        let cases =
            [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("2d", 172_800_000)];
        for (text, millis) in cases {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "s", "1.5s", "1h30m", "30 sec", "-1s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn values_outside_their_bounds_are_refused_with_the_bounds() {
        assert_eq!(count::<usize>(1, 10).parse("10"), Ok(10));
        assert_eq!(count::<usize>(1, 10).parse("11"), Err("a whole number from 1 to 10".to_owned()));
        let refusal = span("1s", "1h").parse("2h").expect_err("above the maximum");
        assert!(refusal.ends_with("from 1s to 1h"), "{refusal}");
        assert!(size::<u64>("1KiB", "1MiB").parse("1023").is_err());
    }

    #[test]
    fn addresses_need_a_host_and_a_port() {
        for good in ["127.0.0.1:8300", "localhost:0", "[::1]:80"] {
            assert_eq!(address().parse(good).as_deref(), Ok(good));
        }
        for bad in ["8300", ":8300", "::1:80", "host:", "host:99999", "[::1]"] {
            assert!(address().parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_hide_in_debug_output() {
        let token = secret().parse("s3cret").expect("printable").expect("not empty");
        assert_eq!((format!("{token:?}").as_str(), token.expose()), ("(hidden)", "s3cret"));
        assert!(secret().parse("two words").is_err());
    }
}
