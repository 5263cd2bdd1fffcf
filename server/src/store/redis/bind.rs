//! Binding to a shard: finding its primary, proving that it is the shard's primary in some term, and opening
//! the connections that are bound to that term. Steps as in `docs/shard.md`, "What a server does".

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use redis::{Pipeline, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use super::call::{CallError, checked, run};
use super::link::{Dialer, Link, Login};
use super::options::{Durability, RedisOptions};
use super::{reply, scripts, sentinel};

/// How long members that may be in a later term are waited for when one is found.
const MOMENT: Duration = Duration::from_millis(50);

/// How it is proved that the in-sync set holds a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The primary's answer is enough.
    Primary,
    /// `WAIT`: replicas have it, in memory, or on disk where they write through.
    Wait,
    /// `WAITAOF`: primary and replicas have it on disk.
    WaitAof,
}

/// Connections to a shard's primary, bound to its term.
pub(super) struct Bound {
    pub(super) address: String,
    pub(super) term: u64,
    pub(super) members: u64,
    pub(super) min_in_sync: u64,
    pub(super) proof: Proof,
    /// Answers queries.
    pub(super) queries: Link,
    /// Leases, queues and commits of owners.
    pub(super) owners: Link,
    /// Something was written to a key that was named on `owners`, see [`Link::send_tracked`].
    pub(super) changed: Arc<Notify>,
    /// Accept batches; blocked while replicas are waited for.
    pub(super) lanes: Vec<Link>,
    in_sync: AtomicU64,
    broken: watch::Sender<Option<&'static str>>,
}

impl Bound {
    /// Members of the in-sync set, the primary included, when it was last looked at.
    pub(super) fn in_sync(&self) -> u64 {
        self.in_sync.load(Ordering::Relaxed)
    }

    pub(super) fn note_in_sync(&self, members: u64) {
        self.in_sync.store(members, Ordering::Relaxed);
    }

    /// Says that the connections are of no use any more. The first reason counts.
    pub(super) fn break_off(&self, reason: &'static str) {
        self.broken.send_if_modified(|broken| broken.replace(reason).is_none());
    }

    /// Waits until the connections are of no use any more, and gives the reason.
    pub(super) async fn broken(&self) -> &'static str {
        let mut broken = self.broken.subscribe();
        let reason = broken.wait_for(Option::is_some).await;
        reason.ok().and_then(|reason| *reason).unwrap_or("dropped")
    }

    /// Looks whether the primary is still open in the term, and how many members are in sync.
    pub(super) async fn look(&self) -> Result<(), CallError> {
        let facts = Facts::read(&self.queries).await?;
        if facts.term != self.term {
            let detail = format!("the shard is in term {}", facts.term);
            return Err(CallError::Refused { code: "TABATERM".to_owned(), detail });
        }
        self.note_in_sync(facts.in_sync);
        Ok(())
    }
}

/// What `taba:shard` says.
struct Facts {
    id: String,
    name: String,
    term: u64,
    primary: String,
    members: u64,
    min_in_sync: u64,
    in_sync: u64,
}

impl Facts {
    async fn read(link: &Link) -> Result<Self, CallError> {
        let mut command = redis::cmd("HMGET");
        command.arg("taba:shard").arg(&[
            "id",
            "name",
            "term",
            "primary",
            "members",
            "min_in_sync",
            "in_sync",
        ]);
        let fields = reply::exactly::<7>(checked(link.send(&command).await?)?)?;
        if fields[..4].contains(&Value::Nil) {
            return Err(CallError::Unbound("the shard was not founded or never opened".to_owned()));
        }
        let [id, name, term, primary, members, min_in_sync, in_sync] = fields;
        Ok(Self {
            id: reply::text(id)?,
            name: reply::text(name)?,
            term: reply::number(&term)?,
            primary: reply::text(primary)?,
            members: reply::number(&members)?,
            min_in_sync: reply::number(&min_in_sync)?,
            in_sync: count_members(&reply::optional_text(in_sync)?.unwrap_or_default()),
        })
    }
}

/// How many members a list `host:port,…` names.
pub(super) fn count_members(list: &str) -> u64 {
    list.split(',').filter(|member| !member.is_empty()).count() as u64
}

