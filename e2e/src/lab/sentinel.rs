//! Asking Sentinels, for what only they know: whom they take for primary, and what they have seen.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context, Result};

/// A short conversation with a Sentinel.
pub struct Sentinel {
    connection: redis::Connection,
}

const PATIENCE: Duration = Duration::from_millis(700);

impl Sentinel {
    /// Connects.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn connect(address: SocketAddrV4) -> Result<Self> {
        let client = redis::Client::open(format!("redis://{address}/")).context("name a Sentinel")?;
        let connection = client.get_connection_with_timeout(PATIENCE).context("reach a Sentinel")?;
        connection.set_read_timeout(Some(PATIENCE)).context("set a time-out")?;
        connection.set_write_timeout(Some(PATIENCE)).context("set a time-out")?;
        Ok(Self { connection })
    }

    /// The address of a shard's primary.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn primary(&mut self, shard: &str) -> Result<Option<String>> {
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(shard);
        let found: Option<(String, String)> = ask.query(&mut self.connection).context("ask a Sentinel")?;
        Ok(found.map(|(host, port)| format!("{host}:{port}")))
    }

    /// How many replicas and other Sentinels it knows for a shard.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn known(&mut self, shard: &str) -> Result<(usize, usize)> {
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("MASTER").arg(shard);
        let fields: std::collections::HashMap<String, String> =
            ask.query(&mut self.connection).context("ask a Sentinel")?;
        let number = |name: &str| fields.get(name).and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok((number("num-slaves"), number("num-other-sentinels")))
    }

    /// How often it asks Redis for `INFO` while all is well; 10 s unless told otherwise. A shorter time
    /// lets it meet new replicas sooner.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn ask_info_every(&mut self, period: Duration) -> Result<()> {
        let mut set = redis::cmd("SENTINEL");
        set.arg("DEBUG").arg("INFO-PERIOD").arg(u64::try_from(period.as_millis()).unwrap_or(10_000));
        set.query::<()>(&mut self.connection).context("set a Sentinel's period")
    }
}
