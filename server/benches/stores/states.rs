//! The states: commits that overwrite many, and point reads among 300,000.

use std::path::Path;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::ReadableDatabase;

use crate::{cpu_secs, disk_megabytes, quantile, random_bytes};

const STORED: usize = 300_000;
const COMMIT: usize = 30_000;
/// One vbucket's share of a commit of 30,000 over 64.
const SMALL_COMMIT: usize = 470;
const ROUNDS: usize = 5;
const READS: usize = 30_000;

/// A store of states by key.
pub trait States {
    /// Overwrites states; durably if `sync`.
    fn commit(&self, states: &mut dyn Iterator<Item = (String, &[u8])>, sync: bool);
    /// Bytes of a state.
    fn read(&self, key: &str) -> usize;
}

type Open = fn(&Path) -> Box<dyn States>;

pub const CONTENDERS: [(&str, Open); 3] = [
    ("redb", |path| Box::new(Redb(redb::Database::create(path.join("states.redb")).unwrap()))),
    ("fjall", |path| Box::new(Fjall::open(path, false))),
    ("fjall, values apart", |path| Box::new(Fjall::open(path, true))),
];

pub fn run(name: &str, open: Open) {
    let dir = tempfile::tempdir().unwrap();
    let states = open(dir.path());
    let mut random = StdRng::seed_from_u64(1);
    let values: Vec<Vec<u8>> = (0..64).map(|n| random_bytes(&mut random, 1000 + n * 31)).collect();
    let value = |n: usize| values[n % values.len()].as_slice();
    for first in (0..STORED).step_by(COMMIT) {
        states.commit(&mut (first..first + COMMIT).map(|n| (key(n), value(n))), true);
    }
    let cpu = cpu_secs();
    let commit = |round: usize, count: usize, sync: bool| {
        let started = Instant::now();
        states.commit(&mut (0..count).map(|n| (key(n * 7 % STORED), value(n + round))), sync);
        started.elapsed().as_secs_f64() * 1e3
    };
    let median = |count: usize, sync: bool| {
        let mut times: Vec<f64> = (0..ROUNDS).map(|round| commit(round, count, sync)).collect();
        times.sort_by(f64::total_cmp);
        quantile(&times, 0.5)
    };
    let (loose, synced, small) = (median(COMMIT, false), median(COMMIT, true), median(SMALL_COMMIT, false));
    let cpu = (cpu_secs() - cpu) * 1e3 / ((2 * COMMIT + SMALL_COMMIT) * ROUNDS) as f64 * 1e3;
    let mut reads: Vec<f64> = (0..READS).map(|_| read(&*states, random.random_range(0..STORED))).collect();
    reads.sort_by(f64::total_cmp);
    println!(
        "| {name} | {loose:.0} | {synced:.0} | {small:.1} | {cpu:.1} | {:.1} | {:.1} | {:.0} |",
        quantile(&reads, 0.5) * 1e6,
        quantile(&reads, 0.99) * 1e6,
        disk_megabytes(dir.path()),
    );
}

fn read(states: &dyn States, n: usize) -> f64 {
    let key = key(n);
    let started = Instant::now();
    assert!(states.read(&key) >= 1000);
    started.elapsed().as_secs_f64()
}

fn key(n: usize) -> String {
    format!("{:02}requests.by.route.{:05}/host{:03}", n % 64, n / 100, n % 100)
}

struct Redb(redb::Database);

const TABLE: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("states");

impl States for Redb {
    fn commit(&self, states: &mut dyn Iterator<Item = (String, &[u8])>, sync: bool) {
        let mut write = self.0.begin_write().unwrap();
        let durability = if sync { redb::Durability::Immediate } else { redb::Durability::None };
        write.set_durability(durability).unwrap();
        write.set_quick_repair(sync);
        let mut table = write.open_table(TABLE).unwrap();
        for (key, state) in states {
            table.insert(key.as_str(), state).unwrap();
        }
        drop(table);
        write.commit().unwrap();
    }

    fn read(&self, key: &str) -> usize {
        let table = self.0.begin_read().unwrap().open_table(TABLE).unwrap();
        table.get(key).unwrap().unwrap().value().len()
    }
}

struct Fjall {
    database: fjall::Database,
    keyspace: fjall::Keyspace,
}

impl Fjall {
    fn open(path: &Path, values_apart: bool) -> Self {
        let database = fjall::Database::builder(path).open().unwrap();
        let separation = values_apart.then(fjall::KvSeparationOptions::default);
        let options = || fjall::KeyspaceCreateOptions::default().with_kv_separation(separation.clone());
        let keyspace = database.keyspace("states", options).unwrap();
        Self { database, keyspace }
    }
}

impl States for Fjall {
    fn commit(&self, states: &mut dyn Iterator<Item = (String, &[u8])>, sync: bool) {
        let mut write = self.database.batch().durability(sync.then_some(fjall::PersistMode::SyncData));
        for (key, state) in states {
            write.insert(&self.keyspace, key, state);
        }
        write.commit().unwrap();
    }

    fn read(&self, key: &str) -> usize {
        self.keyspace.get(key).unwrap().unwrap().len()
    }
}
