//! Network and mount namespaces, and the wires between them.
//!
//! A namespace is held open by a sleeping process and has no name: when the process ends, so does the
//! namespace with its interfaces, routes, iptables rules and mounts.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use super::layout::{self, CONTROL_ADDRESS, Layout, SERVICES, node_address, node_name, pod_subnet};
use super::{cgroup, launch, wait_until};
use crate::process;

/// Makes the mounts the node's own: changes spread among its pods, but neither to nor from the outside.
/// `/run` is new, since containerd, crun and iptables all keep their state there under fixed names. crun takes no
/// machine with control groups of both versions, so a node has one.
const NODE_MOUNTS: &str = r#"
set -e
folder=$1
mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs /run
shift
while [ $# -gt 0 ]; do mkdir -p "$folder/$1" "$2"; mount --bind "$folder/$1" "$2"; shift 2; done
if mountpoint --quiet /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
echo 1 >/proc/sys/net/ipv4/ip_forward
touch /run/taba-ready
exec sleep infinity
"#;

/// Makes the namespace of the control plane and gives its holder.
pub fn make_control(layout: &Layout) -> Result<u32> {
    let words = ["unshare", "--net", "sleep", "infinity"].map(str::to_owned);
    let holder = hold(layout, "control/holder", &words, |_| true)?;
    let commands = format!(
        "link set lo up\nlink add nodes type bridge\naddr add {CONTROL_ADDRESS}/24 dev nodes\nlink set nodes up\n"
    );
    ip(holder, &commands)?;
    Ok(holder)
}

/// Makes the nodes' namespaces, joins them by the bridge and routes the pods' subnets.
pub fn join(layout: &Layout) -> Result<()> {
    let control = holder_of("control")?;
    for node in layout.nodes() {
        let holder = make_node(layout, node)?;
        let (name, address) = (node_name(node), node_address(node));
        ip(
            control,
            &format!(
                "link add {name} type veth peer name eth0 netns {holder}\nlink set {name} master nodes\n\
             link set {name} up\n"
            ),
        )?;
        // Services have no machine; the route only brings their packets to where kube-proxy turns them.
        let mut commands = format!(
            "link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 up\nroute add {SERVICES} dev eth0\n"
        );
        // Nothing answers for a pod that is gone, as in most clusters. An answer makes Sentinels spin.
        commands += &format!("route add blackhole {}\n", pod_subnet(node));
        for other in layout.nodes().filter(|&other| other != node) {
            commands += &format!("route add {} via {}\n", pod_subnet(other), node_address(other));
        }
        ip(holder, &commands)?;
        ip(control, &format!("route add {} via {address}\n", pod_subnet(node)))?;
    }
    Ok(())
}

fn make_node(layout: &Layout, node: u8) -> Result<u32> {
    let folder = layout.node_folder(node);
    std::fs::create_dir_all(&folder).context("failed to make a node's folder")?;
    let mut words =
        ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", NODE_MOUNTS, "sh"]
            .map(str::to_owned)
            .to_vec();
    words.push(folder.display().to_string());
    words.extend(layout::SHADOWED.iter().flat_map(|(own, over)| [(*own).to_owned(), (*over).to_owned()]));
    // The holder's own root, as the kernel shows it to others.
    let is_ready =
        |holder: u32| Path::new("/proc").join(holder.to_string()).join("root/run/taba-ready").exists();
    hold(layout, &format!("{}/holder", node_name(node)), &words, is_ready)
}

fn hold(layout: &Layout, group: &str, words: &[String], is_ready: impl Fn(u32) -> bool) -> Result<u32> {
    let own = std::fs::read_link("/proc/self/ns/net").context("failed to look at our own namespace")?;
    let mut started = launch::launch(layout, group, None, words)?;
    let mut holder = None;
    wait_until(&format!("the namespace of {group}"), || {
        started.check()?;
        holder = cgroup::first_process(group).filter(|holder| {
            let there = std::fs::read_link(format!("/proc/{holder}/ns/net"));
            there.is_ok_and(|there| there != own) && is_ready(*holder)
        });
        Ok(holder.is_some())
    })?;
    holder.context("the wait ends with a holder")
}

/// The process that holds the namespaces of `control` or of a node.
pub fn holder_of(name: &str) -> Result<u32> {
    cgroup::first_process(&format!("{name}/holder")).with_context(|| format!("{name} is not there"))
}

/// Runs commands of `ip` in a process's network namespace.
pub fn ip(holder: u32, commands: &str) -> Result<()> {
    let mut command = process::program("nsenter");
    command.args(["--target", &holder.to_string(), "--net", "ip", "-batch", "-"]).stdin(Stdio::piped());
    let mut child = command.spawn().context("failed to start ip")?;
    let mut input = child.stdin.take().context("standard input is piped")?;
    input.write_all(commands.as_bytes()).context("failed to talk to ip")?;
    drop(input);
    if !child.wait().context("failed to wait for ip")?.success() {
        bail!("ip refused one of:\n{commands}");
    }
    Ok(())
}

/// Unmounts what a crash left mounted below a folder. The nodes' mounts end with their namespaces.
pub fn unmount_below(folder: &Path) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("failed to read the mounts")?;
    let points = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|point| Path::new(point).starts_with(folder));
    let mut points: Vec<_> = points.collect();
    points.reverse();
    points.into_iter().try_for_each(|point| process::run(process::program("umount").args(["--lazy", point])))
}
