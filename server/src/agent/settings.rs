//! The settings file of the first Taba's agent: a JSON object with `AGENT_PORT` and friends.

use std::net::IpAddr;

use serde::Deserialize;

/// The file as it is written. Unknown keys are refused: a misspelt one would be ignored in silence.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Port to listen on.
    #[serde(rename = "AGENT_PORT")]
    pub port: u16,
    /// Flush period, in seconds; fractions are fine. 0: passive, nothing is sent.
    #[serde(rename = "AGENT_FLUSH_SECONDS")]
    pub flush_secs: f64,
    /// The servers.
    #[serde(rename = "SERVER_ENDPOINTS")]
    pub endpoints: Vec<Endpoint>,
    /// Requests under way per server.
    #[serde(rename = "AGENT_QUEUES_PER_SERVER", default = "one")]
    pub queues_per_server: usize,
    /// A second agent that should get a copy of everything. The first Taba read it and never copied
    /// anything; it is read here so that it can be refused with the way out.
    #[serde(rename = "DOUBLE_AGENT", default)]
    pub double_agent: Option<serde_json::Value>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

const fn one() -> usize {
    1
}

/// Why text is not a settings file that can be honoured.
#[derive(Debug, thiserror::Error)]
pub enum BadSettings {
    /// Not JSON, a key is missing or unknown, or a value has the wrong type.
    #[error("settings are not readable")]
    Json(#[source] serde_json::Error),
    /// There is nobody to send to.
    #[error("SERVER_ENDPOINTS must name at least one server")]
    NoEndpoint,
    /// The period makes no sense.
    #[error("AGENT_FLUSH_SECONDS must be 0 (passive) or up to 3600, not {0}")]
    FlushSeconds(f64),
    /// No sender could ever run.
    #[error("AGENT_QUEUES_PER_SERVER must be 1 to 64, not {0}")]
    QueuesPerServer(usize),
    /// Copies are not made.
    #[error(
        "DOUBLE_AGENT is not supported: remove it, and let programs post to both agents if both must see all"
    )]
    DoubleAgent,
}

impl Settings {
    /// Reads and checks a settings file.
    ///
    /// # Errors
    /// [`BadSettings`].
    pub fn parse(text: &str) -> Result<Self, BadSettings> {
        let settings: Self = serde_json::from_str(text).map_err(BadSettings::Json)?;
        if settings.double_agent.as_ref().is_some_and(|agent| !agent.is_null()) {
            return Err(BadSettings::DoubleAgent);
        }
        if settings.endpoints.is_empty() {
            return Err(BadSettings::NoEndpoint);
        }
        if !(0.0..=3600.0).contains(&settings.flush_secs) {
            return Err(BadSettings::FlushSeconds(settings.flush_secs));
        }
        if !(1..=64).contains(&settings.queues_per_server) {
            return Err(BadSettings::QueuesPerServer(settings.queues_per_server));
        }
        Ok(settings)
    }
}

impl Endpoint {
    /// The endpoint as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        match self.host.parse() {
            Ok(IpAddr::V6(address)) => format!("http://[{address}]:{}", self.port),
            _ => format!("http://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_tabas_sample_is_understood() {
        let text = r#"{
            "AGENT_PORT": 8279,
            "AGENT_FLUSH_SECONDS": 1,
            "SERVER_ENDPOINTS": [{"host": "localhost", "port": 8300}, {"host": "::1", "port": 8301}]
        }"#;
        let settings = Settings::parse(text).expect("a valid file");
        assert_eq!((settings.port, settings.flush_secs, settings.queues_per_server), (8279, 1.0, 1));
        let urls: Vec<_> = settings.endpoints.iter().map(Endpoint::url).collect();
        assert_eq!(urls, ["http://localhost:8300", "http://[::1]:8301"]);
    }

    #[track_caller]
    fn refused(text: &str) -> String {
        let error = Settings::parse(text).expect_err("these settings are wrong");
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", cause.unwrap_or_default())
    }

    #[test]
    fn wrong_settings_are_refused_with_the_key() {
        let endpoint = r#""SERVER_ENDPOINTS": [{"host": "a", "port": 1}]"#;
        let missing = refused(&format!(r#"{{"AGENT_PORT": 1, {endpoint}}}"#));
        assert!(missing.contains("AGENT_FLUSH_SECONDS"), "{missing}");
        let all = |more: &str| format!(r#"{{"AGENT_PORT": 1, {endpoint}, "AGENT_FLUSH_SECONDS": 1{more}}}"#);
        assert!(refused(&all(r#", "AGENT_PROT": 2"#)).contains("AGENT_PROT"));
        assert!(refused(&all(r#", "AGENT_QUEUES_PER_SERVER": 0"#)).contains("AGENT_QUEUES_PER_SERVER"));
        assert!(refused(&all(r#", "DOUBLE_AGENT": {"AGENT_PORT": 2}"#)).contains("DOUBLE_AGENT"));
        assert!(Settings::parse(&all(r#", "DOUBLE_AGENT": null"#)).is_ok());
        let negative = format!(r#"{{"AGENT_PORT": 1, {endpoint}, "AGENT_FLUSH_SECONDS": -1}}"#);
        assert!(refused(&negative).contains("-1"));
        let nobody = r#"{"AGENT_PORT": 1, "SERVER_ENDPOINTS": [], "AGENT_FLUSH_SECONDS": 1}"#;
        assert!(refused(nobody).contains("SERVER_ENDPOINTS"));
    }

    #[test]
    fn zero_seconds_are_passive_and_allowed() {
        let text =
            r#"{"AGENT_PORT": 1, "SERVER_ENDPOINTS": [{"host": "a", "port": 1}], "AGENT_FLUSH_SECONDS": 0}"#;
        assert_eq!(Settings::parse(text).expect("a valid file").flush_secs, 0.0);
    }
}
