//! The connections to the own Redis, and every command the keeper gives it.
//!
//! A connection is made when needed and dropped at the first error. Everything has a time-out, so a Redis
//! that hangs never blocks the keeper for long.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError,
};
use redis::{
    ErrorKind, FromRedisValue, RedisConnectionInfo, RedisResult, Script, ServerErrorKind, cmd, pipe,
};
use thiserror::Error;
use tokio::sync::Mutex;

use crate::address::Address;
use crate::config::Config;
use crate::shard::{FIELDS, SHARD_KEY, ShardHash, joined};

use super::observed::{Observed, SETTINGS};
use super::{FENCE, NOBODY, replication_user};

/// Longest wait for the own Redis, on the same host.
const LOCAL_TIMEOUT: Duration = Duration::from_millis(500);

/// The own Redis did not do something.
#[derive(Debug, Error)]
#[error("{attempted}")]
pub struct LocalError {
    /// What was asked of it.
    pub attempted: &'static str,
    /// Why not.
    pub source: RedisError,
}

impl LocalError {
    /// The connection was ended.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        self.source.is_connection_dropped()
    }

    /// It refused because it reads its data.
    fn is_loading(&self) -> bool {
        matches!(
            self.source.kind(),
            ErrorKind::Server(ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown)
        )
    }
}

type Result<T> = std::result::Result<T, LocalError>;

/// One connection that is made again after an error.
struct Link {
    client: Client,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Link {
    async fn connection(&self) -> std::result::Result<MultiplexedConnection, RedisError> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = &*held {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(LOCAL_TIMEOUT))
            .set_response_timeout(Some(LOCAL_TIMEOUT));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        *held = Some(connection.clone());
        Ok(connection)
    }

    async fn query<T: FromRedisValue>(&self, attempted: &'static str, command: &Cmd) -> Result<T> {
        let outcome = async { command.query_async(&mut self.connection().await?).await }.await;
        self.checked(attempted, outcome).await
    }

    async fn checked<T>(
        &self,
        attempted: &'static str,
        outcome: std::result::Result<T, RedisError>,
    ) -> Result<T> {
        if let Err(source) = outcome {
            if source.is_io_error() || source.is_timeout() || source.is_unrecoverable_error() {
                *self.connection.lock().await = None;
            }
            return Err(LocalError { attempted, source });
        }
        outcome.map_err(|source| LocalError { attempted, source })
    }
}

/// The own Redis.
pub struct Local {
    commands: Link,
    /// `WAIT` blocks its connection, and counts from that connection's last write.
    waiting: Link,
    own: Address,
    password: String,
    open: Script,
    gate: Script,
    in_sync: Script,
}

/// What a look brings: `INFO`, settings, the shard's hash, how many keys. The last two are refused while data are read.
type Look =
    (RedisResult<String>, RedisResult<Vec<String>>, RedisResult<Vec<Option<String>>>, RedisResult<u64>);

/// What `Observed` reads; all of `INFO` takes a primary more than twice as long, several times a second.
const INFO_SECTIONS: [&str; 5] = ["server", "memory", "persistence", "stats", "replication"];

impl Local {
    /// Connects to nothing yet.
    pub fn new(config: &Config) -> std::result::Result<Self, RedisError> {
        let socket = config.local_redis();
        let login = RedisConnectionInfo::default().set_username("keeper").set_password(&config.password);
        let info: ConnectionInfo = ConnectionAddr::Tcp(socket.ip().to_string(), socket.port())
            .into_connection_info()?
            .set_redis_settings(login);
        let link = || {
            Ok::<_, RedisError>(Link { client: Client::open(info.clone())?, connection: Mutex::new(None) })
        };
        Ok(Self {
            commands: link()?,
            waiting: link()?,
            own: config.own().address.clone(),
            password: config.password.clone(),
            open: Script::new(include_str!("../scripts/open.lua")),
            gate: Script::new(include_str!("../scripts/gate.lua")),
            in_sync: Script::new(include_str!("../scripts/in_sync.lua")),
        })
    }

