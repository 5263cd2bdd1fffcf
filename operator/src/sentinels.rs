//! The client of Sentinels: what they watch, and repairs of single entries. Never `RESET`.
//!
//! Sentinels are asked seldom, so each look makes a connection and ends it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, FromRedisValue, IntoConnectionInfo as _,
    RedisConnectionInfo, RedisError, cmd,
};
use thiserror::Error;
use tokio::time::timeout;

/// Longest wait for a Sentinel, all in all.
const LOOK_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest wait for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// A Sentinel did not do what was asked.
#[derive(Debug, Error)]
pub enum SentinelError {
    /// Nothing came in time.
    #[error("no answer in time")]
    Silent,
    /// It refused or cannot be reached.
    #[error("{}", detail(.0))]
    Redis(#[from] RedisError),
}

fn detail(error: &RedisError) -> String {
    // What Redis says of a command may hold its arguments; a code never does.
    error.code().map_or_else(|| error.to_string(), ToOwned::to_owned)
}

/// A shard as one Sentinel sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MasterSeen {
    /// The Sentinel master name.
    pub name: String,
    /// Where it takes the primary to be.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How many Sentinels must agree that it is down.
    pub quorum: usize,
    /// The other Sentinels it knows.
    pub other_sentinels: usize,
    /// The replicas it knows, by their hosts; empty if they were not asked for.
    pub replicas: Vec<String>,
    /// How many replicas it knows.
    pub replica_count: usize,
    /// Its marks: `master`, `s_down`, `o_down`, `failover_in_progress` and more.
    pub flags: String,
    /// Its `down-after-milliseconds`.
    pub down_after_ms: u64,
    /// Its `failover-timeout`.
    pub failover_timeout_ms: u64,
    /// Its `parallel-syncs`.
    pub parallel_syncs: usize,
}

impl MasterSeen {
    /// A failover is under way, as this Sentinel sees it.
    #[must_use]
    pub fn is_failing_over(&self) -> bool {
        self.flags.contains("failover_in_progress")
    }

    /// This Sentinel takes the primary for down.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.flags.contains("s_down") || self.flags.contains("o_down") || self.flags.contains("disconnected")
    }

    fn read(fields: &HashMap<String, String>) -> Option<Self> {
        Some(Self {
            name: fields.get("name")?.clone(),
            host: fields.get("ip")?.clone(),
            port: number(fields, "port")?,
            quorum: number(fields, "quorum")?,
            other_sentinels: number(fields, "num-other-sentinels")?,
            replicas: Vec::new(),
            replica_count: number(fields, "num-slaves")?,
            flags: fields.get("flags")?.clone(),
            down_after_ms: number(fields, "down-after-milliseconds")?,
            failover_timeout_ms: number(fields, "failover-timeout")?,
            parallel_syncs: number(fields, "parallel-syncs")?,
        })
    }
}

fn number<T: std::str::FromStr>(fields: &HashMap<String, String>, name: &str) -> Option<T> {
    fields.get(name)?.parse().ok()
}

/// What a Sentinel is asked to change. Each is one command on one entry.
#[derive(Clone, PartialEq, Eq)]
pub enum Command {
    /// `SENTINEL MONITOR name host port quorum`.
    Monitor {
        /// The master name.
        name: String,
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// The quorum.
        quorum: usize,
    },
    /// `SENTINEL SET name option value …`: one command, because Sentinel writes its file after each.
    Set {
        /// The master name.
        name: String,
        /// Options and their values, of which some may be passwords.
        options: Vec<(&'static str, String)>,
    },
    /// `SENTINEL REMOVE name`.
    Remove {
        /// The master name.
        name: String,
    },
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Monitor { name, host, port, quorum } => write!(f, "MONITOR {name} {host} {port} {quorum}"),
            Self::Set { name, options } => {
                write!(f, "SET {name}")?;
                options.iter().try_for_each(|(option, value)| {
                    let shown = if *option == "auth-pass" { "(hidden)" } else { value };
                    write!(f, " {option} {shown}")
                })
            }
            Self::Remove { name } => write!(f, "REMOVE {name}"),
        }
    }
}

