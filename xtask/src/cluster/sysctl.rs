//! The settings of the machine's kernel that a kubelet changes, as they were before it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::layout::Layout;

/// The kubelet wants these and sets them; they belong to no namespace.
const SETTINGS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

fn path(setting: &str) -> std::path::PathBuf {
    Path::new("/proc/sys").join(setting)
}

/// Writes the settings down.
pub fn remember(layout: &Layout) -> Result<()> {
    let lines = SETTINGS.iter().filter_map(|setting| {
        let value = fs::read_to_string(path(setting)).ok()?;
        Some(format!("{setting} {}\n", value.trim()))
    });
    fs::write(layout.folder().join("sysctl"), lines.collect::<String>()).context("failed to note settings")
}

/// Sets them again as they were; nothing if they were not written down, since then no kubelet ran either.
pub fn restore(layout: &Layout) -> Result<()> {
    let noted = fs::read_to_string(layout.folder().join("sysctl")).unwrap_or_default();
    for (setting, value) in noted.lines().filter_map(|line| line.split_once(' ')) {
        let now = fs::read_to_string(path(setting)).unwrap_or_default();
        if now.trim() != value {
            fs::write(path(setting), value).with_context(|| format!("failed to restore {setting}"))?;
        }
    }
    Ok(())
}
