//! A real Kubernetes on this machine for tests: `cargo xtask up`, `down`, `kubectl`, `helm`.
//!
//! ```text
//! namespace "control"                     namespace "node1"
//!   etcd, API server, controllers,          own root of mounts, own containerd, kubelet, kube-proxy
//!   scheduler                               pods 10.88.1.0/24
//!   bridge 10.89.0.1 ──────────────── eth0 10.89.0.11
//!          └───────────────────────── eth0 10.89.0.12   namespace "node2" …
//! ```
//!
//! Invariants:
//! - No namespace has a default route, so nothing inside can reach anything outside the machine.
//! - Every process we start is in a control group below `taba`, and so is all that it starts. That tree is
//!   the record of what runs: `down` needs no list that a crash could leave incomplete.
//! - All files are in one folder; namespaces have no names and mounts are the nodes' own, so both end
//!   with the last process.

mod access;
mod cgroup;
mod control;
mod harm;
mod image;
mod launch;
mod layout;
mod namespace;
mod node;
mod programs;
mod sample;
mod sysctl;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::system::{self, BUSYBOX, NSENTER, Program};
use crate::{images, process};
use access::Access;
pub use harm::{Deed, harm};
use layout::Layout;
pub use programs::Programs;

const CONTAINERD: Program = Program { name: "containerd", what: "containerd", packages: &["containerd"] };
/// Starts a container with much less work than the usual runc.
const CRUN: Program = Program { name: "crun", what: "crun", packages: &["crun"] };
const IP: Program = Program { name: "ip", what: "network namespaces and routes", packages: &["iproute2"] };
const IPTABLES: Program = Program { name: "iptables", what: "iptables", packages: &["iptables"] };
const CONNTRACK: Program = Program { name: "conntrack", what: "conntrack", packages: &["conntrack"] };

/// How long a step of the start may take on a slow and busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// What `cargo xtask up` is asked for.
#[derive(Debug, Default)]
pub struct Options {
    /// How many nodes, 1 to [`layout::NODES_MAX`]; a cluster is then made here whatever kubeconfig there is.
    pub nodes: Option<u8>,
    /// Install the chart and a small Taba.
    pub sample: bool,
    /// Where a given cluster fetches Taba's image from: `registry/name:tag`. It is pushed there.
    pub registry: Option<String>,
    /// Optimise the image less, which builds faster.
    pub quick: bool,
}

const NODES: u8 = 2;

/// Sees to it that there is a cluster, a given one or one of this machine, and installs the sample if asked for.
///
/// # Errors
/// What is missing on this machine, or which step did not come about.
pub fn up(options: &Options) -> Result<()> {
    let given = if options.nodes.is_some() || Access::own().is_some() { None } else { Access::given()? };
    let access = match given {
        Some(given) => {
            println!(
                "the cluster of the kubeconfig is used; `cargo xtask up --nodes 2` makes one here instead"
            );
            given
        }
        None => {
            let _lock = lock()?;
            up_here(options.nodes)?;
            Access::find()?
        }
    };
    if options.sample {
        return sample::install(&access, options.registry.as_deref(), options.quick);
    }
    match &options.registry {
        Some(target) => images::run(&images::Options {
            quick: options.quick,
            push: Some(target.clone()),
            names: Vec::new(),
        }),
        None => Ok(()),
    }
}

/// Starts a cluster on this machine, or says that it is there already.
fn up_here(wanted: Option<u8>) -> Result<()> {
    let nodes = wanted.unwrap_or(NODES);
    if !(1..=layout::NODES_MAX).contains(&nodes) {
        bail!("--nodes takes 1 to {}", layout::NODES_MAX);
    }
    let begin = Instant::now();
    let programs = prepare()?;
    let layout = Layout::new(nodes);
    match running_nodes(&layout, &programs) {
        Some(running) if wanted.is_none_or(|wanted| wanted == running) => {
            println!("a cluster of {running} nodes is up already; `cargo xtask kubectl get nodes`");
            return Ok(());
        }
        Some(running) => bail!("a cluster of {running} nodes is up: run `cargo xtask down` first"),
        None if leftovers(&layout) => {
            eprintln!("an earlier cluster is there, but not whole: removing it");
            remove(&layout)?;
        }
        None => {}
    }
    start(&layout, &programs)?;
    println!("\na cluster of {nodes} nodes is up in {:.1} s", begin.elapsed().as_secs_f64());
    println!("kubeconfig: {} (valid in its network namespace)", layout.kubeconfig("admin").display());
    println!("next: cargo xtask kubectl get pods -A, cargo xtask down");
    Ok(())
}

/// Whether a cluster of this machine is up.
pub fn is_up() -> bool {
    nodes_up().is_some()
}

fn nodes_up() -> Option<u8> {
    let mark = Layout::new(layout::NODES_MAX).ready_mark();
    let nodes = std::fs::read_to_string(mark).ok()?.trim().parse().ok()?;
    Access::own().map(|_| nodes)
}

