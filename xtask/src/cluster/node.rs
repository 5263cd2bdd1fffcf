//! A node: its containerd, kubelet, kube-proxy and network policies, in namespaces and folders of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::control::write_configuration;
use super::launch::Launched;
use super::layout::{DNS_ADDRESS, Layout, PODS, node_address, node_name, pod_subnet};
use super::programs::Programs;
use super::{cgroup, image, launch, namespace, wait_until};
use crate::process;

/// The groups of what runs here, pods apart.
pub const PARTS: [&str; 5] = ["holder", "containerd", "kubelet", "kube-proxy", "policies"];

/// Starts a node whose namespaces are there already.
pub fn start(layout: &Layout, programs: &Programs, node: u8) -> Result<()> {
    write_configurations(layout, node)?;
    cgroup::ensure(&node_name(node))?;
    start_containerd(layout, programs, node)?;
    import(node, &image::archives(programs))?;
    start_others(layout, programs, node)
}

/// Starts what runs on a node, after all of it was killed.
pub fn start_again(layout: &Layout, programs: &Programs, node: u8) -> Result<()> {
    start_containerd(layout, programs, node)?;
    start_others(layout, programs, node)
}

fn start_containerd(layout: &Layout, programs: &Programs, node: u8) -> Result<()> {
    let mut containerd = start_part(layout, programs, node, "containerd")?;
    let holder = namespace::holder_of(&node_name(node))?;
    wait_until(&format!("containerd of {}", node_name(node)), || {
        containerd.check()?;
        Ok(process::succeeds(ctr(holder)?.arg("version")))
    })
}

fn start_others(layout: &Layout, programs: &Programs, node: u8) -> Result<()> {
    let mut parts = ["kubelet", "kube-proxy", "policies"]
        .map(|part| start_part(layout, programs, node, part))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let name = node_name(node);
    wait_until(&format!("kubelet of {name}"), || {
        parts.iter_mut().try_for_each(Launched::check)?;
        Ok(fs::read_to_string(layout.log(&format!("{name}/kubelet")))?.contains("Started kubelet"))
    })
}

/// Starts one of [`PARTS`], the holder apart.
pub fn start_part(layout: &Layout, programs: &Programs, node: u8, part: &str) -> Result<Launched> {
    let name = node_name(node);
    let holder = namespace::holder_of(&name)?;
    launch::launch(layout, &format!("{name}/{part}"), Some(holder), &words(layout, programs, node, part)?)
}

fn words(layout: &Layout, programs: &Programs, node: u8, part: &str) -> Result<Vec<String>> {
    let (name, folder) = (node_name(node), layout.node_folder(node));
    let in_folder = |file: &str| folder.join(file).display().to_string();
    let kubernetes = programs.kubernetes().display().to_string();
    Ok(match part {
        "containerd" => vec!["containerd".into(), "--config".into(), in_folder("containerd.toml")],
        "kubelet" => vec![
            kubernetes,
            "kubelet".into(),
            format!("--config={}", in_folder("kubelet.yaml")),
            format!("--kubeconfig={}", layout.kubeconfig(&name).display()),
            format!("--hostname-override={name}"),
            format!("--node-ip={}", node_address(node)),
        ],
        "kube-proxy" => {
            vec![kubernetes, "kube-proxy".into(), format!("--config={}", in_folder("kube-proxy.yaml"))]
        }
        "policies" => vec![
            programs.policies().display().to_string(),
            format!("-kubeconfig={}", layout.kubeconfig("network-policies").display()),
            format!("-pods={PODS}"),
        ],
        _ => bail!("a node has no part {part:?}; there are {}", PARTS.join(", ")),
    })
}

/// Waits until policies hold on a node: before, they do not, since the enforcer has no rights yet.
pub fn wait_for_policies(layout: &Layout, node: u8) -> Result<()> {
    let name = node_name(node);
    let log = layout.log(&format!("{name}/policies"));
    wait_until(&format!("network policies of {name}"), || {
        Ok(fs::read_to_string(&log)?.contains("enforcing network policies"))
    })
}

/// Brings images to a node.
pub fn import(node: u8, archives: &[PathBuf]) -> Result<()> {
    let holder = namespace::holder_of(&node_name(node))?;
    archives.iter().try_for_each(|archive| {
        let mut import = ctr(holder)?;
        process::output(import.args(["--namespace", "k8s.io", "images", "import"]).arg(archive)).map(|_| ())
    })
}

/// Gives an image of a node another name.
pub fn name(node: u8, image: &str, other: &str) -> Result<()> {
    let mut name = ctr(namespace::holder_of(&node_name(node))?)?;
    process::output(name.args(["--namespace", "k8s.io", "images", "tag", "--force", image, other]))
        .map(|_| ())
}

/// Runs a program of an image in a container that is removed afterwards; whether it succeeded.
pub fn run_in_container(node: u8, image: &str, words: &[&str]) -> Result<bool> {
    let mut run = ctr(namespace::holder_of(&node_name(node))?)?;
    let name = format!("start-{}", std::process::id());
    // In no group of its own, which would lie outside of ours and outlive the cluster.
    run.args(["--namespace", "k8s.io", "run", "--rm", "--cgroup", "", image, &name]).args(words);
    Ok(process::succeeds(&mut run))
}

fn ctr(holder: u32) -> Result<Command> {
    let mut command = launch::tool(holder, true)?;
    command.arg("ctr");
    Ok(command)
}

fn write_configurations(layout: &Layout, node: u8) -> Result<()> {
    let folder = layout.node_folder(node);
    fs::create_dir_all(folder.join("network")).context("failed to make a node's folder")?;
    // No server: what is not in the cluster has no name.
    fs::write(folder.join("resolv.conf"), "nameserver 127.0.0.1\n").context("failed to write resolv.conf")?;
    let (name, pki) = (node_name(node), layout.pki().display().to_string());
    let (group, subnet) = (cgroup::of_node(&name), pod_subnet(node));
    let (proxy, own) = (layout.kubeconfig("kube-proxy").display().to_string(), folder.display().to_string());
    let values = [
        ("NODE", name.as_str()),
        ("FOLDER", own.as_str()),
        ("PKI", pki.as_str()),
        ("CGROUP", group.as_str()),
        ("POD_SUBNET", subnet.as_str()),
        ("PODS", PODS),
        ("DNS_ADDRESS", DNS_ADDRESS),
        ("KUBECONFIG", proxy.as_str()),
    ];
    for (file, to) in [
        ("containerd.toml", "containerd.toml"),
        ("kubelet.yaml", "kubelet.yaml"),
        ("kube-proxy.yaml", "kube-proxy.yaml"),
        ("network.conflist", "network/10-pods.conflist"),
    ] {
        write_configuration(file, &folder.join(to), &values)?;
    }
    Ok(())
}
