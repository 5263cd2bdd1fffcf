//! Where everything of a cluster is: names, addresses, folders. Pure, apart from making and removing folders.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The addresses of nodes and of their pods' subnets have room for more; a machine does not.
pub const NODES_MAX: u8 = 9;

/// The address of the bridge, and of the API server behind it.
pub const CONTROL_ADDRESS: &str = "10.89.0.1";
/// Where Services live.
pub const SERVICES: &str = "10.96.0.0/16";
/// Where all pods live.
pub const PODS: &str = "10.88.0.0/16";
/// The Service that resolves names; `manifests/20-coredns.yaml` asks for it.
pub const DNS_ADDRESS: &str = "10.96.0.10";
/// The API server's own Service: the first address of [`SERVICES`].
pub const API_SERVICE_ADDRESS: &str = "10.96.0.1";

/// One for the machine, whoever's cache the programs are in: control groups and addresses are the machine's.
const FOLDER: &str = "/var/lib/taba-cluster";
/// Folders of the system that each node puts a folder of its own over; made where they are missing.
pub const SHADOWED: [(&str, &str); 3] =
    [("kubelet", "/var/lib/kubelet"), ("cni", "/var/lib/cni"), ("log", "/var/log")];

/// A cluster of so many nodes.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    nodes: u8,
}

/// The name of a node, from 1 on.
pub fn node_name(node: u8) -> String {
    format!("node{node}")
}

/// The address of a node on the bridge.
pub fn node_address(node: u8) -> String {
    format!("10.89.0.{}", 10 + node)
}

/// The subnet of a node's pods.
pub fn pod_subnet(node: u8) -> String {
    format!("10.88.{node}.0/24")
}

impl Layout {
    pub const fn new(nodes: u8) -> Self {
        Self { nodes }
    }

    pub const fn node_count(self) -> u8 {
        self.nodes
    }

    pub fn nodes(self) -> impl Iterator<Item = u8> {
        1..=self.nodes
    }

    pub fn folder(self) -> &'static Path {
        Path::new(FOLDER)
    }

    /// Certificates and keys.
    pub fn pki(self) -> PathBuf {
        self.folder().join("pki")
    }

    /// What a program printed.
    pub fn log(self, group: &str) -> PathBuf {
        self.folder().join("logs").join(format!("{}.log", group.replace('/', "-")))
    }

    pub fn kubeconfig(self, user: &str) -> PathBuf {
        self.folder().join(format!("{user}.kubeconfig"))
    }

    pub fn node_folder(self, node: u8) -> PathBuf {
        self.folder().join(node_name(node))
    }

    /// Written last: without it the cluster is not whole.
    pub fn ready_mark(self) -> PathBuf {
        self.folder().join("up")
    }

    /// Removes the cluster's folder, and those of the system's that only a node could have needed.
    pub fn remove_folders(self) -> Result<()> {
        if self.folder().exists() {
            std::fs::remove_dir_all(self.folder()).context("failed to remove the cluster's folder")?;
        }
        for (_, folder) in &SHADOWED[..2] {
            // Fails, as it should, where something else keeps its files there.
            let _ = std::fs::remove_dir(folder);
        }
        Ok(())
    }
}

/// Puts values in the place of `@NAME@` in a text.
///
/// # Errors
/// If the text asks for a name that has no value.
pub fn fill(text: &str, values: &[(&str, &str)]) -> Result<String> {
    let mut filled = text.to_owned();
    for (name, value) in values {
        filled = filled.replace(&format!("@{name}@"), value);
    }
    match filled.split('@').nth(1) {
        Some(name) => anyhow::bail!("nothing was given for @{name}@"),
        None => Ok(filled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_all_nodes_are_within_their_ranges_and_differ() {
        let addresses: std::collections::BTreeSet<_> =
            Layout::new(NODES_MAX).nodes().flat_map(|node| [node_address(node), pod_subnet(node)]).collect();
        assert_eq!(addresses.len(), 2 * usize::from(NODES_MAX));
        assert!(
            addresses.iter().all(|address| address.starts_with("10.88.") || address.starts_with("10.89.0."))
        );
        assert!(!addresses.contains(CONTROL_ADDRESS));
    }

    #[test]
    fn a_name_without_a_value_is_an_error() {
        assert_eq!(fill("a: @A@, b: @B@", &[("A", "1"), ("B", "2")]).expect("all given"), "a: 1, b: 2");
        assert!(fill("a: @A@", &[("B", "2")]).is_err());
    }
}
