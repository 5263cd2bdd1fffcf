//! The configuration Redis is started with, written anew at each start: Sentinel rewrites the file while
//! Redis runs, and nothing of that may survive.
//!
//! The start rule is here: a replica of nobody, fenced, never to be promoted, without a user to follow with.

use std::fmt::Write as _;

use crate::address::Address;
use crate::config::Config;

use super::{FENCE, NOBODY};

/// What Sentinel may do, after Redis' own documentation.
const SENTINEL_MAY: &str = "resetkeys resetchannels &__sentinel__:hello -@all +multi +slaveof +ping +exec \
    +subscribe +publish +config|rewrite +role +info +client|setname +client|kill +script|kill";

/// Nobody can log in as `default`, which is off and has no password. But Redis reads its append-only file in
/// this user's name, and skips every transaction in it that the user may not run: with `default` merely off, a
/// restart silently goes back to the last rewrite.
const LOADER_MAY: &str = "resetpass ~* &* +@all";

/// Data and scripts, but no administration. `INFO`, `ROLE` and `CONFIG GET` are among what Redis calls
/// dangerous or administration.
const SERVERS_MAY: &str = "~* resetchannels +@all -@admin -@dangerous +info +role +config|get";

/// Seconds after which a silent replication link is given up.
const REPL_TIMEOUT_SECS: u32 = 10;

/// Seconds within which a replica must have acknowledged for the primary to take writes.
const MAX_LAG_SECS: u32 = 3;

/// Writes the configuration.
#[must_use]
pub fn text(config: &Config) -> String {
    let own = config.own();
    let password = &config.password;
    // Not `everysec`: with it Redis may answer up to 2 s before it has written, and a killed Redis then has
    // less than it acknowledged. With `no` it writes before each answer, and the keeper syncs.
    let appendfsync = if config.syncs_in_the_background() { "no" } else { "always" };
    let nobody = Address::nobody();
    let mut text = String::new();
    // The extra lines come first: of a setting given twice Redis takes the last.
    text.push_str(&config.redis_lines);
    let own_lines = format!(
        r#"
bind {ip}
port {port}
protected-mode no
daemonize no
supervised no
logfile ""
dir "{dir}"
appendonly yes
appendfilename "appendonly.aof"
appendfsync {appendfsync}
aof-use-rdb-preamble yes
save ""
rdb-del-sync-files yes
repl-diskless-sync yes
repl-diskless-sync-delay 0
repl-diskless-load disabled
repl-ping-replica-period 1
repl-timeout {REPL_TIMEOUT_SECS}
replica-serve-stale-data yes
replica-read-only yes
replica-announce-ip {host}
replica-announce-port {port}
replica-priority 0
replicaof {nobody_host} {nobody_port}
masteruser {NOBODY}
masterauth {password}
min-replicas-to-write {FENCE}
min-replicas-max-lag {MAX_LAG_SECS}
maxmemory {maxmemory}
maxmemory-policy noeviction
user default off {LOADER_MAY}
user keeper on >{password} ~* &* +@all
user taba on >{password} {SERVERS_MAY}
user sentinel on >{password} {SENTINEL_MAY}
"#,
        ip = config.local_bind(),
        dir = config.data.join("redis").display(),
        host = own.address.host,
        port = own.address.port,
        nobody_host = nobody.host,
        nobody_port = nobody.port,
        maxmemory = config.maxmemory,
    );
    text.push_str(&own_lines);
    // What only has a default of ours: the extra lines may choose otherwise.
    for (name, value) in [
        ("repl-backlog-size", "64mb"),
        ("client-output-buffer-limit", "replica 256mb 128mb 60"),
        ("shutdown-timeout", "10"),
        ("auto-aof-rewrite-min-size", "256mb"),
    ] {
        if !config.redis_lines.lines().any(|line| line.split_whitespace().next() == Some(name)) {
            writeln!(text, "{name} {value}").expect("a string takes everything");
        }
    }
    text
}
