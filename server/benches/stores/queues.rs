//! The queue: who takes batches fastest, and gives their room back.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use taba_core::{Part, Parts, Vbucket, VbucketCount};
use taba_server::store::embedded::{Embedded, EmbeddedOptions};
use taba_server::store::{Commit, EntryId, Marks, Store};

use crate::{cpu_secs, disk_megabytes, quantile, random_bytes};

const VBUCKETS: u16 = 64;
const BLOCK_BYTES: usize = 3125;
const CALLERS: u64 = 8;
const SECS: f64 = 4.0;
/// Batches in one group at most, as the embedded store's 8 MiB.
const GROUP_MAX: usize = 40;

type Batch = Vec<Vec<u8>>;

/// Takes one batch from any of several threads; returns when it is durable.
type Accept = Arc<dyn Fn(&Batch, &Parts) + Send + Sync>;

/// How to accept, and the thread to wait for when no one does any more.
type Contender = (Accept, Option<JoinHandle<()>>);

type Open = fn(&Path) -> Contender;

pub const CONTENDERS: [(&str, Open); 5] = [
    ("embedded (own log)", embedded),
    ("redb, record per batch", |path| grouped(Redb::open(path, false))),
    ("redb, record per block", |path| grouped(Redb::open(path, true))),
    ("fjall, record per batch", |path| grouped(Fjall::open(path, false))),
    ("fjall, record per block", |path| grouped(Fjall::open(path, true))),
];

pub fn run(name: &str, open: Open, batches_per_sec: u64) {
    let dir = tempfile::tempdir().unwrap();
    let (accept, writer) = open(dir.path());
    let (cpu, started) = (cpu_secs(), Instant::now());
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let accept = Arc::clone(&accept);
            std::thread::spawn(move || call(caller, batches_per_sec, &accept))
        })
        .collect();
    let mut waits: Vec<f64> = callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
    let elapsed = started.elapsed().as_secs_f64();
    drop(accept);
    if let Some(writer) = writer {
        writer.join().unwrap();
    }
    let cpu = cpu_secs() - cpu;
    waits.sort_by(f64::total_cmp);
    let megabytes = waits.len() as f64 * f64::from(VBUCKETS) * BLOCK_BYTES as f64 / 1e6;
    println!(
        "| {name} | {:.0} | {:.0} | {:.1} | {:.1} | {:.2} | {:.2} | {:.0} |",
        waits.len() as f64 / elapsed,
        megabytes / elapsed,
        quantile(&waits, 0.5) * 1e3,
        quantile(&waits, 0.99) * 1e3,
        cpu / megabytes * 1e3,
        cpu / elapsed,
        disk_megabytes(dir.path()),
    );
}

/// One caller: its share of the batches, each due at its time; returns how long each took, in seconds.
fn call(caller: u64, batches_per_sec: u64, accept: &Accept) -> Vec<f64> {
    let mut random = StdRng::seed_from_u64(caller);
    let batch: Batch = (0..VBUCKETS).map(|_| random_bytes(&mut random, BLOCK_BYTES)).collect();
    let parts = parts(&batch);
    let started = Instant::now();
    let mut waits = Vec::new();
    while started.elapsed().as_secs_f64() < SECS {
        if batches_per_sec > 0 {
            let turn = waits.len() as f64 + caller as f64 / CALLERS as f64;
            let due = Duration::from_secs_f64(turn * CALLERS as f64 / batches_per_sec as f64);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
        let sent = Instant::now();
        accept(&batch, &parts);
        waits.push(sent.elapsed().as_secs_f64());
    }
    waits
}

/// A batch as the embedded store takes it: one part in each vbucket.
fn parts(batch: &Batch) -> Parts {
    let vbuckets = VbucketCount::new(VBUCKETS).unwrap();
    let mut parts = Parts::new(vbuckets);
    for (vbucket, block) in vbuckets.iter().zip(batch) {
        let tab = (0..).map(|n| format!("tab{n}")).find(|tab| vbuckets.of(tab) == vbucket).unwrap();
        parts.push(&Part::State { tab: &tab, client: "client", events: 1, state: block });
    }
    parts
}

fn embedded(path: &Path) -> Contender {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let options = EmbeddedOptions::new(VbucketCount::new(VBUCKETS).unwrap());
    let store = Arc::new(Embedded::open(path, options).unwrap());
    runtime.spawn(consume(Arc::clone(&store)));
    let accept = move |_: &Batch, parts: &Parts| {
        runtime.block_on(store.accept(None, parts.clone())).unwrap();
    };
    (Arc::new(accept), None)
}

/// Reads every queue and moves its marks once a second, as an owner does without the states.
async fn consume(store: Arc<Embedded>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for vbucket in store.vbuckets().iter() {
            consume_one(&store, vbucket).await;
        }
    }
}

async fn consume_one(store: &Embedded, vbucket: Vbucket) {
    let lease = store.lease(vbucket, "owner", Duration::from_secs(60)).await.unwrap().unwrap();
    let entries = store.read_queue(vbucket, EntryId(0), usize::MAX).await.unwrap();
    if let Some(last) = entries.last() {
        let marks = Marks { aggregates: last.id, clients: last.id };
        store.commit(vbucket, lease.token, Commit { changes: Vec::new(), marks }).await.unwrap();
    }
}