    /// Looks at everything a decision needs, in one round trip, because it is several times a second.
    pub async fn observe(&self) -> Result<Observed> {
        let mut look = pipe();
        look.cmd("INFO").arg(&INFO_SECTIONS);
        look.cmd("CONFIG").arg("GET").arg(&SETTINGS);
        look.cmd("HMGET").arg(SHARD_KEY).arg(&FIELDS);
        look.cmd("DBSIZE").ignore_errors();
        let outcome = async { look.query_async(&mut self.commands.connection().await?).await }.await;
        let (info, settings, shard, keys): Look = self.commands.checked("look at it", outcome).await?;
        let said = |attempted| move |source| LocalError { attempted, source };
        let (info, settings) = (info.map_err(said("read INFO"))?, settings.map_err(said("read settings"))?);
        let setting = |name: &str| {
            let pair = settings.chunks_exact(2).find(|pair| pair[0] == name);
            pair.map(|pair| pair[1].clone()).unwrap_or_default()
        };
        let data = shard
            .map_err(said("read the shard's hash"))
            .and_then(|values| Ok((ShardHash::from_values(&values), keys.map_err(said("count keys"))? == 0)));
        match data {
            Ok((shard, empty)) => Ok(Observed::new(&info, &setting, shard, empty)),
            Err(error) if error.is_loading() => {
                tracing::trace!(%error, "redis reads its data");
                Ok(Observed { loading: true, ..Observed::new(&info, &setting, None, false) })
            }
            Err(error) => Err(error),
        }
    }

    async fn set(&self, attempted: &'static str, settings: &[(&str, &str)]) -> Result<()> {
        self.commands.query(attempted, cmd("CONFIG").arg("SET").arg(settings)).await
    }

    /// Refuses every write from now on.
    pub async fn fence(&self) -> Result<()> {
        self.set_min_replicas(FENCE).await
    }

    /// Takes writes while so many replicas are connected.
    pub async fn set_min_replicas(&self, replicas: u64) -> Result<()> {
        self.set("set min-replicas-to-write", &[("min-replicas-to-write", &replicas.to_string())]).await
    }

    /// Says whether Sentinel may promote it.
    pub async fn set_priority(&self, priority: u32) -> Result<()> {
        self.set("set replica-priority", &[("replica-priority", &priority.to_string())]).await
    }

    /// How often the primary pings its replicas, which moves the replication offset.
    pub async fn set_ping_secs(&self, secs: u64) -> Result<()> {
        self.set("set repl-ping-replica-period", &[("repl-ping-replica-period", &secs.to_string())]).await
    }

    /// Takes away the user to follow with: a link that breaks stays broken.
    pub async fn disarm(&self) -> Result<()> {
        self.set("take the user to follow with", &[("masteruser", NOBODY)]).await
    }

    /// Cuts the link and whatever was on the way to one.
    pub async fn follow_nobody(&self) -> Result<()> {
        self.disarm().await?;
        let nobody = Address::nobody();
        self.replica_of(&nobody).await
    }

    /// Forgets since when there is no link; only becoming a primary does that. It is none for no command in
    /// between, so nothing is written or expires meanwhile.
    pub async fn forget_broken_link(&self) -> Result<()> {
        self.disarm().await?;
        let nobody = Address::nobody();
        let mut both = pipe();
        both.atomic().cmd("REPLICAOF").arg("NO").arg("ONE").ignore();
        both.cmd("REPLICAOF").arg(&nobody.host).arg(nobody.port).ignore();
        let outcome = async { both.query_async(&mut self.commands.connection().await?).await }.await;
        self.commands.checked("forget a broken link", outcome).await
    }

    /// Follows the primary of a term. The handshake with whoever was followed before is given up.
    pub async fn follow(&self, primary: &Address, term: u64, member: &str) -> Result<()> {
        self.follow_nobody().await?;
        let user = replication_user(term, member);
        self.set("give the user to follow with", &[("masteruser", &user), ("masterauth", &self.password)])
            .await?;
        self.replica_of(primary).await
    }

    async fn replica_of(&self, address: &Address) -> Result<()> {
        let mut command = cmd("REPLICAOF");
        command.arg(&address.host).arg(address.port);
        self.commands.query("replicate another", &command).await
    }

    /// Becomes a primary.
    pub async fn follow_no_one(&self) -> Result<()> {
        self.commands.query("become primary", cmd("REPLICAOF").arg("NO").arg("ONE")).await
    }

