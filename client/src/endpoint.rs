//! Endpoints as people write them.

use crate::builder::StartError;

/// The endpoint without a final slash.
///
/// # Errors
/// [`StartError::Endpoint`] unless it is a scheme this build speaks, a host, and at most a port.
pub fn check(endpoint: &str) -> Result<String, StartError> {
    let bad = || StartError::Endpoint(endpoint.to_owned());
    let trimmed = endpoint.trim_end_matches('/');
    let (scheme, authority) = trimmed.split_once("://").ok_or_else(bad)?;
    let speaks = scheme == "http" || (cfg!(feature = "tls") && scheme == "https");
    let uri: ureq::http::Uri = trimmed.parse().map_err(|_| bad())?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(bad)?;
    let has_good_port = authority == host || uri.port_u16().is_some();
    let is_plain = !authority.contains(['/', '?', '#', '@']);
    if speaks && is_plain && has_good_port { Ok(trimmed.to_owned()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_scheme_host_and_port() {
        assert_eq!(check("http://127.0.0.1:8279/").expect("valid"), "http://127.0.0.1:8279");
        assert_eq!(check("http://[::1]:8279").expect("valid"), "http://[::1]:8279");
        for bad in ["127.0.0.1:8279", "ftp://a", "http://", "http://a/post", "http://a:b", "http://u@a"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
