//! `taba-keeper install FOLDER`: copies this program into a folder, from which a container with another image
//! runs it. So any image of Redis will do, and ours needs no shell.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use clap::Parser;
use thiserror::Error;

/// The name under which it is found there.
const PROGRAM: &str = "taba-keeper";

/// Copies this program into a folder.
#[derive(Clone, Debug, Parser)]
#[command(name = "taba-keeper install")]
pub struct InstallArgs {
    /// The folder.
    pub folder: PathBuf,
}

/// The program was not copied.
#[derive(Debug, Error)]
#[error("copy this program to {}", path.display())]
pub struct InstallError {
    /// Where to.
    path: PathBuf,
    /// Why not.
    source: io::Error,
}

/// Copies this program. A copy that is there is replaced in one step: a container may be starting it.
///
/// # Errors
/// If it cannot be read or written.
pub fn install(folder: &Path) -> Result<PathBuf, InstallError> {
    let path = folder.join(PROGRAM);
    let failed = |source| InstallError { path: path.clone(), source };
    let part = folder.join(format!(".{PROGRAM}.part"));
    fs::copy(env::current_exe().map_err(failed)?, &part).map_err(failed)?;
    fs::rename(&part, &path).map_err(failed)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_copy_is_whole_and_runs_and_a_second_one_replaces_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = install(folder.path()).expect("copied");
        fs::write(&path, "old").expect("written");
        let path = install(folder.path()).expect("copied again");
        let own = fs::metadata(env::current_exe().expect("known")).expect("there");
        let copy = fs::metadata(&path).expect("there");
        assert_eq!(copy.len(), own.len());
        assert_ne!(copy.permissions().mode() & 0o111, 0, "it may be run");
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 1, "nothing else is left");
    }
}
