//! Clocks that jump: a small library, preloaded into the programs of a host, adds an offset that the lab
//! keeps in a file. Compiled at the start of a run, because it is C; without a compiler no clock jumps.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

const SOURCE: &str = include_str!("clock_shim.c");

/// The library that shifts clocks.
#[derive(Debug)]
pub struct Shim {
    library: PathBuf,
    folder: PathBuf,
}

impl Shim {
    /// Compiles it into `folder`.
    ///
    /// # Errors
    /// If there is no C compiler.
    pub fn build(folder: &Path) -> Result<Self> {
        let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
        std::fs::write(&source, SOURCE).context("write the clock library")?;
        let mut compile = Command::new("cc");
        compile.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
        let output = compile.stdin(Stdio::null()).output().context("run cc")?;
        if !output.status.success() {
            bail!("cc: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(Self { library, folder: folder.to_owned() })
    }

    /// The environment for programs of a host; its clock is right at first.
    ///
    /// # Errors
    /// If its file cannot be written.
    pub fn environment(&self, host: &str) -> Result<Vec<(String, String)>> {
        self.set(host, 0)?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Ok(vec![
            ("LD_PRELOAD".to_owned(), text(&self.library)),
            ("LAB_CLOCK".to_owned(), text(&self.file(host))),
        ])
    }

    /// Sets a host's clock to so many seconds ahead of (or behind) the true time.
    ///
    /// # Errors
    /// If its file cannot be written.
    pub fn set(&self, host: &str, seconds: i64) -> Result<()> {
        let file = std::fs::File::options().create(true).truncate(false).write(true).open(self.file(host));
        file.and_then(|file| file.write_all_at(&seconds.to_ne_bytes(), 0)).context("set a clock")
    }

    fn file(&self, host: &str) -> PathBuf {
        self.folder.join(format!("{host}.clock"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(environment: &[(String, String)]) -> i64 {
        let mut date = Command::new("date");
        let output = date.arg("+%s").envs(environment.iter().cloned()).output().expect("date runs");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("date prints seconds")
    }

    #[test]
    fn a_set_clock_shifts_the_time_of_programs() {
        let folder = tempfile::tempdir().expect("a folder");
        let shim = Shim::build(folder.path()).expect("there is a C compiler");
        let environment = shim.environment("host").expect("a file for its clock");
        let before = shown(&environment);
        shim.set("host", -5000).expect("it can be set");
        assert!((4900..=5000).contains(&(before - shown(&environment))));
    }
}