/// Binds to a shard's primary: of all members that Sentinels know, the one that is open in the highest term.
/// During a failover Sentinels name the old primary for up to a second after the new one opened.
pub(super) async fn bind(dialer: &Dialer, options: &RedisOptions, shard: usize) -> Result<Bound, CallError> {
    let members = sentinel::members(dialer, options, &options.shards[shard]).await?;
    let candidates = members.iter().map(|address| Candidate { dialer, options, shard, address });
    let (mut proven, mut failure) = proven(candidates).await;
    proven.sort_by_key(|(_, _, facts)| std::cmp::Reverse(facts.term));
    for (candidate, queries, facts) in proven {
        match candidate.bind(queries, &facts).await {
            Ok(bound) => return Ok(bound),
            Err(error) => failure = candidate.unbound(&error),
        }
    }
    Err(failure)
}

/// The candidates that are primary of the shard in some term. After the first one the others get only a moment
/// more. Where there is none, why the one that Sentinels name most often is not.
async fn proven<'a>(
    candidates: impl Iterator<Item = Candidate<'a>>,
) -> (Vec<(Candidate<'a>, Link, Facts)>, CallError) {
    let mut asking: FuturesUnordered<_> = candidates
        .enumerate()
        .map(|(place, candidate)| async move { (place, candidate.prove().await, candidate) })
        .collect();
    let mut proven = Vec::new();
    let mut failures = Vec::new();
    let mut deadline = None;
    loop {
        let answer = match deadline {
            None => asking.next().await,
            Some(deadline) => timeout_at(deadline, asking.next()).await.ok().flatten(),
        };
        match answer {
            None => break,
            Some((_, Ok((queries, facts)), candidate)) => {
                deadline.get_or_insert_with(|| Instant::now() + MOMENT);
                proven.push((candidate, queries, facts));
            }
            Some((place, Err(error), candidate)) => failures.push((place, candidate.unbound(&error))),
        }
    }
    let named = failures.into_iter().min_by_key(|(place, _)| *place).map(|(_, failure)| failure);
    (proven, named.unwrap_or_else(|| CallError::Unbound("no candidate".to_owned())))
}

struct Candidate<'a> {
    dialer: &'a Dialer,
    options: &'a RedisOptions,
    shard: usize,
    address: &'a str,
}

impl Candidate<'_> {
    fn unbound(&self, error: &CallError) -> CallError {
        CallError::Unbound(format!("{}: {error}", self.address))
    }

    /// Connects, and lets the member prove that it is the shard's primary.
    async fn prove(&self) -> Result<(Link, Facts), CallError> {
        let link = self.connect().await?;
        must_be_primary(&link).await?;
        let facts = Facts::read(&link).await?;
        self.must_be_the_shard(&facts)?;
        if facts.term > u64::from(u32::MAX) {
            return Err(CallError::Unbound(format!("term {} does not fit a fencing token", facts.term)));
        }
        Ok((link, facts))
    }

    async fn bind(&self, queries: Link, facts: &Facts) -> Result<Bound, CallError> {
        load_scripts(&queries).await?;
        self.must_be_placed(&queries, facts.term).await?;
        let proof = self.proof(&queries, facts).await?;
        let changed = Arc::default();
        let owners =
            is_same(self.dialer.connect_tracking(self.address, self.login(), &changed).await?, facts).await?;
        let mut lanes = Vec::new();
        for _ in 0..self.options.lanes.max(1) {
            lanes.push(is_same(self.connect().await?, facts).await?);
        }
        Ok(Bound {
            address: self.address.to_owned(),
            term: facts.term,
            members: facts.members,
            min_in_sync: facts.min_in_sync,
            proof,
            queries,
            owners,
            changed,
            lanes,
            in_sync: AtomicU64::new(facts.in_sync),
            broken: watch::Sender::new(None),
        })
    }

    fn name(&self) -> &str {
        &self.options.shards[self.shard]
    }

    fn login(&self) -> Login<'_> {
        Login { user: self.options.user.as_deref(), password: self.options.passwords.of(self.name()) }
    }

    async fn connect(&self) -> Result<Link, CallError> {
        self.dialer.connect(self.address, self.login()).await
    }

    fn must_be_the_shard(&self, facts: &Facts) -> Result<(), CallError> {
        if facts.name != self.name() {
            return Err(CallError::Unbound(format!("this is shard {}, not {}", facts.name, self.name())));
        }
        if facts.primary != self.address {
            let opened = format!("term {} was opened by {}", facts.term, facts.primary);
            return Err(CallError::Unbound(opened));
        }
        Ok(())
    }

    /// Writes the placement if the shard has none; refuses one that is not ours.
    async fn must_be_placed(&self, link: &Link, term: u64) -> Result<(), CallError> {
        let (first, last) = self.options.placement(self.shard);
        let ours = [u64::from(self.options.vbuckets.get()), u64::from(first), u64::from(last), 1];
        let mut command = scripts::PLACE.call(term);
        command.arg(&ours[..3]);
        let stored = reply::exactly::<4>(run(link, &scripts::PLACE, &command).await?)?;
        let [vbuckets, first, last, version] = &stored;
        let stored = [vbuckets, first, last, version].map(reply::number);
        if !stored.iter().zip(ours).all(|(stored, ours)| stored.as_ref().is_ok_and(|stored| *stored == ours))
        {
            let show = |number: &Result<u64, _>| number.as_ref().map_or("?".to_owned(), u64::to_string);
            return Err(CallError::Unbound(format!(
                "the shard has vbuckets {} to {} of {} (placement {}), not {} to {} of {} (placement 1): \
                 the vbucket count and the shards' order must not change",
                show(&stored[1]),
                show(&stored[2]),
                show(&stored[0]),
                show(&stored[3]),
                ours[1],
                ours[2],
                ours[0],
            )));
        }
        Ok(())
    }

    async fn proof(&self, link: &Link, facts: &Facts) -> Result<Proof, CallError> {
        let has_replicas = facts.members > 1;
        match self.options.durability {
            Durability::Primary => Ok(Proof::Primary),
            Durability::Replicated if has_replicas => Ok(Proof::Wait),
            Durability::Replicated => Ok(Proof::Primary),
            Durability::Fsync => match writing(link).await? {
                Writing::Never => {
                    Err(CallError::Unbound("durability fsync needs `appendonly yes`".to_owned()))
                }
                Writing::Later { has_waitaof: true } => Ok(Proof::WaitAof),
                Writing::Later { has_waitaof: false } => Err(CallError::Unbound(
                    "durability fsync needs `appendfsync always` before Redis 7.2".to_owned(),
                )),
                // Each answers only what it has on disk.
                Writing::Through if has_replicas => Ok(Proof::Wait),
                Writing::Through => Ok(Proof::Primary),
            },
        }
    }
}

