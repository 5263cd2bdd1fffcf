//! What happened when, in milliseconds since the start of a run: printed when a run fails.

use std::fmt;
use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Entries beyond this many are counted, not kept: a run has some hundreds.
const ENTRIES_MAX: usize = 20_000;

/// A record of what happened, shared by all threads of a run.
#[derive(Debug)]
pub struct Timeline {
    start: Instant,
    /// Also says everything at once, so that a run that is killed leaves its timeline too.
    aloud: bool,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    kept: Vec<(Duration, String)>,
    dropped: u64,
    violations: Vec<String>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { start: Instant::now(), aloud: false, entries: Mutex::default() }
    }
}

impl Timeline {
    /// A timeline that is also written to standard error as it grows.
    #[must_use]
    pub fn aloud() -> Self {
        Self { aloud: true, ..Self::default() }
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// When it began.
    #[must_use]
    pub fn start(&self) -> Instant {
        self.start
    }

    /// Notes what happens now.
    pub fn note(&self, what: impl Into<String>) {
        let what = what.into();
        let mut entries = self.entries.lock().expect("no holder of this lock panics");
        if entries.kept.len() < ENTRIES_MAX {
            if self.aloud {
                // A reader that is gone must not end a run.
                let _ = write!(std::io::stderr(), "{}", Line(self.elapsed(), &what));
            }
            entries.kept.push((self.elapsed(), what));
        } else {
            entries.dropped += 1;
        }
    }

    /// Notes something that must never happen; the run fails.
    pub fn violation(&self, what: impl Into<String>) {
        let what = what.into();
        self.note(format!("VIOLATION: {what}"));
        self.entries.lock().expect("no holder of this lock panics").violations.push(what);
    }

    /// Everything that must never happen and did.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.entries.lock().expect("no holder of this lock panics").violations.clone()
    }
}

struct Line<'a>(Duration, &'a str);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>7} ms  {}", self.0.as_millis(), self.1)
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries.lock().expect("no holder of this lock panics");
        for (at, what) in &entries.kept {
            write!(f, "{}", Line(*at, what))?;
        }
        if entries.dropped > 0 {
            writeln!(f, "and {} more", entries.dropped)?;
        }
        Ok(())
    }
}