impl Command {
    fn to_redis(&self) -> redis::Cmd {
        let mut command = cmd("SENTINEL");
        match self {
            Self::Monitor { name, host, port, quorum } => {
                command.arg("MONITOR").arg(name).arg(host).arg(port).arg(quorum);
            }
            Self::Set { name, options } => {
                command.arg("SET").arg(name);
                for (option, value) in options {
                    command.arg(option).arg(value);
                }
            }
            Self::Remove { name } => {
                command.arg("REMOVE").arg(name);
            }
        }
        command
    }
}

/// Asks one Sentinel what it watches. The replicas of a master are asked for only if there are more than
/// `replicas_max`: then some are not ours.
///
/// # Errors
/// If it refuses or does not answer in time.
pub async fn look(
    ip: IpAddr,
    port: u16,
    password: &str,
    replicas_max: usize,
) -> Result<Vec<MasterSeen>, SentinelError> {
    let looked = async {
        let mut connection = connect(ip, port, password).await?;
        let masters: Vec<HashMap<String, String>> =
            ask(&mut connection, cmd("SENTINEL").arg("MASTERS")).await?;
        let mut seen: Vec<_> = masters.iter().filter_map(MasterSeen::read).collect();
        for master in seen.iter_mut().filter(|master| master.replica_count > replicas_max) {
            let question = cmd("SENTINEL").arg("REPLICAS").arg(&master.name).clone();
            let replicas: Vec<HashMap<String, String>> = ask(&mut connection, &question).await?;
            master.replicas = replicas.into_iter().filter_map(|mut fields| fields.remove("ip")).collect();
        }
        seen.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(seen)
    };
    timeout(LOOK_TIMEOUT, looked).await.map_err(|_| SentinelError::Silent)?
}

/// Gives one Sentinel commands, and stops at the first that it refuses.
///
/// # Errors
/// If it refuses or does not answer in time.
pub async fn command(
    ip: IpAddr,
    port: u16,
    password: &str,
    commands: &[Command],
) -> Result<(), SentinelError> {
    let done = async {
        let mut connection = connect(ip, port, password).await?;
        for command in commands {
            ask::<()>(&mut connection, &command.to_redis()).await?;
        }
        Ok(())
    };
    timeout(LOOK_TIMEOUT, done).await.map_err(|_| SentinelError::Silent)?
}

async fn connect(ip: IpAddr, port: u16, password: &str) -> Result<MultiplexedConnection, SentinelError> {
    let login = RedisConnectionInfo::default().set_skip_set_lib_name().set_password(password);
    let place = ConnectionAddr::Tcp(ip.to_string(), port);
    let client = Client::open(place.into_connection_info()?.set_redis_settings(login))?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER_TIMEOUT))
        .set_response_timeout(Some(ANSWER_TIMEOUT));
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

async fn ask<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: &redis::Cmd,
) -> Result<T, SentinelError> {
    Ok(command.query_async(connection).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_printed_with_the_command_that_sets_it() {
        let options = vec![("auth-user", "sentinel".to_owned()), ("auth-pass", "hunter2".to_owned())];
        let set = Command::Set { name: "s0".to_owned(), options };
        assert_eq!(format!("{set:?}"), "SET s0 auth-user sentinel auth-pass (hidden)");
    }

    #[test]
    fn a_master_is_read_from_the_fields_sentinel_gives() {
        let fields = [
            ("name", "ns.main-s0"),
            ("ip", "main-s0-0.main-s0.ns.svc.cluster.local."),
            ("port", "6379"),
            ("flags", "master,failover_in_progress"),
            ("quorum", "2"),
            ("num-slaves", "2"),
            ("num-other-sentinels", "2"),
            ("down-after-milliseconds", "3000"),
            ("failover-timeout", "9000"),
            ("parallel-syncs", "3"),
        ];
        let fields = fields.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let seen = MasterSeen::read(&fields).expect("whole");
        assert!(seen.is_failing_over() && !seen.is_down());
        assert_eq!((seen.quorum, seen.replica_count, seen.other_sentinels), (2, 2, 2));
    }
}
