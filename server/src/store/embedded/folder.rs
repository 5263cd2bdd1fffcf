//! The store's folder: who may use it, and whether this program can read it.
//!
//! ```text
//! FORMAT        version of the layout and the vbucket count, written once
//! LOCK          held by the one process that uses the folder
//! log/          segments of the queue log
//! states.redb   marks, states, lists and producers
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use taba_core::VbucketCount;

use super::OpenError;

const VERSION: u32 = 1;

/// A locked folder of the right format; unlocked when dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    // The lock is the open file's; the operating system frees it when the process dies.
    _lock: File,
}

impl Folder {
    /// Makes the folder if there is none, locks it and checks what it was made with.
    pub(super) fn open(path: &Path, vbuckets: VbucketCount) -> Result<Self, OpenError> {
        let failed = |what: &'static str| move |source| OpenError::Folder { what, source };
        fs::create_dir_all(path.join("log")).map_err(failed("make the folder"))?;
        let lock = File::create(path.join("LOCK")).map_err(failed("open the lock file"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed("lock the folder")(source)),
        }
        let folder = Self { path: path.to_owned(), _lock: lock };
        match fs::read_to_string(folder.format_path()) {
            Ok(text) => check_format(&text, vbuckets)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                folder.write_format(vbuckets).map_err(failed("write the format file"))?;
            }
            Err(error) => return Err(failed("read the format file")(error)),
        }
        Ok(folder)
    }

    /// Where the log's segments are.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where the states are.
    pub(super) fn states(&self) -> PathBuf {
        self.path.join("states.redb")
    }

    fn format_path(&self) -> PathBuf {
        self.path.join("FORMAT")
    }

    /// Written beside and renamed, so that a crash leaves either no format file or a whole one.
    fn write_format(&self, vbuckets: VbucketCount) -> io::Result<()> {
        let draft = self.path.join("FORMAT.new");
        let mut file = File::create(&draft)?;
        writeln!(file, "taba-embedded {VERSION}\nvbuckets {}", vbuckets.get())?;
        file.sync_all()?;
        fs::rename(&draft, self.format_path())?;
        sync_dir(&self.path)
    }
}

/// Makes names created or removed in a folder durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn check_format(text: &str, vbuckets: VbucketCount) -> Result<(), OpenError> {
    let mut lines = text.lines();
    let version = lines.next().and_then(|line| line.strip_prefix("taba-embedded "));
    let stored = lines.next().and_then(|line| line.strip_prefix("vbuckets ")?.parse::<u16>().ok());
    let unknown = || OpenError::UnknownFormat { found: text.lines().next().unwrap_or("").to_owned() };
    if version != Some(VERSION.to_string().as_str()) {
        return Err(unknown());
    }
    let stored = stored.ok_or_else(unknown)?;
    if stored != vbuckets.get() {
        return Err(OpenError::OtherVbuckets { stored, asked: vbuckets.get() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(vbuckets: u16) -> VbucketCount {
        VbucketCount::new(vbuckets).expect("a valid count")
    }

    #[test]
    fn a_folder_is_used_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Folder::open(dir.path(), count(4)).unwrap();
        assert!(matches!(Folder::open(dir.path(), count(4)), Err(OpenError::InUse { .. })));
        drop(first);
        Folder::open(dir.path(), count(4)).unwrap();
    }

    #[test]
    fn the_vbucket_count_and_version_of_a_folder_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        drop(Folder::open(dir.path(), count(4)).unwrap());
        let other = Folder::open(dir.path(), count(8));
        assert!(matches!(other, Err(OpenError::OtherVbuckets { stored: 4, asked: 8 })));
        fs::write(dir.path().join("FORMAT"), "taba-embedded 2\nvbuckets 4\n").unwrap();
        assert!(matches!(Folder::open(dir.path(), count(4)), Err(OpenError::UnknownFormat { .. })));
    }
}
