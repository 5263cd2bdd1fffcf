//! The embedded store: everything in one folder of one machine, for `taba standalone`.
//!
//! ```text
//! accept ─▶ writer thread ─▶ log segments (synced in groups) ─▶ queues in memory ─▶ read_queue
//! commit ─▶ state database: states, lists and marks in one transaction ─▶ entries dropped
//! ```
//!
//! Two kinds of bytes, two homes. Parts are written once, read once and dropped, so they go to a log of
//! our own: appending costs the copy and the sync. States are overwritten and looked up, so they live in
//! a B-tree database.
//!
//! Why both agree after any crash: marks change only together with the states, in one transaction of the
//! database, and an owner commits only entries it read, which were durable in the log before. So the
//! marks never run ahead of the log. The other way round, a segment is deleted only when no entry in it
//! waits any more and a checkpoint made the marks that say so durable, together with the producers'
//! sequences that the segment's records stood for. So every entry behind durable marks is in the log.
//!
//! Locks are taken in this order, each held briefly except the first two: lease of the vbucket, state
//! database, log, producers, queue.

mod folder;
mod lease;
mod log;
mod metrics;
mod producers;
mod queue;
mod record;
mod recovery;
mod shared;
mod states;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use taba_core::{Timestamp, VbucketCount};
use tokio::sync::mpsc;

pub use metrics::StoreMetrics;

use shared::Shared;
use writer::Request;

/// Reads the store's clock.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What an embedded store is opened with.
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// How many vbuckets. Fixed when the folder is made.
    pub vbuckets: VbucketCount,
    /// Most bytes the queue may take on disk, counting 128 bytes of memory for each waiting entry.
    /// Beyond it batches are refused. Defaults to 2 GiB: 25 s of 80 MB/s.
    pub queue_bytes_max: u64,
    /// Bytes of disk left free for states; batches are refused when less is free, because only a commit
    /// of states can empty the queue. Defaults to 256 MiB.
    pub disk_reserve_bytes: u64,
    /// Memory for the newest blocks of the queue, in bytes. Defaults to 64 MiB, about a second at the
    /// highest rate; owners that lag further read from disk.
    pub newest_bytes_max: usize,
    /// Memory for pages of the state database, in bytes. Defaults to 256 MiB.
    pub cache_bytes: usize,
    /// How long a producer is remembered after its last batch. Defaults to 48 h; producers retry a batch
    /// for at most 24 h.
    pub producer_retention: Duration,
    /// Most producers remembered; batches of further ones are refused until old ones are forgotten.
    /// Defaults to 1,000,000: about 300 MB when all are in use.
    pub producers_max: usize,
    /// Bytes after which a log segment is sealed. `None`, the default: an eighth of `queue_bytes_max`
    /// between 4 KiB and 64 MiB, so that a bounded queue frees its room in pieces.
    pub segment_bytes: Option<u64>,
    /// The store's clock: dates entries, ends leases.
    pub clock: Clock,
}

impl EmbeddedOptions {
    /// The defaults, for this many vbuckets.
    #[must_use]
    pub fn new(vbuckets: VbucketCount) -> Self {
        Self {
            vbuckets,
            queue_bytes_max: 2 << 30,
            disk_reserve_bytes: 256 << 20,
            newest_bytes_max: 64 << 20,
            cache_bytes: 256 << 20,
            producer_retention: Duration::from_secs(48 * 3600),
            producers_max: 1_000_000,
            segment_bytes: None,
            clock: Arc::new(crate::clock::now),
        }
    }

    fn segment_bytes(&self) -> u64 {
        self.segment_bytes.unwrap_or((self.queue_bytes_max / 8).clamp(4 << 10, 64 << 20))
    }
}

/// Why a folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another store of this one, has it open.
    #[error("{} is in use by another process", .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A newer program wrote it, or it is no folder of ours.
    #[error("the folder has an unknown format: {found:?}")]
    UnknownFormat {
        /// The first line of its format file.
        found: String,
    },
    /// It was made with another vbucket count.
    #[error("the folder was made with {stored} vbuckets, not {asked}")]
    OtherVbuckets {
        /// The folder's count.
        stored: u16,
        /// The count asked for.
        asked: u16,
    },
    /// The operating system refused.
    #[error("failed to {what}")]
    Folder {
        /// What was tried.
        what: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The state database could not be opened.
    #[error("failed to open the state database")]
    States {
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Bytes that were durable cannot be read.
    #[error("stored bytes are corrupt: {what}")]
    Corrupt {
        /// Which bytes.
        what: String,
    },
}

/// A store in a folder of this machine. Dropping it waits for the group being written.
pub struct Embedded {
    shared: Arc<Shared>,
    // `None` only while dropping: closing the channel ends the writer.
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Opens the folder, making it if there is none, and reads the whole queue log. Blocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, options: EmbeddedOptions) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared::open(path, options)?);
        let (requests, writer) = writer::start(Arc::clone(&shared))
            .map_err(|source| OpenError::Folder { what: "start the writer thread", source })?;
        Ok(Self { shared, requests: Some(requests), writer: Some(writer) })
    }

    /// What the store counts.
    #[must_use]
    pub fn metrics(&self) -> &StoreMetrics {
        &self.shared.metrics
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer thread of the store panicked");
        }
    }
}

/// Whether an error says that there was no room: on the disk, in a quota, or under a file size limit.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
