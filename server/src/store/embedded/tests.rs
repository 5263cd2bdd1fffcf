//! The embedded store under the conformance suite; what only it promises stands in `crash` and `bounds`.

mod bounds;
mod crash;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use taba_core::{Timestamp, VbucketCount};
use tempfile::TempDir;

use super::{Embedded, EmbeddedOptions, OpenError};
use crate::store::Store;
use crate::store::conformance::{Factory, Subject};

/// A store in a temporary folder with a clock that stands unless it is moved.
struct TestStore {
    dir: TempDir,
    micros: Arc<AtomicI64>,
    options: EmbeddedOptions,
    // `None` only while it is being reopened.
    store: Option<Arc<dyn Store>>,
}

impl TestStore {
    fn new(vbuckets: VbucketCount, change: impl FnOnce(&mut EmbeddedOptions)) -> Self {
        let micros = Arc::new(AtomicI64::new(1_700_000_000_000_000));
        let clock = Arc::clone(&micros);
        let mut options = EmbeddedOptions::new(vbuckets);
        options.clock = Arc::new(move || Timestamp::from_micros(clock.load(Ordering::Relaxed)));
        options.cache_bytes = 4 << 20;
        change(&mut options);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = Some(open_when_free(dir.path(), &options));
        Self { dir, micros, options, store }
    }
}

/// Opens a folder that work of the store before may still hold for a moment.
fn open_when_free(path: &Path, options: &EmbeddedOptions) -> Arc<dyn Store> {
    let started = Instant::now();
    loop {
        match Embedded::open(path, options.clone()) {
            Ok(store) => return Arc::new(store),
            Err(OpenError::InUse { .. }) if started.elapsed() < Duration::from_secs(10) => {
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}: {error:?}"),
        }
    }
}

#[async_trait]
impl Subject for TestStore {
    fn store(&self) -> &Arc<dyn Store> {
        self.store.as_ref().expect("an open store")
    }

    async fn reopen(&mut self) {
        self.store = None;
        self.store = Some(open_when_free(self.dir.path(), &self.options));
    }

    async fn pass(&self, time: Duration) {
        self.micros.fetch_add(i64::try_from(time.as_micros()).expect("a short time"), Ordering::Relaxed);
    }
}

struct Defaults;

#[async_trait]
impl Factory for Defaults {
    async fn make(&self, vbuckets: VbucketCount) -> Box<dyn Subject> {
        Box::new(TestStore::new(vbuckets, |_| {}))
    }
}

mod with_blocks_in_memory {
    crate::store_conformance!(super::Defaults);
}

/// Segments of a few entries and no block in memory: every entry is read from disk, and segments are
/// sealed and deleted all the time.
struct Cramped;

#[async_trait]
impl Factory for Cramped {
    async fn make(&self, vbuckets: VbucketCount) -> Box<dyn Subject> {
        let cramp = |options: &mut EmbeddedOptions| {
            options.newest_bytes_max = 0;
            options.segment_bytes = Some(200);
        };
        Box::new(TestStore::new(vbuckets, cramp))
    }
}

mod with_blocks_on_disk {
    crate::store_conformance!(super::Cramped);
}
