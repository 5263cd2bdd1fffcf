//! The [`Store`] trait over shards: which shard is asked, with which script, and what its answer means.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use redis::{Cmd, Value};
use taba_core::{BatchId, Parts, State, TabType, Vbucket, VbucketCount};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::RedisStore;
use super::call::CallError;
use super::lane::AcceptCall;
use super::scripts::{self, Script};
use super::shard::{Shard, Use};
use super::{changes, is_reached, reply};
use crate::mutants::Mutant;
use crate::store::{
    Accepted, ClientStates, Commit, Enrolment, EntryId, FencingToken, Lease, Marks, Progress, QueueDepth,
    QueueEntry, Store, StoreError, TabInfo,
};

/// Hand-overs within one term fit below this bit: 4 billion.
const TERM_SHIFT: u32 = 32;
/// Most bytes asked of a queue at once, and most names of a list, whatever the caller says.
const READ_BYTES_MAX: usize = 1 << 30;
const NAMES_MAX: usize = 1_000_000;

impl RedisStore {
    fn shard_of(&self, vbucket: Vbucket) -> Result<&Shard, StoreError> {
        let shard = self.shard(vbucket).map(|shard| &**shard);
        shard.ok_or_else(|| StoreError::Corrupt { what: format!("vbucket {} does not exist", vbucket.0) })
    }

    /// Reads something of a vbucket by a script; `fill` adds the arguments after the vbucket.
    async fn read<T>(
        &self,
        what: &'static str,
        vbucket: Vbucket,
        script: &Script,
        fill: impl Fn(&mut Cmd) + Send + Sync,
        decode: impl Fn(Value) -> Result<T, CallError> + Send,
    ) -> Result<T, StoreError> {
        let shard = self.shard_of(vbucket)?;
        let answer = shard.read(script, |command| {
            command.arg(vbucket.0);
            fill(command);
        });
        answer.await.and_then(decode).map_err(|error| error.on(what, vbucket))
    }

    /// What each shard is to accept of a batch. One without parts goes to a shard that every retry finds.
    fn cut(&self, id: Option<&BatchId>, parts: Parts) -> Result<Vec<(&Shard, Blocks)>, StoreError> {
        let mut blocks: Blocks = parts.into_blocks().collect();
        if let Some(id) = id.filter(|_| blocks.is_empty()) {
            blocks.push((self.vbuckets.of(id.producer.as_str()), Vec::new()));
        }
        let mut cut: Vec<(&Shard, Blocks)> = Vec::new();
        for (vbucket, block) in blocks {
            let shard = self.shard_of(vbucket)?;
            match cut.last_mut() {
                Some((last, blocks)) if std::ptr::eq(*last, shard) => blocks.push((vbucket, block)),
                _ => cut.push((shard, vec![(vbucket, block)])),
            }
        }
        Ok(cut)
    }
}

type Blocks = Vec<(Vbucket, Vec<u8>)>;

async fn accept_on(shard: &Shard, id: Option<BatchId>, blocks: Blocks) -> Result<Accepted, CallError> {
    let (reply, outcome) = oneshot::channel();
    shard.accept(AcceptCall { id, blocks, reply, asked: Instant::now() }, outcome).await
}

/// What became of a batch over several shards. A refusal that no retry changes goes before one that a retry
/// does; a batch is a duplicate only if it was everywhere.
fn join(outcomes: Vec<Result<Accepted, CallError>>) -> Result<Accepted, CallError> {
    let weight = |outcome: &Result<Accepted, CallError>| match outcome {
        Err(CallError::Stale) => 4,
        Err(CallError::Full(_)) => 2,
        Err(_) => 3,
        Ok(Accepted::New) => 1,
        Ok(Accepted::Duplicate) => 0,
    };
    outcomes.into_iter().max_by_key(weight).unwrap_or(Ok(Accepted::New))
}

fn term_of(token: FencingToken) -> u64 {
    token.0 >> TERM_SHIFT
}

/// The low half of a token.
fn hand_overs(token: FencingToken) -> u64 {
    token.0 & (u64::from(u32::MAX))
}

fn micros(duration: Duration) -> u64 {
    // A century: far enough, and exact in the numbers of scripts.
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).min(3_155_760_000_000_000)
}

#[async_trait]
impl Store for RedisStore {
    fn vbuckets(&self) -> VbucketCount {
        self.vbuckets
    }

    fn was_reached(&self) -> bool {
        is_reached(self.shards.iter().map(|shard| shard.was_bound()), self.opened.elapsed())
    }

    async fn accept(&self, id: Option<&BatchId>, parts: Parts) -> Result<Accepted, StoreError> {
        let calls = self.cut(id, parts)?;
        let calls = calls.into_iter().map(|(shard, blocks)| accept_on(shard, id.cloned(), blocks));
        let outcome = join(join_all(calls).await);
        outcome.map_err(|error| error.while_trying("accept a batch", id.map_or(0, |id| id.sequence)))
    }

