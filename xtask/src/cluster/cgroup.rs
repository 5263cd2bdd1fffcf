//! Control groups as the record of what the cluster runs, and the means to end all of it.
//!
//! On a machine with version 1 every controller has a tree of its own, and the group is made in each; with
//! version 2 there is one. Where both are, only the first is ours. A process that starts another leaves it in its
//! own group unless the kubelet moves it to a pod's, which is below ours too, so `kill_all` reaches what containerd
//! left behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// Our group in every tree.
const GROUP: &str = "taba";
/// Killed processes may still be in the kernel for a moment.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// Where the trees are mounted.
fn trees() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("failed to read the mounts")?;
    let trees = trees_of(&mounts);
    if trees.is_empty() {
        bail!("no control groups are mounted below /sys/fs/cgroup");
    }
    Ok(trees)
}

fn trees_of(mounts: &str) -> Vec<PathBuf> {
    let of = |version: &str| {
        let lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines.filter(|words| words.len() > 2 && words[2] == version).map(|words| words[1].into()).collect()
    };
    let first: Vec<_> = of("cgroup");
    if first.is_empty() { of("cgroup2") } else { first }
}

/// The kubelet's name for a node's group.
pub fn of_node(name: &str) -> String {
    format!("/{GROUP}/{name}")
}

/// Makes a group in every tree and gives its folders.
pub fn ensure(group: &str) -> Result<Vec<PathBuf>> {
    trees()?.into_iter().map(|tree| ensure_in(&tree, group)).collect()
}

fn ensure_in(tree: &Path, group: &str) -> Result<PathBuf> {
    let mut folder = tree.to_owned();
    for part in Path::new(GROUP).join(group).components() {
        let parent = folder.clone();
        folder.push(part);
        if folder.is_dir() {
            continue;
        }
        fs::create_dir(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        // In version 1 a group without processors and memory nodes takes no process.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let inherited = fs::read_to_string(parent.join(file)).unwrap_or_default();
            if !inherited.trim().is_empty() {
                fs::write(folder.join(file), inherited).with_context(|| format!("failed to set {file}"))?;
            }
        }
    }
    Ok(folder)
}

/// The process with the lowest id in a group: the one that was started there.
pub fn first_process(group: &str) -> Option<u32> {
    let trees = trees().ok()?;
    let folders = trees.iter().map(|tree| tree.join(GROUP).join(group));
    folders.flat_map(|folder| processes_in(&folder)).min()
}

/// Whether anything of us is there, alive or not.
pub fn exists() -> bool {
    trees().is_ok_and(|trees| trees.iter().any(|tree| tree.join(GROUP).exists()))
}

/// Ends every process below our group.
pub fn kill_all() -> Result<()> {
    kill_below("", "").map(|_| ())
}

/// Ends every process of a group and of those below it, except in groups named `spared`; whether there was any.
pub fn kill_below(group: &str, spared: &str) -> Result<bool> {
    let end = Instant::now() + END_PATIENCE;
    let mut had_any = false;
    loop {
        let mut processes = BTreeSet::new();
        for tree in trees()? {
            let folders = folders_below(&tree.join(GROUP).join(group)).into_iter();
            let chosen = folders.filter(|folder| folder.file_name().is_none_or(|name| name != spared));
            processes.extend(chosen.flat_map(|folder| processes_in(&folder)));
        }
        if processes.is_empty() {
            return Ok(had_any);
        }
        if Instant::now() > end {
            bail!("processes {processes:?} do not end");
        }
        had_any = true;
        // Again and again, since a process may start another between the look and the blow.
        kill(&processes);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Kills what runs in a pod, once, but not the process that holds its sandbox; whether there was anything. The
/// kubelet starts its containers again.
pub fn kill_pod(uid: &str) -> Result<bool> {
    let name = format!("pod{uid}");
    let mut processes = BTreeSet::new();
    for tree in trees()? {
        let folders = folders_below(&tree.join(GROUP)).into_iter();
        let of_pod = folders.filter(|folder| folder.iter().any(|part| part == name.as_str()));
        processes.extend(of_pod.flat_map(|folder| processes_in(&folder)));
    }
    let is_pause = |process: &u32| {
        let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        name.trim() == "pause"
    };
    processes.retain(|process| !is_pause(process));
    kill(&processes);
    Ok(!processes.is_empty())
}

fn kill(processes: &BTreeSet<u32>) {
    let ids = processes.iter().map(u32::to_string);
    process::succeeds(process::program("sh").args(["-c", "kill -9 \"$@\"", "sh"]).args(ids));
}

/// Removes our groups, which must be empty.
pub fn remove_all() -> Result<()> {
    let end = Instant::now() + END_PATIENCE;
    for tree in trees()? {
        for folder in folders_below(&tree.join(GROUP)) {
            // The kernel lets go of a group a little after its last process.
            while let Err(error) = fs::remove_dir(&folder) {
                if Instant::now() > end {
                    return Err(error).with_context(|| format!("failed to remove {}", folder.display()));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    Ok(())
}

fn processes_in(folder: &Path) -> Vec<u32> {
    let ids = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    ids.lines().filter_map(|line| line.parse().ok()).collect()
}

/// A folder and all below it, the deepest first.
fn folders_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let children = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut folders: Vec<_> = children.flat_map(|entry| folders_below(&entry.path())).collect();
    folders.push(folder.to_owned());
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_of_one_version_are_found_and_nothing_else() {
        let second = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        assert_eq!(trees_of(second), [Path::new("/sys/fs/cgroup")]);
        let both = "cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n\
                    cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\ntmpfs /sys/fs/cgroup tmpfs rw 0 0\n";
        assert_eq!(trees_of(both), [Path::new("/sys/fs/cgroup/pids")]);
    }

    #[test]
    fn folders_come_after_all_that_is_in_them() {
        let top = std::env::temp_dir().join(format!("taba-folders-{}", std::process::id()));
        fs::create_dir_all(top.join("a/b")).expect("a temporary folder");
        let folders = folders_below(&top);
        fs::remove_dir_all(&top).expect("made above");
        assert_eq!(folders, [top.join("a/b"), top.join("a"), top]);
    }
}
