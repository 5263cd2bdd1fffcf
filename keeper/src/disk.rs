//! What a keeper must not forget: its promise, its shard, whether its data are whole on disk.
//!
//! One small JSON file, replaced as a whole and synced, so that it is either the old or the new one. A
//! promise is here before anyone is told of it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::shard::Position;

const FILE: &str = "keeper.json";
/// Empty; whose keeper has it locked may write to the folder.
const HOLD_FILE: &str = "keeper.lock";

/// The layout of the file.
const VERSION: u32 = 1;

/// Makes the folder this process's own as long as the file is open; none while another has it. Two that write one
/// append-only file ruin it, and two there can be: a pod that was deleted by force ends in its own time, while its
/// successor starts on the same volume.
pub fn hold(folder: &Path) -> Result<Option<File>, DiskError> {
    let path = folder.join(HOLD_FILE);
    let write = |source| DiskError::Write { path: path.clone(), source };
    fs::create_dir_all(folder).map_err(write)?;
    let file = File::create(&path).map_err(write)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        // Some network file systems have no locks, and nothing better.
        Err(TryLockError::Error(error)) => {
            tracing::warn!(%error, file = %path.display(), "the folder cannot be locked");
            Ok(Some(file))
        }
    }
}

/// What was promised last: to follow nobody of an older term.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// The term.
    pub term: u64,
    /// The member that asked for it.
    pub candidate: String,
}

/// A copy may be under way that is not on disk yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unsettled {
    /// The data on disk may be old, but nothing newer was ever acknowledged by this member: after a restart
    /// they count for what they are.
    Behind,
    /// This member may have acknowledged what is only in its memory: after a restart it does not count.
    Owing,
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notes {
    /// Layout.
    pub version: u32,
    /// See [`Promise`].
    pub promise: Promise,
    /// The shard this member belongs to.
    pub shard_id: Option<String>,
    /// Whether this member founded it.
    pub founded: bool,
    /// Set before Redis may begin to copy, removed when the copy is on disk.
    pub unsettled: Option<Unsettled>,
    /// The term in which this member last followed with settled data, and so may have acknowledged.
    pub settled_term: u64,
    /// An operator's fence.
    pub fenced: bool,
    /// A position that these data, settled, had some time ago, and that must be on disk since. A copy that
    /// has less after a restart has lost something.
    pub held: Position,
}

/// The notes cannot be read or written.
#[derive(Debug, Error)]
pub enum DiskError {
    /// Reading.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("understand {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Written by a newer keeper.
    #[error("{} has layout {version}, this keeper knows up to {VERSION}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        version: u32,
    },
    /// Writing.
    #[error("write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The notes and where they are kept.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    notes: Notes,
}

impl Disk {
    /// Reads the notes of this folder, which is made if there is none.
    pub fn open(folder: &Path) -> Result<Self, DiskError> {
        let path = folder.join(FILE);
        fs::create_dir_all(folder).map_err(|source| DiskError::Write { path: folder.to_owned(), source })?;
        let notes = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Notes>(&bytes)
                .map_err(|source| DiskError::Parse { path: path.clone(), source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Notes { version: VERSION, ..Notes::default() }
            }
            Err(source) => return Err(DiskError::Read { path, source }),
        };
        if notes.version > VERSION {
            return Err(DiskError::Newer { path, version: notes.version });
        }
        Ok(Self { folder: folder.to_owned(), notes })
    }

    /// The notes.
    #[must_use]
    pub const fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Changes the notes. They are on disk when this returns; on an error they are as before.
    pub fn change(&mut self, change: impl FnOnce(&mut Notes)) -> Result<(), DiskError> {
        let mut notes = self.notes.clone();
        change(&mut notes);
        if notes == self.notes {
            return Ok(());
        }
        // A few hundred bytes: the caller's thread is blocked for one fsync, at changes of role only.
        let path = self.folder.join(FILE);
        self.replace(&path, &notes).map_err(|source| DiskError::Write { path, source })?;
        self.notes = notes;
        Ok(())
    }

    fn replace(&self, path: &Path, notes: &Notes) -> io::Result<()> {
        let new = self.folder.join(format!("{FILE}.new"));
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(notes).map_err(io::Error::other)?)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(&self.folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_survive_and_a_change_that_cannot_be_written_is_not_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut disk = Disk::open(folder.path()).expect("opened");
        let promise = Promise { term: 7, candidate: "b".into() };
        disk.change(|notes| notes.promise = promise.clone()).expect("written");
        assert_eq!(Disk::open(folder.path()).expect("opened").notes(), disk.notes());

        fs::remove_dir_all(folder.path()).expect("removed");
        disk.change(|notes| notes.promise.term = 8).expect_err("no folder");
        assert_eq!(disk.notes().promise, promise);
    }

    #[test]
    fn a_folder_is_held_by_one_until_it_lets_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = hold(folder.path()).expect("locked").expect("free");
        assert!(hold(folder.path()).expect("looked at").is_none());
        drop(first);
        assert!(hold(folder.path()).expect("locked").is_some());
    }

    #[test]
    fn notes_of_a_newer_keeper_and_torn_ones_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(FILE), r#"{"version": 2}"#).expect("written");
        assert!(matches!(Disk::open(folder.path()), Err(DiskError::Newer { version: 2, .. })));
        fs::write(folder.path().join(FILE), r#"{"promise": "#).expect("written");
        assert!(matches!(Disk::open(folder.path()), Err(DiskError::Parse { .. })));
    }
}