    async fn enrol(&self, owner: &str, ttl: Duration) -> Vec<Enrolment> {
        let enrol = async |shard: &Shard| {
            let live = shard.call(Use::Owner, &scripts::ENROL, |command| {
                command.arg(owner).arg(micros(ttl));
            });
            let live = live.await.and_then(reply::texts);
            let live = live.map_err(|error| error.on("announce a backend", shard.last()));
            Enrolment { vbuckets: shard.vbuckets(), live }
        };
        join_all(self.shards.iter().map(|shard| enrol(shard))).await
    }

    async fn lease(&self, vbucket: Vbucket, owner: &str, ttl: Duration) -> Result<Option<Lease>, StoreError> {
        let shard = self.shard_of(vbucket)?;
        let lease = async {
            let bound = shard.bound().await?;
            let answer = shard.call_on(&bound, Use::Owner, &scripts::LEASE, |command| {
                command.arg(vbucket.0).arg(owner).arg(micros(ttl));
            });
            let answer = reply::exactly::<4>(answer.await?)?;
            let [granted, count, aggregates, clients] = &answer;
            let token = FencingToken(bound.term << TERM_SHIFT | reply::number(count)?);
            let marks = marks(aggregates, clients)?;
            Ok((reply::number(granted)? == 1).then_some(Lease { token, marks }))
        };
        lease.await.map_err(|error: CallError| error.on("take a lease", vbucket))
    }

    async fn release(&self, vbucket: Vbucket, token: FencingToken) -> Result<(), StoreError> {
        let shard = self.shard_of(vbucket)?;
        let release = async {
            let bound = shard.bound().await?;
            if term_of(token) != bound.term {
                return Ok(());
            }
            let answer = shard.call_on(&bound, Use::Owner, &scripts::RELEASE, |command| {
                command.arg(vbucket.0).arg(hand_overs(token));
            });
            answer.await.map(drop)
        };
        release.await.map_err(|error: CallError| error.on("give a lease back", vbucket))
    }

    async fn progress(&self, vbucket: Vbucket) -> Result<Progress, StoreError> {
        let decode = |answer| {
            let [aggregates, clients, oldest] = reply::exactly(answer)?;
            let behind_since = match oldest {
                Value::Nil => None,
                oldest => Some(reply::place(oldest)?.1),
            };
            Ok(Progress { marks: marks(&aggregates, &clients)?, behind_since })
        };
        self.read("read the marks", vbucket, &scripts::PROGRESS, |_| {}, decode).await
    }

    async fn read_queue(
        &self,
        vbucket: Vbucket,
        after: EntryId,
        bytes_max: usize,
    ) -> Result<Vec<QueueEntry>, StoreError> {
        let fill = |command: &mut Cmd| {
            command.arg(after.0).arg(bytes_max.min(READ_BYTES_MAX)).arg("");
        };
        self.read("read a queue", vbucket, &scripts::READ_QUEUE, fill, reply::entries).await
    }

    async fn read_owned_queue(
        &self,
        vbucket: Vbucket,
        token: FencingToken,
        after: EntryId,
        bytes_max: usize,
    ) -> Result<Vec<QueueEntry>, StoreError> {
        let shard = self.shard_of(vbucket)?;
        let read = async {
            let bound = shard.bound().await?;
            if term_of(token) != bound.term {
                return Err(CallError::Fenced);
            }
            let next = shard.arrivals.next_known(vbucket);
            let answer = shard.call_on(&bound, Use::Owner, &scripts::READ_QUEUE, |command| {
                command.arg(vbucket.0).arg(after.0).arg(bytes_max.min(READ_BYTES_MAX)).arg(hand_overs(token));
            });
            let entries = reply::entries(answer.await?)?;
            if entries.is_empty() {
                shard.arrivals.note_empty(vbucket, after, next);
            }
            Ok(entries)
        };
        read.await.map_err(|error| error.on("read a queue", vbucket))
    }

