//! `taba-keeper sentinel-config`: writes the configuration that a Sentinel starts with.
//!
//! Sentinel rewrites its own configuration, and what it writes is its memory: who it is, how it voted, where the
//! primaries are, whom it met. The rest is ours: settings from a template, passwords from files. So the new
//! file is the template, with that memory of the old one, for the shards that the template has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Parser;

use crate::config::{ConfigError, read, secret, wrong};
use crate::names;

/// Lines of a Sentinel itself that are its memory: `sentinel WORD …`.
const OWN_MEMORY: [&str; 2] = ["myid", "current-epoch"];

/// Lines about a shard that are its memory: `sentinel WORD SHARD …`. Where the primary is comes apart, because the
/// quorum stands in that line too.
const SHARD_MEMORY: [&str; 4] = ["config-epoch", "leader-epoch", "known-replica", "known-sentinel"];

/// Joins a template with what a Sentinel wrote before and with passwords.
#[derive(Clone, Debug, Parser)]
#[command(name = "taba-keeper sentinel-config")]
pub struct SentinelConfigArgs {
    /// The template: settings without passwords.
    #[arg(long)]
    pub template: PathBuf,
    /// The file that the Sentinel is started with; if it is there, its memory is kept.
    #[arg(long)]
    pub file: PathBuf,
    /// The name or address under which others reach this Sentinel.
    #[arg(long)]
    pub announce: String,
    /// File with the passwords of shards: `SHARD PASSWORD` on each line.
    #[arg(long)]
    pub passwords_file: PathBuf,
    /// File with the password of Sentinels.
    #[arg(long)]
    pub sentinel_password_file: PathBuf,
    /// The hosts file that `taba-keeper names` will keep, if it does.
    #[arg(long)]
    pub hosts: Option<PathBuf>,
}

/// Writes the configuration.
///
/// # Errors
/// If a file cannot be read or written, or a shard has no password.
pub fn run(args: &SentinelConfigArgs) -> Result<(), ConfigError> {
    let template = read(&args.template)?;
    let old = if args.file.exists() { read(&args.file)? } else { String::new() };
    let lines = read(&args.passwords_file)?;
    let passwords = passwords(&lines)?;
    let own = secret("--sentinel-password-file", &args.sentinel_password_file)?;
    if args.announce.is_empty() || args.announce.contains(char::is_whitespace) {
        return Err(wrong("--announce", format!("`{}` is not a name", args.announce)));
    }
    let mut text = joined(&template, &old);
    for shard in shards(&template) {
        let password = passwords
            .get(shard)
            .ok_or_else(|| wrong("--passwords-file", format!("shard {shard} has no line")))?;
        writeln!(text, "sentinel auth-pass {shard} {password}").expect("a string takes everything");
    }
    writeln!(text, "sentinel announce-ip {}\nrequirepass {own}\nsentinel sentinel-pass {own}", args.announce)
        .expect("a string takes everything");
    args.hosts.as_deref().map_or(Ok(()), names::begin)?;
    write(&args.file, &text)
}

fn passwords(text: &str) -> Result<BTreeMap<&str, &str>, ConfigError> {
    let lines = text.lines().filter(|line| !line.trim().is_empty()).enumerate();
    lines
        .map(|(index, line)| {
            let wrong = || wrong("--passwords-file", format!("line {} is not `SHARD PASSWORD`", index + 1));
            let (shard, password) = line.trim().split_once(' ').ok_or_else(wrong)?;
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~+/=".contains(&byte);
            let is_good = !password.is_empty() && password.bytes().all(is_plain);
            is_good.then_some((shard, password)).ok_or_else(wrong)
        })
        .collect()
}

/// The words behind `sentinel`, if it is such a line.
fn words(line: &str) -> Option<Vec<&str>> {
    let mut words = line.split_whitespace();
    (words.next() == Some("sentinel")).then(|| words.collect())
}

fn shards(template: &str) -> Vec<&str> {
    let named = template.lines().filter_map(words);
    named
        .filter(|words| words.first() == Some(&"monitor"))
        .filter_map(|words| words.get(1).copied())
        .collect()
}

/// The template with the memory of the old file.
fn joined(template: &str, old: &str) -> String {
    let shards = shards(template);
    let old: Vec<Vec<&str>> = old.lines().filter_map(words).collect();
    let mut text = String::new();
    let mut named = BTreeSet::new();
    for line in template.lines() {
        let line = with_known_primary(line, &old).unwrap_or_else(|| line.to_owned());
        named.extend(words(&line).and_then(|words| identity(&words)));
        writeln!(text, "{line}").expect("a string takes everything");
    }
    let is_memory = |words: &&Vec<&str>| match words[..] {
        [word, shard, _, ..] if SHARD_MEMORY.contains(&word) => shards.contains(&shard),
        [word, _] => OWN_MEMORY.contains(&word),
        _ => false,
    };
    for words in old.iter().filter(is_memory) {
        if identity(words).is_none_or(|identity| named.insert(identity)) {
            writeln!(text, "sentinel {}", words.join(" ")).expect("a string takes everything");
        }
    }
    text
}

/// Whom a line names: a shard's Redis by its address, another Sentinel by its id. Sentinel does not start with a file
/// that names one twice, and yet writes such a file: it tells instances apart by the addresses that their names had,
/// so one whose pod came back elsewhere is there twice under one name.
fn identity(words: &[&str]) -> Option<String> {
    match words {
        ["monitor", shard, host, port, _] | ["known-replica", shard, host, port] => {
            Some(format!("{shard} {host} {port}"))
        }
        ["known-sentinel", shard, _, _, id] => Some(format!("{shard} {id}")),
        _ => None,
    }
}

/// The line `sentinel monitor SHARD HOST PORT QUORUM` with host and port of the old one.
fn with_known_primary(line: &str, old: &[Vec<&str>]) -> Option<String> {
    let new = words(line)?;
    let ["monitor", shard, _, _, quorum] = new[..] else { return None };
    old.iter().find_map(|words| match words[..] {
        ["monitor", name, host, port, _] if name == shard => {
            Some(format!("sentinel monitor {shard} {host} {port} {quorum}"))
        }
        _ => None,
    })
}

/// In one step, so that a Sentinel never loses its memory to a crash.
fn write(path: &Path, text: &str) -> Result<(), ConfigError> {
    let part = path.with_extension("part");
    let failed = |source| ConfigError::Write { path: path.to_owned(), source };
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&part).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&part, path).map_err(failed)
}

#[cfg(test)]
mod tests;
