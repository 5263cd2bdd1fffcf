//! The spool: files in which acknowledged posts survive the end of the agent, however it ends.
//!
//! ```text
//! post ──▶ <run>-<n>.journal ──seal──▶ <run>-<n>-<k>.batch ──acknowledged──▶ removed
//! ```
//!
//! A journal holds the blocks of one flush period. Sealing writes its batches, each with its id, syncs
//! them, removes the journal and only then hands the batches over. So a journal that is still there was
//! never sent from: after a crash its batches, if any, are removed and it is sealed again under new ids.
//! A batch file without a journal may have been sent: it keeps its id and is sent again under it.
//!
//! A post is safe once its record is written: the kernel holds it, so it survives `kill -9`. Records are
//! not synced one by one; a power cut may take those of the last flush period.

mod batch_file;
mod journal;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use taba_client::delivery::{Body, SealedBatch};
use taba_core::Timestamp;
use tracing::{error, info, warn};

pub use self::journal::{Journal, Record};

use super::config::{ServerProtocol, SpoolConfig};
use super::gather::{Gather, Sealed};
use super::outgoing::Route;

/// Disk room that sealing takes besides the events: file heads, and blocks of 4 KiB that are not filled.
const DISK_SLACK_BYTES: u64 = 64 << 10;

/// A folder of journals and batch files, owned by one agent at a time.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    /// Random; tells the files of this run from those of earlier ones.
    run: u64,
    /// The next file number of this run.
    next: AtomicU64,
    bytes: AtomicU64,
    bytes_max: u64,
    events_ungathered: AtomicU64,
    /// Locked as long as the agent runs; the kernel unlocks it however it ends.
    _lock: File,
}

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A file operation did not work.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it did not work.
        #[source]
        source: io::Error,
    },
    /// Another agent runs on it.
    #[error("spool {} is in use by another agent", .0.display())]
    InUse(PathBuf),
    /// It holds events in the form of the other server protocol.
    #[error("{} was gathered for the other --server-protocol; deliver the spool with that one first", .0.display())]
    OtherProtocol(PathBuf),
}

/// What files are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Number {
    run: u64,
    journal: u64,
}