/// Brings images to every node of this machine's cluster, and gives each (by its name) another name; to how many
/// nodes.
///
/// # Errors
/// If a node does not take one.
pub fn import(archives: &[PathBuf], names: &[(String, String)]) -> Result<u8> {
    let nodes = nodes_up().unwrap_or(0);
    beside_each_other(&Layout::new(nodes), |node| {
        node::import(node, archives)?;
        names.iter().try_for_each(|(name, other)| node::name(node, name, other))
    })?;
    Ok(nodes)
}

/// Does the same on all nodes at once.
fn beside_each_other(layout: &Layout, work: impl Fn(u8) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = layout.nodes().map(|node| scope.spawn(move || work(node))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })
}

/// Runs a program of an image on a node of this machine's cluster; whether it succeeded.
pub fn run_in_container(image: &str, words: &[&str]) -> bool {
    node::run_in_container(1, image, words).unwrap_or(false)
}

/// Removes the cluster and every trace of it; does nothing where there is none.
///
/// # Errors
/// What could not be removed.
pub fn down() -> Result<()> {
    require_root()?;
    let _lock = lock()?;
    let layout = Layout::new(layout::NODES_MAX);
    if !leftovers(&layout) {
        println!("no cluster is there");
        return Ok(());
    }
    let begin = Instant::now();
    remove(&layout)?;
    println!("removed in {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Runs `kubectl` or `helm` against the cluster, with the caller's folder, input and output.
///
/// # Errors
/// If no cluster is there.
pub fn tool(name: &str, arguments: &[std::ffi::OsString]) -> Result<ExitCode> {
    let mut command = Access::find()?.tool(name)?;
    command.stdin(Stdio::inherit()).current_dir(std::env::current_dir().context("no current folder")?);
    let status = command.args(arguments).status().with_context(|| format!("failed to start {name}"))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Installs and builds all that a cluster is made of.
///
/// # Errors
/// What is missing, or what could not be built.
pub fn prepare() -> Result<Programs> {
    require_root()?;
    system::ensure_programs(&[CONTAINERD, CRUN, IP, IPTABLES, CONNTRACK, BUSYBOX, NSENTER])?;
    system::ensure_packages(Path::new("/usr/lib/cni/ptp"), &["containernetworking-plugins"])?;
    let programs = step("programs", Programs::ensure)?;
    step("images", || image::ensure(&programs))?;
    Ok(programs)
}

fn start(layout: &Layout, programs: &Programs) -> Result<()> {
    std::fs::create_dir_all(layout.folder()).context("failed to make the cluster's folder")?;
    sysctl::remember(layout)?;
    step("control plane", || control::start(layout, programs))?;
    step("containers and kubelets", || {
        namespace::join(layout)?;
        beside_each_other(layout, |node| node::start(layout, programs, node))
    })?;
    step("nodes Ready", || control::wait_for_nodes(layout, programs))?;
    step("cluster DNS, metrics and storage", || control::install_services(layout, programs))?;
    step("network policies", || layout.nodes().try_for_each(|node| node::wait_for_policies(layout, node)))?;
    std::fs::write(layout.ready_mark(), layout.node_count().to_string())
        .context("failed to note that the cluster is up")
}

fn remove(layout: &Layout) -> Result<()> {
    cgroup::kill_all()?;
    namespace::unmount_below(layout.folder())?;
    cgroup::remove_all()?;
    sysctl::restore(layout)?;
    layout.remove_folders()
}

/// How many nodes a whole and answering cluster has.
fn running_nodes(layout: &Layout, programs: &Programs) -> Option<u8> {
    let nodes: u8 = std::fs::read_to_string(layout.ready_mark()).ok()?.trim().parse().ok()?;
    let layout = Layout::new(nodes);
    let parts = control::PARTS.iter().map(|part| format!("control/{part}"));
    let of_nodes = layout
        .nodes()
        .flat_map(|node| node::PARTS.iter().map(move |part| format!("{}/{part}", layout::node_name(node))));
    let alive = parts.chain(of_nodes).all(|group| cgroup::first_process(&group).is_some());
    (alive && control::is_ready(&layout, programs)).then_some(nodes)
}

fn leftovers(layout: &Layout) -> bool {
    layout.folder().exists() || cgroup::exists()
}

fn require_root() -> Result<()> {
    if process::output(process::program("id").arg("-u"))?.trim() != "0" {
        bail!("a cluster needs root, for namespaces, mounts and control groups: run this as root");
    }
    Ok(())
}

/// Keeps two runs from building or removing one cluster at the same time.
fn lock() -> Result<File> {
    let file = File::create("/run/taba-cluster.lock").context("failed to make the lock file")?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => bail!("another `cargo xtask up` or `down` is at work"),
    }
}

fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("== {name}");
    let begin = Instant::now();
    let result = work().with_context(|| format!("step \"{name}\" did not come about"))?;
    eprintln!("== {name}: {:.1} s", begin.elapsed().as_secs_f64());
    Ok(result)
}

/// Waits until something is so.
fn wait_until(what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut next_word = Instant::now() + Duration::from_secs(10);
    while !so()? {
        if Instant::now() > end {
            bail!("waited {} s in vain: {what}", PATIENCE.as_secs());
        }
        if Instant::now() > next_word {
            eprintln!("   still waiting: {what}");
            next_word += Duration::from_secs(10);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
