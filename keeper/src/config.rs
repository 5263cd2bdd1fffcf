//! The flags, parsed once into values that are valid. Each is also an environment variable.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::{Parser, ValueEnum};
use thiserror::Error;

use crate::address::Address;
use crate::decide::votes::Rules;

/// Most members of a shard; keeps sets, polls and elections small.
const MEMBERS_MAX: usize = 16;

/// Longest name of a shard or member: on Kubernetes a namespace, a cluster and a shard.
const NAME_BYTES_MAX: usize = 127;

/// Longest password or token.
const SECRET_BYTES_MAX: usize = 512;

/// When a write counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// In the memory of the primary and its replicas; on disk within a second.
    Replicated,
    /// On the primary's disk as well.
    Fsync,
}

/// Starts and watches one Redis of a shard: fences it, follows or opens by vote, hands over.
#[derive(Clone, Debug, Parser)]
#[command(name = "taba-keeper", version)]
pub struct Args {
    /// The Sentinel master name of the shard.
    #[arg(long, env = "TABA_KEEPER_SHARD")]
    pub shard: String,
    /// The name of this member, one of `--members`.
    #[arg(long, env = "TABA_KEEPER_MEMBER")]
    pub member: String,
    /// All members: `name=host:redis-port:keeper-port`, separated by commas.
    #[arg(long, env = "TABA_KEEPER_MEMBERS", value_delimiter = ',', required = true)]
    pub members: Vec<String>,
    /// All Sentinels: `host:port`, separated by commas.
    #[arg(long, env = "TABA_KEEPER_SENTINELS", value_delimiter = ',', required = true)]
    pub sentinels: Vec<String>,
    /// Replicas that must hold a write besides the primary.
    #[arg(long, env = "TABA_KEEPER_MIN_IN_SYNC", default_value_t = 1)]
    pub min_in_sync: usize,
    /// Where promises and Redis' data are kept.
    #[arg(long, env = "TABA_KEEPER_DATA")]
    pub data: PathBuf,
    /// File with the password of the shard's Redis users.
    #[arg(long, env = "TABA_KEEPER_PASSWORD_FILE")]
    pub password_file: PathBuf,
    /// File with the token of the keepers' HTTP interface.
    #[arg(long, env = "TABA_KEEPER_TOKEN_FILE")]
    pub token_file: PathBuf,
    /// Where to listen for HTTP; Redis listens on the same address. Default: `0.0.0.0:<keeper-port>`.
    #[arg(long, env = "TABA_KEEPER_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// The Redis program, 7.0 or newer.
    #[arg(long, env = "TABA_KEEPER_REDIS_SERVER", default_value = "redis-server")]
    pub redis_server: PathBuf,
    /// User at the Sentinels; empty for none.
    #[arg(long, env = "TABA_KEEPER_SENTINEL_USER")]
    pub sentinel_user: Option<String>,
    /// File with the password at the Sentinels.
    #[arg(long, env = "TABA_KEEPER_SENTINEL_PASSWORD_FILE")]
    pub sentinel_password_file: Option<PathBuf>,
    /// When a write counts as stored.
    #[arg(long, env = "TABA_KEEPER_DURABILITY", value_enum, default_value = "replicated")]
    pub durability: Durability,
    /// Most memory for data, as Redis spells it (`600mb`); 0 for no limit.
    #[arg(long, env = "TABA_KEEPER_MAXMEMORY", default_value = "0")]
    pub maxmemory: String,
    /// File with further lines for Redis' configuration; the keeper's own lines win.
    #[arg(long, env = "TABA_KEEPER_REDIS_CONFIG")]
    pub redis_config: Option<PathBuf>,
    /// What is logged, as a filter of the tracing crate.
    #[arg(long, env = "TABA_KEEPER_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

/// Something in the configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A value that is not acceptable.
    #[error("{what}: {why}")]
    Value {
        /// The flag.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A file that cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that cannot be written.
    #[error("write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// One member of the shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its Redis, as announced.
    pub address: Address,
    /// Its keeper's HTTP port, on the same host.
    pub keeper_port: u16,
}

/// The valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The Sentinel master name.
    pub shard: String,
    /// All members, in the order that everyone configures.
    pub members: Vec<Member>,
    /// Which of them this is.
    pub own_index: usize,
    /// The Sentinels.
    pub sentinels: Vec<Address>,
    /// Replicas that must hold a write besides the primary.
    pub min_in_sync: usize,
    /// The data folder.
    pub data: PathBuf,
    /// Password of the Redis users.
    pub password: String,
    /// Token of the HTTP interface.
    pub token: String,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// The Redis program.
    pub redis_server: PathBuf,
    /// User and password at the Sentinels.
    pub sentinel_login: (Option<String>, Option<String>),
    /// When a write counts as stored.
    pub durability: Durability,
    /// Redis' `maxmemory`.
    pub maxmemory: String,
    /// Further lines for Redis' configuration.
    pub redis_lines: String,
}

impl Config {
    /// Whether the append-only file reaches the disk a second later. Where no replica has to hold a write,
    /// what the primary acknowledges must be on its disk.
    #[must_use]
    pub fn syncs_in_the_background(&self) -> bool {
        self.durability == Durability::Replicated && self.min_in_sync > 0
    }

