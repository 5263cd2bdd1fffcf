//! Settings of the agent: flags over the settings file over defaults, checked once at the start.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use taba_client::delivery::DeliveryConfig;

use super::settings::{BadSettings, Settings};
use crate::http::connection::ConnectionLimits;

/// Forwards events of the programs on this machine to Taba servers.
///
/// Programs post to it on localhost. It folds, gives every batch an id, compresses, and tries again
/// until a server acknowledges, so each event counts once.
#[derive(Clone, Debug, Default, Args)]
pub struct AgentArgs {
    /// Settings file of the first Taba's agent (JSON). Flags win over it.
    #[arg(long, value_name = "FILE", env = "TABA_AGENT_SETTINGS")]
    pub settings: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:8279].
    #[arg(long, value_name = "ADDR", env = "TABA_AGENT_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// File to write the address to that is really listened on, for scripts that listen on port 0.
    #[arg(long, value_name = "FILE", env = "TABA_AGENT_LISTEN_FILE")]
    pub listen_file: Option<PathBuf>,
    /// A server to send to, as http://host:port; repeat for several [default: http://127.0.0.1:8300].
    #[arg(long, value_name = "URL", env = "TABA_AGENT_SERVER", value_delimiter = ',')]
    pub server: Vec<String>,
    /// What the servers speak. With v1, delivery is at least once.
    #[arg(long, value_enum, default_value_t, env = "TABA_AGENT_SERVER_PROTOCOL")]
    pub server_protocol: ServerProtocol,
    /// Seconds over which events are gathered into one batch; 0 sends nothing [default: 1].
    #[arg(long, value_name = "SECONDS", env = "TABA_AGENT_FLUSH_SECONDS")]
    pub flush_seconds: Option<f64>,
    /// Requests under way per server [default: 2].
    #[arg(long, value_name = "N", env = "TABA_AGENT_SENDERS_PER_SERVER")]
    pub senders_per_server: Option<usize>,
    /// Memory for events that no server has acknowledged, in bytes; beyond it posts get 503.
    #[arg(long, value_name = "BYTES", default_value_t = BUFFER_BYTES, env = "TABA_AGENT_BUFFER_BYTES")]
    pub buffer_bytes: u64,
    /// Folder in which acknowledged posts survive the end of the agent, however it ends.
    #[arg(long, value_name = "DIR", env = "TABA_AGENT_SPOOL")]
    pub spool: Option<PathBuf>,
    /// Disk space of the spool, in bytes; beyond it posts get 503.
    #[arg(long, value_name = "BYTES", default_value_t = SPOOL_BYTES, env = "TABA_AGENT_SPOOL_BYTES")]
    pub spool_bytes: u64,
    /// Seconds for which a batch is retried before it is dropped. Servers remember ids for 48 hours.
    #[arg(long, value_name = "SECONDS", default_value_t = RETRY_SECS, env = "TABA_AGENT_RETRY_SECONDS")]
    pub retry_seconds: u64,
    /// Seconds that stopping may take to deliver what is left.
    #[arg(long, value_name = "SECONDS", default_value_t = DRAIN_SECS, env = "TABA_AGENT_DRAIN_SECONDS")]
    pub drain_seconds: u64,
}

const BUFFER_BYTES: u64 = 256 << 20;
const SPOOL_BYTES: u64 = 1 << 30;
const RETRY_SECS: u64 = 24 * 3600;
const DRAIN_SECS: u64 = 25;
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8279);

/// Programs of one machine keep a connection or two each. 1,024 take as many file descriptors and about
/// 20 MB while idle. Heads come within milliseconds there; ten seconds are for machines that swap.
const CONNECTIONS: ConnectionLimits = ConnectionLimits {
    connections_max: 1024,
    head_timeout: Duration::from_secs(10),
    unread_timeout: Duration::from_secs(30),
};

/// Longest retry: half of what servers remember, so that clocks and queues have room.
const RETRY_SECS_MAX: u64 = 24 * 3600;

/// What servers speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ServerProtocol {
    /// Batches of partial states with ids: exactly once.
    #[default]
    V2,
    /// Event lines in zlib, as the first Taba takes them: at least once.
    V1,
}

/// Checked settings of one agent.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What connections to it may take.
    pub connections: ConnectionLimits,
    /// What its servers speak.
    pub protocol: ServerProtocol,
    /// How long events are gathered. `None`: passive, nothing is ever sent.
    pub flush_every: Option<Duration>,
    /// Bytes held in memory for events that are not acknowledged by a server.
    pub buffer_bytes_max: u64,
    /// The spool, if there is one.
    pub spool: Option<SpoolConfig>,
    /// How long a drain may take.
    pub drain_wait: Duration,
    /// How batches are delivered.
    pub delivery: DeliveryConfig,
}

