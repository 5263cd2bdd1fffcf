//! No room: refusals while it lasts, nothing acknowledged lost, and work again without a restart.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, setrlimit};
use taba_core::Vbucket;
use taba_server::store::{Accepted, Commit, Marks, Store, StoreError, TabChange};

use crate::ledger::{self, Embedded};

const BATCH_BYTES: usize = 2000;
/// A vbucket of the ledger's tabs.
const V: Vbucket = Vbucket(0);

/// Takes room away and gives it back.
trait Room {
    fn take(&mut self);
    fn give_back(&mut self);
}

/// A limit on the size of files stands for a full disk where no file system can be mounted. It runs in a
/// child, because it holds for a whole process, and under a shell that ignores the signal it comes with.
pub fn a_file_size_limit_is_survived_without_a_restart() {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" child-limited"]).arg(std::env::current_exe().unwrap());
    let child = command.output().unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
}

pub fn limited_child() {
    let dir = tempfile::tempdir().unwrap();
    survive(dir.path(), &mut FileSizes);
}

struct FileSizes;

impl Room for FileSizes {
    fn take(&mut self) {
        setrlimit(Resource::Fsize, Rlimit { current: Some(8 << 10), maximum: None }).unwrap();
    }

    fn give_back(&mut self) {
        setrlimit(Resource::Fsize, Rlimit { current: None, maximum: None }).unwrap();
    }
}

/// A small file system of its own, filled up. Needs the right to mount; the test above needs none.
pub fn a_full_disk_is_survived_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut disk) = SmallDisk::mount(dir.path()) else {
        return a_file_size_limit_is_survived_without_a_restart();
    };
    let store = disk.path.join("store");
    survive(&store, &mut disk);
}

struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(path: &Path) -> Option<Self> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(path).output();
        mount.is_ok_and(|mount| mount.status.success()).then(|| Self { path: path.to_owned() })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.path).output());
    }
}

impl Room for SmallDisk {
    fn take(&mut self) {
        let mut ballast = fs::File::create(self.path.join("ballast")).unwrap();
        while ballast.write_all(&[0; 4096]).is_ok() {}
    }

    fn give_back(&mut self) {
        fs::remove_file(self.path.join("ballast")).unwrap();
    }
}

fn survive(path: &Path, room: &mut dyn Room) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut acknowledged = 0;
    runtime.block_on(async {
        let store = ledger::open(path);
        for _ in 0..3 {
            accept(&store, &mut acknowledged, 5).await;
            for vbucket in ledger::vbuckets().iter() {
                ledger::apply(&store, vbucket, 1 << 20, false).await.unwrap();
            }
            room.take();
            refuse_batches(&store, &mut acknowledged).await;
            refuse_commits(&store).await;
            room.give_back();
            accept(&store, &mut acknowledged, 5).await;
            commit_again(&store).await;
        }
        ledger::check(&store, &[acknowledged]).await;
        assert!(store.metrics().reopens.get() > 0, "the database never failed");
    });
    drop(runtime);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { ledger::check(&ledger::open(path), &[acknowledged]).await });
}

async fn accept(store: &Embedded, acknowledged: &mut u64, count: u64) {
    for _ in 0..count {
        let (id, parts) = ledger::batch(0, *acknowledged + 1, BATCH_BYTES);
        assert_eq!(store.accept(Some(&id), parts).await.unwrap(), Accepted::New);
        *acknowledged += 1;
    }
}

/// Sends batches until one finds no room; it is refused again and again, and duplicates are still told.
async fn refuse_batches(store: &Embedded, acknowledged: &mut u64) {
    let refused = loop {
        let (id, parts) = ledger::batch(0, *acknowledged + 1, BATCH_BYTES);
        match store.accept(Some(&id), parts).await {
            Ok(outcome) => assert_eq!(outcome, Accepted::New),
            Err(error) => break error,
        }
        *acknowledged += 1;
    };
    assert!(matches!(refused, StoreError::Full { what: "disk space" }), "{refused:?}");
    for _ in 0..20 {
        let (id, parts) = ledger::batch(0, *acknowledged + 1, BATCH_BYTES);
        let refused = store.accept(Some(&id), parts).await;
        assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
        let (id, parts) = ledger::batch(0, *acknowledged, BATCH_BYTES);
        assert_eq!(store.accept(Some(&id), parts).await.unwrap(), Accepted::Duplicate);
    }
}

/// Commits states of a megabyte until the database finds no room.
async fn refuse_commits(store: &Embedded) {
    let lease = ledger::own(store, V).await;
    let mut large = vec![0; 1 << 20];
    large[..2].copy_from_slice(&[1, 1]);
    let large = Bytes::from(large);
    // More than any room there is: the disk, or 64 MiB of it.
    for number in 0..64 {
        let tab = format!("large{number}");
        let change = TabChange { tab, aggregate: Some(large.clone()), clients: Vec::new(), delete: false };
        let commit = Commit { changes: vec![change], marks: Marks::default() };
        match store.commit(V, lease.token, commit).await {
            Ok(()) => {}
            Err(StoreError::Full { .. } | StoreError::Unavailable { .. }) => return,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("64 MiB fitted");
}

/// Waits until the database is open again; it tries at most once a second.
async fn commit_again(store: &Embedded) {
    let started = Instant::now();
    let names: Vec<String> = (0..64).map(|number| format!("large{number}")).collect();
    let delete =
        |tab: &String| TabChange { tab: tab.clone(), aggregate: None, clients: Vec::new(), delete: true };
    loop {
        let lease = ledger::own(store, V).await;
        let commit = Commit { changes: names.iter().map(delete).collect(), marks: Marks::default() };
        match store.commit(V, lease.token, commit).await {
            Ok(()) => return,
            Err(error) => assert!(started.elapsed() < Duration::from_secs(20), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