/// A further connection, proved to lead to the same member.
async fn is_same(link: Link, facts: &Facts) -> Result<Link, CallError> {
    let again = Facts::read(&link).await?;
    if (&again.id, again.term, &again.primary) != (&facts.id, facts.term, &facts.primary) {
        return Err(CallError::Unbound("the primary changed meanwhile".to_owned()));
    }
    Ok(link)
}

async fn must_be_primary(link: &Link) -> Result<(), CallError> {
    let role = reply::list(checked(link.send(&redis::cmd("ROLE")).await?)?)?;
    let role = role.into_iter().next().map(reply::text).transpose()?;
    if role.as_deref() == Some("master") {
        return Ok(());
    }
    Err(CallError::Unbound(format!("its role is {}", role.unwrap_or_default())))
}

async fn load_scripts(link: &Link) -> Result<(), CallError> {
    let mut commands = Pipeline::new();
    for script in scripts::all() {
        commands.add_command(script.load());
    }
    for answer in link.send_all(&commands, Duration::ZERO).await? {
        checked(answer)?;
    }
    Ok(())
}

/// When a member writes what it was told to its disk.
enum Writing {
    Never,
    /// After answering.
    Later {
        has_waitaof: bool,
    },
    /// Before answering.
    Through,
}

async fn writing(link: &Link) -> Result<Writing, CallError> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg("appendonly").arg("appendfsync");
    let settings = reply::texts(checked(link.send(&command).await?)?)?;
    let (settings, _) = settings.as_chunks::<2>();
    let is = |name: &str, value: &str| settings.iter().any(|[key, set]| key == name && set == value);
    if !is("appendonly", "yes") {
        return Ok(Writing::Never);
    }
    if is("appendfsync", "always") {
        return Ok(Writing::Through);
    }
    let mut command = redis::cmd("INFO");
    command.arg("server");
    let info = reply::text(checked(link.send(&command).await?)?)?;
    Ok(Writing::Later { has_waitaof: version(&info).is_some_and(|version| version >= (7, 2)) })
}

/// Major and minor version in `INFO server`.
fn version(info: &str) -> Option<(u32, u32)> {
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"))?;
    let mut numbers = version.trim().split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_info() {
        assert_eq!(version("# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n"), Some((7, 0)));
        assert!(version("redis_version:10.1.0\r\n") > Some((7, 2)));
        assert_eq!(version("valkey"), None);
    }

    #[test]
    fn members_of_a_list_are_counted() {
        assert_eq!(count_members(""), 0);
        assert_eq!(count_members("a:1,b:2"), 2);
    }
}
