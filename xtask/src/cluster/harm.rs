//! Harm to a cluster of this machine, and its repair, for tests of what lives on it: `cargo xtask cluster`.
//!
//! Everything is sudden: processes get SIGKILL and links lose all packets without a word to anybody.

use anyhow::{Context as _, Result, bail};

use super::layout::{Layout, node_name};
use super::{Programs, cgroup, control, namespace, node, nodes_up};
use crate::process;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Take a node's link away.
    Cut,
    /// Give it back.
    Join,
    /// Kill a node, a part of one or of the control plane, or what runs in a pod.
    Kill,
    /// Start what was killed again. Pods are the kubelet's business.
    Start,
    /// Lose every other question that pods of a node ask name servers, as when one of two is gone.
    Deafen,
    /// Lose no more.
    Hear,
}

impl Deed {
    /// The deed of this name.
    ///
    /// # Errors
    /// The known names, if it is none of them.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "cut" => Self::Cut,
            "join" => Self::Join,
            "kill" => Self::Kill,
            "start" => Self::Start,
            "deafen" => Self::Deafen,
            "hear" => Self::Hear,
            _ => bail!("no deed {name:?}; there are cut, join, kill, start, deafen, hear"),
        })
    }
}

/// What it is done to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Node(u8),
    NodePart(u8, String),
    ControlPart(String),
    Pod(String),
}

impl Target {
    /// `node2`, `node2/kubelet`, `control/kube-apiserver` or `pod/UID`.
    fn parse(text: &str) -> Result<Self> {
        let unknown = || format!("{text:?} is none of node2, node2/kubelet, control/kube-apiserver, pod/UID");
        let (place, part) = text.split_once('/').unwrap_or((text, ""));
        // Holders hold the namespaces: without them nothing could be started again.
        if part == "holder" {
            bail!("a holder is no part that fails");
        }
        match (place, part) {
            ("pod", uid) if !uid.is_empty() => return Ok(Self::Pod(uid.to_owned())),
            ("control", part) if control::PARTS.contains(&part) => {
                return Ok(Self::ControlPart(part.to_owned()));
            }
            _ => {}
        }
        let number = place.strip_prefix("node").and_then(|number| number.parse().ok());
        match (number, part) {
            (Some(node), "") => Ok(Self::Node(node)),
            (Some(node), part) if node::PARTS.contains(&part) => Ok(Self::NodePart(node, part.to_owned())),
            _ => bail!("{}", unknown()),
        }
    }
}

/// Does it, and waits until it is done.
///
/// # Errors
/// If there is no such thing, or it cannot be done to it.
pub fn harm(deed: Deed, what: &str) -> Result<()> {
    let layout = Layout::new(nodes_up().context("no cluster of this machine is up")?);
    let target = Target::parse(what)?;
    if let Target::Node(node) | Target::NodePart(node, _) = &target
        && !layout.nodes().any(|there| there == *node)
    {
        bail!("there is no {}", node_name(*node));
    }
    match (deed, target) {
        (Deed::Cut, Target::Node(node)) => link(node, "down"),
        (Deed::Join, Target::Node(node)) => link(node, "up"),
        (Deed::Kill, Target::Node(node)) => kill(&node_name(node), "holder"),
        (Deed::Kill, Target::NodePart(node, part)) => kill(&format!("{}/{part}", node_name(node)), ""),
        (Deed::Kill, Target::ControlPart(part)) => kill(&format!("control/{part}"), ""),
        (Deed::Kill, Target::Pod(uid)) => found(cgroup::kill_pod(&uid)?, what),
        (Deed::Start, Target::Node(node)) => node::start_again(&layout, &Programs::locate()?, node),
        (Deed::Start, Target::NodePart(node, part)) => {
            node::start_part(&layout, &Programs::locate()?, node, &part).map(|_| ())
        }
        (Deed::Start, Target::ControlPart(part)) => {
            control::start_again(&layout, &Programs::locate()?, &part)
        }
        (Deed::Deafen, Target::Node(node)) => questions(node, "--insert"),
        (Deed::Hear, Target::Node(node)) => questions(node, "--delete"),
        (Deed::Cut | Deed::Join | Deed::Deafen | Deed::Hear, _) => bail!("only nodes have links, not {what}"),
        (Deed::Start, Target::Pod(_)) => bail!("pods are started by the kubelet"),
    }
}

fn kill(group: &str, spared: &str) -> Result<()> {
    found(cgroup::kill_below(group, spared)?, group)
}

fn found(any: bool, what: &str) -> Result<()> {
    if any { Ok(()) } else { bail!("nothing runs in {what}") }
}

/// The bridge's end of the wire: the node's own address and routes stay.
fn link(node: u8, state: &str) -> Result<()> {
    namespace::ip(namespace::holder_of("control")?, &format!("link set {} {state}\n", node_name(node)))
}

/// Before the address of the service becomes that of a name server.
fn questions(node: u8, what: &str) -> Result<()> {
    let holder = namespace::holder_of(&node_name(node))?.to_string();
    let mut rule = process::program("nsenter");
    rule.args(["--target", &holder, "--net", "iptables", "--wait", "--table", "mangle", what, "PREROUTING"]);
    rule.args(["--protocol", "udp", "--dport", "53", "--match", "statistic", "--mode", "random"]);
    process::run(rule.args(["--probability", "0.5", "--jump", "DROP"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_harmed_is_told_from_what_cannot() {
        let parsed = |text: &str| Target::parse(text).ok();
        assert_eq!(parsed("node2"), Some(Target::Node(2)));
        assert_eq!(parsed("node1/kubelet"), Some(Target::NodePart(1, "kubelet".to_owned())));
        assert_eq!(parsed("control/etcd"), Some(Target::ControlPart("etcd".to_owned())));
        assert_eq!(parsed("pod/12-ab"), Some(Target::Pod("12-ab".to_owned())));
        for text in ["", "node", "node1/holder", "control", "control/holder", "node1/etcd", "pod/", "../x"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