/// A database that stores groups of batches.
trait Groups: Send + 'static {
    /// Stores batches under ids from `first` on, durably.
    fn store(&mut self, first: u64, group: &[Batch]);
    /// Drops the batches of these ids.
    fn drop_batches(&mut self, ids: std::ops::Range<u64>);
}

/// Puts the same group commit before a database that the embedded store has: one thread, one sync.
fn grouped(groups: impl Groups) -> Contender {
    type Waiting = (Batch, SyncSender<()>);
    let (sender, waiting): (SyncSender<Waiting>, Receiver<Waiting>) = sync_channel(64);
    let writer = std::thread::spawn(move || write_groups(groups, &waiting));
    let accept = move |batch: &Batch, _: &Parts| {
        let (done, stored) = sync_channel(1);
        sender.send((batch.clone(), done)).unwrap();
        stored.recv().unwrap();
    };
    (Arc::new(accept), Some(writer))
}

fn write_groups(mut groups: impl Groups, waiting: &Receiver<(Batch, SyncSender<()>)>) {
    let (mut next, mut kept_from, mut due) = (0_u64, 0_u64, 0_u64);
    let mut last_drop = Instant::now();
    while let Ok(first) = waiting.recv() {
        let (batches, done): (Vec<_>, Vec<_>) =
            std::iter::once(first).chain(waiting.try_iter().take(GROUP_MAX - 1)).unzip();
        groups.store(next, &batches);
        next += batches.len() as u64;
        done.into_iter().for_each(|done| done.send(()).unwrap());
        if last_drop.elapsed() > Duration::from_secs(1) {
            groups.drop_batches(kept_from..due);
            (kept_from, due, last_drop) = (due, next, Instant::now());
        }
    }
}

fn key(vbucket: usize, id: u64) -> [u8; 10] {
    let mut key = [0; 10];
    key[..2].copy_from_slice(&u16::try_from(vbucket).unwrap().to_be_bytes());
    key[2..].copy_from_slice(&id.to_be_bytes());
    key
}

/// The records of a batch: one, or one per block.
fn records(batch: &Batch, id: u64, per_block: bool) -> Vec<([u8; 10], Vec<u8>)> {
    if per_block {
        batch.iter().enumerate().map(|(vbucket, block)| (key(vbucket, id), block.clone())).collect()
    } else {
        vec![(key(0, id), batch.concat())]
    }
}

fn keys(ids: std::ops::Range<u64>, per_block: bool) -> impl Iterator<Item = [u8; 10]> {
    let vbuckets = if per_block { usize::from(VBUCKETS) } else { 1 };
    ids.flat_map(move |id| (0..vbuckets).map(move |vbucket| key(vbucket, id)))
}

struct Redb {
    database: redb::Database,
    per_block: bool,
}

const TABLE: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("queue");

impl Redb {
    fn open(path: &Path, per_block: bool) -> Self {
        Self { database: redb::Database::create(path.join("queue.redb")).unwrap(), per_block }
    }
}

impl Groups for Redb {
    fn store(&mut self, first: u64, group: &[Batch]) {
        let write = self.database.begin_write().unwrap();
        let mut table = write.open_table(TABLE).unwrap();
        for (id, batch) in (first..).zip(group) {
            for (key, record) in records(batch, id, self.per_block) {
                table.insert(&key[..], &record[..]).unwrap();
            }
        }
        drop(table);
        write.commit().unwrap();
    }

    fn drop_batches(&mut self, ids: std::ops::Range<u64>) {
        let mut write = self.database.begin_write().unwrap();
        write.set_durability(redb::Durability::None).unwrap();
        let mut table = write.open_table(TABLE).unwrap();
        for key in keys(ids, self.per_block) {
            table.remove(&key[..]).unwrap();
        }
        drop(table);
        write.commit().unwrap();
    }
}

struct Fjall {
    database: fjall::Database,
    keyspace: fjall::Keyspace,
    per_block: bool,
}

impl Fjall {
    fn open(path: &Path, per_block: bool) -> Self {
        let database = fjall::Database::builder(path).open().unwrap();
        // Large values apart from the tree, as its guide advises.
        let separation = (!per_block).then(fjall::KvSeparationOptions::default);
        let options = || fjall::KeyspaceCreateOptions::default().with_kv_separation(separation.clone());
        let keyspace = database.keyspace("queue", options).unwrap();
        Self { database, keyspace, per_block }
    }
}

impl Groups for Fjall {
    fn store(&mut self, first: u64, group: &[Batch]) {
        let mut write = self.database.batch().durability(Some(fjall::PersistMode::SyncData));
        for (id, batch) in (first..).zip(group) {
            for (key, record) in records(batch, id, self.per_block) {
                write.insert(&self.keyspace, key, record);
            }
        }
        write.commit().unwrap();
    }

    fn drop_batches(&mut self, ids: std::ops::Range<u64>) {
        let mut write = self.database.batch();
        keys(ids, self.per_block).for_each(|key| write.remove(&self.keyspace, key));
        write.commit().unwrap();
    }
}