/// Settings of the spool.
#[derive(Clone, Debug)]
pub struct SpoolConfig {
    /// Its folder; made if it does not exist.
    pub dir: PathBuf,
    /// Most bytes of files in it.
    pub bytes_max: u64,
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadConfig {
    /// The settings file cannot be read.
    #[error("cannot read settings file {}", path.display())]
    ReadSettings {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The settings file is wrong.
    #[error("settings file {} cannot be used", path.display())]
    Settings {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: BadSettings,
    },
    /// A server's address is wrong.
    #[error("server address cannot be used")]
    Server(#[source] taba_client::StartError),
    /// A number is outside its range.
    #[error("{flag} must be {range}")]
    Range {
        /// The flag.
        flag: &'static str,
        /// What is allowed.
        range: &'static str,
    },
}

impl AgentConfig {
    /// Checks flags and reads the settings file they name.
    ///
    /// # Errors
    /// [`BadConfig`].
    pub fn from_args(args: &AgentArgs) -> Result<Self, BadConfig> {
        let settings = args.settings.as_ref().map(read_settings).transpose()?;
        let settings = settings.as_ref();
        // The first Taba's agent listened on all interfaces; a settings file never asked for that.
        let listen = settings.map_or(LISTEN, |settings| SocketAddr::new(LISTEN.ip(), settings.port));
        let flush_secs = args.flush_seconds.or(settings.map(|settings| settings.flush_secs)).unwrap_or(1.0);
        if !(0.0..=3600.0).contains(&flush_secs) {
            return Err(BadConfig::Range { flag: "--flush-seconds", range: "0 to 3600" });
        }
        let flush_every = (flush_secs > 0.0).then(|| Duration::from_secs_f64(flush_secs));
        let spool = args
            .spool
            .clone()
            .map(|dir| SpoolConfig { dir, bytes_max: args.spool_bytes.max(SPOOL_BYTES_MIN) });
        let config = Self {
            listen: args.listen.unwrap_or(listen),
            connections: CONNECTIONS,
            protocol: args.server_protocol,
            flush_every,
            buffer_bytes_max: args.buffer_bytes,
            delivery: delivery(args, settings, flush_every.is_some())?,
            spool,
            drain_wait: Duration::from_secs(args.drain_seconds),
        };
        if config.buffer_bytes_max < BUFFER_BYTES_MIN {
            return Err(BadConfig::Range { flag: "--buffer-bytes", range: "at least 1048576" });
        }
        Ok(config)
    }
}

/// Smallest buffer: one post of ordinary size must fit.
const BUFFER_BYTES_MIN: u64 = 1 << 20;
/// Smallest spool, for the same reason.
const SPOOL_BYTES_MIN: u64 = 1 << 20;

fn read_settings(path: &PathBuf) -> Result<Settings, BadConfig> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| BadConfig::ReadSettings { path: path.clone(), source })?;
    Settings::parse(&text).map_err(|source| BadConfig::Settings { path: path.clone(), source })
}

fn delivery(
    args: &AgentArgs,
    settings: Option<&Settings>,
    active: bool,
) -> Result<DeliveryConfig, BadConfig> {
    let mut servers = args.server.clone();
    if servers.is_empty() {
        servers = settings.map_or_else(
            || vec!["http://127.0.0.1:8300".to_owned()],
            |settings| settings.endpoints.iter().map(super::settings::Endpoint::url).collect(),
        );
    }
    let checked = servers.iter().map(|server| taba_client::check_endpoint(server));
    let endpoints = checked.collect::<Result<_, _>>().map_err(BadConfig::Server)?;
    let senders = args.senders_per_server.or(settings.map(|settings| settings.queues_per_server));
    let senders = senders.unwrap_or(2);
    if !(1..=64).contains(&senders) {
        return Err(BadConfig::Range { flag: "--senders-per-server", range: "1 to 64" });
    }
    if !(1..=RETRY_SECS_MAX).contains(&args.retry_seconds) {
        return Err(BadConfig::Range { flag: "--retry-seconds", range: "1 to 86400" });
    }
    Ok(DeliveryConfig {
        senders_per_endpoint: if active { senders } else { 0 },
        // What is acknowledged must be held, so the bound in bytes stands where posts are admitted. One
        // batch a second for the longest retry makes 86,400 batches, each 300 bytes besides its body.
        bytes_max: u64::MAX,
        batches_max: 131_072,
        retry_for: Duration::from_secs(args.retry_seconds),
        ..DeliveryConfig::new(endpoints)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: AgentArgs,
    }

    fn parsed(flags: &[&str]) -> Result<AgentConfig, BadConfig> {
        let command: Command =
            clap::Parser::try_parse_from([&["agent"], flags].concat()).expect("flags that exist");
        AgentConfig::from_args(&command.args)
    }

    #[test]
    fn flags_win_over_the_settings_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = r#"{"AGENT_PORT": 9000, "AGENT_FLUSH_SECONDS": 5, "AGENT_QUEUES_PER_SERVER": 3,
                       "SERVER_ENDPOINTS": [{"host": "a", "port": 1}]}"#;
        std::fs::write(file.path(), text).expect("it is written");
        let path = file.path().to_str().expect("a plain path");
        let config = parsed(&["--settings", path]).expect("valid settings");
        assert_eq!(config.listen, "127.0.0.1:9000".parse().expect("an address"));
        assert_eq!(config.flush_every, Some(Duration::from_secs(5)));
        assert_eq!(config.delivery.senders_per_endpoint, 3);
        assert_eq!(config.delivery.endpoints, ["http://a:1"]);
        let config = parsed(&["--settings", path, "--server", "http://b:2", "--flush-seconds", "0.5"]);
        let config = config.expect("valid settings");
        assert_eq!(config.delivery.endpoints, ["http://b:2"]);
        assert_eq!(config.flush_every, Some(Duration::from_millis(500)));
    }

    #[test]
    fn a_passive_agent_has_no_senders() {
        let config = parsed(&["--flush-seconds", "0"]).expect("valid flags");
        assert_eq!((config.flush_every, config.delivery.senders_per_endpoint), (None, 0));
    }

    #[test]
    fn numbers_outside_their_range_are_refused() {
        for flags in [
            ["--flush-seconds", "NaN"],
            ["--senders-per-server", "0"],
            ["--retry-seconds", "86401"],
            ["--buffer-bytes", "1"],
            ["--server", "localhost:8300"],
        ] {
            assert!(parsed(&flags).is_err(), "{flags:?}");
        }
    }
}
