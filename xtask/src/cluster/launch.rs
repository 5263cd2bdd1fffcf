//! Starting a program of the cluster: in its control group, in its namespaces, in a session of its own, with
//! its output in a file.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::cgroup;
use super::layout::Layout;
use crate::process;

/// Enters the groups before it becomes the program, so that nothing ever runs outside of them.
const ENTER: &str = r#"
while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit 1; shift; done
shift
exec "$@"
"#;

/// Memory is there, cores are not: what is written in Go collects its garbage more rarely.
const GOGC: &str = "400";

/// The group of tools that look into the cluster. A kubectl that outlives us would keep a namespace open.
const TOOLS: &str = "control/tools";

/// A command inside of the network namespace of a process, and of its mounts if it is a node's.
pub fn tool(inside: u32, mounts: bool) -> Result<Command> {
    let mut command = in_group(TOOLS)?;
    command.env("GOGC", GOGC).args(["nsenter", "--target", &inside.to_string(), "--net"]);
    if mounts {
        command.arg("--mount");
    }
    Ok(command)
}

/// A command that continues in a group; the words of the program are still to be added.
fn in_group(group: &str) -> Result<Command> {
    let mut command = process::program("sh");
    command.args(["-c", ENTER, "sh"]).args(cgroup::ensure(group)?).arg("--");
    Ok(command)
}

/// A launched program. It outlives us; the handle only tells whether it died at once.
#[derive(Debug)]
pub struct Launched {
    child: Child,
    group: String,
    log: std::path::PathBuf,
}

/// Starts a program in a group such as `node1/kubelet`, in the namespaces of a process if one is given.
pub fn launch(layout: &Layout, group: &str, inside: Option<u32>, words: &[String]) -> Result<Launched> {
    let log = layout.log(group);
    fs::create_dir_all(log.parent().unwrap_or(Path::new("/")))
        .context("failed to make the folder of logs")?;
    let output = File::create(&log).with_context(|| format!("failed to make {}", log.display()))?;
    let mut command = in_group(group)?;
    command.arg("setsid");
    if let Some(holder) = inside {
        command.args(["nsenter", "--target", &holder.to_string(), "--net", "--mount"]);
    }
    command
        .args(words)
        .env("GOGC", GOGC)
        // All nodes together have the machine's cores: threads of one node that look for work only take them away.
        .envs(group.starts_with("node").then_some(("GOMAXPROCS", "1")))
        .stdout(output.try_clone().context("failed to share a log")?)
        .stderr(Stdio::from(output));
    let child = command.spawn().with_context(|| format!("failed to start {group}"))?;
    Ok(Launched { child, group: group.to_owned(), log })
}

impl Launched {
    /// An error with the end of its output, if the program is dead.
    pub fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait().context("failed to look after a program")? else {
            return Ok(());
        };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n");
        bail!("{} ended with {status}; {} ends with:\n{tail}", self.group, self.log.display())
    }
}
