//! The Sentinels: whom they name, and asking them for a failover. All are asked at once, each with a
//! time-out, so one that hangs costs no more than that.

mod link;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use redis::{Client, Cmd, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};
use redis::{FromRedisValue, RedisError, cmd};

use self::link::{Asked, Link};
use crate::address::Address;
use crate::config::Config;
use crate::redis::info::Info;

/// Longest wait for one Sentinel.
const SENTINEL_TIMEOUT: Duration = Duration::from_millis(300);

/// Longest wait for a failover to be accepted: Sentinel writes its configuration first.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(1);

/// A replica as a Sentinel sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenReplica {
    /// Its Redis.
    pub address: Address,
    /// Sentinel would consider it.
    pub promotable: bool,
}

/// What Sentinels made of the wish for a failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failover {
    /// One has begun it.
    Begun,
    /// One is under way, or none could be asked.
    NotNow,
    /// They would, but no replica is good enough for them.
    NoReplica,
}

/// All Sentinels of the shard.
pub struct Sentinels {
    shard: String,
    each: Vec<Sentinel>,
}

struct Sentinel(Arc<Link>);

impl Sentinel {
    async fn query<T: FromRedisValue>(&self, command: &Cmd, within: Duration) -> Option<T> {
        match self.0.ask(command, within).await {
            Asked::Answer(answer) => Some(answer),
            Asked::Refusal(error) => {
                tracing::debug!(%error, "a sentinel refuses");
                None
            }
            Asked::Silence => None,
        }
    }

    async fn fail_over(&self, shard: &str) -> Failover {
        match self.0.ask::<()>(cmd("SENTINEL").arg("FAILOVER").arg(shard), FAILOVER_TIMEOUT).await {
            Asked::Answer(()) => Failover::Begun,
            Asked::Refusal(error) => {
                tracing::debug!(%error, "a sentinel refuses a failover");
                match error.code() {
                    Some("INPROG") => Failover::Begun,
                    Some("NOGOODSLAVE") => Failover::NoReplica,
                    _ => Failover::NotNow,
                }
            }
            Asked::Silence => Failover::NotNow,
        }
    }

    /// Whether it acts: a Sentinel that was stopped for 2 s, or whose clock jumped, only watches for the
    /// next 30. It still accepts a failover then, and lets it lie.
    async fn acts(&self) -> bool {
        let info = self.query::<String>(cmd("INFO").arg("sentinel"), SENTINEL_TIMEOUT).await;
        info.is_some_and(|info| Info::new(&info).text("sentinel_tilt") == "0")
    }
}

impl Sentinels {
    /// Connects to nothing yet.
    pub fn new(config: &Config) -> Result<Self, RedisError> {
        let (user, password) = &config.sentinel_login;
        let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(user) = user {
            login = login.set_username(user);
        }
        if let Some(password) = password {
            login = login.set_password(password);
        }
        let each = config.sentinels.iter().map(|address| {
            let place = ConnectionAddr::Tcp(address.host.clone(), address.port);
            let client = Client::open(place.into_connection_info()?.set_redis_settings(login.clone()))?;
            Ok(Sentinel(Link::new(client, FAILOVER_TIMEOUT)))
        });
        Ok(Self { shard: config.shard.clone(), each: each.collect::<Result<_, RedisError>>()? })
    }

    /// The primary that a majority of all Sentinels names.
    pub async fn named(&self) -> Option<Address> {
        let mut command = cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.shard);
        let answers = join_all(
            self.each.iter().map(|one| one.query::<Option<(String, u16)>>(&command, SENTINEL_TIMEOUT)),
        )
        .await;
        let named = answers.into_iter().flatten().flatten().map(|(host, port)| Address::new(host, port));
        majority(self.each.len(), named)
    }

    /// Whether a failover is under way, by any Sentinel that acts. Another one that begins meanwhile can leave two
    /// configurations with the same epoch, which Sentinels never reconcile by themselves.
    pub async fn is_failing_over(&self) -> bool {
        let mut command = cmd("SENTINEL");
        command.arg("MASTER").arg(&self.shard);
        let command = &command;
        let asked = self.each.iter().map(|one| async move {
            let fields = one.query::<HashMap<String, String>>(command, SENTINEL_TIMEOUT).await?;
            let is_flagged = fields.get("flags")?.contains("failover_in_progress");
            Some(is_flagged && one.acts().await)
        });
        join_all(asked).await.into_iter().flatten().any(|is_under_way| is_under_way)
    }

    /// Asks for a failover: of each Sentinel in turn, from `first` on, that acts and sees enough others.
    pub async fn fail_over(&self, first: usize) -> Failover {
        if self.is_failing_over().await {
            return Failover::NotNow;
        }
        let mut outcome = Failover::NotNow;
        let turns = (0..self.each.len()).map(|turn| &self.each[(first + turn) % self.each.len()]);
        for sentinel in turns {
            if !sentinel.acts().await || !self.sees_quorum(sentinel).await {
                continue;
            }
            match sentinel.fail_over(&self.shard).await {
                Failover::NotNow => {}
                Failover::NoReplica => outcome = Failover::NoReplica,
                Failover::Begun => return Failover::Begun,
            }
        }
        outcome
    }

    /// Whether a Sentinel could fail over.
    pub async fn has_quorum(&self) -> bool {
        let seen = join_all(self.each.iter().map(|sentinel| self.sees_quorum(sentinel))).await;
        seen.into_iter().any(|sees| sees)
    }

    async fn sees_quorum(&self, sentinel: &Sentinel) -> bool {
        let mut command = cmd("SENTINEL");
        command.arg("CKQUORUM").arg(&self.shard);
        sentinel
            .query::<String>(&command, SENTINEL_TIMEOUT)
            .await
            .is_some_and(|answer| answer.starts_with("OK"))
    }

    /// The replicas, as each Sentinel that answers sees them.
    pub async fn replicas(&self) -> Vec<Vec<SeenReplica>> {
        let mut command = cmd("SENTINEL");
        command.arg("REPLICAS").arg(&self.shard);
        let asked =
            self.each.iter().map(|one| one.query::<Vec<HashMap<String, String>>>(&command, SENTINEL_TIMEOUT));
        join_all(asked)
            .await
            .into_iter()
            .flatten()
            .map(|seen| seen.iter().filter_map(replica).collect())
            .collect()
    }
}

fn replica(fields: &HashMap<String, String>) -> Option<SeenReplica> {
    let flags = fields.get("flags")?;
    let is_down = ["s_down", "o_down", "disconnected"].iter().any(|flag| flags.contains(flag));
    Some(SeenReplica {
        address: Address::new(fields.get("ip")?.clone(), fields.get("port")?.parse().ok()?),
        promotable: !is_down && fields.get("slave-priority").is_some_and(|priority| priority != "0"),
    })
}

fn majority(all: usize, named: impl Iterator<Item = Address>) -> Option<Address> {
    let mut counts: HashMap<Address, usize> = HashMap::new();
    for address in named {
        *counts.entry(address).or_default() += 1;
    }
    counts.into_iter().find(|(_, count)| *count * 2 > all).map(|(address, _)| address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_majority_of_all_sentinels_names_a_primary() {
        let [a, b] = [Address::new("a", 1), Address::new("b", 1)];
        assert_eq!(majority(3, [a.clone(), a.clone()].into_iter()), Some(a.clone()));
        assert_eq!(majority(3, [a.clone(), b].into_iter()), None);
        assert_eq!(majority(3, [a].into_iter()), None);
    }
}