    async fn commit(&self, vbucket: Vbucket, token: FencingToken, commit: Commit) -> Result<(), StoreError> {
        let shard = self.shard_of(vbucket)?;
        let changes = changes::Encoded::new(&commit.changes)?;
        let started = Instant::now();
        let write = async {
            let bound = shard.bound().await?;
            if term_of(token) != bound.term && !Mutant::NoToken.is_on() {
                return Err(CallError::Fenced);
            }
            let mut command = scripts::COMMIT.call(bound.term);
            command.arg(vbucket.0).arg(hand_overs(token));
            command.arg(commit.marks.aggregates.0).arg(commit.marks.clients.0);
            if Mutant::PopBeforeApply.is_on() {
                shard.commit(&bound, &command, 0).await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            changes.fill(&mut command);
            shard.commit(&bound, &command, changes.bytes()).await
        };
        write.await.map_err(|error| error.on("commit states", vbucket))?;
        shard.metrics.committed(started.elapsed());
        Ok(())
    }

    async fn read_aggregates(
        &self,
        vbucket: Vbucket,
        tabs: &[String],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let what = "read all-clients states";
        let fill = |command: &mut Cmd| {
            command.arg(tabs);
        };
        self.read(what, vbucket, &scripts::READ_AGGREGATES, fill, states(tabs.len())).await
    }

    async fn read_clients(
        &self,
        vbucket: Vbucket,
        tab: &str,
        clients: Option<&[String]>,
    ) -> Result<ClientStates, StoreError> {
        let fill = |command: &mut Cmd| {
            command.arg(tab).arg(u8::from(clients.is_some())).arg(clients.unwrap_or_default());
        };
        let decode = |answer| {
            let [mark, states] = reply::exactly(answer)?;
            let state = |(client, state)| Ok((reply::text(client)?, reply::bytes(state)?));
            let states: Result<Vec<_>, CallError> = reply::pairs(states)?.into_iter().map(state).collect();
            let mut states = states?;
            states.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            Ok(ClientStates { mark: EntryId(reply::number(&mark)?), states })
        };
        self.read("read states of clients", vbucket, &scripts::READ_CLIENTS, fill, decode).await
    }

    async fn read_pairs(
        &self,
        vbucket: Vbucket,
        pairs: &[(String, String)],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let fill = |command: &mut Cmd| {
            for (tab, client) in pairs {
                command.arg(tab).arg(client);
            }
        };
        let what = "read states of pairs";
        self.read(what, vbucket, &scripts::READ_PAIRS, fill, states(pairs.len())).await
    }

    async fn count_clients(&self, vbucket: Vbucket, tab: &str) -> Result<usize, StoreError> {
        let fill = |command: &mut Cmd| {
            command.arg(tab);
        };
        self.read("count clients", vbucket, &scripts::COUNT, fill, |answer| count(&answer)).await
    }

    async fn count_tabs(&self, vbucket: Vbucket) -> Result<usize, StoreError> {
        let fill = |command: &mut Cmd| {
            command.arg("");
        };
        self.read("count tabs", vbucket, &scripts::COUNT, fill, |answer| count(&answer)).await
    }

    async fn list_tabs(
        &self,
        vbucket: Vbucket,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TabInfo>, StoreError> {
        let fill = |command: &mut Cmd| {
            command.arg(after.unwrap_or_default()).arg(limit.min(NAMES_MAX));
        };
        let decode = |answer| {
            let [names, heads] = reply::exactly(answer)?;
            let rows = reply::texts(names)?.into_iter().zip(reply::list(heads)?);
            rows.map(|(name, head)| Ok(TabInfo { name, tab_type: tab_type(head)? })).collect()
        };
        self.read("list tabs", vbucket, &scripts::LIST_TABS, fill, decode).await
    }

    async fn list_clients(
        &self,
        vbucket: Vbucket,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let fill = |command: &mut Cmd| {
            command.arg(after.unwrap_or_default()).arg(limit.min(NAMES_MAX));
        };
        self.read("list clients", vbucket, &scripts::LIST_CLIENTS, fill, reply::texts).await
    }

    async fn list_tabs_of_client(&self, vbucket: Vbucket, client: &str) -> Result<Vec<String>, StoreError> {
        let fill = |command: &mut Cmd| {
            command.arg(client);
        };
        self.read("list tabs of a client", vbucket, &scripts::LIST_TABS_OF_CLIENT, fill, reply::texts).await
    }

    async fn queue_depth(&self, vbucket: Vbucket) -> Result<QueueDepth, StoreError> {
        let decode = |answer| {
            let [entries, bytes] = &reply::exactly::<2>(answer)?;
            Ok(QueueDepth { entries: reply::number(entries)?, bytes: reply::number(bytes)? })
        };
        self.read("measure a queue", vbucket, &scripts::QUEUE_DEPTH, |_| {}, decode).await
    }

    async fn discard_queue(&self, vbucket: Vbucket) -> Result<u64, StoreError> {
        let shard = self.shard_of(vbucket)?;
        let answer = shard.call_durably(&scripts::DISCARD_QUEUE, |command| {
            command.arg(vbucket.0);
        });
        let dropped = answer.await.and_then(|answer| reply::number(&answer));
        dropped.map_err(|error| error.on("discard a queue", vbucket))
    }

    async fn wait_for_entries(&self, vbucket: Vbucket, after: EntryId) {
        if let Ok(shard) = self.shard_of(vbucket) {
            shard.arrivals.wait(vbucket, after).await;
        }
    }
}

fn marks(aggregates: &Value, clients: &Value) -> Result<Marks, CallError> {
    let (aggregates, clients) = (reply::number(aggregates)?, reply::number(clients)?);
    Ok(Marks { aggregates: EntryId(aggregates), clients: EntryId(clients) })
}

fn count(answer: &Value) -> Result<usize, CallError> {
    Ok(usize::try_from(reply::number(answer)?).unwrap_or(usize::MAX))
}

fn tab_type(head: Value) -> Result<TabType, CallError> {
    State::peek_type(&reply::bytes(head)?).map_err(|_| CallError::Unexpected("not the head of a state"))
}

/// Reads as many states as were asked for.
fn states(asked: usize) -> impl Fn(Value) -> Result<Vec<Option<Bytes>>, CallError> {
    move |answer| {
        let states = reply::list(answer)?;
        if states.len() != asked {
            return Err(CallError::Unexpected("another number of states than asked for"));
        }
        states.into_iter().map(reply::optional_bytes).collect()
    }
}