impl Spool {
    /// Opens a spool, makes its folder if need be, and gives back the batches of earlier runs, to be sent
    /// again.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn open(
        config: &SpoolConfig,
        protocol: ServerProtocol,
        now: Timestamp,
        next_id: impl FnMut() -> taba_core::BatchId,
    ) -> Result<(Self, Vec<SealedBatch>), SpoolError> {
        let dir = config.dir.clone();
        fs::create_dir_all(&dir).map_err(attempt("make folder", &dir))?;
        let lock_path = dir.join("lock");
        let lock = File::create(&lock_path).map_err(attempt("make lock file", &lock_path))?;
        if lock.try_lock().is_err() {
            return Err(SpoolError::InUse(dir));
        }
        let spool = Self {
            dir,
            run: rand::random(),
            next: AtomicU64::new(1),
            bytes: AtomicU64::new(0),
            bytes_max: config.bytes_max,
            events_ungathered: AtomicU64::new(0),
            _lock: lock,
        };
        spool.seal_old_journals(protocol, now, next_id)?;
        let batches = spool.read_batches(protocol, now)?;
        Ok((spool, batches))
    }

    /// Whether this many bytes more would fit, while `unsealed` bytes wait to be sealed. Sealing needs
    /// room beside the journals, and a disk full of journals could never be emptied by sending.
    #[must_use]
    pub fn has_room(&self, bytes: usize, unsealed: u64) -> bool {
        let bytes = bytes as u64;
        self.bytes.load(Ordering::Relaxed) + bytes <= self.bytes_max
            && self.disk_free().is_none_or(|free| 2 * bytes + unsealed + DISK_SLACK_BYTES <= free)
    }

    /// Bytes free on its disk, if the disk says; otherwise the write itself will tell.
    fn disk_free(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.dir).ok()?;
        Some(disk.f_bavail * disk.f_frsize)
    }

    /// Events in records of earlier runs that could not be gathered.
    #[must_use]
    pub fn events_ungathered(&self) -> u64 {
        self.events_ungathered.load(Ordering::Relaxed)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Appends a record to the journal of the flush period, which is made if there is none.
    ///
    /// # Errors
    /// The operating system's; the journal holds what it held before.
    pub fn append(
        &self,
        journal: &mut Option<Journal>,
        protocol: ServerProtocol,
        record: &Record<'_>,
    ) -> io::Result<()> {
        let journal = match journal {
            Some(journal) => journal,
            None => {
                let number = self.number();
                journal.insert(Journal::create(&self.journal_path(number), number.journal, protocol)?)
            }
        };
        let written = journal.append(record)?;
        self.bytes.fetch_add(written, Ordering::Relaxed);
        Ok(())
    }

    /// Writes the batches of a flush period and removes its journal. From then on they may be sent.
    ///
    /// # Errors
    /// The operating system's, and the journal, which is still there: none of its batches may be sent.
    pub fn seal_journal(
        &self,
        journal: Option<Journal>,
        route: Route,
        sealed: &[Sealed],
        now: Timestamp,
    ) -> Result<Vec<SealedBatch>, (Option<Journal>, io::Error)> {
        let number = match &journal {
            Some(journal) => Number { run: self.run, journal: journal.number() },
            None => self.number(),
        };
        match self.write_batches(number, route, sealed, now) {
            Ok(batches) => {
                if let Some(journal) = journal {
                    self.remove(&self.journal_path(number), journal.bytes());
                }
                Ok(batches)
            }
            Err(error) => Err((journal, error)),
        }
    }

    /// Writes a batch that is not from a journal.
    ///
    /// # Errors
    /// The operating system's; nothing is kept then.
    pub fn keep(&self, route: Route, sealed: Sealed, created: Timestamp) -> io::Result<SealedBatch> {
        let mut batches = self.write_batches(self.number(), route, &[sealed], created)?;
        Ok(batches.pop().expect("one batch was written"))
    }

    /// Removes a file whose content is safe elsewhere.
    pub fn remove(&self, path: &Path, bytes: u64) {
        if let Err(error) = fs::remove_file(path) {
            warn!(%error, path = %path.display(), "spool file cannot be removed; it will be sent again");
        }
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Removes the file of a resolved batch.
    pub fn forget(&self, batch: &SealedBatch) {
        if let Body::File { path, offset, bytes } = &batch.body {
            self.remove(path, offset + bytes);
        }
    }

    fn number(&self) -> Number {
        Number { run: self.run, journal: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    fn journal_path(&self, number: Number) -> PathBuf {
        self.dir.join(format!("{:016x}-{:010}.journal", number.run, number.journal))
    }

    fn batch_path(&self, number: Number, index: usize) -> PathBuf {
        self.dir.join(format!("{:016x}-{:010}-{index:06}.batch", number.run, number.journal))
    }

    /// Writes all of them or none.
    fn write_batches(
        &self,
        number: Number,
        route: Route,
        sealed: &[Sealed],
        created: Timestamp,
    ) -> io::Result<Vec<SealedBatch>> {
        let mut batches = Vec::with_capacity(sealed.len());
        let written = sealed.iter().enumerate().try_for_each(|(index, sealed)| {
            let path = self.batch_path(number, index);
            let file = batch_file::write(&path, route, sealed, created)?;
            self.bytes.fetch_add(file.file_bytes(), Ordering::Relaxed);
            batches.push(file.batch(path, crate::clock::now()));
            Ok(())
        });
        // The names must be on disk before the journal's name goes.
        match written.and_then(|()| File::open(&self.dir)?.sync_all()) {
            Ok(()) => Ok(batches),
            Err(error) => {
                batches.iter().for_each(|batch| self.forget(batch));
                Err(error)
            }
        }
    }

    fn seal_old_journals(
        &self,
        protocol: ServerProtocol,
        now: Timestamp,
        mut next_id: impl FnMut() -> taba_core::BatchId,
    ) -> Result<(), SpoolError> {
        let names = self.list()?;
        let journals: Vec<Number> = names.iter().filter_map(|name| parse_journal(name)).collect();
        for name in &names {
            let orphan = parse_batch(name).is_some_and(|number| journals.contains(&number));
            if orphan || name.ends_with(".tmp") {
                let path = self.dir.join(name);
                fs::remove_file(&path).map_err(attempt("remove", &path))?;
            }
        }
        for number in journals {
            let path = self.journal_path(number);
            let old = journal::read(&path).map_err(attempt("read", &path))?;
            if old.protocol.is_some_and(|found| found != protocol) {
                return Err(SpoolError::OtherProtocol(path));
            }
            let mut gather = Gather::new(protocol);
            for block in &old.blocks {
                if let Err(bad) = gather.add(block, now) {
                    self.events_ungathered.fetch_add(bad.events, Ordering::Relaxed);
                    error!(path = %path.display(), events = bad.events, "a record of the spool cannot be gathered; its events are lost");
                }
            }
            let events = gather.events();
            let sealed = gather.seal(now, &mut next_id);
            self.write_batches(number, Route::of(protocol), &sealed, now).map_err(attempt("seal", &path))?;
            fs::remove_file(&path).map_err(attempt("remove", &path))?;
            info!(path = %path.display(), events, torn_bytes = old.torn_bytes, "journal of an earlier run sealed");
        }
        Ok(())
    }

    fn read_batches(&self, protocol: ServerProtocol, now: Timestamp) -> Result<Vec<SealedBatch>, SpoolError> {
        self.bytes.store(0, Ordering::Relaxed);
        let mut batches = Vec::new();
        for name in self.list()? {
            if parse_batch(&name).is_none() {
                continue;
            }
            let path = self.dir.join(name);
            let Some(file) = batch_file::read(&path).map_err(attempt("read", &path))? else {
                warn!(path = %path.display(), "batch file is damaged; its events are lost");
                fs::remove_file(&path).map_err(attempt("remove", &path))?;
                continue;
            };
            if file.route() != Route::of(protocol) {
                return Err(SpoolError::OtherProtocol(path));
            }
            self.bytes.fetch_add(file.file_bytes(), Ordering::Relaxed);
            batches.push(file.batch(path, now));
        }
        // Oldest first, as they would have been sent.
        batches.sort_by_key(|batch| std::cmp::Reverse(batch.age));
        Ok(batches)
    }

    fn list(&self) -> Result<Vec<String>, SpoolError> {
        let failed = || attempt("list", &self.dir);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            names.extend(name.into_string());
        }
        names.sort_unstable();
        Ok(names)
    }
}

fn attempt(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    let path = path.to_owned();
    move |source| SpoolError::Io { what, path, source }
}

fn parse_journal(name: &str) -> Option<Number> {
    let (run, journal) = name.strip_suffix(".journal")?.split_once('-')?;
    Some(Number { run: u64::from_str_radix(run, 16).ok()?, journal: journal.parse().ok()? })
}

fn parse_batch(name: &str) -> Option<Number> {
    let (journal, _) = name.strip_suffix(".batch")?.rsplit_once('-')?;
    let (run, journal) = journal.split_once('-')?;
    Some(Number { run: u64::from_str_radix(run, 16).ok()?, journal: journal.parse().ok()? })
}

#[cfg(test)]
mod tests;