    /// Lets replicas of this term in, and no others.
    pub async fn admit_replicas(&self, term: u64, member: &str) -> Result<()> {
        self.expel_replicas().await?;
        let password = format!(">{}", self.password);
        let rules = [
            "on",
            "resetpass",
            &password,
            "resetkeys",
            "resetchannels",
            "-@all",
            "+psync",
            "+replconf",
            "+ping",
        ];
        let mut command = cmd("ACL");
        command.arg("SETUSER").arg(replication_user(term, member)).arg(&rules);
        self.commands.query("let replicas in", &command).await
    }

    /// Shuts replicas out; those connected are cut off.
    pub async fn expel_replicas(&self) -> Result<()> {
        let users: Vec<String> = self.commands.query("list users", cmd("ACL").arg("USERS")).await?;
        let users: Vec<_> = users.into_iter().filter(|user| user.starts_with("repl.")).collect();
        if users.is_empty() {
            return Ok(());
        }
        let _removed: u64 =
            self.commands.query("shut replicas out", cmd("ACL").arg("DELUSER").arg(&users)).await?;
        Ok(())
    }

    /// Ends the connections of servers, so that they look for the primary anew.
    pub async fn expel_servers(&self) -> Result<()> {
        let mut command = cmd("CLIENT");
        command.arg("KILL").arg("USER").arg("taba");
        let _killed: u64 = self.commands.query("end connections", &command).await?;
        Ok(())
    }

    /// Opens a term; see `scripts/open.lua`.
    pub async fn open(&self, opening: &Opening<'_>) -> Result<u64> {
        let mut call = self.open.prepare_invoke();
        call.key(SHARD_KEY)
            .arg(opening.shard_id)
            .arg(opening.name)
            .arg(opening.term)
            .arg(self.own.to_string());
        call.arg(opening.members).arg(opening.min_in_sync).arg(u8::from(opening.founds)).arg(opening.gate_us);
        let outcome = async { call.invoke_async(&mut self.commands.connection().await?).await }.await;
        self.commands.checked("open the term", outcome).await
    }

    /// Renews the gate, or writes it as it is, on the connection that [`Self::wait`] uses. The time is
    /// Redis' own, asked before: if it stops in between, the gate is past when it goes on.
    pub async fn renew_gate(&self, term: u64, ahead_us: Option<u64>) -> Result<()> {
        let until = match ahead_us {
            Some(ahead) => {
                let (secs, micros): (u64, u64) = self.waiting.query("ask the time", &cmd("TIME")).await?;
                (secs * 1_000_000 + micros + ahead).to_string()
            }
            None => String::new(),
        };
        self.gate_on(&self.waiting, term, &until).await
    }

    /// Closes the gate.
    pub async fn close_gate(&self, term: u64) -> Result<()> {
        self.gate_on(&self.commands, term, "0").await
    }

    async fn gate_on(&self, link: &Link, term: u64, until: &str) -> Result<()> {
        let mut call = self.gate.prepare_invoke();
        call.key(SHARD_KEY).arg(term).arg(self.own.to_string()).arg(until);
        let outcome = async { call.invoke_async::<String>(&mut link.connection().await?).await }.await;
        link.checked("set the gate", outcome).await.map(drop)
    }

    /// Waits until so many replicas have acknowledged the last gate, and says how many have.
    pub async fn wait(&self, replicas: usize, within: Duration) -> Result<usize> {
        let mut command = cmd("WAIT");
        command.arg(replicas).arg(within.as_millis() as u64);
        self.waiting.query("wait for replicas", &command).await
    }

    /// Replaces the in-sync set, and says its new version.
    pub async fn set_in_sync(&self, term: u64, version: u64, set: &[Address]) -> Result<u64> {
        let mut call = self.in_sync.prepare_invoke();
        call.key(SHARD_KEY).arg(term).arg(self.own.to_string()).arg(version).arg(joined(set));
        let outcome = async { call.invoke_async(&mut self.commands.connection().await?).await }.await;
        self.commands.checked("change the in-sync set", outcome).await
    }
}

/// What a term is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// The shard.
    pub shard_id: &'a str,
    /// Its Sentinel master name.
    pub name: &'a str,
    /// The term.
    pub term: u64,
    /// Members of the shard.
    pub members: usize,
    /// Replicas that must hold a write besides the primary.
    pub min_in_sync: usize,
    /// Whether this founds it.
    pub founds: bool,
    /// Microseconds for which reads are open at once.
    pub gate_us: u64,
}