    /// This member.
    #[must_use]
    pub fn own(&self) -> &Member {
        &self.members[self.own_index]
    }

    /// The others.
    pub fn others(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.name != self.own().name)
    }

    /// The member with this name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// The member with this Redis.
    #[must_use]
    pub fn member_at(&self, address: &Address) -> Option<&Member> {
        self.members.iter().find(|member| member.address == *address)
    }

    /// The size of the shard.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules { members: self.members.len(), min_in_sync: self.min_in_sync }
    }

    /// Where the keeper's own Redis listens.
    #[must_use]
    pub fn local_bind(&self) -> IpAddr {
        self.listen.ip()
    }

    /// Where the keeper reaches its own Redis.
    #[must_use]
    pub fn local_redis(&self) -> SocketAddr {
        let ip = self.listen.ip();
        let ip = match ip {
            IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
            ip => ip,
        };
        SocketAddr::new(ip, self.own().address.port)
    }
}

impl TryFrom<Args> for Config {
    type Error = ConfigError;

    fn try_from(args: Args) -> Result<Self, ConfigError> {
        check_name("--shard", &args.shard)?;
        let members = members(&args.members)?;
        let own_index = members
            .iter()
            .position(|member| member.name == args.member)
            .ok_or_else(|| wrong("--member", format!("`{}` is not one of --members", args.member)))?;
        if args.min_in_sync >= members.len() {
            let why = format!(
                "{} replicas cannot hold a write, there are {} members",
                args.min_in_sync,
                members.len()
            );
            return Err(wrong("--min-in-sync", why));
        }
        let listen =
            args.listen.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], members[own_index].keeper_port)));
        let sentinel_password =
            args.sentinel_password_file.as_deref().map(|path| secret("--sentinel-password-file", path));
        Ok(Self {
            sentinels: sentinels(&args.sentinels)?,
            own_index,
            members,
            min_in_sync: args.min_in_sync,
            password: secret("--password-file", &args.password_file)?,
            token: secret("--token-file", &args.token_file)?,
            listen,
            sentinel_login: (
                args.sentinel_user.filter(|user| !user.is_empty()),
                sentinel_password.transpose()?,
            ),
            redis_lines: args.redis_config.as_deref().map(read).transpose()?.unwrap_or_default(),
            maxmemory: maxmemory(args.maxmemory)?,
            shard: args.shard,
            data: args.data,
            redis_server: args.redis_server,
            durability: args.durability,
        })
    }
}

pub(crate) const fn wrong(what: &'static str, why: String) -> ConfigError {
    ConfigError::Value { what, why }
}

fn check_name(what: &'static str, name: &str) -> Result<(), ConfigError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        let why =
            format!("`{name}` is not a name of 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`");
        return Err(wrong(what, why));
    }
    Ok(())
}

fn members(texts: &[String]) -> Result<Vec<Member>, ConfigError> {
    let members = texts.iter().map(|text| member(text)).collect::<Result<Vec<_>, _>>()?;
    if members.len() > MEMBERS_MAX {
        return Err(wrong("--members", format!("{} members, more than {MEMBERS_MAX}", members.len())));
    }
    for (index, one) in members.iter().enumerate() {
        let twice = |other: &Member| other.name == one.name || other.address == one.address;
        if members[..index].iter().any(twice) {
            return Err(wrong("--members", format!("`{}` or {} is named twice", one.name, one.address)));
        }
    }
    Ok(members)
}

fn member(text: &str) -> Result<Member, ConfigError> {
    let expected = || wrong("--members", format!("`{text}` is not name=host:redis-port:keeper-port"));
    let (name, place) = text.trim().split_once('=').ok_or_else(expected)?;
    check_name("--members", name)?;
    let (address, keeper_port) = place.rsplit_once(':').ok_or_else(expected)?;
    Ok(Member {
        name: name.to_owned(),
        address: address.parse().map_err(|_| expected())?,
        keeper_port: keeper_port.parse().map_err(|_| expected())?,
    })
}

fn sentinels(texts: &[String]) -> Result<Vec<Address>, ConfigError> {
    texts
        .iter()
        .map(|text| text.trim().parse().map_err(|error| wrong("--sentinels", format!("{error}"))))
        .collect()
}

fn maxmemory(text: String) -> Result<String, ConfigError> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_plain {
        Ok(text)
    } else {
        Err(wrong("--maxmemory", format!("`{text}` is not a size such as 600mb")))
    }
}

pub(crate) fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// A secret goes into Redis' configuration and HTTP headers, so it is held to what needs no quoting there.
pub(crate) fn secret(what: &'static str, path: &Path) -> Result<String, ConfigError> {
    let text = read(path)?.trim().to_owned();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~+/=".contains(&byte);
    if text.is_empty() || text.len() > SECRET_BYTES_MAX || !text.bytes().all(is_plain) {
        let why =
            format!("{} does not hold 1 to {SECRET_BYTES_MAX} letters, digits and -_.~+/=", path.display());
        return Err(wrong(what, why));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
